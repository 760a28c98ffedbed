//! `kaldrix_crypto_<noun>_<unit>`.

use crate::core::audit::Outcome;
use kaldrix_types::{Purpose, Round};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;
use std::time::Duration;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Request {
    purpose: &'static str,
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Verdict {
    valid: &'static str,
}

/// Every metric of this service.
#[derive(Debug)]
pub struct Metrics {
    requests: Family<Request, Counter>,
    sign_seconds: Histogram,
    last_signed_round: Gauge,
    verified: Family<Verdict, Counter>,
    /// Signing requests that wait or run, of [`crate::config::SIGNING_WAITING_MAX`].
    pub(crate) signing: Gauge,
    /// Batches that wait or run.
    pub(crate) batches: Gauge,
    pub(crate) refused_busy: Counter,
    pub(crate) cached_keys: Gauge,
    pub(crate) session_keys: Gauge,
}

impl Metrics {
    /// Registers everything in `registry`, whose prefix is the service's.
    pub fn new(registry: &mut Registry) -> Self {
        let metrics = Self {
            requests: Family::default(),
            sign_seconds: Histogram::new(exponential_buckets(50e-6, 2.0, 16)),
            last_signed_round: Gauge::default(),
            verified: Family::default(),
            signing: Gauge::default(),
            batches: Gauge::default(),
            refused_busy: Counter::default(),
            cached_keys: Gauge::default(),
            session_keys: Gauge::default(),
        };
        registry.register("sign_requests", "Requests to sign, by purpose and outcome", metrics.requests.clone());
        registry.register("sign_duration_seconds", "Policy, guard, audit and signature of one request", metrics.sign_seconds.clone());
        registry.register("last_signed_round", "Round of the last signed block", metrics.last_signed_round.clone());
        registry.register("verified_signatures", "Signatures of batches, by verdict", metrics.verified.clone());
        registry.register("sign_requests_open", "Requests to sign that wait or run", metrics.signing.clone());
        registry.register("verify_batches_open", "Batches that wait or run", metrics.batches.clone());
        registry.register("requests_refused_busy", "Requests refused because the queue was full", metrics.refused_busy.clone());
        registry.register("cached_keys", "Prepared public keys in the cache", metrics.cached_keys.clone());
        registry.register("session_keys", "Session keys that can sign", metrics.session_keys.clone());
        metrics
    }

    pub(crate) fn requested(&self, purpose: Purpose, outcome: Option<Outcome>, took: Duration) {
        let purpose = match purpose {
            Purpose::Block => "block",
            Purpose::PeerBinding => "peer_binding",
            Purpose::Transaction => "transaction",
            Purpose::Checkpoint => "checkpoint",
            Purpose::ValidatorKey => "validator_key",
        };
        let outcome = outcome.map_or("failed", Outcome::as_str);
        self.requests.get_or_create(&Request { purpose, outcome }).inc();
        self.sign_seconds.observe(took.as_secs_f64());
    }

    pub(crate) fn signed_up_to(&self, round: Round) {
        self.last_signed_round.set(i64::try_from(round).unwrap_or(i64::MAX));
    }

    pub(crate) fn verdicts(&self, valid: &[bool]) {
        let good = valid.iter().filter(|v| **v).count() as u64;
        self.verified.get_or_create(&Verdict { valid: "true" }).inc_by(good);
        self.verified.get_or_create(&Verdict { valid: "false" }).inc_by(valid.len() as u64 - good);
    }
}
