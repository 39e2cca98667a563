//! The key of one device, and decapsulation with it.

use std::sync::OnceLock;

use smqtt_policy::{Attribute, AttributeSet, Epoch, Formula};
use zeroize::{Zeroize, Zeroizing};

use super::{PublicParameters, SUITE, parameters::ciphertext_bytes};
use crate::{
    Error, SharedKey,
    curve::{G1, G1_BYTES, G1Affine, G2_BYTES, G2Affine, Gt, Prepared, Scalar, multi_pairing},
    encoding,
    limits::MAX_ATTRIBUTES,
    oracle::ParametersHash,
    share::ShareMatrix,
};

const OBJECT: &str = "attribute key";

/// A device's decryption key: opens what is encrypted to a policy that its attributes satisfy.
///
/// Wiped when dropped; neither `Debug` nor `Display`.
pub struct AttributeKey {
    parameters: ParametersHash,
    attributes: AttributeSet,
    /// What implicit rejection derives its keys from.
    rejection: Zeroizing<[u8; 32]>,
    sk1: Zeroizing<G1Affine>,
    /// In the order of the attributes.
    sk2: Vec<(Attribute, G1Affine)>,
    sk3: Zeroizing<G2Affine>,
    /// The lines of `sk3`, once they were needed.
    prepared: OnceLock<Prepared>,
}

impl Drop for AttributeKey {
    fn drop(&mut self) {
        for (_, element) in &mut self.sk2 {
            element.zeroize();
        }
    }
}

impl AttributeKey {
    pub(super) fn new(
        parameters: ParametersHash,
        attributes: AttributeSet,
        rejection: Zeroizing<[u8; 32]>,
        sk1: G1Affine,
        mut sk2: Vec<(Attribute, G1Affine)>,
        sk3: G2Affine,
    ) -> Self {
        sk2.sort_by(|(a, _), (b, _)| a.cmp(b));
        Self {
            parameters,
            attributes,
            rejection,
            sk1: Zeroizing::new(sk1),
            sk2,
            sk3: Zeroizing::new(sk3),
            prepared: OnceLock::new(),
        }
    }

    /// The attributes that the key stands for, the epoch among them.
    #[must_use]
    pub fn attributes(&self) -> &AttributeSet {
        &self.attributes
    }

    /// The epoch for which the key was issued, if its attributes carry one.
    #[must_use]
    pub fn epoch(&self) -> Option<Epoch> {
        self.attributes.epoch()
    }

    /// The hash of the parameters under which the key was issued.
    #[must_use]
    pub fn parameters_hash(&self) -> [u8; 32] {
        self.parameters
    }

    /// Finds the shared key of a ciphertext under a policy.
    ///
    /// A ciphertext that was not made by [`PublicParameters::encapsulate`] for just this policy and
    /// these parameters opens to a key that nobody else has: that is not an error, and shows when
    /// the key is used.
    ///
    /// # Errors
    /// [`Error::NotAuthorised`] where the attributes do not satisfy the policy; the parameters are
    /// not the key's; the policy is out of bounds; the ciphertext has the wrong length or an
    /// element that is not in its group.
    pub fn decapsulate(
        &self,
        parameters: &PublicParameters,
        policy: &Formula,
        ciphertext: &[u8],
    ) -> Result<SharedKey, Error> {
        if self.parameters != parameters.hash() {
            return Err(Error::WrongParameters { object: OBJECT });
        }
        let matrix = ShareMatrix::new(policy)?;
        let elements = encoding::elements(ciphertext, ciphertext_bytes(&matrix))?;
        let opening = matrix
            .open(|row| self.element(row.attribute).is_some())
            .ok_or(Error::NotAuthorised)?;
        let elements = Elements::read(&matrix, elements)?;
        let context = parameters.public().oracles().context(&policy.encode());
        let d = Zeroizing::new(self.recover(&matrix, &opening, &elements));
        Ok(context.conclude(ciphertext, &d, &self.rejection, |coins| {
            parameters.elements(&matrix, coins)
        }))
    }

