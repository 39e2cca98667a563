//! The authority's state: what every device has to know of it, signed, as it is retained at [`STATE_TOPIC`].

use crate::cbor::{Reader, write};
use crate::frame::{Chain, TAG, parse_protected, write_protected};
use crate::{Error, KeyFrame, SignatureAlgorithm, sig_structure};

/// Where the state is retained.
pub const STATE_TOPIC: &str = "smqtt/authority/state";
/// The content type in the header of a state.
pub const STATE_CONTENT_TYPE: &str = "application/smqtt-state+cbor";

const VERSION: u64 = 1;

/// From when publishers seal for an epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sealing {
    /// The epoch.
    pub epoch: u64,
    /// From this second on, since 1970.
    pub from: u64,
}

/// What a state says. Times are seconds since 1970.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuthorityState {
    /// Grows with every state of an authority: a state with a smaller one is an older one.
    pub sequence: u64,
    /// When it was made.
    pub issued: u64,
    /// When the next one comes at the latest.
    pub next_update: u64,
    /// The newest epoch, for which attribute keys are issued.
    pub epoch: u64,
    /// From when publishers seal for which epoch: 1 to [`MAX_SEALING`](Self::MAX_SEALING), epochs ascending, the last is
    /// [`epoch`](Self::epoch).
    pub sealing: Vec<Sealing>,
    /// The number of the newest revocation list, 0 if there is none.
    pub crl_number: u64,
    /// SHA-256 of the ABE public parameters.
    pub parameters: [u8; 32],
}

impl AuthorityState {
    /// The most entries of [`sealing`](Self::sealing).
    pub const MAX_SEALING: usize = 16;
    /// The longest signed state, in bytes.
    pub const MAX_LEN: usize = 40 * 1024;

    /// The epoch that publishers seal for at the second `now`: the highest whose time has come, else the lowest that is
    /// known.
    #[must_use]
    pub fn sealing_epoch(&self, now: u64) -> u64 {
        sealing_epoch(&self.sealing, now).unwrap_or(self.epoch)
    }

    fn encode(&self) -> Result<Vec<u8>, Error> {
        check_sealing(&self.sealing, self.epoch, 0)?;
        let mut out = Vec::with_capacity(160);
        write(&mut out, |e| {
            e.map(8)?.u64(1)?.u64(VERSION)?;
            e.u64(2)?.u64(self.sequence)?.u64(3)?.u64(self.issued)?;
            e.u64(4)?.u64(self.next_update)?.u64(5)?.u64(self.epoch)?;
            e.u64(6)?.array(self.sealing.len() as u64)?;
            for sealing in &self.sealing {
                e.array(2)?.u64(sealing.epoch)?.u64(sealing.from)?;
            }
            e.u64(7)?.u64(self.crl_number)?;
            e.u64(8)?.bytes(&self.parameters)?.ok()
        });
        Ok(out)
    }

    fn parse(bytes: &[u8]) -> Result<Self, Error> {
        const LABEL: &str = "state's label";
        let mut reader = Reader::new(bytes);
        reader.map_of(8, "state's content")?;
        reader.expect(1, LABEL)?;
        match reader.unsigned("state's version")? {
            VERSION => {}
            other => return Err(Error::UnsupportedVersion(other)),
        }
        reader.expect(2, LABEL)?;
        let sequence = reader.unsigned("sequence number")?;
        reader.expect(3, LABEL)?;
        let issued = reader.unsigned("time of issue")?;
        reader.expect(4, LABEL)?;
        let next_update = reader.unsigned("time of the next state")?;
        reader.expect(5, LABEL)?;
        let epoch = reader.unsigned("epoch")?;
        reader.expect(6, LABEL)?;
        let offset = reader.position();
        let count = reader.array("sealing epochs")?;
        let count = usize::try_from(count).unwrap_or(usize::MAX);
        if count > Self::MAX_SEALING {
            return Err(too_many(count));
        }
        let mut sealing = Vec::with_capacity(count);
        for _ in 0..count {
            reader.array_of(2, "sealing epoch")?;
            let epoch = reader.unsigned("sealing epoch")?;
            let from = reader.unsigned("sealing epoch's time")?;
            sealing.push(Sealing { epoch, from });
        }
        check_sealing(&sealing, epoch, offset)?;
        reader.expect(7, LABEL)?;
        let crl_number = reader.unsigned("revocation list's number")?;
        reader.expect(8, LABEL)?;
        let parameters = *reader.bytes_of("parameters' digest")?;
        reader.end("state's content")?;
        Ok(Self {
            sequence,
            issued,
            next_update,
            epoch,
            sealing,
            crl_number,
            parameters,
        })
    }
}

