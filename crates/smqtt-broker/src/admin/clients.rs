//! `GET /clients`: the sessions, as JSON, page by page.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use hyper::StatusCode;
use serde::Serialize;
use tokio::sync::oneshot;

use super::{Answer, respond, text};
use crate::shared::{Mail, Shared};

/// What a worker is asked.
#[derive(Debug)]
pub(crate) struct Inspection {
    /// The place in its table to begin at.
    pub(crate) from: usize,
    /// Sessions wanted at most.
    pub(crate) limit: usize,
    /// Only the session of this client.
    pub(crate) client_id: Option<Arc<str>>,
    pub(crate) reply: oneshot::Sender<Page>,
}

/// A worker's answer.
#[derive(Debug)]
pub(crate) struct Page {
    pub(crate) clients: Vec<ClientReport>,
    /// The place to go on from, if there are more.
    pub(crate) next: Option<usize>,
}

/// One session, as operators see it. What is counted is counted for the present connection; drops
/// for the session.
#[derive(Debug, Serialize)]
pub(crate) struct ClientReport {
    pub(crate) client_id: String,
    pub(crate) identity: String,
    pub(crate) connected: bool,
    pub(crate) peer: Option<String>,
    pub(crate) listener: Option<String>,
    pub(crate) protocol: Option<String>,
    pub(crate) connected_seconds: Option<u64>,
    pub(crate) worker: usize,
    pub(crate) subscriptions: usize,
    pub(crate) queued_messages: usize,
    pub(crate) queued_bytes: usize,
    pub(crate) in_flight: usize,
    pub(crate) packets_received: u64,
    pub(crate) packets_sent: u64,
    pub(crate) messages_received: u64,
    pub(crate) messages_sent: u64,
    pub(crate) bytes_received: u64,
    pub(crate) bytes_sent: u64,
    pub(crate) dropped: BTreeMap<&'static str, u64>,
}

#[derive(Debug, Serialize)]
struct Listing {
    clients: Vec<ClientReport>,
    /// To be sent as `after` for the next page.
    next: Option<String>,
}

/// What was asked for.
#[derive(Debug, PartialEq, Eq)]
struct Query {
    limit: usize,
    /// Worker, and place in its table.
    after: (usize, usize),
    client_id: Option<Arc<str>>,
}

const DEFAULT_LIMIT: usize = 100;
const MAX_LIMIT: usize = 1_000;
/// How long a worker may take to answer.
const PATIENCE: Duration = Duration::from_secs(5);

pub(super) async fn answer(shared: &Shared, query: Option<&str>) -> Answer {
    let query = match Query::parse(query.unwrap_or_default()) {
        Ok(query) => query,
        Err(why) => return text(StatusCode::BAD_REQUEST, &why),
    };
    let mut clients = Vec::new();
    let (mut worker, mut from) = query.after;
    // A client is looked for everywhere, other pages end when they are full.
    while worker < shared.mailboxes.len() && clients.len() < query.limit {
        let (reply, page) = oneshot::channel();
        let inspection = Inspection {
            from,
            limit: query.limit - clients.len(),
            client_id: query.client_id.clone(),
            reply,
        };
        shared.mailboxes[worker].post(&mut vec![Mail::Inspect(inspection)], 0);
        let Ok(Ok(page)) = tokio::time::timeout(PATIENCE, page).await else {
            return text(
                StatusCode::SERVICE_UNAVAILABLE,
                "a worker does not answer: the broker stops, or see /healthz",
            );
        };
        clients.extend(page.clients);
        (worker, from) = match page.next {
            Some(next) => (worker, next),
            None => (worker + 1, 0),
        };
    }
    let more = worker < shared.mailboxes.len();
    let listing = Listing {
        clients,
        next: more.then(|| format!("{worker}-{from}")),
    };
    match serde_json::to_string(&listing) {
        Ok(json) => respond(StatusCode::OK, "application/json", json + "\n"),
        Err(error) => text(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string()),
    }
}

impl Query {
    fn parse(query: &str) -> Result<Query, String> {
        let mut parsed = Query {
            limit: DEFAULT_LIMIT,
            after: (0, 0),
            client_id: None,
        };
        for (key, value) in url::form_urlencoded::parse(query.as_bytes()) {
            match &*key {
                "limit" => {
                    parsed.limit = value
                        .parse()
                        .ok()
                        .filter(|limit| (1..=MAX_LIMIT).contains(limit))
                        .ok_or_else(|| format!("limit: use 1 to {MAX_LIMIT}"))?;
                }
                "after" => {
                    parsed.after = value
                        .split_once('-')
                        .and_then(|(worker, from)| Some((worker.parse().ok()?, from.parse().ok()?)))
                        .ok_or("after: use what `next` of the page before says")?;
                }
                "client_id" => parsed.client_id = Some((&*value).into()),
                other => {
                    return Err(format!(
                        "`{}`: there are limit, after and client_id",
                        other.escape_debug()
                    ));
                }
            }
        }
        Ok(parsed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_are_bounded() {
        let query = |limit, after, client_id: Option<&str>| Query {
            limit,
            after,
            client_id: client_id.map(Into::into),
        };
        assert_eq!(Query::parse(""), Ok(query(100, (0, 0), None)));
        assert_eq!(
            Query::parse("limit=1000&after=3-17&client_id=a%2Fb"),
            Ok(query(1000, (3, 17), Some("a/b")))
        );
        for wrong in [
            "limit=0",
            "limit=1001",
            "limit=x",
            "after=3",
            "after=-1-2",
            "page=2",
        ] {
            assert!(Query::parse(wrong).is_err(), "{wrong}");
        }
    }
}
