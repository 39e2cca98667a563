//! What a key frame says: the map that its signature covers.

use crate::Error;
use crate::announce::MAX_TOPIC_LEN;
use crate::cbor::{Reader, write};

/// The version of the format that this crate writes and reads.
pub const VERSION: u64 = 1;

/// Length in bytes of a key frame's confirmation.
pub const CONFIRMATION_LEN: usize = 16;

/// The longest policy text or attribute set, in bytes.
const MAX_ACCESS_LEN: usize = 16 * 1024;

/// The longest ABE ciphertext, in bytes.
const MAX_CIPHERTEXT_LEN: usize = 64 * 1024;

mod key {
    pub(super) const VERSION: u64 = 1;
    pub(super) const SUITE: u64 = 2;
    pub(super) const POLICY: u64 = 3;
    pub(super) const ATTRIBUTES: u64 = 4;
    pub(super) const EPOCH: u64 = 5;
    pub(super) const CIPHERTEXT: u64 = 6;
    pub(super) const CREATED: u64 = 7;
    pub(super) const LIFETIME: u64 = 8;
    pub(super) const CONFIRMATION: u64 = 9;
    pub(super) const TOPIC: u64 = 10;
    pub(super) const RULES: u64 = 11;
}

/// Who may open: stated by a policy (the frame carries a policy, readers carry attributes) or by attributes (the frame
/// carries attributes, readers carry a policy).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access<'a> {
    /// Ciphertext-policy: the policy's canonical text, map key 3.
    Policy(&'a str),
    /// Key-policy: the attribute set's canonical encoding, map key 4.
    Attributes(&'a [u8]),
}

/// What holds for every message under a key frame.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MessageRules {
    /// Each message carries its own signature by the device that signed the frame.
    pub signed: bool,
    /// Each payload is padded.
    pub padded: bool,
}

impl MessageRules {
    fn bits(self) -> u8 {
        u8::from(self.signed) | u8::from(self.padded) << 1
    }

    fn of_bits(bits: u8) -> Option<Self> {
        (1..=3).contains(&bits).then_some(Self {
            signed: bits & 1 != 0,
            padded: bits & 2 != 0,
        })
    }
}

/// What a key frame says. Everything in it is public, and covered by the publisher's signature.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyFrameContent<'a> {
    /// Id of the ABE suite, map key 2.
    pub suite: u8,
    /// Who may open, map key 3 or 4.
    pub access: Access<'a>,
    /// The epoch for which a reader's attribute key must have been issued, map key 5.
    pub epoch: u64,
    /// The ABE ciphertext that encapsulates the frame's key, map key 6.
    pub ciphertext: &'a [u8],
    /// When the frame was made, in seconds since 1970-01-01T00:00:00Z, map key 7.
    pub created: u64,
    /// For how many seconds after `created` the publisher may seal under it, map key 8. Never 0.
    pub lifetime: u32,
    /// Shows to who holds the encapsulated key that the signer of the frame held it too, map key 9.
    pub confirmation: &'a [u8; CONFIRMATION_LEN],
    /// The topic for which the frame was first made, map key 10. A frame may serve further topics; a reader that can not open
    /// a message at the topic where it arrived tries this one, to tell a moved message from an altered one.
    pub topic: &'a str,
    /// What holds for every message under it, map key 11; left out where nothing does.
    pub rules: MessageRules,
}

impl<'a> KeyFrameContent<'a> {
    /// The map as deterministic CBOR.
    ///
    /// # Errors
    ///
    /// [`Error::Empty`] and [`Error::TooLong`] for a field that [`parse`](Self::parse) would refuse.
    pub fn encode(&self) -> Result<Vec<u8>, Error> {
        self.check()?;
        let mut out = Vec::with_capacity(96 + self.access_len() + self.ciphertext.len());
        write(&mut out, |e| {
            let rules = self.rules.bits();
            e.map(9 + u64::from(rules != 0))?;
            e.u64(key::VERSION)?.u64(VERSION)?;
            e.u64(key::SUITE)?.u8(self.suite)?;
            match self.access {
                Access::Policy(policy) => e.u64(key::POLICY)?.str(policy)?,
                Access::Attributes(attributes) => e.u64(key::ATTRIBUTES)?.bytes(attributes)?,
            };
            e.u64(key::EPOCH)?.u64(self.epoch)?;
            e.u64(key::CIPHERTEXT)?.bytes(self.ciphertext)?;
            e.u64(key::CREATED)?.u64(self.created)?;
            e.u64(key::LIFETIME)?.u32(self.lifetime)?;
            e.u64(key::CONFIRMATION)?.bytes(self.confirmation)?;
            e.u64(key::TOPIC)?.str(self.topic)?;
            if rules != 0 {
                e.u64(key::RULES)?.u8(rules)?;
            }
            e.ok()
        });
        Ok(out)
    }