/// The epoch that publishers seal for at the second `now`, by a table in ascending order of epochs: the highest whose time
/// has come, else the lowest; `None` if the table is empty.
#[must_use]
pub fn sealing_epoch(table: &[Sealing], now: u64) -> Option<u64> {
    let come = table.iter().rev().find(|sealing| sealing.from <= now);
    come.or(table.first()).map(|sealing| sealing.epoch)
}

fn too_many(length: usize) -> Error {
    Error::TooLong {
        part: "sealing epochs",
        length,
        limit: AuthorityState::MAX_SEALING,
    }
}

fn check_sealing(sealing: &[Sealing], newest: u64, offset: usize) -> Result<(), Error> {
    if sealing.len() > AuthorityState::MAX_SEALING {
        return Err(too_many(sealing.len()));
    }
    let ascending = sealing
        .windows(2)
        .all(|pair| matches!(pair, [a, b] if a.epoch < b.epoch));
    if ascending && sealing.last().is_some_and(|last| last.epoch == newest) {
        Ok(())
    } else {
        Err(Error::Unexpected {
            part: "sealing epochs",
            offset,
        })
    }
}

/// A state as it is published: `COSE_Sign1` over an [`AuthorityState`], with the signer's certificates.
///
/// Parsed does not mean true: see [`to_be_signed`](Self::to_be_signed).
#[derive(Clone, Debug)]
pub struct SignedState<'a> {
    protected: &'a [u8],
    payload: &'a [u8],
    signature: &'a [u8; KeyFrame::SIGNATURE_LEN],
    chain: Chain<'a>,
    content: AuthorityState,
}

