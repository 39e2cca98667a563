//! `smqtt doctor`: whether this device can do its work, and what to do where it cannot.

mod revocation;

use std::io::Write as _;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use clap::Args;
use serde::Serialize;
use smqtt_client::{Client, Error, Identity, MayPublish, Policy, QoS, authority_presence};
use smqtt_format::AuthorityState;
use smqtt_pki::UnixTime;

use crate::connection::Connection;
use crate::console::{counted, printable};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::{json, policy};
use revocation::Lists;

const EXAMPLES: &str = "\
Examples:
  smqtt doctor -i keys/anna

  # also: may this device subscribe there, and could it read what is sealed so?
  smqtt doctor -i keys/anna -t 'plant/#' -p 'role = technician'

  # also: may it publish there?
  smqtt doctor -i keys/anna --publish plant/7/temperature

Nothing is published unless --publish asks for it: a broker tells only by its answer whether it
would take a message. What is sent has the form of a sealed message with nothing in it; a reader
that is there refuses it as of an unknown key.

Ends with exit code 0 if nothing failed, else with that of the first failure.
Exit codes: smqtt --help";

/// A clock that is off by more than this makes readers refuse key frames, in seconds.
const CLOCK_SKEW: u64 = 300;
/// What remains of a certificate when a warning is due, in seconds.
const SOON: u64 = 7 * 86_400;
/// How long the authority's state, which a broker retains, may take to come.
const STATE: Duration = Duration::from_secs(3);

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Options {
    /// A topic filter to which this device should be able to subscribe; may be given several times
    #[arg(short, long = "topic", value_name = "FILTER")]
    topics: Vec<String>,

    /// A topic to which this device should be able to publish; may be given several times
    #[arg(long, value_name = "TOPIC")]
    publish: Vec<String>,

    /// A policy that this device should satisfy, such as 'role = doctor and dept = icu'
    #[arg(
        short,
        long,
        value_name = "POLICY",
        env = "SMQTT_POLICY",
        hide_env_values = true
    )]
    policy: Option<String>,

    /// A revocation list to look at, such as a broker's, instead of the one that the authority has
    #[arg(long, value_name = "FILE")]
    crl: Option<PathBuf>,

    /// Print one JSON object a line
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    connection: Connection,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Verdict {
    Ok,
    Warning,
    Failed,
}

/// One finding.
#[derive(Debug, Serialize)]
struct Finding {
    r#type: &'static str,
    check: &'static str,
    verdict: Verdict,
    detail: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    fix: Option<String>,
}

/// What was found so far, told as it comes.
struct Report {
    json: bool,
    first: Option<Exit>,
    warnings: u64,
    failures: u64,
}

impl Report {
    fn ok(&mut self, check: &'static str, detail: impl Into<String>) {
        self.tell(check, Verdict::Ok, detail.into(), None);
    }

    fn warning(&mut self, check: &'static str, detail: impl Into<String>, fix: impl Into<String>) {
        self.warnings += 1;
        self.tell(check, Verdict::Warning, detail.into(), Some(fix.into()));
    }

    fn failed(
        &mut self,
        check: &'static str,
        exit: Exit,
        detail: impl Into<String>,
        fix: impl Into<String>,
    ) {
        self.failures += 1;
        self.first.get_or_insert(exit);
        self.tell(check, Verdict::Failed, detail.into(), Some(fix.into()));
    }

    fn tell(&self, check: &'static str, verdict: Verdict, detail: String, fix: Option<String>) {
        let finding = Finding {
            r#type: "finding",
            check,
            verdict,
            detail,
            fix,
        };
        let mut out = std::io::stdout().lock();
        // Nobody reads it any more: the exit code says it still.
        let _ = if self.json {
            json::line(&mut out, &finding)
        } else {
            let word = match verdict {
                Verdict::Ok => "ok",
                Verdict::Warning => "warning",
                Verdict::Failed => "FAILED",
            };
            let fix = finding.fix.as_ref().map_or_else(String::new, |fix| {
                format!("{:20} fix: {}\n", "", printable(fix))
            });
            write!(
                out,
                "{word:<8} {check:<11} {}\n{fix}",
                printable(&finding.detail)
            )
        };
    }
}

