//! What can be typed.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, Subcommand, ValueEnum};
use smqtt_authority::DeviceState;
use smqtt_pki::{DeviceId, RevocationReason, ServerName};

use super::duration::{parse_duration, parse_span};
use super::keys::{KeyOptions, SealOptions};

/// The name of an authority that was given none.
pub(crate) const DEFAULT_NAME: &str = "SMQTT authority";

const EXAMPLES: &str = "\
Examples:
  Set an authority up and serve it:
    smqtt-authority init --dir authority --host ca.example.org
    smqtt-authority serve --dir authority --listen 0.0.0.0:8443 --broker mqtts://broker.example.org:8883

  Register a device; its token is printed on stdout, the command to run on the device on stderr:
    smqtt-authority device add sensor-17 --attributes \"role = sensor, site = berlin\"

  Give a broker its certificate:
    smqtt-authority broker issue --host broker.example.org --out broker-tls

Exit codes: 0 done, 1 unexpected, 2 usage, 3 input not valid, 4 directory not usable, 5 can not listen";

/// The SMQTT key authority: registers devices, gives them certificates and attribute keys.
#[derive(Parser)]
#[command(version, about, after_help = EXAMPLES, arg_required_else_help = true, max_term_width = 100)]
pub(crate) struct Args {
    /// The authority's directory.
    #[arg(
        long,
        global = true,
        env = "SMQTT_AUTHORITY_DIR",
        default_value = "authority",
        value_name = "DIR"
    )]
    pub(crate) dir: PathBuf,

    /// How log lines look on stderr; RUST_LOG or SMQTT_LOG chooses which there are.
    #[arg(
        long,
        global = true,
        env = "SMQTT_LOG_FORMAT",
        default_value = "text",
        value_name = "FORMAT"
    )]
    pub(crate) log_format: LogFormat,

    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Clone, Copy, ValueEnum)]
pub(crate) enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Make a new authority: keys, root certificate, empty register. Asks at a terminal for what was not given.
    Init(Init),
    /// Encrypt the secret keys on disk, or change the passphrase or key file that they are encrypted with.
    Seal(Seal),
    /// Serve enrolment over HTTPS until SIGTERM or SIGINT.
    Serve(Serve),
    /// Print the root certificate's fingerprint, which devices pin when they enrol.
    Fingerprint,
    /// Register devices and look at them. Works while the authority serves.
    #[command(subcommand)]
    Device(DeviceCommand),
    /// Name sets of attributes that devices share.
    #[command(subcommand)]
    Profile(ProfileCommand),
    /// Say which attributes there are.
    #[command(subcommand)]
    Schema(SchemaCommand),
    /// See who can read what.
    #[command(subcommand)]
    Policy(PolicyCommand),
    /// Write the list of the certificates that were taken back, for the broker's tls.crl.
    Crl(Crl),
    /// Show, advance and schedule epochs; see how far the fleet has renewed.
    #[command(subcommand)]
    Epoch(EpochCommand),
    /// Issue certificates for brokers.
    #[command(subcommand)]
    Broker(BrokerCommand),
    /// Read, sign, export and verify the audit log.
    #[command(subcommand)]
    Audit(AuditCommand),
    /// Write a backup of the whole authority into one encrypted file. Works while the authority serves.
    Backup(Backup),
    /// Make an authority of a backup, in the directory that --dir names.
    Restore(Restore),
    /// Shares of the key that backups are encrypted with, for several people to keep.
    #[command(subcommand)]
    Shares(SharesCommand),
}

#[derive(clap::Args)]
pub(crate) struct Init {
    /// The authority's name: the common name of its root certificate. Without it: "SMQTT authority".
    #[arg(long)]
    pub(crate) name: Option<String>,

    /// A name or address under which devices will reach the authority; repeat for more. localhost, 127.0.0.1 and ::1 are
    /// always there.
    #[arg(long = "host", value_parser = parse_host, value_name = "HOST")]
    pub(crate) hosts: Vec<ServerName<'static>>,

    #[command(flatten)]
    pub(crate) seal: SealOptions,
}

