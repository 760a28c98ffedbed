//! Notices that the others are ahead: in a later epoch, or further than block by block can catch up with.
//!
//! Whatever a peer says about that is certified by a quorum, through the committees of all epochs between, or it is not believed. So one
//! honest peer is enough to get on, and no number of lying ones can lead this validator astray.

use crate::core::{CoreHandle, EpochCell, EpochView};
use crate::error::DagError;
use crate::recovery::Identity;
use crate::tasks::execute::Finding;
use crate::tasks::network::Early;
use kaldrix_crypto::Verifier;
use kaldrix_p2p::{BlockNetwork, CHECKPOINTS_MAX, PeerName, PeerRequest, PeerResponse, Role};
use kaldrix_storage::ValidatorStore;
use kaldrix_types::{CertifiedCheckpoint, CommitIndex, KeyId, decode};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

const PERIOD: Duration = Duration::from_secs(1);
/// Without a commit for so long something is wrong here or everywhere.
const STALLED: Duration = Duration::from_secs(3);
/// More commits than this are taken over as a snapshot; fewer come with their blocks.
const FAR_COMMITS: u64 = 400;
/// The same for one that stalls: the blocks it lacks may be deleted everywhere.
const FAR_COMMITS_STALLED: u64 = 20;
const CHECKPOINT_BYTES_MAX: usize = 8 << 20;

/// What this task needs.
pub(crate) struct Follow {
    pub(crate) identity: Arc<Identity>,
    pub(crate) epoch: Arc<EpochCell>,
    pub(crate) store: Arc<dyn ValidatorStore>,
    pub(crate) network: Arc<dyn BlockNetwork>,
    pub(crate) verifier: Verifier,
    pub(crate) core: CoreHandle,
    pub(crate) early: Arc<Early>,
    pub(crate) findings: mpsc::Sender<Finding>,
    pub(crate) turn: usize,
}

/// What a peer proved.
struct Proven {
    newest: CertifiedCheckpoint,
    /// The end of this validator's epoch, if it is over.
    end: Option<CertifiedCheckpoint>,
    /// Whether this validator has a seat where `newest` leads to.
    has_seat: bool,
}

impl Follow {
    /// Runs until cancelled.
    ///
    /// # Errors
    /// Only when the core or the executor has stopped.
    pub(crate) async fn run(mut self, cancel: CancellationToken) -> Result<(), DagError> {
        let (mut seen, mut since) = (0, Instant::now());
        loop {
            let hinted = tokio::select! {
                biased;
                () = cancel.cancelled() => return Ok(()),
                () = self.early.hint.notified() => true,
                () = tokio::time::sleep(PERIOD) => false,
            };
            let last = self.core.status().await?.last_commit.0;
            if last != seen {
                (seen, since) = (last, Instant::now());
            }
            let stalled = since.elapsed() >= STALLED;
            if hinted || stalled || !self.epoch.get().has_seat() {
                self.look(last, stalled).await?;
                // A burst of blocks of a later epoch asks once.
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
    }

    /// Once at the start with an empty store, before anything is proposed: asks until a peer has answered.
    ///
    /// # Errors
    /// Only when the core or the executor has stopped.
    pub(crate) async fn before_start(&mut self) -> Result<(), DagError> {
        while !self.look(0, false).await? {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Ok(())
    }

    /// Asks the next peer. Returns whether it answered, with something that holds or with nothing.
    async fn look(&mut self, last: CommitIndex, stalled: bool) -> Result<bool, DagError> {
        let peers: Vec<_> = self.network.connected_peers().into_iter().filter(|p| p.dialed || p.role != Role::Guest).collect();
        if peers.is_empty() {
            return Ok(false);
        }
        self.turn = self.turn.wrapping_add(1);
        let peer = &peers[self.turn % peers.len()];
        let epoch = self.epoch.get();
        let proven = match self.ask(peer.key, &epoch).await {
            Ok(Some(proven)) => proven,
            Ok(None) => return Ok(true),
            Err(reason) => {
                tracing::warn!(peer = peer.name, reason, "a peer's checkpoints cannot be used");
                return Ok(false);
            }
        };
        let ahead = proven.newest.checkpoint.last_commit.saturating_sub(last);
        let limit = if stalled { FAR_COMMITS_STALLED } else { FAR_COMMITS };
        // Nobody sends blocks of an epoch that is over: one that cannot get on with what it has, or has nothing, does not wait for them.
        // The newest certificate may be of the very checkpoint that ended this validator's epoch.
        let is_stuck = (stalled || last == 0) && ahead > 0 && proven.end.is_some();
        if ahead > limit || is_stuck || (proven.has_seat && !epoch.has_seat()) {
            tracing::info!(ahead, "the others are far ahead: taking over a certified snapshot");
            let (reply, done) = oneshot::channel();
            self.findings.send(Finding::FarBehind(reply)).await.map_err(|_| DagError::Stopped)?;
            done.await.map_err(|_| DagError::Stopped)?;
        } else if let Some(end) = proven.end {
            self.findings.send(Finding::Certified(Box::new(end))).await.map_err(|_| DagError::Stopped)?;
        }
        Ok(true)
    }

    /// The peer's newest certified checkpoint, if it has any, checked from this validator's epoch on.
    async fn ask(&self, peer: KeyId, epoch: &EpochView) -> Result<Option<Proven>, String> {
        let newest = self.checkpoints(peer, 0, false, 1).await?.pop();
        let Some(newest) = newest.filter(|c| c.checkpoint.epoch >= epoch.committee.epoch()) else { return Ok(None) };
        let (mut committee, mut end) = (Arc::clone(&epoch.committee), None);
        if newest.checkpoint.epoch > committee.epoch() {
            let own = self.store.last_certified().await.map_err(|e| e.to_string())?.map_or(0, |c| c.checkpoint.index);
            for link in self.checkpoints(peer, own + 1, true, CHECKPOINTS_MAX).await? {
                if link.checkpoint.epoch < committee.epoch() {
                    continue;
                }
                link.verify(&committee, &self.verifier).map_err(|e| e.to_string())?;
                let next = link.checkpoint.next_committee().ok_or("a checkpoint without the next committee")?;
                committee = Arc::new(next.map_err(|e| e.to_string())?);
                end.get_or_insert(link);
                if committee.epoch() == newest.checkpoint.epoch {
                    break;
                }
            }
        }
        newest.verify(&committee, &self.verifier).map_err(|e| e.to_string())?;
        let leads_to = match newest.checkpoint.next_committee() {
            Some(next) => {
                if newest.checkpoint.epoch == epoch.committee.epoch() {
                    end = Some(newest.clone());
                }
                Arc::new(next.map_err(|e| e.to_string())?)
            }
            None => committee,
        };
        let has_seat = leads_to.index_of(&self.identity.name).is_some();
        Ok(Some(Proven { newest, end, has_seat }))
    }

    async fn checkpoints(
        &self,
        peer: KeyId,
        from_index: u64,
        epoch_ends_only: bool,
        limit: u32,
    ) -> Result<Vec<CertifiedCheckpoint>, String> {
        let request = PeerRequest::Checkpoints { from_index, epoch_ends_only, limit };
        match self.network.ask(PeerName::Key(peer), request).await.map_err(|e| e.to_string())? {
            PeerResponse::Checkpoints(items) => {
                items.iter().map(|bytes| decode(bytes, CHECKPOINT_BYTES_MAX)).collect::<Result<_, _>>().map_err(|e| e.to_string())
            }
            PeerResponse::Refused(why) => Err(why),
            _ => Err("an answer to another question".to_owned()),
        }
    }
}
