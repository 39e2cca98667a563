//! Registering devices, one or many, changing and removing them, and giving out their tokens.

use std::time::Duration;

use smqtt_pki::enrolment::EnrolmentToken;
use smqtt_pki::{AUTHORITY_DEVICE, DeviceId, UnixTime};
use smqtt_policy::{AttributeSet, Policy, Schema};

use crate::clock::system_rng;
use crate::register::audit::{self, Act, Actor};
use crate::register::{self, Write};
use crate::{Authority, DeviceRecord, DeviceState, Error, ProfileRecord};

/// A device that is to be registered.
#[derive(Clone, Debug)]
pub struct NewDevice {
    /// Its name.
    pub name: DeviceId,
    /// Its own attributes; each replaces those of the profile that have the same name.
    pub attributes: String,
    /// The profile whose attributes it has too.
    pub profile: Option<String>,
    /// What it may read by a policy key, beside what its attributes let it; replaces its profile's.
    pub key_policy: Option<String>,
}

/// What a token is good for.
#[derive(Clone, Copy, Debug)]
pub struct TokenTerms {
    /// How long it can be used.
    pub lifetime: Duration,
    /// How often it can be used.
    pub uses: u32,
}

impl Default for TokenTerms {
    /// Once, within a day.
    fn default() -> Self {
        Self {
            lifetime: Duration::from_secs(86_400),
            uses: 1,
        }
    }
}

/// A token that was just given out. It is shown this once.
pub struct Grant {
    /// The device that may enrol with it.
    pub device: DeviceId,
    /// The device's attributes, canonical text.
    pub attributes: String,
    /// The device's key policy, canonical text, if it has one.
    pub key_policy: Option<String>,
    /// The token.
    pub token: EnrolmentToken,
    /// Until when it can be used.
    pub expires: UnixTime,
    /// How often it can be used.
    pub uses: u32,
}

/// What came of one line of an import.
pub type Imported = Result<Grant, Error>;

/// How a device is to be changed; what is `None` stays.
#[derive(Clone, Debug, Default)]
pub struct Change {
    /// Its own attributes.
    pub attributes: Option<String>,
    /// Its profile; `Some(None)` takes it away.
    pub profile: Option<Option<String>>,
    /// Its own key policy; `Some(None)` takes it away.
    pub key_policy: Option<Option<String>>,
}

const MIN_TOKEN_LIFETIME: Duration = Duration::from_secs(1);
const MAX_TOKEN_LIFETIME: Duration = Duration::from_secs(365 * 86_400);
const MAX_TOKEN_USES: u32 = 100;

impl Authority {
    /// Registers a device and gives out its first token.
    ///
    /// # Errors
    /// [`Error::Attributes`], [`Error::Policy`], [`Error::Schema`], [`Error::NoAttributes`], [`Error::NoSuchProfile`],
    /// [`Error::DeviceExists`], [`Error::ReservedName`], [`Error::TokenLifetime`], [`Error::TokenUses`].
    pub async fn add_device(
        &self,
        device: &NewDevice,
        terms: TokenTerms,
        actor: &Actor,
        now: UnixTime,
    ) -> Result<Grant, Error> {
        let mut transaction = self.register().write().await?;
        let schema = register::schema(&mut *transaction).await?;
        let outcome = register_one(&mut transaction, schema.as_ref(), device, terms, now).await;
        let detail = match &outcome {
            Ok(grant) => in_words(&grant.attributes, grant.key_policy.as_deref()),
            Err(_) => device.attributes.clone(),
        };
        let act = Act {
            action: "device-add",
            subject: device.name.as_str(),
            detail: &detail,
        };
        if matches!(outcome, Ok(_) | Err(Error::DeviceExists(_))) {
            audit::append(&mut transaction, actor, &act, code(&outcome), now).await?;
            transaction.commit().await?;
        }
        outcome
    }

    /// Registers many devices in one transaction: all of them, or with `partly` those that can be; returns what came of each,
    /// in their order. If not all can be and `partly` is false, none is. `progress` is told after each how many are done.
    ///
    /// # Errors
    /// [`Error::Register`]; what is wrong with a device is in the result.
    pub async fn import_devices(
        &self,
        devices: &[NewDevice],
        partly: bool,
        terms: TokenTerms,
        actor: &Actor,
        now: UnixTime,
        mut progress: impl FnMut(usize) + Send,
    ) -> Result<Vec<Imported>, Error> {
        let mut transaction = self.register().write().await?;
        let schema = register::schema(&mut *transaction).await?;
        let mut outcomes = Vec::with_capacity(devices.len());
        for device in devices {
            let outcome = register_one(&mut transaction, schema.as_ref(), device, terms, now).await;
            match &outcome {
                Ok(grant) => {
                    let act = Act {
                        action: "device-add",
                        subject: device.name.as_str(),
                        detail: &in_words(&grant.attributes, grant.key_policy.as_deref()),
                    };
                    audit::append(&mut transaction, actor, &act, "ok", now).await?;
                }
                Err(Error::Register(_)) => {
                    return outcome.map(|_| Vec::new());
                }
                Err(_) => {}
            }
            outcomes.push(outcome);
            progress(outcomes.len());
        }
        if partly || outcomes.iter().all(Result::is_ok) {
            transaction.commit().await?;
        }
        Ok(outcomes)
    }

