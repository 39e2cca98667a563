//! Who can read what: devices, policies, the schema.

use serde::Serialize;
use smqtt_pki::{DeviceId, UnixTime};
use smqtt_policy::{AttributeSet, Policy, Schema};

use crate::devices::parse;
use crate::register;
use crate::register::audit::{self, Act, Actor};
use crate::{Authority, DeviceRecord, DeviceState, Error};

/// Which devices are asked for; what is `None` does not matter.
#[derive(Clone, Debug, Default)]
pub struct DeviceFilter {
    /// In this state.
    pub state: Option<DeviceState>,
    /// With attributes that satisfy this policy.
    pub policy: Option<Policy>,
    /// With this profile.
    pub profile: Option<String>,
    /// With a name that begins so.
    pub prefix: Option<String>,
    /// With a certificate that expires, or has expired, by this second since 1970.
    pub expires_by: Option<u64>,
    /// With a newest attribute key of an epoch before this one.
    pub behind: Option<u64>,
}

impl DeviceFilter {
    /// Whether a device is one of those that are asked for.
    ///
    /// # Errors
    /// [`Error::Attributes`] if the register holds attributes that can not be read.
    pub fn matches(&self, device: &DeviceRecord) -> Result<bool, Error> {
        let plain = self.state.is_none_or(|state| device.state == state)
            && (self.profile.is_none() || self.profile == device.profile)
            && self
                .prefix
                .as_ref()
                .is_none_or(|prefix| device.name.as_str().starts_with(prefix.as_str()))
            && self.expires_by.is_none_or(|by| {
                device.state != DeviceState::Revoked
                    && device.certificate_expires.is_some_and(|at| at <= by)
            })
            && self
                .behind
                .is_none_or(|epoch| device.key_epoch.is_some_and(|held| held < epoch));
        Ok(plain
            && match &self.policy {
                None => true,
                Some(policy) => policy.evaluate(&parse(None, &device.attributes)?),
            })
    }
}

/// How two policies differ for the registered devices. Names, in order.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct PolicyDiff {
    /// Who satisfies the second, not the first.
    pub gains: Vec<String>,
    /// Who satisfies the first, not the second.
    pub loses: Vec<String>,
    /// How many satisfy both.
    pub both: usize,
}

impl Authority {
    /// The devices that are asked for, by name.
    ///
    /// # Errors
    /// [`Error::Register`], [`Error::Attributes`].
    pub async fn devices_where(&self, filter: &DeviceFilter) -> Result<Vec<DeviceRecord>, Error> {
        let mut found = Vec::new();
        for device in self.devices().await? {
            if filter.matches(&device)? {
                found.push(device);
            }
        }
        Ok(found)
    }

    /// A page of the devices that are asked for: those whose names come after `after`, by name, at most `limit`. Whether there
    /// are more comes with them.
    ///
    /// # Errors
    /// As [`Authority::devices_where`].
    pub async fn devices_page(
        &self,
        filter: &DeviceFilter,
        after: Option<&DeviceId>,
        limit: usize,
    ) -> Result<(Vec<DeviceRecord>, bool), Error> {
        const STRIDE: usize = 1000;
        let mut after = after.map_or_else(String::new, ToString::to_string);
        let mut found = Vec::new();
        loop {
            let devices = self.register().devices_after(&after, STRIDE).await?;
            let last = devices.len() < STRIDE;
            if let Some(device) = devices.last() {
                after = device.name.to_string();
            }
            for device in devices {
                if filter.matches(&device)? {
                    if found.len() == limit {
                        return Ok((found, true));
                    }
                    found.push(device);
                }
            }
            if last {
                return Ok((found, false));
            }
        }
    }

    /// Reads a policy, through the schema if there is one.
    ///
    /// # Errors
    /// [`Error::Policy`], [`Error::Register`].
    pub async fn policy(&self, text: &str) -> Result<Policy, Error> {
        let schema = register::schema(self.register().reader()).await?;
        let parsed = match &schema {
            Some(schema) => schema.policy(text),
            None => text.parse(),
        };
        parsed.map_err(|error| Error::Policy {
            text: text.into(),
            error,
        })
    }

    /// The devices whose attributes satisfy a policy, those that were revoked left out; `topic` is where the message would be
    /// published, for policies that ask for it. Suspended devices and those that have not enrolled yet are among them.
    ///
    /// # Errors
    /// [`Error::Register`], [`Error::Attributes`], [`Error::Schema`] for an impossible topic.
    pub async fn who(
        &self,
        policy: &Policy,
        topic: Option<&str>,
    ) -> Result<Vec<DeviceRecord>, Error> {
        let mut found = Vec::new();
        for device in self.devices().await? {
            if device.state != DeviceState::Revoked && policy.evaluate(&attributes(&device, topic)?)
            {
                found.push(device);
            }
        }
        Ok(found)
    }

