//! The access control list: rules in the order of their file, of which the first that applies decides.
//!
//! A message is judged by its topic. A subscription is judged by its filter as a whole: it is granted by
//! the first rule that covers all of it, unless a rule before that denies any part of it. So each
//! message that a subscription brings would have been granted by itself. Only a rule that is about filters
//! as they are written (`exactly`) says nothing of other filters that match the same topics.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Deserialize;
use smqtt_policy::{AttributeSet, Policy};
use toml::Spanned;

use super::pattern::{Names, Pattern};
use crate::Error;
use crate::directory::Identity;

/// What a client wants to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// Send a message to a topic.
    Publish,
    /// Receive what a filter matches.
    Subscribe,
    /// Leave a message at a topic, or clear it there; needs `publish` too.
    Retain,
}

/// A client, as rules see it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Subject<'a> {
    pub(crate) identity: &'a Identity,
    pub(crate) client_id: &'a str,
    /// Of its certificate.
    pub(crate) attributes: &'a AttributeSet,
}

/// A list of rules.
#[derive(Debug)]
pub(crate) struct Acl {
    pub(crate) path: PathBuf,
    pub(crate) rules: Vec<Rule>,
}

/// One rule.
#[derive(Debug)]
pub(crate) struct Rule {
    /// Where it stands in its file, from 1.
    pub(crate) line: usize,
    pub(crate) allows: bool,
    pub(crate) actions: Vec<Action>,
    /// Any of them; none for all.
    pub(crate) who: Vec<Who>,
    /// And these attributes.
    pub(crate) attributes: Option<Policy>,
    pub(crate) topics: Vec<Pattern>,
    /// Whether it is about these filters as they are written, and not about what they match.
    pub(crate) exactly: bool,
}

/// Whom a rule is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Who {
    Everyone,
    Anonymous,
    Devices,
    Users,
    Device(Box<str>),
    User(Box<str>),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FileText {
    #[serde(default)]
    rule: Vec<Spanned<RuleText>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RuleText {
    allow: Option<Vec<Action>>,
    deny: Option<Vec<Action>>,
    #[serde(default)]
    who: Vec<String>,
    attributes: Option<String>,
    topics: Vec<String>,
    #[serde(default)]
    exactly: bool,
}

impl Acl {
    /// Reads a file of rules.
    ///
    /// # Errors
    /// [`Error::ConfigFile`], [`Error::ConfigSyntax`] with the line.
    pub(crate) fn read(path: &Path) -> Result<Self, Error> {
        let text = std::fs::read_to_string(path).map_err(|source| Error::ConfigFile {
            path: path.to_owned(),
            source,
        })?;
        Acl::parse(&text, path)
    }

    /// Parses the text of such a file.
    ///
    /// # Errors
    /// [`Error::ConfigSyntax`].
    pub(crate) fn parse(text: &str, path: &Path) -> Result<Self, Error> {
        let line_at = |offset: usize| {
            let before = &text.as_bytes()[..offset.min(text.len())];
            before.iter().filter(|byte| **byte == b'\n').count() + 1
        };
        let refuse = |line: usize, message: String| Error::ConfigSyntax {
            path: path.to_owned(),
            line,
            message,
        };
        let file: FileText = toml::from_str(text).map_err(|error| {
            let line = line_at(error.span().map_or(0, |span| span.start));
            refuse(line, error.message().replace('\n', " "))
        })?;
        let rules = file.rule.into_iter().map(|rule| {
            let line = line_at(rule.span().start);
            Rule::new(rule.into_inner(), line).map_err(|message| refuse(line, message))
        });
        Ok(Acl {
            path: path.to_owned(),
            rules: rules.collect::<Result<_, _>>()?,
        })
    }

    /// The rule that decides; none if nobody has granted it, which is a denial.
    pub(crate) fn decide(
        &self,
        subject: &Subject<'_>,
        action: Action,
        topic: &str,
    ) -> Option<&Rule> {
        let names = subject.names();
        self.rules.iter().find(|rule| {
            let judge = |pattern: &Pattern| match (rule.exactly, rule.allows) {
                (true, _) => pattern.is(topic, names),
                (false, true) => pattern.covers(topic, names),
                (false, false) => pattern.overlaps(topic, names),
            };
            rule.actions.contains(&action)
                && rule.topics.iter().any(judge)
                && rule.is_about(subject)
        })
    }
}

impl Rule {
    fn new(text: RuleText, line: usize) -> Result<Rule, String> {
        let (allows, actions) = match (text.allow, text.deny) {
            (Some(actions), None) => (true, actions),
            (None, Some(actions)) => (false, actions),
            _ => return Err("a rule has either `allow` or `deny`, with a list of actions".into()),
        };
        if actions.is_empty() || text.topics.is_empty() {
            return Err("a rule without actions or without topics would never apply".into());
        }
        let attributes = match &text.attributes {
            None => None,
            Some(text) => {
                let policy: Policy = text
                    .parse()
                    .map_err(|error| format!("attributes: {error}").replace('\n', " "))?;
                if policy.asks_for_topic() {
                    return Err("attributes: the topic is a matter of `topics`".into());
                }
                Some(policy)
            }
        };
        Ok(Rule {
            line,
            allows,
            actions,
            who: text
                .who
                .iter()
                .map(|who| who.parse())
                .collect::<Result<_, _>>()?,
            attributes,
            topics: text
                .topics
                .iter()
                .map(|topic| Pattern::parse(topic))
                .collect::<Result<_, _>>()?,
            exactly: text.exactly,
        })
    }

    fn is_about(&self, subject: &Subject<'_>) -> bool {
        let named = self.who.is_empty() || self.who.iter().any(|who| who.is(subject.identity));
        let holds = |policy: &Policy| policy.evaluate(subject.attributes);
        named && self.attributes.as_ref().is_none_or(holds)
    }
}

impl std::fmt::Display for Rule {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let list = |items: Vec<String>| items.join(", ");
        let actions = self
            .actions
            .iter()
            .map(|action| format!("{action:?}").to_lowercase());
        write!(
            f,
            "{} {}",
            if self.allows { "allow" } else { "deny" },
            list(actions.collect())
        )?;
        write!(f, " to ")?;
        match self.who.is_empty() {
            true => write!(f, "everyone")?,
            false => write!(f, "{}", list(self.who.iter().map(Who::to_string).collect()))?,
        }
        if let Some(policy) = &self.attributes {
            write!(f, " with {}", policy.as_str())?;
        }
        let topics = self.topics.iter().map(|topic| topic.as_str().to_owned());
        let exactly = if self.exactly { "exactly " } else { "" };
        write!(f, " on {exactly}{}", list(topics.collect()))
    }
}

