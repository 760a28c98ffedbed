//! Every metric of this service, named in one place: `kaldrix_ledger_api_<noun>_<unit>`.

use kaldrix_api::ErrorCode;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;
use std::time::Duration;

/// What a request was and how it ended.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct RequestLabels {
    /// `grpc` or `rest`.
    pub transport: &'static str,
    /// Route or method.
    pub method: String,
    /// `OK` or the stable code.
    pub code: &'static str,
}

/// Handles to the metrics; cloning shares them.
#[derive(Clone, Debug)]
pub struct Metrics {
    /// Requests by transport, method and code.
    pub requests: Family<RequestLabels, Counter>,
    /// From the hand-over of a transaction to its commit being readable.
    pub finality_seconds: Histogram,
    /// The same, of the last minute.
    pub recent_finality: crate::core::recent::RecentFinality,
    /// Transactions of one call to a validator.
    pub batch_transactions: Histogram,
    /// Transactions waiting to be handed over.
    pub queue_transactions: Gauge,
    /// Bytes of transactions waiting to be handed over.
    pub queue_bytes: Gauge,
    /// Transactions somebody may still wait for.
    pub tracked_transactions: Gauge,
    /// Open streams.
    pub streams: Gauge,
    /// Open connections.
    pub connections: Gauge,
    /// Streams cut because their reader was too slow.
    pub streams_cut: Counter,
    /// Newest commit readable here.
    pub commit_index: Gauge,
    /// Calls to a validator that failed and went on to the next.
    pub failovers: Counter,
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            requests: Family::default(),
            finality_seconds: Histogram::new(exponential_buckets(0.01, 1.6, 18)),
            recent_finality: crate::core::recent::RecentFinality::default(),
            batch_transactions: Histogram::new(exponential_buckets(1.0, 2.0, 10)),
            queue_transactions: Gauge::default(),
            queue_bytes: Gauge::default(),
            tracked_transactions: Gauge::default(),
            streams: Gauge::default(),
            connections: Gauge::default(),
            streams_cut: Counter::default(),
            commit_index: Gauge::default(),
            failovers: Counter::default(),
        }
    }
}

impl Metrics {
    /// Registers everything in a registry that adds the prefix.
    pub fn register(&self, registry: &mut Registry) {
        registry.register("requests", "Requests by transport, method and code", self.requests.clone());
        registry.register("finality_seconds", "From hand-over to readable commit", self.finality_seconds.clone());
        registry.register("batch_transactions", "Transactions of one call to a validator", self.batch_transactions.clone());
        registry.register("queue_transactions", "Transactions waiting to be handed over", self.queue_transactions.clone());
        registry.register("queue_bytes", "Bytes waiting to be handed over", self.queue_bytes.clone());
        registry.register("tracked_transactions", "Transactions on their way", self.tracked_transactions.clone());
        registry.register("streams_open", "Open streams", self.streams.clone());
        registry.register("connections_open", "Open connections", self.connections.clone());
        registry.register("streams_cut", "Streams cut because their reader was too slow", self.streams_cut.clone());
        registry.register("commit_index", "Newest commit readable here", self.commit_index.clone());
        registry.register("failovers", "Calls to a validator that went on to the next", self.failovers.clone());
    }

    /// Counts a request.
    pub fn request(&self, transport: &'static str, method: &str, code: Option<ErrorCode>) {
        let labels = RequestLabels { transport, method: method.to_owned(), code: code.map_or("OK", ErrorCode::as_str) };
        self.requests.get_or_create(&labels).inc();
    }

    /// Median and 99th percentile of the last minute, in ms; zeroes without payments.
    #[must_use]
    pub fn recent_finality_ms(&self) -> (u32, u32) {
        self.recent_finality.p50_p99_ms(std::time::Instant::now())
    }

    /// Notes how long transactions took to become final.
    pub fn finality(&self, took: &[Duration]) {
        self.recent_finality.add(took, std::time::Instant::now());
        for duration in took {
            self.finality_seconds.observe(duration.as_secs_f64());
        }
    }
}

/// Counts something while it lives.
pub struct Counted(Gauge);

impl Counted {
    /// Adds one to `gauge` until dropped.
    #[must_use]
    pub fn new(gauge: &Gauge) -> Self {
        gauge.inc();
        Self(gauge.clone())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.dec();
    }
}
