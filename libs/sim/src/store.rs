//! What a validator has on its disk, and what is on the way there.

use crate::packet::Packet;
use crate::state::State;
use kaldrix_checkpoint::{CatchUpAnswer, CatchUpRequest, CheckpointBuilder, Installed, StateTree};
use kaldrix_dag::Proposal;
use kaldrix_types::{
    BlockRef, CertifiedCheckpoint, Checkpoint, Commit, CommitIndex, Digest, Epoch, ExecutedCommit, Round, StateKey, ValidatorIndex, encode,
};
use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

/// Items of one write.
const ITEMS_PER_WRITE: usize = 256;
/// Records and commits of one answer: few, so that pages and batches follow each other while the ledger goes on.
const PAGE_RECORDS: usize = 100;
const ANSWER_COMMITS: usize = 16;

/// Something to make durable, in the order in which it came.
#[derive(Clone, Debug)]
pub(crate) enum Item {
    Block {
        packet: Packet,
        own: bool,
    },
    /// An own block before it is signed.
    Proposal(Box<Proposal>),
    /// A commit, the state tree after it, and the checkpoint that it closes.
    Executed(Arc<ExecutedCommit>, StateTree, Option<Box<Checkpoint>>),
    Certified(Arc<CertifiedCheckpoint>),
    /// Takes the place of everything but blocks.
    Install(Arc<Installed>),
    /// Blocks below a round are deleted.
    Prune(Round),
}

impl Item {
    /// Somebody waits for it; others' blocks only have to be there before the next of these.
    pub(crate) const fn is_urgent(&self) -> bool {
        !matches!(self, Self::Block { .. } | Self::Prune(_))
    }
}

#[derive(Clone, Debug)]
pub(crate) enum StoredBlock {
    Signed(Packet),
    /// An own proposal that was not signed yet, as far as the store knows.
    Unsigned(Box<Proposal>),
}

impl StoredBlock {
    fn epoch(&self) -> Epoch {
        match self {
            Self::Signed(packet) => packet.header().epoch,
            Self::Unsigned(proposal) => proposal.header.epoch,
        }
    }
}

/// What is durable.
#[derive(Clone, Debug)]
pub(crate) struct Store {
    blocks: BTreeMap<BlockRef, StoredBlock>,
    own_last: Option<BlockRef>,
    /// Without gaps; the first is the chain's, or one of those that came with a snapshot.
    executed: BTreeMap<CommitIndex, Arc<ExecutedCommit>>,
    /// After the last of them.
    state: State,
    tree: StateTree,
    checkpoints: BTreeMap<u64, (Checkpoint, Option<Arc<CertifiedCheckpoint>>)>,
}

impl Store {
    /// A disk with a new chain.
    pub(crate) fn new(state: State, tree: StateTree) -> Self {
        Self { blocks: BTreeMap::new(), own_last: None, executed: BTreeMap::new(), state, tree, checkpoints: BTreeMap::new() }
    }

    pub(crate) fn write(&mut self, item: &Item) {
        match item {
            Item::Block { packet, own } => {
                let reference = packet.reference();
                self.blocks.insert(reference, StoredBlock::Signed(packet.clone()));
                if *own {
                    self.note_own(reference);
                }
            }
            Item::Proposal(proposal) => {
                let reference = proposal.header.reference();
                self.blocks.entry(reference).or_insert_with(|| StoredBlock::Unsigned(proposal.clone()));
                self.note_own(reference);
            }
            Item::Executed(executed, tree, checkpoint) => self.write_executed(executed, tree, checkpoint.as_deref()),
            Item::Certified(certified) => {
                let checkpoint = &certified.checkpoint;
                self.checkpoints.insert(checkpoint.index, (checkpoint.clone(), Some(Arc::clone(certified))));
            }
            Item::Install(installed) => self.install(installed),
            Item::Prune(below) => {
                let kept = self.blocks.split_off(&BlockRef { round: *below, author: ValidatorIndex(0), digest: Digest::ZERO });
                let own = self.own_last.and_then(|own| self.blocks.remove_entry(&own));
                self.blocks = kept;
                self.blocks.extend(own);
            }
        }
    }

    fn write_executed(&mut self, executed: &Arc<ExecutedCommit>, tree: &StateTree, checkpoint: Option<&Checkpoint>) {
        let index = executed.commit.index;
        // What was decided before a snapshot was taken over comes too late.
        if index != self.last_index() + 1 {
            return;
        }
        self.executed.insert(index, Arc::clone(executed));
        self.state.apply(executed);
        self.tree = tree.clone();
        if let Some(checkpoint) = checkpoint {
            self.checkpoints.entry(checkpoint.index).or_insert_with(|| (checkpoint.clone(), None));
        }
    }

