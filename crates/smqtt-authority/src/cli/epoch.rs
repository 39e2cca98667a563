//! `epoch show`, `advance`, `status` and `schedule`.

use std::path::Path;
use std::time::Duration;

use serde_json::json;
use smqtt_authority::{Actor, Authority, Delivered, Directory, EpochStatus, Settings, now};

use super::args;
use super::duration::words;
use super::failure::Failure;
use super::keys;
use super::output::{Output, print};
use super::shell::word;
use super::table::{rfc3339, table, time};

/// How long a broker may take to acknowledge the state before the command goes on; the service tries again.
const PATIENCE: Duration = Duration::from_secs(5);

pub(crate) async fn show(dir: &Path, command: args::EpochShow) -> Result<(), Failure> {
    let status = read(dir).await?;
    if command.json {
        return print(json!({
            "epoch": status.epoch,
            "sealing": status.sealing,
            "schedule": schedule_json(&status),
            "next": status.next.map(rfc3339),
        }));
    }
    let mut rows = vec![
        vec!["epoch".into(), status.epoch.to_string()],
        vec!["publishers seal for".into(), status.sealing.to_string()],
    ];
    for (epoch, from) in status.schedule.iter().filter(|(e, _)| *e > status.sealing) {
        rows.push(vec![
            format!("and for {epoch}"),
            format!("from {}", rfc3339(*from)),
        ]);
    }
    let next = status
        .next
        .map_or_else(|| "on demand, or when the service has run".into(), rfc3339);
    rows.push(vec!["next".into(), next]);
    print(table(&rows).trim_end())
}

pub(crate) async fn advance(dir: &Path, command: args::EpochAdvance) -> Result<(), Failure> {
    let issuer = keys::issuer(dir, &command.keys).await?;
    let advanced = issuer
        .advance_epoch(command.overlap, "operator", &Actor::operator(), now())
        .await?;
    let delivered = issuer.deliver(PATIENCE, now()).await;
    issuer.authority().close().await;
    eprintln!(
        "epoch {} has begun: devices that renew get keys for it; publishers seal for it from {}",
        advanced.epoch,
        rfc3339(advanced.seal_from)
    );
    tell(&delivered?);
    if command.json {
        return print(json!({ "epoch": advanced.epoch, "seal_from": rfc3339(advanced.seal_from) }));
    }
    print(advanced.epoch)
}

/// Says on stderr what was delivered, and what was not.
pub(crate) fn tell(delivered: &Delivered) {
    if let Some((path, number)) = &delivered.crl {
        eprintln!("revocation list {number} written to {}", word(path));
    }
    for (url, outcome) in &delivered.brokers {
        match outcome {
            Ok(()) => eprintln!("{url} has the authority's state"),
            Err(reason) => eprintln!(
                "warning: {url} has not got the authority's state: {reason}; a running service tries again"
            ),
        }
    }
}

