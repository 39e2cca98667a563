//! The audit log, page by page.

use std::sync::Arc;

use axum::extract::State;
use data_encoding::HEXLOWER;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::answer::{Answer, Asked, Said};
use super::devices::page_size;
use super::messages::Refused;
use super::{Routes, Service};
use crate::AuditEntry;

pub(super) fn routes() -> Routes {
    OpenApiRouter::new().routes(routes!(list))
}

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
struct AuditQuery {
    /// `next` of the page before: the number of its last row.
    after: Option<u64>,
    /// How many rows at most.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<u32>,
}

/// A row of the audit log.
#[derive(Serialize, ToSchema)]
struct Row {
    /// Its number, from 1.
    sequence: u64,
    /// In seconds since 1970, as the chain has it.
    time: u64,
    /// `admin:…`, `uid:…`, `address:…` or `service`.
    actor: String,
    action: String,
    subject: String,
    /// `ok`, or the code of what was wrong.
    outcome: String,
    detail: String,
    /// The chain value: SHA-256 over the row and the chain value before it, hexadecimal.
    chain: String,
}

impl From<(AuditEntry, Vec<u8>)> for Row {
    fn from((entry, chain): (AuditEntry, Vec<u8>)) -> Self {
        Self {
            sequence: entry.sequence,
            time: entry.time,
            actor: entry.actor,
            action: entry.action,
            subject: entry.subject,
            outcome: entry.outcome,
            detail: entry.detail,
            chain: HEXLOWER.encode(&chain),
        }
    }
}

#[derive(Serialize, ToSchema)]
struct AuditPage {
    entries: Vec<Row>,
    /// `after` of the next page, if there is one now.
    next: Option<u64>,
}

/// Read the audit log, oldest first.
#[utoipa::path(
    get,
    path = "/v1/audit",
    tag = "audit",
    params(AuditQuery),
    security(("auditor" = [])),
    responses((status = 200, description = "A page of it", body = AuditPage), Refused)
)]
async fn list(
    State(service): State<Arc<Service>>,
    Asked(query): Asked<AuditQuery>,
) -> Said<AuditPage> {
    let limit = page_size(query.limit)?;
    let after = query.after.unwrap_or(0);
    let mut rows = service
        .issuer
        .authority
        .register()
        .audit_page(after.saturating_add(1), limit + 1)
        .await?;
    let more = rows.len() > limit as usize;
    rows.truncate(limit as usize);
    let next = rows
        .last()
        .filter(|_| more)
        .map(|(entry, _)| entry.sequence);
    Ok(Answer::ok(AuditPage {
        entries: rows.into_iter().map(Row::from).collect(),
        next,
    }))
}
