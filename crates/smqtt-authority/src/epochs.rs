//! Epochs: how they are shown, advanced, scheduled.

use std::time::Duration;

use serde::Serialize;
use smqtt_format::Sealing;
use smqtt_pki::UnixTime;

use crate::register::audit::{self, Act, Actor};
use crate::register::{self, BrokerRecord, EpochRecord, Settings};
use crate::{Authority, Error, Issuer};

/// A new epoch, as [`Issuer::advance_epoch`] has begun it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Advanced {
    /// The epoch.
    pub epoch: u64,
    /// From when publishers seal for it, in seconds since 1970.
    pub seal_from: u64,
}

/// How far the fleet is.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct EpochStatus {
    /// The newest epoch, for which keys are issued.
    pub epoch: u64,
    /// The epoch that publishers seal for now.
    pub sealing: u64,
    /// What publishers seal for now and will from when.
    pub schedule: Vec<(u64, u64)>,
    /// The newest epochs, ascending.
    pub epochs: Vec<EpochRecord>,
    /// How many devices that could connect now hold a key of which epoch as their newest, ascending by epoch.
    pub devices: Vec<(u64, u64)>,
    /// When the next epoch begins by the schedule.
    pub next: Option<u64>,
    /// The brokers, with the state that each has.
    pub brokers: Vec<BrokerRecord>,
    /// The newest state's sequence number; 0 before the first.
    pub state: u64,
}

impl EpochStatus {
    /// How many devices hold a key of the newest epoch.
    #[must_use]
    pub fn renewed(&self) -> u64 {
        self.devices
            .iter()
            .filter(|(epoch, _)| *epoch == self.epoch)
            .map(|(_, count)| count)
            .sum()
    }

    /// How many devices there are in all that could connect now.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.devices.iter().map(|(_, count)| count).sum()
    }
}

/// The longest span that can be set: ten years.
const MAX_SPAN: Duration = Duration::from_secs(3650 * 86_400);

impl Authority {
    /// How far the fleet is.
    ///
    /// # Errors
    /// [`Error::Register`].
    pub async fn epoch_status(&self, now: UnixTime) -> Result<EpochStatus, Error> {
        let reader = self.register().reader();
        let epochs = register::epochs(reader, 16).await?;
        let sealing = register::sealing(reader, now).await?;
        let settings = register::settings(reader).await?;
        let newest = epochs.last();
        let next = match (settings.epoch_every, newest) {
            (Some(every), Some(newest)) if newest.started > 0 => {
                Some(newest.started + every.as_secs())
            }
            _ => None,
        };
        let epoch = newest.map_or(0, |record| record.epoch);
        Ok(EpochStatus {
            epoch,
            sealing: smqtt_format::sealing_epoch(&sealing, now.as_secs()).unwrap_or(epoch),
            schedule: sealing
                .iter()
                .map(|Sealing { epoch, from }| (*epoch, *from))
                .collect(),
            devices: register::devices_by_epoch(reader, now).await?,
            next,
            brokers: register::brokers(reader).await?,
            state: register::newest_state(reader)
                .await?
                .map_or(0, |state| state.sequence),
            epochs,
        })
    }

    /// How the fleet is run.
    ///
    /// # Errors
    /// [`Error::Register`].
    pub async fn settings(&self) -> Result<Settings, Error> {
        register::settings(self.register().reader()).await
    }

    /// Changes how the fleet is run: `change` gets the settings as they are. Returns them as they became.
    ///
    /// # Errors
    /// [`Error::Setting`] for a span that is too short or too long, [`Error::Register`].
    pub async fn change_settings(
        &self,
        change: impl FnOnce(&mut Settings) + Send,
        actor: &Actor,
        now: UnixTime,
    ) -> Result<Settings, Error> {
        let mut transaction = self.register().write().await?;
        let mut settings = register::settings(&mut *transaction).await?;
        change(&mut settings);
        check(&settings)?;
        register::set_settings(&mut transaction, &settings).await?;
        let every = settings.epoch_every.map_or_else(
            || "never".to_owned(),
            |every| format!("{}s", every.as_secs()),
        );
        let detail = format!(
            "every {every} overlap {}s revocation-overlap {}s renewal-grace {}s crl-valid {}s crl-out {}",
            settings.overlap.as_secs(),
            settings.revocation_overlap.as_secs(),
            settings.renewal_grace.as_secs(),
            settings.crl_valid.as_secs(),
            settings
                .crl_out
                .as_ref()
                .map_or_else(|| "none".into(), |path| path.to_string_lossy()),
        );
        let act = Act {
            action: "settings",
            subject: "",
            detail: &detail,
        };
        audit::append(&mut transaction, actor, &act, "ok", now).await?;
        transaction.commit().await?;
        Ok(settings)
    }
}