#[derive(clap::Args)]
pub(crate) struct Seal {
    #[command(flatten)]
    pub(crate) keys: KeyOptions,

    /// Seal with the passphrase in this file (mode 0600, 12 characters or more).
    #[arg(long, value_name = "FILE", conflicts_with = "new_key_file")]
    pub(crate) new_passphrase_file: Option<PathBuf>,

    /// Seal with this key file; it is made if it is missing.
    #[arg(long, value_name = "FILE")]
    pub(crate) new_key_file: Option<PathBuf>,
}

#[derive(clap::Args)]
pub(crate) struct Serve {
    /// Where to listen. Port 0 takes a free one; the line `listening on https://ADDR:PORT` on stderr tells it.
    #[arg(
        long,
        env = "SMQTT_AUTHORITY_LISTEN",
        default_value = "127.0.0.1:8443",
        value_name = "ADDR:PORT"
    )]
    pub(crate) listen: SocketAddr,

    /// One more name or address for the service's certificate; repeat for more.
    #[arg(long = "host", value_parser = parse_host, value_name = "HOST")]
    pub(crate) hosts: Vec<ServerName<'static>>,

    /// The URL at which devices reach the authority, if it is not made of the first host and the port.
    #[arg(long, env = "SMQTT_AUTHORITY_URL", value_parser = parse_authority_url, value_name = "URL")]
    pub(crate) url: Option<String>,

    /// A broker's URL: mqtts://HOST:PORT; repeat for more. Each gets the authority's signed state, the first is told to
    /// each device that enrols. Remembered for later starts.
    #[arg(
        long = "broker",
        env = "SMQTT_BROKER",
        value_delimiter = ',',
        value_parser = parse_broker_url,
        value_name = "URL"
    )]
    pub(crate) brokers: Vec<String>,

    /// The file for the brokers' tls.crl: written at each revocation, and renewed in time. Remembered for later starts, and
    /// for commands.
    #[arg(long, value_name = "FILE")]
    pub(crate) crl_out: Option<PathBuf>,

    /// Show the attributes of this name in device certificates, for the broker's rules; repeat for more. They are public
    /// then: whoever sees a certificate or a key frame of the device reads them.
    #[arg(
        long,
        env = "SMQTT_CERTIFY",
        value_delimiter = ',',
        value_name = "ATTRIBUTE"
    )]
    pub(crate) certify: Vec<String>,

    #[command(flatten)]
    pub(crate) keys: KeyOptions,
}

#[derive(Subcommand)]
pub(crate) enum DeviceCommand {
    /// Register a device and print its enrolment token.
    Add(DeviceAdd),
    /// Register the devices of a CSV file and print their tokens.
    Import(DeviceImport),
    /// List devices.
    List(DeviceList),
    /// Show one device.
    Show(DeviceShow),
    /// Change a device's attributes or profile.
    Set(DeviceSet),
    /// Print a new enrolment token for a device that has not used its own; the one before it is void.
    Token(DeviceToken),
    /// Take a device back: its certificates and, with a new epoch, its attribute key.
    Revoke(DeviceRevoke),
    /// Keep a device out until it is reinstated.
    Suspend(DeviceSuspend),
    /// End a suspension.
    Reinstate(DeviceReinstate),
    /// Forget a device, after taking back what it has. Its name can be given anew.
    Remove(DeviceRemove),
}

#[derive(clap::Args)]
pub(crate) struct DeviceAdd {
    /// The device's name: letters, digits, '.', '_', '-'.
    pub(crate) name: DeviceId,

    /// What the device is, which policies ask for: "role = doctor, dept = icu".
    #[arg(
        long,
        short,
        value_name = "ATTRIBUTES",
        default_value = "",
        hide_default_value = true,
        required_unless_present = "profile"
    )]
    pub(crate) attributes: String,

    /// The profile whose attributes it has, beside its own or replaced by them.
    #[arg(long, value_name = "PROFILE")]
    pub(crate) profile: Option<String>,

    #[command(flatten)]
    pub(crate) token: TokenOptions,
}

