//! Who may ask what: decided before any handler runs.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Extension;
use axum::body::Body;
use axum::extract::{MatchedPath, Request, State};
use axum::http::Method;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http_body_util::BodyExt;
use smqtt_pki::enrolment::{EnrolRequest, Problem, ProblemCode};
use tokio::time::timeout;

use super::answer::Answer;
use super::peer::{Connection, Peer};
use super::{PUBLIC, Service};
use crate::clock::now;
use crate::metrics::Limit;
use crate::{Actor, Refusal, Role};

/// Counts a request, and holds back who asks too often.
pub(super) async fn watch(
    State(service): State<Arc<Service>>,
    Extension(connection): Extension<Arc<Connection>>,
    request: Request,
    next: Next,
) -> Response {
    let begun = Instant::now();
    connection.note_request();
    let method = label(request.method());
    let route = request.extensions().get::<MatchedPath>().cloned();
    let over = match &connection.peer {
        Peer::Network { address, .. } => service.limits.request(*address, now()).err(),
        Peer::Local { .. } => None,
    };
    let response = match (read_first(request).await, over) {
        (_, Some(wait)) => {
            service.metrics.limited(Limit::Requests);
            Answer::rate_limited(wait).into_response()
        }
        (Err(refusal), None) => refusal.into_response(),
        (Ok(request), None) => next.run(request).await,
    };
    let route = route.as_ref().map_or("", MatchedPath::as_str);
    let problem = response.extensions().get::<ProblemCode>().copied();
    service.metrics.answered(
        (method, route, response.status().as_u16()),
        problem,
        begun.elapsed(),
    );
    response
}

/// How much of a body that is too large is read before the refusal goes out, and for how long.
const SWALLOWED: usize = 1024 * 1024;
const SWALLOW_TIME: Duration = Duration::from_millis(500);
/// How long a body may take.
const BODY_TIME: Duration = Duration::from_secs(10);

/// Reads the body before anything is answered. A server that answers earlier has to close the connection under a client that is
/// still sending, which then sees a broken connection and not why it was refused.
///
/// Of a body that is too large no more is kept than shows that it is.
async fn read_first(request: Request) -> Result<Request, Answer<Problem>> {
    let (parts, mut body) = request.into_parts();
    let mut kept = Vec::new();
    let reading = async {
        while kept.len() <= EnrolRequest::MAX_LEN
            && let Some(frame) = body.frame().await
        {
            kept.extend_from_slice(&frame?.into_data().unwrap_or_default());
        }
        Ok::<_, axum::Error>(())
    };
    match timeout(BODY_TIME, reading).await {
        Ok(Ok(())) => {}
        Ok(Err(_)) => {
            let code = ProblemCode::MalformedRequest;
            return Err(Answer::problem(code, "the body ended early"));
        }
        Err(_) => {
            let detail = format!("the body took more than {} s", BODY_TIME.as_secs());
            return Err(Answer::problem(ProblemCode::RequestTimeout, detail));
        }
    }
    if kept.len() > EnrolRequest::MAX_LEN {
        let mut swallowed = 0;
        let swallowing = async {
            while swallowed < SWALLOWED
                && let Some(Ok(frame)) = body.frame().await
            {
                swallowed += frame.data_ref().map_or(0, |data| data.len());
            }
        };
        // Whatever comes of it, the body is too large.
        let _ = timeout(SWALLOW_TIME, swallowing).await;
    }
    Ok(Request::from_parts(parts, Body::from(kept)))
}

/// Admits administrators, and everybody to what is public.
pub(super) async fn admit(
    State(service): State<Arc<Service>>,
    Extension(connection): Extension<Arc<Connection>>,
    mut request: Request,
    next: Next,
) -> Response {
    let path = request.extensions().get::<MatchedPath>();
    let Some(needed) = path.and_then(|path| needed(request.method(), path.as_str())) else {
        return next.run(request).await;
    };
    match service.administrator(&connection, needed).await {
        Ok(actor) => {
            request.extensions_mut().insert(actor);
            next.run(request).await
        }
        Err(refusal) => refusal.into_response(),
    }
}

/// The role that a request needs; `None` for what is public.
fn needed(method: &Method, path: &str) -> Option<Role> {
    if PUBLIC.contains(&path) {
        None
    } else if method == Method::GET || method == Method::HEAD {
        Some(Role::Auditor)
    } else {
        Some(Role::Operator)
    }
}

impl Service {
    /// Who asks, if it has this role.
    async fn administrator(
        &self,
        connection: &Connection,
        needed: Role,
    ) -> Result<Actor, Answer<Problem>> {
        let (address, chain) = match &connection.peer {
            // Who can open the socket, the file system has decided.
            Peer::Local { uid } => return Ok(Actor::account(*uid)),
            Peer::Network { address, chain } => (*address, chain),
        };
        let denied = match self.issuer.administrator(chain, needed, now()).await {
            Ok(actor) => return Ok(actor),
            Err(denied) => denied,
        };
        // Only who is denied is held back: others behind the same address may go on failing.
        self.admit(address)?;
        let refusal = self.issuer.note_denied(denied, address, now()).await;
        match refusal {
            Refusal::Refused { code, detail } => Err(self.failed(address, code, detail)),
            Refusal::Failed(error) => Err(error.into()),
        }
    }
}

/// A method as the counters have it: of a few, whatever a peer sends.
fn label(method: &Method) -> &'static str {
    for known in ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"] {
        if method.as_str() == known {
            return known;
        }
    }
    "other"
}
