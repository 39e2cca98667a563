//! What a subscriber asks for, gets, and acknowledges.

#![allow(clippy::unwrap_used)]

mod site;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use futures_util::StreamExt as _;
use parking_lot::Mutex;
use rustls_pki_types::UnixTime;
use smqtt_client::{
    Backoff, Client, EnvelopeEvent, Error, ErrorKind, Event, Options, QoS, Refusal, SealerConfig,
};
use smqtt_envelope::{Sealed, Sealer};
use smqtt_pki::Identity;
use smqtt_proto::packet::Publish;
use smqtt_proto::server::{self, Connection};
use smqtt_proto::{Delivery, Message, ReasonCode, TopicName};

use site::scripted::{Scripted, Then, answer, obliging};
use site::{Site, within};

/// Seals what the scripted broker sends.
struct Sender(Sealer);

impl Sender {
    fn new(site: &Site, policy: &str) -> Self {
        let identity: Arc<Identity> = Arc::new(site.device("sensor", "role = sensor"));
        let sealer = Sealer::new(
            identity,
            site.parameters(),
            policy.parse().unwrap(),
            smqtt_client::Epoch::new(1),
            SealerConfig::default(),
        );
        Self(sealer.unwrap())
    }

    fn seal(&mut self, text: &str) -> Sealed {
        let rng = &mut rand::rng();
        self.0
            .seal("a", text.as_bytes(), UnixTime::now(), rng)
            .unwrap()
    }
}

fn send(connection: &mut Connection, topic: &str, payload: &[u8], retain: bool) {
    let publish = Publish::new(TopicName::new(topic).unwrap(), payload.to_vec());
    let message = Arc::new(Message::new(&publish, Instant::now()).unwrap());
    let delivery = Delivery {
        retain,
        ..Delivery::new(QoS::AtLeastOnce)
    };
    connection
        .publish(Instant::now(), &message, delivery)
        .unwrap();
}

/// Sends the key frame, if it is the first message, and the message.
fn pass_on(connection: &mut Connection, sealed: &Sealed) {
    if let Some(announcement) = &sealed.announce {
        send(connection, &announcement.topic, &announcement.frame, true);
    }
    send(connection, "a", &sealed.message, false);
}

fn options(site: &Site, attributes: &str, broker: &Scripted) -> Options {
    Options::new(site.device("reader", attributes))
        .unwrap()
        .broker(broker.address())
        .reconnect(Some(Backoff {
            least: Duration::from_millis(1),
            first: Duration::from_millis(10),
            most: Duration::from_millis(10),
            give_up: None,
        }))
}

async fn obliging_broker() -> Scripted {
    Scripted::start(Box::new(|_, connection, event| {
        obliging(connection, &event);
        Then::GoOn
    }))
    .await
}

#[tokio::test]
async fn key_frames_are_subscribed_to_before_messages() {
    let site = Site::new();
    let filters: Arc<Mutex<Vec<String>>> = Arc::default();
    let written = Arc::clone(&filters);
    let broker = Scripted::start(Box::new(move |_, connection, event| {
        if let server::Event::Subscribe(subscribe) = &event {
            let filters = subscribe.subscriptions.iter();
            written
                .lock()
                .extend(filters.map(|s| s.filter.as_str().to_owned()));
        }
        obliging(connection, &event);
        Then::GoOn
    }))
    .await;
    let client = within(Client::connect(options(&site, "role = reader", &broker)))
        .await
        .unwrap();
    let subscribing = client.subscribe(["a/+", "b/#"], QoS::AtLeastOnce);
    let _subscriber = within(subscribing).await.unwrap();
    assert_eq!(
        *filters.lock(),
        ["smqtt/keys/a/+/+", "smqtt/keys/b/#", "a/+", "b/#"]
    );
}

