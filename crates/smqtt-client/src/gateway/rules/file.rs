//! The rules file as it is written, and what is wrong with it.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use serde::Deserialize;
use smqtt_envelope::Delivery;
use smqtt_format::{Sequence, announce};
use smqtt_policy::{AttributeSet, Policy};
use smqtt_proto::TopicFilter;
use toml::Spanned;

use super::{
    PublishRule, Publishing, Retained, Rules, RulesError, Sealing, SubscribeRule, Subscribing,
};
use crate::gateway::users::Users;
use crate::publisher::Recipients;

impl Rules {
    /// Reads a rules file.
    ///
    /// # Errors
    ///
    /// [`RulesError`] names the line; for an unknown key, the nearest known one.
    pub fn from_file(path: &Path) -> Result<Self, RulesError> {
        let failed = |source| RulesError::File {
            path: path.to_owned(),
            source,
        };
        let text = std::fs::read_to_string(path).map_err(failed)?;
        let rules = Self::from_toml(&text, path)?;
        if rules.has_users() && is_open_to_others(path).map_err(failed)? {
            return Err(RulesError::Permissions(path.to_owned()));
        }
        Ok(rules)
    }

    /// Parses the text of a rules file; `path` only names it in errors.
    ///
    /// # Errors
    ///
    /// As [`Rules::from_file`].
    pub fn from_toml(text: &str, path: &Path) -> Result<Self, RulesError> {
        let at = |offset: usize, message: String| RulesError::Syntax {
            path: path.to_owned(),
            line: line(text, offset),
            message,
        };
        let file: File = toml::from_str(text).map_err(|error| {
            let offset = error.span().map_or(0, |span| span.start);
            at(offset, explain(error.message()))
        })?;
        let refuse = |(offset, message)| at(offset, message);
        if file.publish.is_empty() && file.subscribe.is_empty() {
            let message = "there is no rule, so everything would be refused: add [[publish]] or [[subscribe]] with a topic";
            return Err(at(0, message.to_owned()));
        }
        Ok(Self {
            publish: file
                .publish
                .into_iter()
                .map(PublishEntry::checked)
                .collect::<Result<_, _>>()
                .map_err(refuse)?,
            subscribe: file
                .subscribe
                .into_iter()
                .map(SubscribeEntry::checked)
                .collect::<Result<_, _>>()
                .map_err(refuse)?,
            users: Users::new(file.users),
        })
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    publish: Vec<PublishEntry>,
    #[serde(default)]
    subscribe: Vec<SubscribeEntry>,
    #[serde(default)]
    users: BTreeMap<String, String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct PublishEntry {
    topic: Spanned<Topics>,
    policy: Option<Spanned<String>>,
    tags: Option<Spanned<String>>,
    rekey_messages: Option<Spanned<u32>>,
    rekey_after: Option<Spanned<u32>>,
    frames: Option<Frames>,
    retained: Option<Retained>,
    properties: Option<Properties>,
    refuse: Option<bool>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct SubscribeEntry {
    topic: Spanned<Topics>,
    plaintext: Option<Plaintext>,
    refuse: Option<bool>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged, expecting = "a topic filter, or a list of them")]
enum Topics {
    One(String),
    Several(Vec<String>),
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Frames {
    Announced,
    Inline,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Properties {
    Pass,
    Drop,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Plaintext {
    Pass,
    Drop,
}

/// What is wrong, and at which byte of the text.
type Wrong = (usize, String);

impl PublishEntry {
    fn checked(self) -> Result<PublishRule, Wrong> {
        let start = self.topic.span().start;
        let refuse = self.refuse.unwrap_or(false);
        let recipients = match (self.policy, self.tags) {
            (Some(_), Some(_)) => {
                let message = "a rule has either a policy or tags, not both";
                return Err((start, message.to_owned()));
            }
            (Some(policy), None) => Some(Recipients::Policy(checked_policy(&policy)?)),
            (None, Some(tags)) => Some(Recipients::Tags(checked_tags(&tags)?)),
            (None, None) => None,
        };
        let action = match (recipients, refuse) {
            (Some(recipients), false) => Publishing::Seal(Sealing {
                recipients,
                rekey_messages: positive("rekey_messages", self.rekey_messages)?
                    .and_then(Sequence::new),
                rekey_after: positive("rekey_after", self.rekey_after)?
                    .map(|seconds| Duration::from_secs(seconds.into())),
                frames: match self.frames {
                    Some(Frames::Inline) => Delivery::Inline,
                    Some(Frames::Announced) | None => Delivery::Announced,
                },
                retained: self.retained.unwrap_or_default(),
                properties: self.properties == Some(Properties::Pass),
            }),
            (None, true) => Publishing::Refuse,
            (Some(_), true) => {
                let message = "a rule has either a policy, tags or refuse = true, not both";
                return Err((start, message.to_owned()));
            }
            (None, false) => {
                let message =
                    "this rule says neither policy = \"…\" nor tags = \"…\" nor refuse = true";
                return Err((start, message.to_owned()));
            }
        };
        let topics = checked_topics(self.topic)?;
        Ok(PublishRule { topics, action })
    }
}

impl SubscribeEntry {
    fn checked(self) -> Result<SubscribeRule, Wrong> {
        let start = self.topic.span().start;
        let action = match (self.plaintext, self.refuse.unwrap_or(false)) {
            (Some(Plaintext::Pass), false) => Subscribing::OpenOrPlain,
            (Some(Plaintext::Drop) | None, false) => Subscribing::Open,
            (None, true) => Subscribing::Refuse,
            (Some(_), true) => {
                let message = "a rule has either plaintext or refuse = true, not both";
                return Err((start, message.to_owned()));
            }
        };
        let topics = checked_topics(self.topic)?;
        Ok(SubscribeRule { topics, action })
    }
}

fn checked_policy(policy: &Spanned<String>) -> Result<Policy, Wrong> {
    let source = policy.get_ref();
    let start = policy.span().start;
    let parsed: Policy = source.parse().map_err(|error: smqtt_policy::ParseError| {
        let rendered = error.render(source);
        let rendered = rendered.strip_prefix("error: ").unwrap_or(&rendered);
        (start, format!("policy: {rendered}"))
    })?;
    if parsed.asks_for_topic() {
        let message = "policy: it asks for the topic, which is what `topic` is for";
        return Err((start, message.to_owned()));
    }
    Ok(parsed)
}

fn checked_tags(tags: &Spanned<String>) -> Result<AttributeSet, Wrong> {
    let source = tags.get_ref();
    let start = tags.span().start;
    let parsed: AttributeSet = source.parse().map_err(|error: smqtt_policy::ParseError| {
        let rendered = error.render(source);
        let rendered = rendered.strip_prefix("error: ").unwrap_or(&rendered);
        (start, format!("tags: {rendered}"))
    })?;
    if parsed.is_empty() {
        return Err((start, "tags: give at least one".to_owned()));
    }
    Ok(parsed)
}

/// A number that is not 0.
fn positive(key: &str, number: Option<Spanned<u32>>) -> Result<Option<u32>, Wrong> {
    match number {
        Some(number) if *number.get_ref() == 0 => {
            Err((number.span().start, format!("{key}: give at least 1")))
        }
        number => Ok(number.map(Spanned::into_inner)),
    }
}

fn checked_topics(topics: Spanned<Topics>) -> Result<Vec<TopicFilter>, Wrong> {
    let start = topics.span().start;
    let topics = match topics.into_inner() {
        Topics::One(topic) => vec![topic],
        Topics::Several(topics) => topics,
    };
    if topics.is_empty() {
        return Err((start, "give at least one topic".to_owned()));
    }
    let checked = |text: String| {
        let refuse = |reason: &str| (start, format!("the topic `{text}` {reason}"));
        let filter = TopicFilter::new(text.as_str())
            .map_err(|error| refuse(&format!("cannot be used: {error}")))?;
        if filter.is_shared() {
            return Err(refuse(
                "is a shared subscription: write what follows the group",
            ));
        }
        if announce::is_reserved(filter.filter()) {
            return Err(refuse(
                "is below smqtt/, which is for key frames: leave it out",
            ));
        }
        if filter.filter().starts_with('$') {
            return Err(refuse(
                "begins with $, which is the broker's own: leave it out",
            ));
        }
        if filter.as_str().len() > announce::MAX_TOPIC_LEN {
            return Err(refuse("is too long for its key frames: shorten it"));
        }
        Ok(filter)
    };
    topics.into_iter().map(checked).collect()
}

/// The line of a byte, counted from 1.
fn line(text: &str, offset: usize) -> usize {
    let before = &text.as_bytes()[..offset.min(text.len())];
    before.iter().filter(|byte| **byte == b'\n').count() + 1
}

/// Turns serde's "unknown field `x`, expected one of `a`, `b`" into a sentence with one suggestion.
fn explain(message: &str) -> String {
    let message = message.replace('\n', " ");
    let unknown = message
        .strip_prefix("unknown field `")
        .and_then(|rest| rest.split_once('`'));
    let Some((unknown, expected)) = unknown else {
        return message;
    };
    let known = expected.split('`').skip(1).step_by(2);
    format!(
        "unknown key `{unknown}`; {}",
        smqtt_policy::nearest(unknown, known)
    )
}

#[cfg(unix)]
fn is_open_to_others(path: &Path) -> std::io::Result<bool> {
    use std::os::unix::fs::PermissionsExt as _;
    Ok(std::fs::metadata(path)?.permissions().mode() & 0o077 != 0)
}

#[cfg(not(unix))]
fn is_open_to_others(_: &Path) -> std::io::Result<bool> {
    Ok(false)
}
