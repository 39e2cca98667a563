//! The rules: who may publish and subscribe to what, and under which policy.

mod file;

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;
use smqtt_envelope::Delivery;
use smqtt_format::Sequence;
use smqtt_policy::{AttributeSet, Policy};
use smqtt_proto::{Level, TopicFilter, TopicName};

use super::users::Users;
use crate::PublisherOptions;
use crate::error::in_words;
use crate::publisher::Recipients;

/// What a gateway does with what its local clients publish and subscribe to. In each list the first
/// rule that matches decides; what no rule matches is refused.
///
/// ```
/// let rules = smqtt_client::gateway::Rules::from_toml(
///     r#"
///     [[publish]]
///     topic = "homeassistant/#"
///     policy = "site = home"
///
///     [[subscribe]]
///     topic = "homeassistant/#"
///     "#,
///     "gateway.toml".as_ref(),
/// )?;
/// assert!(!rules.has_users());
/// # Ok::<(), smqtt_client::gateway::RulesError>(())
/// ```
#[derive(Debug)]
pub struct Rules {
    pub(super) publish: Vec<PublishRule>,
    pub(super) subscribe: Vec<SubscribeRule>,
    pub(super) users: Users,
}

/// What is wrong with a rules file, and where.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RulesError {
    /// The file cannot be read.
    #[error("cannot read {}: {}: check the name and its permissions", path.display(), in_words(source))]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A key or value is not what belongs there.
    #[error("{}:{line}: {message}", path.display())]
    Syntax {
        /// The file.
        path: PathBuf,
        /// The line, counted from 1.
        line: usize,
        /// What is wrong with it and what to do.
        message: String,
    },
    /// It has passwords and others may read it.
    #[error("{} has passwords and others may read it: chmod 600 it", .0.display())]
    Permissions(PathBuf),
}

#[derive(Debug)]
pub(super) struct PublishRule {
    topics: Vec<TopicFilter>,
    pub(super) action: Publishing,
}

/// What becomes of a message that a local client publishes.
#[derive(Debug)]
pub(super) enum Publishing {
    Refuse,
    Seal(Sealing),
}

/// How to seal.
#[derive(Debug)]
pub(super) struct Sealing {
    recipients: Recipients,
    rekey_messages: Option<Sequence>,
    rekey_after: Option<Duration>,
    pub(super) frames: Delivery,
    pub(super) retained: Retained,
    /// Whether user properties, content type and payload format pass, in the clear.
    pub(super) properties: bool,
}

impl Sealing {
    /// How to make its publisher. Its frames are always announced: which messages carry theirs is decided for each.
    pub(super) fn options(&self) -> PublisherOptions {
        let mut options = match &self.recipients {
            Recipients::Policy(policy) => PublisherOptions::new(policy.clone()),
            Recipients::Tags(tags) => PublisherOptions::with_tags(tags.clone()),
        };
        if let Some(messages) = self.rekey_messages {
            options = options.max_messages(messages);
        }
        if let Some(after) = self.rekey_after {
            options = options.lifetime(after);
        }
        options
    }
}

/// What becomes of the retain flag.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Retained {
    /// The message is retained, with its key frame inline.
    #[default]
    Keep,
    /// The message passes without the flag.
    Clear,
    /// The message is refused.
    Refuse,
}

#[derive(Debug)]
pub(super) struct SubscribeRule {
    topics: Vec<TopicFilter>,
    pub(super) action: Subscribing,
}

/// What becomes of a message for a local subscriber.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Subscribing {
    Refuse,
    /// Opened, and dropped if it cannot be.
    Open,
    /// As `Open`, but what is not sealed at all passes.
    OpenOrPlain,
}

impl Rules {
    /// Whether local clients have to log in.
    #[must_use]
    pub fn has_users(&self) -> bool {
        !self.users.is_empty()
    }

    /// The policies of all publish rules, in the order of the file.
    pub fn policies(&self) -> impl Iterator<Item = &Policy> {
        self.recipients().filter_map(|recipients| match recipients {
            Recipients::Policy(policy) => Some(policy),
            Recipients::Tags(_) => None,
        })
    }

    /// The tags of all publish rules, in the order of the file.
    pub fn tags(&self) -> impl Iterator<Item = &AttributeSet> {
        self.recipients().filter_map(|recipients| match recipients {
            Recipients::Policy(_) => None,
            Recipients::Tags(tags) => Some(tags),
        })
    }

    fn recipients(&self) -> impl Iterator<Item = &Recipients> {
        self.publish.iter().filter_map(|rule| match &rule.action {
            Publishing::Seal(sealing) => Some(&sealing.recipients),
            Publishing::Refuse => None,
        })
    }