pub(crate) async fn run(options: Options) -> Result<Exit, Failure> {
    let wanted = options.policy.as_deref().map(policy::parse).transpose()?;
    for filter in &options.topics {
        smqtt_client::subscribable(filter)?;
    }
    for topic in &options.publish {
        smqtt_client::publishable(topic)?;
    }
    let mut report = Report {
        json: options.json,
        first: None,
        warnings: 0,
        failures: 0,
    };
    let (identity, connect) = match options.connection.options() {
        Ok(loaded) => loaded,
        Err(failure) if failure.exit() == Exit::Identity => {
            report.failed(
                "identity",
                Exit::Identity,
                failure.to_string(),
                "see the message; where nothing helps, enrol the device again with a new token",
            );
            return Ok(report.end());
        }
        Err(failure) => return Err(failure),
    };
    report.ok(
        "identity",
        format!(
            "{} in {}, private files readable by their owner only",
            identity.device(),
            identity.directory().display()
        ),
    );
    let limit = options.connection.timeout();
    let answers = check_clock(&mut report, &identity, limit).await;
    check_certificate(&mut report, &identity);
    let lists = match &options.crl {
        Some(path) => Lists::of_file(&mut report, &identity, path),
        None if answers => Lists::fetch(&mut report, &identity, limit).await,
        None => {
            report.warning(
                "revocation",
                "the revocation list is not known: the authority does not answer",
                "ask again when it does, or give a broker's copy: --crl FILE",
            );
            None
        }
    };
    check_keys(&mut report, &identity, wanted.as_ref());
    match Client::connect(connect.reconnect(None)).await {
        Ok(client) => {
            report.ok("broker", "connected, and this device was accepted");
            if let Some(state) = newest_state(&mut report, &client).await {
                check_epoch(&mut report, &state, &identity);
                if let Some(lists) = lists {
                    lists.compare(&mut report, &state).await;
                }
            }
            check_topics(&mut report, &client, &options.topics).await;
            check_publishing(&mut report, &client, &options.publish).await;
            let _ = client.disconnect().await;
        }
        Err(error) => {
            let exit = error.kind().into();
            let fix = broker_fix(&error);
            report.failed("broker", exit, error.to_string(), fix);
        }
    }
    Ok(report.end())
}

impl Report {
    fn end(&self) -> Exit {
        if self.json {
            #[derive(Serialize)]
            struct Summary {
                r#type: &'static str,
                failed: u64,
                warnings: u64,
            }
            let summary = Summary {
                r#type: "summary",
                failed: self.failures,
                warnings: self.warnings,
            };
            let _ = json::line(&mut std::io::stdout().lock(), &summary);
        } else {
            let text = match (self.failures, self.warnings) {
                (0, 0) => "nothing is wrong".to_owned(),
                (failed, warnings) => format!("{failed} failed, {}", counted(warnings, "warning")),
            };
            let _ = writeln!(std::io::stdout().lock(), "{text}");
        }
        self.first.unwrap_or(Exit::Done)
    }
}

fn now() -> u64 {
    SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs()
}

/// Whether the authority answers, and what its clock says.
async fn check_clock(report: &mut Report, identity: &Identity, limit: Duration) -> bool {
    match authority_presence(identity, limit).await {
        Ok(presence) => {
            report.ok("authority", format!("{} answers", identity.authority()));
            let Some(there) = presence.time else {
                report.warning(
                    "clock",
                    "the authority does not tell its time",
                    "compare this device's clock with another one",
                );
                return true;
            };
            let here = now();
            let off = here.abs_diff(there);
            if off > CLOCK_SKEW {
                let side = if here > there { "ahead of" } else { "behind" };
                report.failed(
                    "clock",
                    Exit::Input,
                    format!("{off} s {side} the authority's"),
                    "set this device's clock (NTP); readers refuse key frames that are more than 300 s off",
                );
            } else {
                report.ok("clock", format!("within {off} s of the authority's"));
            }
            true
        }
        Err(error) => {
            let detail = error.to_string();
            if matches!(error, Error::Untrusted { .. }) {
                report.failed(
                    "authority",
                    Exit::Untrusted,
                    detail,
                    "do not enrol or renew there: ask the operator for the fingerprint",
                );
            } else {
                // Publishing and reading go on without it.
                report.warning(
                    "authority",
                    detail,
                    "messages flow without it; ask its operator before this device's certificate ends",
                );
            }
            false
        }
    }
}

