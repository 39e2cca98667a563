//! What leaves a publisher, in which order, and what becomes of it.

#![allow(clippy::unwrap_used)]

mod site;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use smqtt_client::{
    Backoff, Client, Delivery, Error, ErrorKind, Options, Policy, Publication, PublisherOptions,
    QoS,
};
use smqtt_format::Envelope;
use smqtt_proto::ReasonCode;
use smqtt_proto::packet::Publish;
use smqtt_proto::server::Event;

use site::scripted::{
    Scripted, Then, accept, acknowledge, is_clearing, is_frame, is_goodbye, obliging,
};
use site::{Site, within};

type Log = Arc<Mutex<Vec<Publish>>>;

fn policy() -> Policy {
    "role = reader".parse().unwrap()
}

fn quick() -> Backoff {
    Backoff {
        least: Duration::from_millis(1),
        first: Duration::from_millis(10),
        most: Duration::from_millis(10),
        give_up: None,
    }
}

fn options(site: &Site, broker: &Scripted) -> Options {
    Options::new(site.device("sensor", "role = sensor"))
        .unwrap()
        .broker(broker.address())
        .reconnect(Some(quick()))
}

/// A broker that takes everything and writes down what is published.
async fn recording() -> (Scripted, Log) {
    let log = Log::default();
    let written = Arc::clone(&log);
    let broker = Scripted::start(Box::new(move |_, connection, event| {
        if let Event::Publish(publish) = &event {
            written.lock().push(publish.clone());
        }
        obliging(connection, &event);
        Then::GoOn
    }))
    .await;
    (broker, log)
}

#[tokio::test]
async fn the_key_frame_goes_first_and_is_cleared_last() {
    let site = Site::new();
    let (broker, log) = recording().await;
    let client = within(Client::connect(options(&site, &broker)))
        .await
        .unwrap();
    let mut publisher = client.publisher(policy()).unwrap();
    for text in ["1", "2", "3"] {
        within(publisher.publish("a/b", text)).await.unwrap();
    }
    let tally = within(publisher.close()).await.unwrap();
    assert_eq!((tally.handed_over, tally.acknowledged), (3, 3));
    within(client.disconnect()).await.unwrap();

    let log = log.lock();
    assert_eq!(log.len(), 5);
    assert!(is_frame(&log[0]) && log[0].retain && log[0].qos == QoS::AtLeastOnce);
    let properties = &log[0].properties;
    assert!(
        properties
            .message_expiry_interval
            .is_some_and(|seconds| seconds > 86_000)
    );
    for message in &log[1..4] {
        assert!(matches!(
            Envelope::parse(&message.payload),
            Ok(Envelope::Sealed(_))
        ));
        assert_eq!(message.topic.as_str(), "a/b");
        let properties = &message.properties;
        assert_eq!(
            properties.content_type.as_ref().unwrap().as_str(),
            "application/cose"
        );
        assert_eq!(properties.payload_is_utf8, Some(false));
    }
    assert!(is_clearing(&log[4]));
    assert_eq!(log[0].topic, log[4].topic);
}

#[tokio::test]
async fn no_message_goes_out_before_its_key_frame_is_acknowledged() {
    let site = Site::new();
    let held: Arc<Mutex<Option<Publish>>> = Arc::default();
    let messages = Arc::new(AtomicUsize::new(0));
    let (hold, count) = (Arc::clone(&held), Arc::clone(&messages));
    let broker = Scripted::start(Box::new(move |_, connection, event| {
        match &event {
            Event::Publish(publish) if is_frame(publish) => {
                *hold.lock() = Some(publish.clone());
                return Then::GoOn;
            }
            Event::Publish(_) => {
                count.fetch_add(1, Ordering::SeqCst);
            }
            _ => {}
        }
        obliging(connection, &event);
        Then::GoOn
    }))
    .await;
    let client = within(Client::connect(options(&site, &broker)))
        .await
        .unwrap();
    let mut publisher = client.publisher(policy()).unwrap();
    // Whoever gives up waiting loses nothing: the message goes out with the next call.
    let waited =
        tokio::time::timeout(Duration::from_millis(100), publisher.publish("a", "1")).await;
    assert!(waited.is_err(), "the key frame is not acknowledged");
    assert_eq!(messages.load(Ordering::SeqCst), 0);
    let frame = held.lock().take().expect("the key frame came");
    broker.make(move |connection| acknowledge(connection, &frame));
    within(publisher.publish("a", "2")).await.unwrap();
    let tally = within(publisher.flush()).await.unwrap();
    assert_eq!(
        (tally.acknowledged, messages.load(Ordering::SeqCst)),
        (2, 2)
    );
}

