//! Devices: listed, shown, registered, changed, taken back.

use std::sync::Arc;
use std::time::Duration;

use axum::Extension;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use smqtt_pki::DeviceId;
use smqtt_pki::enrolment::{Problem, ProblemCode};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::answer::{Answer, Asked, Input, Named, Said};
use super::messages::{Device, Reason, Refused, Told, rfc3339};
use super::{Routes, Service};
use crate::clock::now;
use crate::{
    Actor, Change, DeviceFilter, DeviceState, Error, Grant, Issuer, NewDevice, Revoked, TokenTerms,
};

/// How long a broker may take to acknowledge the state before an answer is given; the service goes on trying.
pub(super) const PATIENCE: Duration = Duration::from_secs(5);
/// How many rows a page has at most, and by default.
pub(super) const MAX_PAGE: u32 = 1000;
const PAGE: u32 = 100;

pub(super) fn routes() -> Routes {
    OpenApiRouter::new()
        .routes(routes!(list, add))
        .routes(routes!(show, set, remove))
        .routes(routes!(token))
        .routes(routes!(revoke))
        .routes(routes!(suspend))
        .routes(routes!(reinstate))
}

/// Which page of a list.
pub(super) fn page_size(limit: Option<u32>) -> Result<u32, Answer<Problem>> {
    match limit.unwrap_or(PAGE) {
        limit @ 1..=MAX_PAGE => Ok(limit),
        _ => {
            let detail = format!("a page has 1 to {MAX_PAGE} rows: give another limit");
            Err(Answer::problem(ProblemCode::InvalidInput, detail))
        }
    }
}

/// Carries an act out on a task of its own: whether the peer waits for the answer or not, it runs to its end.
pub(super) async fn act<T: Send + 'static>(
    act: impl Future<Output = Result<T, Error>> + Send + 'static,
) -> Result<T, Answer<Problem>> {
    Ok(tokio::spawn(act).await.map_err(|_| Error::Task)??)
}

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
struct ListQuery {
    /// Only devices in this state.
    state: Option<DeviceState>,
    /// Only devices with attributes that satisfy this policy.
    r#where: Option<String>,
    /// Only devices with this profile.
    profile: Option<String>,
    /// Only devices with names that begin so.
    prefix: Option<String>,
    /// Only devices with a certificate that expires within so many seconds, or has expired.
    expires_within: Option<u64>,
    /// Only devices that have not renewed to the newest epoch.
    behind: Option<bool>,
    /// `next` of the page before.
    after: Option<String>,
    /// How many at most.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<u32>,
}

/// A page of devices.
#[derive(Serialize, ToSchema)]
struct DevicePage {
    devices: Vec<Device>,
    /// `after` of the next page, if there is one.
    next: Option<String>,
}

/// List devices, by name.
#[utoipa::path(
    get,
    path = "/v1/devices",
    tag = "register",
    params(ListQuery),
    security(("auditor" = [])),
    responses((status = 200, description = "A page of them", body = DevicePage), Refused)
)]
async fn list(
    State(service): State<Arc<Service>>,
    Asked(query): Asked<ListQuery>,
) -> Said<DevicePage> {
    let authority = &service.issuer.authority;
    let limit = page_size(query.limit)?;
    let after: Option<DeviceId> = query
        .after
        .map(|name| name.parse())
        .transpose()
        .map_err(Error::from)?;
    let policy = match &query.r#where {
        Some(text) => Some(authority.policy(text).await?),
        None => None,
    };
    let behind = match query.behind {
        Some(true) => Some(authority.epoch_status(now()).await?.epoch),
        _ => None,
    };
    let filter = DeviceFilter {
        state: query.state,
        policy,
        profile: query.profile,
        prefix: query.prefix,
        expires_by: query
            .expires_within
            .map(|within| now().as_secs().saturating_add(within)),
        behind,
    };
    let (devices, more) = authority
        .devices_page(&filter, after.as_ref(), limit as usize)
        .await?;
    let next = devices.last().filter(|_| more);
    Ok(Answer::ok(DevicePage {
        next: next.map(|device| device.name.to_string()),
        devices: devices.into_iter().map(Device::from).collect(),
    }))
}

/// A device to register.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct AddDevice {
    /// 1 to 64 letters, digits, '.', '_' or '-', beginning with a letter or digit.
    #[schema(example = "sensor-17")]
    name: String,
    /// Its own attributes.
    #[serde(default)]
    #[schema(example = "role = sensor, site = berlin")]
    attributes: String,
    /// The profile whose attributes it has too.
    profile: Option<String>,
    /// What it may read of messages that are tagged, by a key of its own; replaces its profile's.
    #[schema(example = "site = 4 and kind = temperature")]
    key_policy: Option<String>,
    /// How long the token can be used, in seconds: a day unless given.
    #[schema(minimum = 1, maximum = 31536000)]
    token_expires: Option<u64>,
    /// How often the token can be used: once unless given.
    #[schema(minimum = 1, maximum = 100)]
    uses: Option<u32>,
}

