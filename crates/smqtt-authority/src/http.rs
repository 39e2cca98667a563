//! The HTTP API.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{ConnectInfo, DefaultBodyLimit, FromRequest, Request, State};
use axum::http::{HeaderName, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use smqtt_abe::Suite;
use smqtt_pki::enrolment::{
    CA_PATH, ENROL_PATH, EnrolRequest, EnrolResponse, PARAMETERS_PATH, PROBLEM_MEDIA_TYPE,
    ParametersResponse, Problem, ProblemCode,
};
use tokio::time::timeout;

use crate::clock::now;
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
    if let Err(wait) = service.limiter.check(address, now()) {
        tracing::warn!(%address, "enrolment held back: too many failures");
        let detail = format!("wait {} s", wait.as_secs());
        let mut answer = Answer::problem(ProblemCode::RateLimited, detail);
        answer.retry_after = Some(wait);
        return Err(answer);
    }
    let failed = |code, detail: String| {
        service.limiter.failed(address, now());
        tracing::info!(%address, %code, "enrolment refused");
        Answer::problem(code, detail)
    };
    let request = match read_enrol_request(request).await {
        Ok(request) => request,
        Err((code, detail)) => return Err(failed(code, detail)),
    };
    // On a task of its own: whether the peer waits for the answer or not, the enrolment runs to its end.
    let enrolment = {
        let service = service.clone();
        tokio::spawn(async move { service.issuer.enrol(&request, address, now()).await })
    };
    match enrolment.await {
        Ok(Ok(response)) => {
            tracing::info!(%address, device = %response.device, epoch = response.epoch, "device enrolled");
            Ok(Answer {
                status: StatusCode::OK,
                media_type: "application/json",
                retry_after: None,
                body: response,
            })
        }
        Ok(Err(Refusal::Refused { code, detail })) => Err(failed(code, detail)),
        Ok(Err(Refusal::Failed(error))) => {
            tracing::error!(%address, %error, "an enrolment failed");
            Err(Answer::problem(
                ProblemCode::Internal,
                "see the authority's log",
            ))
        }
        Err(error) => {
            tracing::error!(%address, %error, "an enrolment failed");
            Err(Answer::problem(
                ProblemCode::Internal,
                "see the authority's log",
            ))
        }
    }
}

async fn read_enrol_request(request: Request) -> Result<EnrolRequest, (ProblemCode, String)> {
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
        let detail = format!("not a JSON object with \"token\" and \"csr\": {place}");
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
    Ok(Answer {
        status: StatusCode::OK,
        media_type: "application/json",
        retry_after: None,
        body,
    })
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
