//! The HTTP API: one set of routes, described where they are written, behind one gate.
//!
//! Every route that is not [`PUBLIC`] asks for an administrator: reading for one of either role, acting for an operator. That
//! is decided before a handler runs, by path and method alone, so that a handler cannot forget it.

mod answer;
mod audit;
mod bounded;
mod device;
mod devices;
mod epochs;
mod fleet;
mod gate;
mod messages;
mod open;
mod peer;
mod policy;

use std::num::NonZeroU32;
use std::sync::{Arc, LazyLock};

use axum::Router;
use axum::extract::DefaultBodyLimit;
use smqtt_pki::enrolment::{
    CA_PATH, ENROL_PATH, EnrolRequest, PARAMETERS_PATH, ProblemCode, RENEW_CONFIRM_PATH, RENEW_PATH,
};
use utoipa::OpenApi;
use utoipa::openapi::security::SecurityScheme;
use utoipa_axum::router::OpenApiRouter;

use crate::Issuer;
use crate::limiter::Limits;
use crate::metrics::Metrics;
use answer::Answer;

pub(crate) use bounded::Bounds;
#[cfg(unix)]
pub(crate) use peer::LocalAcceptor;
pub(crate) use peer::PeerAcceptor;

/// What handlers work with.
pub(crate) struct Service {
    issuer: Issuer,
    limits: Limits,
    metrics: Arc<Metrics>,
}

impl Service {
    pub(crate) fn new(
        issuer: Issuer,
        requests_per_second: Option<NonZeroU32>,
        metrics: Arc<Metrics>,
    ) -> Arc<Self> {
        Arc::new(Self {
            issuer,
            limits: Limits::new(requests_per_second),
            metrics,
        })
    }
}

/// Paths whose every method is for everybody; those of devices look at certificates themselves.
const PUBLIC: [&str; 8] = [
    ENROL_PATH,
    RENEW_PATH,
    RENEW_CONFIRM_PATH,
    CA_PATH,
    PARAMETERS_PATH,
    open::CRL_PATH,
    open::HEALTH_PATH,
    open::DOCUMENT_PATH,
];

type Routes = OpenApiRouter<Arc<Service>>;

/// What everybody may ask, and what administrators may.
fn common() -> Routes {
    OpenApiRouter::with_openapi(Description::openapi())
        .merge(open::routes())
        .merge(devices::routes())
        .merge(fleet::routes())
        .merge(policy::routes())
        .merge(epochs::routes())
        .merge(audit::routes())
}

/// All routes.
fn all() -> Routes {
    common().merge(device::routes())
}

/// The API as it is offered over the network.
pub(crate) fn network(service: Arc<Service>) -> Router {
    finish(all(), service)
}

/// The API as it is offered on the administrators' socket: without what only devices ask.
#[cfg(unix)]
pub(crate) fn local(service: Arc<Service>) -> Router {
    finish(common(), service)
}

fn finish(routes: Routes, service: Arc<Service>) -> Router {
    let (router, _) = routes.split_for_parts();
    router
        .fallback(|| async {
            Answer::problem(
                ProblemCode::NotFound,
                "see /v1/openapi.json for what there is",
            )
        })
        .method_not_allowed_fallback(|| async {
            Answer::problem(
                ProblemCode::MethodNotAllowed,
                "see /v1/openapi.json for the methods",
            )
        })
        .layer(DefaultBodyLimit::max(EnrolRequest::MAX_LEN))
        .layer(axum::middleware::from_fn_with_state(
            service.clone(),
            gate::admit,
        ))
        .layer(axum::middleware::from_fn_with_state(
            service.clone(),
            gate::watch,
        ))
        .with_state(service)
}

/// The OpenAPI document (3.1, JSON) of the API that this program offers.
#[must_use]
pub fn openapi() -> &'static str {
    static DOCUMENT: LazyLock<String> = LazyLock::new(|| {
        let mut document = all().into_openapi();
        let components = document.components.get_or_insert_default();
        let scheme = |description: &str| SecurityScheme::MutualTls {
            description: Some(description.into()),
            deprecated: None,
            extensions: None,
        };
        for (name, description) in [
            (
                "device",
                "A device's certificate, as enrolment has given it.",
            ),
            (
                "auditor",
                "An administrator's certificate of the role auditor or operator; or the administrators' Unix socket.",
            ),
            (
                "operator",
                "An administrator's certificate of the role operator; or the administrators' Unix socket.",
            ),
        ] {
            components.add_security_scheme(name, scheme(description));
        }
        document
            .to_pretty_json()
            .unwrap_or_else(|error| format!("{{\"error\":\"{error}\"}}"))
    });
    &DOCUMENT
}

#[derive(OpenApi)]
#[openapi(
    info(
        title = "SMQTT authority",
        description = "Registers devices and gives each a certificate and an attribute key. Errors are `application/problem+json` (RFC 9457); times are RFC 3339 in UTC, spans seconds."
    ),
    tags(
        (name = "devices", description = "What devices ask"),
        (name = "open", description = "What everybody may ask"),
        (name = "register", description = "Devices as administrators see them"),
        (name = "fleet", description = "Profiles and the schema of attributes"),
        (name = "policies", description = "Who can read what"),
        (name = "epochs", description = "Epochs and revocation lists"),
        (name = "audit", description = "The audit log, metrics"),
    ),
    components(schemas(messages::Problem))
)]
struct Description;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_document_describes_every_route_and_says_who_may_ask() {
        let document: serde_json::Value = serde_json::from_str(openapi()).unwrap();
        assert!(document["openapi"].as_str().unwrap().starts_with("3.1"));
        let paths = document["paths"].as_object().unwrap();
        assert!(paths.len() > 20, "{}", paths.len());
        for (path, operations) in paths {
            for (method, operation) in operations.as_object().unwrap() {
                let security: Vec<_> = operation["security"]
                    .as_array()
                    .into_iter()
                    .flatten()
                    .flat_map(|scheme| scheme.as_object().unwrap().keys().cloned())
                    .collect();
                let expected = match (PUBLIC.contains(&path.as_str()), method.as_str()) {
                    (true, _) if path.starts_with(RENEW_PATH) => vec!["device"],
                    (true, _) => vec![],
                    (false, "get") => vec!["auditor"],
                    (false, _) => vec!["operator"],
                };
                assert_eq!(security, expected, "{method} {path}");
                assert!(
                    operation["responses"]["default"].is_object(),
                    "{method} {path} does not say how it refuses"
                );
            }
        }
        for path in PUBLIC {
            assert!(paths.contains_key(path), "{path}");
        }
    }
}
