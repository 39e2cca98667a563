//! `smqtt-broker acl`: may somebody do something, and which rule says so.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::{Args, Subcommand};
use smqtt_pki::DeviceId;
use smqtt_policy::AttributeSet;
use smqtt_proto::{TopicFilter, TopicName};

use crate::Error;
use crate::access::{Access, Action, Decision, Subject};
use crate::config::{Config, SealedMode};
use crate::directory::Identity;

/// Questions to the rules of a configuration.
#[derive(Debug, Clone, Subcommand)]
pub enum AclCommand {
    /// Say whether a client may do something, and why; exit code 0 if it may, 6 if not
    Test(Test),
    /// Print the rules in the order in which they are asked
    Show {
        /// The broker's configuration file
        #[arg(long, value_name = "FILE", env = "SMQTT_BROKER_CONFIG")]
        config: PathBuf,
    },
}

/// A question.
#[derive(Debug, Clone, Args)]
pub struct Test {
    /// The broker's configuration file
    #[arg(long, value_name = "FILE", env = "SMQTT_BROKER_CONFIG")]
    config: PathBuf,
    /// A client with the certificate of this device
    #[arg(long, value_name = "ID", conflicts_with = "user")]
    device: Option<DeviceId>,
    /// A client with the password of this user; without either, an anonymous client
    #[arg(long, value_name = "NAME")]
    user: Option<String>,
    /// Its client id; without it, the device's or user's name
    #[arg(long, value_name = "ID")]
    client_id: Option<String>,
    /// The attributes in its certificate, such as "role = sensor, on-call"
    #[arg(long, value_name = "ATTRIBUTES", requires = "device")]
    attributes: Option<AttributeSet>,
    /// Answer in JSON
    #[arg(long)]
    json: bool,
    /// What it wants to do
    #[arg(value_enum)]
    action: Action,
    /// At which topic, or with which filter
    topic: String,
}

/// `acl test`: denied.
const DENIED: u8 = 6;

impl AclCommand {
    pub(super) fn run(&self) -> Result<ExitCode, Error> {
        match self {
            AclCommand::Test(test) => test.run(),
            AclCommand::Show { config } => {
                let access = Access::rules_of(&Config::from_file(config)?)?;
                match access.acl() {
                    None => {
                        println!("no access.acl: whoever is admitted may publish and subscribe")
                    }
                    Some(acl) => {
                        for rule in &acl.rules {
                            println!("{}:{}: {rule}", acl.path.display(), rule.line);
                        }
                        println!("otherwise: deny");
                    }
                }
                for (filter, mode) in access.sealed() {
                    println!("sealed {filter}: {}", format!("{mode:?}").to_lowercase());
                }
                Ok(ExitCode::SUCCESS)
            }
        }
    }
}

impl Test {
    fn run(&self) -> Result<ExitCode, Error> {
        let access = Access::rules_of(&Config::from_file(&self.config)?)?;
        let topic = self.topic()?;
        let identity = match (&self.device, &self.user) {
            (Some(device), _) => Identity::Device(Arc::new(device.clone())),
            (None, Some(user)) => Identity::User(user.as_str().into()),
            (None, None) => Identity::Anonymous,
        };
        let name = self
            .device
            .as_ref()
            .map(DeviceId::as_str)
            .or(self.user.as_deref());
        let attributes = self.attributes.clone().unwrap_or_default();
        let subject = Subject {
            identity: &identity,
            client_id: self.client_id.as_deref().or(name).unwrap_or_default(),
            attributes: &attributes,
        };
        let mut decision = access.decide(&subject, self.action, &topic);
        if self.action == Action::Retain && decision.allows() {
            // Whoever retains also publishes.
            let publish = access.decide(&subject, Action::Publish, &topic);
            if !publish.allows() {
                decision = publish;
            }
        }
        let allowed = decision.allows();
        let (rule, reason) = match decision {
            Decision::Rule(rule) => {
                let file = access.acl().map(|acl| acl.path.display().to_string());
                (
                    Some((file.unwrap_or_default(), rule.line)),
                    rule.to_string(),
                )
            }
            Decision::NotGranted => (None, "no rule grants it".to_owned()),
            Decision::NoList => (None, "there is no access.acl".to_owned()),
            Decision::BuiltIn(reason) => (None, reason.to_owned()),
        };
        let sealed = match self.action {
            Action::Subscribe => SealedMode::Off,
            Action::Publish | Action::Retain => access.sealed_mode(&topic),
        };
        let action = format!("{:?}", self.action).to_lowercase();
        let sealed_name = format!("{sealed:?}").to_lowercase();
        if self.json {
            let answer = serde_json::json!({
                "allowed": allowed,
                "client": identity.to_string(),
                "action": action,
                "topic": self.topic,
                "rule": rule.map(|(file, line)| serde_json::json!({ "file": file, "line": line })),
                "reason": reason,
                "sealed": sealed_name,
            });
            println!("{answer}");
        } else {
            let verb = if allowed { "may" } else { "may not" };
            println!("{identity} {verb} {action} {}", self.topic);
            match rule {
                Some((file, line)) => println!("  {file}:{line}: {reason}"),
                None => println!("  {reason}"),
            }
            let others = match sealed {
                SealedMode::Enforce => Some("refused"),
                SealedMode::Warn => Some("accepted with a warning"),
                SealedMode::Off => None,
            };
            if let Some(others) = others.filter(|_| allowed) {
                println!("  sealed topic: payloads other than the device's envelopes are {others}");
            }
        }
        Ok(match allowed {
            true => ExitCode::SUCCESS,
            false => ExitCode::from(DENIED),
        })
    }

    /// What is judged: of a shared subscription, its filter.
    fn topic(&self) -> Result<String, Error> {
        let refuse = |error: String| Error::Config(format!("`{}`: {error}", self.topic));
        match self.action {
            Action::Subscribe => TopicFilter::new(self.topic.as_str())
                .map(|filter| filter.filter().to_owned())
                .map_err(|error| refuse(error.to_string())),
            Action::Publish | Action::Retain => TopicName::new(self.topic.as_str())
                .map(|topic| topic.as_str().to_owned())
                .map_err(|error| refuse(error.to_string())),
        }
    }
}
