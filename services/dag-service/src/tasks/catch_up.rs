//! Fetches a certified snapshot from the other validators: carries out what the pure [`CatchUp`] asks for.

use crate::error::DagError;
use crate::recovery::Identity;
use kaldrix_checkpoint::{CatchUp, CatchUpAnswer, CatchUpAsk, CatchUpConfig, CatchUpOutcome, CatchUpRequest, EpochChain, Installed};
use kaldrix_crypto::Verifier;
use kaldrix_p2p::{BlockNetwork, CHECKPOINTS_MAX, PeerName, PeerRequest, PeerResponse, Role, STATE_PAGE_RECORDS_MAX};
use kaldrix_storage::{Snapshot, ValidatorStore};
use kaldrix_types::{CertifiedCheckpoint, CommitIndex, KeyId};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// How often to look besides being answered.
const PERIOD: Duration = Duration::from_millis(100);
const LOG_PERIOD: Duration = Duration::from_secs(5);

/// What this needs.
pub(crate) struct CatchUpTask {
    pub(crate) identity: Arc<Identity>,
    pub(crate) store: Arc<dyn ValidatorStore>,
    pub(crate) network: Arc<dyn BlockNetwork>,
    pub(crate) verifier: Verifier,
}

impl CatchUpTask {
    /// A snapshot that is newer than commit `last`; `None` when nobody has one, or nobody honest answers.
    pub(crate) async fn fetch(&self, last: CommitIndex, cancel: &CancellationToken) -> Result<Option<Snapshot>, DagError> {
        let mut known = self.store.epoch_ends(0, usize::MAX, usize::MAX).await?;
        let chain = match known.last() {
            Some(end) => EpochChain::after(end.checkpoint.clone()),
            None => EpochChain::from_genesis(&self.identity.genesis),
        };
        let chain = chain.map_err(|e| DagError::Config(e.to_string()))?;
        let parameters = &self.identity.genesis.parameters;
        let config = CatchUpConfig {
            gc_depth: self.identity.gc_depth,
            leaders_per_round: parameters.leaders_per_round,
            page_records: STATE_PAGE_RECORDS_MAX,
            ..CatchUpConfig::default()
        };
        let peers = self.network.connected_peers().into_iter().filter(|p| p.dialed || p.role != Role::Guest).map(|p| p.key);
        let machine = CatchUp::new(config, chain, last, peers, 0);
        let installed = tokio::select! {
            () = cancel.cancelled() => None,
            installed = self.drive(machine) => installed,
        };
        let Some(installed) = installed else { return Ok(None) };
        known.extend(installed.checkpoints().cloned());
        Ok(Some(snapshot(*installed, known)))
    }

    async fn drive(&self, mut machine: CatchUp<KeyId>) -> Option<Box<Installed>> {
        let started = Instant::now();
        let now_ms = || u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
        let mut asking: JoinSet<(u64, CatchUpAnswer)> = JoinSet::new();
        let mut logged = Instant::now();
        loop {
            for CatchUpAsk { id, peer, request } in machine.poll(now_ms()) {
                let network = Arc::clone(&self.network);
                asking.spawn(async move { (id, ask(&network, peer, request).await) });
            }
            for (peer, fault) in machine.given_up() {
                tracing::warn!(%peer, %fault, "a peer is no help in catching up");
            }
            match machine.outcome() {
                Some(CatchUpOutcome::Installed(installed)) => return Some(installed),
                Some(CatchUpOutcome::NothingNewer) => return None,
                Some(CatchUpOutcome::Failed) => {
                    tracing::warn!("no connected validator could help in catching up; trying again later");
                    return None;
                }
                None => {}
            }
            if logged.elapsed() > LOG_PERIOD {
                logged = Instant::now();
                tracing::info!(progress = ?machine.progress(), "catching up");
            }
            tokio::select! {
                Some(Ok((id, answer))) = asking.join_next() => machine.answer(id, answer, now_ms(), &self.verifier),
                () = tokio::time::sleep(PERIOD) => {}
            }
        }
    }
}

async fn ask(network: &Arc<dyn BlockNetwork>, peer: KeyId, request: CatchUpRequest) -> CatchUpAnswer {
    let request = match request {
        CatchUpRequest::Checkpoints { from_index, epoch_ends_only, limit } => {
            PeerRequest::Checkpoints { from_index, epoch_ends_only, limit: limit.min(CHECKPOINTS_MAX) }
        }
        CatchUpRequest::StatePage { after, limit } => PeerRequest::StatePage { after, limit: limit.min(STATE_PAGE_RECORDS_MAX) },
        CatchUpRequest::Executed { from, limit_bytes } => PeerRequest::Executed { from, limit_bytes },
        CatchUpRequest::ExecutedPart { index, offset } => PeerRequest::ExecutedPart { index, offset },
    };
    match network.ask(PeerName::Key(peer), request).await {
        Ok(PeerResponse::Checkpoints(items)) => CatchUpAnswer::Checkpoints(items),
        Ok(PeerResponse::StatePage { at, records, is_last }) => CatchUpAnswer::StatePage { at, records, is_last },
        Ok(PeerResponse::Executed(items)) => CatchUpAnswer::Executed(items),
        Ok(PeerResponse::Part { total_bytes, bytes }) => CatchUpAnswer::Part { total_bytes, bytes },
        Ok(PeerResponse::Blocks(_) | PeerResponse::Refused(_)) | Err(_) => CatchUpAnswer::Refused,
    }
}

fn snapshot(installed: Installed, checkpoints: Vec<CertifiedCheckpoint>) -> Snapshot {
    let Installed { records, executed, .. } = installed;
    Snapshot { records: Box::new(records.into_iter()), executed, checkpoints }
}