    /// The rule for a message that a local client publishes, by its number.
    pub(super) fn publishing(&self, topic: &TopicName) -> Option<(usize, &Sealing)> {
        let rules = self.publish.iter().enumerate();
        let mut matching = rules.filter(|(_, rule)| rule.topics.iter().any(|f| f.matches(topic)));
        match matching.next()? {
            (
                number,
                PublishRule {
                    action: Publishing::Seal(sealing),
                    ..
                },
            ) => Some((number, sealing)),
            _ => None,
        }
    }

    /// Whether a local client may subscribe to `filter`: the first rule that covers it decides.
    pub(super) fn may_subscribe(&self, filter: &TopicFilter) -> bool {
        let mut rules = self.subscribe.iter();
        rules
            .find(|rule| rule.topics.iter().any(|topic| covers(topic, filter)))
            .is_some_and(|rule| rule.action != Subscribing::Refuse)
    }

    /// What becomes of a message that a subscription brings.
    pub(super) fn subscribing(&self, topic: &TopicName) -> Subscribing {
        let mut rules = self.subscribe.iter();
        rules
            .find(|rule| rule.topics.iter().any(|filter| filter.matches(topic)))
            .map_or(Subscribing::Refuse, |rule| rule.action)
    }

    /// Filters that together select everything that may be subscribed to.
    pub(super) fn subscribable(&self) -> impl Iterator<Item = &TopicFilter> {
        let rules = self.subscribe.iter();
        rules
            .filter(|rule| rule.action != Subscribing::Refuse)
            .flat_map(|rule| &rule.topics)
    }
}

/// One line a rule, in the order in which they are tried.
impl fmt::Display for Rules {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for rule in &self.publish {
            write!(f, "publish   {}: ", Names(&rule.topics))?;
            match &rule.action {
                Publishing::Refuse => writeln!(f, "refused")?,
                Publishing::Seal(sealing) => {
                    match &sealing.recipients {
                        Recipients::Policy(policy) => write!(f, "sealed for {policy}")?,
                        Recipients::Tags(tags) => write!(f, "sealed with the tags {tags}")?,
                    }
                    if let Some(messages) = sealing.rekey_messages {
                        write!(f, ", a new key after {messages} messages")?;
                    }
                    if let Some(after) = sealing.rekey_after {
                        write!(f, ", a new key after {} s", after.as_secs())?;
                    }
                    if sealing.frames == Delivery::Inline {
                        write!(f, ", key frames inline")?;
                    }
                    match sealing.retained {
                        Retained::Keep => {}
                        Retained::Clear => write!(f, ", never retained")?,
                        Retained::Refuse => write!(f, ", refused if retained")?,
                    }
                    if sealing.properties {
                        write!(f, ", properties pass in the clear")?;
                    }
                    writeln!(f)?;
                }
            }
        }
        for rule in &self.subscribe {
            let what = match rule.action {
                Subscribing::Refuse => "refused",
                Subscribing::Open => "opened",
                Subscribing::OpenOrPlain => "opened; what is not sealed passes",
            };
            writeln!(f, "subscribe {}: {what}", Names(&rule.topics))?;
        }
        f.write_str("everything else is refused")
    }
}

struct Names<'a>(&'a [TopicFilter]);

impl fmt::Display for Names<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, filter) in self.0.iter().enumerate() {
            let comma = if number > 0 { ", " } else { "" };
            write!(f, "{comma}{}", filter.as_str())?;
        }
        Ok(())
    }
}

