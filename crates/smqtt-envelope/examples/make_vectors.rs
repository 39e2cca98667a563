//! Makes the files below `tests/vectors/envelope/` anew, from fixed seeds.
//!
//! The files are frozen: this is for a new version of the format, whose files stand beside the old ones.
//!
//! `cargo run -p smqtt-envelope --example make_vectors -- DIRECTORY`

#[path = "../tests/vector_file/mod.rs"]
mod vector_file;
#[path = "../tests/world/mod.rs"]
mod world;

use std::collections::BTreeMap;
use std::path::Path;

use hkdf::Hkdf;
use serde::Serialize;
use sha2::{Digest, Sha256};
use smqtt_envelope::{
    Announcement, KeyId, Padding, Sealed, Sealer, SealerConfig, Sequence, Signing,
};
use smqtt_format::{
    Access, Envelope, KeyFrame, SealedMessage, announce, enc_structure, external_aad,
};
use smqtt_policy::{AttributeSet, Epoch, Policy};
use vector_file::{
    Case, ContentKeyVector, ContentKeys, Hex, Publish, ReaderKeys, Reading, directory,
};
use world::{DAY, EPOCH, NOW, POLICY, TECHNICIAN, World, stripped};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let target = std::env::args_os()
        .nth(1)
        .map_or_else(directory, Into::into);
    std::fs::create_dir_all(&target)?;
    let mut world = World::new();
    write(&target, "content-keys.json", &content_keys(&mut world)?)?;
    write(&target, "reading.json", &reading(&mut world, cases))?;
    let mut world = World::from_seed(3);
    write(
        &target,
        "signed-and-padded.json",
        &reading(&mut world, signed_and_padded),
    )?;
    write(&target, "tagged.json", &tagged(&mut World::from_seed(4)))?;
    Ok(())
}

fn write<T: Serialize>(
    directory: &Path,
    name: &str,
    value: &T,
) -> Result<(), Box<dyn std::error::Error>> {
    let mut text = serde_json::to_string_pretty(value)?;
    text.push('\n');
    Ok(std::fs::write(directory.join(name), text)?)
}

fn content_keys(world: &mut World) -> Result<ContentKeys, Box<dyn std::error::Error>> {
    let device = world.device("sensor-17");
    let key = world.attribute_key(TECHNICIAN, EPOCH);
    let mut sealer = world.sealer(&device);
    let mut vectors = Vec::new();
    let cases: [(&str, &str, u32, &[u8]); 5] = [
        (
            "the first message of a key",
            "plant/7/temperature",
            1,
            b"21.5",
        ),
        (
            "the next number has another nonce",
            "plant/7/temperature",
            2,
            b"21.5",
        ),
        (
            "another topic has another key, and numbers of its own",
            "plant/8/temperature",
            1,
            b"21.5",
        ),
        (
            "topics are UTF-8; a payload may be empty",
            "halle/größe",
            1,
            b"",
        ),
        (
            "a number of two bytes",
            "plant/7/temperature",
            300,
            &[0x5a; 300],
        ),
    ];
    let mut frame: Vec<u8> = Vec::new();
    for (proves, topic, number, payload) in cases {
        let sealed = loop {
            let sealed = world.seal(&mut sealer, topic, payload);
            if let Some(announcement) = &sealed.announce {
                frame = announcement.frame.to_vec();
            }
            if sealed.sequence.get() == number {
                break sealed;
            }
        };
        let parsed = KeyFrame::parse(&frame)?;
        let Access::Policy(policy) = parsed.content().access else {
            return Err("a policy".into());
        };
        let shared = key.decapsulate(
            &world.parameters,
            &Policy::from_canonical(policy)?.at_epoch(EPOCH),
            parsed.content().ciphertext,
        )?;
        let info = [b"smqtt/1 content", topic.as_bytes()].concat();
        let mut okm = [0; 44];
        Hkdf::<Sha256>::new(Some(&parsed.digest()), shared.as_bytes())
            .expand(&info, &mut okm)
            .map_err(|_| "too long")?;
        let mut nonce = okm[32..].to_vec();
        for (byte, number) in nonce[8..].iter_mut().zip(number.to_be_bytes()) {
            *byte ^= number;
        }
        vectors.push(ContentKeyVector {
            proves: proves.into(),
            shared_key: Hex(shared.as_bytes().to_vec()),
            frame_sha256: Hex(parsed.digest().to_vec()),
            kid: Hex(parsed.kid().0.to_vec()),
            certificate_sha256: Hex(Sha256::digest(parsed.certificates()[0]).to_vec()),
            confirmation: Hex(parsed.content().confirmation.to_vec()),
            frame: Hex(frame.clone()),
            topic: topic.into(),
            content_key: Hex(okm[..32].to_vec()),
            base_iv: Hex(okm[32..].to_vec()),
            sequence: number,
            nonce: Hex(nonce),
            external_aad: Hex(external_aad(topic)),
            enc_structure: Hex(enc_structure(topic)),
            payload: Hex(payload.to_vec()),
            message: Hex(sealed.message),
        });
    }
    Ok(ContentKeys {
        about: "From a key frame and the key that it encapsulates to a sealed message, step by step (docs/envelope.md, \
                sections Keys and Sealed message). No ABE is needed to check them."
            .into(),
        vectors,
    })
}

