//! Queries of backups and audit checkpoints.

use smqtt_pki::{CertificateDer, UnixTime};

use super::{Register, Write, signed, unsigned};
use crate::{Checkpoint, Error, Share};

type Row = (i64, i64, Vec<u8>, Option<Vec<u8>>, Vec<u8>);

impl Register {
    /// Whether shares of this backup key were ever made.
    pub(crate) async fn has_shares_of(&self, key_id: &str) -> Result<bool, Error> {
        let count: i64 = sqlx::query_scalar("SELECT COUNT(*) FROM backup_shares WHERE key_id = $1")
            .bind(key_id)
            .fetch_one(&self.pool)
            .await?;
        Ok(count > 0)
    }

    /// All checkpoints that are kept, oldest first.
    pub(crate) async fn checkpoints(
        &self,
        authority: smqtt_pki::Fingerprint,
    ) -> Result<Vec<Checkpoint>, Error> {
        let rows: Vec<Row> = sqlx::query_as(
            "SELECT sequence, time, chain, issuer, signature FROM audit_checkpoint ORDER BY sequence",
        )
        .fetch_all(&self.pool)
        .await?;
        rows.into_iter()
            .map(|(sequence, time, chain, issuer, signature)| {
                let odd = || Error::Checkpoint("one in the register has the wrong size".into());
                Ok(Checkpoint {
                    authority,
                    issuer: issuer.map(CertificateDer::from),
                    sequence: unsigned(sequence),
                    time: unsigned(time),
                    chain: chain.try_into().map_err(|_| odd())?,
                    signature: signature.try_into().map_err(|_| odd())?,
                })
            })
            .collect()
    }
}

/// Keeps a checkpoint, in the place of one for the same row.
pub(crate) async fn keep_checkpoint(
    transaction: &mut Write,
    checkpoint: &Checkpoint,
) -> Result<(), Error> {
    sqlx::query(
        "INSERT INTO audit_checkpoint (sequence, time, chain, issuer, signature) VALUES ($1, $2, $3, $4, $5)
         ON CONFLICT (sequence) DO UPDATE SET time = $2, chain = $3, issuer = $4, signature = $5",
    )
    .bind(signed(checkpoint.sequence))
    .bind(signed(checkpoint.time))
    .bind(&checkpoint.chain[..])
    .bind(checkpoint.issuer.as_deref())
    .bind(&checkpoint.signature[..])
    .execute(&mut **transaction)
    .await?;
    Ok(())
}

/// Notes that a key was split into these shares.
pub(crate) async fn note_shares(
    transaction: &mut Write,
    share: &Share,
    key_id: &str,
    now: UnixTime,
) -> Result<(), Error> {
    sqlx::query(
        "INSERT INTO backup_shares (share_set, key_id, threshold, shares, made) VALUES ($1, $2, $3, $4, $5)",
    )
    .bind(share.set())
    .bind(key_id)
    .bind(i64::from(share.threshold()))
    .bind(i64::from(share.count()))
    .bind(signed(now.as_secs()))
    .execute(&mut **transaction)
    .await?;
    Ok(())
}
