//! Who is admitted, and what they may do.

mod acl;
mod passwords;
pub(crate) mod pattern;
mod payload;
mod verdicts;

pub use acl::Action;
pub(crate) use acl::{Acl, Rule, Subject, no_attributes};
pub use passwords::{PasswordFile, Passwords};
pub(crate) use payload::{Unsealed, announcer, check_announcement, check_sealed};
pub(crate) use verdicts::Verdicts;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use smqtt_format::STATE_TOPIC;
use smqtt_pki::{AUTHORITY_DEVICE, Fingerprint, TrustAnchor, VerifiedDevice};
use smqtt_policy::{Attribute, AttributeSet};
use smqtt_proto::packet::Connect;
use smqtt_proto::{MqttString, ReasonCode};

use crate::certificate::Shown;
use crate::config::{ClientIdRule, Config, SealedMode};
use crate::current::ListenerRules;
use crate::directory::Identity;
use crate::{Error, tls};

/// The rules of admission, with all that was read from their files.
#[derive(Debug)]
pub(crate) struct Access {
    /// Differs from every other's: what was decided under one holds under no other.
    generation: u64,
    passwords: Option<Arc<Passwords>>,
    acl: Option<Acl>,
    client_id: ClientIdRule,
    sealed: Vec<(String, SealedMode)>,
    /// The user properties of a CONNACK.
    announcement: Vec<(MqttString, MqttString)>,
}

/// A client that was admitted: kept with its session, to be judged again when the rules change.
#[derive(Debug, Clone)]
pub(crate) struct Admitted {
    pub(crate) identity: Identity,
    /// What it showed, if its identity stands on that.
    pub(crate) certificate: Option<Shown>,
    /// What its certificate says of it.
    pub(crate) attributes: Arc<AttributeSet>,
    /// The place of the listener that it came by.
    pub(crate) listener: usize,
}

/// How far a CONNECT proves who its sender is.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Proof {
    Given(Identity),
    /// By the password in it, which is to be verified.
    Password(Arc<str>),
}

/// What is decided for one client and one topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Verdict {
    pub(crate) publish: bool,
    /// Publishing with the retain flag.
    pub(crate) retain: bool,
    pub(crate) sealed: SealedMode,
}

