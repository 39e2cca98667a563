//! Signed checkpoints of the audit log, and its export, which both are verified without the authority.

use std::io::{BufRead, Write};
use std::path::Path;
use std::time::Duration;

use data_encoding::BASE64;
use serde::{Deserialize, Serialize};
use smqtt_pki::{
    CertificateAuthority, CertificateDer, Fingerprint, Intermediate, TrustAnchor, UnixTime,
};

use crate::register::audit::{self, AuditEntry, Verifier};
use crate::register::safety;
use crate::{Authority, Error, Issuer};

/// The authority's signed word for where its audit log stood: of every row up to `sequence` none was changed or removed as
/// long as the chain value is the one here. Kept outside of the authority, it binds even who has the authority's keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// The root certificate's fingerprint.
    pub authority: Fingerprint,
    /// The last row that is covered.
    pub sequence: u64,
    /// When it was made, in seconds since 1970.
    pub time: u64,
    /// The chain value of that row.
    pub chain: [u8; 32],
    /// The certificate of the intermediate that signed it; `None` if the root did.
    pub(crate) issuer: Option<CertificateDer<'static>>,
    /// ECDSA P-256 with SHA-256 by the authority's key.
    pub(crate) signature: [u8; 64],
}

/// What a verification found.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Verified {
    /// How many rows there are.
    pub entries: u64,
    /// The last chain value.
    pub chain: [u8; 32],
    /// How many checkpoints agreed.
    pub checkpoints: usize,
    /// The last row that a checkpoint covers; what comes after it could have been cut off unseen. 0 without any.
    pub covered: u64,
}

/// A checkpoint in JSON. Field order and form are fixed, so that there is one text for each checkpoint.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct CheckpointText {
    checkpoint: u32,
    authority: Fingerprint,
    sequence: u64,
    time: u64,
    chain: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    issuer: Option<String>,
    signature: String,
}

/// A row in JSON.
#[derive(Serialize, Deserialize)]
struct RowText {
    #[serde(flatten)]
    entry: AuditEntry,
    chain: String,
}

/// The version of a checkpoint that the root has signed, and of one with its signer's certificate.
const VERSIONS: [u32; 2] = [1, 2];
/// The most bytes of a line of an export.
const MAX_LINE: u64 = 1024 * 1024;

fn hex(bytes: &[u8]) -> String {
    data_encoding::HEXLOWER.encode(bytes)
}

fn unhex<const N: usize>(text: &str) -> Option<[u8; N]> {
    data_encoding::HEXLOWER
        .decode(text.as_bytes())
        .ok()?
        .try_into()
        .ok()
}

impl Checkpoint {
    /// What is signed: by the root, or by the intermediate with this certificate. A certificate has more than one encoding
    /// that verifies, so an intermediate signs which one it is.
    fn statement(&self, issuer: Option<&CertificateDer<'_>>) -> Vec<u8> {
        let version = VERSIONS[usize::from(issuer.is_some())];
        let mut statement = format!("smqtt audit checkpoint {version}").into_bytes();
        statement.extend_from_slice(self.authority.as_bytes());
        statement.extend_from_slice(&self.sequence.to_be_bytes());
        statement.extend_from_slice(&self.time.to_be_bytes());
        statement.extend_from_slice(&self.chain);
        if let Some(der) = issuer {
            statement.extend_from_slice(Fingerprint::of(der).as_bytes());
        }
        statement
    }

    fn sign(ca: &CertificateAuthority, sequence: u64, chain: [u8; 32], now: UnixTime) -> Self {
        let mut checkpoint = Self {
            authority: ca.fingerprint(),
            sequence,
            time: now.as_secs(),
            chain,
            issuer: ca.intermediate().map(|i| i.certificate().clone()),
            signature: [0; 64],
        };
        checkpoint.signature = ca.sign_statement(&checkpoint.statement(checkpoint.issuer.as_ref()));
        checkpoint
    }

    /// Checks that the authority with this root certificate signed it, with the root's key or with that of the intermediate
    /// whose certificate it carries.
    ///
    /// # Errors
    /// [`Error::Checkpoint`].
    pub fn verify(&self, anchor: &TrustAnchor) -> Result<(), Error> {
        if self.authority != anchor.fingerprint() {
            return Err(Error::Checkpoint(format!(
                "it is of the authority with fingerprint {}",
                self.authority
            )));
        }
        let foreign = || Error::Checkpoint("its signature is not the authority's".into());
        let signed_by = |signer: &Intermediate| {
            let time = UnixTime::since_unix_epoch(Duration::from_secs(self.time));
            let in_time = signer.validity().check(time).is_ok();
            let statement = self.statement(Some(signer.certificate()));
            in_time && signer.verify_statement(&statement, &self.signature).is_ok()
        };
        let good = match &self.issuer {
            Some(der) => {
                signed_by(&Intermediate::verify(der.clone(), anchor).map_err(|_| foreign())?)
            }
            None => {
                let statement = self.statement(None);
                anchor.verify_statement(&statement, &self.signature).is_ok()
            }
        };
        good.then_some(()).ok_or_else(foreign)
    }