    fn install(&mut self, installed: &Installed) {
        self.executed = installed.executed.iter().map(|e| (e.commit.index, Arc::clone(e))).collect();
        self.state = State::of_records(installed.records.clone());
        self.tree = installed.tree.clone();
        self.checkpoints.retain(|index, (_, certified)| certified.is_some() && *index < installed.checkpoint.checkpoint.index);
        for certified in installed.checkpoints() {
            self.checkpoints.insert(certified.checkpoint.index, (certified.checkpoint.clone(), Some(Arc::new(certified.clone()))));
        }
    }

    fn note_own(&mut self, reference: BlockRef) {
        if self.own_last.is_none_or(|last| last.round < reference.round) {
            self.own_last = Some(reference);
        }
    }

    fn last_index(&self) -> CommitIndex {
        self.executed.last_key_value().map_or(0, |(index, _)| *index)
    }

    pub(crate) fn last_commit(&self) -> Option<&Commit> {
        self.executed.last_key_value().map(|(_, executed)| &executed.commit)
    }

    pub(crate) const fn state(&self) -> &State {
        &self.state
    }

    pub(crate) const fn tree(&self) -> &StateTree {
        &self.tree
    }

    /// The newest checkpoint that was computed here, and the commits since.
    pub(crate) fn open_range(&self) -> (Option<&Checkpoint>, impl Iterator<Item = Arc<ExecutedCommit>>) {
        let last = self.checkpoints.last_key_value().map(|(_, (checkpoint, _))| checkpoint);
        let from = last.map_or(1, |checkpoint| checkpoint.last_commit + 1);
        (last, self.executed.range(from..).map(|(_, executed)| Arc::clone(executed)))
    }

    pub(crate) fn checkpoint(&self, index: u64) -> Option<&Checkpoint> {
        self.checkpoints.get(&index).map(|(checkpoint, _)| checkpoint)
    }

    pub(crate) fn last_certified(&self) -> Option<&CertifiedCheckpoint> {
        self.checkpoints.values().rev().find_map(|(_, certified)| certified.as_deref())
    }

    /// The certificate that ended an epoch.
    pub(crate) fn epoch_end(&self, epoch: Epoch) -> Option<&CertifiedCheckpoint> {
        self.certified().find(|c| c.checkpoint.epoch == epoch && c.checkpoint.next_epoch.is_some())
    }

    /// Checkpoints of an epoch that lack their certificate.
    pub(crate) fn uncertified(&self, epoch: Epoch) -> impl Iterator<Item = &Checkpoint> {
        let from = self.last_certified().map_or(1, |certified| certified.checkpoint.index + 1);
        let open = self.checkpoints.range(from..).filter(|(_, (_, certified))| certified.is_none());
        open.map(|(_, (checkpoint, _))| checkpoint).filter(move |checkpoint| checkpoint.epoch == epoch)
    }

    fn certified(&self) -> impl Iterator<Item = &CertifiedCheckpoint> {
        self.checkpoints.values().filter_map(|(_, certified)| certified.as_deref())
    }

    /// The own block of the highest round in an epoch, signed or not.
    pub(crate) fn own_last(&self, epoch: Epoch) -> Option<(BlockRef, &StoredBlock)> {
        let stored = self.own_last.and_then(|reference| Some((reference, self.blocks.get(&reference)?)));
        stored.filter(|(_, stored)| stored.epoch() == epoch)
    }

    pub(crate) fn get(&self, reference: &BlockRef) -> Option<&Packet> {
        match self.blocks.get(reference)? {
            StoredBlock::Signed(packet) => Some(packet),
            StoredBlock::Unsigned(_) => None,
        }
    }

    /// Signed blocks above a round, in causal order.
    pub(crate) fn blocks_after(&self, round: Round) -> impl Iterator<Item = &Packet> {
        let from = BlockRef { round: round + 1, author: ValidatorIndex(0), digest: Digest::ZERO };
        self.blocks.range(from..).filter_map(|(_, stored)| match stored {
            StoredBlock::Signed(packet) => Some(packet),
            StoredBlock::Unsigned(_) => None,
        })
    }

    /// Signed blocks above a round per author, in causal order, up to so many bytes.
    pub(crate) fn blocks_above(&self, floors: &[Round], limit_bytes: usize) -> Vec<Packet> {
        let lowest = floors.iter().copied().min().unwrap_or(0);
        let above = |packet: &&Packet| {
            let BlockRef { round, author, .. } = packet.reference();
            floors.get(author.as_usize()).is_some_and(|floor| round > *floor)
        };
        let mut bytes = 0;
        self.blocks_after(lowest)
            .filter(above)
            .take_while(|packet| {
                let fits = bytes == 0 || bytes + packet.bytes() <= limit_bytes;
                bytes += packet.bytes();
                fits
            })
            .cloned()
            .collect()
    }

