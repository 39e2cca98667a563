//! What both schemes set up alike: the master secret g1^α, and Z = e(g1,g2)^α.

use std::sync::LazyLock;

use hkdf::Hkdf;
use rand::CryptoRng;
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use crate::{
    Error, Suite,
    curve::{FixedBase, G1, G1Affine, G2, GT_BYTES, Gt, Scalar, WIDE_BYTES, pairing},
    encoding,
    oracle::{Oracles, ParametersHash},
};

const PARAMETERS: &str = "public parameters";
pub(crate) const MASTER_KEY: &str = "master key";

static G1_TABLE: LazyLock<FixedBase<G1>> =
    LazyLock::new(|| FixedBase::new(&G1::generator().to_affine()));

static G2_TABLE: LazyLock<FixedBase<G2>> =
    LazyLock::new(|| FixedBase::new(&G2::generator().to_affine()));

/// The table of g1.
pub(crate) fn g1() -> &'static FixedBase<G1> {
    &G1_TABLE
}

/// The table of g2.
pub(crate) fn g2() -> &'static FixedBase<G2> {
    &G2_TABLE
}

/// The public half of a set-up: Z, its hash, and the oracles that the hash selects.
pub(crate) struct Public {
    suite: Suite,
    z: Gt,
    z_table: FixedBase<Gt>,
    hash: ParametersHash,
    oracles: Oracles,
}

impl Public {
    pub(crate) fn new(suite: Suite, z: Gt) -> Self {
        let hash = hash_of(suite, &z);
        Self {
            suite,
            z,
            z_table: FixedBase::new(&z),
            hash,
            oracles: Oracles::new(suite, hash),
        }
    }

    pub(crate) fn hash(&self) -> ParametersHash {
        self.hash
    }

    pub(crate) fn oracles(&self) -> &Oracles {
        &self.oracles
    }

    /// Z^x.
    pub(crate) fn z_pow(&self, x: &Scalar) -> Gt {
        self.z_table.pow(x)
    }

    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        encode(self.suite, &self.z).to_vec()
    }

    /// Refuses anything but the canonical encoding of a Z in the group that is not neutral.
    pub(crate) fn from_bytes(suite: Suite, bytes: &[u8]) -> Result<Self, Error> {
        let [z] = encoding::read(PARAMETERS, suite, bytes)?;
        let z: &[u8; GT_BYTES] = encoding::fixed(PARAMETERS, z, "Z is not 576 bytes")?;
        let z = Gt::from_bytes(z).map_err(|reason| Error::BadPoint {
            object: PARAMETERS,
            element: "Z",
            reason,
        })?;
        Ok(Self::new(suite, z))
    }
}

fn encode(suite: Suite, z: &Gt) -> Zeroizing<Vec<u8>> {
    encoding::write(suite, &[&z.to_bytes()[..]])
}

/// P: SHA-256 of the encoding that holds `z`.
fn hash_of(suite: Suite, z: &Gt) -> ParametersHash {
    Sha256::digest(&*encode(suite, z)).into()
}

/// The secret half of a set-up: g1^α. Nobody needs α itself after set-up, so nobody keeps it.
pub(crate) struct Secret {
    suite: Suite,
    element: Zeroizing<G1>,
    parameters: ParametersHash,
}

impl Secret {
    pub(crate) fn random<R: CryptoRng + ?Sized>(suite: Suite, rng: &mut R) -> Self {
        Self::new(suite, &Scalar::random(rng))
    }

    /// Another suite's secret, which follows from this one and tells nothing of it:
    /// α = HKDF-SHA-256(salt = the other suite's tag ‖ `_MASTER`, ikm = encoded g1^α, info = P), 48 bytes
    /// reduced mod r.
    pub(crate) fn derive(&self, suite: Suite) -> Self {
        let element = Zeroizing::new(self.element.to_affine());
        let bytes = Zeroizing::new(element.to_bytes());
        let salt = [suite.tag().as_bytes(), b"_MASTER"].concat();
        let mut wide = Zeroizing::new([0; WIDE_BYTES]);
        Hkdf::<Sha256>::new(Some(&salt), &bytes[..])
            .expand(&self.parameters, &mut *wide)
            .expect("48 bytes are within HKDF's bound");
        Self::new(suite, &Scalar::from_wide(&wide))
    }

    fn new(suite: Suite, alpha: &Scalar) -> Self {
        let element = Zeroizing::new(g1().pow(alpha));
        let parameters = hash_of(suite, &z(&element));
        Self {
            suite,
            element,
            parameters,
        }
    }

    /// g1^α.
    pub(crate) fn element(&self) -> &G1 {
        &self.element
    }

    pub(crate) fn public(&self) -> Public {
        Public::new(self.suite, z(&self.element))
    }

    pub(crate) fn parameters_hash(&self) -> ParametersHash {
        self.parameters
    }

    /// Refuses parameters that are not this secret's.
    pub(crate) fn check(&self, parameters: &Public) -> Result<(), Error> {
        if self.parameters == parameters.hash() {
            Ok(())
        } else {
            Err(Error::WrongParameters { object: MASTER_KEY })
        }
    }

    pub(crate) fn to_bytes(&self) -> Zeroizing<Vec<u8>> {
        let element = Zeroizing::new(self.element.to_affine());
        let bytes = Zeroizing::new(element.to_bytes());
        encoding::write(self.suite, &[&self.parameters, &bytes[..]])
    }

    pub(crate) fn from_bytes(suite: Suite, bytes: &[u8]) -> Result<Self, Error> {
        let [parameters, element] = encoding::read(MASTER_KEY, suite, bytes)?;
        let parameters: &ParametersHash =
            encoding::fixed(MASTER_KEY, parameters, "the parameter hash is not 32 bytes")?;
        let element = encoding::fixed(MASTER_KEY, element, "the secret is not 48 bytes")?;
        let element = G1Affine::from_bytes(element).map_err(|reason| Error::BadPoint {
            object: MASTER_KEY,
            element: "the secret",
            reason,
        })?;
        let element = Zeroizing::new(element.to_jacobian());
        if hash_of(suite, &z(&element)) != *parameters {
            return Err(Error::WrongParameters { object: MASTER_KEY });
        }
        Ok(Self {
            suite,
            element,
            parameters: *parameters,
        })
    }
}

/// Z = e(g1^α, g2).
fn z(element: &G1) -> Gt {
    let element = Zeroizing::new(element.to_affine());
    pairing(&element, &G2::generator().to_affine())
}