impl Who {
    fn is(&self, identity: &Identity) -> bool {
        match (self, identity) {
            (Who::Everyone, _)
            | (Who::Anonymous, Identity::Anonymous)
            | (Who::Devices, Identity::Device(_))
            | (Who::Users, Identity::User(_)) => true,
            (Who::Device(name), Identity::Device(id)) => **name == *id.as_str(),
            (Who::User(name), Identity::User(user)) => **name == **user,
            _ => false,
        }
    }
}

impl std::str::FromStr for Who {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match (text, text.split_once(':')) {
            ("everyone", _) => Ok(Who::Everyone),
            ("anonymous", _) => Ok(Who::Anonymous),
            ("devices", _) => Ok(Who::Devices),
            ("users", _) => Ok(Who::Users),
            (_, Some(("device", name))) if !name.is_empty() => Ok(Who::Device(name.into())),
            (_, Some(("user", name))) if !name.is_empty() => Ok(Who::User(name.into())),
            _ => Err(format!(
                "`{text}` names nobody: use device:NAME, user:NAME, devices, users, anonymous or everyone"
            )),
        }
    }
}

impl std::fmt::Display for Who {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Who::Everyone => f.write_str("everyone"),
            Who::Anonymous => f.write_str("anonymous"),
            Who::Devices => f.write_str("devices"),
            Who::Users => f.write_str("users"),
            Who::Device(name) => write!(f, "device:{name}"),
            Who::User(name) => write!(f, "user:{name}"),
        }
    }
}

impl<'a> Subject<'a> {
    fn names(&self) -> Names<'a> {
        Names {
            client_id: self.client_id,
            user: match self.identity {
                Identity::User(user) => Some(user),
                _ => None,
            },
            device: match self.identity {
                Identity::Device(id) => Some(id.as_str()),
                _ => None,
            },
        }
    }
}