/// A publish that arrives now.
fn publish(topic: &str, payload: &[u8]) -> Publish {
    Publish {
        at: NOW,
        topic: topic.into(),
        payload: Hex(payload.to_vec()),
        retained: false,
    }
}

fn announced(announcement: &Announcement) -> Publish {
    publish(&announcement.topic, &announcement.frame)
}

fn announced_as(topic: &str, frame: &[u8]) -> Publish {
    publish(&announce::topic(topic, &KeyId::of(frame)), frame)
}

fn retained(publish: Publish) -> Publish {
    Publish {
        retained: true,
        ..publish
    }
}

fn at(seconds: u64, publish: Publish) -> Publish {
    Publish {
        at: seconds,
        ..publish
    }
}

fn flipped(bytes: &[u8], index_from_end: usize) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    let index = bytes.len() - index_from_end;
    bytes[index] ^= 1;
    bytes
}

/// The message under another key id.
fn relabelled(message: &[u8], kid: KeyId) -> Vec<u8> {
    let Ok(Envelope::Sealed(sealed)) = Envelope::parse(message) else {
        panic!("a sealed message");
    };
    let mut out = Vec::new();
    SealedMessage::write_head(&mut out, &kid, sealed.sequence(), sealed.payload_len());
    out.extend_from_slice(sealed.ciphertext());
    out
}

/// What a reader with these attributes holds.
fn reader(world: &mut World, attributes: &str, epoch: u64) -> ReaderKeys {
    let key = world.attribute_key(attributes, Epoch::new(epoch));
    ReaderKeys {
        attributes: attributes.into(),
        epoch,
        attribute_key: Hex(key.to_bytes().to_vec()),
        key_policy: None,
        policy_key: None,
    }
}

/// A case, without what is expected: an hour after the last publish waiting ends.
fn case(name: &str, reader: &str, proves: &str, publishes: Vec<Publish>) -> Case {
    Case {
        until: publishes.iter().map(|p| p.at).max().unwrap_or(NOW) + 3600,
        name: name.into(),
        proves: proves.into(),
        reader: reader.into(),
        publishes,
        expected: Vec::new(),
    }
}

/// Adds cases, with what this reader makes of them.
fn add(reading: &mut Reading, cases: Vec<Case>) {
    for case in cases {
        let expected = reading.run(&case);
        reading.cases.push(Case { expected, ..case });
    }
}

