//! A message as a JSON object.

use jiff::Timestamp;
use serde::Serialize;
use smqtt_client::{Properties, Received};

use crate::json::Payload;

/// What `--json` and `%j` say of a message.
#[derive(Serialize)]
pub(super) struct Record<'a> {
    topic: &'a str,
    #[serde(flatten)]
    payload: PayloadForm<'a>,
    publisher: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    policy: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tags: Option<&'a str>,
    kid: String,
    sequence: u32,
    qos: u8,
    retained: bool,
    /// When it was opened here.
    time: String,
    /// Whether the publisher has signed this very message.
    #[serde(skip_serializing_if = "is_false")]
    signed: bool,
    #[serde(skip_serializing_if = "is_false")]
    repeated: bool,
    #[serde(skip_serializing_if = "is_false")]
    late: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    properties: Option<PropertiesRecord<'a>>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum PayloadForm<'a> {
    Plain(Payload<'a>),
    Json { payload: serde_json::Value },
    File { file: &'a str },
}

/// The properties of MQTT 5.
#[derive(Serialize)]
pub(crate) struct PropertiesRecord<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    content_type: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    response_topic: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none", flatten)]
    correlation: Option<Correlation<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    expiry: Option<u32>,
    /// Pairs, because a name may occur more than once.
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    user: &'a [(String, String)],
}

#[derive(Serialize)]
#[serde(rename_all = "snake_case")]
enum Correlation<'a> {
    CorrelationData(&'a str),
    CorrelationDataBase64(String),
}

#[allow(clippy::trivially_copy_pass_by_ref)] // serde's signature
fn is_false(flag: &bool) -> bool {
    !flag
}

impl<'a> Record<'a> {
    pub(super) fn new(message: &'a Received, now: Timestamp) -> Self {
        Self {
            topic: &message.topic,
            payload: PayloadForm::Plain(Payload::new(&message.payload)),
            publisher: message.publisher.as_str(),
            policy: message.access.policy(),
            tags: message.access.tags(),
            kid: message.kid.to_string(),
            sequence: message.sequence.get(),
            qos: message.qos as u8,
            retained: message.retained,
            time: now.strftime("%Y-%m-%dT%H:%M:%S%.3fZ").to_string(),
            signed: message.signed,
            repeated: message.repeated,
            late: message.late,
            properties: PropertiesRecord::new(message.properties()),
        }
    }

    /// A payload that is JSON as what it says, not as a text.
    pub(super) fn taken_apart(mut self) -> Self {
        if let PayloadForm::Plain(Payload::Payload(text)) = &self.payload
            && let Ok(payload) = serde_json::from_str(text)
        {
            self.payload = PayloadForm::Json { payload };
        }
        self
    }

    /// The name of a file in place of the payload.
    pub(super) fn in_file(mut self, file: &'a str) -> Self {
        self.payload = PayloadForm::File { file };
        self
    }
}

impl<'a> PropertiesRecord<'a> {
    /// `None` if there are none.
    pub(crate) fn new(properties: &'a Properties) -> Option<Self> {
        (!properties.is_empty()).then(|| Self {
            content_type: properties.content_type.as_deref(),
            response_topic: properties.response_topic.as_deref(),
            correlation: properties.correlation_data.as_deref().map(|data| {
                std::str::from_utf8(data).map_or_else(
                    |_| Correlation::CorrelationDataBase64(data_encoding::BASE64.encode(data)),
                    Correlation::CorrelationData,
                )
            }),
            expiry: properties.expiry,
            user: &properties.user,
        })
    }
}