    /// Reads tags, through the schema if there is one.
    ///
    /// # Errors
    /// [`Error::Attributes`], [`Error::Register`].
    pub async fn tags(&self, text: &str) -> Result<AttributeSet, Error> {
        let schema = register::schema(self.register().reader()).await?;
        parse(schema.as_ref(), text)
    }

    /// The devices whose key policy is satisfied by messages with these tags, published at `topic`; else as
    /// [`Authority::who`].
    ///
    /// # Errors
    /// [`Error::Register`], [`Error::Schema`] for an impossible topic.
    pub async fn who_reads_tags(
        &self,
        tags: &AttributeSet,
        topic: Option<&str>,
    ) -> Result<Vec<DeviceRecord>, Error> {
        let unfit = |e: smqtt_policy::Error| Error::Schema(e.to_string());
        let label = match topic {
            None => tags.clone(),
            Some(topic) => tags.with_topic(topic).map_err(unfit)?,
        };
        let mut found = Vec::new();
        for device in self.devices().await? {
            let Some(text) = &device.key_policy else {
                continue;
            };
            let policy = Policy::from_canonical(text).map_err(unfit)?;
            if device.state != DeviceState::Revoked && policy.evaluate(&label) {
                found.push(device);
            }
        }
        Ok(found)
    }

    /// Who gains and who loses if `new` takes the place of `old`.
    ///
    /// # Errors
    /// As [`Authority::who`].
    pub async fn policy_diff(
        &self,
        old: &Policy,
        new: &Policy,
        topic: Option<&str>,
    ) -> Result<PolicyDiff, Error> {
        let mut diff = PolicyDiff {
            gains: Vec::new(),
            loses: Vec::new(),
            both: 0,
        };
        for device in self.devices().await? {
            if device.state == DeviceState::Revoked {
                continue;
            }
            let set = attributes(&device, topic)?;
            match (old.evaluate(&set), new.evaluate(&set)) {
                (false, true) => diff.gains.push(device.name.to_string()),
                (true, false) => diff.loses.push(device.name.to_string()),
                (true, true) => diff.both += 1,
                (false, false) => {}
            }
        }
        Ok(diff)
    }

    /// The schema that holds: its version and its text; `None` before the first.
    ///
    /// # Errors
    /// [`Error::Register`].
    pub async fn schema(&self) -> Result<Option<(u64, String)>, Error> {
        register::schema_text(self.register().reader()).await
    }

    /// Checks that a schema (TOML) can take the place of the one that holds: it parses, and every device and profile
    /// keeps its attributes and key policy under it. Nothing that was issued depends on it.
    ///
    /// # Errors
    /// [`Error::Schema`], [`Error::SchemaRefuses`] with every device and profile that would not fit.
    pub async fn check_schema(&self, text: &str) -> Result<Schema, Error> {
        let schema = Schema::from_toml(text).map_err(|e| Error::Schema(e.to_string()))?;
        let mut misfits = Vec::new();
        let mut check = |who: String, attributes: &str, key_policy: Option<&str>| {
            if let Err(error) = schema.check_set(&parse(None, attributes)?) {
                misfits.push(format!("{who}: {error}"));
            }
            let key_policy = key_policy.map(Policy::from_canonical).transpose();
            let checked = key_policy
                .and_then(|policy| policy.map_or(Ok(()), |policy| schema.check_policy(&policy)));
            if let Err(error) = checked {
                misfits.push(format!("{who}: key policy: {error}"));
            }
            Ok::<_, Error>(())
        };
        for device in self.devices().await? {
            let own = device.own_key_policy.as_deref();
            check(format!("device {}", device.name), &device.attributes, own)?;
        }
        for profile in self.profiles().await? {
            let who = format!("profile {}", profile.name);
            check(who, &profile.attributes, profile.key_policy.as_deref())?;
        }
        if misfits.is_empty() {
            Ok(schema)
        } else {
            Err(Error::SchemaRefuses(misfits))
        }
    }

    /// Lets a schema hold from now on. Returns its version.
    ///
    /// # Errors
    /// As [`Authority::check_schema`].
    pub async fn set_schema(&self, text: &str, actor: &Actor, now: UnixTime) -> Result<u64, Error> {
        let schema = self.check_schema(text).await?;
        let mut transaction = self.register().write().await?;
        let version = register::insert_schema(&mut transaction, text, now).await?;
        let act = Act {
            action: "schema-set",
            subject: &version.to_string(),
            detail: &format!("{} attributes", schema.iter().count()),
        };
        audit::append(&mut transaction, actor, &act, "ok", now).await?;
        transaction.commit().await?;
        Ok(version)
    }
}

fn attributes(device: &DeviceRecord, topic: Option<&str>) -> Result<AttributeSet, Error> {
    let set = parse(None, &device.attributes)?;
    match topic {
        None => Ok(set),
        Some(topic) => set
            .with_topic(topic)
            .map_err(|e| Error::Schema(e.to_string())),
    }
}