pub(crate) async fn status(dir: &Path, command: args::EpochStatus) -> Result<(), Failure> {
    if command.behind {
        let authority = Authority::open(Directory::open(dir)?).await?;
        let epoch = authority.epoch_status(now()).await?.epoch;
        let devices = authority.devices().await?;
        authority.close().await;
        let mut output = Output::new();
        for device in devices {
            let usable = device.state == smqtt_authority::DeviceState::Enrolled
                && device.certificate_expires >= Some(now().as_secs());
            if usable && device.key_epoch < Some(epoch) {
                output.line(device.name);
            }
        }
        return output.finish();
    }
    let status = read(dir).await?;
    if command.json {
        let devices: Vec<_> = status
            .devices
            .iter()
            .map(|(epoch, count)| json!({ "epoch": epoch, "devices": count }))
            .collect();
        let epochs: Vec<_> = status
            .epochs
            .iter()
            .map(|record| {
                json!({
                    "epoch": record.epoch,
                    "started": (record.started > 0).then(|| rfc3339(record.started)),
                    "seal_from": (record.seal_from > 0).then(|| rfc3339(record.seal_from)),
                    "cause": record.cause,
                })
            })
            .collect();
        return print(json!({
            "epoch": status.epoch,
            "sealing": status.sealing,
            "schedule": schedule_json(&status),
            "next": status.next.map(rfc3339),
            "renewed": status.renewed(),
            "total": status.total(),
            "devices": devices,
            "epochs": epochs,
            "state": status.state,
            "brokers": status.brokers,
        }));
    }
    let mut output = Output::new();
    output.line(format_args!(
        "epoch {}: {} of {} devices have renewed; publishers seal for epoch {}",
        status.epoch,
        status.renewed(),
        status.total(),
        status.sealing
    ));
    let mut rows = vec![
        ["EPOCH", "DEVICES", "BEGUN", "SEALED FOR FROM", "CAUSE"]
            .map(String::from)
            .to_vec(),
    ];
    rows.extend(status.epochs.iter().rev().map(|record| {
        let devices = status
            .devices
            .iter()
            .find(|(epoch, _)| *epoch == record.epoch)
            .map_or(0, |(_, count)| *count);
        vec![
            record.epoch.to_string(),
            devices.to_string(),
            time((record.started > 0).then_some(record.started)),
            time((record.seal_from > 0).then_some(record.seal_from)),
            record.cause.clone(),
        ]
    }));
    output.line(table(&rows).trim_end());
    for broker in &status.brokers {
        let standing = if broker.published >= status.state {
            "has the newest state".to_owned()
        } else {
            format!("has state {} of {}", broker.published, status.state)
        };
        output.line(format_args!("{} {standing}", broker.url));
    }
    output.finish()
}

pub(crate) async fn schedule(dir: &Path, command: args::EpochSchedule) -> Result<(), Failure> {
    let authority = Authority::open(Directory::open(dir)?).await?;
    let nothing = command.every.is_none()
        && !command.never
        && command.overlap.is_none()
        && command.revocation_overlap.is_none()
        && command.renewal_grace.is_none();
    let settings = if nothing {
        authority.settings().await?
    } else {
        let change = |settings: &mut Settings| {
            if command.never {
                settings.epoch_every = None;
            }
            settings.epoch_every = command.every.or(settings.epoch_every);
            settings.overlap = command.overlap.unwrap_or(settings.overlap);
            settings.revocation_overlap = command
                .revocation_overlap
                .unwrap_or(settings.revocation_overlap);
            settings.renewal_grace = command.renewal_grace.unwrap_or(settings.renewal_grace);
        };
        authority
            .change_settings(change, &Actor::operator(), now())
            .await?
    };
    let next = authority.epoch_status(now()).await?.next;
    authority.close().await;
    if command.json {
        return print(json!({
            "every_seconds": settings.epoch_every.map(|every| every.as_secs()),
            "overlap_seconds": settings.overlap.as_secs(),
            "revocation_overlap_seconds": settings.revocation_overlap.as_secs(),
            "renewal_grace_seconds": settings.renewal_grace.as_secs(),
            "next": next.map(rfc3339),
        }));
    }
    let rows = [
        (
            "a new epoch begins",
            settings.epoch_every.map_or_else(
                || "on demand".into(),
                |every| format!("every {}", words(every)),
            ),
        ),
        ("overlap", words(settings.overlap)),
        (
            "overlap of a revocation",
            words(settings.revocation_overlap),
        ),
        ("grace of renewals", words(settings.renewal_grace)),
        ("next", time(next)),
    ];
    print(table(&rows.map(|(name, value)| vec![name.to_owned(), value])).trim_end())
}

async fn read(dir: &Path) -> Result<EpochStatus, Failure> {
    let authority = Authority::open(Directory::open(dir)?).await?;
    let status = authority.epoch_status(now()).await?;
    authority.close().await;
    Ok(status)
}

fn schedule_json(status: &EpochStatus) -> Vec<serde_json::Value> {
    status
        .schedule
        .iter()
        .map(|(epoch, from)| json!({ "epoch": epoch, "from": (*from > 0).then(|| rfc3339(*from)) }))
        .collect()
}
