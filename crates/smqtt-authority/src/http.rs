//! The HTTP API.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::{ConnectInfo, DefaultBodyLimit, FromRequest, Request, State};
use axum::http::{HeaderName, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Extension, Router};
use smqtt_abe::Suite;
use smqtt_pki::enrolment::{
    CA_PATH, ENROL_PATH, EnrolRequest, EnrolResponse, PARAMETERS_PATH, PROBLEM_MEDIA_TYPE,
    ParametersResponse, Problem, ProblemCode, RENEW_CONFIRM_PATH, RENEW_PATH, RenewConfirmation,
    RenewRequest,
};
use tokio::time::timeout;

use crate::clock::now;
use crate::peer::PeerChain;
use crate::{Issuer, Limiter, Refusal};

/// How long a request's body may take to arrive.
const BODY_TIME: Duration = Duration::from_secs(10);

struct Service {
    issuer: Issuer,
    limiter: Limiter,
}

/// All routes.
pub(crate) fn router(issuer: Issuer) -> Router {
    let service = Arc::new(Service {
        issuer,
        limiter: Limiter::default(),
    });
    Router::new()
        .route(ENROL_PATH, post(enrol))
        .route(RENEW_PATH, post(renew))
        .route(RENEW_CONFIRM_PATH, post(confirm))
        .route(PARAMETERS_PATH, get(parameters))
        .route(CA_PATH, get(ca))
        .route("/healthz", get(health))
        .fallback(|| async {
            Answer::problem(ProblemCode::NotFound, "see docs/authority.md for the paths")
        })
        .method_not_allowed_fallback(|| async {
            Answer::problem(
                ProblemCode::MethodNotAllowed,
                "see docs/authority.md for the methods",
            )
        })
        .layer(DefaultBodyLimit::max(EnrolRequest::MAX_LEN))
        .with_state(service)
}

async fn enrol(
    State(service): State<Arc<Service>>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    request: Request,
) -> Result<Answer<EnrolResponse>, Answer<Problem>> {
    let address = peer.ip();
    service.admit(address)?;
    let request: EnrolRequest = read(request, "\"token\" and \"csr\"")
        .await
        .map_err(|(code, detail)| service.failed(address, code, detail))?;
    // On a task of its own: whether the peer waits for the answer or not, the enrolment runs to its end.
    let enrolment = {
        let service = service.clone();
        tokio::spawn(async move { service.issuer.enrol(&request, address, now()).await })
    };
    let response = service.outcome(address, enrolment.await)?;
    tracing::info!(%address, device = %response.device, epoch = response.epoch, "device enrolled");
    Ok(Answer::ok(response))
}

async fn renew(
    State(service): State<Arc<Service>>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    Extension(chain): Extension<PeerChain>,
    request: Request,
) -> Result<Answer<EnrolResponse>, Answer<Problem>> {
    let address = peer.ip();
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
    tracing::info!(%address, device = %response.device, epoch = response.epoch, "device renewed");
    Ok(Answer::ok(response))
}

async fn confirm(
    State(service): State<Arc<Service>>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    Extension(chain): Extension<PeerChain>,
    request: Request,
) -> Result<StatusCode, Answer<Problem>> {
    let address = peer.ip();
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
    tracing::debug!(%address, %device, epoch = confirmation.epoch, "renewal confirmed");
    Ok(StatusCode::NO_CONTENT)
}

