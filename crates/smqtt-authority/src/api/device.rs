//! What devices ask: to be enrolled, to be renewed.

use std::net::IpAddr;
use std::sync::Arc;

use axum::Extension;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use smqtt_pki::enrolment::{
    EnrolRequest, EnrolResponse, EnrolmentToken, Problem, ProblemCode, RenewConfirmation,
    RenewRequest,
};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::answer::{Answer, Said, read};
use super::messages::{self, Refused};
use super::peer::{Connection, PeerChain};
use super::{Routes, Service};
use crate::Refusal;
use crate::clock::now;
use crate::metrics::Limit;

pub(super) fn routes() -> Routes {
    OpenApiRouter::new()
        .routes(routes!(enrol))
        .routes(routes!(renew))
        .routes(routes!(confirm))
}

/// Enrol: a token and a certificate request for a certificate and an attribute key.
///
/// Asked again with the same key while the token lasts, it gives the same certificate again.
#[utoipa::path(
    post,
    path = "/v1/enrol",
    tag = "devices",
    request_body = messages::EnrolRequest,
    responses((status = 200, description = "The device's identity", body = messages::EnrolResponse), Refused)
)]
async fn enrol(
    State(service): State<Arc<Service>>,
    Extension(connection): Extension<Arc<Connection>>,
    request: Request,
) -> Said<EnrolResponse> {
    let address = connection.address();
    service.admit(address)?;
    let request: EnrolRequest = read(request, "\"token\" and \"csr\"")
        .await
        .map_err(|(code, detail)| service.failed(address, code, detail))?;
    let token: Option<EnrolmentToken> = request.token.reveal().parse().ok();
    let digest = token.map(|token| token.digest());
    if let Some(wait) = digest.and_then(|digest| service.limits.token(&digest, now()).err()) {
        tracing::warn!(%address, "a token is held back: too many failures");
        service.metrics.limited(Limit::Token);
        return Err(Answer::rate_limited(wait));
    }
    // On a task of its own: whether the peer waits for the answer or not, the enrolment runs to its end.
    let enrolment = {
        let service = service.clone();
        tokio::spawn(async move { service.issuer.enrol(&request, address, now()).await })
    };
    let outcome = enrolment.await;
    if let (Some(digest), Ok(Err(Refusal::Refused { .. }))) = (digest, &outcome) {
        service.limits.token_failed(digest, now());
    }
    let response = service.outcome(address, outcome)?;
    service.metrics.enrolled();
    tracing::info!(%address, device = %response.device, epoch = response.epoch, "device enrolled");
    Ok(Answer::ok(response))
}

/// Renew: a new attribute key and, in time, a new certificate, for the certificate that is presented.
#[utoipa::path(
    post,
    path = "/v1/renew",
    tag = "devices",
    request_body = messages::RenewRequest,
    security(("device" = [])),
    responses((status = 200, description = "The device's identity", body = messages::EnrolResponse), Refused)
)]
async fn renew(
    State(service): State<Arc<Service>>,
    Extension(connection): Extension<Arc<Connection>>,
    request: Request,
) -> Said<EnrolResponse> {
    let (address, chain) = (connection.address(), connection.chain());
    service.admit(address)?;
    service.require(address, &chain)?;
    let request: RenewRequest = read(request, "\"csr\"")
        .await
        .map_err(|(code, detail)| service.failed(address, code, detail))?;
    let renewal = {
        let service = service.clone();
        tokio::spawn(async move { service.issuer.renew(&chain, &request, address, now()).await })
    };
    let response = service.outcome(address, renewal.await)?;
    service.metrics.renewed();
    tracing::info!(%address, device = %response.device, epoch = response.epoch, "device renewed");
    Ok(Answer::ok(response))
}

/// Say that the certificate that is presented, and the attribute key of this epoch, are in use.
#[utoipa::path(
    post,
    path = "/v1/renew/confirm",
    tag = "devices",
    request_body = messages::RenewConfirmation,
    security(("device" = [])),
    responses((status = 204, description = "Noted"), Refused)
)]
async fn confirm(
    State(service): State<Arc<Service>>,
    Extension(connection): Extension<Arc<Connection>>,
    request: Request,
) -> Result<StatusCode, Answer<Problem>> {
    let (address, chain) = (connection.address(), connection.chain());
    service.admit(address)?;
    service.require(address, &chain)?;
    let confirmation: RenewConfirmation = read(request, "\"epoch\"")
        .await
        .map_err(|(code, detail)| service.failed(address, code, detail))?;
    let confirming = {
        let service = service.clone();
        tokio::spawn(async move {
            service
                .issuer
                .confirm_renewal(&chain, confirmation, address, now())
                .await
        })
    };
    let device = service.outcome(address, confirming.await)?;
    service.metrics.confirmed();
    tracing::debug!(%address, %device, epoch = confirmation.epoch, "renewal confirmed");
    Ok(StatusCode::NO_CONTENT)
}

impl Service {
    /// Refuses an address that has failed too often.
    pub(super) fn admit(&self, address: IpAddr) -> Result<(), Answer<Problem>> {
        self.limits.failures.check(address, now()).map_err(|wait| {
            tracing::warn!(%address, "held back: too many failures");
            self.metrics.limited(Limit::Failures);
            Answer::rate_limited(wait)
        })
    }

    /// Refuses a peer without a certificate.
    fn require(&self, address: IpAddr, chain: &PeerChain) -> Result<(), Answer<Problem>> {
        if chain.is_empty() {
            let detail = "present the device's certificate in the TLS handshake";
            return Err(self.failed(address, ProblemCode::CertificateRequired, detail.into()));
        }
        Ok(())
    }

    /// Counts a refusal against its address.
    pub(super) fn failed(
        &self,
        address: IpAddr,
        code: ProblemCode,
        detail: String,
    ) -> Answer<Problem> {
        self.limits.failures.failed(address, now());
        tracing::info!(%address, %code, "refused");
        Answer::problem(code, detail)
    }

    fn outcome<T>(
        &self,
        address: IpAddr,
        outcome: Result<Result<T, Refusal>, tokio::task::JoinError>,
    ) -> Result<T, Answer<Problem>> {
        let error: &dyn std::fmt::Display = match &outcome {
            Ok(Ok(_)) => {
                return outcome
                    .ok()
                    .and_then(Result::ok)
                    .ok_or_else(Answer::internal);
            }
            Ok(Err(Refusal::Refused { code, detail })) => {
                return Err(self.failed(address, *code, detail.clone()));
            }
            Ok(Err(Refusal::Failed(error))) => error,
            Err(error) => error,
        };
        tracing::error!(%address, %error, "a request failed");
        Err(Answer::internal())
    }
}
