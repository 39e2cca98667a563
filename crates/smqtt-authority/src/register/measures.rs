//! Numbers for the metrics.

use smqtt_pki::UnixTime;

use super::{Register, signed, unsigned};
use crate::Error;
use crate::metrics::{EXPIRY_DAYS, Measures};

type Devices = (i64, i64, i64, i64, i64, i64, i64, i64);
type Others = (i64, i64, i64, i64, i64, Option<i64>);

impl Register {
    /// What there is, in numbers.
    pub(crate) async fn measures(&self, now: UnixTime) -> Result<Measures, Error> {
        let now = now.as_secs();
        let within = EXPIRY_DAYS.map(|(days, _)| signed(now + days * 86_400));
        let devices: Devices = sqlx::query_as(
            "SELECT COUNT(CASE WHEN revoked IS NULL AND suspended IS NULL AND serial IS NULL THEN 1 END),
                    COUNT(CASE WHEN revoked IS NULL AND suspended IS NULL AND serial IS NOT NULL THEN 1 END),
                    COUNT(CASE WHEN revoked IS NULL AND suspended IS NOT NULL THEN 1 END),
                    COUNT(CASE WHEN revoked IS NOT NULL THEN 1 END),
                    COUNT(CASE WHEN revoked IS NULL AND suspended IS NULL AND not_after < $1 THEN 1 END),
                    COUNT(CASE WHEN revoked IS NULL AND suspended IS NULL AND not_after >= $1 AND not_after < $2 THEN 1 END),
                    COUNT(CASE WHEN revoked IS NULL AND suspended IS NULL AND not_after >= $1 AND not_after < $3 THEN 1 END),
                    COUNT(CASE WHEN revoked IS NULL AND suspended IS NULL AND not_after >= $1 AND not_after < $4 THEN 1 END)
             FROM device_overview",
        )
        .bind(signed(now))
        .bind(within[0])
        .bind(within[1])
        .bind(within[2])
        .fetch_one(self.reader())
        .await?;
        let others: Others = sqlx::query_as(
            "SELECT (SELECT COUNT(*) FROM certificate WHERE device IS NOT NULL),
                    (SELECT COUNT(*) FROM attribute_key),
                    (SELECT COUNT(*) FROM revocation),
                    (SELECT COALESCE(MAX(sequence), 0) FROM audit),
                    (SELECT COUNT(*) FROM token WHERE used IS NULL AND expires >= $1),
                    (SELECT MAX(next_update) FROM revocation_list)",
        )
        .bind(signed(now))
        .fetch_one(self.reader())
        .await?;
        Ok(Measures {
            registered: unsigned(devices.0),
            enrolled: unsigned(devices.1),
            suspended: unsigned(devices.2),
            revoked: unsigned(devices.3),
            expired: unsigned(devices.4),
            expiring: [devices.5, devices.6, devices.7].map(unsigned),
            certificates: unsigned(others.0),
            attribute_keys: unsigned(others.1),
            revocations: unsigned(others.2),
            audit_entries: unsigned(others.3),
            open_tokens: unsigned(others.4),
            crl_expires: others.5.map(unsigned),
        })
    }
}