/// Why something is allowed or denied.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Decision<'a> {
    Rule(&'a Rule),
    /// There is a list, and nobody has granted it.
    NotGranted,
    /// There is no list.
    NoList,
    /// What no list can change.
    BuiltIn(&'static str),
}

/// The user property with the authority's address.
const AUTHORITY_URL: &str = "smqtt-authority-url";
/// The user property with the SHA-256 fingerprint of its root certificate.
const CA_FINGERPRINT: &str = "smqtt-ca-fingerprint";

static GENERATIONS: AtomicU64 = AtomicU64::new(1);

impl Access {
    /// Reads the rules, and the files that they are in.
    ///
    /// # Errors
    /// [`Error`] when a file is missing, unreadable or wrong.
    pub(crate) fn load(config: &Config) -> Result<Self, Error> {
        let rules = &config.access;
        let passwords = rules
            .passwords
            .as_deref()
            .map(Passwords::read)
            .transpose()?;
        if passwords.is_some() {
            warn_of_plaintext(config);
        }
        Ok(Access {
            generation: GENERATIONS.fetch_add(1, Ordering::Relaxed),
            passwords: passwords.map(Arc::new),
            acl: rules.acl.as_deref().map(Acl::read).transpose()?,
            client_id: rules.client_id,
            sealed: config
                .sealed
                .iter()
                .map(|sealed| (sealed.filter.clone(), sealed.mode))
                .collect(),
            announcement: announcement(config)?,
        })
    }

    /// The rules alone: nobody can be admitted by them.
    ///
    /// # Errors
    /// [`Error`], as [`load`](Self::load).
    pub(crate) fn rules_of(config: &Config) -> Result<Self, Error> {
        let mut rules = config.clone();
        rules.access.passwords = None;
        rules.authority = crate::config::Authority::default();
        Access::load(&rules)
    }

    /// Who the sender of a CONNECT has proved to be to a listener with these rules; `device` is who
    /// its certificate, which was verified, names.
    ///
    /// A certificate counts more than a user name, which is not looked at then. A user name counts more
    /// than anonymity: a wrong password is refused even where nobody needs one.
    ///
    /// # Errors
    /// Nobody that may come in: the reason code for the client, and the reason for the log.
    pub(crate) fn identify(
        &self,
        rules: &ListenerRules,
        device: Option<&VerifiedDevice>,
        connect: &Connect,
    ) -> Result<Proof, (ReasonCode, String)> {
        if let Some(device) = device {
            return Ok(Proof::Given(Identity::Device(Arc::new(
                device.id().clone(),
            ))));
        }
        match &connect.username {
            Some(user) if self.passwords.is_some() => Ok(Proof::Password(user.as_str().into())),
            _ if rules.allow_anonymous => Ok(Proof::Given(Identity::Anonymous)),
            _ => Err((
                ReasonCode::NotAuthorized,
                match self.passwords {
                    Some(_) => "it has shown neither a certificate nor a user name".to_owned(),
                    None => "it has shown no certificate".to_owned(),
                },
            )),
        }
    }

    /// Where passwords are verified.
    pub(crate) fn passwords(&self) -> Option<&Arc<Passwords>> {
        self.passwords.as_ref()
    }

    /// Whether the client id is one that the identity may take.
    pub(crate) fn binds(&self, identity: &Identity, client_id: &str) -> bool {
        let name = match identity {
            Identity::Anonymous => return true,
            Identity::Device(id) => id.as_str(),
            Identity::User(user) => user,
        };
        match self.client_id {
            ClientIdRule::Free => true,
            ClientIdRule::Identity => client_id == name,
            ClientIdRule::Prefix => client_id
                .strip_prefix(name)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with(['-', '.', '_', ':', '/'])),
        }
    }

    /// A client id for a client that has none, made of what nobody can guess where that may be.
    pub(crate) fn assign(&self, identity: &Identity, random: String) -> String {
        let name = match identity {
            Identity::Anonymous => return random,
            Identity::Device(id) => id.as_str(),
            Identity::User(user) => user,
        };
        match self.client_id {
            ClientIdRule::Free => random,
            ClientIdRule::Prefix => format!("{name}-{random}"),
            ClientIdRule::Identity => name.to_owned(),
        }
    }

    /// Whether a client that was admitted under earlier rules would be admitted under these. What
    /// its certificate is worth is judged elsewhere.
    ///
    /// # Errors
    /// Why not, for the log.
    pub(crate) fn still_admits(
        &self,
        rules: &ListenerRules,
        identity: &Identity,
        client_id: &str,
    ) -> Result<(), &'static str> {
        match identity {
            Identity::Anonymous if !rules.allow_anonymous => {
                Err("anonymous clients are no longer admitted")
            }
            Identity::User(user) if self.passwords.as_ref().is_none_or(|file| !file.has(user)) => {
                Err("its user is no longer in the password file")
            }
            _ if !self.binds(identity, client_id) => {
                Err("its client id is no longer one that it may take")
            }
            _ => Ok(()),
        }
    }

    /// What the client may do at a topic.
    pub(crate) fn verdict(&self, subject: &Subject<'_>, topic: &str) -> Verdict {
        let publish = self.allows(subject, Action::Publish, topic);
        Verdict {
            publish,
            retain: publish && self.allows(subject, Action::Retain, topic),
            sealed: self.sealed_mode(topic),
        }
    }

    /// Whether [`verdict`](Self::verdict) depends on anything at all, at topics that are not the
    /// broker's or SMQTT's own.
    pub(crate) fn judges_messages(&self) -> bool {
        self.acl.is_some() || !self.sealed.is_empty()
    }

    /// Whether the client may do that.
    pub(crate) fn allows(&self, subject: &Subject<'_>, action: Action, topic: &str) -> bool {
        self.decide(subject, action, topic).allows()
    }

    /// Why the client may do that, or not.
    pub(crate) fn decide(
        &self,
        subject: &Subject<'_>,
        action: Action,
        topic: &str,
    ) -> Decision<'_> {
        if action != Action::Subscribe && topic.starts_with("$SYS/") {
            return Decision::BuiltIn("only the broker publishes below $SYS/");
        }
        let decided = match &self.acl {
            None => Decision::NoList,
            Some(acl) => acl
                .decide(subject, action, topic)
                .map_or(Decision::NotGranted, Decision::Rule),
        };
        // A rule for everything was not made with this in mind.
        let by_name = match decided {
            Decision::Rule(rule) => rule.topics.iter().any(|topic| is_authority(topic.as_str())),
            _ => false,
        };
        // Without a list its certificate is what the authority has to show.
        let its_state = self.acl.is_none() && topic == STATE_TOPIC && is_the_authority(subject);
        if action != Action::Subscribe && is_authority(topic) && !by_name && !its_state {
            return Decision::BuiltIn("smqtt/authority/ takes a rule that names it");
        }
        decided
    }

    /// The strictest mode of all sealed filters that match.
    pub(crate) fn sealed_mode(&self, topic: &str) -> SealedMode {
        let matching = self
            .sealed
            .iter()
            .filter(|(filter, _)| pattern::covers(filter, topic));
        matching
            .map(|(_, mode)| *mode)
            .max()
            .unwrap_or(SealedMode::Off)
    }

    /// Sealed filters with their modes.
    pub(crate) fn sealed(&self) -> &[(String, SealedMode)] {
        &self.sealed
    }

    /// What MQTT 5 clients are told when they are let in.
    pub(crate) fn announcement(&self) -> &[(MqttString, MqttString)] {
        &self.announcement
    }

    /// The rules, in their order.
    pub(crate) fn acl(&self) -> Option<&Acl> {
        self.acl.as_ref()
    }

    pub(crate) fn generation(&self) -> u64 {
        self.generation
    }
}

