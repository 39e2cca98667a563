//! The authority's own identity towards brokers and devices, and the state that it signs with it.

use core::time::Duration;

use rand::CryptoRng;
use rcgen::{ExtendedKeyUsagePurpose, SanType};
use rustls_pki_types::{CertificateDer, UnixTime};
use smqtt_format::{AuthorityState, SignedState};
use x509_parser::extensions::GeneralName;

use crate::anchor::parse;
use crate::signer::RcgenKey;
use crate::{
    CertificateAuthority, DeviceId, Error, IdentityKey, IssuedCertificate, TrustAnchor, Validity,
};

/// The name under which the authority connects to brokers. No device is registered under it.
pub const AUTHORITY_DEVICE: &str = "smqtt-authority";

/// What the certificate of an authority's own identity carries beside its device name, and no device's does.
const AUTHORITY_URN: &str = "urn:smqtt:authority";

/// How far a state's time of issue may lie in the future, for clocks that differ.
const CLOCK_SKEW: Duration = Duration::from_secs(300);

/// The authority as a client of brokers, and as the signer of its state. The key is erased when dropped.
pub struct AuthorityIdentity {
    certificate: IssuedCertificate,
    key: IdentityKey,
}

impl AuthorityIdentity {
    /// Its certificate with the chain.
    #[must_use]
    pub fn certificate(&self) -> &IssuedCertificate {
        &self.certificate
    }

    /// Its key.
    #[must_use]
    pub fn key(&self) -> &IdentityKey {
        &self.key
    }

    /// Signs a state.
    ///
    /// # Errors
    /// [`Error::State`] for one that no reader would take.
    pub fn sign_state(&self, state: &AuthorityState) -> Result<Vec<u8>, Error> {
        let chain: Vec<&[u8]> = self.certificate.chain.iter().map(AsRef::as_ref).collect();
        SignedState::write(state, &chain, |message| self.key.sign(message))
            .map_err(|e| Error::State(e.to_string()))
    }
}

impl CertificateAuthority {
    /// Issues an identity for the authority itself: a new key, and a client certificate for the device name
    /// [`AUTHORITY_DEVICE`] that carries the URI `urn:smqtt:authority` too.
    ///
    /// # Errors
    /// [`Error::Validity`], [`Error::Issue`].
    pub fn issue_authority<R: CryptoRng + ?Sized>(
        &self,
        validity: Validity,
        rng: &mut R,
    ) -> Result<AuthorityIdentity, Error> {
        let id: DeviceId = AUTHORITY_DEVICE.parse()?;
        let key = IdentityKey::generate(rng);
        let uris = [id.urn(), AUTHORITY_URN.to_owned()]
            .into_iter()
            .map(|uri| {
                Ok(SanType::URI(
                    uri.try_into()
                        .map_err(|e: rcgen::Error| Error::Issue(e.to_string()))?,
                ))
            })
            .collect::<Result<Vec<_>, Error>>()?;
        let certificate = self.issue(
            &RcgenKey(&key),
            id.as_str(),
            uris,
            ExtendedKeyUsagePurpose::ClientAuth,
            validity,
            rng,
        )?;
        Ok(AuthorityIdentity { certificate, key })
    }
}

/// Verifies a state that came from anywhere: structure, the signer's chain to the root, that the signer is the authority
/// itself and no device, the signature, and that it was not made in the future.
///
/// What only a reader with a memory can check is left: that the sequence number and the epoch are not lower than those of the
/// state seen before, and that the parameters are the reader's own.
///
/// # Errors
/// [`Error::State`] for bytes that are no state or come from the future, [`Error::BadSignature`], and those of
/// [`TrustAnchor::verify_device`].
pub fn verify_state(
    bytes: &[u8],
    anchor: &TrustAnchor,
    now: UnixTime,
) -> Result<AuthorityState, Error> {
    let signed = SignedState::parse(bytes).map_err(|e| Error::State(e.to_string()))?;
    let chain: Vec<CertificateDer<'_>> = signed
        .certificates()
        .iter()
        .map(|der| CertificateDer::from(*der))
        .collect();
    let signer = anchor.verify_device(&chain, now)?;
    let own = chain
        .first()
        .ok_or(Error::ChainLength { given: 0, max: 1 })?;
    if signer.id().as_str() != AUTHORITY_DEVICE || !carries_authority_urn(own)? {
        return Err(Error::State(format!(
            "it is signed by {}, which is not the authority",
            signer.id()
        )));
    }
    signer.verify_signature(&signed.to_be_signed(), signed.signature())?;
    let state = signed.content();
    if state.issued > now.as_secs().saturating_add(CLOCK_SKEW.as_secs()) {
        return Err(Error::State("it was made in the future".into()));
    }
    Ok(state.clone())
}