    /// What [`Authority::import_devices`] would do, without doing it.
    ///
    /// # Errors
    /// As [`Authority::import_devices`].
    pub async fn check_devices(
        &self,
        devices: &[NewDevice],
        terms: TokenTerms,
        now: UnixTime,
        mut progress: impl FnMut(usize) + Send,
    ) -> Result<Vec<Imported>, Error> {
        // Never committed.
        let mut transaction = self.register().write().await?;
        let schema = register::schema(&mut *transaction).await?;
        let mut outcomes = Vec::with_capacity(devices.len());
        for device in devices {
            outcomes
                .push(register_one(&mut transaction, schema.as_ref(), device, terms, now).await);
            progress(outcomes.len());
        }
        Ok(outcomes)
    }

    /// Gives out a new token for a device; the one before it, if unused, is void. A device that is enrolled already,
    /// or was revoked, gets one only with `re_enrol`.
    ///
    /// # Errors
    /// [`Error::NoSuchDevice`], [`Error::AlreadyEnrolled`], [`Error::DeviceRevoked`], [`Error::DeviceSuspended`],
    /// [`Error::TokenLifetime`], [`Error::TokenUses`].
    pub async fn renew_token(
        &self,
        name: &DeviceId,
        re_enrol: bool,
        terms: TokenTerms,
        actor: &Actor,
        now: UnixTime,
    ) -> Result<Grant, Error> {
        let mut transaction = self.register().write().await?;
        let device = register::device(&mut *transaction, name).await?;
        let detail = if re_enrol { "re-enrol" } else { "" };
        let act = Act {
            action: "device-token",
            subject: name.as_str(),
            detail,
        };
        let refusal = match device.state {
            DeviceState::Suspended => Some(("suspended", Error::DeviceSuspended(name.clone()))),
            DeviceState::Enrolled if !re_enrol => {
                Some(("already-enrolled", Error::AlreadyEnrolled(name.clone())))
            }
            DeviceState::Revoked if !re_enrol => {
                Some(("revoked", Error::DeviceRevoked(name.clone())))
            }
            _ => None,
        };
        if let Some((outcome, error)) = refusal {
            audit::append(&mut transaction, actor, &act, outcome, now).await?;
            transaction.commit().await?;
            return Err(error);
        }
        register::withdraw_tokens(&mut transaction, name).await?;
        let (token, expires) = give_token(&mut transaction, name, terms, now).await?;
        audit::append(&mut transaction, actor, &act, "ok", now).await?;
        transaction.commit().await?;
        Ok(Grant {
            device: device.name,
            attributes: device.attributes,
            key_policy: device.key_policy,
            token,
            expires,
            uses: terms.uses,
        })
    }

    /// Changes a device's attributes, profile or key policy. Keys that it has stay what they are: what it gains it gets with its next
    /// renewal, what it loses it has until the next epoch.
    ///
    /// # Errors
    /// [`Error::NoSuchDevice`], [`Error::NoSuchProfile`], [`Error::Attributes`], [`Error::Schema`],
    /// [`Error::NoAttributes`].
    pub async fn set_device(
        &self,
        name: &DeviceId,
        change: &Change,
        actor: &Actor,
        now: UnixTime,
    ) -> Result<DeviceRecord, Error> {
        let mut transaction = self.register().write().await?;
        let schema = register::schema(&mut *transaction).await?;
        let before = register::device(&mut *transaction, name).await?;
        let own = change.attributes.as_deref().unwrap_or(&before.own);
        let profile = match &change.profile {
            Some(profile) => profile.clone(),
            None => before.profile.clone(),
        };
        let key_policy = match &change.key_policy {
            Some(policy) => policy.as_deref(),
            None => before.own_key_policy.as_deref(),
        };
        let resolved = resolve(
            &mut transaction,
            schema.as_ref(),
            (own, key_policy),
            profile.as_deref(),
        )
        .await?;
        register::update_device(&mut transaction, name, &resolved, profile.as_deref()).await?;
        let act = Act {
            action: "device-set",
            subject: name.as_str(),
            detail: &format!(
                "{} instead of {}",
                in_words(&resolved.attributes, resolved.key_policy.as_deref()),
                in_words(&before.attributes, before.key_policy.as_deref())
            ),
        };
        audit::append(&mut transaction, actor, &act, "ok", now).await?;
        let after = register::device(&mut *transaction, name).await?;
        transaction.commit().await?;
        Ok(after)
    }