#[tokio::test]
async fn many_messages_are_in_flight_at_a_time() {
    const MANY: usize = 100;
    let site = Site::new();
    let waiting: Log = Log::default();
    let broker = Scripted::start(Box::new(move |_, connection, event| {
        match &event {
            Event::Publish(publish) if !publish.topic.as_str().starts_with("smqtt/") => {
                // Nothing is acknowledged before all of them are here.
                waiting.lock().push(publish.clone());
                if waiting.lock().len() == MANY {
                    for publish in waiting.lock().iter() {
                        acknowledge(connection, publish);
                    }
                }
            }
            _ => obliging(connection, &event),
        }
        Then::GoOn
    }))
    .await;
    let client = within(Client::connect(options(&site, &broker)))
        .await
        .unwrap();
    let mut publisher = client.publisher(policy()).unwrap();
    for number in 0..MANY {
        within(publisher.publish("a", number.to_string()))
            .await
            .unwrap();
    }
    let tally = within(publisher.flush()).await.unwrap();
    assert_eq!(tally.acknowledged, 100);
}

#[tokio::test]
async fn the_window_of_unacknowledged_messages_is_kept() {
    let site = Site::new();
    let open = Arc::new(AtomicUsize::new(0));
    let most = Arc::new(AtomicUsize::new(0));
    let (now_open, at_most) = (Arc::clone(&open), Arc::clone(&most));
    let mut waiting: Vec<Publish> = Vec::new();
    let broker = Scripted::start(Box::new(move |_, connection, event| {
        match &event {
            Event::Publish(publish) if !publish.topic.as_str().starts_with("smqtt/") => {
                waiting.push(publish.clone());
                let open = now_open.fetch_add(1, Ordering::SeqCst) + 1;
                at_most.fetch_max(open, Ordering::SeqCst);
                if waiting.len() == 4 {
                    for publish in waiting.drain(..) {
                        now_open.fetch_sub(1, Ordering::SeqCst);
                        acknowledge(connection, &publish);
                    }
                }
            }
            _ => obliging(connection, &event),
        }
        Then::GoOn
    }))
    .await;
    let options = options(&site, &broker).max_in_flight(4);
    let client = within(Client::connect(options)).await.unwrap();
    let mut publisher = client.publisher(policy()).unwrap();
    for number in 0..40 {
        within(publisher.publish("a", number.to_string()))
            .await
            .unwrap();
    }
    assert_eq!(within(publisher.flush()).await.unwrap().acknowledged, 40);
    assert_eq!(most.load(Ordering::SeqCst), 4);
}

#[tokio::test]
async fn what_was_not_acknowledged_goes_out_again_on_a_new_connection() {
    let site = Site::new();
    let log: Arc<Mutex<Vec<(usize, Publish)>>> = Arc::default();
    let written = Arc::clone(&log);
    let broker = Scripted::start(Box::new(move |number, connection, event| {
        if let Event::Publish(publish) = &event {
            written.lock().push((number, publish.clone()));
            let messages = written.lock().iter().filter(|(_, p)| !is_frame(p)).count();
            if number == 1 && messages > 0 {
                // The first message is taken and not acknowledged; the session is lost.
                return if messages == 5 { Then::Cut } else { Then::GoOn };
            }
        }
        obliging(connection, &event);
        Then::GoOn
    }))
    .await;
    let client = within(Client::connect(options(&site, &broker)))
        .await
        .unwrap();
    let mut publisher = client.publisher(policy()).unwrap();
    for number in 0..20 {
        within(publisher.publish("a", number.to_string()))
            .await
            .unwrap();
    }
    let tally = within(publisher.close()).await.unwrap();
    assert_eq!((tally.acknowledged, tally.lost), (20, 0));
    within(client.disconnect()).await.unwrap();

    let log = log.lock();
    let second: Vec<&Publish> = log
        .iter()
        .filter(|(n, _)| *n == 2)
        .map(|(_, p)| p)
        .collect();
    assert!(
        is_frame(second[0]),
        "the broker may have lost the key frame, too"
    );
    let sequence = |publish: &Publish| match Envelope::parse(&publish.payload) {
        Ok(Envelope::Sealed(message)) => message.sequence().get(),
        other => panic!("{other:?}"),
    };
    let messages = second.iter().filter(|p| p.topic.as_str() == "a");
    let numbers: Vec<u32> = messages.map(|publish| sequence(publish)).collect();
    assert_eq!(numbers, (1..=20).collect::<Vec<u32>>());
}

#[tokio::test]
async fn without_reconnecting_what_was_not_acknowledged_is_lost_and_said_so() {
    let site = Site::new();
    let broker = Scripted::start(Box::new(|_, connection, event| {
        if let Event::Publish(publish) = &event
            && !is_frame(publish)
        {
            return Then::Cut;
        }
        obliging(connection, &event);
        Then::GoOn
    }))
    .await;
    let options = options(&site, &broker).reconnect(None);
    let client = within(Client::connect(options)).await.unwrap();
    let mut publisher = client.publisher(policy()).unwrap();
    let publication = Publication::new("a", "1");
    let receipt = within(publisher.send_with_receipt(publication))
        .await
        .unwrap();
    let error = within(receipt.acknowledged()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Lost);
    let tally = within(publisher.flush()).await.unwrap();
    assert_eq!((tally.acknowledged, tally.lost), (0, 1));
    let error = within(client.disconnect()).await.unwrap_err();
    assert!(matches!(error, Error::ConnectionLost(_)), "{error}");
    // And whoever publishes now is told why.
    let error = within(publisher.publish("a", "2")).await.unwrap_err();
    assert!(
        error.to_string().contains("the broker closed it"),
        "{error}"
    );
}

