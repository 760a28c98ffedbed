//! Typed commands to the core thread and their replies.

use super::epoch::EpochView;
use crate::error::DagError;
use bytes::Bytes;
use kaldrix_dag::{AddError, ExecutedNotice, FetchWork, NodeStatus, Refused, RejoinAnswer, RequestId};
use kaldrix_proto::consensus::HeaderEntry;
use kaldrix_types::{
    BlockRef, Checkpoint, Commit, CommitIndex, DecodedTransaction, Digest, Epoch, RejectCode, Round, Sequence, TimestampMs, TxId,
    ValidatorIndex, VerifiedBlock,
};
use std::sync::Arc;
use tokio::sync::{mpsc, oneshot};

/// A transaction whose signature holds, on its way into the mempool.
pub(crate) struct Entry {
    pub(crate) tx: Arc<DecodedTransaction>,
    /// What the executed state expects next in its lane.
    pub(crate) next_sequence: Sequence,
    /// W3C traceparent of the request that brought it; empty when untraced.
    pub(crate) traceparent: String,
}

/// What consensus-service is told.
pub(crate) enum Upward {
    Header(HeaderEntry),
    Pending(bool),
}

/// Everything a new consensus session begins with; what comes later goes into the sink.
pub(crate) struct Replay {
    pub(crate) epoch: EpochView,
    /// The last commit that was taken in, of this epoch or the one before.
    pub(crate) last_commit: Option<Commit>,
    pub(crate) headers: Vec<HeaderEntry>,
    pub(crate) own_last_round: Round,
}

/// Where the core goes on: at the start of an epoch, or where a snapshot ends.
pub(crate) struct NewEpoch {
    pub(crate) epoch: EpochView,
    pub(crate) last_commit: Option<Commit>,
    /// Blocks of the epoch that are in the store.
    pub(crate) blocks: Vec<Arc<VerifiedBlock>>,
    /// Those that a commit holds.
    pub(crate) committed: Vec<BlockRef>,
    /// This validator's newest own block in the epoch.
    pub(crate) last_own: Option<BlockRef>,
}

/// Where a transaction of this validator's mempool is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PendingState {
    Unknown,
    Queued,
    Included,
    Dropped(RejectCode),
}

/// For status lines.
#[derive(Clone, Debug)]
pub(crate) struct CoreStatus {
    pub(crate) node: NodeStatus,
    pub(crate) epoch: Epoch,
    pub(crate) has_seat: bool,
    /// Index, digest and time of the last commit that was taken in.
    pub(crate) last_commit: (CommitIndex, Digest, TimestampMs),
    pub(crate) executed_transactions: u64,
}

/// What the core thread is asked or told.
pub(crate) enum Command {
    AddBlock { from: ValidatorIndex, block: Arc<VerifiedBlock>, reply: oneshot::Sender<Result<(), Refused>> },
    AddTransactions { entries: Vec<Entry>, reply: oneshot::Sender<Vec<Result<(), AddError>>> },
    Propose { round: Round },
    OwnBlock { block: Arc<VerifiedBlock>, bytes: Bytes },
    ProposalRefused { round: Round, transactions: Vec<DecodedTransaction> },
    Committed { commit: Commit, reply: oneshot::Sender<Option<Vec<Arc<VerifiedBlock>>>> },
    Executed { notice: ExecutedNotice, checkpoint: Option<Checkpoint> },
    TakeTraces { ids: Vec<TxId>, reply: oneshot::Sender<Vec<(u32, String)>> },
    Replay { sink: mpsc::Sender<Upward>, reply: oneshot::Sender<Replay> },
    Fetch { connected: Vec<ValidatorIndex>, reply: oneshot::Sender<FetchWork> },
    Fetched { request: RequestId, blocks: Option<Vec<BlockRef>> },
    RangeFetched { peer: ValidatorIndex, progress: bool },
    Blocks { refs: Vec<BlockRef>, reply: oneshot::Sender<Vec<Option<Arc<VerifiedBlock>>>> },
    LastBlock { author: ValidatorIndex, reply: oneshot::Sender<Option<Arc<VerifiedBlock>>> },
    OwnRound { round: Round },
    Rejoin { answers: Vec<RejoinAnswer>, reply: oneshot::Sender<bool> },
    Pending { ids: Vec<TxId>, reply: oneshot::Sender<Vec<PendingState>> },
    Status { reply: oneshot::Sender<CoreStatus> },
    Sweep,
    Checkpoint(Box<Checkpoint>),
    BeginEpoch { next: Box<NewEpoch>, reply: oneshot::Sender<()> },
}

/// The only way to the core thread. Cheap to clone.
#[derive(Clone)]
pub(crate) struct CoreHandle {
    commands: mpsc::Sender<Command>,
}

impl CoreHandle {
    pub(crate) const fn new(commands: mpsc::Sender<Command>) -> Self {
        Self { commands }
    }

    async fn tell(&self, command: Command) -> Result<(), DagError> {
        self.commands.send(command).await.map_err(|_| DagError::Stopped)
    }