    fn element(&self, attribute: &Attribute) -> Option<&G1Affine> {
        let found = self
            .sk2
            .binary_search_by(|(held, _)| held.cmp(attribute))
            .ok()?;
        Some(&self.sk2[found].1)
    }

    /// d, from rows and coefficients that open the matrix. The coefficients are public.
    fn recover(
        &self,
        matrix: &ShareMatrix<'_>,
        opening: &[(usize, Scalar)],
        elements: &Elements,
    ) -> Gt {
        let mut held = Zeroizing::new(vec![G1::neutral(); matrix.occurrences()]);
        let mut rows = Zeroizing::new(G1::neutral());
        for (i, gamma) in opening {
            let row = &matrix.rows()[*i];
            let element = self
                .element(row.attribute)
                .expect("only rows whose attribute the key holds are opened");
            let sum = &mut held[row.occurrence];
            *sum = sum.mul(&element.to_jacobian().pow_coefficient(gamma));
            *rows = rows.mul(&elements.ct3[*i].to_jacobian().pow_coefficient(gamma));
        }
        let prepare = |point| Prepared::new(point).expect("decoded elements are not neutral");
        let sk3 = self.prepared.get_or_init(|| prepare(&self.sk3));
        let mut places = Zeroizing::new(Vec::with_capacity(2 + held.len()));
        let mut points = Vec::with_capacity(1 + held.len());
        places.push(rows.inverse().to_affine());
        places.push(*self.sk1);
        points.push(prepare(&elements.ct1));
        for (sum, ct2) in held.iter().zip(&elements.ct2) {
            // An occurrence of which no row is opened.
            if !sum.is_neutral() {
                places.push(sum.to_affine());
                points.push(prepare(ct2));
            }
        }
        let points = [sk3].into_iter().chain(&points);
        multi_pairing(&places.iter().zip(points).collect::<Vec<_>>())
    }

    /// The encoding: a CBOR array of version, suite, parameter hash (32 bytes), attribute set,
    /// rejection secret (32), sk1 (48), sk3 (96), and sk2 (48 for each attribute, in the set's
    /// order).
    #[must_use]
    pub fn to_bytes(&self) -> Zeroizing<Vec<u8>> {
        let mut sk2 = Zeroizing::new(Vec::with_capacity(G1_BYTES * self.sk2.len()));
        for (_, element) in &self.sk2 {
            sk2.extend_from_slice(&*Zeroizing::new(element.to_bytes()));
        }
        encoding::write(
            SUITE,
            &[
                &self.parameters,
                &self.attributes.encode(),
                &self.rejection[..],
                &*Zeroizing::new(self.sk1.to_bytes()),
                &self.sk3.to_bytes(),
                &sk2,
            ],
        )
    }

    /// Reads an encoding, and checks every element and that the key was issued under these
    /// parameters.
    ///
    /// # Errors
    /// Anything but the canonical encoding of a key under these parameters.
    pub fn from_bytes(bytes: &[u8], parameters: &PublicParameters) -> Result<Self, Error> {
        Self::decode(bytes, Some(&parameters.hash()))
    }

