//! The executor: the ledger's state moves here and nowhere else.
//!
//! ```text
//!   decided ──▶ prefetch ──▶ execute ──▶ ExecutedCommit ──▶ state tree ──▶ Checkpoint? ──▶ persist (one atomic write)
//!                                                                            │ vote (core)
//!   certificate (core, or a peer) ───────────────────────────────────────────┴──▶ persist; at an epoch's end: the next epoch begins
//!   far behind (follow) ──▶ catch up: snapshot ──▶ persist ──▶ everything goes on from there
//! ```

use crate::core::{Checkpoints, CoreHandle, EpochCell, Feed, HotState, SignatureChecks};
use crate::error::DagError;
use crate::metrics::Metrics;
use crate::recovery::Identity;
use crate::tasks::catch_up::CatchUpTask;
use crate::tasks::members::Members;
use crate::tasks::network::Intake;
use crate::tasks::persist;
use kaldrix_checkpoint::CertifierEvent;
use kaldrix_crypto::Verifier;
use kaldrix_dag::ExecutedNotice;
use kaldrix_execution::{Execution, OrderedTransaction, SignatureChecker, execute_as, next_epoch, prefetch_keys};
use kaldrix_storage::ValidatorStore;
use kaldrix_types::{
    BlockVerifier, CertifiedCheckpoint, Commit, CommitIndex, DecodedTransaction, Digest, EpochRecord, ExecutedCommit, NextEpoch, PublicKey,
    RejectCode, StateKey, StateValue, VerifiedBlock,
};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

/// Blocks are deleted this many rounds behind garbage collection: until then, peers that were away catch up block by block.
const PRUNE_DISTANCE_ROUNDS: u64 = 2_000;
/// How often blocks are deleted, in commits, and how many at a time.
const PRUNE_PERIOD_COMMITS: u64 = 16;
const PRUNE_BLOCKS: usize = 128;

/// A commit with its blocks, in the commit's order.
pub(crate) struct Decided {
    pub(crate) commit: Commit,
    pub(crate) blocks: Vec<Arc<VerifiedBlock>>,
}

/// What others find out that the executor has to act on.
pub(crate) enum Finding {
    /// A certificate that a peer sent; its signatures hold.
    Certified(Box<CertifiedCheckpoint>),
    /// This validator is too far behind to catch up block by block. Answered when it has caught up, or could not.
    FarBehind(oneshot::Sender<bool>),
}

/// What this task needs.
pub(crate) struct Execute {
    pub(crate) identity: Arc<Identity>,
    pub(crate) store: Arc<dyn ValidatorStore>,
    pub(crate) epoch: Arc<EpochCell>,
    pub(crate) checkpoints: Arc<Checkpoints>,
    pub(crate) hot: Arc<HotState>,
    pub(crate) feed: Arc<Feed>,
    pub(crate) checks: Arc<SignatureChecks>,
    pub(crate) verifier: Verifier,
    pub(crate) intake: Intake,
    pub(crate) members: Members,
    pub(crate) catch_up: CatchUpTask,
    pub(crate) core: CoreHandle,
    pub(crate) persist: mpsc::Sender<persist::Item>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) execution: Execution,
    /// Index and digest of the last executed commit.
    pub(crate) last: (CommitIndex, Digest),
    /// The certificate of the running epoch's last checkpoint, when it came before this validator had executed so far.
    pub(crate) epoch_end: Option<Box<CertifiedCheckpoint>>,
}

use kaldrix_execution::StateView as _;

struct View(HashMap<StateKey, Option<StateValue>>);

impl kaldrix_execution::StateView for View {
    fn get(&self, key: &StateKey) -> Option<StateValue> {
        self.0.get(key).cloned().flatten()
    }
}

struct Checker<'a>(&'a Verifier);

impl BlockVerifier for Checker<'_> {
    fn verify(&self, key: &PublicKey, message: &[u8], signature: &[u8]) -> bool {
        BlockVerifier::verify(self.0, key, message, signature)
    }
}

impl SignatureChecker for Checker<'_> {
    fn check(&self, tx: &DecodedTransaction, key: &PublicKey) -> Result<(), RejectCode> {
        self.0.verify_transaction(tx, key)
    }

    fn check_key(&self, key: &PublicKey) -> Result<(), RejectCode> {
        self.0.check_key(key)
    }
}

/// What comes to the executor.
pub(crate) struct Inputs {
    pub(crate) decided: mpsc::Receiver<Decided>,
    pub(crate) certified: mpsc::Receiver<CertifierEvent>,
    pub(crate) findings: mpsc::Receiver<Finding>,
}

