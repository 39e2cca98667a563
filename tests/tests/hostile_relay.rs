//! What a broker operator tries on messages in flight, through a real relay with the broker's own certificate: each
//! manipulation is refused, with its own reason, and what was not touched still comes through.

use std::path::{Path, PathBuf};

use bytes::Bytes;
use smqtt_format::{
    Envelope, KeyFrame, KeyId, SealedMessage, SignatureAlgorithm, UnsignedKeyFrame, announce,
};
use smqtt_pki::Identity;
use smqtt_proto::TopicName;
use smqtt_proto::packet::Publish;
use smqtt_tests::fleet::{Authority, Fleet, plain_broker, publish, subscribe};
use smqtt_tests::programs::run_with_input;
use smqtt_tests::relay::{Deed, Relay};

const TOPIC: &str = "house/kitchen/temperature";
const POLICY: &str = "role = reader";

/// A fleet whose subscribers reach the broker through a relay that does `deed`; `mallory` is a registered device whose
/// identity the operator holds.
struct Scene {
    _fleet: Fleet,
    _relay: Relay,
    relay_url: String,
    sensor: PathBuf,
    reader: PathBuf,
}

impl Scene {
    fn set(deed: impl FnOnce(&Path) -> Deed) -> Self {
        let authority = Authority::init();
        let plain = plain_broker(&authority);
        let fleet = Fleet::with_broker(authority, plain);
        let sensor = fleet.enrol("sensor", "role = sensor");
        let reader = fleet.enrol("reader", "role = reader");
        let mallory = fleet.enrol("mallory", "role = cleaner");
        let relay = Relay::start(&fleet.authority, fleet.broker.port(), deed(&mallory));
        Self {
            relay_url: relay.url(),
            _relay: relay,
            _fleet: fleet,
            sensor,
            reader,
        }
    }

    /// Publishes `lines` one by one, announced, and returns what the reader printed, as JSON, up to its summary.
    fn play(&self, lines: &str, until: impl Fn(&str) -> bool) -> Outcome {
        let reader = subscribe(
            &self.reader,
            "house/#",
            &["--json", "--broker", &self.relay_url],
        );
        let mut put = publish(
            &self.sensor,
            TOPIC,
            POLICY,
            &["-l", "--broker", &self.relay_url],
        );
        let _ = run_with_input(&mut put, lines.as_bytes()).success();
        // Where it never comes, the outcome's assertions say what is missing.
        let _ = reader.watch_stdout(|stdout| until(stdout).then_some(()));
        let finished = reader.interrupt().success();
        Outcome::read(&finished.text(), finished.stderr)
    }
}

struct Outcome {
    payloads: Vec<String>,
    events: Vec<serde_json::Value>,
    summary: serde_json::Value,
    stderr: String,
}

impl Outcome {
    fn read(stdout: &str, stderr: String) -> Self {
        let lines: Vec<serde_json::Value> = stdout
            .lines()
            .map(|line| {
                serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))
            })
            .collect();
        let summary = lines.iter().find(|line| line["type"] == "summary").cloned();
        Self {
            payloads: lines
                .iter()
                .filter_map(|line| line.get("payload")?.as_str().map(str::to_owned))
                .collect(),
            summary: summary.unwrap_or_else(|| panic!("no summary in\n{stdout}\n{stderr}")),
            events: lines,
            stderr,
        }
    }

    fn refused(&self, reason: &str) -> u64 {
        self.summary["refused"][reason].as_u64().unwrap_or(0)
    }

    /// Nothing but `reasons` was refused.
    #[track_caller]
    fn assert_refused(&self, reasons: &[(&str, u64)]) {
        for (reason, count) in reasons {
            assert_eq!(
                self.refused(reason),
                *count,
                "{reason}: {}\n{}",
                self.summary,
                self.stderr
            );
        }
        let known: u64 = reasons.iter().map(|(_, count)| count).sum();
        let all = self.summary["refused"].as_object().map_or(0, |counts| {
            counts.values().filter_map(serde_json::Value::as_u64).sum()
        });
        assert_eq!(all, known, "{}\n{}", self.summary, self.stderr);
    }
}