#[tokio::test]
async fn a_refused_message_is_counted_with_the_reason() {
    let site = Site::new();
    let broker = Scripted::start(Box::new(|_, connection, event| {
        match &event {
            Event::Publish(publish) if publish.topic.as_str() == "forbidden" => {
                let id = publish.packet_id.unwrap();
                connection.acknowledge(id, ReasonCode::NotAuthorized);
            }
            _ => obliging(connection, &event),
        }
        Then::GoOn
    }))
    .await;
    let client = within(Client::connect(options(&site, &broker)))
        .await
        .unwrap();
    let mut publisher = client.publisher(policy()).unwrap();
    within(publisher.publish("allowed", "1")).await.unwrap();
    within(publisher.publish("forbidden", "2")).await.unwrap();
    let tally = within(publisher.flush()).await.unwrap();
    assert_eq!((tally.acknowledged, tally.refused), (1, 1));
    assert!(tally.first_refusal.unwrap().contains("not authorized"));
}

#[tokio::test]
async fn a_refused_key_frame_keeps_the_message_back() {
    let site = Site::new();
    let messages = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&messages);
    let broker = Scripted::start(Box::new(move |_, connection, event| {
        match &event {
            Event::Publish(publish) if is_frame(publish) => {
                let id = publish.packet_id.unwrap();
                connection.acknowledge(id, ReasonCode::NotAuthorized);
                return Then::GoOn;
            }
            Event::Publish(publish) if !is_clearing(publish) => {
                count.fetch_add(1, Ordering::SeqCst);
            }
            _ => {}
        }
        obliging(connection, &event);
        Then::GoOn
    }))
    .await;
    let client = within(Client::connect(options(&site, &broker)))
        .await
        .unwrap();
    let mut publisher = client.publisher(policy()).unwrap();
    let error = within(publisher.publish("a", "1")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Refused);
    assert!(error.to_string().contains("smqtt/keys/"), "{error}");
    within(client.disconnect()).await.unwrap();
    assert_eq!(messages.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn retained_and_inline_messages_carry_their_key_frame() {
    let site = Site::new();
    let (broker, log) = recording().await;
    let client = within(Client::connect(options(&site, &broker)))
        .await
        .unwrap();
    let mut announced = client.publisher(policy()).unwrap();
    let retained = Publication::new("a", "1").retain(true);
    within(announced.send(retained)).await.unwrap();
    within(announced.close()).await.unwrap();
    let inline = PublisherOptions::new(policy()).delivery(Delivery::Inline);
    let mut inline = client.publisher(inline).unwrap();
    within(inline.publish("b", "2")).await.unwrap();
    within(inline.close()).await.unwrap();

    let log = log.lock();
    assert_eq!(log.len(), 2, "nothing is announced and nothing cleared");
    for publish in log.iter() {
        assert!(matches!(
            Envelope::parse(&publish.payload),
            Ok(Envelope::Inline { .. })
        ));
    }
    assert!(log[0].retain && !log[1].retain);
}

#[tokio::test]
async fn a_publisher_that_is_dropped_clears_its_key_frames_and_the_client_says_goodbye() {
    let site = Site::new();
    let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
    let broker = Scripted::start(Box::new(move |_, connection, event| {
        let clearing = matches!(&event, Event::Publish(publish) if is_clearing(publish));
        if clearing {
            tell.send("cleared").unwrap();
        } else if is_goodbye(&event) {
            tell.send("goodbye").unwrap();
        }
        obliging(connection, &event);
        Then::GoOn
    }))
    .await;
    let client = within(Client::connect(options(&site, &broker)))
        .await
        .unwrap();
    let mut publisher = client.publisher(policy()).unwrap();
    within(publisher.publish("a", "1")).await.unwrap();
    drop(client);
    drop(publisher);
    assert_eq!(within(told.recv()).await, Some("cleared"));
    assert_eq!(within(told.recv()).await, Some("goodbye"));
}

#[tokio::test]
async fn a_broker_that_takes_the_session_over_is_not_fought() {
    let site = Site::new();
    let connections = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&connections);
    let broker = Scripted::start(Box::new(move |number, connection, event| {
        count.store(number, Ordering::SeqCst);
        match &event {
            Event::Connect(_) => {
                accept(connection);
                connection.disconnect(ReasonCode::SessionTakenOver, Default::default());
            }
            _ => obliging(connection, &event),
        }
        Then::GoOn
    }))
    .await;
    let client = within(Client::connect(options(&site, &broker)))
        .await
        .unwrap();
    let error = within(client.disconnect()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Refused);
    assert!(error.to_string().contains("session taken over"), "{error}");
    assert_eq!(connections.load(Ordering::SeqCst), 1);
}