#[tokio::test]
async fn who_satisfies_the_policy_reads_and_who_does_not_is_told_what_it_takes() {
    let site = Site::new();
    let mut sender = Sender::new(&site, "role = reader");
    for (attributes, may_read) in [("role = reader", true), ("role = visitor", false)] {
        let site_device = site.device(&format!("d-{may_read}"), attributes);
        let broker = obliging_broker().await;
        let options = Options::new(site_device).unwrap().broker(broker.address());
        let client = within(Client::connect(options)).await.unwrap();
        let mut subscriber = within(client.subscribe(["a"], QoS::AtLeastOnce))
            .await
            .unwrap();
        let (_, announcement) = (
            sender.seal("warm-up"),
            sender.0.announcements(UnixTime::now()),
        );
        let sealed = sender.seal("21.5");
        broker.make(move |connection| {
            for frame in &announcement {
                send(connection, &frame.topic, &frame.frame, true);
            }
            pass_on(connection, &sealed);
        });
        let event = loop {
            match within(subscriber.next()).await {
                Event::Envelope(EnvelopeEvent::KeyRefused { .. }) => {}
                event => break event,
            }
        };
        match event {
            Event::Message(message) if may_read => {
                assert_eq!(message.payload, b"21.5");
                assert_eq!(message.publisher.as_str(), "sensor");
            }
            Event::Envelope(EnvelopeEvent::Refused {
                reason: Refusal::NotAuthorised { policy },
                ..
            }) if !may_read => assert_eq!(&*policy, "role = reader"),
            other => panic!("{attributes}: {other:?}"),
        }
    }
}

#[tokio::test]
async fn plaintext_is_refused_and_does_not_end_the_subscription() {
    let site = Site::new();
    let broker = obliging_broker().await;
    let client = within(Client::connect(options(&site, "role = reader", &broker)))
        .await
        .unwrap();
    let mut subscriber = within(client.subscribe(["a"], QoS::AtLeastOnce))
        .await
        .unwrap();
    let sealed = Sender::new(&site, "role = reader").seal("1");
    broker.make(move |connection| {
        send(connection, "a", b"21.5", false);
        pass_on(connection, &sealed);
    });
    assert_eq!(
        within(subscriber.next_message()).await.unwrap().payload,
        b"1"
    );
    assert_eq!(subscriber.counters().refused.get("plaintext"), 1);
}

#[tokio::test]
async fn a_message_is_acknowledged_to_the_broker_when_it_is_taken() {
    let site = Site::new();
    let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
    let broker = Scripted::start(Box::new(move |_, connection, event| {
        if let server::Event::Acknowledged { reason, .. } = &event {
            tell.send(*reason).unwrap();
        }
        obliging(connection, &event);
        Then::GoOn
    }))
    .await;
    let client = within(Client::connect(options(&site, "role = reader", &broker)))
        .await
        .unwrap();
    let mut subscriber = within(client.subscribe(["a"], QoS::AtLeastOnce))
        .await
        .unwrap();
    let sealed = Sender::new(&site, "role = reader").seal("1");
    broker.make(move |connection| pass_on(connection, &sealed));
    assert_eq!(
        within(told.recv()).await,
        Some(ReasonCode::Success),
        "the key frame is acknowledged at once: the broker keeps it for whoever asks again"
    );
    let early = tokio::time::timeout(Duration::from_millis(100), told.recv()).await;
    assert!(early.is_err(), "nobody has taken the message yet");
    within(subscriber.next_message()).await.unwrap();
    assert_eq!(within(told.recv()).await, Some(ReasonCode::Success));
}

/// Acknowledgements leave in the order of the messages, and a broker waits for them after so many messages.
#[tokio::test]
async fn a_key_frame_that_nobody_has_taken_keeps_back_no_other_subscriber() {
    let site = Site::new();
    let broker = obliging_broker().await;
    let client = within(Client::connect(options(&site, "role = reader", &broker)))
        .await
        .unwrap();
    let mut idle = within(client.subscribe(["a"], QoS::AtLeastOnce))
        .await
        .unwrap();
    let mut busy = within(client.listen(["b"], QoS::AtLeastOnce))
        .await
        .unwrap();
    let sealed = Sender::new(&site, "role = reader").seal("1");
    let announcement = sealed.announce.clone().unwrap();
    broker.make(move |connection| {
        send(connection, &announcement.topic, &announcement.frame, true);
    });
    for n in 0..2_000 {
        let number = format!("{n}");
        let sent = number.clone();
        broker.make(move |connection| send(connection, "b", sent.as_bytes(), false));
        assert_eq!(within(busy.next()).await.unwrap().payload, number);
    }
    broker.make(move |connection| send(connection, "a", &sealed.message, false));
    assert_eq!(within(idle.next_message()).await.unwrap().payload, b"1");
}