/// Whether this is a sealed message, not an announcement.
fn is_message(publish: &Publish) -> bool {
    announce::parse(publish.topic.as_str()).is_none()
}

fn refusals_at_least(count: usize) -> impl Fn(&str) -> bool {
    move |stdout| stdout.matches(r#""type":"refused""#).count() >= count
}

#[test]
fn an_honest_relay_changes_nothing() {
    let scene = Scene::set(|_| Box::new(|publish| vec![publish]));
    let outcome = scene.play("1\n2\n3\n", |stdout| stdout.lines().count() >= 3);
    assert_eq!(outcome.payloads, ["1", "2", "3"]);
    outcome.assert_refused(&[]);
}

#[test]
fn a_message_moved_to_another_topic_is_refused_as_moved() {
    let scene = Scene::set(|_| {
        Box::new(|publish| {
            if !is_message(&publish) {
                return vec![publish];
            }
            let mut moved = publish.clone();
            moved.topic = TopicName::new("house/cellar/temperature").expect("a topic");
            vec![moved, publish]
        })
    });
    let outcome = scene.play("1\n2\n", |stdout| {
        stdout.matches("wrong-topic").count() >= 2 && stdout.matches("\"payload\"").count() >= 2
    });
    assert_eq!(outcome.payloads, ["1", "2"]);
    outcome.assert_refused(&[("wrong-topic", 2)]);
    let told = outcome.events.iter().any(|event| {
        event.to_string().contains(TOPIC) && event.to_string().contains("house/cellar/temperature")
    });
    assert!(told, "it names both topics: {:?}", outcome.events);
}

#[test]
fn a_message_delivered_again_is_refused_as_a_replay() {
    let scene = Scene::set(|_| {
        Box::new(|publish| {
            if is_message(&publish) {
                vec![publish.clone(), publish.clone(), publish]
            } else {
                vec![publish]
            }
        })
    });
    let outcome = scene.play("1\n2\n", |stdout| stdout.matches("replay").count() >= 4);
    assert_eq!(outcome.payloads, ["1", "2"]);
    outcome.assert_refused(&[("replay", 4)]);
}

#[test]
fn a_message_with_one_flipped_bit_is_refused_as_altered() {
    let scene = Scene::set(|_| {
        Box::new(|publish| {
            if !is_message(&publish) {
                return vec![publish];
            }
            let mut bytes = publish.payload.to_vec();
            *bytes.last_mut().expect("a sealed message is not empty") ^= 0x10;
            let flipped = Publish {
                payload: Bytes::from(bytes),
                ..publish.clone()
            };
            vec![flipped, publish]
        })
    });
    let outcome = scene.play("1\n2\n", |stdout| {
        stdout.matches("altered").count() >= 2 && stdout.matches("\"payload\"").count() >= 2
    });
    assert_eq!(outcome.payloads, ["1", "2"]);
    outcome.assert_refused(&[("altered", 2)]);
}

#[test]
fn a_message_that_was_held_back_is_reported_missing() {
    let scene = Scene::set(|_| {
        let mut seen = 0;
        Box::new(move |publish| {
            seen += u32::from(is_message(&publish));
            if is_message(&publish) && (2..=3).contains(&seen) {
                vec![]
            } else {
                vec![publish]
            }
        })
    });
    let outcome = scene.play("1\n2\n3\n4\n5\n", |stdout| {
        stdout.matches("\"payload\"").count() >= 3
    });
    assert_eq!(outcome.payloads, ["1", "4", "5"]);
    assert_eq!(
        outcome.summary["missing"], 2,
        "{}\n{}",
        outcome.summary, outcome.stderr
    );
    outcome.assert_refused(&[]);
}

/// The key frame, signed by another device with its own certificate.
fn sign_again(frame: &[u8], mallory: &Identity) -> Vec<u8> {
    let frame = KeyFrame::parse(frame).expect("an announced frame");
    let chain: Vec<&[u8]> = mallory.chain().iter().map(AsRef::as_ref).collect();
    let unsigned = UnsignedKeyFrame::new(SignatureAlgorithm::Es256, &chain, frame.content())
        .expect("the content is good");
    let signature = mallory.key().sign(&unsigned.to_be_signed());
    unsigned
        .finish(&signature)
        .expect("a frame of the same size")
}

#[test]
fn a_key_frame_signed_again_by_another_device_is_refused_as_not_its_signers() {
    // The operator makes the sensor's stream look like mallory's: frame and messages, consistently.
    let scene = Scene::set(|mallory| {
        let mallory = Identity::load(mallory).expect("mallory is enrolled");
        let mut forged = KeyId::of(b"");
        Box::new(move |publish| {
            if let Some((topic, _)) = announce::parse(publish.topic.as_str()) {
                if publish.payload.is_empty() {
                    return vec![publish];
                }
                let frame = sign_again(&publish.payload, &mallory);
                forged = KeyId::of(&frame);
                let topic = TopicName::new(announce::topic(topic, &forged)).expect("a topic");
                let payload = Bytes::from(frame);
                return vec![Publish {
                    topic,
                    payload,
                    ..publish
                }];
            }
            let sealed = SealedMessage::parse(&publish.payload).expect("a sealed message");
            let mut payload = Vec::new();
            SealedMessage::write_head(
                &mut payload,
                &forged,
                sealed.sequence(),
                sealed.payload_len(),
            );
            payload.extend_from_slice(sealed.ciphertext());
            let payload = Bytes::from(payload);
            vec![Publish { payload, ..publish }]
        })
    });
    let outcome = scene.play("1\n2\n", refusals_at_least(2));
    assert_eq!(outcome.payloads, Vec::<String>::new());
    assert!(
        outcome.refused("not-its-signer") >= 2,
        "{}\n{}",
        outcome.summary,
        outcome.stderr
    );
    outcome.assert_refused(&[("not-its-signer", outcome.refused("not-its-signer"))]);
}

#[test]
fn a_key_frame_under_anothers_name_is_refused() {
    // The same, but the messages keep the sensor's key id, and the forged frame is announced under it.
    let scene = Scene::set(|mallory| {
        let mallory = Identity::load(mallory).expect("mallory is enrolled");
        Box::new(move |publish| {
            if is_message(&publish) || publish.payload.is_empty() {
                return vec![publish];
            }
            let payload = Bytes::from(sign_again(&publish.payload, &mallory));
            vec![Publish { payload, ..publish }]
        })
    });
    let outcome = scene.play("1\n", |stdout| stdout.contains("kid-mismatch"));
    assert_eq!(outcome.payloads, Vec::<String>::new());
    assert_eq!(
        outcome.summary["keys_refused"]["kid-mismatch"], 1,
        "{}\n{}",
        outcome.summary, outcome.stderr
    );
}

#[test]
fn plaintext_that_the_operator_slips_in_is_refused_as_plaintext() {
    let scene = Scene::set(|_| {
        Box::new(|publish| {
            if !is_message(&publish) {
                return vec![publish];
            }
            let slipped = Publish {
                payload: Bytes::from_static(b"99.9"),
                ..publish.clone()
            };
            assert!(Envelope::parse(&slipped.payload).is_err());
            vec![slipped, publish]
        })
    });
    let outcome = scene.play("1\n", |stdout| {
        stdout.contains("plaintext") && stdout.contains("\"payload\"")
    });
    assert_eq!(outcome.payloads, ["1"]);
    outcome.assert_refused(&[("plaintext", 1)]);
}
