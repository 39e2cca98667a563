//! Reading requests and writing answers, problems among them.

use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::{FromRequest, FromRequestParts, Path, Query, Request};
use axum::http::request::Parts;
use axum::http::{HeaderName, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::de::DeserializeOwned;
use smqtt_pki::DeviceId;
use smqtt_pki::enrolment::{EnrolRequest, PROBLEM_MEDIA_TYPE, Problem, ProblemCode};

use crate::Error;

/// What a handler says.
pub(super) type Said<T> = Result<Answer<T>, Answer<Problem>>;

/// An answer in JSON.
pub(super) struct Answer<T> {
    status: StatusCode,
    media_type: &'static str,
    retry_after: Option<Duration>,
    problem: Option<ProblemCode>,
    body: T,
}

impl<T> Answer<T> {
    pub(super) fn ok(body: T) -> Self {
        Self {
            status: StatusCode::OK,
            media_type: "application/json",
            retry_after: None,
            problem: None,
            body,
        }
    }

    pub(super) fn created(body: T) -> Self {
        Self {
            status: StatusCode::CREATED,
            ..Self::ok(body)
        }
    }
}

impl Answer<Problem> {
    pub(super) fn problem(code: ProblemCode, detail: impl Into<String>) -> Self {
        Self {
            status: StatusCode::from_u16(code.status())
                .unwrap_or(StatusCode::INTERNAL_SERVER_ERROR),
            media_type: PROBLEM_MEDIA_TYPE,
            retry_after: None,
            problem: Some(code),
            body: Problem::new(code, detail),
        }
    }

    pub(super) fn rate_limited(wait: Duration) -> Self {
        Self {
            retry_after: Some(wait),
            ..Self::problem(
                ProblemCode::RateLimited,
                format!("wait {} s", wait.as_secs()),
            )
        }
    }

    pub(super) fn internal() -> Self {
        Self::problem(ProblemCode::Internal, "see the authority's log")
    }
}

/// What an act or a question of an administrator has met.
impl From<Error> for Answer<Problem> {
    fn from(error: Error) -> Self {
        let code = match &error {
            Error::NoSuchDevice(_) | Error::NoSuchProfile(_) => ProblemCode::NotFound,
            Error::DeviceExists(_)
            | Error::AlreadyEnrolled(_)
            | Error::DeviceRevoked(_)
            | Error::DeviceSuspended(_)
            | Error::NotSuspended(_)
            | Error::NotEnrolled(_)
            | Error::ProfileInUse { .. } => ProblemCode::Conflict,
            Error::Attributes { .. }
            | Error::Policy { .. }
            | Error::Schema(_)
            | Error::SchemaRefuses(_)
            | Error::ProfileName(_)
            | Error::ReservedName(_)
            | Error::NoAttributes
            | Error::TokenUses
            | Error::TokenLifetime
            | Error::Setting { .. }
            | Error::Pki(smqtt_pki::Error::DeviceId(_)) => ProblemCode::InvalidInput,
            _ => {
                tracing::error!(%error, "a request failed");
                return Self::internal();
            }
        };
        Self::problem(code, error.to_string())
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
        if let Some(code) = self.problem {
            // For the counters.
            response = response.extension(code);
        }
        response
            .body(Body::from(body))
            .unwrap_or_else(|_| StatusCode::INTERNAL_SERVER_ERROR.into_response())
    }
}

/// Why a body can not be read.
pub(super) type Unreadable = (ProblemCode, String);

/// Reads a body of JSON. What is said to be something else is not looked at.
pub(super) async fn body(request: Request) -> Result<Bytes, Unreadable> {
    let media_type = request.headers().get(header::CONTENT_TYPE);
    let is_json = media_type.is_none_or(|value| {
        let essence = value.to_str().unwrap_or("").split(';').next().unwrap_or("");
        essence.trim().eq_ignore_ascii_case("application/json")
    });
    if !is_json {
        let detail = "send application/json".to_owned();
        return Err((ProblemCode::UnsupportedMediaType, detail));
    }
    // All of it has come: the gate has read it.
    Bytes::from_request(request, &()).await.map_err(|_| {
        let detail = format!("at most {} bytes are read", EnrolRequest::MAX_LEN);
        (ProblemCode::BodyTooLarge, detail)
    })
}

/// Reads a body of JSON with these fields, from somebody who is told no more than where it is wrong: the reader's own message
/// may quote a secret.
pub(super) async fn read<T: DeserializeOwned>(
    request: Request,
    fields: &str,
) -> Result<T, Unreadable> {
    serde_json::from_slice(&body(request).await?).map_err(|e| {
        let place = format!("line {} column {}", e.line(), e.column());
        let detail = format!("not a JSON object with {fields}: {place}");
        (ProblemCode::MalformedRequest, detail)
    })
}

/// The JSON body of an administrator's request. An empty one is an empty object.
pub(super) struct Input<T>(pub(super) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Input<T> {
    type Rejection = Answer<Problem>;

    async fn from_request(request: Request, _: &S) -> Result<Self, Self::Rejection> {
        let body = body(request)
            .await
            .map_err(|(code, detail)| Answer::problem(code, detail))?;
        let text = match body.trim_ascii() {
            [] => b"{}",
            text => text,
        };
        // PostgreSQL keeps no text with one; nothing here has a use for it.
        if text.windows(NUL.len()).any(|part| part == NUL) {
            let detail = "a text has the character NUL: leave it out";
            return Err(Answer::problem(ProblemCode::InvalidInput, detail));
        }
        serde_json::from_slice(text)
            .map(Self)
            .map_err(|e| Answer::problem(ProblemCode::MalformedRequest, e.to_string()))
    }
}

/// The character NUL as JSON has it; as it is, JSON has it nowhere.
const NUL: &[u8] = b"\\u0000";

/// The parameters behind the `?`; one that is not known is an error, not passed over.
pub(super) struct Asked<T>(pub(super) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Asked<T> {
    type Rejection = Answer<Problem>;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Self::Rejection> {
        Query::try_from_uri(&parts.uri)
            .map(|Query(asked)| Self(asked))
            .map_err(|e| Answer::problem(ProblemCode::MalformedRequest, e.body_text()))
    }
}

/// The name of a device in the path. What can be no name, there is no device of.
pub(super) struct Named(pub(super) DeviceId);

impl<S: Send + Sync> FromRequestParts<S> for Named {
    type Rejection = Answer<Problem>;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Self::Rejection> {
        let PathText(name) = PathText::from_request_parts(parts, state).await?;
        let none = |_| Answer::problem(ProblemCode::NotFound, "there is no device of this name");
        name.parse().map(Self).map_err(none)
    }
}

/// The one variable segment of a path.
pub(super) struct PathText(pub(super) String);

impl<S: Send + Sync> FromRequestParts<S> for PathText {
    type Rejection = Answer<Problem>;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Self::Rejection> {
        let Path(text) = Path::<String>::from_request_parts(parts, state)
            .await
            .map_err(|e| Answer::problem(ProblemCode::MalformedRequest, e.body_text()))?;
        if text.contains('\0') {
            let detail = "there is nothing of this name";
            return Err(Answer::problem(ProblemCode::NotFound, detail));
        }
        Ok(Self(text))
    }
}