fn reading(world: &mut World, cases: fn(&mut World) -> Vec<Case>) -> Reading {
    let mut readers = BTreeMap::new();
    for (name, attributes, epoch) in [
        ("technician", TECHNICIAN, 7),
        ("visitor", "role = visitor", 7),
        ("renewed technician", TECHNICIAN, 8),
        ("technician behind", TECHNICIAN, 6),
    ] {
        readers.insert(name.to_owned(), reader(world, attributes, epoch));
    }
    let mut reading = Reading {
        about: "What readers make of what arrives, in order (docs/envelope.md, sections Reading and Refusals). Each case \
                starts with a reader that remembers nothing, with the default limits; `until` is when waiting ends."
            .into(),
        root: Hex(world.authority.trust_anchor().root().to_vec()),
        parameters: Hex(world.parameters.to_bytes()),
        policy_parameters: None,
        readers,
        cases: Vec::new(),
    };
    add(&mut reading, cases(world));
    reading
}

fn cases(world: &mut World) -> Vec<Case> {
    const A: &str = "plant/7/temperature";
    const B: &str = "plant/8/temperature";
    let device = world.device("sensor-17");
    let attacker = world.device("sensor-18");
    let mut sealer = world.sealer(&device);
    let messages: Vec<Sealed> = (1..=6)
        .map(|n| world.seal(&mut sealer, A, format!("21.{n}").as_bytes()))
        .collect();
    let announcement = messages[0].announce.clone().expect("the first message");
    let on_b = world.seal(&mut sealer, B, b"19.0");
    let frame = &announcement.frame[..];
    let message = &messages[0].message[..];
    let inline = [frame, message].concat();
    let inline_b = [frame, &on_b.message].concat();
    let (other, _) = world.first(&device, A, b"22.0");

    let mut elsewhere = World::from_seed(2);
    elsewhere.parameters = world.parameters.clone();
    let stranger = elsewhere.device("sensor-17");
    let (foreign, foreign_message) = elsewhere.first(&stranger, A, b"99.9");

    let stolen = world.signed_anew(frame, &attacker, |_| {});
    let suite_9 = world.signed_anew(frame, &device, |c| c.suite = 9);
    let spelled = world.signed_anew(frame, &device, |c| {
        c.access = Access::Policy("role=technician and site=berlin");
    });
    let cut = world.signed_anew(frame, &device, |c| {
        c.ciphertext = &c.ciphertext[..c.ciphertext.len() - 1];
    });
    let forged = flipped(frame, 1);

    let mut renumbered = message.to_vec();
    renumbered[19] = 9;
    let last = NOW + DAY + 7 * DAY + 300;
    let technician = "technician";
    vec![
        case(
            "announced",
            technician,
            "an announced key opens its message",
            vec![announced(&announcement), publish(A, message)],
        ),
        case(
            "message first",
            technician,
            "a message waits for its key",
            vec![publish(A, message), announced(&announcement)],
        ),
        case(
            "inline",
            technician,
            "a message that carries its key opens by itself",
            vec![publish(A, &inline)],
        ),
        case(
            "two topics",
            technician,
            "one key serves two topics, with keys and numbers of their own",
            vec![
                announced(&announcement),
                publish(A, message),
                publish(B, &on_b.message),
            ],
        ),
        case(
            "gap",
            technician,
            "a gap is reported, a late message opened and marked",
            vec![
                announced(&announcement),
                publish(A, message),
                publish(A, &messages[4].message),
                publish(A, &messages[2].message),
            ],
        ),
        case(
            "first ones missing",
            technician,
            "who saw the key announced notices that the first messages are missing",
            vec![announced(&announcement), publish(A, &messages[3].message)],
        ),
        case(
            "joined late",
            technician,
            "who got the key from the broker's store misses nothing",
            vec![
                retained(announced(&announcement)),
                publish(A, &messages[3].message),
            ],
        ),
        case(
            "retained repeats",
            technician,
            "a retained message may repeat, and is marked",
            vec![retained(publish(A, &inline)), retained(publish(A, &inline))],
        ),
        case(
            "replay",
            technician,
            "a message that is not retained opens once",
            vec![
                announced(&announcement),
                publish(A, message),
                publish(A, message),
                publish(A, &inline),
            ],
        ),
        case(
            "moved",
            technician,
            "a moved message is named, with the topic that it was sealed for",
            vec![announced_as(B, frame), publish(B, message)],
        ),
        case(
            "moved inline",
            technician,
            "so is one that brings its key along",
            vec![publish(B, &inline)],
        ),
        case(
            "moved from a topic never seen",
            technician,
            "a move from a topic that the reader knows nothing of shows as altered",
            vec![announced(&announcement), publish(A, &on_b.message)],
        ),
        case(
            "moved from a topic announced",
            technician,
            "every topic at which the key was announced is tried",
            vec![
                announced(&announcement),
                announced_as(B, frame),
                publish(A, &on_b.message),
            ],
        ),
        case(
            "altered ciphertext",
            technician,
            "a bit of the ciphertext",
            vec![announced(&announcement), publish(A, &flipped(message, 17))],
        ),
        case(
            "altered tag",
            technician,
            "a bit of the tag",
            vec![announced(&announcement), publish(A, &flipped(message, 1))],
        ),
        case(
            "altered number",
            technician,
            "another sequence number",
            vec![announced(&announcement), publish(A, &renumbered)],
        ),
        case(
            "exchanged announcement",
            technician,
            "a frame under another frame's name",
            vec![publish(&announcement.topic, &other.frame)],
        ),
        case(
            "exchanged inline frame",
            technician,
            "a message behind another frame",
            vec![
                publish(A, &[&other.frame[..], message].concat()),
                publish(B, &inline_b),
            ],
        ),
        case(
            "signed anew under the old name",
            technician,
            "another device's signature makes another frame",
            vec![publish(&announcement.topic, &stolen)],
        ),
        case(
            "signed anew under its own name",
            technician,
            "a device can not pass another's key as its own",
            vec![
                announced_as(A, &stolen),
                publish(A, &relabelled(message, KeyId::of(&stolen))),
            ],
        ),
        case(
            "another authority",
            technician,
            "a device of the same name, of an authority that is not trusted",
            vec![announced(&foreign), publish(A, &foreign_message)],
        ),
        case(
            "forged signature",
            technician,
            "a bit of the signature",
            vec![
                announced_as(A, &forged),
                publish(A, &relabelled(message, KeyId::of(&forged))),
            ],
        ),
        case(
            "not authorised",
            "visitor",
            "attributes that do not satisfy the policy open nothing",
            vec![
                announced(&announcement),
                publish(A, message),
                publish(A, &inline),
            ],
        ),
        case(
            "an epoch too late",
            "renewed technician",
            "a key of a later epoch does not open an earlier one's",
            vec![announced(&announcement), publish(A, message)],
        ),
        case(
            "an epoch too early",
            "technician behind",
            "a key of an earlier epoch does not open a later one's; messages wait for the renewal",
            vec![announced(&announcement), publish(A, message)],
        ),
        case(
            "clock behind by 300 s",
            technician,
            "within the skew",
            vec![at(NOW - 300, publish(A, &inline))],
        ),
        case(
            "clock behind by 301 s",
            technician,
            "beyond the skew",
            vec![at(NOW - 301, publish(A, &inline))],
        ),
        case(
            "the last second",
            technician,
            "lifetime, delay and skew",
            vec![at(last, publish(A, &inline))],
        ),
        case(
            "a second later",
            technician,
            "beyond them",
            vec![at(last + 1, publish(A, &inline))],
        ),
        case(
            "no key",
            technician,
            "a key that never comes",
            vec![publish(A, message)],
        ),
        case(
            "plaintext",
            technician,
            "no envelope",
            vec![publish(A, b"21.5"), publish(&announcement.topic, b"text")],
        ),
        case(
            "cut",
            technician,
            "an envelope that was cut off",
            vec![
                publish(A, &message[..message.len() - 1]),
                publish(&announcement.topic, &frame[..frame.len() - 1]),
            ],
        ),
        case(
            "misplaced",
            technician,
            "a frame as a message, a message as a frame",
            vec![publish(A, frame), publish(&announcement.topic, message)],
        ),
        case(
            "suite 9",
            technician,
            "a suite that does not exist",
            vec![announced_as(A, &suite_9)],
        ),
        case(
            "policy not canonical",
            technician,
            "one spelling of a policy only",
            vec![announced_as(A, &spelled)],
        ),
        case(
            "encapsulation cut",
            technician,
            "an encapsulation that is none",
            vec![announced_as(A, &cut)],
        ),
        case(
            "cleared",
            technician,
            "clearing an announcement takes no key away",
            vec![
                announced(&announcement),
                publish(&announcement.topic, b""),
                publish(A, message),
            ],
        ),
    ]
}

