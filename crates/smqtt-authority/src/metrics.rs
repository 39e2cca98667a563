//! What the service counts, and what `/metrics` tells of that and of the register.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;
use smqtt_pki::UnixTime;
use smqtt_pki::enrolment::ProblemCode;

use crate::{Authority, Error};

type Label = [(&'static str, &'static str); 1];
type Request = [(&'static str, String); 3];
type Route = [(&'static str, String); 1];

/// Which limit has held somebody back.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Limit {
    Failures,
    Token,
    Requests,
}

/// Within how many days a certificate's expiry is told of.
pub(crate) const EXPIRY_DAYS: [(u64, &str); 3] = [(1, "1"), (7, "7"), (30, "30")];

/// The counters of a service.
#[derive(Debug)]
pub(crate) struct Metrics {
    registry: Registry,
    requests: Family<Request, Counter>,
    durations: Family<Route, Histogram, fn() -> Histogram>,
    refused: Family<Label, Counter>,
    limited: Family<Label, Counter>,
    connections: Family<Label, Counter>,
    silent: Counter,
    enrolled: Counter,
    renewed: Counter,
    confirmed: Counter,
    devices: Family<Label, Gauge>,
    expiring: Family<Label, Gauge>,
    expired: Gauge,
    open_tokens: Gauge,
    certificates: Counter,
    attribute_keys: Counter,
    revoked: Gauge,
    audit_entries: Counter,
    epoch: Gauge,
    sealing: Gauge,
    current: Gauge,
    behind: Gauge,
    epoch_next: Gauge,
    brokers: Family<Label, Gauge>,
    crl_expires: Gauge,
}

/// What the register says, for [`Metrics`].
#[derive(Clone, Debug, Default)]
pub(crate) struct Measures {
    pub(crate) registered: u64,
    pub(crate) enrolled: u64,
    pub(crate) suspended: u64,
    pub(crate) revoked: u64,
    /// How many certificates of enrolled devices expire within the days of [`EXPIRY_DAYS`].
    pub(crate) expiring: [u64; 3],
    pub(crate) expired: u64,
    pub(crate) open_tokens: u64,
    pub(crate) certificates: u64,
    pub(crate) attribute_keys: u64,
    pub(crate) revocations: u64,
    pub(crate) audit_entries: u64,
    pub(crate) crl_expires: Option<u64>,
}

impl Metrics {
    pub(crate) fn new() -> Self {
        let mut registry = Registry::with_prefix("smqtt_authority");
        // An enrolment takes milliseconds, a full disk or a locked register seconds.
        let buckets: fn() -> Histogram = || {
            Histogram::new([
                0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0,
            ])
        };
        let metrics = Self {
            registry: Registry::default(),
            requests: Family::default(),
            durations: Family::new_with_constructor(buckets),
            refused: Family::default(),
            limited: Family::default(),
            connections: Family::default(),
            silent: Counter::default(),
            enrolled: Counter::default(),
            renewed: Counter::default(),
            confirmed: Counter::default(),
            devices: Family::default(),
            expiring: Family::default(),
            expired: Gauge::default(),
            open_tokens: Gauge::default(),
            certificates: Counter::default(),
            attribute_keys: Counter::default(),
            revoked: Gauge::default(),
            audit_entries: Counter::default(),
            epoch: Gauge::default(),
            sealing: Gauge::default(),
            current: Gauge::default(),
            behind: Gauge::default(),
            epoch_next: Gauge::default(),
            brokers: Family::default(),
            crl_expires: Gauge::default(),
        };
        macro_rules! register {
            ($($field:ident $name:literal $help:literal)*) => {
                $(registry.register($name, $help, metrics.$field.clone());)*
            };
        }
        register! {
            requests "requests" "Requests answered by this process"
            durations "request_duration_seconds" "How long answers took"
            refused "refused" "Requests refused by this process, by the code of the problem"
            limited "rate_limited" "Requests held back by this process, by the limit"
            connections "connections_refused" "Connections that came to no request, by the cause"
            silent "connections_without_request" "Connections that ended before a request was read: slow, or looking around"
            enrolled "enrolled" "Enrolments answered by this process"
            renewed "renewed" "Renewals answered by this process"
            confirmed "renewals_confirmed" "Renewals that devices have confirmed to this process"
            devices "devices" "Devices in the register, by state"
            expiring "certificates_expiring" "Newest certificates of enrolled devices that expire within so many days"
            expired "certificates_expired" "Newest certificates of enrolled devices that have expired"
            open_tokens "tokens_open" "Tokens that can be used"
            certificates "certificates_issued" "Device certificates ever issued"
            attribute_keys "attribute_keys_issued" "Attribute keys ever issued"
            revoked "certificates_revoked" "Certificates that are taken back or on hold"
            audit_entries "audit_entries" "Rows of the audit log"
            epoch "epoch" "The newest epoch, for which keys are issued"
            sealing "epoch_sealing" "The epoch that publishers seal for"
            current "epoch_devices_renewed" "Devices that could connect and have a key of the newest epoch"
            behind "epoch_devices_behind" "Devices that could connect and have none"
            epoch_next "epoch_next_timestamp_seconds" "When the next epoch begins by the schedule, 0 for never"
            brokers "brokers" "Brokers that have the newest state, and those that do not"
            crl_expires "crl_expires_timestamp_seconds" "Until when the newest revocation list holds, 0 without one"
        }
        Self {
            registry,
            ..metrics
        }
    }

    pub(crate) fn answered(
        &self,
        (method, route, status): (&'static str, &str, u16),
        problem: Option<ProblemCode>,
        took: Duration,
    ) {
        self.requests
            .get_or_create(&[
                ("method", method.to_owned()),
                ("route", route.to_owned()),
                ("status", status.to_string()),
            ])
            .inc();
        self.durations
            .get_or_create(&[("route", route.to_owned())])
            .observe(took.as_secs_f64());
        if let Some(code) = problem {
            self.refused
                .get_or_create(&[("cause", code.as_str())])
                .inc();
        }
    }

    pub(crate) fn limited(&self, limit: Limit) {
        let name = match limit {
            Limit::Failures => "failures",
            Limit::Token => "token",
            Limit::Requests => "requests",
        };
        self.limited.get_or_create(&[("limit", name)]).inc();
    }

    /// A connection was not taken, or its handshake failed.
    pub(crate) fn connection_refused(&self, cause: &'static str) {
        self.connections.get_or_create(&[("cause", cause)]).inc();
    }

    /// A connection has ended without a request.
    pub(crate) fn connection_silent(&self) {
        self.silent.inc();
    }

    pub(crate) fn enrolled(&self) {
        self.enrolled.inc();
    }

    pub(crate) fn renewed(&self) {
        self.renewed.inc();
    }

    pub(crate) fn confirmed(&self) {
        self.confirmed.inc();
    }

    /// All of it, in the OpenMetrics text format.
    pub(crate) async fn text(&self, authority: &Authority, now: UnixTime) -> Result<String, Error> {
        let measures = authority.register().measures(now).await?;
        let status = authority.epoch_status(now).await?;
        for (state, count) in [
            ("registered", measures.registered),
            ("enrolled", measures.enrolled),
            ("suspended", measures.suspended),
            ("revoked", measures.revoked),
        ] {
            set(&self.devices.get_or_create(&[("state", state)]), count);
        }
        for ((_, days), count) in EXPIRY_DAYS.into_iter().zip(measures.expiring) {
            set(&self.expiring.get_or_create(&[("days", days)]), count);
        }
        set(&self.expired, measures.expired);
        set(&self.open_tokens, measures.open_tokens);
        total(&self.certificates, measures.certificates);
        total(&self.attribute_keys, measures.attribute_keys);
        set(&self.revoked, measures.revocations);
        total(&self.audit_entries, measures.audit_entries);
        set(&self.epoch, status.epoch);
        set(&self.sealing, status.sealing);
        set(&self.current, status.renewed());
        set(&self.behind, status.total() - status.renewed());
        set(&self.epoch_next, status.next.unwrap_or(0));
        let informed = status
            .brokers
            .iter()
            .filter(|broker| broker.published >= status.state)
            .count() as u64;
        let behind = status.brokers.len() as u64 - informed;
        set(
            &self.brokers.get_or_create(&[("state", "newest")]),
            informed,
        );
        set(&self.brokers.get_or_create(&[("state", "behind")]), behind);
        set(&self.crl_expires, measures.crl_expires.unwrap_or(0));
        let mut text = String::new();
        encode(&mut text, &self.registry).map_err(|_| Error::Task)?;
        Ok(text)
    }
}

fn set(gauge: &Gauge, value: u64) {
    gauge.set(i64::try_from(value).unwrap_or(i64::MAX));
}

/// A number that only grows, whoever has counted it.
fn total(counter: &Counter<u64, AtomicU64>, value: u64) {
    counter.inner().store(value, Ordering::Relaxed);
}
