//! Key frames: one per publisher, policy and key period, signed by the publisher's device key.

use crate::cbor::{Reader, write};
use crate::{Error, KEY_FRAME_CONTENT_TYPE, KeyFrameContent, KeyId, frame_digest, sig_structure};

/// COSE tag of `COSE_Sign1`.
pub(crate) const TAG: u64 = 18;
/// Header label: algorithm.
const ALG: u64 = 1;
/// Header label: content type.
const CONTENT_TYPE: u64 = 3;
/// Header label: certificate chain (RFC 9360).
const X5CHAIN: u64 = 33;

/// How a key frame is signed. Every algorithm of version 1 makes signatures of 64 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SignatureAlgorithm {
    /// ECDSA with P-256 and SHA-256, r ‖ s (RFC 9053 §2.1), COSE algorithm −7.
    Es256,
}

impl SignatureAlgorithm {
    fn id(self) -> i64 {
        match self {
            Self::Es256 => -7,
        }
    }

    fn from_id(id: i64) -> Result<Self, Error> {
        match id {
            -7 => Ok(Self::Es256),
            other => Err(Error::UnsupportedAlgorithm(other)),
        }
    }
}

/// A key frame as it stands on the wire: `COSE_Sign1` over a [`KeyFrameContent`], with the signer's certificates.
///
/// Parsed does not mean true: the certificates and the signature are the caller's to verify, over
/// [`to_be_signed`](Self::to_be_signed).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyFrame<'a> {
    bytes: &'a [u8],
    protected: &'a [u8],
    payload: &'a [u8],
    signature: &'a [u8; KeyFrame::SIGNATURE_LEN],
    algorithm: SignatureAlgorithm,
    chain: Chain<'a>,
    content: KeyFrameContent<'a>,
}

impl<'a> KeyFrame<'a> {
    /// Length in bytes of the signature.
    pub const SIGNATURE_LEN: usize = 64;
    /// The longest chain, in certificates, the signer's own included and the root left out.
    pub const MAX_CHAIN: usize = 4;
    /// The longest certificate, in bytes of DER.
    pub const MAX_CERTIFICATE_LEN: usize = 8 * 1024;
    /// The longest frame, in bytes.
    pub const MAX_LEN: usize = 192 * 1024;

    /// Reads a key frame that fills `bytes`.
    ///
    /// # Errors
    ///
    /// [`Error`] with the first field that is not as `docs/envelope.md` has it.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, Error> {
        let (frame, rest) = Self::split(bytes)?;
        match rest.len() {
            0 => Ok(frame),
            count => Err(Error::TrailingBytes {
                part: "key frame",
                offset: frame.bytes.len(),
                count,
            }),
        }
    }

    /// Reads a key frame at the start of `bytes`; what follows it is the second result.
    ///
    /// # Errors
    ///
    /// As [`parse`](Self::parse), but for what follows.
    pub fn split(bytes: &'a [u8]) -> Result<(Self, &'a [u8]), Error> {
        let mut reader = Reader::new(bytes);
        reader.tag(TAG, "key frame's tag")?;
        reader.array_of(4, "COSE_Sign1")?;
        let protected = reader.bytes("key frame's protected header")?;
        reader.map_of(0, "key frame's unprotected header")?;
        let payload = reader.bytes("key frame's content")?;
        let signature = reader.bytes_of("signature")?;
        let rest = reader.rest();
        let length = reader.position();
        if length > Self::MAX_LEN {
            return Err(Error::TooLong {
                part: "key frame",
                length,
                limit: Self::MAX_LEN,
            });
        }
        let (algorithm, chain) = parse_protected(protected, KEY_FRAME_CONTENT_TYPE)?;
        let content = KeyFrameContent::parse(payload)?;
        let frame = Self {
            bytes: &bytes[..length],
            protected,
            payload,
            signature,
            algorithm,
            chain,
            content,
        };
        Ok((frame, rest))
    }

    /// The frame's own bytes, tag included.
    #[must_use]
    pub fn as_bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// SHA-256 over [`as_bytes`](Self::as_bytes): the salt of the content keys; its first 8 bytes are the key id. Computed at
    /// each call.
    #[must_use]
    pub fn digest(&self) -> [u8; 32] {
        frame_digest(self.bytes)
    }

    /// The frame's name. Computed at each call.
    #[must_use]
    pub fn kid(&self) -> KeyId {
        KeyId::of(self.bytes)
    }

    /// What it says.
    #[must_use]
    pub fn content(&self) -> &KeyFrameContent<'a> {
        &self.content
    }

    /// The certificates in DER, the signer's own first, the root left out; 1 to [`MAX_CHAIN`](Self::MAX_CHAIN).
    #[must_use]
    pub fn certificates(&self) -> &[&'a [u8]] {
        self.chain.as_slice()
    }

    /// How it is signed.
    #[must_use]
    pub fn algorithm(&self) -> SignatureAlgorithm {
        self.algorithm
    }

    /// The signature over [`to_be_signed`](Self::to_be_signed).
    #[must_use]
    pub fn signature(&self) -> &'a [u8; KeyFrame::SIGNATURE_LEN] {
        self.signature
    }

    /// The `Sig_structure` that the signature covers.
    #[must_use]
    pub fn to_be_signed(&self) -> Vec<u8> {
        sig_structure(self.protected, self.payload)
    }
}

/// A key frame that is whole but for its signature.
pub struct UnsignedKeyFrame {
    protected: Vec<u8>,
    payload: Vec<u8>,
}

