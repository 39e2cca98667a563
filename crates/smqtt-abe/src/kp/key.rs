//! The key of one device, and decapsulation with it.

use std::sync::OnceLock;

use smqtt_policy::{AttributeSet, Formula};
use zeroize::Zeroizing;

use super::{PublicParameters, SUITE, parameters::ciphertext_bytes};
use crate::{
    Error, SharedKey,
    curve::{G1, G1_BYTES, G1Affine, G2_BYTES, G2Affine, Gt, Prepared, Scalar, multi_pairing},
    encoding,
    oracle::ParametersHash,
    share::ShareMatrix,
};

const OBJECT: &str = "policy key";

/// A device's decryption key: opens what is labelled with attributes that satisfy its policy.
///
/// Wiped when dropped; neither `Debug` nor `Display`.
pub struct PolicyKey {
    parameters: ParametersHash,
    policy: Formula,
    /// What implicit rejection derives its keys from.
    rejection: Zeroizing<[u8; 32]>,
    /// In the order of the policy's leaves.
    sk1: Zeroizing<Vec<G1Affine>>,
    sk2: Zeroizing<Vec<G2Affine>>,
    /// The lines of each element of `sk2`, once they were needed.
    prepared: Vec<OnceLock<Prepared>>,
}

impl PolicyKey {
    pub(super) fn new(
        parameters: ParametersHash,
        policy: Formula,
        rejection: Zeroizing<[u8; 32]>,
        sk1: Vec<G1Affine>,
        sk2: Vec<G2Affine>,
    ) -> Self {
        let prepared = sk2.iter().map(|_| OnceLock::new()).collect();
        Self {
            parameters,
            policy,
            rejection,
            sk1: Zeroizing::new(sk1),
            sk2: Zeroizing::new(sk2),
            prepared,
        }
    }

    /// What attributes have to satisfy for this key to open their ciphertext, the epoch included.
    #[must_use]
    pub fn policy(&self) -> &Formula {
        &self.policy
    }

    /// The hash of the parameters under which the key was issued.
    #[must_use]
    pub fn parameters_hash(&self) -> [u8; 32] {
        self.parameters
    }

    /// Finds the shared key of a ciphertext with these attributes.
    ///
    /// A ciphertext that was not made by [`PublicParameters::encapsulate`] for just these attributes
    /// and parameters opens to a key that nobody else has: that is not an error, and shows when the
    /// key is used.
    ///
    /// # Errors
    /// [`Error::NotAuthorised`] where the attributes do not satisfy the key's policy; the parameters
    /// are not the key's; the ciphertext has the wrong length or an element that is not in its
    /// group.
    pub fn decapsulate(
        &self,
        parameters: &PublicParameters,
        attributes: &AttributeSet,
        ciphertext: &[u8],
    ) -> Result<SharedKey, Error> {
        if self.parameters != parameters.hash() {
            return Err(Error::WrongParameters { object: OBJECT });
        }
        let set: Vec<_> = attributes.iter().collect();
        let elements = encoding::elements(ciphertext, ciphertext_bytes(set.len()))?;
        let matrix = ShareMatrix::new(&self.policy)?;
        let place = |attribute| set.binary_search(&attribute).ok();
        let opening = matrix
            .open(|row| place(row.attribute).is_some())
            .ok_or(Error::NotAuthorised)?;
        // Each row that opens, with the place of its attribute in the ciphertext.
        let opening: Vec<(usize, Scalar, usize)> = opening
            .into_iter()
            .filter_map(|(i, gamma)| Some((i, gamma, place(matrix.rows()[i].attribute)?)))
            .collect();
        let elements = Elements::read(elements)?;
        let context = parameters.public().oracles().context(&attributes.encode());
        let d = Zeroizing::new(self.recover(&matrix, &opening, &elements));
        Ok(context.conclude(ciphertext, &d, &self.rejection, |coins| {
            parameters.elements(attributes, coins)
        }))
    }

    /// d, from rows and coefficients that open the matrix. The coefficients are public.
    fn recover(
        &self,
        matrix: &ShareMatrix<'_>,
        opening: &[(usize, Scalar, usize)],
        elements: &Elements,
    ) -> Gt {
        let mut labels = Zeroizing::new(vec![G1::neutral(); matrix.occurrences()]);
        let mut rows = Zeroizing::new(G1::neutral());
        for (i, gamma, place) in opening {
            let label = &mut labels[matrix.rows()[*i].occurrence];
            *label = label.mul(&elements.ct2[*place].to_jacobian().pow_coefficient(gamma));
            *rows = rows.mul(&self.sk1[*i].to_jacobian().pow_coefficient(gamma));
        }
        let prepare = |point| Prepared::new(point).expect("decoded elements are not neutral");
        let ct1 = prepare(&elements.ct1);
        let mut places = Zeroizing::new(Vec::with_capacity(1 + labels.len()));
        let mut points = Vec::with_capacity(1 + labels.len());
        places.push(rows.to_affine());
        points.push(&ct1);
        for ((label, sk2), prepared) in labels.iter().zip(&*self.sk2).zip(&self.prepared) {
            // An occurrence of which no row is opened.
            if !label.is_neutral() {
                places.push(label.inverse().to_affine());
                points.push(prepared.get_or_init(|| prepare(sk2)));
            }
        }
        multi_pairing(&places.iter().zip(points).collect::<Vec<_>>())
    }