/// Messages under frames that say what holds for each of them.
fn signed_and_padded(world: &mut World) -> Vec<Case> {
    const TOPIC: &str = "plant/7/temperature";
    let device = world.device("sensor-17");
    let colleague = world.device("anna");
    let mut first = |signing, padding: &str| {
        let config = SealerConfig {
            signing,
            padding: padding.parse::<Padding>().expect("classes"),
            ..SealerConfig::default()
        };
        let mut sealer = world.sealer_with(&device, POLICY, config);
        let sealed = world.seal(&mut sealer, TOPIC, b"21.5");
        (sealed.announce.expect("the first message"), sealed.message)
    };
    let (signed, signed_message) = first(Signing::Each, "off");
    let (padded, padded_message) = first(Signing::Session, "64,256");
    let (both, both_message) = first(Signing::Each, "pow2");
    let (plain, _) = first(Signing::Session, "off");
    let of_signed = world.insider(&signed.frame, TOPIC);
    let of_padded = world.insider(&padded.frame, TOPIC);
    let of_plain = world.insider(&plain.frame, TOPIC);
    let second = Sequence::new(2).expect("not 0");
    let case = |name: &str, proves: &str, frame: &Announcement, messages: &[&[u8]]| {
        let mut publishes = vec![announced(frame)];
        publishes.extend(messages.iter().map(|message| publish(TOPIC, message)));
        case(name, "technician", proves, publishes)
    };
    vec![
        case(
            "signed",
            "a message that its publisher signed opens",
            &signed,
            &[&signed_message],
        ),
        case(
            "padded",
            "a padded payload comes out as it was",
            &padded,
            &[&padded_message],
        ),
        case("signed and padded", "both at once", &both, &[&both_message]),
        case(
            "signature taken away",
            "a signature does not come off; the message itself still opens",
            &signed,
            &[&stripped(&signed_message), &signed_message],
        ),
        case(
            "signed by a colleague",
            "who holds the key still can not sign for the publisher, and uses up no number",
            &signed,
            &[
                &signed_message,
                &of_signed.seal(second, b"99", Some(&colleague)),
            ],
        ),
        case(
            "signature out of place",
            "a frame that says nothing of signatures has no signed messages",
            &plain,
            &[&of_plain.seal(Sequence::FIRST, b"21.5", Some(&device))],
        ),
        case(
            "not padded",
            "what is not padded as the frame says is refused, and uses up no number",
            &padded,
            &[
                &of_padded.seal(Sequence::FIRST, b"21.5", None),
                &of_padded.seal(Sequence::FIRST, &[0; 64], None),
                &padded_message,
            ],
        ),
    ]
}