/// Whether everything that `wanted` selects is selected by `rule`, too.
fn covers(rule: &TopicFilter, wanted: &TopicFilter) -> bool {
    let is_wild = |level: Option<Level<'_>>| matches!(level, Some(Level::Single | Level::Multi));
    if is_wild(rule.levels().next()) && wanted.filter().starts_with('$') {
        return false;
    }
    let (mut rule, mut wanted) = (rule.levels(), wanted.levels());
    loop {
        match (rule.next(), wanted.next()) {
            (Some(Level::Multi), _) | (None, None) => return true,
            (Some(Level::Single), Some(Level::Single | Level::Literal(_))) => {}
            (Some(Level::Literal(a)), Some(Level::Literal(b))) if a == b => {}
            _ => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn rules(text: &str) -> Rules {
        Rules::from_toml(text, Path::new("gateway.toml")).expect(text)
    }

    fn error(text: &str) -> String {
        let error = Rules::from_toml(text, Path::new("gateway.toml"));
        error.expect_err(text).to_string()
    }

    fn filter(text: &str) -> TopicFilter {
        TopicFilter::new(text).expect(text)
    }

    fn topic(text: &str) -> TopicName {
        TopicName::new(text).expect(text)
    }

    #[test]
    fn a_rule_covers_what_it_selects_whole() {
        for (rule, wanted) in [
            ("#", "#"),
            ("#", "a/+/b"),
            ("a/#", "a"),
            ("a/#", "a/#"),
            ("a/#", "a/+/#"),
            ("a/+", "a/b"),
            ("a/+", "a/+"),
            ("+/b", "a/b"),
            ("a/b", "$share/g/a/b"),
        ] {
            assert!(covers(&filter(rule), &filter(wanted)), "{rule} {wanted}");
        }
        for (rule, wanted) in [
            ("a/#", "#"),
            ("a/+", "a/#"),
            ("a/+", "a/b/c"),
            ("a/+", "a"),
            ("a/b", "a/+"),
            ("a/b", "a/b/c"),
            ("#", "$SYS/#"),
            ("+/x", "$SYS/x"),
        ] {
            assert!(!covers(&filter(rule), &filter(wanted)), "{rule} {wanted}");
        }
    }

    #[test]
    fn the_first_rule_that_matches_decides() {
        let rules = rules(
            r##"
            [[publish]]
            topic = "plant/secret/#"
            refuse = true
            [[publish]]
            topic = ["plant/#", "office/+"]
            policy = "role = technician"
            [[publish]]
            topic = "#"
            policy = "role = auditor"
            [[subscribe]]
            topic = "plant/secret/#"
            refuse = true
            [[subscribe]]
            topic = "plant/#"
            plaintext = "pass"
            "##,
        );
        assert!(rules.publishing(&topic("plant/secret/x")).is_none());
        assert_eq!(
            rules.publishing(&topic("office/1")).map(|(n, _)| n),
            Some(1)
        );
        assert_eq!(rules.publishing(&topic("else")).map(|(n, _)| n), Some(2));
        assert!(rules.may_subscribe(&filter("plant/+/x")));
        assert!(!rules.may_subscribe(&filter("plant/secret/+")));
        assert!(!rules.may_subscribe(&filter("#")));
        assert_eq!(
            rules.subscribing(&topic("plant/secret/x")),
            Subscribing::Refuse
        );
        assert_eq!(
            rules.subscribing(&topic("plant/x")),
            Subscribing::OpenOrPlain
        );
        assert_eq!(rules.subscribing(&topic("office/x")), Subscribing::Refuse);
    }

    #[test]
    fn a_rule_may_tag_and_change_keys_sooner() {
        let rules = rules(
            r##"
            [[publish]]
            topic = "tele/#"
            tags = "site = 4, kind = temperature"
            rekey_messages = 100
            rekey_after = 900
            "##,
        );
        let (_, sealing) = rules.publishing(&topic("tele/1")).expect("a rule");
        let options = sealing.options();
        assert_eq!(options.config.max_messages.get(), 100);
        assert_eq!(options.config.lifetime, Duration::from_secs(900));
        assert_eq!(rules.policies().count(), 0);
        assert_eq!(
            rules.to_string().lines().next(),
            Some(
                "publish   tele/#: sealed with the tags kind = temperature, site = 4, a new key after 100 messages, a new key after 900 s"
            )
        );
    }

    #[test]
    fn errors_name_the_line_and_the_nearest_key() {
        assert_eq!(
            error("[[publish]]\ntopic = \"a\"\npolcy = \"a = b\"\n"),
            "gateway.toml:3: unknown key `polcy`; did you mean `policy`?"
        );
        assert!(
            error("[[publish]]\ntopic = \"a/#/b\"\npolicy = \"a = b\"")
                .starts_with("gateway.toml:2: the topic `a/#/b`")
        );
        assert!(
            error("[[publish]]\ntopic = \"a\"\npolicy = \"a =\"")
                .starts_with("gateway.toml:3: policy: ")
        );
        assert!(error("[[publish]]\ntopic = \"a\"").contains("neither policy"));
        assert!(
            error("[[publish]]\ntopic = \"a\"\ntags = \"a = 1\"\npolicy = \"b\"")
                .contains("either a policy or tags")
        );
        assert!(
            error("[[publish]]\ntopic = \"a\"\ntags = \"a =\"")
                .starts_with("gateway.toml:3: tags: ")
        );
        assert!(error("[[publish]]\ntopic = \"a\"\ntags = \"\"").contains("at least one"));
        assert_eq!(
            error("[[publish]]\ntopic = \"a\"\ntags = \"a\"\nrekey_messages = 0"),
            "gateway.toml:4: rekey_messages: give at least 1"
        );
        assert!(error("[[subscribe]]\ntopic = \"smqtt/keys/#\"").contains("key frames"));
        assert!(error("[[subscribe]]\ntopic = []").contains("at least one"));
        assert!(error("[[subscribe]]\ntopic = 5").contains("a topic filter, or a list of them"));
        assert!(error("").contains("no rule"));
    }
}