#[derive(clap::Args)]
pub(crate) struct TokenOptions {
    /// How long the token can be used: 90s, 30m, 24h, 7d.
    #[arg(long, default_value = "24h", value_parser = parse_duration, value_name = "TIME")]
    pub(crate) token_expires: Duration,

    /// How often the token can be used. A device whose answer got lost may ask again in any case.
    #[arg(long, default_value_t = 1, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..=100))]
    pub(crate) uses: u32,

    /// Show the command for the device as a QR code on stderr, too.
    #[arg(long)]
    pub(crate) qr: bool,

    /// Print a JSON object instead of the bare token.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(clap::Args)]
pub(crate) struct DeviceImport {
    /// The file; - reads standard input. Its first line names the columns: name, attributes, profile. The last two may be
    /// left out, or empty, but not both.
    pub(crate) file: PathBuf,

    /// The profile of those lines that name none.
    #[arg(long, value_name = "PROFILE")]
    pub(crate) profile: Option<String>,

    /// Register those devices that can be, whatever is wrong with others. By default all or none.
    #[arg(long)]
    pub(crate) partly: bool,

    /// Check every line and register nothing.
    #[arg(long, conflicts_with = "partly")]
    pub(crate) dry_run: bool,

    /// Write the tokens to this new file (mode 0600) rather than to stdout.
    #[arg(long, value_name = "FILE")]
    pub(crate) tokens_out: Option<PathBuf>,

    /// How long the tokens can be used.
    #[arg(long, default_value = "7d", value_parser = parse_duration, value_name = "TIME")]
    pub(crate) token_expires: Duration,

    /// How often each token can be used.
    #[arg(long, default_value_t = 1, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..=100))]
    pub(crate) uses: u32,

    /// Print a JSON object: devices with tokens, and what is wrong with which line.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(clap::Args)]
pub(crate) struct DeviceList {
    /// Only devices in this state.
    #[arg(long, value_enum, value_name = "STATE")]
    pub(crate) state: Option<State>,

    /// Only devices with attributes that satisfy this policy: "role = sensor and site = berlin".
    #[arg(long = "where", value_name = "POLICY")]
    pub(crate) policy: Option<String>,

    /// Only devices with this profile.
    #[arg(long, value_name = "PROFILE")]
    pub(crate) profile: Option<String>,

    /// Only devices with names that begin so.
    #[arg(long, value_name = "TEXT")]
    pub(crate) prefix: Option<String>,

    /// Only devices with a certificate that expires within this time, or has expired: 30d.
    #[arg(long, value_parser = parse_duration, value_name = "TIME")]
    pub(crate) expires_within: Option<Duration>,

    /// Only devices that have not renewed to the current epoch.
    #[arg(long)]
    pub(crate) behind: bool,

    /// Print a JSON array.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Clone, Copy, ValueEnum)]
pub(crate) enum State {
    /// Without a certificate yet.
    Registered,
    /// With a certificate and an attribute key.
    Enrolled,
    /// Kept out until it is reinstated.
    Suspended,
    /// Taken back.
    Revoked,
}

impl From<State> for DeviceState {
    fn from(state: State) -> Self {
        match state {
            State::Registered => Self::Registered,
            State::Enrolled => Self::Enrolled,
            State::Suspended => Self::Suspended,
            State::Revoked => Self::Revoked,
        }
    }
}

#[derive(clap::Args)]
pub(crate) struct DeviceShow {
    /// The device's name.
    pub(crate) name: DeviceId,

    /// Print a JSON object.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(clap::Args)]
pub(crate) struct DeviceSet {
    /// The device's name.
    pub(crate) name: DeviceId,

    /// Its own attributes from now on; those of its profile stay beside them.
    #[arg(long, short, value_name = "ATTRIBUTES", required_unless_present_any = ["profile", "no_profile"])]
    pub(crate) attributes: Option<String>,

    /// Its profile from now on.
    #[arg(long, value_name = "PROFILE")]
    pub(crate) profile: Option<String>,