    /// Reads an encoding of a key under these parameters, or under any.
    pub(crate) fn decode(bytes: &[u8], parameters: Option<&ParametersHash>) -> Result<Self, Error> {
        let malformed = |reason| Error::Malformed {
            object: OBJECT,
            reason,
        };
        let bad = |element| {
            move |reason| Error::BadPoint {
                object: OBJECT,
                element,
                reason,
            }
        };
        let [hash, attributes, rejection, sk1, sk3, sk2] = encoding::read(OBJECT, SUITE, bytes)?;
        let hash: &ParametersHash =
            encoding::fixed(OBJECT, hash, "the parameter hash is not 32 bytes")?;
        if parameters.is_some_and(|expected| expected != hash) {
            return Err(Error::WrongParameters { object: OBJECT });
        }
        let attributes = AttributeSet::decode(attributes)?;
        let rejection: &[u8; 32] =
            encoding::fixed(OBJECT, rejection, "the rejection secret is not 32 bytes")?;
        let sk1 = encoding::fixed(OBJECT, sk1, "sk1 is not 48 bytes")?;
        let sk3 = encoding::fixed(OBJECT, sk3, "sk3 is not 96 bytes")?;
        let (sk2, rest) = sk2.as_chunks::<G1_BYTES>();
        let count = attributes.iter().count();
        if count == 0 || count > MAX_ATTRIBUTES {
            return Err(Error::AttributeCount { found: count });
        }
        if sk2.len() != count || !rest.is_empty() {
            return Err(malformed(
                "sk2 does not have one element for each attribute",
            ));
        }
        let sk1 = G1Affine::from_bytes(sk1).map_err(bad("sk1"))?;
        let sk3 = G2Affine::from_bytes(sk3).map_err(bad("sk3"))?;
        let sk2 = attributes
            .iter()
            .zip(sk2)
            .map(|(attribute, element)| {
                let element = G1Affine::from_bytes(element).map_err(bad("sk2"))?;
                Ok((attribute.clone(), element))
            })
            .collect::<Result<_, Error>>()?;
        Ok(Self::new(
            *hash,
            attributes,
            Zeroizing::new(*rejection),
            sk1,
            sk2,
            sk3,
        ))
    }
}

/// The group elements of a ciphertext, checked.
struct Elements {
    ct1: G2Affine,
    ct2: Vec<G2Affine>,
    ct3: Vec<G1Affine>,
}

impl Elements {
    /// `bytes` has the length that the matrix asks for.
    fn read(matrix: &ShareMatrix<'_>, bytes: &[u8]) -> Result<Self, Error> {
        let bad = |element| {
            move |reason| Error::BadPoint {
                object: encoding::CIPHERTEXT,
                element,
                reason,
            }
        };
        let (g2, g1) = bytes.split_at(G2_BYTES * (1 + matrix.occurrences()));
        let (g2, _) = g2.as_chunks::<G2_BYTES>();
        let (g1, _) = g1.as_chunks::<G1_BYTES>();
        let (ct1, ct2) = g2.split_first().expect("its length was checked");
        Ok(Self {
            ct1: G2Affine::from_bytes(ct1).map_err(bad("ct1"))?,
            ct2: ct2
                .iter()
                .map(|bytes| G2Affine::from_bytes(bytes).map_err(bad("ct2")))
                .collect::<Result<_, _>>()?,
            ct3: g1
                .iter()
                .map(|bytes| G1Affine::from_bytes(bytes).map_err(bad("ct3")))
                .collect::<Result<_, _>>()?,
        })
    }
}

#[cfg(test)]
impl AttributeKey {
    /// (sk1, sk2 in the attributes' order, sk3), for tests that play the attacker.
    pub(crate) fn elements(&self) -> (G1, Vec<G1>, G2Affine) {
        (
            self.sk1.to_jacobian(),
            self.sk2.iter().map(|(_, e)| e.to_jacobian()).collect(),
            *self.sk3,
        )
    }

    /// d, along an opening that the test chose.
    pub(crate) fn recover_by(
        &self,
        matrix: &ShareMatrix<'_>,
        opening: &[(usize, Scalar)],
        ciphertext: &[u8],
    ) -> Gt {
        let elements = encoding::elements(ciphertext, ciphertext_bytes(matrix)).expect("honest");
        let elements = Elements::read(matrix, elements).expect("an honest ciphertext");
        self.recover(matrix, opening, &elements)
    }

    /// d, as decapsulation finds it.
    pub(crate) fn recover_with(&self, policy: &Formula, ciphertext: &[u8]) -> Gt {
        let matrix = ShareMatrix::new(policy).expect("an honest policy");
        let opening = matrix
            .open(|row| self.element(row.attribute).is_some())
            .expect("an authorised key");
        self.recover_by(&matrix, &opening, ciphertext)
    }
}
