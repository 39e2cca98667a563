//! Through a stock Mosquitto: nothing depends on a broker of our own.

#![allow(clippy::unwrap_used)]

mod site;

mod with_mosquitto {
    use smqtt_client::{
        Client, EnvelopeEvent, ErrorKind, Event, Options, ProtocolVersion, Publication, QoS,
        Refusal,
    };

    use crate::site::mosquitto::Mosquitto;
    use crate::site::{Site, within};

    const MANY: usize = 500;

    #[tokio::test]
    async fn messages_arrive_complete_and_in_order_with_every_qos_and_version() {
        let site = Site::new();
        let Some(mosquitto) = Mosquitto::start(&site, "") else {
            return;
        };
        for (index, version) in [ProtocolVersion::V5, ProtocolVersion::V3_1_1]
            .into_iter()
            .enumerate()
        {
            let sensor = Options::new(site.device(&format!("sensor{index}"), "role = sensor"));
            let reader = Options::new(site.device(&format!("reader{index}"), "role = reader"));
            let visitor = Options::new(site.device(&format!("visitor{index}"), "role = visitor"));
            let sensor = sensor.unwrap().broker(mosquitto.tls()).protocol(version);
            let reader = reader.unwrap().broker(mosquitto.tls()).protocol(version);
            let visitor = visitor.unwrap().broker(mosquitto.plain()).protocol(version);
            let sensor = within(Client::connect(sensor)).await.unwrap();
            let reader = within(Client::connect(reader)).await.unwrap();
            let visitor = within(Client::connect(visitor)).await.unwrap();
            for qos in [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce] {
                let topic = format!("plant/{index}/{}", qos as u8);
                let filter = format!("plant/+/{}", qos as u8);
                let mut reading = within(reader.subscribe([&filter], qos)).await.unwrap();
                let mut refused = within(visitor.subscribe(["plant/#"], qos)).await.unwrap();
                let mut publisher = sensor
                    .publisher("role = reader".parse::<smqtt_client::Policy>().unwrap())
                    .unwrap();
                for number in 0..MANY {
                    let text = number.to_string();
                    let publication = Publication::new(&topic, &text).qos(qos);
                    within(publisher.send(publication)).await.unwrap();
                }
                let tally = within(publisher.close()).await.unwrap();
                assert_eq!(tally.acknowledged, MANY as u64, "{version} {qos}");
                for number in 0..MANY {
                    let message = within(reading.next_message()).await.unwrap();
                    assert_eq!(
                        message.payload,
                        number.to_string().as_bytes(),
                        "{version} {qos}"
                    );
                }
                let mut count = 0;
                while count < MANY {
                    match within(refused.next()).await {
                        Event::Envelope(EnvelopeEvent::Refused {
                            reason: Refusal::NotAuthorised { .. },
                            ..
                        }) => count += 1,
                        Event::Envelope(EnvelopeEvent::KeyRefused { .. }) => {}
                        other => panic!("{version} {qos}: {other:?}"),
                    }
                }
                assert_eq!(refused.counters().opened, 0);
            }
        }
    }

    #[tokio::test]
    async fn a_retained_message_is_read_after_its_publisher_has_gone() {
        let site = Site::new();
        let Some(mosquitto) = Mosquitto::start(&site, "") else {
            return;
        };
        let sensor = site.device("sensor", "role = sensor");
        let reader = site.device("reader", "role = reader");
        let sensor = Options::new(sensor).unwrap().broker(mosquitto.tls());
        let client = within(Client::connect(sensor)).await.unwrap();
        let policy: smqtt_client::Policy = "role = reader".parse().unwrap();
        let mut publisher = client.publisher(policy).unwrap();
        // An announced one first, so that there is a frame that close clears.
        within(publisher.publish("state", "old")).await.unwrap();
        let kept = Publication::new("state", "new").retain(true);
        within(publisher.send(kept)).await.unwrap();
        within(publisher.close()).await.unwrap();
        within(client.disconnect()).await.unwrap();

        let reader = Options::new(reader).unwrap().broker(mosquitto.tls());
        let client = within(Client::connect(reader)).await.unwrap();
        let mut subscriber = within(client.subscribe(["#"], QoS::AtLeastOnce))
            .await
            .unwrap();
        let message = within(subscriber.next_message()).await.unwrap();
        assert_eq!(
            (message.payload.as_slice(), message.retained),
            (&b"new"[..], true)
        );
        // What close has cleared is not there any more.
        let mut keys = within(client.listen(["#"], QoS::AtLeastOnce))
            .await
            .unwrap();
        let relayed = within(keys.next()).await.unwrap();
        assert_eq!(relayed.topic, "state");
    }

    #[tokio::test]
    async fn a_reader_that_comes_later_still_finds_the_key_frame() {
        let site = Site::new();
        let Some(mosquitto) = Mosquitto::start(&site, "") else {
            return;
        };
        let sensor = site.device("sensor", "role = sensor");
        let sensor = Options::new(sensor).unwrap().broker(mosquitto.plain());
        let sensor = within(Client::connect(sensor)).await.unwrap();
        let policy: smqtt_client::Policy = "role = reader".parse().unwrap();
        let mut publisher = sensor.publisher(policy).unwrap();
        within(publisher.publish("a", "before")).await.unwrap();
        within(publisher.flush()).await.unwrap();

        let reader = Options::new(site.device("reader", "role = reader")).unwrap();
        let reader = within(Client::connect(reader.broker(mosquitto.tls())))
            .await
            .unwrap();
        let mut subscriber = within(reader.subscribe(["a"], QoS::AtLeastOnce))
            .await
            .unwrap();
        within(publisher.publish("a", "after")).await.unwrap();
        let message = within(subscriber.next_message()).await.unwrap();
        assert_eq!(message.payload, b"after");
        assert_eq!(
            subscriber.counters().missing,
            0,
            "nothing is missing before the first"
        );
    }

    #[tokio::test]
    async fn a_certificate_of_another_authority_opens_no_door() {
        let site = Site::new();
        let Some(mosquitto) = Mosquitto::start(&site, "") else {
            return;
        };
        let stranger = Site::new().device("stranger", "role = reader");
        let options = Options::new(stranger).unwrap().broker(mosquitto.tls());
        let error = within(Client::connect(options)).await.err().unwrap();
        // The stranger does not trust the broker either, and finds out first.
        assert_eq!(error.kind(), ErrorKind::Untrusted, "{error}");
    }

    #[tokio::test]
    async fn access_rules_of_the_broker_are_reported() {
        let site = Site::new();
        let rules = site.path().join("acl");
        std::fs::write(
            &rules,
            "topic readwrite smqtt/keys/#\ntopic readwrite open/#\n",
        )
        .unwrap();
        let further = format!("acl_file {}", rules.display());
        let Some(mosquitto) = Mosquitto::start(&site, &further) else {
            return;
        };
        let sensor = Options::new(site.device("sensor", "role = sensor")).unwrap();
        let client = within(Client::connect(sensor.broker(mosquitto.plain())))
            .await
            .unwrap();
        let policy: smqtt_client::Policy = "role = reader".parse().unwrap();
        let mut publisher = client.publisher(policy).unwrap();
        within(publisher.publish("open/a", "1")).await.unwrap();
        within(publisher.publish("closed/a", "2")).await.unwrap();
        let tally = within(publisher.flush()).await.unwrap();
        assert_eq!((tally.acknowledged, tally.refused), (1, 1));
    }
}