impl Decision<'_> {
    pub(crate) fn allows(&self) -> bool {
        match self {
            Decision::Rule(rule) => rule.allows,
            Decision::NoList => true,
            Decision::NotGranted | Decision::BuiltIn(_) => false,
        }
    }
}

/// What a certificate says of its device, as far as it is said in the policy language of today.
pub(crate) fn attributes_of(device: &VerifiedDevice) -> Arc<AttributeSet> {
    let mut set = AttributeSet::new();
    for text in device.attributes() {
        match text
            .parse::<Attribute>()
            .map(|attribute| set.insert(attribute))
        {
            Ok(Ok(_)) => {}
            // The authority has signed it, so it is no attack; a rule that needs it does not apply.
            Ok(Err(_)) | Err(_) => {
                tracing::debug!(device = %device.id(), attribute = %text.escape_debug(), "an attribute of a certificate is not understood");
            }
        }
    }
    match set.is_empty() {
        true => no_attributes(),
        false => Arc::new(set),
    }
}

fn is_the_authority(subject: &Subject<'_>) -> bool {
    matches!(subject.identity, Identity::Device(device) if device.as_str() == AUTHORITY_DEVICE)
}

fn is_authority(topic: &str) -> bool {
    topic == "smqtt/authority" || topic.starts_with("smqtt/authority/")
}

fn warn_of_plaintext(config: &Config) {
    for listener in &config.listeners {
        let url = &listener.url;
        let beyond = url
            .address()
            .is_some_and(|address| !address.ip().is_loopback());
        if beyond && !url.scheme().is_tls() {
            tracing::warn!(listener = %url, "passwords come over the network without TLS: use mqtts://");
        }
    }
}