    /// Blocks above a round that durable commits hold.
    pub(crate) fn committed_after(&self, round: Round) -> Vec<BlockRef> {
        let commits = self.executed.values().rev().map(|e| &e.commit).take_while(|c| c.leader.round > round);
        commits.flat_map(|c| c.blocks.iter().copied().filter(|b| b.round > round)).collect()
    }

    /// What another validator that was away gets.
    pub(crate) fn serve(&self, request: &CatchUpRequest, builder: Option<&CheckpointBuilder>) -> CatchUpAnswer {
        match request {
            CatchUpRequest::Checkpoints { from_index: 0, .. } => {
                CatchUpAnswer::Checkpoints(self.last_certified().map(|c| encode(c).into()).into_iter().collect())
            }
            CatchUpRequest::Checkpoints { from_index, epoch_ends_only, limit } => {
                let all = self.checkpoints.range(from_index..);
                // Who follows them back from a certified one needs no votes for those before it.
                let link = |(checkpoint, certified): &(Checkpoint, Option<Arc<CertifiedCheckpoint>>)| CertifiedCheckpoint {
                    checkpoint: checkpoint.clone(),
                    votes: certified.as_ref().map(|c| c.votes.clone()).unwrap_or_default(),
                };
                let found: Vec<CertifiedCheckpoint> = if *epoch_ends_only {
                    let ends = self.certified().filter(|c| c.checkpoint.index >= *from_index && c.checkpoint.next_epoch.is_some());
                    ends.take(*limit as usize).cloned().collect()
                } else {
                    let gapless = all.zip(*from_index..).take_while(|((index, _), due)| *index == due);
                    gapless.map(|((_, entry), _)| link(entry)).take(*limit as usize).collect()
                };
                CatchUpAnswer::Checkpoints(found.iter().map(|c| encode(c).into()).collect())
            }
            CatchUpRequest::StatePage { after, limit } => self.state_page(*after, (*limit as usize).clamp(1, PAGE_RECORDS), builder),
            CatchUpRequest::Executed { from, .. } => {
                let found = self.executed.range(from..).zip(*from..).take_while(|((index, _), due)| *index == due);
                CatchUpAnswer::Executed(found.take(ANSWER_COMMITS).map(|((_, e), _)| encode(e.as_ref()).into()).collect())
            }
            CatchUpRequest::ExecutedPart { .. } => CatchUpAnswer::Refused,
        }
    }

    /// As of the newest certified checkpoint where the old values are known; else as it is now.
    fn state_page(&self, mut after: Option<StateKey>, limit: usize, builder: Option<&CheckpointBuilder>) -> CatchUpAnswer {
        let all: BTreeMap<_, _> = self.state.sorted().into_iter().collect();
        loop {
            let from = after.map_or(Bound::Unbounded, Bound::Excluded);
            let now: Vec<_> = all.range((from, Bound::Unbounded)).take(limit).map(|(key, value)| (*key, value.clone())).collect();
            let is_last = now.len() < limit;
            let end = now.last().map(|(key, _)| *key);
            let then = builder.and_then(|b| b.page_at_certified(after.as_ref(), is_last, &now));
            let (at, records) = then.filter(|(commit, _)| *commit <= self.last_index()).unwrap_or((self.last_index(), now));
            if is_last || !records.is_empty() {
                return CatchUpAnswer::StatePage { at, is_last, records: encode(&records).into() };
            }
            // All of these records are younger than the checkpoint.
            after = end;
        }
    }
}

/// What is not durable yet.
#[derive(Debug, Default)]
pub(crate) struct Writes {
    waiting: Vec<Item>,
    /// What the write under way holds: durable at its end, or, after a crash, perhaps.
    pub(crate) writing: Vec<Item>,
    pub(crate) lingers: bool,
}

impl Writes {
    pub(crate) fn push(&mut self, item: Item) {
        self.waiting.push(item);
    }

    /// Begins a write if there is reason to: something urgent, much, or `lingered` long enough. Returns whether one was begun.
    pub(crate) fn begin(&mut self, lingered: bool) -> bool {
        if !self.writing.is_empty() || self.waiting.is_empty() {
            return false;
        }
        if !lingered && self.waiting.len() < ITEMS_PER_WRITE && !self.waiting.iter().any(Item::is_urgent) {
            return false;
        }
        let count = self.waiting.len().min(ITEMS_PER_WRITE);
        self.writing = self.waiting.drain(..count).collect();
        true
    }

    pub(crate) const fn is_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }
}