impl Execute {
    /// Runs until cancelled or the inputs end.
    ///
    /// # Errors
    /// A store that cannot be read, or [`DagError::Diverged`].
    pub(crate) async fn run(mut self, mut inputs: Inputs, cancel: CancellationToken) -> Result<(), DagError> {
        loop {
            tokio::select! {
                biased;
                () = cancel.cancelled() => return Ok(()),
                event = inputs.certified.recv() => match event {
                    None => return Ok(()),
                    Some(CertifierEvent::Certified(certified)) => self.certified(Box::new(certified)).await?,
                    Some(CertifierEvent::Diverged { index, own, other, stake }) => return Err(DagError::Diverged { index, own, other, stake }),
                },
                finding = inputs.findings.recv() => match finding {
                    None => return Ok(()),
                    Some(Finding::Certified(certified)) => self.certified(certified).await?,
                    Some(Finding::FarBehind(reply)) => {
                        let done = self.take_over_snapshot(&cancel).await?;
                        // Whoever asked may be gone.
                        let _ = reply.send(done);
                    }
                },
                decided = inputs.decided.recv() => match decided {
                    None => return Ok(()),
                    Some(decided) => self.on_decided(decided).await?,
                },
            }
        }
    }

    async fn on_decided(&mut self, decided: Decided) -> Result<(), DagError> {
        if (decided.commit.index, decided.commit.previous) != (self.last.0 + 1, self.last.1) {
            // It was decided before a snapshot was taken over.
            return Ok(());
        }
        let started = Instant::now();
        let (index, gc_round) = (decided.commit.index, decided.commit.gc_round);
        let traces = self.core.take_traces(transaction_ids(&decided)).await?;
        let span = crate::tasks::span("execute", traces.first().map(|(_, t)| t.as_str()));
        let (executed, next, before) = self.execute(decided).instrument(span).await?;
        let executed = Arc::new(executed);
        self.last = (index, executed.commit.digest());
        let checkpoint = self.checkpoints.on_executed(&executed, next, |key| before.get(key));
        self.checks.collect(gc_round);
        self.metrics.executed(&executed, started.elapsed());
        self.core.executed(ExecutedNotice::of(&executed), checkpoint.clone()).await?;
        if Members::is_changed_by(&executed) && !executed.commit.ends_epoch {
            self.members.refresh().await;
        }
        if self.persist.send(persist::Item::Executed { executed, traces: traces.into(), checkpoint }).await.is_err() {
            return Ok(());
        }
        if let Some(end) = self.epoch_end.take() {
            self.certified(end).await?;
        }
        if index.is_multiple_of(PRUNE_PERIOD_COMMITS) {
            let below_round = gc_round.saturating_sub(PRUNE_DISTANCE_ROUNDS);
            let limit = PRUNE_BLOCKS.max(2 * PRUNE_PERIOD_COMMITS as usize * self.epoch.get().committee.size());
            let _ = self.persist.send(persist::Item::Prune { below_round, limit }).await;
        }
        Ok(())
    }

    /// The commit's effects, the committee that follows it if it ends the epoch, and the state it was executed on.
    async fn execute(&self, decided: Decided) -> Result<(ExecutedCommit, Option<NextEpoch>, View), DagError> {
        let mut transactions = Vec::new();
        for (index, block) in decided.blocks.iter().enumerate() {
            let checked = self.checks.take(&block.reference()).await;
            for (position, tx) in block.transactions().iter().enumerate() {
                let known = checked.as_ref().and_then(|c| c.get(position).copied().flatten());
                transactions.push(OrderedTransaction {
                    block: u32::try_from(index).unwrap_or(u32::MAX),
                    position: u32::try_from(position).unwrap_or(u32::MAX),
                    tx,
                    verified_with: known.or_else(|| self.checks.recall(&tx.leaf())),
                });
            }
        }
        let epoch = self.load(&[StateKey::Epoch]).await?;
        let epoch = match epoch.get(&StateKey::Epoch) {
            Some(Some(StateValue::Epoch(epoch))) => epoch.clone(),
            _ => EpochRecord::default(),
        };
        let view = View(self.load(&prefetch_keys(&decided.commit, &transactions, &epoch)).await?);
        let headers = decided.blocks.iter().map(|b| b.header().clone()).collect();
        let parameters = &self.identity.genesis.parameters;
        let executed = execute_as(self.execution, &decided.commit, headers, &transactions, parameters, &view, &Checker(&self.verifier));
        let next = next_epoch(&executed, &view);
        self.hot.apply(&executed);
        Ok((executed, next, view))
    }