    /// Take its profile away.
    #[arg(long, conflicts_with = "profile")]
    pub(crate) no_profile: bool,

    /// Print a JSON object.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(clap::Args)]
pub(crate) struct DeviceToken {
    /// The device's name.
    pub(crate) name: DeviceId,

    /// Also for a device that is enrolled, so that it can enrol once more. Its certificate stays valid until it expires.
    #[arg(long)]
    pub(crate) re_enrol: bool,

    #[command(flatten)]
    pub(crate) token: TokenOptions,
}

#[derive(clap::Args)]
pub(crate) struct DeviceRevoke {
    /// The device's name.
    pub(crate) name: DeviceId,

    /// Why, for the list.
    #[arg(long, value_enum, default_value_t = Reason::Unspecified, value_name = "REASON")]
    pub(crate) reason: Reason,

    /// Begin no new epoch: the device's attribute key goes on to open what it gets hold of, until the next one.
    #[arg(long)]
    pub(crate) keep_epoch: bool,

    #[command(flatten)]
    pub(crate) act: ActOptions,
}

#[derive(clap::Args)]
pub(crate) struct DeviceSuspend {
    /// The device's name.
    pub(crate) name: DeviceId,

    /// Begin a new epoch too, so that its attribute key opens nothing that is sealed from then on.
    #[arg(long)]
    pub(crate) advance_epoch: bool,

    #[command(flatten)]
    pub(crate) act: ActOptions,
}

#[derive(clap::Args)]
pub(crate) struct DeviceReinstate {
    /// The device's name.
    pub(crate) name: DeviceId,

    #[command(flatten)]
    pub(crate) act: ActOptions,
}

#[derive(clap::Args)]
pub(crate) struct DeviceRemove {
    /// The device's name.
    pub(crate) name: DeviceId,

    #[command(flatten)]
    pub(crate) act: ActOptions,
}

/// What acts have in common that the brokers have to learn of.
#[derive(clap::Args)]
pub(crate) struct ActOptions {
    /// Write the revocation list to this file. Remembered for later acts.
    #[arg(long, value_name = "FILE")]
    pub(crate) crl_out: Option<PathBuf>,

    /// Print a JSON object.
    #[arg(long)]
    pub(crate) json: bool,

    #[command(flatten)]
    pub(crate) keys: KeyOptions,
}

#[derive(Subcommand)]
pub(crate) enum ProfileCommand {
    /// Add a profile, or change its attributes, for the devices that have it too.
    Set(ProfileSet),
    /// List profiles.
    List(ProfileList),
    /// Remove a profile that no device has.
    Remove(ProfileRemove),
}

#[derive(clap::Args)]
pub(crate) struct ProfileSet {
    /// The profile's name.
    pub(crate) name: String,

    /// Its attributes: "role = sensor, site = berlin".
    #[arg(long, short, value_name = "ATTRIBUTES")]
    pub(crate) attributes: String,
}

#[derive(clap::Args)]
pub(crate) struct ProfileList {
    /// Print a JSON array.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(clap::Args)]
pub(crate) struct ProfileRemove {
    /// The profile's name.
    pub(crate) name: String,
}

#[derive(Subcommand)]
pub(crate) enum SchemaCommand {
    /// Print the schema that holds.
    Show(SchemaShow),
    /// Change the schema: from a file, or in $VISUAL or $EDITOR.
    Edit(SchemaEdit),
    /// Check a schema's file against the devices and profiles that there are, and change nothing.
    Check(SchemaCheck),
}

#[derive(clap::Args)]
pub(crate) struct SchemaShow {
    /// Print a JSON object: version and text.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(clap::Args)]
pub(crate) struct SchemaEdit {
    /// Take this file; - reads standard input. Without it an editor opens.
    #[arg(long, value_name = "FILE")]
    pub(crate) file: Option<PathBuf>,
}

#[derive(clap::Args)]
pub(crate) struct SchemaCheck {
    /// The file, TOML; - reads standard input.
    pub(crate) file: PathBuf,
}

#[derive(Subcommand)]
pub(crate) enum PolicyCommand {
    /// List the devices that satisfy a policy.
    Who(PolicyWho),
    /// List who gains and who loses if one policy takes the place of another.
    Diff(PolicyDiff),
}

#[derive(clap::Args)]
pub(crate) struct PolicyWho {
    /// The policy: "role = doctor and dept = icu".
    pub(crate) policy: String,

