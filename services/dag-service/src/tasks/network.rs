//! What other validators send: blocks in, requests answered.

use crate::core::{Checked, Checkpoints, CoreHandle, EpochCell, HotState, SignatureChecks, account_of, signing_key, wall_clock_ms};
use crate::metrics::Metrics;
use async_trait::async_trait;
use bytes::Bytes;
use kaldrix_crypto::Verifier;
use kaldrix_p2p::{PeerHandler, PeerRequest, PeerResponse};
use kaldrix_storage::{StoredBlock, ValidatorStore};
use kaldrix_types::{Block, BlockError, BlockRef, Epoch, KeyId, StateKey, ValidatorIndex, VerifiedBlock, encode};
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::sync::Arc;
use tokio::sync::Notify;

/// Blocks in one answer.
const ANSWER_BLOCKS_MAX: usize = 128;
/// Bytes in one answer.
const ANSWER_BYTES_MAX: usize = 8 << 20;

/// Takes blocks from bytes to the core: verify off the core thread, add, then check the transactions' signatures while consensus goes on.
#[derive(Clone)]
pub(crate) struct Intake {
    pub(crate) epoch: Arc<EpochCell>,
    pub(crate) early: Arc<Early>,
    pub(crate) verifier: Verifier,
    pub(crate) core: CoreHandle,
    pub(crate) hot: Arc<HotState>,
    pub(crate) checks: Arc<SignatureChecks>,
    pub(crate) metrics: Arc<Metrics>,
}

/// Blocks of the next epoch that came before this validator had ended its own, and the hint that it should.
#[derive(Default)]
pub(crate) struct Early {
    waiting: Mutex<(VecDeque<(ValidatorIndex, Bytes)>, usize)>,
    /// Somebody is in a later epoch.
    pub(crate) hint: Notify,
}

impl Early {
    const BLOCKS_MAX: usize = 512;
    const BYTES_MAX: usize = 32 << 20;

    fn keep(&self, from: ValidatorIndex, bytes: Bytes) {
        let mut waiting = self.waiting.lock();
        waiting.1 += bytes.len();
        waiting.0.push_back((from, bytes));
        // What is dropped here is fetched later like any missing ancestor.
        while waiting.0.len() > Self::BLOCKS_MAX || waiting.1 > Self::BYTES_MAX {
            let Some((_, old)) = waiting.0.pop_front() else { break };
            waiting.1 -= old.len();
        }
    }

    fn take(&self) -> VecDeque<(ValidatorIndex, Bytes)> {
        std::mem::take(&mut *self.waiting.lock()).0
    }
}

/// What became of received bytes.
pub(crate) enum Taken {
    /// In the DAG, waiting for its parents, or there already.
    In(BlockRef),
    /// Not taken; when it is the sender's fault, this says why.
    Refused(Option<String>),
    /// The service is stopping.
    Stopped,
}

/// What checking a block's bytes led to.
enum Examined {
    Block(Box<VerifiedBlock>),
    /// Of this chain, but of another epoch than the running one: nobody's fault.
    OtherEpoch {
        is_later: bool,
    },
    Refused(BlockError),
}

impl Intake {
    /// Takes in what came too early, now that its epoch may have begun.
    pub(crate) async fn take_early(&self) {
        for (from, bytes) in self.early.take() {
            // What is still too early is kept again.
            self.take(from, bytes).await;
        }
    }

    /// What a block is called, if it is a valid one; the DAG is not touched.
    pub(crate) async fn name(&self, bytes: Bytes) -> Option<BlockRef> {
        if let Examined::Block(block) = self.examine(bytes).await? { Some(block.reference()) } else { None }
    }

    /// Off the core thread; `None` when the runtime is stopping.
    async fn examine(&self, bytes: Bytes) -> Option<Examined> {
        let (committee, verifier, now_ms) = (self.epoch.get().committee, self.verifier.clone(), wall_clock_ms());
        let work = move || {
            let block = match Block::decode(&bytes) {
                Ok(block) => block,
                Err(error) => return Examined::Refused(error),
            };
            let epoch: Epoch = block.header.epoch;
            if block.header.chain_id == committee.chain() && epoch != committee.epoch() {
                return Examined::OtherEpoch { is_later: epoch > committee.epoch() };
            }
            match block.verify(&committee, &verifier, now_ms) {
                Ok(block) => Examined::Block(Box::new(block)),
                Err(error) => Examined::Refused(error),
            }
        };
        tokio::task::spawn_blocking(work).await.ok()
    }

    /// Decodes, verifies and adds one block. Returns when its signatures are checked, which is what holds a fast sender back.
    pub(crate) async fn take(&self, from: ValidatorIndex, bytes: Bytes) -> Taken {
        self.metrics.blocks_received.inc();
        let block = match self.examine(bytes.clone()).await {
            Some(Examined::Block(block)) => Arc::new(*block),
            Some(Examined::OtherEpoch { is_later }) => {
                if is_later {
                    self.early.keep(from, bytes);
                    self.early.hint.notify_one();
                }
                return Taken::Refused(None);
            }
            Some(Examined::Refused(error)) => {
                self.metrics.blocks_refused.inc();
                // A clock that is ahead is not malice: the block is fetched again when its time has come.
                let fault = !matches!(error, BlockError::FromTheFuture { .. });
                tracing::warn!(%from, %error, "a block was refused");
                return Taken::Refused(fault.then(|| error.to_string()));
            }
            None => return Taken::Stopped,
        };
        let reference = block.reference();
        let owed = (!block.transactions().is_empty()).then(|| self.checks.begin(reference));
        match self.core.add_block(from, Arc::clone(&block)).await {
            Ok(Ok(())) => {}
            Ok(Err(refused)) => {
                let fault = refused.is_peer_fault();
                if fault {
                    self.metrics.blocks_refused.inc();
                    tracing::warn!(%from, %reference, %refused, "a block was refused");
                }
                match owed {
                    // A duplicate's result is owed by whoever brought it first.
                    Some(owed) if matches!(refused, kaldrix_dag::Refused::Duplicate) => owed.forgo(),
                    Some(_) => self.checks.forget(&reference),
                    None => {}
                }
                return if fault { Taken::Refused(Some(refused.to_string())) } else { Taken::In(reference) };
            }
            Err(_) => return Taken::Stopped,
        }
        if let Some(owed) = owed {
            owed.pay(self.check_signatures(block).await);
        }
        Taken::In(reference)
    }

