//! The revocation lists: whether this device is on one, how old they are, and whether they are the newest that there are.

use std::path::Path;
use std::time::Duration;

use smqtt_client::{Error, Identity, authority_revocations};
use smqtt_format::AuthorityState;
use smqtt_pki::{CrlNumber, Revocations, UnixTime};

use super::{Report, now};
use crate::console::counted;
use crate::exit::Exit;
use crate::failure::without_number;

/// The longest file of lists that is read, in bytes.
const MAX_CRL: u64 = 64 * 1024 * 1024;

/// What was found, for the comparison with the authority's state.
pub(super) struct Lists<'a> {
    number: CrlNumber,
    source: Source<'a>,
}

enum Source<'a> {
    File(&'a Path),
    Authority { of: &'a Identity, limit: Duration },
}

impl<'a> Lists<'a> {
    /// Looks at lists in a file. `None` if they are none of this authority's.
    pub(super) fn of_file(
        report: &mut Report,
        identity: &Identity,
        path: &'a Path,
    ) -> Option<Self> {
        use std::io::Read as _;
        let mut text = Vec::new();
        let read =
            std::fs::File::open(path).and_then(|file| file.take(MAX_CRL).read_to_end(&mut text));
        if let Err(error) = read {
            report.failed(
                "revocation",
                Exit::Input,
                format!("cannot read {}: {}", path.display(), without_number(&error)),
                "write it with `smqtt-authority crl`",
            );
            return None;
        }
        Some(Self {
            number: check(report, identity, &text)?,
            source: Source::File(path),
        })
    }

    /// Looks at the lists that the authority has now, with which brokers should refuse what was revoked. `None` if it gives
    /// none.
    pub(super) async fn fetch(
        report: &mut Report,
        identity: &'a Identity,
        limit: Duration,
    ) -> Option<Self> {
        let number = match authority_revocations(identity, limit).await {
            Ok(Some(text)) => check(report, identity, &text)?,
            Ok(None) => {
                report.ok(
                    "revocation",
                    "the authority has issued no revocation list yet",
                );
                CrlNumber::from(0)
            }
            Err(error) => {
                report.warning(
                    "revocation",
                    format!("the authority gives no revocation list: {error}"),
                    "ask its operator, or give a broker's copy: --crl FILE",
                );
                return None;
            }
        };
        let source = Source::Authority {
            of: identity,
            limit,
        };
        Some(Self { number, source })
    }

    /// Compares with the number that the authority has signed. A state is made with each act that issues a list; a list that is
    /// only issued anew in time is newer than its state.
    pub(super) async fn compare(mut self, report: &mut Report, state: &AuthorityState) {
        let newest = CrlNumber::from(state.crl_number);
        if let (true, Source::Authority { of, limit }) = (self.number < newest, &self.source) {
            // One that was issued between the two looks is no older list.
            match number_now(of, *limit).await {
                Ok(number) => self.number = number,
                // What the first look has found stands.
                Err(error) => tracing::debug!(%error, "no second look at the revocation list"),
            }
        }
        let number = &self.number;
        if *number >= newest {
            // None was issued, and none is missed.
            if state.crl_number > 0 {
                report.ok("list", format!("number {number}, none is newer"));
            }
            return;
        }
        let held = if *number == CrlNumber::from(0) {
            "there is no revocation list".to_owned()
        } else {
            format!("the revocation list is number {number}")
        };
        let detail = format!(
            "{held}, the authority has signed that there is number {newest}: who was revoked since is not on it"
        );
        match self.source {
            Source::File(path) => report.failed(
                "list",
                Exit::Input,
                detail,
                format!(
                    "write the newest there, `smqtt-authority crl --out {}`, and let the broker read it",
                    path.display()
                ),
            ),
            Source::Authority { .. } => report.failed(
                "list",
                Exit::Untrusted,
                detail,
                "ask the authority's operator what answers there: a restored backup, or an instance that is behind, gives out an older list",
            ),
        }
    }
}

/// Looks at lists, and returns the number of the newest that names devices. `None` if they can not be read.
fn check(report: &mut Report, identity: &Identity, text: &[u8]) -> Option<CrlNumber> {
    let lists = match Revocations::read(text, identity.trust_anchor()) {
        Ok(lists) => lists,
        Err(error) => {
            report.failed(
                "revocation",
                Exit::Untrusted,
                error.to_string(),
                "write it anew with `smqtt-authority crl`, at this device's authority",
            );
            return None;
        }
    };
    let at = UnixTime::since_unix_epoch(Duration::from_secs(now()));
    let own = identity.trust_anchor().verify_device(identity.chain(), at);
    let validity = lists.validity();
    let age = at.as_secs().saturating_sub(validity.not_before().as_secs());
    if own.is_ok_and(|own| lists.revokes(own.serial())) {
        report.failed(
            "revocation",
            Exit::Refused,
            "this device's certificate is revoked",
            "ask the authority's operator why; a new enrolment needs a new token",
        );
    } else if validity.check(at).is_err() {
        report.failed(
            "revocation",
            Exit::Input,
            format!(
                "the revocation list is {} old and no longer valid: brokers do not know who was revoked since",
                span(age)
            ),
            "let the authority's operator issue a new one, `smqtt-authority crl`, and give it to the brokers",
        );
    } else {
        report.ok(
            "revocation",
            format!("this device is not on the list, which is {} old", span(age)),
        );
    }
    Some(lists.of_devices().number().clone())
}

/// The number of the authority's newest list, as of now; 0 if it has issued none.
async fn number_now(identity: &Identity, limit: Duration) -> Result<CrlNumber, Error> {
    Ok(match authority_revocations(identity, limit).await? {
        Some(text) => {
            let lists = Revocations::read(&text, identity.trust_anchor())?;
            lists.of_devices().number().clone()
        }
        None => CrlNumber::from(0),
    })
}

/// A time in the largest whole unit.
fn span(seconds: u64) -> String {
    let (count, unit) = match seconds {
        0..120 => (seconds, "second"),
        120..7_200 => (seconds / 60, "minute"),
        7_200..172_800 => (seconds / 3_600, "hour"),
        _ => (seconds / 86_400, "day"),
    };
    counted(count, unit)
}