fn check_certificate(report: &mut Report, identity: &Identity) {
    let at = UnixTime::since_unix_epoch(Duration::from_secs(now()));
    match identity.trust_anchor().verify_device(identity.chain(), at) {
        Ok(_) => {
            let left = identity
                .validity()
                .not_after()
                .as_secs()
                .saturating_sub(at.as_secs());
            let days = left / 86_400;
            if left < SOON {
                report.warning(
                    "certificate",
                    format!("valid for {days} more days"),
                    "get a new one now: smqtt renew",
                );
            } else {
                report.ok(
                    "certificate",
                    format!("leads to the authority's root, valid for {days} more days"),
                );
            }
        }
        Err(error) => report.failed(
            "certificate",
            Exit::Identity,
            error.to_string(),
            "check the clock first; if that is right, enrol the device again with a new token",
        ),
    }
}

/// The key policy, its key, and what is needed to seal with tags.
fn check_key_policy(report: &mut Report, identity: &Identity) {
    if identity.policy_parameters().is_none() {
        return report.warning(
            "key-policy",
            "this device can not seal with tags: its authority has given no parameters for that",
            "fetch them, if the authority has them by now: smqtt renew",
        );
    }
    match (smqtt_client::key_policy(identity), identity.policy_key()) {
        (Err(error), _) => report.failed(
            "key-policy",
            Exit::Identity,
            error.to_string(),
            "fetch it anew: smqtt renew",
        ),
        (Ok(None), _) => {}
        (Ok(Some(policy)), None) => report.failed(
            "key-policy",
            Exit::Identity,
            format!("there is no key for {policy}: a renewal was interrupted"),
            "fetch it anew: smqtt renew",
        ),
        (Ok(Some(policy)), Some(_)) => report.ok("key-policy", policy.to_string()),
    }
}

fn check_keys(report: &mut Report, identity: &Identity, wanted: Option<&Policy>) {
    let held = match smqtt_client::attributes(identity) {
        Ok(held) => held,
        Err(error) => {
            return report.failed(
                "keys",
                Exit::Identity,
                error.to_string(),
                "enrol the device again with a new token",
            );
        }
    };
    let attributes = held.without_epoch();
    match held.epoch() {
        Some(epoch) => report.ok("epoch", format!("the attribute key is of epoch {epoch}")),
        None => report.failed(
            "epoch",
            Exit::Identity,
            "the attribute key is of no epoch",
            "enrol the device again with a new token",
        ),
    }
    if attributes.is_empty() && identity.key_policy().is_none() {
        report.warning(
            "attributes",
            "this device has none: it reads nothing",
            "ask the authority's operator for some; publishing needs none",
        );
    } else {
        report.ok("attributes", attributes.to_string());
    }
    check_key_policy(report, identity);
    let Some(wanted) = wanted else { return };
    let explanation = wanted.explain(&attributes);
    if explanation.is_satisfied() {
        report.ok("policy", format!("satisfied: {wanted}"));
    } else {
        let missing: Vec<String> = policy::missing(&explanation)
            .iter()
            .map(|set| set.join(" and "))
            .collect();
        report.failed(
            "policy",
            Exit::Input,
            format!("not satisfied: {wanted}"),
            format!("ask the authority's operator for {}", missing.join(", or ")),
        );
    }
}

async fn check_topics(report: &mut Report, client: &Client, topics: &[String]) {
    for filter in topics {
        match client.subscribe([filter], QoS::AtLeastOnce).await {
            Ok(_) => report.ok(
                "subscribe",
                format!("{filter} and its key announcements are granted"),
            ),
            Err(error) => report.failed(
                "subscribe",
                error.kind().into(),
                error.to_string(),
                "ask the broker's operator for the right to read there, and below smqtt/keys/",
            ),
        }
    }
}