    async fn ask<T>(&self, make: impl FnOnce(oneshot::Sender<T>) -> Command) -> Result<T, DagError> {
        let (reply, answer) = oneshot::channel();
        self.tell(make(reply)).await?;
        answer.await.map_err(|_| DagError::Stopped)
    }

    pub(crate) async fn add_block(&self, from: ValidatorIndex, block: Arc<VerifiedBlock>) -> Result<Result<(), Refused>, DagError> {
        self.ask(|reply| Command::AddBlock { from, block, reply }).await
    }

    pub(crate) async fn add_transactions(&self, entries: Vec<Entry>) -> Result<Vec<Result<(), AddError>>, DagError> {
        self.ask(|reply| Command::AddTransactions { entries, reply }).await
    }

    pub(crate) async fn propose(&self, round: Round) -> Result<(), DagError> {
        self.tell(Command::Propose { round }).await
    }

    /// `bytes` is the block as it is sent and stored.
    pub(crate) async fn own_block(&self, block: Arc<VerifiedBlock>, bytes: Bytes) -> Result<(), DagError> {
        self.tell(Command::OwnBlock { block, bytes }).await
    }

    /// The round is left out; its transactions wait for another block.
    pub(crate) async fn proposal_refused(&self, round: Round, transactions: Vec<DecodedTransaction>) -> Result<(), DagError> {
        self.tell(Command::ProposalRefused { round, transactions }).await
    }

    /// The commit's blocks, or `None` when one is not here.
    pub(crate) async fn committed(&self, commit: Commit) -> Result<Option<Vec<Arc<VerifiedBlock>>>, DagError> {
        self.ask(|reply| Command::Committed { commit, reply }).await
    }

    /// A commit was executed, and perhaps closed a checkpoint.
    pub(crate) async fn executed(&self, notice: ExecutedNotice, checkpoint: Option<Checkpoint>) -> Result<(), DagError> {
        self.tell(Command::Executed { notice, checkpoint }).await
    }

    /// A checkpoint of before the start that still needs this validator's vote.
    pub(crate) async fn checkpoint(&self, checkpoint: Checkpoint) -> Result<(), DagError> {
        self.tell(Command::Checkpoint(Box::new(checkpoint))).await
    }

    /// Returns when the core goes on there.
    pub(crate) async fn begin_epoch(&self, next: NewEpoch) -> Result<(), DagError> {
        self.ask(|reply| Command::BeginEpoch { next: Box::new(next), reply }).await
    }

    /// Removes and returns the traces of those transactions that came in here: (position in `ids`, traceparent).
    pub(crate) async fn take_traces(&self, ids: Vec<TxId>) -> Result<Vec<(u32, String)>, DagError> {
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        self.ask(|reply| Command::TakeTraces { ids, reply }).await
    }

    pub(crate) async fn replay(&self, sink: mpsc::Sender<Upward>) -> Result<Replay, DagError> {
        self.ask(|reply| Command::Replay { sink, reply }).await
    }

    pub(crate) async fn fetch(&self, connected: Vec<ValidatorIndex>) -> Result<FetchWork, DagError> {
        self.ask(|reply| Command::Fetch { connected, reply }).await
    }

    /// A fetch ended: with these blocks, or `None` when it failed.
    pub(crate) async fn fetched(&self, request: RequestId, blocks: Option<Vec<BlockRef>>) -> Result<(), DagError> {
        self.tell(Command::Fetched { request, blocks }).await
    }

    pub(crate) async fn range_fetched(&self, peer: ValidatorIndex, progress: bool) -> Result<(), DagError> {
        self.tell(Command::RangeFetched { peer, progress }).await
    }

    pub(crate) async fn blocks(&self, refs: Vec<BlockRef>) -> Result<Vec<Option<Arc<VerifiedBlock>>>, DagError> {
        self.ask(|reply| Command::Blocks { refs, reply }).await
    }

    pub(crate) async fn last_block(&self, author: ValidatorIndex) -> Result<Option<Arc<VerifiedBlock>>, DagError> {
        self.ask(|reply| Command::LastBlock { author, reply }).await
    }

    /// This validator may have signed up to `round`: proposes only above it.
    pub(crate) async fn own_round(&self, round: Round) -> Result<(), DagError> {
        self.tell(Command::OwnRound { round }).await
    }

    /// Whether these answers say enough for this validator to propose.
    pub(crate) async fn rejoin(&self, answers: Vec<RejoinAnswer>) -> Result<bool, DagError> {
        self.ask(|reply| Command::Rejoin { answers, reply }).await
    }

    pub(crate) async fn pending(&self, ids: Vec<TxId>) -> Result<Vec<PendingState>, DagError> {
        self.ask(|reply| Command::Pending { ids, reply }).await
    }

    pub(crate) async fn status(&self) -> Result<CoreStatus, DagError> {
        self.ask(|reply| Command::Status { reply }).await
    }

    pub(crate) async fn sweep(&self) -> Result<(), DagError> {
        self.tell(Command::Sweep).await
    }
}