impl Issuer {
    /// Begins a new epoch: from now on keys are issued for it, and after `overlap` (by default the one that is set)
    /// publishers seal for it. [`Issuer::deliver`] tells the brokers.
    ///
    /// # Errors
    /// [`Error::Setting`], [`Error::Register`].
    pub async fn advance_epoch(
        &self,
        overlap: Option<Duration>,
        cause: &str,
        actor: &Actor,
        now: UnixTime,
    ) -> Result<Advanced, Error> {
        let advanced = self.advance_from(None, overlap, cause, actor, now).await?;
        advanced.ok_or(Error::Task)
    }

    /// Begins a new epoch; none if the current one is not `from` any more, because another instance has begun one.
    async fn advance_from(
        &self,
        from: Option<u64>,
        overlap: Option<Duration>,
        cause: &str,
        actor: &Actor,
        now: UnixTime,
    ) -> Result<Option<Advanced>, Error> {
        let own = self.own_identity(now).await?;
        let mut transaction = self.authority.register().write().await?;
        let current = register::epoch(&mut *transaction).await?.get();
        if from.is_some_and(|from| from != current) {
            return Ok(None);
        }
        let settings = register::settings(&mut *transaction).await?;
        let overlap = overlap.unwrap_or(settings.overlap);
        span("overlap", overlap)?;
        let seal_from = now.as_secs() + overlap.as_secs();
        let epoch = register::begin_epoch(&mut transaction, seal_from, cause, now).await?;
        let state = self.sign_state(&mut transaction, &own, now).await?;
        let act = Act {
            action: "epoch-advance",
            subject: &epoch.to_string(),
            detail: &format!("{cause} seal-from {seal_from} state {state}"),
        };
        audit::append(&mut transaction, actor, &act, "ok", now).await?;
        transaction.commit().await?;
        self.keep_identity(own);
        Ok(Some(Advanced {
            epoch: epoch.get(),
            seal_from,
        }))
    }

    /// Begins a new epoch if the schedule asks for one at `now`. Several instances may ask: only one begins it.
    pub(crate) async fn advance_if_due(&self, now: UnixTime) -> Result<Option<Advanced>, Error> {
        let status = self.authority.epoch_status(now).await?;
        if status.epochs.last().is_some_and(|last| last.started == 0) {
            let mut transaction = self.authority.register().write().await?;
            register::start_schedule(&mut transaction, now).await?;
            transaction.commit().await?;
            return Ok(None);
        }
        if status.next.is_none_or(|next| now.as_secs() < next) {
            return Ok(None);
        }
        self.advance_from(Some(status.epoch), None, "schedule", &Actor::service(), now)
            .await
    }
}

fn check(settings: &Settings) -> Result<(), Error> {
    if let Some(every) = settings.epoch_every {
        span("epoch schedule", every)?;
        if every.is_zero() {
            return Err(Error::Setting {
                what: "epoch schedule",
                reason: "it is at least a second",
            });
        }
        if settings.overlap >= every {
            return Err(Error::Setting {
                what: "overlap",
                reason: "it must be shorter than the time between two epochs",
            });
        }
    }
    span("overlap", settings.overlap)?;
    span("overlap of a revocation", settings.revocation_overlap)?;
    span("grace of renewals", settings.renewal_grace)?;
    span("validity of revocation lists", settings.crl_valid)
}

fn span(what: &'static str, span: Duration) -> Result<(), Error> {
    if span > MAX_SPAN {
        return Err(Error::Setting {
            what,
            reason: "it is at most 3650 days",
        });
    }
    Ok(())
}
