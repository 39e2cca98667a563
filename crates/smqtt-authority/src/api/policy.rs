//! Who can read what.

use std::sync::Arc;

use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use smqtt_pki::enrolment::ProblemCode;

use super::answer::{Answer, Asked, Said};
use super::messages::Refused;
use super::{Routes, Service};
use crate::DeviceState;

pub(super) fn routes() -> Routes {
    OpenApiRouter::new()
        .routes(routes!(who))
        .routes(routes!(diff))
}

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
struct WhoQuery {
    /// `role = doctor and dept = icu`
    policy: Option<String>,
    /// Instead of a policy: `site = 4, kind = temperature`, with which messages would be tagged.
    tags: Option<String>,
    /// The topic that would be published to, for policies that ask for it.
    topic: Option<String>,
}

/// Who can read it.
#[derive(Serialize, ToSchema)]
struct Readers {
    devices: Vec<Reader>,
}

#[derive(Serialize, ToSchema)]
struct Reader {
    name: String,
    state: DeviceState,
    attributes: String,
    key_policy: Option<String>,
}

/// List the devices that satisfy a policy, or whose key policy tags satisfy; those that were revoked left out.
#[utoipa::path(
    get,
    path = "/v1/policy/who",
    tag = "policies",
    params(WhoQuery),
    security(("auditor" = [])),
    responses((status = 200, description = "Who can read it", body = Readers), Refused)
)]
async fn who(State(service): State<Arc<Service>>, Asked(query): Asked<WhoQuery>) -> Said<Readers> {
    let authority = &service.issuer.authority;
    let topic = query.topic.as_deref();
    let devices = match (&query.policy, &query.tags) {
        (Some(policy), None) => {
            let policy = authority.policy(policy).await?;
            authority.who(&policy, topic).await?
        }
        (None, Some(tags)) => {
            let tags = authority.tags(tags).await?;
            authority.who_reads_tags(&tags, topic).await?
        }
        _ => {
            let detail = "give either a policy or tags";
            return Err(Answer::problem(ProblemCode::MalformedRequest, detail));
        }
    };
    let reader = |device: crate::DeviceRecord| Reader {
        name: device.name.to_string(),
        state: device.state,
        attributes: device.attributes,
        key_policy: device.key_policy,
    };
    Ok(Answer::ok(Readers {
        devices: devices.into_iter().map(reader).collect(),
    }))
}

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
struct DiffQuery {
    /// The policy as it is.
    old: String,
    /// The policy as it would be.
    new: String,
    /// The topic that would be published to, for policies that ask for it.
    topic: Option<String>,
}

/// Who gains and who loses.
#[derive(Serialize, ToSchema)]
struct Difference {
    gains: Vec<String>,
    loses: Vec<String>,
    /// How many satisfy both.
    both: usize,
}

/// List who gains and who loses if one policy takes the place of another.
#[utoipa::path(
    get,
    path = "/v1/policy/diff",
    tag = "policies",
    params(DiffQuery),
    security(("auditor" = [])),
    responses((status = 200, description = "The difference", body = Difference), Refused)
)]
async fn diff(
    State(service): State<Arc<Service>>,
    Asked(query): Asked<DiffQuery>,
) -> Said<Difference> {
    let authority = &service.issuer.authority;
    let (old, new) = (
        authority.policy(&query.old).await?,
        authority.policy(&query.new).await?,
    );
    let diff = authority
        .policy_diff(&old, &new, query.topic.as_deref())
        .await?;
    Ok(Answer::ok(Difference {
        gains: diff.gains,
        loses: diff.loses,
        both: diff.both,
    }))
}
