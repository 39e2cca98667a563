//! Epochs and revocation lists.

use std::sync::Arc;
use std::time::Duration;

use axum::Extension;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::answer::{Answer, Input, Said};
use super::devices::{PATIENCE, act};
use super::messages::{Refused, Told, rfc3339};
use super::{Routes, Service};
use crate::Actor;
use crate::clock::now;

pub(super) fn routes() -> Routes {
    OpenApiRouter::new()
        .routes(routes!(show))
        .routes(routes!(advance))
        .routes(routes!(issue_list))
}

/// How far the fleet is.
#[derive(Serialize, ToSchema)]
struct EpochReport {
    /// The newest epoch, for which keys are issued.
    epoch: u64,
    /// The epoch that publishers seal for now.
    sealing: u64,
    /// When the next begins by the schedule.
    next: Option<String>,
    /// How many devices that could connect have a key of the newest epoch.
    renewed: u64,
    /// How many devices could connect.
    total: u64,
    /// The newest epochs, ascending.
    epochs: Vec<EpochEntry>,
    brokers: Vec<BrokerEntry>,
}

#[derive(Serialize, ToSchema)]
struct EpochEntry {
    epoch: u64,
    started: Option<String>,
    seal_from: Option<String>,
    cause: String,
    /// How many devices that could connect have it as their newest.
    devices: u64,
}

#[derive(Serialize, ToSchema)]
struct BrokerEntry {
    url: String,
    /// Whether it has the newest state.
    newest: bool,
}

/// Show the epoch, what publishers seal for, and how many devices have renewed.
#[utoipa::path(
    get,
    path = "/v1/epoch",
    tag = "epochs",
    security(("auditor" = [])),
    responses((status = 200, description = "How far the fleet is", body = EpochReport), Refused)
)]
async fn show(State(service): State<Arc<Service>>) -> Said<EpochReport> {
    let status = service.issuer.authority.epoch_status(now()).await?;
    let devices = |epoch: u64| {
        let found = status.devices.iter().find(|(held, _)| *held == epoch);
        found.map_or(0, |(_, count)| *count)
    };
    let time = |seconds: u64| (seconds > 0).then(|| rfc3339(seconds));
    let epochs = status.epochs.iter().map(|record| EpochEntry {
        epoch: record.epoch,
        started: time(record.started),
        seal_from: time(record.seal_from),
        cause: record.cause.clone(),
        devices: devices(record.epoch),
    });
    let brokers = status.brokers.iter().map(|broker| BrokerEntry {
        url: broker.url.clone(),
        newest: broker.published >= status.state,
    });
    Ok(Answer::ok(EpochReport {
        epoch: status.epoch,
        sealing: status.sealing,
        next: status.next.map(rfc3339),
        renewed: status.renewed(),
        total: status.total(),
        epochs: epochs.collect(),
        brokers: brokers.collect(),
    }))
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Advance {
    /// How long readers have to renew before publishers seal for it, in seconds; as scheduled unless given.
    overlap: Option<u64>,
}

#[derive(Serialize, ToSchema)]
struct Begun {
    epoch: u64,
    /// From when publishers seal for it.
    seal_from: String,
    told: Told,
}

/// Begin a new epoch now.
#[utoipa::path(
    post,
    path = "/v1/epoch/advance",
    tag = "epochs",
    request_body = Advance,
    security(("operator" = [])),
    responses((status = 200, description = "It has begun", body = Begun), Refused)
)]
async fn advance(
    State(service): State<Arc<Service>>,
    Extension(actor): Extension<Actor>,
    Input(input): Input<Advance>,
) -> Said<Begun> {
    let issuer = service.issuer.clone();
    let (advanced, told) = act(async move {
        let overlap = input.overlap.map(Duration::from_secs);
        let advanced = issuer
            .advance_epoch(overlap, "operator", &actor, now())
            .await?;
        Ok((advanced, issuer.deliver(PATIENCE, now()).await))
    })
    .await?;
    Ok(Answer::ok(Begun {
        epoch: advanced.epoch,
        seal_from: rfc3339(advanced.seal_from),
        told: told?.into(),
    }))
}

#[derive(Serialize, ToSchema)]
struct Listed {
    /// The list's number.
    number: u64,
    /// How many certificates it names.
    certificates: usize,
    expires: String,
    told: Told,
}

/// Issue the next revocation list, though the one before holds still.
#[utoipa::path(
    post,
    path = "/v1/crl/issue",
    tag = "epochs",
    security(("operator" = [])),
    responses((status = 200, description = "It is issued", body = Listed), Refused)
)]
async fn issue_list(
    State(service): State<Arc<Service>>,
    Extension(actor): Extension<Actor>,
) -> Said<Listed> {
    let issuer = service.issuer.clone();
    let (list, number, told) = act(async move {
        let valid = issuer.authority.settings().await?.crl_valid;
        let list = issuer.issue_crl(valid, &actor, now()).await?;
        let newest = crate::register::crl_number(issuer.authority.register().reader()).await?;
        Ok((list, newest, issuer.deliver(PATIENCE, now()).await))
    })
    .await?;
    Ok(Answer::ok(Listed {
        number,
        certificates: list.serials().len(),
        expires: rfc3339(list.validity().not_after().as_secs()),
        told: told?.into(),
    }))
}
