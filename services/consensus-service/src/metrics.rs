//! `kaldrix_consensus_<noun>_<unit>`.

use kaldrix_consensus::{CoreStatus, Decision};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

/// Every metric of this service.
#[derive(Default)]
pub(crate) struct Metrics {
    pub(crate) sessions: Counter,
    pub(crate) session: Gauge,
    pub(crate) direct: Counter,
    pub(crate) indirect: Counter,
    pub(crate) skipped: Counter,
    proposals: Counter,
    round: Gauge,
    headers: Gauge,
    refused: Gauge,
}

impl Metrics {
    pub(crate) fn new(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        registry.register("sessions", "Sessions begun", metrics.sessions.clone());
        registry.register("session_active", "1 while a dag-service holds a session", metrics.session.clone());
        registry.register("commits_direct", "Leaders committed directly", metrics.direct.clone());
        registry.register("commits_indirect", "Leaders committed through an anchor", metrics.indirect.clone());
        registry.register("leaders_skipped", "Leader slots skipped", metrics.skipped.clone());
        registry.register("proposals", "Proposals asked for", metrics.proposals.clone());
        registry.register("round", "Round of the threshold clock", metrics.round.clone());
        registry.register("headers_held", "Headers in memory", metrics.headers.clone());
        registry.register("headers_refused", "Headers refused in this session", metrics.refused.clone());
        metrics
    }

    pub(crate) fn proposed(&self) {
        self.proposals.inc();
    }

    pub(crate) fn decided(&self, decision: Decision, skipped: usize) {
        if decision == Decision::DirectCommit {
            self.direct.inc()
        } else {
            self.indirect.inc()
        };
        self.skipped.inc_by(skipped as u64);
    }

    pub(crate) fn status(&self, status: &CoreStatus) {
        self.round.set(i64::try_from(status.round).unwrap_or(i64::MAX));
        self.headers.set(i64::try_from(status.headers).unwrap_or(i64::MAX));
        self.refused.set(i64::try_from(status.refused).unwrap_or(i64::MAX));
    }
}