/// The authority's state, where the broker has it and lets this device read it.
async fn newest_state(report: &mut Report, client: &Client) -> Option<AuthorityState> {
    let state = async {
        let mut states = client.authority_states().await?;
        states.next().await.map_err(Error::ConnectionLost)
    };
    match tokio::time::timeout(STATE, state).await {
        Ok(Ok(state)) => return Some(state),
        Ok(Err(error)) => report.warning(
            "state",
            format!("the authority's state cannot be followed: {error}"),
            "let the broker's operator allow subscribing to smqtt/authority/state, or renew from a timer",
        ),
        Err(_) => report.warning(
            "state",
            "the broker has no state of this authority",
            "renew from a timer, daily: smqtt renew; or let the authority publish it: smqtt-authority serve --broker",
        ),
    }
    None
}

/// Whether the attribute key is of the epoch for which messages are sealed.
fn check_epoch(report: &mut Report, state: &AuthorityState, identity: &Identity) {
    let held = smqtt_client::attributes(identity).ok();
    let Some(held) = held.and_then(|held| held.epoch()) else {
        return;
    };
    let sealing = smqtt_client::sealing_epoch(&state.sealing, now()).unwrap_or(state.epoch);
    let fix = "get a key of the new epoch: smqtt renew";
    if sealing > held.get() {
        report.failed(
            "state",
            Exit::Identity,
            format!(
                "messages are sealed for epoch {sealing} by now, the attribute key is of {held}"
            ),
            fix,
        );
    } else if state.epoch > held.get() {
        report.warning(
            "state",
            format!(
                "epoch {} begins soon, the attribute key is of {held}",
                state.epoch
            ),
            fix,
        );
    } else {
        report.ok(
            "state",
            format!("the authority's, with epoch {}", state.epoch),
        );
    }
}

async fn check_publishing(report: &mut Report, client: &Client, topics: &[String]) {
    for topic in topics {
        match client.may_publish(topic).await {
            Ok(MayPublish {
                message: None,
                announcement: None,
                ..
            }) => {
                if client.protocol().is_v5() {
                    report.ok("publish", format!("{topic} and its key announcements are taken"));
                } else {
                    report.warning(
                        "publish",
                        format!("{topic}: MQTT 3.1.1 does not tell whether the broker took it"),
                        "ask again with --mqtt 5",
                    );
                }
            }
            Ok(MayPublish {
                message: Some(reason),
                ..
            }) => report.failed(
                "publish",
                Exit::Refused,
                format!("the broker refused a message at {topic}: {reason}"),
                "ask the broker's operator for the right to publish there",
            ),
            Ok(MayPublish { announcement, .. }) => report.failed(
                "publish",
                Exit::Refused,
                format!(
                    "the broker refused a key announcement for {topic}: {}",
                    announcement.unwrap_or_default()
                ),
                "ask the broker's operator for the right to publish and to retain below smqtt/keys/; until then: --frames inline",
            ),
            Err(error) => report.failed(
                "publish",
                error.kind().into(),
                error.to_string(),
                "a broker may end the connection of a device that publishes what it must not: its log says more",
            ),
        }
    }
}

fn broker_fix(error: &Error) -> &'static str {
    match error {
        Error::Unreachable { .. } => {
            "is it running there? smqtt identity show tells the address, --broker gives another"
        }
        Error::TimedOut { .. } => "check the address and any firewall between",
        Error::Untrusted { .. } => {
            "its certificate must come from this device's authority: `smqtt-authority broker issue`"
        }
        Error::Refused { .. } => {
            "the broker's log says why; was this device revoked, or does the broker want a password?"
        }
        Error::InsecureTransport(_) => "use mqtts://, or --allow-plain-transport if that is meant",
        Error::Broken { .. } | Error::Tls { .. } => {
            "is that the broker's port, with TLS for mqtts:// and without for mqtt://?"
        }
        _ => "give the broker's address with --broker",
    }
}