/// No attributes: of whoever has shown no certificate.
pub(crate) fn no_attributes() -> Arc<AttributeSet> {
    static NONE: std::sync::OnceLock<Arc<AttributeSet>> = std::sync::OnceLock::new();
    NONE.get_or_init(Arc::default).clone()
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULES: &str = r##"
[[rule]]
deny = ["publish", "subscribe"]
topics = ["plant/secret/#"]
who = ["users"]

[[rule]]
allow = ["publish", "retain"]
who = ["devices"]
topics = ["plant/%d/#"]

[[rule]]
allow = ["subscribe"]
who = ["user:alice", "anonymous"]
topics = ["plant/#"]

[[rule]]
allow = ["publish"]
attributes = "role = gateway"
topics = ["#"]
"##;

    fn decide(identity: &Identity, attributes: &str, action: Action, topic: &str) -> (bool, usize) {
        let acl = Acl::parse(RULES, Path::new("acl.toml")).expect("rules");
        let attributes = match attributes {
            "" => AttributeSet::new(),
            text => text.parse().expect("attributes"),
        };
        let subject = Subject {
            identity,
            client_id: "c",
            attributes: &attributes,
        };
        acl.decide(&subject, action, topic)
            .map_or((false, 0), |rule| (rule.allows, rule.line))
    }

    #[test]
    fn the_first_rule_that_applies_decides() {
        use Action::{Publish, Retain, Subscribe};
        let device = Identity::Device(Arc::new("d1".parse().expect("id")));
        let (alice, bob) = (Identity::User("alice".into()), Identity::User("bob".into()));
        assert_eq!(decide(&device, "", Publish, "plant/d1/t"), (true, 7));
        assert_eq!(decide(&device, "", Retain, "plant/d1/t"), (true, 7));
        assert_eq!(decide(&device, "", Publish, "plant/d2/t"), (false, 0));
        assert_eq!(
            decide(&device, "role = gateway", Publish, "plant/d2/t"),
            (true, 17)
        );
        assert_eq!(decide(&device, "role = sensor", Publish, "x"), (false, 0));
        assert_eq!(decide(&alice, "", Subscribe, "plant/a"), (true, 12));
        assert_eq!(decide(&bob, "", Subscribe, "plant/a"), (false, 0));
        assert_eq!(
            decide(&Identity::Anonymous, "", Subscribe, "plant/#"),
            (true, 12)
        );
        // A filter that reaches into what is denied is denied, one that goes beyond is not granted.
        assert_eq!(decide(&alice, "", Subscribe, "plant/#"), (false, 2));
        assert_eq!(decide(&alice, "", Subscribe, "plant/+/x"), (false, 2));
        assert_eq!(decide(&Identity::Anonymous, "", Subscribe, "#"), (false, 0));
    }

    #[test]
    fn a_rule_may_be_about_filters_as_they_are_written() {
        let text = r##"
[[rule]]
deny = ["subscribe"]
topics = ["#", "own/%c"]
exactly = true

[[rule]]
allow = ["subscribe"]
topics = ["+", "own/#"]

[[rule]]
allow = ["subscribe"]
topics = ["log/+"]
exactly = true
"##;
        let acl = Acl::parse(text, Path::new("acl.toml")).expect("rules");
        let attributes = AttributeSet::new();
        let subject = Subject {
            identity: &Identity::Anonymous,
            client_id: "c",
            attributes: &attributes,
        };
        for (filter, allowed) in [
            ("#", false),
            ("own/c", false),
            ("own/d", true),
            ("own/+", true),
            ("own/#", true),
            ("log/+", true),
            ("log/a", false),
        ] {
            let rule = acl.decide(&subject, Action::Subscribe, filter);
            assert_eq!(rule.is_some_and(|rule| rule.allows), allowed, "{filter}");
        }
        assert_eq!(
            acl.rules[0].to_string(),
            "deny subscribe to everyone on exactly #, own/%c"
        );
    }

    #[test]
    fn wrong_rules_are_refused_with_their_line() {
        for (text, part) in [
            (
                "[[rule]]\nallow = [\"publish\"]\ndeny = []\ntopics = [\"a\"]",
                "acl.toml:1: a rule has either",
            ),
            (
                "\n[[rule]]\nallow = [\"publish\"]\ntopics = [\"a/#/b\"]",
                "acl.toml:2: `a/#/b`",
            ),
            (
                "[[rule]]\nallow = [\"write\"]\ntopics = [\"a\"]",
                "acl.toml:2: unknown variant",
            ),
            (
                "[[rule]]\nallow = [\"publish\"]\nwho = [\"bob\"]\ntopics = [\"a\"]",
                "names nobody",
            ),
            (
                "[[rule]]\nallow = [\"publish\"]\nattributes = \"a and\"\ntopics = [\"a\"]",
                "attributes: ",
            ),
            ("[[rules]]\n", "unknown field"),
        ] {
            let error = Acl::parse(text, Path::new("acl.toml"))
                .expect_err(text)
                .to_string();
            assert!(error.contains(part), "{text}: {error}");
        }
    }
}