    /// Reads the map.
    ///
    /// # Errors
    ///
    /// [`Error::UnsupportedVersion`] before any other field is looked at; else [`Error`] with the first field that is not as
    /// `docs/envelope.md` has it.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, Error> {
        const LABEL: &str = "key frame's map key";
        let mut reader = Reader::new(bytes);
        let offset = reader.position();
        let entries = reader.map("key frame's content")?;
        reader.expect(key::VERSION, LABEL)?;
        match reader.unsigned("format version")? {
            VERSION => {}
            other => return Err(Error::UnsupportedVersion(other)),
        }
        if !matches!(entries, 9 | 10) {
            return Err(Error::Unexpected {
                part: "key frame's content",
                offset,
            });
        }
        reader.expect(key::SUITE, LABEL)?;
        let suite = narrow(&mut reader, "suite")?;
        let offset = reader.position();
        let access = match reader.unsigned(LABEL)? {
            key::POLICY => Access::Policy(reader.text("policy")?),
            key::ATTRIBUTES => Access::Attributes(reader.bytes("attributes")?),
            _ => {
                return Err(Error::Unexpected {
                    part: LABEL,
                    offset,
                });
            }
        };
        reader.expect(key::EPOCH, LABEL)?;
        let epoch = reader.unsigned("epoch")?;
        reader.expect(key::CIPHERTEXT, LABEL)?;
        let ciphertext = reader.bytes("abe ciphertext")?;
        reader.expect(key::CREATED, LABEL)?;
        let created = reader.unsigned("time of creation")?;
        reader.expect(key::LIFETIME, LABEL)?;
        let lifetime = narrow(&mut reader, "lifetime")?;
        reader.expect(key::CONFIRMATION, LABEL)?;
        let confirmation = reader.bytes_of("confirmation")?;
        reader.expect(key::TOPIC, LABEL)?;
        let topic = reader.text("topic")?;
        let rules = if entries == 10 {
            reader.expect(key::RULES, LABEL)?;
            let part = "rules for messages";
            let offset = reader.position();
            MessageRules::of_bits(narrow(&mut reader, part)?)
                .ok_or(Error::Unexpected { part, offset })?
        } else {
            MessageRules::default()
        };
        reader.end("key frame's content")?;
        let content = Self {
            suite,
            access,
            epoch,
            ciphertext,
            created,
            lifetime,
            confirmation,
            topic,
            rules,
        };
        content.check()?;
        Ok(content)
    }

    /// The second until which the publisher may seal under the frame, exclusive; saturates.
    #[must_use]
    pub fn ends(&self) -> u64 {
        self.created.saturating_add(u64::from(self.lifetime))
    }

    fn access_len(&self) -> usize {
        match self.access {
            Access::Policy(policy) => policy.len(),
            Access::Attributes(attributes) => attributes.len(),
        }
    }

    fn check(&self) -> Result<(), Error> {
        let bounded = |part, length, limit| match length {
            0 => Err(Error::Empty { part }),
            length if length > limit => Err(Error::TooLong {
                part,
                length,
                limit,
            }),
            _ => Ok(()),
        };
        bounded(
            match self.access {
                Access::Policy(_) => "policy",
                Access::Attributes(_) => "attributes",
            },
            self.access_len(),
            MAX_ACCESS_LEN,
        )?;
        bounded("abe ciphertext", self.ciphertext.len(), MAX_CIPHERTEXT_LEN)?;
        bounded("lifetime", self.lifetime as usize, u32::MAX as usize)?;
        bounded("topic", self.topic.len(), MAX_TOPIC_LEN)
    }
}

/// An unsigned integer of a narrower type.
fn narrow<T: TryFrom<u64>>(reader: &mut Reader<'_>, part: &'static str) -> Result<T, Error> {
    let offset = reader.position();
    reader
        .unsigned(part)?
        .try_into()
        .map_err(|_| Error::Unexpected { part, offset })
}