fn carries_authority_urn(certificate: &CertificateDer<'_>) -> Result<bool, Error> {
    let parsed = parse(certificate)?;
    let names = parsed
        .subject_alternative_name()
        .map_err(|e| Error::MalformedCertificate(e.to_string()))?;
    Ok(names
        .iter()
        .flat_map(|names| &names.value.general_names)
        .any(|name| matches!(name, GeneralName::URI(uri) if *uri == AUTHORITY_URN)))
}

#[cfg(test)]
mod tests {
    use rand_chacha::ChaCha20Rng;
    use rand_chacha::rand_core::SeedableRng;
    use smqtt_format::Sealing;

    use super::*;
    use crate::CertificateRequest;

    const NOW: u64 = 1_790_000_000;

    fn at(seconds: u64) -> UnixTime {
        UnixTime::since_unix_epoch(Duration::from_secs(seconds))
    }

    fn days(n: u64) -> Validity {
        Validity::starting(at(NOW), Duration::from_secs(n * 86_400)).unwrap()
    }

    fn state() -> AuthorityState {
        AuthorityState {
            sequence: 1,
            issued: NOW,
            next_update: NOW + 86_400,
            epoch: 2,
            sealing: vec![Sealing { epoch: 2, from: 0 }],
            crl_number: 0,
            parameters: [1; 32],
        }
    }

    #[test]
    fn the_authoritys_state_is_taken_and_no_other() {
        let mut rng = ChaCha20Rng::from_seed([1; 32]);
        let ca = CertificateAuthority::create("a", days(3650), &mut rng).unwrap();
        let identity = ca.issue_authority(days(90), &mut rng).unwrap();
        let signed = identity.sign_state(&state()).unwrap();
        let anchor = ca.trust_anchor();
        assert_eq!(verify_state(&signed, anchor, at(NOW)).unwrap(), state());

        // Any changed byte.
        for place in 0..signed.len() {
            let mut changed = signed.clone();
            changed[place] ^= 1;
            assert!(verify_state(&changed, anchor, at(NOW)).is_err(), "{place}");
        }
        // Another authority's, one from the future, one whose signer's time is over.
        let foreign = CertificateAuthority::create("b", days(3650), &mut rng).unwrap();
        assert!(verify_state(&signed, foreign.trust_anchor(), at(NOW)).is_err());
        assert!(verify_state(&signed, anchor, at(NOW - 301)).is_err());
        let late = verify_state(&signed, anchor, at(NOW + 91 * 86_400));
        assert!(matches!(late, Err(Error::Expired)), "{late:?}");
    }

    #[test]
    fn a_device_can_not_sign_a_state_whatever_its_name() {
        let mut rng = ChaCha20Rng::from_seed([2; 32]);
        let ca = CertificateAuthority::create("a", days(3650), &mut rng).unwrap();
        for name in ["sensor-17", AUTHORITY_DEVICE] {
            let id: DeviceId = name.parse().unwrap();
            let key = IdentityKey::generate(&mut rng);
            let request = CertificateRequest::from_pem(&key.csr_pem(&id).unwrap()).unwrap();
            let certificate = ca.issue_device(&request, &id, days(90), &mut rng).unwrap();
            let impostor = AuthorityIdentity { certificate, key };
            let signed = impostor.sign_state(&state()).unwrap();
            let refused = verify_state(&signed, ca.trust_anchor(), at(NOW));
            assert!(matches!(refused, Err(Error::State(_))), "{refused:?}");
        }
    }
}
