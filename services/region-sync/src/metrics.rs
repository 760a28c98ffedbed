//! Metrics of the service, all named `kaldrix_region_sync_…`.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

/// Handles to count with; cloning gives handles to the same metrics.
#[derive(Clone, Debug)]
pub struct Metrics {
    /// `commit_index`: the last commit that can be read.
    pub commit_index: Gauge,
    /// `lag_ms`: wall clock less consensus time of that commit when it became readable.
    pub lag_ms: Gauge,
    /// `transactions_total`: transactions that were projected, repeats and discarded ones included.
    pub transactions: Counter,
    /// `batch_commits`: commits per write.
    pub batch_commits: Histogram,
    /// `batch_transactions`: transactions per write.
    pub batch_transactions: Histogram,
    /// `apply_ms`: how long a write took.
    pub apply_ms: Histogram,
    /// `apply_retries_total`: writes tried again because the store was busy or full.
    pub apply_retries: Counter,
    /// `buffered_commits`: received and not yet written.
    pub buffered_commits: Gauge,
    /// `source_connected`: 1 while commits are coming in.
    pub source_connected: Gauge,
    /// `source_failures_total`: streams from a dag-service that broke or could not be opened.
    pub source_failures: Counter,
    /// `subscribers`: who is told of commits.
    pub subscribers: Gauge,
    /// `subscribers_cut_total`: who was cut because it did not keep up.
    pub subscribers_cut: Counter,
}

impl Metrics {
    /// Makes the metrics and names them in `registry`, whose prefix is the service's.
    #[must_use]
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self {
            commit_index: Gauge::default(),
            lag_ms: Gauge::default(),
            transactions: Counter::default(),
            batch_commits: Histogram::new(exponential_buckets(1.0, 2.0, 8)),
            batch_transactions: Histogram::new(exponential_buckets(1.0, 4.0, 8)),
            apply_ms: Histogram::new(exponential_buckets(0.5, 2.0, 14)),
            apply_retries: Counter::default(),
            buffered_commits: Gauge::default(),
            source_connected: Gauge::default(),
            source_failures: Counter::default(),
            subscribers: Gauge::default(),
            subscribers_cut: Counter::default(),
        };
        let m = metrics.clone();
        registry.register("commit_index", "Last commit that can be read in this region", m.commit_index);
        registry.register("lag_ms", "Wall clock less consensus time of the last commit when it became readable", m.lag_ms);
        registry.register("transactions", "Transactions projected, repeats and discarded ones included", m.transactions);
        registry.register("batch_commits", "Commits per write", m.batch_commits);
        registry.register("batch_transactions", "Transactions per write", m.batch_transactions);
        registry.register("apply_ms", "Duration of a write in milliseconds", m.apply_ms);
        registry.register("apply_retries", "Writes tried again because the store was busy or full", m.apply_retries);
        registry.register("buffered_commits", "Commits received and not yet written", m.buffered_commits);
        registry.register("source_connected", "1 while commits are coming in", m.source_connected);
        registry.register("source_failures", "Streams from a dag-service that broke or could not be opened", m.source_failures);
        registry.register("subscribers", "Subscribers that are told of commits", m.subscribers);
        registry.register("subscribers_cut", "Subscribers cut because they did not keep up", m.subscribers_cut);
        metrics
    }
}