/// Messages with tags, and readers with key policies.
fn tagged(world: &mut World) -> Reading {
    const TOPIC: &str = "plant/7/temperature";
    const TAGS: &str = "kind = temperature, site = 4";
    let master = smqtt_abe::kp::MasterKey::beside(&world.master);
    let parameters = master.public_parameters();
    let mut reading = reading(world, |_| Vec::new());
    reading.policy_parameters = Some(Hex(parameters.to_bytes()));
    for (name, key_policy, epoch) in [
        ("of the site", "site in 1..5", 7),
        ("of the topic", "topic matches plant/+/temperature", 7),
        ("of another site", "kind = temperature and site in 5..9", 7),
        ("of another topic", "topic matches plant/8/#", 7),
        ("of the site, renewed", "site in 1..5", 8),
    ] {
        let policy: Policy = key_policy.parse().expect("a policy");
        let formula = policy.at_epoch(Epoch::new(epoch));
        let key = master
            .issue(&parameters, &formula, &mut world.rng)
            .expect("issued");
        let keys = ReaderKeys {
            key_policy: Some(key_policy.into()),
            policy_key: Some(Hex(key.to_bytes().to_vec())),
            ..reader(world, "role = screen", epoch)
        };
        reading.readers.insert(name.into(), keys);
    }

    let device = world.device("sensor-17");
    let attacker = world.device("sensor-18");
    let tags: AttributeSet = TAGS.parse().expect("tags");
    let config = SealerConfig::default();
    let signer = std::sync::Arc::clone(&device) as _;
    let mut sealer =
        Sealer::with_tags(signer, parameters, &tags, EPOCH, config).expect("valid options");
    let first = world.seal(&mut sealer, TOPIC, b"21.5");
    let announcement = first.announce.clone().expect("the first message");
    let frame = &announcement.frame[..];
    let inline = [frame, &first.message].concat();
    let elsewhere = world.seal(&mut sealer, "plant/7/pressure", b"1013");
    let of_elsewhere = elsewhere.announce.clone().expect("the first message");
    let epoch_6 = tags
        .with_topic(TOPIC)
        .expect("a topic")
        .with_epoch(Epoch::new(6))
        .encode();
    let epoch_6: &'static [u8] = epoch_6.leak();
    let other_epoch = world.signed_anew(frame, &device, |c| c.access = Access::Attributes(epoch_6));
    let suite_1 = world.signed_anew(frame, &device, |c| c.suite = 1);
    let stolen = world.signed_anew(frame, &attacker, |_| {});

    let cases = vec![
        case(
            "announced",
            "of the site",
            "a key policy that the tags satisfy opens",
            vec![announced(&announcement), publish(TOPIC, &first.message)],
        ),
        case(
            "inline",
            "of the topic",
            "the topic is among what a key policy can ask for",
            vec![publish(TOPIC, &inline)],
        ),
        case(
            "outside, by a tag",
            "of another site",
            "tags that do not satisfy the key policy are told of",
            vec![announced(&announcement), publish(TOPIC, &first.message)],
        ),
        case(
            "outside, by the topic",
            "of another topic",
            "as is the topic",
            vec![publish(TOPIC, &inline)],
        ),
        case(
            "without a key policy",
            "technician",
            "attributes open nothing that is tagged",
            vec![publish(TOPIC, &inline)],
        ),
        case(
            "each topic its frame",
            "of the topic",
            "the frame of another topic is another one",
            vec![
                announced(&of_elsewhere),
                publish("plant/7/pressure", &elsewhere.message),
            ],
        ),
        case(
            "moved",
            "of the site",
            "a frame opens messages at its own topic only",
            vec![
                announced(&announcement),
                publish("plant/7/pressure", &first.message),
            ],
        ),
        case(
            "tags of another epoch",
            "of the site",
            "a set that states another epoch than the frame is refused",
            vec![announced_as(TOPIC, &other_epoch)],
        ),
        case(
            "a set under the suite of policies",
            "of the site",
            "suite and kind of access belong together",
            vec![announced_as(TOPIC, &suite_1)],
        ),
        case(
            "signed anew",
            "of the site",
            "whose frame it is, the confirmation says here, too",
            vec![announced_as(TOPIC, &stolen)],
        ),
        case(
            "of an epoch before",
            "of the site, renewed",
            "a policy key is of one epoch",
            vec![publish(TOPIC, &inline)],
        ),
    ];
    add(&mut reading, cases);
    reading
}
