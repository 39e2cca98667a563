//! From when until when a certificate holds.

use core::time::Duration;

use rustls_pki_types::UnixTime;

use crate::Error;

/// The span in which a certificate is valid, both ends included, in whole seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Validity {
    not_before: UnixTime,
    not_after: UnixTime,
}

/// 9999-12-31T23:59:59Z, the last second that a certificate can name (RFC 5280 §4.1.2.5).
const LAST: u64 = 253_402_300_799;

impl Validity {
    /// How far [`Validity::starting`] dates back, so that a device whose clock runs a little late accepts a
    /// certificate that was just issued: 5 minutes.
    pub const CLOCK_SKEW: Duration = Duration::from_secs(300);

    /// A span with the given ends.
    ///
    /// # Errors
    /// [`Error::Validity`] if it ends before it begins or after the year 9999.
    pub fn new(not_before: UnixTime, not_after: UnixTime) -> Result<Self, Error> {
        if not_before > not_after || not_after.as_secs() > LAST {
            return Err(Error::Validity);
        }
        Ok(Self {
            not_before,
            not_after,
        })
    }

    /// A span that lasts from `now`, dated back by [`Validity::CLOCK_SKEW`], for `duration`.
    ///
    /// # Errors
    /// [`Error::Validity`] if it would end after the year 9999.
    pub fn starting(now: UnixTime, duration: Duration) -> Result<Self, Error> {
        let not_before = now.as_secs().saturating_sub(Self::CLOCK_SKEW.as_secs());
        let not_after = now
            .as_secs()
            .checked_add(duration.as_secs())
            .ok_or(Error::Validity)?;
        Self::new(at(not_before), at(not_after))
    }

    /// The first second of the span.
    #[must_use]
    pub fn not_before(&self) -> UnixTime {
        self.not_before
    }

    /// The last second of the span.
    #[must_use]
    pub fn not_after(&self) -> UnixTime {
        self.not_after
    }

    /// Whether `now` is in the span.
    ///
    /// # Errors
    /// [`Error::NotYetValid`] before, [`Error::Expired`] after.
    pub fn check(&self, now: UnixTime) -> Result<(), Error> {
        if now < self.not_before {
            Err(Error::NotYetValid)
        } else if now > self.not_after {
            Err(Error::Expired)
        } else {
            Ok(())
        }
    }

    /// The span, ending no later than `limit` does: a certificate cannot outlive its issuer.
    pub(crate) fn within(self, limit: &Self) -> Result<Self, Error> {
        Self::new(
            self.not_before.max(limit.not_before),
            self.not_after.min(limit.not_after),
        )
    }

    /// What two spans have in common.
    pub(crate) fn common(self, other: &Self) -> Result<Self, Error> {
        let begins = self.not_before.max(other.not_before);
        Self::new(begins, self.not_after.min(other.not_after).max(begins))
    }

    /// Reads the span of a parsed certificate.
    pub(crate) fn of(
        certificate: &x509_parser::certificate::X509Certificate<'_>,
    ) -> Result<Self, Error> {
        let seconds = |t: x509_parser::time::ASN1Time| u64::try_from(t.timestamp()).unwrap_or(0);
        let validity = certificate.validity();
        Self::new(
            at(seconds(validity.not_before)),
            at(seconds(validity.not_after)),
        )
    }
}

fn at(seconds: u64) -> UnixTime {
    UnixTime::since_unix_epoch(Duration::from_secs(seconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_holds_from_its_first_to_its_last_second() {
        let span = Validity::new(at(100), at(200)).unwrap();
        assert!(matches!(span.check(at(99)), Err(Error::NotYetValid)));
        assert!(span.check(at(100)).is_ok());
        assert!(span.check(at(200)).is_ok());
        assert!(matches!(span.check(at(201)), Err(Error::Expired)));
    }

    #[test]
    fn a_start_is_dated_back_and_never_before_1970() {
        let span = Validity::starting(at(1_000), Duration::from_secs(10)).unwrap();
        assert_eq!((span.not_before(), span.not_after()), (at(700), at(1_010)));
        assert_eq!(
            Validity::starting(at(10), Duration::ZERO)
                .unwrap()
                .not_before(),
            at(0)
        );
    }

    #[test]
    fn impossible_spans_are_refused() {
        assert!(Validity::new(at(2), at(1)).is_err());
        assert!(Validity::new(at(0), at(LAST)).is_ok());
        assert!(Validity::new(at(0), at(LAST + 1)).is_err());
        assert!(Validity::starting(at(1), Duration::MAX).is_err());
    }
}