    /// Sets a profile's attributes and key policy, for the devices that have it too; a key policy of `None` stays as it is,
    /// `Some(None)` takes it away. Returns how many devices those are.
    ///
    /// # Errors
    /// [`Error::ProfileName`], [`Error::Attributes`], [`Error::Policy`], [`Error::Schema`], [`Error::NoAttributes`].
    pub async fn set_profile(
        &self,
        name: &str,
        attributes: &str,
        key_policy: Option<Option<&str>>,
        actor: &Actor,
        now: UnixTime,
    ) -> Result<usize, Error> {
        if !is_profile_name(name) {
            return Err(Error::ProfileName(name.chars().take(80).collect()));
        }
        let mut transaction = self.register().write().await?;
        let schema = register::schema(&mut *transaction).await?;
        let set = parse(schema.as_ref(), attributes)?;
        let key_policy = match key_policy {
            None => register::profile(&mut *transaction, name)
                .await?
                .and_then(|profile| profile.key_policy),
            Some(given) => given
                .map(|text| parse_key_policy(schema.as_ref(), text))
                .transpose()?,
        };
        if set.is_empty() && key_policy.is_none() {
            return Err(Error::NoAttributes);
        }
        let text = set.to_string();
        let key_policy = key_policy.as_deref();
        register::put_profile(&mut transaction, name, &text, key_policy).await?;
        let devices = register::devices_of_profile(&mut transaction, name).await?;
        for (device, own, own_key_policy) in &devices {
            let own = (own.as_str(), own_key_policy.as_deref());
            let resolved = resolve(&mut transaction, schema.as_ref(), own, Some(name)).await?;
            register::update_device(&mut transaction, device, &resolved, Some(name)).await?;
        }
        let act = Act {
            action: "profile-set",
            subject: name,
            detail: &format!("{}; {} devices", in_words(&text, key_policy), devices.len()),
        };
        audit::append(&mut transaction, actor, &act, "ok", now).await?;
        transaction.commit().await?;
        Ok(devices.len())
    }

    /// Removes a profile that no device has.
    ///
    /// # Errors
    /// [`Error::NoSuchProfile`], [`Error::ProfileInUse`].
    pub async fn remove_profile(
        &self,
        name: &str,
        actor: &Actor,
        now: UnixTime,
    ) -> Result<(), Error> {
        if !is_profile_name(name) {
            return Err(Error::NoSuchProfile(name.into()));
        }
        let mut transaction = self.register().write().await?;
        let devices = register::devices_of_profile(&mut transaction, name).await?;
        if !devices.is_empty() {
            return Err(Error::ProfileInUse {
                name: name.into(),
                devices: devices.len(),
            });
        }
        if !register::delete_profile(&mut transaction, name).await? {
            return Err(Error::NoSuchProfile(name.into()));
        }
        let act = Act {
            action: "profile-remove",
            subject: name,
            detail: "",
        };
        audit::append(&mut transaction, actor, &act, "ok", now).await?;
        transaction.commit().await?;
        Ok(())
    }

    /// All profiles, by name.
    ///
    /// # Errors
    /// [`Error::Register`].
    pub async fn profiles(&self) -> Result<Vec<ProfileRecord>, Error> {
        register::profiles(self.register().reader()).await
    }
}

/// Whether a profile can have this name. What can not be one is not looked up either: PostgreSQL refuses texts with a zero byte.
fn is_profile_name(name: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    (1..=64).contains(&name.len()) && name.chars().all(plain)
}

/// A device's attributes and key policy: its own, and with its profile's; canonical texts.
pub(crate) struct Resolved {
    pub(crate) own: String,
    pub(crate) attributes: String,
    pub(crate) own_key_policy: Option<String>,
    pub(crate) key_policy: Option<String>,
}