fn terms(lifetime: Option<u64>, uses: Option<u32>) -> TokenTerms {
    let default = TokenTerms::default();
    TokenTerms {
        lifetime: lifetime.map_or(default.lifetime, Duration::from_secs),
        uses: uses.unwrap_or(default.uses),
    }
}

/// A token, shown this once.
#[derive(Serialize, ToSchema)]
struct Token {
    device: String,
    attributes: String,
    key_policy: Option<String>,
    token: String,
    expires: String,
    uses: u32,
    /// The authority's URL for devices.
    authority: Option<String>,
    ca_fingerprint: String,
}

impl Service {
    async fn token(&self, grant: Grant) -> Result<Token, Answer<Problem>> {
        let authority = &self.issuer.authority;
        Ok(Token {
            device: grant.device.to_string(),
            attributes: grant.attributes,
            key_policy: grant.key_policy,
            token: grant.token.reveal().to_string(),
            expires: rfc3339(grant.expires.as_secs()),
            uses: grant.uses,
            authority: authority.url().await?,
            ca_fingerprint: authority.directory().fingerprint().to_string(),
        })
    }
}

/// Register a device, and get its token.
#[utoipa::path(
    post,
    path = "/v1/devices",
    tag = "register",
    request_body = AddDevice,
    security(("operator" = [])),
    responses((status = 201, description = "Its token", body = Token), Refused)
)]
async fn add(
    State(service): State<Arc<Service>>,
    Extension(actor): Extension<Actor>,
    Input(input): Input<AddDevice>,
) -> Said<Token> {
    let device = NewDevice {
        name: input.name.parse().map_err(Error::from)?,
        attributes: input.attributes,
        profile: input.profile,
        key_policy: input.key_policy,
    };
    let (issuer, terms) = (
        service.issuer.clone(),
        terms(input.token_expires, input.uses),
    );
    let grant = act(async move {
        issuer
            .authority
            .add_device(&device, terms, &actor, now())
            .await
    })
    .await?;
    Ok(Answer::created(service.token(grant).await?))
}

/// Show a device.
#[utoipa::path(
    get,
    path = "/v1/devices/{name}",
    tag = "register",
    params(("name" = String, Path)),
    security(("auditor" = [])),
    responses((status = 200, description = "The device", body = Device), Refused)
)]
async fn show(State(service): State<Arc<Service>>, Named(name): Named) -> Said<Device> {
    let device = service.issuer.authority.device(&name).await?;
    Ok(Answer::ok(device.into()))
}

/// What is to be changed; what is not there stays.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct SetDevice {
    /// Its own attributes.
    attributes: Option<String>,
    /// Its profile; empty to take it away.
    profile: Option<String>,
    /// Its own key policy; empty to take it away.
    key_policy: Option<String>,
}

/// Change a device's attributes, profile or key policy. It gets a key for that at its next renewal; what it has lost it can read until the
/// next epoch.
#[utoipa::path(
    patch,
    path = "/v1/devices/{name}",
    tag = "register",
    params(("name" = String, Path)),
    request_body = SetDevice,
    security(("operator" = [])),
    responses((status = 200, description = "The device as it is now", body = Device), Refused)
)]
async fn set(
    State(service): State<Arc<Service>>,
    Extension(actor): Extension<Actor>,
    Named(name): Named,
    Input(input): Input<SetDevice>,
) -> Said<Device> {
    let or_away = |text: String| Some(text).filter(|text| !text.is_empty());
    let change = Change {
        attributes: input.attributes,
        profile: input.profile.map(or_away),
        key_policy: input.key_policy.map(or_away),
    };
    let issuer = service.issuer.clone();
    let device = act(async move {
        issuer
            .authority
            .set_device(&name, &change, &actor, now())
            .await
    })
    .await?;
    Ok(Answer::ok(device.into()))
}

/// What an act has done to a device, and who has learnt of it.
#[derive(Serialize, ToSchema)]
struct Done {
    device: String,
    /// The serial numbers of the certificates that it concerns.
    serials: Vec<String>,
    /// The epoch that it has begun.
    epoch: Option<u64>,
    /// From when publishers seal for that epoch.
    seal_from: Option<String>,
    /// The number of the revocation list that tells of it.
    crl: u64,
    told: Told,
}

