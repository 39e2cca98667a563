//! What a client's certificate is worth: at its CONNECT, and each time the rules change.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::ServerConnection;
use smqtt_pki::{Serial, TrustAnchor, UnixTime, VerifiedDevice};

use crate::current::{ListenerRules, ListenerTls};
use crate::store::CertificateRecord;

/// The certificate that a client has shown, as far as it matters later.
#[derive(Debug, Clone)]
pub(crate) struct Shown {
    /// What it was verified against.
    anchor: Arc<TrustAnchor>,
    serial: Serial,
    /// Of the intermediates that it was verified through; none for what the store kept, whose client shows them again.
    issuers: Arc<[Serial]>,
    expires: UnixTime,
}

/// Verifies the certificate of a client, if it has shown one to a listener that asks for it.
///
/// The handshake has verified it before; this is the judgement of the rules that are in force now.
///
/// # Errors
/// It is not a device's, or revoked: why, for the log.
pub(crate) fn verify(
    rules: &ListenerRules,
    tls: Option<&ServerConnection>,
) -> Result<Option<(VerifiedDevice, Shown)>, String> {
    let Some(chain) = tls.and_then(|tls| tls.peer_certificates()) else {
        return Ok(None);
    };
    let Some((listener, anchor)) = rules
        .tls
        .as_ref()
        .and_then(|tls| Some((tls, tls.anchor.as_ref()?)))
    else {
        return Ok(None);
    };
    let device = anchor
        .verify_device(chain, UnixTime::now())
        .map_err(|error| format!("its certificate is not a device's: {error}"))?;
    let shown = Shown {
        anchor: anchor.clone(),
        serial: device.serial(),
        issuers: device.issuers().into(),
        expires: device.validity().not_after(),
    };
    shown.judge(Some(listener))?;
    Ok(Some((device, shown)))
}

impl Shown {
    /// As the store keeps it.
    pub(crate) fn to_record(&self) -> CertificateRecord {
        CertificateRecord {
            authority: *self.anchor.fingerprint().as_bytes(),
            serial: *self.serial.as_bytes(),
            expires: self.expires.as_secs(),
        }
    }

    /// What the store kept, as shown to a listener with these rules; none if it is of an authority
    /// that this listener does not trust.
    pub(crate) fn from_record(
        record: &CertificateRecord,
        tls: Option<&ListenerTls>,
    ) -> Option<Shown> {
        let anchor = tls?.anchor.as_ref()?;
        let positive = [&[0], &record.serial[..]].concat();
        let serial = Serial::from_der_integer(&positive)?;
        (anchor.fingerprint().as_bytes() == &record.authority).then(|| Shown {
            anchor: anchor.clone(),
            serial,
            issuers: Arc::default(),
            expires: UnixTime::since_unix_epoch(Duration::from_secs(record.expires)),
        })
    }

    /// Whether a listener with these rules still takes it. That it expires is another matter: whoever
    /// is away may come back with the next one.
    ///
    /// # Errors
    /// Why not.
    pub(crate) fn judge(&self, tls: Option<&ListenerTls>) -> Result<(), &'static str> {
        let Some(anchor) = tls.and_then(|tls| tls.anchor.as_ref()) else {
            return Err("its listener does not verify certificates any more");
        };
        if !anchor.is_same_authority(&self.anchor) {
            return Err("its certificate is of an authority that is not trusted any more");
        }
        let Some(lists) = tls.and_then(|tls| tls.revocations.as_ref()) else {
            return Ok(());
        };
        if lists.revokes(self.serial) {
            return Err("its certificate is revoked");
        }
        if self.issuers.iter().any(|issuer| lists.revokes(*issuer)) {
            return Err("the intermediate authority that issued its certificate is revoked");
        }
        Ok(())
    }

    /// When it has expired, as the clocks go now; `now` if it has.
    pub(crate) fn expires_at(&self, now: Instant) -> Option<Instant> {
        let left = (self.expires.as_secs() + 1).saturating_sub(UnixTime::now().as_secs());
        now.checked_add(Duration::from_secs(left))
    }
}