/// The attributes and the key policy of a device with these of its own and this profile.
async fn resolve(
    transaction: &mut Write,
    schema: Option<&Schema>,
    (own, own_key_policy): (&str, Option<&str>),
    profile: Option<&str>,
) -> Result<Resolved, Error> {
    let own = parse(schema, own)?;
    let own_key_policy = own_key_policy
        .map(|text| parse_key_policy(schema, text))
        .transpose()?;
    let mut key_policy = own_key_policy.clone();
    let mut all = own.clone();
    if let Some(name) = profile {
        let none = || Error::NoSuchProfile(name.into());
        if !is_profile_name(name) {
            return Err(none());
        }
        let profile = register::profile(&mut **transaction, name)
            .await?
            .ok_or_else(none)?;
        key_policy = key_policy.or(profile.key_policy);
        for attribute in parse(None, &profile.attributes)?.stated() {
            let replaced = own.stated().any(|own| own.name() == attribute.name());
            if !replaced {
                all.insert(attribute.clone())
                    .map_err(|e| Error::Schema(e.to_string()))?;
            }
        }
    }
    if all.is_empty() && key_policy.is_none() {
        return Err(Error::NoAttributes);
    }
    if let Some(schema) = schema {
        schema
            .check_set(&all)
            .map_err(|e| Error::Schema(e.to_string()))?;
    }
    Ok(Resolved {
        own: own.to_string(),
        attributes: all.to_string(),
        own_key_policy,
        key_policy,
    })
}

/// Reads attributes, through the schema if there is one. An empty text is the empty set.
pub(crate) fn parse(schema: Option<&Schema>, text: &str) -> Result<AttributeSet, Error> {
    if text.trim().is_empty() {
        return Ok(AttributeSet::new());
    }
    let parsed = match schema {
        Some(schema) => schema.attribute_set(text),
        None => text.parse(),
    };
    parsed.map_err(|error| Error::Attributes {
        text: text.into(),
        error,
    })
}

/// Reads a key policy, through the schema if there is one; canonical.
fn parse_key_policy(schema: Option<&Schema>, text: &str) -> Result<String, Error> {
    let parsed = match schema {
        Some(schema) => schema.policy(text),
        None => text.parse(),
    };
    parsed
        .map(|policy: Policy| policy.to_string())
        .map_err(|error| Error::Policy {
            text: text.into(),
            error,
        })
}

/// Attributes and key policy as the audit log has them.
pub(crate) fn in_words(attributes: &str, key_policy: Option<&str>) -> String {
    match key_policy {
        None => attributes.to_owned(),
        Some(policy) => format!("{attributes} key policy {policy}"),
    }
}

async fn register_one(
    transaction: &mut Write,
    schema: Option<&Schema>,
    device: &NewDevice,
    terms: TokenTerms,
    now: UnixTime,
) -> Result<Grant, Error> {
    let name = &device.name;
    if name.as_str() == AUTHORITY_DEVICE {
        return Err(Error::ReservedName(name.clone()));
    }
    let profile = device.profile.as_deref();
    let own = (device.attributes.as_str(), device.key_policy.as_deref());
    let resolved = resolve(transaction, schema, own, profile).await?;
    check_terms(terms)?;
    if !register::insert_device(transaction, name, &resolved, profile, now).await? {
        return Err(Error::DeviceExists(name.clone()));
    }
    let (token, expires) = give_token(transaction, name, terms, now).await?;
    Ok(Grant {
        device: name.clone(),
        attributes: resolved.attributes,
        key_policy: resolved.key_policy,
        token,
        expires,
        uses: terms.uses,
    })
}

fn check_terms(terms: TokenTerms) -> Result<(), Error> {
    if !(MIN_TOKEN_LIFETIME..=MAX_TOKEN_LIFETIME).contains(&terms.lifetime) {
        return Err(Error::TokenLifetime);
    }
    if !(1..=MAX_TOKEN_USES).contains(&terms.uses) {
        return Err(Error::TokenUses);
    }
    Ok(())
}

async fn give_token(
    transaction: &mut Write,
    device: &DeviceId,
    terms: TokenTerms,
    now: UnixTime,
) -> Result<(EnrolmentToken, UnixTime), Error> {
    check_terms(terms)?;
    let token = EnrolmentToken::random(&mut system_rng());
    let expires = UnixTime::since_unix_epoch(Duration::from_secs(
        now.as_secs() + terms.lifetime.as_secs(),
    ));
    register::insert_token(
        transaction,
        &token.digest(),
        device,
        terms.uses,
        now,
        expires,
    )
    .await?;
    Ok((token, expires))
}

/// An outcome as the audit log has it.
fn code(outcome: &Imported) -> &'static str {
    match outcome {
        Ok(_) => "ok",
        Err(Error::DeviceExists(_)) => "device-exists",
        Err(_) => "refused",
    }
}