    /// Verifies the transactions of a block under the keys that the state names now; the executor settles what this cannot.
    async fn check_signatures(&self, block: Arc<VerifiedBlock>) -> Checked {
        let unknown: Vec<StateKey> = block
            .transactions()
            .iter()
            .filter(|tx| self.checks.recall(&tx.leaf()).is_none())
            .map(|tx| StateKey::Account(tx.body().sender))
            .collect();
        let state = self.hot.peek(&unknown).await.unwrap_or_default();
        let (verifier, checks) = (self.verifier.clone(), Arc::clone(&self.checks));
        let work = move || -> Checked {
            let check = |tx: &kaldrix_types::DecodedTransaction| -> Option<KeyId> {
                if let Some(key) = checks.recall(&tx.leaf()) {
                    return Some(key);
                }
                let key = signing_key(tx, account_of(&state, tx.body().sender)).ok()?;
                verifier.verify_transaction(tx, key).ok()?;
                Some(key.id())
            };
            block.transactions().iter().map(check).collect::<Vec<_>>().into()
        };
        tokio::task::spawn_blocking(work).await.unwrap_or_else(|_| Arc::new([]))
    }
}

/// Answers other validators.
pub(crate) struct Handler {
    pub(crate) intake: Intake,
    pub(crate) store: Arc<dyn ValidatorStore>,
    pub(crate) checkpoints: Arc<Checkpoints>,
}

#[async_trait]
impl PeerHandler for Handler {
    async fn on_block(&self, from: ValidatorIndex, block: Bytes) {
        if let Taken::Refused(Some(what)) = self.intake.take(from, block).await {
            self.on_garbage(Some(from), &what);
        }
    }

    async fn on_request(&self, from: ValidatorIndex, request: PeerRequest) -> PeerResponse {
        match request {
            PeerRequest::Blocks(refs) => self.answer_blocks(refs).await,
            PeerRequest::BlocksAbove { floors, limit_bytes } => {
                let limit = (limit_bytes as usize).min(ANSWER_BYTES_MAX);
                match self.store.blocks_above(&floors, limit).await {
                    Ok(blocks) => PeerResponse::Blocks(blocks.into_iter().filter(is_signed).map(|b| b.bytes).collect()),
                    Err(error) => refused(from, &error),
                }
            }
            PeerRequest::LastOwnBlock(author) => match self.intake.core.last_block(author).await {
                Ok(block) => PeerResponse::Blocks(block.iter().map(|b| encode(b.block()).into()).collect()),
                Err(error) => refused(from, &error),
            },
            request => match super::serve::answer(&self.store, &self.checkpoints, request).await {
                Ok(answer) => answer,
                Err(error) => refused(from, &error),
            },
        }
    }

    fn on_garbage(&self, from: Option<ValidatorIndex>, what: &str) {
        self.intake.metrics.blocks_refused.inc();
        match from {
            Some(validator) => tracing::warn!(from = validator.0, what, "a peer sent something unacceptable"),
            // Whoever reaches the port, for instance a new validator that is not registered yet: nothing for an operator to do.
            None => tracing::info!(what, "a stranger was refused"),
        }
    }
}

/// An own proposal is stored before it is signed, and stays so when its round was left out: to others it does not exist.
fn is_signed(stored: &StoredBlock) -> bool {
    !stored.own || Block::decode(&stored.bytes).is_ok_and(|block| !block.signature.is_empty())
}

fn refused(from: ValidatorIndex, error: &dyn std::error::Error) -> PeerResponse {
    tracing::warn!(%from, %error, "a request of a peer cannot be answered now");
    PeerResponse::Refused("not available at the moment".to_owned())
}

impl Handler {
    /// From memory where they are, else from the store; what is nowhere is left out.
    async fn answer_blocks(&self, mut refs: Vec<BlockRef>) -> PeerResponse {
        refs.truncate(ANSWER_BLOCKS_MAX);
        let in_memory = self.intake.core.blocks(refs.clone()).await.unwrap_or_default();
        let missing: Vec<BlockRef> = refs.iter().zip(&in_memory).filter(|(_, b)| b.is_none()).map(|(r, _)| *r).collect();
        let stored = if missing.is_empty() { Vec::new() } else { self.store.blocks(&missing).await.unwrap_or_default() };
        let from_memory = in_memory.into_iter().flatten().map(|b| Bytes::from(encode(b.block())));
        let mut size = 0;
        let blocks = from_memory
            .chain(stored.into_iter().flatten().filter(is_signed).map(|b| b.bytes))
            .take_while(|bytes| {
                let fits = size == 0 || size + bytes.len() <= ANSWER_BYTES_MAX;
                size += bytes.len();
                fits
            })
            .collect();
        PeerResponse::Blocks(blocks)
    }
}