impl<'a> SignedState<'a> {
    /// Reads a state that fills `bytes`.
    ///
    /// # Errors
    ///
    /// [`Error`] with the first field that is not as `docs/envelope.md` has it.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, Error> {
        if bytes.len() > AuthorityState::MAX_LEN {
            return Err(Error::TooLong {
                part: "state",
                length: bytes.len(),
                limit: AuthorityState::MAX_LEN,
            });
        }
        let mut reader = Reader::new(bytes);
        reader.tag(TAG, "state's tag")?;
        reader.array_of(4, "COSE_Sign1")?;
        let protected = reader.bytes("state's protected header")?;
        reader.map_of(0, "state's unprotected header")?;
        let payload = reader.bytes("state's content")?;
        let signature = reader.bytes_of("signature")?;
        reader.end("state")?;
        let (_, chain) = parse_protected(protected, STATE_CONTENT_TYPE)?;
        Ok(Self {
            content: AuthorityState::parse(payload)?,
            protected,
            payload,
            signature,
            chain,
        })
    }

    /// What it says.
    #[must_use]
    pub fn content(&self) -> &AuthorityState {
        &self.content
    }

    /// The certificates in DER, the signer's own first, the root left out.
    #[must_use]
    pub fn certificates(&self) -> &[&'a [u8]] {
        self.chain.as_slice()
    }

    /// The signature over [`to_be_signed`](Self::to_be_signed): ES256, r ‖ s.
    #[must_use]
    pub fn signature(&self) -> &'a [u8; KeyFrame::SIGNATURE_LEN] {
        self.signature
    }

    /// The `Sig_structure` that the signature covers.
    #[must_use]
    pub fn to_be_signed(&self) -> Vec<u8> {
        sig_structure(self.protected, self.payload)
    }

    /// A state's bytes. `sign` makes the signature (ES256, r ‖ s) over what it is given, with the key of the first
    /// certificate in `chain`.
    ///
    /// # Errors
    ///
    /// [`Error::Unexpected`], [`Error::Empty`] and [`Error::TooLong`] for fields that a reader would refuse.
    pub fn write(
        content: &AuthorityState,
        chain: &[&[u8]],
        sign: impl FnOnce(&[u8]) -> [u8; KeyFrame::SIGNATURE_LEN],
    ) -> Result<Vec<u8>, Error> {
        let protected = write_protected(SignatureAlgorithm::Es256, chain, STATE_CONTENT_TYPE)?;
        let payload = content.encode()?;
        let signature = sign(&sig_structure(&protected, &payload));
        let mut out = Vec::with_capacity(protected.len() + payload.len() + 96);
        write(&mut out, |e| {
            e.tag(minicbor::data::Tag::new(TAG))?
                .array(4)?
                .bytes(&protected)?
                .map(0)?
                .bytes(&payload)?
                .bytes(&signature)?
                .ok()
        });
        Ok(out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state() -> AuthorityState {
        let sealing = [(4, 0), (5, 1_790_086_400)].map(|(epoch, from)| Sealing { epoch, from });
        AuthorityState {
            sequence: 300,
            issued: 1_790_000_000,
            next_update: 1_790_604_800,
            epoch: 5,
            sealing: sealing.into(),
            crl_number: 7,
            parameters: [9; 32],
        }
    }

    fn written() -> Vec<u8> {
        SignedState::write(&state(), &[b"certificate"], |_| [3; 64]).expect("it can be written")
    }

    #[test]
    fn what_is_written_is_read_back_and_has_no_other_reading() {
        let bytes = written();
        let read = SignedState::parse(&bytes).expect("a state");
        assert_eq!(read.content(), &state());
        assert_eq!(read.certificates(), [b"certificate"]);
        for length in 0..bytes.len() {
            assert!(SignedState::parse(&bytes[..length]).is_err(), "{length}");
        }
        let mut longer = bytes.clone();
        longer.push(0);
        assert!(SignedState::parse(&longer).is_err());
        // A changed byte is refused, or is another content, another certificate or another signature.
        for place in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[place] ^= 1;
            if let Ok(other) = SignedState::parse(&changed) {
                let same = other.to_be_signed() == read.to_be_signed()
                    && other.signature() == read.signature();
                assert!(!same, "byte {place} counts for nothing");
            }
        }
    }

    #[test]
    fn a_key_frame_is_no_state() {
        let protected = write_protected(SignatureAlgorithm::Es256, &[b"c"], "other").expect("fits");
        assert!(parse_protected(&protected, STATE_CONTENT_TYPE).is_err());
    }

    #[test]
    fn publishers_go_on_when_an_epochs_time_has_come() {
        let state = state();
        assert_eq!(state.sealing_epoch(0), 4);
        assert_eq!(state.sealing_epoch(1_790_086_399), 4);
        assert_eq!(state.sealing_epoch(1_790_086_400), 5);
        // A revocation overtakes a rotation whose window is not over.
        let table = [(4, 0), (5, 900), (6, 100)].map(|(epoch, from)| Sealing { epoch, from });
        assert_eq!(sealing_epoch(&table, 99), Some(4));
        assert_eq!(sealing_epoch(&table, 100), Some(6));
        assert_eq!(sealing_epoch(&table, 900), Some(6));
    }

    #[test]
    fn epochs_ascend_to_the_newest() {
        for bad in [
            vec![],
            vec![(5, 0), (4, 0)],
            vec![(5, 0), (5, 0)],
            vec![(4, 0)],
        ] {
            let mut state = state();
            state.sealing = bad
                .into_iter()
                .map(|(epoch, from)| Sealing { epoch, from })
                .collect();
            assert!(SignedState::write(&state, &[b"c"], |_| [0; 64]).is_err());
        }
    }
}
