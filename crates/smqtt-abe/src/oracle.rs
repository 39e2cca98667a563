//! The hash functions: each random oracle of the scheme and of the transform, with its domain.
//!
//! # Domains
//!
//! `P` = SHA-256 of the encoded public parameters. The parameters hold nothing that is hashed with
//! `P` (`Z` comes from α alone; `B` is derived, not stored), so there is no circle: set-up makes
//! `Z`, hence `P`, hence every oracle below. Two set-ups share no oracle.
//!
//! | oracle | definition |
//! |---|---|
//! | H: inputs → G1 | RFC 9380 `hash_to_curve`, domain tag = suite tag ‖ `_with_BLS12381G1_XMD:SHA-256_SSWU_RO_` ‖ P |
//! | context | SHA-256(len8(label) ‖ label ‖ P ‖ len64(access) ‖ access), access = encoded policy or attributes |
//! | coins | HKDF-SHA-256(salt = context, ikm = m, info = "coin" ‖ kind ‖ index32), 48 bytes each, reduced mod r |
//! | pad | HKDF-SHA-256(salt = context, ikm = encoded d, info = "pad") |
//! | key | HKDF-SHA-256(salt = context, ikm = m, info = "key" ‖ SHA-256(ciphertext)) |
//! | rejection | HKDF-SHA-256(salt = context, ikm = z, info = "reject" ‖ SHA-256(ciphertext)) |
//!
//! Inputs of H are prefix-free: one tag byte (0 reserved, 1 attribute), the length in four bytes,
//! the content. No attribute, however named, is a reserved input.

use std::sync::Arc;

use hkdf::Hkdf;
use sha2::{Digest, Sha256};
use smqtt_policy::Attribute;
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use crate::{
    SharedKey, Suite,
    cache::Cache,
    curve::{FixedBase, G1, Gt, Scalar, WIDE_BYTES},
};

/// Ends the suite's tag, as RFC 9380 §8.10 names suites.
const HASH_TO_CURVE: &str = "_with_BLS12381G1_XMD:SHA-256_SSWU_RO_";

/// First byte of an input that the scheme itself hashes.
const RESERVED: u8 = 0;
/// First byte of an input that stands for an attribute.
const ATTRIBUTE: u8 = 1;

/// Attributes a generation whose tables are remembered: 12 KiB each, hence 6 MiB at most.
const REMEMBERED: usize = 256;

/// Bytes of the message m that the transform encrypts, and of its mask.
pub(crate) const MESSAGE_BYTES: usize = 32;

/// Hash of encoded public parameters, 32 bytes.
pub(crate) type ParametersHash = [u8; 32];

/// The random oracles of one suite under one set of parameters.
pub(crate) struct Oracles {
    suite: Suite,
    parameters: ParametersHash,
    domain: Vec<u8>,
    attributes: Cache<Attribute, FixedBase<G1>>,
}

impl Oracles {
    pub(crate) fn new(suite: Suite, parameters: ParametersHash) -> Self {
        let mut domain = Vec::with_capacity(96);
        domain.extend_from_slice(suite.tag().as_bytes());
        domain.extend_from_slice(HASH_TO_CURVE.as_bytes());
        domain.extend_from_slice(&parameters);
        Self {
            suite,
            parameters,
            domain,
            attributes: Cache::new(REMEMBERED),
        }
    }

    /// B, the one reserved element of the ciphertext-policy scheme.
    pub(crate) fn b(&self) -> G1 {
        self.hash(RESERVED, b"B")
    }

    /// H(attribute), ready for exponentiations.
    pub(crate) fn attribute(&self, attribute: &Attribute) -> Arc<FixedBase<G1>> {
        self.attributes.get(attribute, || {
            FixedBase::new(&self.hash(ATTRIBUTE, &attribute.encode()).to_affine())
        })
    }

    fn hash(&self, tag: u8, content: &[u8]) -> G1 {
        let mut input = Vec::with_capacity(5 + content.len());
        input.push(tag);
        input.extend_from_slice(&length(content.len()).to_be_bytes()[4..]);
        input.extend_from_slice(content);
        G1::hash_to_curve(&input, &self.domain)
    }

