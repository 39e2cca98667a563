//! The files below `tests/vectors/envelope/`: bytes in hexadecimal, times in seconds since 1970-01-01T00:00:00Z.
// The test and the example that makes the files each use a part of it.
#![allow(dead_code, unreachable_pub)]

use std::collections::BTreeMap;
use std::path::PathBuf;

use data_encoding::HEXLOWER;
use serde::{Deserialize, Serialize};
use smqtt_envelope::{Event, Opener, OpenerConfig};
use smqtt_pki::UnixTime;

/// Where the files are.
pub fn directory() -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "../../tests/vectors/envelope"]
        .iter()
        .collect()
}

/// Bytes, in hexadecimal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hex(pub Vec<u8>);

impl Serialize for Hex {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&HEXLOWER.encode(&self.0))
    }
}

impl<'de> Deserialize<'de> for Hex {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        HEXLOWER
            .decode(text.as_bytes())
            .map(Self)
            .map_err(serde::de::Error::custom)
    }
}

/// `content-keys.json`: from a key frame and the key inside it to a sealed message, step by step. Needs no ABE.
#[derive(Debug, Serialize, Deserialize)]
pub struct ContentKeys {
    pub about: String,
    pub vectors: Vec<ContentKeyVector>,
}

#[derive(Debug, Serialize, Deserialize)]
pub struct ContentKeyVector {
    pub proves: String,
    /// The key K that the frame encapsulates. Secret, outside of vectors.
    pub shared_key: Hex,
    pub frame: Hex,
    pub frame_sha256: Hex,
    pub kid: Hex,
    pub certificate_sha256: Hex,
    pub confirmation: Hex,
    pub topic: String,
    pub content_key: Hex,
    pub base_iv: Hex,
    pub sequence: u32,
    pub nonce: Hex,
    pub external_aad: Hex,
    pub enc_structure: Hex,
    pub payload: Hex,
    pub message: Hex,
}

/// `reading.json`: what readers make of what arrives.
#[derive(Debug, Serialize, Deserialize)]
pub struct Reading {
    pub about: String,
    /// The authority's root certificate.
    pub root: Hex,
    /// The ABE parameters.
    pub parameters: Hex,
    /// Those of key policies, where readers have some.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy_parameters: Option<Hex>,
    pub readers: BTreeMap<String, ReaderKeys>,
    pub cases: Vec<Case>,
}

#[derive(Debug, Serialize, Deserialize)]
pub struct ReaderKeys {
    pub attributes: String,
    pub epoch: u64,
    /// Secret, outside of vectors.
    pub attribute_key: Hex,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_policy: Option<String>,
    /// As secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy_key: Option<Hex>,
}

#[derive(Debug, Serialize, Deserialize)]
pub struct Case {
    pub name: String,
    pub proves: String,
    pub reader: String,
    pub publishes: Vec<Publish>,
    /// Until when messages may wait, after the last publish.
    pub until: u64,
    pub expected: Vec<Outcome>,
}

#[derive(Debug, Serialize, Deserialize)]
pub struct Publish {
    pub at: u64,
    pub topic: String,
    pub payload: Hex,
    pub retained: bool,
}

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    Opened {
        topic: String,
        payload: Hex,
        publisher: String,
        kid: Hex,
        sequence: u32,
        repeated: bool,
        late: bool,
    },
    Refused(String),
    KeyRefused(String),
    Missing {
        first: u32,
        count: u32,
    },
    EpochAhead(u64),
}

impl Outcome {
    pub fn of(event: Event) -> Self {
        match event {
            Event::Opened(message) => Self::Opened {
                topic: message.topic.to_string(),
                payload: Hex(message.payload),
                publisher: message.publisher.to_string(),
                kid: Hex(message.kid.0.to_vec()),
                sequence: message.sequence.get(),
                repeated: message.repeated,
                late: message.late,
            },
            Event::Refused { reason, .. } => Self::Refused(reason.code().into()),
            Event::KeyRefused { reason, .. } => Self::KeyRefused(reason.code().into()),
            Event::Missing { first, count, .. } => Self::Missing {
                first: first.get(),
                count,
            },
            Event::EpochAhead { epoch, .. } => Self::EpochAhead(epoch.get()),
            other => panic!("a kind of event that vectors do not have: {other:?}"),
        }
    }
}

pub fn at(seconds: u64) -> UnixTime {
    UnixTime::since_unix_epoch(std::time::Duration::from_secs(seconds))
}

impl Reading {
    /// What a reader makes of a case.
    pub fn run(&self, case: &Case) -> Vec<Outcome> {
        let root = smqtt_pki::CertificateDer::from(self.root.0.clone());
        let anchor = smqtt_pki::TrustAnchor::new(root).expect("a root certificate");
        let parameters = smqtt_abe::cp::PublicParameters::from_bytes(&self.parameters.0)
            .expect("the parameters' encoding");
        let key = &self.readers[&case.reader].attribute_key.0;
        let key = smqtt_abe::cp::AttributeKey::from_bytes(key, &parameters)
            .expect("an attribute key's encoding");
        let mut opener =
            Opener::new(anchor, parameters, key, OpenerConfig::default()).expect("they fit");
        let policy_key = self.readers[&case.reader].policy_key.as_ref();
        if let (Some(parameters), Some(key)) = (&self.policy_parameters, policy_key) {
            let parameters = smqtt_abe::kp::PublicParameters::from_bytes(&parameters.0)
                .expect("the parameters' encoding");
            let key = smqtt_abe::kp::PolicyKey::from_bytes(&key.0, &parameters)
                .expect("a policy key's encoding");
            opener.add_policy_key(&parameters, key).expect("they fit");
        }
        for publish in &case.publishes {
            opener.handle_publish(
                &publish.topic,
                &publish.payload.0,
                publish.retained,
                at(publish.at),
            );
        }
        opener.handle_timeout(at(case.until));
        std::iter::from_fn(|| opener.poll_event())
            .map(Outcome::of)
            .collect()
    }
}