impl Service {
    /// Refuses an address that has failed too often.
    fn admit(&self, address: IpAddr) -> Result<(), Answer<Problem>> {
        self.limiter.check(address, now()).map_err(|wait| {
            tracing::warn!(%address, "held back: too many failures");
            let detail = format!("wait {} s", wait.as_secs());
            let mut answer = Answer::problem(ProblemCode::RateLimited, detail);
            answer.retry_after = Some(wait);
            answer
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
    fn failed(&self, address: IpAddr, code: ProblemCode, detail: String) -> Answer<Problem> {
        self.limiter.failed(address, now());
        tracing::info!(%address, %code, "refused");
        Answer::problem(code, detail)
    }

    fn outcome<T>(
        &self,
        address: IpAddr,
        outcome: Result<Result<T, Refusal>, tokio::task::JoinError>,
    ) -> Result<T, Answer<Problem>> {
        let error: &dyn std::fmt::Display = match &outcome {
            Ok(Ok(_)) => return outcome.ok().and_then(Result::ok).ok_or_else(internal),
            Ok(Err(Refusal::Refused { code, detail })) => {
                return Err(self.failed(address, *code, detail.clone()));
            }
            Ok(Err(Refusal::Failed(error))) => error,
            Err(error) => error,
        };
        tracing::error!(%address, %error, "a request failed");
        Err(internal())
    }
}

fn internal() -> Answer<Problem> {
    Answer::problem(ProblemCode::Internal, "see the authority's log")
}

/// Reads a body of JSON with these fields.
async fn read<T: serde::de::DeserializeOwned>(
    request: Request,
    fields: &str,
) -> Result<T, (ProblemCode, String)> {
    let body = match timeout(BODY_TIME, Bytes::from_request(request, &())).await {
        Ok(Ok(body)) => body,
        Ok(Err(rejection)) if rejection.status() == StatusCode::PAYLOAD_TOO_LARGE => {
            let detail = format!("at most {} bytes are read", EnrolRequest::MAX_LEN);
            return Err((ProblemCode::BodyTooLarge, detail));
        }
        Ok(Err(_)) => return Err((ProblemCode::MalformedRequest, "the body ended early".into())),
        Err(_) => {
            return Err((
                ProblemCode::MalformedRequest,
                "the body took too long".into(),
            ));
        }
    };
    // The reader's own message may quote what was sent: only the place is told.
    serde_json::from_slice(&body).map_err(|e| {
        let place = format!("line {} column {}", e.line(), e.column());
        let detail = format!("not a JSON object with {fields}: {place}");
        (ProblemCode::MalformedRequest, detail)
    })
}

async fn parameters(
    State(service): State<Arc<Service>>,
) -> Result<Answer<ParametersResponse>, Answer<Problem>> {
    let epoch = service
        .issuer
        .authority
        .register()
        .epoch()
        .await
        .map_err(|error| {
            tracing::error!(%error, "the epoch can not be read");
            Answer::problem(ProblemCode::Internal, "see the authority's log")
        })?;
    let body = ParametersResponse {
        suite: Suite::FabeoCpBls12381.id(),
        epoch: epoch.get(),
        parameters: service.issuer.keys.parameters_bytes.clone(),
    };
    Ok(Answer::ok(body))
}

async fn ca(State(service): State<Arc<Service>>) -> Response {
    let media_type = [(header::CONTENT_TYPE, "application/pem-certificate-chain")];
    (media_type, service.issuer.keys.root_pem.clone()).into_response()
}

async fn health(State(service): State<Arc<Service>>) -> Response {
    match service.issuer.authority.register().check().await {
        Ok(()) => "ok\n".into_response(),
        Err(error) => {
            tracing::error!(%error, "the register does not answer");
            (
                StatusCode::SERVICE_UNAVAILABLE,
                "the register does not answer\n",
            )
                .into_response()
        }
    }
}

/// An answer in JSON.
struct Answer<T> {
    status: StatusCode,
    media_type: &'static str,
    retry_after: Option<Duration>,
    body: T,
}

impl<T> Answer<T> {
    fn ok(body: T) -> Self {
        Self {
            status: StatusCode::OK,
            media_type: "application/json",
            retry_after: None,
            body,
        }
    }
}

impl Answer<Problem> {
    fn problem(code: ProblemCode, detail: impl Into<String>) -> Self {
        Self {
            status: StatusCode::from_u16(code.status())
                .unwrap_or(StatusCode::INTERNAL_SERVER_ERROR),
            media_type: PROBLEM_MEDIA_TYPE,
            retry_after: None,
            body: Problem::new(code, detail),
        }
    }
}

impl<T: serde::Serialize> IntoResponse for Answer<T> {
    fn into_response(self) -> Response {
        let Ok(body) = serde_json::to_vec(&self.body) else {
            return StatusCode::INTERNAL_SERVER_ERROR.into_response();
        };
        let mut response = Response::builder()
            .status(self.status)
            .header(header::CONTENT_TYPE, self.media_type)
            // An answer may hold an attribute key, and a refusal is true for this moment only.
            .header(header::CACHE_CONTROL, "no-store")
            .header(HeaderName::from_static("x-content-type-options"), "nosniff");
        if let Some(wait) = self.retry_after {
            response = response.header(header::RETRY_AFTER, wait.as_secs());
        }
        response
            .body(Body::from(body))
            .unwrap_or_else(|_| StatusCode::INTERNAL_SERVER_ERROR.into_response())
    }
}