#[tokio::test]
async fn a_refused_subscription_names_the_filter_and_the_reason() {
    let site = Site::new();
    let broker = Scripted::start(Box::new(|_, connection, event| {
        match &event {
            server::Event::Subscribe(subscribe) => {
                let reasons = subscribe.subscriptions.iter().map(|s| {
                    if s.filter.as_str() == "secret/#" {
                        ReasonCode::NotAuthorized
                    } else {
                        ReasonCode::GrantedQoS1
                    }
                });
                answer(connection, subscribe.packet_id, reasons);
            }
            _ => obliging(connection, &event),
        }
        Then::GoOn
    }))
    .await;
    let client = within(Client::connect(options(&site, "role = reader", &broker)))
        .await
        .unwrap();
    let refused = within(client.subscribe(["open", "secret/#"], QoS::AtLeastOnce)).await;
    let error = refused.err().expect("it is refused");
    assert_eq!(error.kind(), ErrorKind::Refused);
    assert!(
        matches!(&error, Error::SubscriptionRefused { filter, reason }
            if filter == "secret/#" && reason.contains("not authorized")),
        "{error}"
    );
    // The connection goes on.
    within(client.subscribe(["open"], QoS::AtLeastOnce))
        .await
        .unwrap();
}

#[tokio::test]
async fn a_subscriber_survives_the_loss_of_the_connection() {
    let site = Site::new();
    let subscribed = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&subscribed);
    let broker = Scripted::start(Box::new(move |number, connection, event| {
        if let server::Event::Subscribe(_) = &event {
            count.fetch_add(1, Ordering::SeqCst);
        }
        if number == 1 && matches!(event, server::Event::Acknowledged { .. }) {
            return Then::Cut;
        }
        obliging(connection, &event);
        Then::GoOn
    }))
    .await;
    let client = within(Client::connect(options(&site, "role = reader", &broker)))
        .await
        .unwrap();
    let mut subscriber = within(client.subscribe(["a"], QoS::AtLeastOnce))
        .await
        .unwrap();
    let mut sender = Sender::new(&site, "role = reader");
    let first = sender.seal("1");
    broker.make(move |connection| pass_on(connection, &first));
    assert_eq!(
        within(subscriber.next_message()).await.unwrap().payload,
        b"1"
    );
    assert!(matches!(
        within(subscriber.next()).await,
        Event::Disconnected(_)
    ));
    assert!(matches!(
        within(subscriber.next()).await,
        Event::Reconnected
    ));
    let _lost = sender.seal("2");
    let third = sender.seal("3");
    broker.make(move |connection| pass_on(connection, &third));
    // The key is still known; what came to nobody in between is reported.
    match within(subscriber.next()).await {
        Event::Envelope(EnvelopeEvent::Missing { count, .. }) => assert_eq!(count, 1),
        other => panic!("{other:?}"),
    }
    assert_eq!(
        within(subscriber.next_message()).await.unwrap().payload,
        b"3"
    );
    assert_eq!(
        subscribed.load(Ordering::SeqCst),
        4,
        "key frames and messages, twice"
    );
    assert_eq!(subscriber.counters().decapsulations, 1);
}