impl UnsignedKeyFrame {
    /// A frame that says `content`, to be signed with `algorithm` by the holder of the first certificate in `chain` (DER, the
    /// signer's own first, the root left out).
    ///
    /// # Errors
    ///
    /// [`Error::Empty`] and [`Error::TooLong`] for fields that a reader would refuse.
    pub fn new(
        algorithm: SignatureAlgorithm,
        chain: &[&[u8]],
        content: &KeyFrameContent<'_>,
    ) -> Result<Self, Error> {
        let payload = content.encode()?;
        let protected = write_protected(algorithm, chain, KEY_FRAME_CONTENT_TYPE)?;
        Ok(Self { protected, payload })
    }

    /// The `Sig_structure` to sign.
    #[must_use]
    pub fn to_be_signed(&self) -> Vec<u8> {
        sig_structure(&self.protected, &self.payload)
    }

    /// The frame's bytes with this signature.
    ///
    /// # Errors
    ///
    /// [`Error::TooLong`] if the frame exceeds [`KeyFrame::MAX_LEN`].
    pub fn finish(self, signature: &[u8; KeyFrame::SIGNATURE_LEN]) -> Result<Vec<u8>, Error> {
        let mut out = Vec::with_capacity(16 + self.protected.len() + self.payload.len() + 66);
        write(&mut out, |e| {
            e.tag(minicbor::data::Tag::new(TAG))?
                .array(4)?
                .bytes(&self.protected)?
                .map(0)?
                .bytes(&self.payload)?
                .bytes(signature)?
                .ok()
        });
        match out.len() {
            length if length > KeyFrame::MAX_LEN => Err(Error::TooLong {
                part: "key frame",
                length,
                limit: KeyFrame::MAX_LEN,
            }),
            _ => Ok(out),
        }
    }
}

/// The protected header of an object of this content type, signed by the holder of the first certificate.
pub(crate) fn write_protected(
    algorithm: SignatureAlgorithm,
    chain: &[&[u8]],
    content_type: &str,
) -> Result<Vec<u8>, Error> {
    let mut checked = Chain::EMPTY;
    for certificate in chain {
        checked.push(certificate, chain.len())?;
    }
    let mut protected = Vec::with_capacity(64 + chain.iter().map(|c| c.len() + 3).sum::<usize>());
    match chain {
        [] => {
            return Err(Error::Empty {
                part: "certificate chain",
            });
        }
        // RFC 9360 §2: one certificate is a byte string, several are an array.
        [only] => write(&mut protected, |e| {
            write_protected_start(e, algorithm, content_type)?
                .bytes(only)?
                .ok()
        }),
        several => write(&mut protected, |e| {
            write_protected_start(e, algorithm, content_type)?.array(several.len() as u64)?;
            several.iter().try_for_each(|c| e.bytes(c)?.ok())
        }),
    }
    Ok(protected)
}

type VecEncoder<'a> = minicbor::Encoder<&'a mut Vec<u8>>;

fn write_protected_start<'e, 'a>(
    e: &'e mut VecEncoder<'a>,
    algorithm: SignatureAlgorithm,
    content_type: &str,
) -> Result<&'e mut VecEncoder<'a>, minicbor::encode::Error<std::convert::Infallible>> {
    e.map(3)?
        .u64(ALG)?
        .i64(algorithm.id())?
        .u64(CONTENT_TYPE)?
        .str(content_type)?
        .u64(X5CHAIN)
}

pub(crate) fn parse_protected<'a>(
    bytes: &'a [u8],
    content_type: &str,
) -> Result<(SignatureAlgorithm, Chain<'a>), Error> {
    const LABEL: &str = "protected header's label";
    let mut reader = Reader::new(bytes);
    reader.map_of(3, "protected header")?;
    reader.expect(ALG, LABEL)?;
    let algorithm = SignatureAlgorithm::from_id(reader.integer("signature algorithm")?)?;
    reader.expect(CONTENT_TYPE, LABEL)?;
    let offset = reader.position();
    if reader.text("content type")? != content_type {
        return Err(Error::Unexpected {
            part: "content type",
            offset,
        });
    }
    reader.expect(X5CHAIN, LABEL)?;
    let mut chain = Chain::EMPTY;
    if reader.next_is_array() {
        let offset = reader.position();
        let length = reader.array("certificate chain")?;
        if length < 2 {
            return Err(Error::Unexpected {
                part: "certificate chain",
                offset,
            });
        }
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        for _ in 0..length {
            chain.push(reader.bytes("certificate")?, length)?;
        }
    } else {
        chain.push(reader.bytes("certificate")?, 1)?;
    }
    reader.end("protected header")?;
    Ok((algorithm, chain))
}

/// Certificates without an allocation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Chain<'a> {
    certificates: [&'a [u8]; KeyFrame::MAX_CHAIN],
    length: usize,
}

impl<'a> Chain<'a> {
    const EMPTY: Self = Self {
        certificates: [&[]; KeyFrame::MAX_CHAIN],
        length: 0,
    };

    /// Adds one of `announced` certificates.
    fn push(&mut self, certificate: &'a [u8], announced: usize) -> Result<(), Error> {
        if certificate.is_empty() {
            return Err(Error::Empty {
                part: "certificate",
            });
        }
        if certificate.len() > KeyFrame::MAX_CERTIFICATE_LEN {
            return Err(Error::TooLong {
                part: "certificate",
                length: certificate.len(),
                limit: KeyFrame::MAX_CERTIFICATE_LEN,
            });
        }
        let slot = self
            .certificates
            .get_mut(self.length)
            .ok_or(Error::TooLong {
                part: "certificate chain",
                length: announced,
                limit: KeyFrame::MAX_CHAIN,
            })?;
        *slot = certificate;
        self.length += 1;
        Ok(())
    }

    pub(crate) fn as_slice(&self) -> &[&'a [u8]] {
        &self.certificates[..self.length]
    }
}
