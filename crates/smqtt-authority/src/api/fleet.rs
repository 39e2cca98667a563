//! Profiles, and the schema of attributes.

use std::sync::Arc;

use axum::Extension;
use axum::extract::State;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use smqtt_pki::enrolment::{Problem, ProblemCode};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::answer::{Answer, Input, PathText, Said};
use super::devices::act;
use super::messages::Refused;
use super::{Routes, Service};
use crate::Actor;
use crate::clock::now;

pub(super) fn routes() -> Routes {
    OpenApiRouter::new()
        .routes(routes!(list))
        .routes(routes!(put, remove))
        .routes(routes!(schema))
}

/// A named set of attributes, with a key policy or without.
#[derive(Serialize, ToSchema)]
struct Profile {
    name: String,
    attributes: String,
    key_policy: Option<String>,
}

#[derive(Serialize, ToSchema)]
struct Profiles {
    profiles: Vec<Profile>,
}

/// List profiles.
#[utoipa::path(
    get,
    path = "/v1/profiles",
    tag = "fleet",
    security(("auditor" = [])),
    responses((status = 200, description = "All of them", body = Profiles), Refused)
)]
async fn list(State(service): State<Arc<Service>>) -> Said<Profiles> {
    let profiles = service.issuer.authority.profiles().await?;
    let profile = |profile: crate::ProfileRecord| Profile {
        name: profile.name,
        attributes: profile.attributes,
        key_policy: profile.key_policy,
    };
    Ok(Answer::ok(Profiles {
        profiles: profiles.into_iter().map(profile).collect(),
    }))
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct PutProfile {
    #[schema(example = "role = sensor, site = berlin")]
    attributes: String,
    /// What its devices may read of messages that are tagged; empty to take it away. What is not there stays.
    key_policy: Option<String>,
}

#[derive(Serialize, ToSchema)]
struct ProfilePut {
    name: String,
    /// How many devices have it.
    devices: usize,
}

/// Add a profile, or change it, for the devices that have it too.
#[utoipa::path(
    put,
    path = "/v1/profiles/{name}",
    tag = "fleet",
    params(("name" = String, Path, description = "1 to 64 letters, digits, '.', '_' or '-'")),
    request_body = PutProfile,
    security(("operator" = [])),
    responses((status = 200, description = "It is as given now", body = ProfilePut), Refused)
)]
async fn put(
    State(service): State<Arc<Service>>,
    Extension(actor): Extension<Actor>,
    PathText(name): PathText,
    Input(input): Input<PutProfile>,
) -> Said<ProfilePut> {
    let (issuer, profile) = (service.issuer.clone(), name.clone());
    let devices = act(async move {
        issuer
            .authority
            .set_profile(
                &profile,
                &input.attributes,
                input
                    .key_policy
                    .as_deref()
                    .map(|text| Some(text).filter(|text| !text.is_empty())),
                &actor,
                now(),
            )
            .await
    })
    .await?;
    Ok(Answer::ok(ProfilePut { name, devices }))
}

/// Remove a profile that no device has.
#[utoipa::path(
    delete,
    path = "/v1/profiles/{name}",
    tag = "fleet",
    params(("name" = String, Path)),
    security(("operator" = [])),
    responses((status = 204, description = "It is gone"), Refused)
)]
async fn remove(
    State(service): State<Arc<Service>>,
    Extension(actor): Extension<Actor>,
    PathText(name): PathText,
) -> Result<StatusCode, Answer<Problem>> {
    let issuer = service.issuer.clone();
    act(async move { issuer.authority.remove_profile(&name, &actor, now()).await }).await?;
    Ok(StatusCode::NO_CONTENT)
}

#[derive(Serialize, ToSchema)]
struct SchemaText {
    version: u64,
    /// TOML, see docs/policy.md.
    text: String,
}

/// Show the schema that holds.
#[utoipa::path(
    get,
    path = "/v1/schema",
    tag = "fleet",
    security(("auditor" = [])),
    responses((status = 200, description = "The schema", body = SchemaText), Refused)
)]
async fn schema(State(service): State<Arc<Service>>) -> Said<SchemaText> {
    match service.issuer.authority.schema().await? {
        Some((version, text)) => Ok(Answer::ok(SchemaText { version, text })),
        None => Err(Answer::problem(
            ProblemCode::NotFound,
            "there is no schema: every attribute can be given",
        )),
    }
}