    /// The topic that would be published to, for policies that ask for it.
    #[arg(long, value_name = "TOPIC")]
    pub(crate) topic: Option<String>,

    /// Fail if no device satisfies it.
    #[arg(long)]
    pub(crate) strict: bool,

    /// Print a JSON array.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(clap::Args)]
pub(crate) struct PolicyDiff {
    /// The policy as it is.
    pub(crate) old: String,

    /// The policy as it would be.
    pub(crate) new: String,

    /// The topic that would be published to, for policies that ask for it.
    #[arg(long, value_name = "TOPIC")]
    pub(crate) topic: Option<String>,

    /// Fail if no device satisfies the new one.
    #[arg(long)]
    pub(crate) strict: bool,

    /// Print a JSON object.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Clone, Copy, ValueEnum)]
pub(crate) enum Reason {
    /// No reason is given.
    Unspecified,
    /// Its private key is, or may be, known to others: it was stolen, for example.
    KeyCompromise,
    /// Another certificate takes its place.
    Superseded,
    /// It is out of service.
    CessationOfOperation,
}

impl From<Reason> for RevocationReason {
    fn from(reason: Reason) -> Self {
        match reason {
            Reason::Unspecified => Self::Unspecified,
            Reason::KeyCompromise => Self::KeyCompromise,
            Reason::Superseded => Self::Superseded,
            Reason::CessationOfOperation => Self::CessationOfOperation,
        }
    }
}

#[derive(Subcommand)]
pub(crate) enum EpochCommand {
    /// Print the current epoch, the one that publishers seal for, and when the next begins.
    Show(EpochShow),
    /// Begin a new epoch now: keys are issued for it from now on, publishers seal for it after the overlap.
    Advance(EpochAdvance),
    /// Print how many devices have renewed to which epoch, and which brokers know.
    Status(EpochStatus),
    /// Print or change when epochs begin, and how long readers have to renew.
    Schedule(EpochSchedule),
}

#[derive(clap::Args)]
pub(crate) struct EpochShow {
    /// Print a JSON object.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(clap::Args)]
pub(crate) struct EpochAdvance {
    /// How long readers have to renew before publishers seal for the new epoch: 0s, 30m, 24h. By default as scheduled.
    #[arg(long, value_parser = parse_span, value_name = "TIME")]
    pub(crate) overlap: Option<Duration>,

    /// Print a JSON object.
    #[arg(long)]
    pub(crate) json: bool,

    #[command(flatten)]
    pub(crate) keys: KeyOptions,
}

#[derive(clap::Args)]
pub(crate) struct EpochStatus {
    /// Print the names of the devices that have not renewed, one a line.
    #[arg(long, conflicts_with = "json")]
    pub(crate) behind: bool,

    /// Print a JSON object.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(clap::Args)]
pub(crate) struct EpochSchedule {
    /// Begin a new epoch each time that this has passed: 7d.
    #[arg(long, value_parser = parse_duration, value_name = "TIME")]
    pub(crate) every: Option<Duration>,

    /// Begin new epochs on demand only.
    #[arg(long, conflicts_with = "every")]
    pub(crate) never: bool,

    /// How long readers have to renew before publishers seal for a new epoch.
    #[arg(long, value_parser = parse_span, value_name = "TIME")]
    pub(crate) overlap: Option<Duration>,

    /// The same for an epoch that a revocation begins. While it lasts, who was revoked reads what it gets hold of.
    #[arg(long, value_parser = parse_span, value_name = "TIME")]
    pub(crate) revocation_overlap: Option<Duration>,

    /// How long after its expiry a certificate can still be renewed.
    #[arg(long, value_parser = parse_span, value_name = "TIME")]
    pub(crate) renewal_grace: Option<Duration>,

