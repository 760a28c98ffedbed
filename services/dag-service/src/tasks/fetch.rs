//! Asks other validators for ancestors that are missing, and for whole ranges when this validator is far behind.

use crate::core::CoreHandle;
use crate::error::DagError;
use crate::tasks::network::{Intake, Taken};
use kaldrix_dag::{FetchRequest, RangeRequest};
use kaldrix_p2p::{BlockNetwork, PeerRequest, PeerResponse};
use kaldrix_types::{BlockRef, ValidatorIndex};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// How often to look, besides being woken: this is what time-outs and retries are measured with.
const PERIOD: Duration = Duration::from_millis(50);
/// Expired and gapped transactions are looked for once per so many periods.
const SWEEP_PERIODS: u32 = 4;
const RANGE_BYTES: u32 = 4 << 20;

/// What this task needs.
pub(crate) struct Fetch {
    pub(crate) core: CoreHandle,
    pub(crate) network: Arc<dyn BlockNetwork>,
    pub(crate) intake: Intake,
    pub(crate) wake: Arc<Notify>,
}

impl Fetch {
    /// Runs until cancelled.
    ///
    /// # Errors
    /// Only when the core has stopped.
    pub(crate) async fn run(self, cancel: CancellationToken) -> Result<(), DagError> {
        let this = Arc::new(self);
        // Bounded by the synchronizer: a few requests per peer.
        let mut running = JoinSet::new();
        let mut ticks = 0u32;
        let mut timer = tokio::time::interval(PERIOD);
        timer.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
                () = cancel.cancelled() => return Ok(()),
                _ = timer.tick() => {
                    ticks = ticks.wrapping_add(1);
                    if ticks.is_multiple_of(SWEEP_PERIODS) {
                        this.core.sweep().await?;
                    }
                }
                () = this.wake.notified() => {}
                Some(_) = running.join_next() => {}
            }
            let work = this.core.fetch(this.network.connected()).await?;
            for request in work.blocks {
                let this = Arc::clone(&this);
                running.spawn(async move { this.blocks(request).await });
            }
            if let Some(request) = work.range {
                let this = Arc::clone(&this);
                running.spawn(async move { this.range(request).await });
            }
        }
    }

    async fn blocks(&self, request: FetchRequest) -> Result<(), DagError> {
        tracing::debug!(peer = %request.peer, count = request.refs.len(), "fetching missing blocks");
        let delivered = match self.network.request(request.peer, PeerRequest::Blocks(request.refs)).await {
            Ok(PeerResponse::Blocks(blocks)) => Some(self.take_all(request.peer, blocks).await.0),
            Ok(_) | Err(_) => None,
        };
        self.core.fetched(request.id, delivered).await
    }

    async fn range(&self, request: RangeRequest) -> Result<(), DagError> {
        tracing::info!(peer = %request.peer, "far behind: fetching a range of blocks");
        let ask = PeerRequest::BlocksAbove { floors: request.above, limit_bytes: RANGE_BYTES };
        let progress = match self.network.request(request.peer, ask).await {
            Ok(PeerResponse::Blocks(blocks)) => !self.take_all(request.peer, blocks).await.0.is_empty(),
            Ok(_) | Err(_) => false,
        };
        self.core.range_fetched(request.peer, progress).await?;
        self.wake.notify_one();
        Ok(())
    }

    async fn take_all(&self, peer: ValidatorIndex, blocks: Vec<bytes::Bytes>) -> (Vec<BlockRef>, bool) {
        let mut taken = Vec::with_capacity(blocks.len());
        for bytes in blocks {
            match self.intake.take(peer, bytes).await {
                Taken::In(reference) => taken.push(reference),
                // The rest of a liar's answer is not worth the work.
                Taken::Refused(Some(_)) => return (taken, false),
                Taken::Refused(None) => {}
                Taken::Stopped => break,
            }
        }
        (taken, true)
    }
}