    /// The encoding: a CBOR array of version, suite, parameter hash (32 bytes), policy formula,
    /// rejection secret (32), sk1 (48 for each leaf of the policy, from left to right) and sk2 (96
    /// for each occurrence).
    #[must_use]
    pub fn to_bytes(&self) -> Zeroizing<Vec<u8>> {
        let mut sk1 = Zeroizing::new(Vec::with_capacity(G1_BYTES * self.sk1.len()));
        for element in &*self.sk1 {
            sk1.extend_from_slice(&*Zeroizing::new(element.to_bytes()));
        }
        let mut sk2 = Zeroizing::new(Vec::with_capacity(G2_BYTES * self.sk2.len()));
        for element in &*self.sk2 {
            sk2.extend_from_slice(&*Zeroizing::new(element.to_bytes()));
        }
        encoding::write(
            SUITE,
            &[
                &self.parameters,
                &self.policy.encode(),
                &self.rejection[..],
                &sk1,
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
        let [hash, policy, rejection, sk1, sk2] = encoding::read(OBJECT, SUITE, bytes)?;
        let hash: &ParametersHash =
            encoding::fixed(OBJECT, hash, "the parameter hash is not 32 bytes")?;
        if parameters.is_some_and(|expected| expected != hash) {
            return Err(Error::WrongParameters { object: OBJECT });
        }
        let policy = Formula::decode(policy)?;
        let rejection: &[u8; 32] =
            encoding::fixed(OBJECT, rejection, "the rejection secret is not 32 bytes")?;
        let (sk1, rest1) = sk1.as_chunks::<G1_BYTES>();
        let (sk2, rest2) = sk2.as_chunks::<G2_BYTES>();
        let matrix = ShareMatrix::new(&policy)?;
        if sk1.len() != matrix.rows().len() || !rest1.is_empty() {
            return Err(malformed("sk1 does not have one element for each leaf"));
        }
        if sk2.len() != matrix.occurrences() || !rest2.is_empty() {
            return Err(malformed(
                "sk2 does not have one element for each occurrence",
            ));
        }
        let sk1 = sk1
            .iter()
            .map(|bytes| G1Affine::from_bytes(bytes).map_err(bad("sk1")))
            .collect::<Result<_, _>>()?;
        let sk2 = sk2
            .iter()
            .map(|bytes| G2Affine::from_bytes(bytes).map_err(bad("sk2")))
            .collect::<Result<_, _>>()?;
        Ok(Self::new(
            *hash,
            policy,
            Zeroizing::new(*rejection),
            sk1,
            sk2,
        ))
    }
}

/// The group elements of a ciphertext, checked.
struct Elements {
    ct1: G2Affine,
    ct2: Vec<G1Affine>,
}

impl Elements {
    /// `bytes` has the length that the attributes ask for.
    fn read(bytes: &[u8]) -> Result<Self, Error> {
        let bad = |element| {
            move |reason| Error::BadPoint {
                object: encoding::CIPHERTEXT,
                element,
                reason,
            }
        };
        let (ct1, ct2) = bytes
            .split_first_chunk::<G2_BYTES>()
            .expect("its length was checked");
        let (ct2, _) = ct2.as_chunks::<G1_BYTES>();
        Ok(Self {
            ct1: G2Affine::from_bytes(ct1).map_err(bad("ct1"))?,
            ct2: ct2
                .iter()
                .map(|bytes| G1Affine::from_bytes(bytes).map_err(bad("ct2")))
                .collect::<Result<_, _>>()?,
        })
    }
}

#[cfg(test)]
impl PolicyKey {
    /// (sk1 in the order of leaves, sk2), for tests that play the attacker.
    pub(crate) fn elements(&self) -> (Vec<G1>, Vec<G2Affine>) {
        let sk1 = self.sk1.iter().map(|e| e.to_jacobian()).collect();
        (sk1, self.sk2.to_vec())
    }

    /// d, as a key whose policy is one attribute, the set's first, finds it.
    pub(crate) fn recover_with(&self, attributes: &AttributeSet, ciphertext: &[u8]) -> Gt {
        let matrix = ShareMatrix::new(&self.policy).expect("an honest policy");
        let expected = ciphertext_bytes(attributes.iter().count());
        let elements = encoding::elements(ciphertext, expected).expect("an honest ciphertext");
        let elements = Elements::read(elements).expect("an honest ciphertext");
        self.recover(&matrix, &[(0, Scalar::one(), 0)], &elements)
    }
}