    /// Print a JSON object.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(clap::Args)]
pub(crate) struct Crl {
    /// The file to write, PEM; one that is there is replaced in one step. Remembered: later lists, those of `device revoke`
    /// too, are written there.
    #[arg(long, value_name = "FILE")]
    pub(crate) out: PathBuf,

    /// How long it holds. Brokers admit no device once it has expired, so issue the next one in time.
    #[arg(long, default_value = "7d", value_parser = parse_duration, value_name = "TIME")]
    pub(crate) valid: Duration,

    #[command(flatten)]
    pub(crate) keys: KeyOptions,
}

#[derive(Subcommand)]
pub(crate) enum BrokerCommand {
    /// Write server.crt (with the root at its end), server.key and ca.crt into a new directory.
    Issue(BrokerIssue),
}

#[derive(clap::Args)]
pub(crate) struct BrokerIssue {
    /// A name or address under which clients reach the broker; repeat for more.
    #[arg(long = "host", required = true, value_parser = parse_host, value_name = "HOST")]
    pub(crate) hosts: Vec<ServerName<'static>>,

    /// The directory to make.
    #[arg(long, value_name = "DIR")]
    pub(crate) out: PathBuf,

    /// For how many days the certificate is valid.
    #[arg(long, default_value_t = 365, value_parser = clap::value_parser!(u32).range(1..=3650))]
    pub(crate) days: u32,

    #[command(flatten)]
    pub(crate) keys: KeyOptions,
}

#[derive(clap::Args)]
pub(crate) struct Backup {
    /// The file to write; nothing may be there.
    #[arg(long, value_name = "FILE")]
    pub(crate) out: PathBuf,

    #[command(flatten)]
    pub(crate) keys: KeyOptions,
}

#[derive(clap::Args)]
pub(crate) struct Restore {
    /// The backup.
    pub(crate) backup: PathBuf,

    /// A file with a share of the backup key; repeat until there are enough. Without it, shares are asked for at a terminal
    /// or read from stdin.
    #[arg(long = "share", value_name = "FILE")]
    pub(crate) shares: Vec<PathBuf>,

    #[command(flatten)]
    pub(crate) seal: SealOptions,
}

#[derive(Subcommand)]
pub(crate) enum SharesCommand {
    /// Split the backup key into shares, any M of which open every backup. Prints them.
    Make(SharesMake),
    /// Say which shares these are, and whether they open backups together. Needs no authority.
    Check(SharesCheck),
}

#[derive(clap::Args)]
pub(crate) struct SharesMake {
    /// How many of how many: 3-of-5. 1-of-1 is the whole key.
    #[arg(value_parser = parse_split, value_name = "M-of-N")]
    pub(crate) split: (u8, u8),

    /// Write each share to a file of its own in this new directory, instead of all to stdout.
    #[arg(long, value_name = "DIR")]
    pub(crate) out: Option<PathBuf>,

    /// Make a new backup key first, so that earlier shares do not open later backups: when a person with a share leaves.
    /// Earlier backups still open with the earlier shares.
    #[arg(long)]
    pub(crate) new_key: bool,

    #[command(flatten)]
    pub(crate) keys: KeyOptions,
}

#[derive(clap::Args)]
pub(crate) struct SharesCheck {
    /// Files with shares; without any, shares are asked for at a terminal or read from stdin.
    pub(crate) shares: Vec<PathBuf>,
}

fn parse_split(text: &str) -> Result<(u8, u8), String> {
    text.split_once("-of-")
        .and_then(|(m, n)| Some((m.parse().ok()?, n.parse().ok()?)))
        .ok_or_else(|| "not like 3-of-5".into())
}

#[derive(Subcommand)]
pub(crate) enum AuditCommand {
    /// Print the audit log, oldest first, verifying it on the way.
    List(AuditList),
    /// Verify the audit log, or an export of it, and print the number of entries and the last chain value.
    Verify(AuditVerify),
    /// Sign where the audit log stands now. Kept elsewhere, it shows later whether anything was changed or cut off.
    Checkpoint(AuditCheckpoint),
    /// Write the audit log, one JSON object a line, with a checkpoint at its end, for `audit verify --export`.
    Export(AuditExport),
}

#[derive(clap::Args)]
pub(crate) struct AuditVerify {
    /// Verify this export, without the register.
    #[arg(long, value_name = "FILE")]
    pub(crate) export: Option<PathBuf>,

