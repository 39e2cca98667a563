//! What everybody may ask, and the metrics, which not everybody may.

use std::sync::Arc;

use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use smqtt_abe::Suite;
use smqtt_pki::enrolment::{KeyPolicyParameters, ParametersResponse, Problem, ProblemCode};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::answer::{Answer, Said};
use super::messages::{self, Refused};
use super::{Routes, Service};
use crate::clock::now;
use crate::register;

pub(super) const CRL_PATH: &str = "/v1/crl";
pub(super) const HEALTH_PATH: &str = "/healthz";
pub(super) const DOCUMENT_PATH: &str = "/v1/openapi.json";

const PEM: &str = "application/x-pem-file";
const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

pub(super) fn routes() -> Routes {
    OpenApiRouter::new()
        .routes(routes!(parameters))
        .routes(routes!(ca))
        .routes(routes!(crl))
        .routes(routes!(health))
        .routes(routes!(document))
        .routes(routes!(metrics))
}

type Text = Result<Response, Answer<Problem>>;

fn text(media_type: &'static str, text: impl IntoResponse) -> Response {
    ([(header::CONTENT_TYPE, media_type)], text).into_response()
}

/// The ABE public parameters.
#[utoipa::path(
    get,
    path = "/v1/parameters",
    tag = "open",
    responses((status = 200, description = "The parameters", body = messages::ParametersResponse), Refused)
)]
async fn parameters(State(service): State<Arc<Service>>) -> Said<ParametersResponse> {
    let epoch = service.issuer.authority.register().epoch().await?;
    Ok(Answer::ok(ParametersResponse {
        suite: Suite::FabeoCpBls12381.id(),
        epoch: epoch.get(),
        parameters: service.issuer.keys.parameters_bytes.clone(),
        key_policy: Some(KeyPolicyParameters {
            suite: Suite::FabeoKpBls12381.id(),
            parameters: service.issuer.keys.policy_parameters_bytes.clone(),
        }),
    }))
}

/// The root certificate, PEM.
#[utoipa::path(
    get,
    path = "/v1/ca",
    tag = "open",
    responses((status = 200, description = "The root certificate", body = String, content_type = "application/pem-certificate-chain"), Refused)
)]
async fn ca(State(service): State<Arc<Service>>) -> Response {
    text(
        "application/pem-certificate-chain",
        service.issuer.keys.root_pem.clone(),
    )
}

/// The newest revocation lists, with the intermediate's certificate, PEM: for a broker's tls.crl.
#[utoipa::path(
    get,
    path = "/v1/crl",
    tag = "open",
    responses((status = 200, description = "The list", body = String, content_type = "application/x-pem-file"), Refused)
)]
async fn crl(State(service): State<Arc<Service>>) -> Text {
    let authority = &service.issuer.authority;
    let newest = register::newest_list(authority.register().reader()).await?;
    let lists = match newest.and_then(|list| list.der) {
        Some(der) => service.issuer.complete_list(der)?,
        None => None,
    };
    let Some(lists) = lists else {
        let detail = "no revocation list was issued yet";
        return Err(Answer::problem(ProblemCode::NotFound, detail));
    };
    Ok(text(PEM, lists.to_pem()))
}

/// Whether the service and its register work.
#[utoipa::path(
    get,
    path = "/healthz",
    tag = "open",
    responses((status = 200, description = "They do", body = String, content_type = "text/plain"), Refused)
)]
async fn health(State(service): State<Arc<Service>>) -> Text {
    match service.issuer.authority.register().check().await {
        Ok(()) => Ok(text("text/plain; charset=utf-8", "ok\n")),
        Err(error) => {
            tracing::error!(%error, "the register does not answer");
            let detail = "the register does not answer";
            Err(Answer::problem(ProblemCode::Unavailable, detail))
        }
    }
}

/// This document.
#[utoipa::path(
    get,
    path = "/v1/openapi.json",
    tag = "open",
    responses((status = 200, description = "The OpenAPI document", body = Object, content_type = "application/json"), Refused)
)]
async fn document() -> Response {
    text("application/json", super::openapi())
}

/// Metrics, in the OpenMetrics format.
#[utoipa::path(
    get,
    path = "/metrics",
    tag = "audit",
    security(("auditor" = [])),
    responses((status = 200, description = "The metrics", body = String, content_type = "application/openmetrics-text"), Refused)
)]
async fn metrics(State(service): State<Arc<Service>>) -> Text {
    let authority = &service.issuer.authority;
    Ok(text(
        OPENMETRICS,
        service.metrics.text(authority, now()).await?,
    ))
}