    /// Finds the certificate of its signer where the register does not have it: registers had no place for it at first, and
    /// then the signer was the root or one of these.
    fn find_issuer(&mut self, anchor: &TrustAnchor, known: &[Intermediate]) {
        if self.issuer.is_some() || self.verify(anchor).is_ok() {
            return;
        }
        let signer = known.iter().find(|intermediate| {
            let issuer = Some(intermediate.certificate().clone());
            let signed = Self {
                issuer,
                ..self.clone()
            };
            signed.verify(anchor).is_ok()
        });
        self.issuer = signer.map(|intermediate| intermediate.certificate().clone());
    }

    /// The checkpoint as one line of JSON.
    #[must_use]
    pub fn to_json(&self) -> String {
        let text = CheckpointText {
            checkpoint: VERSIONS[usize::from(self.issuer.is_some())],
            authority: self.authority,
            sequence: self.sequence,
            time: self.time,
            chain: hex(&self.chain),
            issuer: self.issuer.as_ref().map(|der| BASE64.encode(der)),
            signature: hex(&self.signature),
        };
        serde_json::to_string(&text).unwrap_or_default()
    }

    /// Reads what [`Checkpoint::to_json`] has written.
    ///
    /// # Errors
    /// [`Error::Checkpoint`] for anything else.
    pub fn from_json(text: &str) -> Result<Self, Error> {
        let odd = |reason: &str| Error::Checkpoint(format!("it can not be read: {reason}"));
        let read: CheckpointText = serde_json::from_str(text).map_err(|e| odd(&e.to_string()))?;
        if !VERSIONS.contains(&read.checkpoint) {
            return Err(odd("it has a version that this program does not know"));
        }
        let checkpoint = Self {
            authority: read.authority,
            sequence: read.sequence,
            time: read.time,
            chain: unhex(&read.chain).ok_or_else(|| odd("its chain value is no SHA-256"))?,
            issuer: read
                .issuer
                .map(|text| BASE64.decode(text.as_bytes()).map(CertificateDer::from))
                .transpose()
                .map_err(|_| odd("its signer's certificate is no base64"))?,
            signature: unhex(&read.signature)
                .ok_or_else(|| odd("its signature has another size"))?,
        };
        if checkpoint.to_json() != text {
            return Err(odd("it is not written as the authority writes it"));
        }
        Ok(checkpoint)
    }
}

impl Issuer {
    /// Signs where the audit log stands now, and keeps the checkpoint in the register. `None` if the log is empty.
    ///
    /// # Errors
    /// [`Error::Register`].
    pub async fn checkpoint(&self, now: UnixTime) -> Result<Option<Checkpoint>, Error> {
        let mut transaction = self.authority.register().write().await?;
        let Some((sequence, chain)) = audit::last(&mut transaction).await? else {
            return Ok(None);
        };
        let checkpoint = Checkpoint::sign(&self.keys.ca, sequence, chain, now);
        safety::keep_checkpoint(&mut transaction, &checkpoint).await?;
        transaction.commit().await?;
        Ok(Some(checkpoint))
    }

    /// Writes the audit log, one JSON object a line, with the chain values, and a checkpoint of its last row at the end.
    ///
    /// # Errors
    /// [`Error::AuditBroken`], [`Error::Register`], [`Error::Export`].
    pub async fn export_audit(&self, to: &mut impl Write, now: UnixTime) -> Result<u64, Error> {
        let mut failed = None;
        let (count, chain) = self
            .authority
            .audit(|entry, chain| {
                let row = RowText {
                    entry: entry.clone(),
                    chain: hex(chain),
                };
                let line = serde_json::to_string(&row).map_err(std::io::Error::from);
                let written = line.and_then(|line| writeln!(to, "{line}"));
                if failed.is_none() {
                    failed = written.err();
                }
            })
            .await?;
        let checkpoint = Checkpoint::sign(&self.keys.ca, count, chain, now);
        let end = match failed {
            Some(error) => Err(error),
            None => writeln!(to, "{}", checkpoint.to_json()).and_then(|()| to.flush()),
        };
        end.map_err(Error::Export)?;
        Ok(count)
    }
}

impl Authority {
    /// Verifies the audit log: its chain, all checkpoints that the register keeps, and these.
    ///
    /// # Errors
    /// [`Error::AuditBroken`] at the first row that does not fit, [`Error::Checkpoint`], [`Error::Register`].
    pub async fn verify_audit(&self, more: &[Checkpoint]) -> Result<Verified, Error> {
        let anchor = self.directory().trust_anchor();
        let known = self.directory().intermediates();
        let mut checkpoints = self.register().checkpoints(anchor.fingerprint()).await?;
        for checkpoint in &mut checkpoints {
            checkpoint.find_issuer(anchor, known);
        }
        checkpoints.extend_from_slice(more);
        let mut comparison = Comparison::new(&checkpoints, anchor)?;
        let (entries, chain) = self
            .audit(|entry, chain| comparison.at(entry.sequence, chain))
            .await?;
        comparison.finish(entries, chain)
    }
}