    /// The authority's root certificate, for a machine that has no authority; by default the directory's.
    #[arg(long, value_name = "FILE", requires = "export")]
    pub(crate) ca: Option<PathBuf>,

    /// A file with checkpoints that the log has to agree with; repeat for more.
    #[arg(long = "checkpoint", value_name = "FILE")]
    pub(crate) checkpoints: Vec<PathBuf>,
}

#[derive(clap::Args)]
pub(crate) struct AuditCheckpoint {
    /// The file to write; nothing may be there. Without it, stdout.
    #[arg(long, value_name = "FILE")]
    pub(crate) out: Option<PathBuf>,

    #[command(flatten)]
    pub(crate) keys: KeyOptions,
}

#[derive(clap::Args)]
pub(crate) struct AuditExport {
    /// The form: the only one there is.
    #[arg(long)]
    pub(crate) json: bool,

    /// The file to write; nothing may be there. Without it, stdout.
    #[arg(long, value_name = "FILE")]
    pub(crate) out: Option<PathBuf>,

    #[command(flatten)]
    pub(crate) keys: KeyOptions,
}

#[derive(clap::Args)]
pub(crate) struct AuditList {
    /// Print one JSON object a line.
    #[arg(long)]
    pub(crate) json: bool,
}

pub(crate) fn parse_host(text: &str) -> Result<ServerName<'static>, String> {
    // As in a URL, an IPv6 address may stand in brackets.
    let bare = text
        .strip_prefix('[')
        .and_then(|t| t.strip_suffix(']'))
        .unwrap_or(text);
    ServerName::try_from(bare.to_owned())
        .map_err(|_| "neither a host name nor an IP address".into())
}

fn parse_authority_url(text: &str) -> Result<String, String> {
    parse_url(
        text,
        &["https"],
        "not a URL such as https://ca.example.org:8443",
    )
}

fn parse_broker_url(text: &str) -> Result<String, String> {
    parse_url(
        text,
        &["mqtts", "mqtt"],
        "not a URL such as mqtts://broker.example.org:8883",
    )
}

fn parse_url(text: &str, schemes: &[&str], refusal: &str) -> Result<String, String> {
    let url = url::Url::parse(text).map_err(|_| refusal.to_owned())?;
    let plain = url.username().is_empty()
        && url.password().is_none()
        && url.query().is_none()
        && url.fragment().is_none();
    if !schemes.contains(&url.scheme())
        || !url.has_host()
        || !plain
        || !matches!(url.path(), "" | "/")
    {
        return Err(refusal.into());
    }
    Ok(text.trim_end_matches('/').to_owned())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Args::command().debug_assert();
    }

    #[test]
    fn hosts_are_names_or_addresses() {
        for good in ["ca.example.org", "localhost", "192.0.2.1", "::1", "[::1]"] {
            assert!(parse_host(good).is_ok(), "{good}");
        }
        for bad in ["", "a b", "https://x", "x:1", "-"] {
            assert!(parse_host(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn urls_have_a_scheme_a_host_and_nothing_to_hide() {
        assert_eq!(
            parse_authority_url("https://ca:8443/").unwrap(),
            "https://ca:8443"
        );
        assert_eq!(
            parse_broker_url("mqtts://127.0.0.1:8883").unwrap(),
            "mqtts://127.0.0.1:8883"
        );
        assert_eq!(
            parse_broker_url("mqtt://[::1]:1883").unwrap(),
            "mqtt://[::1]:1883"
        );
        for bad in [
            "ca:8443",
            "http://ca",
            "https://",
            "https://u:p@ca",
            "https://ca/x",
            "https://ca?x",
        ] {
            assert!(parse_authority_url(bad).is_err(), "{bad}");
        }
    }
}