    async fn load(&self, keys: &[StateKey]) -> Result<HashMap<StateKey, Option<StateValue>>, DagError> {
        let mut pause_ms = 50;
        loop {
            match self.hot.load(keys).await {
                Ok(found) => return Ok(found),
                Err(error) if error.is_retryable() => {
                    tracing::warn!(%error, "the store does not answer; execution waits for it");
                    tokio::time::sleep(Duration::from_millis(pause_ms)).await;
                    pause_ms = (pause_ms * 2).min(2_000);
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// A quorum vouches for a checkpoint. Own results are compared with it; at an epoch's end the next one begins.
    async fn certified(&mut self, certified: Box<CertifiedCheckpoint>) -> Result<(), DagError> {
        let checkpoint = &certified.checkpoint;
        if checkpoint.last_commit > self.last.0 {
            // Executed later; an epoch's end is not to be forgotten until then.
            if checkpoint.next_epoch.is_some() && checkpoint.epoch == self.epoch.get().committee.epoch() {
                self.epoch_end = Some(certified);
            }
            return Ok(());
        }
        let own = match self.checkpoints.own_digest(checkpoint.index) {
            Some(own) => Some(own),
            // Closed before the process started.
            None => self.store.checkpoint(checkpoint.index).await?.filter(|c| c.votes.is_none()).map(|c| c.checkpoint.digest()),
        };
        match own {
            // Certified before, or of a time that this validator has only as a snapshot.
            None => return Ok(()),
            Some(own) if own != checkpoint.digest() => {
                return Err(DagError::Diverged {
                    index: checkpoint.index,
                    own,
                    other: checkpoint.digest(),
                    stake: self.epoch.get().committee.quorum(),
                });
            }
            Some(_) => {}
        }
        self.checkpoints.on_certified(checkpoint.index);
        let next = self.identity.epoch_after(checkpoint)?.filter(|next| next.committee.epoch() == self.epoch.get().committee.epoch() + 1);
        if self.persist.send(persist::Item::Certified(certified)).await.is_err() {
            return Ok(());
        }
        if let Some(next) = next {
            self.flush().await?;
            let (begin, _) = self.identity.begin(&self.store, next.clone()).await?;
            self.core.begin_epoch(begin).await?;
            self.members.enter().await;
            self.intake.take_early().await;
            tracing::info!(
                epoch = next.committee.epoch(),
                validators = next.committee.size(),
                has_seat = next.has_seat(),
                start_round = next.committee.start_round(),
                "a new epoch begins"
            );
        }
        Ok(())
    }

    /// Waits until everything that was handed to the store so far is durable.
    async fn flush(&self) -> Result<(), DagError> {
        let (reply, durable) = oneshot::channel();
        self.persist.send(persist::Item::Flush(reply)).await.map_err(|_| DagError::Stopped)?;
        durable.await.map_err(|_| DagError::Stopped)
    }

    /// Replaces the state by a certified one that peers have, and goes on from there. `false` when nobody had a newer one.
    async fn take_over_snapshot(&mut self, cancel: &CancellationToken) -> Result<bool, DagError> {
        self.checkpoints.set_catching_up(true);
        let fetched = self.catch_up.fetch(self.last.0, cancel).await;
        self.checkpoints.set_catching_up(false);
        let Some(snapshot) = fetched? else { return Ok(false) };
        let (reply, installed) = oneshot::channel();
        let item = persist::Item::Install(Box::new(snapshot), reply);
        if self.persist.send(item).await.is_err() || installed.await.is_err() {
            return Err(DagError::Stopped);
        }
        let epoch = self.identity.epoch(&self.store).await?;
        let (begin, _) = self.identity.begin(&self.store, epoch.clone()).await?;
        let Some(last) = begin.last_commit.clone() else { return Ok(false) };
        self.last = (last.index, last.digest());
        self.hot.reset(&last);
        self.feed.reset(last.index);
        let newest = self.store.last_certified().await?;
        self.checkpoints.reset(self.identity.checkpoints(&self.store).await?, newest.as_ref());
        self.epoch_end = None;
        self.core.begin_epoch(begin).await?;
        self.members.enter().await;
        self.intake.take_early().await;
        tracing::info!(commit = last.index, epoch = epoch.committee.epoch(), "a certified snapshot was taken over");
        Ok(true)
    }
}

fn transaction_ids(decided: &Decided) -> Vec<kaldrix_types::TxId> {
    decided.blocks.iter().flat_map(|b| b.transactions()).map(DecodedTransaction::id).collect()
}