#[tokio::test]
async fn without_reconnecting_the_end_is_told_with_its_reason_and_again() {
    let site = Site::new();
    let broker = obliging_broker().await;
    let options = options(&site, "role = reader", &broker).reconnect(None);
    let client = within(Client::connect(options)).await.unwrap();
    let mut subscriber = within(client.subscribe(["a"], QoS::AtLeastOnce))
        .await
        .unwrap();
    broker.make(|connection| {
        connection.disconnect(ReasonCode::NotAuthorized, Default::default());
    });
    for _ in 0..2 {
        match within(subscriber.next()).await {
            Event::Ended(loss) => {
                assert_eq!(loss.kind(), ErrorKind::Refused);
                assert!(loss.reason().contains("not authorized"), "{loss}");
            }
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn as_a_stream_in_a_task_of_its_own_it_brings_the_same_and_ends() {
    let site = Site::new();
    let mut sender = Sender::new(&site, "role = reader");
    let broker = obliging_broker().await;
    let options = options(&site, "role = reader", &broker).reconnect(None);
    let client = within(Client::connect(options)).await.unwrap();
    let subscriber = within(client.subscribe(["a"], QoS::AtLeastOnce))
        .await
        .unwrap();
    let reading = tokio::spawn(subscriber.into_stream().collect::<Vec<_>>());
    let sealed = ["21.5", "21.6"].map(|text| sender.seal(text));
    broker.make(move |connection| {
        for message in &sealed {
            pass_on(connection, message);
        }
        connection.disconnect(ReasonCode::NotAuthorized, Default::default());
    });
    let events = within(reading).await.unwrap();
    let read: Vec<_> = events
        .iter()
        .filter_map(|event| match event {
            Event::Message(message) => Some(&message.payload[..]),
            _ => None,
        })
        .collect();
    assert_eq!(read, [b"21.5", b"21.6"]);
    assert!(matches!(events.last(), Some(Event::Ended(_))), "{events:?}");
}

#[tokio::test]
async fn a_subscriber_that_is_dropped_unsubscribes() {
    let site = Site::new();
    let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
    let broker = Scripted::start(Box::new(move |_, connection, event| {
        if let server::Event::Unsubscribe(unsubscribe) = &event {
            for filter in &unsubscribe.filters {
                tell.send(filter.as_str().to_owned()).unwrap();
            }
        }
        obliging(connection, &event);
        Then::GoOn
    }))
    .await;
    let client = within(Client::connect(options(&site, "role = reader", &broker)))
        .await
        .unwrap();
    let first = within(client.subscribe(["a", "b"], QoS::AtLeastOnce))
        .await
        .unwrap();
    let _second = within(client.subscribe(["b"], QoS::AtLeastOnce))
        .await
        .unwrap();
    drop(first);
    assert_eq!(within(told.recv()).await.unwrap(), "smqtt/keys/a/+");
    assert_eq!(within(told.recv()).await.unwrap(), "a");
    within(client.disconnect()).await.unwrap();
    assert!(
        told.try_recv().is_err(),
        "the second still needs the others"
    );
}

#[tokio::test]
async fn each_of_two_subscribers_gets_what_its_own_filter_selects() {
    let site = Site::new();
    let broker = obliging_broker().await;
    let client = within(Client::connect(options(&site, "role = reader", &broker)))
        .await
        .unwrap();
    let mut a = within(client.subscribe(["a"], QoS::AtLeastOnce))
        .await
        .unwrap();
    let mut all = within(client.listen(["#"], QoS::AtLeastOnce))
        .await
        .unwrap();
    let sealed = Sender::new(&site, "role = reader").seal("1");
    let payload = sealed.message.clone();
    broker.make(move |connection| {
        send(connection, "other", b"plain", false);
        pass_on(connection, &sealed);
    });
    assert_eq!(within(a.next_message()).await.unwrap().payload, b"1");
    assert_eq!(
        a.counters().refused.total(),
        0,
        "the other topic is not this subscriber's"
    );
    let mut topics = Vec::new();
    for _ in 0..3 {
        let relayed = within(all.next()).await.unwrap();
        topics.push(relayed.topic.clone());
        if relayed.topic == "a" {
            assert_eq!(relayed.payload, payload, "as the broker relayed it");
        }
    }
    assert_eq!((topics[0].as_str(), topics[2].as_str()), ("other", "a"));
}
