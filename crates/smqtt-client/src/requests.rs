//! Request and response over MQTT 5, sealed both ways.

use rand::RngExt as _;
use smqtt_proto::{ProtocolVersion, QoS};

use crate::{
    Client, Delivery, Error, Event, Properties, Publication, Publisher, PublisherOptions, Received,
    Subscriber,
};

/// Bytes of correlation data: enough that nobody guesses one.
const CORRELATION: usize = 16;

/// Asks others and knows which answer is to which question.
///
/// The request is sealed under the requester's policy, which the responder has to satisfy. The response is
/// sealed under the responder's policy, which the requester has to satisfy. Key frames go inline: nothing is
/// left behind at the broker.
///
/// Who answered is said, verified, by [`Received::publisher`](smqtt_envelope::Message::publisher). Response topic
/// and correlation data are not authenticated: a hostile broker can exchange answers of a responder for one
/// another. Where that matters, let the response repeat something of the request.
pub struct Requester {
    publisher: Publisher,
    subscriber: Subscriber,
    response_topic: String,
}

impl Requester {
    /// Subscribes to `response_topic`, which should be this requester's own.
    ///
    /// # Errors
    ///
    /// [`Error::Option`] with MQTT 3.1.1, which has no response topic; those of [`Client::publisher`] and
    /// [`Client::subscribe`].
    pub async fn new(
        client: &Client,
        options: impl Into<PublisherOptions>,
        response_topic: &str,
    ) -> Result<Self, Error> {
        if client.protocol() != ProtocolVersion::V5 {
            return Err(Error::Option(
                "MQTT 3.1.1 has no response topic: speak MQTT 5".to_owned(),
            ));
        }
        let publisher = client.publisher(options.into().delivery(Delivery::Inline))?;
        let subscriber = client.subscribe([response_topic], QoS::AtLeastOnce).await?;
        Ok(Self {
            publisher,
            subscriber,
            response_topic: response_topic.to_owned(),
        })
    }

    /// Sends a request and waits for its response, for as long as the caller does. What else arrives at the
    /// response topic is passed over.
    ///
    /// # Errors
    ///
    /// Those of [`Publisher::send`]; [`Error::PublishRefused`] if the broker refuses the request;
    /// [`Error::ConnectionLost`] when nothing will follow.
    pub async fn request(&mut self, topic: &str, payload: &[u8]) -> Result<Received, Error> {
        let correlation: [u8; CORRELATION] = rand::rng().random();
        let properties = Properties::default()
            .response_topic(&self.response_topic)
            .correlation_data(correlation);
        let publication = Publication::new(topic, payload).properties(&properties);
        let mut receipt = self.publisher.send_with_receipt(publication).await?;
        receipt.wait().await?;
        loop {
            match self.subscriber.next().await {
                Event::Message(message)
                    if message.properties().correlation_data.as_deref() == Some(&correlation) =>
                {
                    return Ok(message);
                }
                Event::Ended(loss) => return Err(Error::ConnectionLost(loss)),
                _ => {}
            }
        }
    }

    /// What was opened and refused at the response topic so far: why a response did not count.
    #[must_use]
    pub fn counters(&self) -> &smqtt_envelope::Counters {
        self.subscriber.counters()
    }
}

impl Publisher {
    /// Answers `request` at the topic that it asks for, sealed under this publisher's policy.
    ///
    /// # Errors
    ///
    /// [`Error::Option`] if the request names no response topic; those of [`Publisher::send`], such as
    /// [`Error::Topic`] for a response topic that is none.
    pub async fn respond(&mut self, request: &Received, payload: &[u8]) -> Result<(), Error> {
        let asked = request.properties();
        let Some(topic) = &asked.response_topic else {
            return Err(Error::Option("the message asks for no response".to_owned()));
        };
        let mut properties = Properties::default();
        properties
            .correlation_data
            .clone_from(&asked.correlation_data);
        let publication = Publication::new(topic, payload).properties(&properties);
        self.send(publication).await
    }
}