fn announcement(config: &Config) -> Result<Vec<(MqttString, MqttString)>, Error> {
    let Some(url) = &config.authority.url else {
        return Ok(Vec::new());
    };
    let property = |name: &str, value: String| {
        let text = |text: String| {
            MqttString::new(text).map_err(|error| Error::Config(format!("authority: {error}")))
        };
        Ok::<_, Error>((text(name.to_owned())?, text(value)?))
    };
    let mut properties = vec![property(AUTHORITY_URL, url.clone())?];
    if let Some(ca) = config
        .authority
        .ca
        .as_ref()
        .or(config.tls.client_ca.as_ref())
    {
        let fingerprint: Fingerprint =
            tls::read_anchor(ca).map(|anchor: Arc<TrustAnchor>| anchor.fingerprint())?;
        properties.push(property(CA_FINGERPRINT, fingerprint.to_string())?);
    }
    Ok(properties)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn access(acl: Option<&str>, client_id: ClientIdRule) -> Access {
        Access {
            generation: 0,
            passwords: None,
            acl: acl.map(|text| Acl::parse(text, "acl.toml".as_ref()).expect("rules")),
            client_id,
            sealed: vec![
                ("plant/#".into(), SealedMode::Warn),
                ("plant/secret/#".into(), SealedMode::Enforce),
            ],
            announcement: Vec::new(),
        }
    }

    #[test]
    fn built_in_rules_hold_with_and_without_a_list() {
        let everything = "[[rule]]\nallow = [\"publish\", \"subscribe\", \"retain\"]\ntopics = [\"#\", \"$SYS/#\"]";
        let named = "[[rule]]\nallow = [\"publish\"]\ntopics = [\"smqtt/authority/#\"]";
        let attributes = no_attributes();
        let subject = Subject {
            identity: &Identity::Anonymous,
            client_id: "c",
            attributes: &attributes,
        };
        for acl in [None, Some(everything)] {
            let access = access(acl, ClientIdRule::Free);
            assert!(access.allows(&subject, Action::Publish, "a"));
            assert!(access.allows(&subject, Action::Subscribe, "$SYS/#"));
            assert!(!access.allows(&subject, Action::Publish, "$SYS/a"));
            assert!(!access.allows(&subject, Action::Publish, "smqtt/authority/a"));
        }
        let access = access(Some(named), ClientIdRule::Free);
        assert!(access.allows(&subject, Action::Publish, "smqtt/authority/a"));
        assert!(!access.allows(&subject, Action::Publish, "a"));
        assert!(!access.allows(&subject, Action::Retain, "smqtt/authority/a"));
    }

    #[test]
    fn without_a_list_the_authority_and_nobody_else_announces_its_state() {
        let attributes = no_attributes();
        let device = |name: &str| Identity::Device(Arc::new(name.parse().expect("id")));
        let (authority, other) = (device(AUTHORITY_DEVICE), device("d1"));
        let subject = |identity| Subject {
            identity,
            client_id: "c",
            attributes: &attributes,
        };
        let everything = "[[rule]]\nallow = [\"publish\", \"retain\"]\ntopics = [\"#\"]";
        for action in [Action::Publish, Action::Retain] {
            let open = access(None, ClientIdRule::Free);
            assert!(open.allows(&subject(&authority), action, STATE_TOPIC));
            assert!(!open.allows(&subject(&authority), action, "smqtt/authority/a"));
            assert!(!open.allows(&subject(&other), action, STATE_TOPIC));
            let listed = access(Some(everything), ClientIdRule::Free);
            assert!(!listed.allows(&subject(&authority), action, STATE_TOPIC));
        }
    }

    #[test]
    fn the_strictest_sealed_filter_counts() {
        let access = access(None, ClientIdRule::Free);
        assert_eq!(access.sealed_mode("plant/secret/a"), SealedMode::Enforce);
        assert_eq!(access.sealed_mode("plant/a"), SealedMode::Warn);
        assert_eq!(access.sealed_mode("house"), SealedMode::Off);
    }

    #[test]
    fn client_ids_are_bound_to_identities() {
        let device = Identity::Device(Arc::new("d1".parse().expect("id")));
        let exact = access(None, ClientIdRule::Identity);
        assert!(exact.binds(&device, "d1") && !exact.binds(&device, "d1-a"));
        let prefix = access(None, ClientIdRule::Prefix);
        assert!(prefix.binds(&device, "d1") && prefix.binds(&device, "d1-a"));
        assert!(!prefix.binds(&device, "d10") && !prefix.binds(&device, "x"));
        assert!(exact.binds(&Identity::Anonymous, "d1"));
        for access in [exact, prefix] {
            let assigned = access.assign(&device, "auto-1".into());
            assert!(access.binds(&device, &assigned), "{assigned}");
        }
    }
}