/// Verifies an export of an audit log, with the checkpoint at its end and these. Nothing but the root certificate is needed.
///
/// # Errors
/// [`Error::AuditBroken`] at the first line that is not as the authority wrote it, [`Error::Checkpoint`],
/// [`Error::Export`].
pub fn verify_audit_export(
    from: &mut impl BufRead,
    anchor: &TrustAnchor,
    more: &[Checkpoint],
) -> Result<Verified, Error> {
    let mut verifier = Verifier::default();
    let mut checkpoints = Comparison::new(more, anchor)?;
    let mut at_end = None;
    let mut line = Vec::new();
    loop {
        line.clear();
        let length = std::io::Read::take(&mut *from, MAX_LINE)
            .read_until(b'\n', &mut line)
            .map_err(Error::Export)?;
        if length == 0 {
            break;
        }
        let broken = |reason| Error::AuditBroken {
            sequence: verifier.count() + 1,
            reason,
        };
        if at_end.is_some() {
            return Err(Error::Checkpoint(
                "lines follow the one that ends the export".into(),
            ));
        }
        let text = line
            .strip_suffix(b"\n")
            .and_then(|line| std::str::from_utf8(line).ok())
            .ok_or_else(|| broken("its line is no text, or ends early"))?;
        if text.starts_with("{\"checkpoint\"") {
            at_end = Some(Checkpoint::from_json(text)?);
            continue;
        }
        let row: RowText =
            serde_json::from_str(text).map_err(|_| broken("its line can not be read"))?;
        let chain: [u8; 32] = unhex(&row.chain).ok_or_else(|| broken("its chain value is none"))?;
        // One text for each row: no byte can be changed without changing what it says.
        if serde_json::to_string(&row).ok().as_deref() != Some(text) {
            return Err(broken("its line is not written as the authority writes it"));
        }
        verifier.push(&row.entry, &chain)?;
        checkpoints.at(row.entry.sequence, &chain);
    }
    let (entries, chain) = verifier.finish();
    let Some(end) = at_end else {
        return Err(Error::Checkpoint(
            "the export has none at its end: it was cut off".into(),
        ));
    };
    end.verify(anchor)?;
    if (end.sequence, end.chain) != (entries, chain) {
        return Err(Error::Checkpoint(format!(
            "the one at the export's end is of {} entries, there are {entries}",
            end.sequence
        )));
    }
    let mut verified = checkpoints.finish(entries, chain)?;
    verified.checkpoints += 1;
    verified.covered = entries;
    Ok(verified)
}

/// Compares checkpoints with a log as it is gone through.
struct Comparison<'a> {
    open: Vec<&'a Checkpoint>,
    agreed: usize,
    covered: u64,
    differs: Option<u64>,
}

impl<'a> Comparison<'a> {
    fn new(checkpoints: &'a [Checkpoint], anchor: &TrustAnchor) -> Result<Self, Error> {
        let mut open: Vec<_> = checkpoints.iter().collect();
        for checkpoint in &open {
            checkpoint.verify(anchor)?;
        }
        // The next to compare with is last.
        open.sort_by_key(|checkpoint| std::cmp::Reverse(checkpoint.sequence));
        Ok(Self {
            open,
            agreed: 0,
            covered: 0,
            differs: None,
        })
    }

    fn at(&mut self, sequence: u64, chain: &[u8; 32]) {
        while let Some(next) = self.open.last().filter(|next| next.sequence <= sequence) {
            if next.sequence == sequence && next.chain == *chain {
                self.agreed += 1;
                self.covered = sequence;
            } else if self.differs.is_none() {
                self.differs = Some(sequence);
            }
            self.open.pop();
        }
    }

    fn finish(self, entries: u64, chain: [u8; 32]) -> Result<Verified, Error> {
        if let Some(sequence) = self.differs {
            return Err(Error::AuditBroken {
                sequence,
                reason: "a checkpoint says otherwise: the log was rewritten up to there",
            });
        }
        if let Some(missing) = self.open.first() {
            return Err(Error::Checkpoint(format!(
                "one covers {} entries and there are {entries}: entries were removed at the end, or this is an older copy",
                missing.sequence
            )));
        }
        Ok(Verified {
            entries,
            chain,
            checkpoints: self.agreed,
            covered: self.covered,
        })
    }
}

/// Reads checkpoints from a file: one a line.
///
/// # Errors
/// [`Error::Checkpoint`], and those of reading a file.
pub fn read_checkpoints(path: &Path) -> Result<Vec<Checkpoint>, Error> {
    let bytes =
        smqtt_pki::files::read(path, MAX_LINE, "give a file that `audit checkpoint` wrote")?;
    let text = std::str::from_utf8(&bytes)
        .map_err(|_| Error::Checkpoint("it can not be read: it is no text".into()))?;
    let lines = text.lines().filter(|line| !line.trim().is_empty());
    let checkpoints: Vec<_> = lines.map(Checkpoint::from_json).collect::<Result<_, _>>()?;
    if checkpoints.is_empty() {
        return Err(Error::Checkpoint(format!("{} holds none", path.display())));
    }
    Ok(checkpoints)
}