    /// The oracles of the transform for one access structure, given by its canonical encoding.
    pub(crate) fn context(&self, access: &[u8]) -> Context {
        let label = [self.suite.tag().as_bytes(), b" context"].concat();
        let mut hash = Sha256::new();
        hash.update([u8::try_from(label.len()).expect("labels are short")]);
        hash.update(&label);
        hash.update(self.parameters);
        hash.update(length(access.len()).to_be_bytes());
        hash.update(access);
        Context {
            salt: hash.finalize().into(),
        }
    }
}

fn length(n: usize) -> u64 {
    u64::try_from(n).expect("a length fits in 64 bits")
}

/// The oracles that are bound to parameters and one access structure.
pub(crate) struct Context {
    salt: [u8; 32],
}

impl Context {
    /// The coins that encapsulating `message` takes.
    pub(crate) fn coins(&self, message: &[u8; MESSAGE_BYTES]) -> Coins {
        Coins(Hkdf::new(Some(&self.salt), message))
    }

    /// c = m XOR pad(d), and m = c XOR pad(d).
    pub(crate) fn mask(
        &self,
        message: &[u8; MESSAGE_BYTES],
        d: &Gt,
    ) -> Zeroizing<[u8; MESSAGE_BYTES]> {
        let ikm = d.to_bytes();
        let mut out = self.derive(&ikm[..], &[b"pad"]);
        for (o, m) in out.iter_mut().zip(message) {
            *o ^= m;
        }
        out
    }

    /// What decapsulation returns once it has recovered `d`: it makes the group elements again with
    /// `again`, and takes the rejection key, without telling, where others come out.
    ///
    /// The masked message need not be made again. Equal elements are those of an honest
    /// encapsulation of `message`, from which every key that opens them recovers the very Z^s that
    /// the mask was made of: so `d` is Z^s, and `message` came from the mask by way of `d`.
    pub(crate) fn conclude(
        &self,
        ciphertext: &[u8],
        d: &Gt,
        rejection: &[u8; 32],
        again: impl FnOnce(&Coins) -> Vec<u8>,
    ) -> SharedKey {
        let (elements, masked) = ciphertext
            .split_last_chunk::<MESSAGE_BYTES>()
            .expect("its length was checked");
        let message = self.mask(masked, d);
        let repeated = Zeroizing::new(again(&self.coins(&message)));
        let genuine = repeated[..].ct_eq(elements);
        SharedKey::select(
            &self.rejection(rejection, ciphertext),
            &self.key(&message, ciphertext),
            genuine,
        )
    }

    /// The key that `message` and its ciphertext agree on.
    pub(crate) fn key(&self, message: &[u8; MESSAGE_BYTES], ciphertext: &[u8]) -> SharedKey {
        let transcript = Sha256::digest(ciphertext);
        SharedKey::new(*self.derive(message, &[b"key", &transcript]))
    }

    /// The key that stands in for one that is not there.
    fn rejection(&self, secret: &[u8; 32], ciphertext: &[u8]) -> SharedKey {
        let transcript = Sha256::digest(ciphertext);
        SharedKey::new(*self.derive(secret, &[b"reject", &transcript]))
    }

    fn derive(&self, ikm: &[u8], info: &[&[u8]]) -> Zeroizing<[u8; 32]> {
        let mut out = Zeroizing::new([0u8; 32]);
        Hkdf::<Sha256>::new(Some(&self.salt), ikm)
            .expand_multi_info(info, &mut *out)
            .expect("32 bytes are within HKDF's limit");
        out
    }
}

/// What a scalar is for; one byte in its derivation.
#[derive(Clone, Copy)]
#[repr(u8)]
pub(crate) enum Coin {
    /// s.
    Secret = b's',
    /// s'_j, from j = 1.
    Occurrence = b't',
    /// v_j, from j = 1.
    Share = b'v',
}

/// Deterministic randomness of one encapsulation.
pub(crate) struct Coins(Hkdf<Sha256>);

impl Coins {
    /// s.
    pub(crate) fn secret(&self) -> Scalar {
        self.scalar(Coin::Secret, 0)
    }

    /// The scalar of this kind and number.
    pub(crate) fn scalar(&self, coin: Coin, index: usize) -> Scalar {
        let index = u32::try_from(index).expect("rows are bounded");
        let mut wide = Zeroizing::new([0u8; WIDE_BYTES]);
        self.0
            .expand_multi_info(&[b"coin", &[coin as u8], &index.to_be_bytes()], &mut *wide)
            .expect("48 bytes are within HKDF's limit");
        Scalar::from_wide(&wide)
    }
}