async fn carry_out<F: Future<Output = Result<Revoked, Error>> + Send + 'static>(
    service: &Service,
    name: DeviceId,
    deed: impl FnOnce(Issuer, DeviceId) -> F + Send + 'static,
) -> Said<Done> {
    let (issuer, device) = (service.issuer.clone(), name.clone());
    let (revoked, told) = act(async move {
        let revoked = deed(issuer.clone(), device).await?;
        // What is in the register is done; what can not be told now, the service tells later.
        let told = issuer
            .deliver(PATIENCE, now())
            .await
            .unwrap_or_else(|error| {
                tracing::error!(%error, "an act could not be told of; the service tries again");
                crate::Delivered::default()
            });
        Ok((revoked, told))
    })
    .await?;
    Ok(Answer::ok(Done {
        device: name.to_string(),
        serials: revoked.serials,
        epoch: revoked.epoch,
        seal_from: revoked.seal_from.map(rfc3339),
        crl: revoked.crl,
        told: told.into(),
    }))
}

/// Take back what a device has, and forget it: its name can be given anew.
#[utoipa::path(
    delete,
    path = "/v1/devices/{name}",
    tag = "register",
    params(("name" = String, Path)),
    security(("operator" = [])),
    responses((status = 200, description = "What was done", body = Done), Refused)
)]
async fn remove(
    State(service): State<Arc<Service>>,
    Extension(actor): Extension<Actor>,
    Named(name): Named,
) -> Said<Done> {
    carry_out(&service, name, move |issuer, name| async move {
        issuer.remove_device(&name, &actor, now()).await
    })
    .await
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct NewToken {
    /// Also for a device that is enrolled or was revoked.
    #[serde(default)]
    re_enrol: bool,
    /// How long the token can be used, in seconds: a day unless given.
    #[schema(minimum = 1, maximum = 31536000)]
    token_expires: Option<u64>,
    /// How often the token can be used: once unless given.
    #[schema(minimum = 1, maximum = 100)]
    uses: Option<u32>,
}

/// Give a device a new token; the one before it is void.
#[utoipa::path(
    post,
    path = "/v1/devices/{name}/token",
    tag = "register",
    params(("name" = String, Path)),
    request_body = NewToken,
    security(("operator" = [])),
    responses((status = 201, description = "The token", body = Token), Refused)
)]
async fn token(
    State(service): State<Arc<Service>>,
    Extension(actor): Extension<Actor>,
    Named(name): Named,
    Input(input): Input<NewToken>,
) -> Said<Token> {
    let (issuer, terms) = (
        service.issuer.clone(),
        terms(input.token_expires, input.uses),
    );
    let grant = act(async move {
        issuer
            .authority
            .renew_token(&name, input.re_enrol, terms, &actor, now())
            .await
    })
    .await?;
    Ok(Answer::created(service.token(grant).await?))
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Revoke {
    #[serde(default)]
    #[schema(inline)]
    reason: Reason,
    /// Begin no new epoch: its attribute key goes on to open what it gets hold of, until the next one.
    #[serde(default)]
    keep_epoch: bool,
}

/// Take a device back: certificates, unused token and, with a new epoch, attribute key.
#[utoipa::path(
    post,
    path = "/v1/devices/{name}/revoke",
    tag = "register",
    params(("name" = String, Path)),
    request_body = Revoke,
    security(("operator" = [])),
    responses((status = 200, description = "What was done", body = Done), Refused)
)]
async fn revoke(
    State(service): State<Arc<Service>>,
    Extension(actor): Extension<Actor>,
    Named(name): Named,
    Input(input): Input<Revoke>,
) -> Said<Done> {
    carry_out(&service, name, move |issuer, name| async move {
        let reason = input.reason.into();
        issuer
            .revoke_device(&name, reason, !input.keep_epoch, &actor, now())
            .await
    })
    .await
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Suspend {
    /// Begin a new epoch too, so that its attribute key opens nothing that is sealed from then on.
    #[serde(default)]
    advance_epoch: bool,
}

/// Keep a device out until it is reinstated.
#[utoipa::path(
    post,
    path = "/v1/devices/{name}/suspend",
    tag = "register",
    params(("name" = String, Path)),
    request_body = Suspend,
    security(("operator" = [])),
    responses((status = 200, description = "What was done", body = Done), Refused)
)]
async fn suspend(
    State(service): State<Arc<Service>>,
    Extension(actor): Extension<Actor>,
    Named(name): Named,
    Input(input): Input<Suspend>,
) -> Said<Done> {
    carry_out(&service, name, move |issuer, name| async move {
        issuer
            .suspend_device(&name, input.advance_epoch, &actor, now())
            .await
    })
    .await
}

/// End a suspension.
#[utoipa::path(
    post,
    path = "/v1/devices/{name}/reinstate",
    tag = "register",
    params(("name" = String, Path)),
    security(("operator" = [])),
    responses((status = 200, description = "What was done", body = Done), Refused)
)]
async fn reinstate(
    State(service): State<Arc<Service>>,
    Extension(actor): Extension<Actor>,
    Named(name): Named,
) -> Said<Done> {
    carry_out(&service, name, move |issuer, name| async move {
        issuer.reinstate_device(&name, &actor, now()).await
    })
    .await
}
