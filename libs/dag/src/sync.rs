//! Decides which missing blocks to ask from whom. Sends nothing itself: the caller carries requests out and reports how they ended.
//!
//! A block is asked first from the peer that sent a child of it (it must have had it), then from the others in turn. Requests per peer,
//! references per request and references in total are bounded; an unanswered request counts as failed after a time-out.

use crate::manager::BlockManager;
use kaldrix_types::{BlockRef, Committee, Round, ValidatorIndex};
use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};

/// Bounds and times of a [`Synchronizer`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SyncConfig {
    /// Requests that one peer is asked at a time. Default 2.
    pub requests_per_peer_max: usize,
    /// References in one request. Default 128.
    pub refs_per_request_max: usize,
    /// References wanted at a time; further ones wait for the next [`Synchronizer::reconcile`]. Default 20,000.
    pub wanted_max: usize,
    /// When an unanswered request counts as failed, in milliseconds. Default 1,000.
    pub timeout_ms: u64,
    /// Pause before asking again for what every peer was asked for, in milliseconds. Default 250.
    pub retry_delay_ms: u64,
    /// How far the others must be ahead, in rounds, before ranges are fetched. Default 20.
    pub range_gap_rounds: u64,
}

impl Default for SyncConfig {
    fn default() -> Self {
        Self {
            requests_per_peer_max: 2,
            refs_per_request_max: 128,
            wanted_max: 20_000,
            timeout_ms: 1_000,
            retry_delay_ms: 250,
            range_gap_rounds: 20,
        }
    }
}

/// Names one request; ascending.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(pub u64);

/// "Ask `peer` for these blocks."
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FetchRequest {
    /// To report back with.
    pub id: RequestId,
    /// Whom to ask.
    pub peer: ValidatorIndex,
    /// What to ask for, lowest round first.
    pub refs: Vec<BlockRef>,
}

/// "Ask `peer` for everything it has above these rounds."
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RangeRequest {
    /// Whom to ask.
    pub peer: ValidatorIndex,
    /// Per author, the round up to which its blocks are here.
    pub above: Vec<Round>,
}

#[derive(Debug)]
enum State {
    /// In `idle`.
    Idle,
    /// In `delayed`, until this time.
    Delayed(u64),
    Asked(RequestId),
}

#[derive(Debug)]
struct Want {
    /// Position in `others` of the peer to ask first.
    first: usize,
    attempts: usize,
    state: State,
}

#[derive(Debug)]
struct Pending {
    peer: usize,
    refs: Vec<BlockRef>,
    due_ms: u64,
}

#[derive(Debug)]
struct Peer {
    index: ValidatorIndex,
    reachable: bool,
    requests: usize,
    /// The highest round that it is known to have sent and that was too far ahead for us.
    seen_round: Round,
}

/// The fetch scheduler of one validator.
#[derive(Debug)]
pub struct Synchronizer {
    config: SyncConfig,
    /// All validators but this one, by index.
    others: Vec<Peer>,
    wants: BTreeMap<BlockRef, Want>,
    idle: BTreeSet<BlockRef>,
    delayed: BTreeSet<(u64, BlockRef)>,
    pending: BTreeMap<RequestId, Pending>,
    last_id: u64,
    /// Position in `others` and time-out of the range request under way.
    range: Option<(usize, u64)>,
    range_next: usize,
    range_not_before_ms: u64,
}

impl Synchronizer {
    /// For the validator at `own`. All others count as reachable until [`Self::set_reachable`] says otherwise.
    #[must_use]
    pub fn new(committee: &Committee, own: ValidatorIndex, config: SyncConfig) -> Self {
        let peer = |index| Peer { index, reachable: true, requests: 0, seen_round: 0 };
        Self {
            config,
            others: committee.indices().filter(|i| *i != own).map(peer).collect(),
            wants: BTreeMap::new(),
            idle: BTreeSet::new(),
            delayed: BTreeSet::new(),
            pending: BTreeMap::new(),
            last_id: 0,
            range: None,
            range_next: 0,
            range_not_before_ms: 0,
        }
    }

    /// These blocks are missing (see [`crate::Accepted::missing`]); `from` sent a block that needs them.
    pub fn want(&mut self, refs: impl IntoIterator<Item = BlockRef>, from: ValidatorIndex) {
        let first = self.position(from).unwrap_or(0);
        for reference in refs {
            if self.wants.len() >= self.config.wanted_max {
                return;
            }
            if let Entry::Vacant(vacant) = self.wants.entry(reference) {
                vacant.insert(Want { first, attempts: 0, state: State::Idle });
                self.idle.insert(reference);
            }
        }
    }

    /// The block arrived, by whatever way, or is not needed any more.
    pub fn resolved(&mut self, reference: &BlockRef) {
        if let Some(want) = self.wants.remove(reference) {
            match want.state {
                State::Idle => drop(self.idle.remove(reference)),
                State::Delayed(until_ms) => drop(self.delayed.remove(&(until_ms, *reference))),
                State::Asked(_) => {}
            }
        }
    }

    /// Makes what is wanted equal to what `dag` misses: after garbage collection, and now and then, since a fetched block may have been
    /// refused for want of room.
    pub fn reconcile(&mut self, dag: &BlockManager) {
        let missing: BTreeSet<BlockRef> = dag.missing().collect();
        let gone: Vec<BlockRef> = self.wants.keys().filter(|r| !missing.contains(r)).copied().collect();
        for reference in gone {
            self.resolved(&reference);
        }
        for reference in missing {
            let child = dag.wanted_by(&reference).next();
            self.want([reference], child.map_or(reference.author, |c| c.author));
        }
    }

    /// A peer connected or disconnected. Requests under way to one that is gone fail.
    pub fn set_reachable(&mut self, peer: ValidatorIndex, reachable: bool, now_ms: u64) {
        let Some(position) = self.position(peer) else { return };
        self.others[position].reachable = reachable;
        if reachable {
            return;
        }
        let lost: Vec<RequestId> = self.pending.iter().filter(|(_, p)| p.peer == position).map(|(id, _)| *id).collect();
        for id in lost {
            self.on_failure(id, now_ms);
        }
        self.on_range_done(peer, false, now_ms);
    }

    /// Requests to send now; also fails those whose time is over. To be called whenever something is wanted, and every few tens of
    /// milliseconds.
    pub fn poll(&mut self, now_ms: u64) -> Vec<FetchRequest> {
        while let Some((id, pending)) = self.pending.first_key_value()
            && pending.due_ms <= now_ms
        {
            let id = *id;
            self.on_failure(id, now_ms);
        }
        while let Some((until_ms, reference)) = self.delayed.first().copied()
            && until_ms <= now_ms
        {
            self.delayed.pop_first();
            self.idle.insert(reference);
            if let Some(want) = self.wants.get_mut(&reference) {
                want.state = State::Idle;
            }
        }
        let mut batches: Vec<Vec<BlockRef>> = self.others.iter().map(|_| Vec::new()).collect();
        for reference in &self.idle {
            let want = &self.wants[reference];
            match self.choose(want.first + want.attempts, &batches) {
                Some(position) => batches[position].push(*reference),
                None => break,
            }
        }
        let mut requests = Vec::new();
        for (position, batch) in batches.iter().enumerate() {
            for refs in batch.chunks(self.config.refs_per_request_max.max(1)) {
                requests.push(self.ask(position, refs.to_vec(), now_ms));
            }
        }
        requests
    }

    /// The first peer from `start` on that is reachable and has room for one reference more.
    fn choose(&self, start: usize, batches: &[Vec<BlockRef>]) -> Option<usize> {
        let count = self.others.len();
        (0..count).map(|i| (start + i) % count).find(|&position| {
            let peer = &self.others[position];
            let room = self.config.requests_per_peer_max.saturating_sub(peer.requests) * self.config.refs_per_request_max.max(1);
            peer.reachable && batches[position].len() < room
        })
    }

    fn ask(&mut self, position: usize, refs: Vec<BlockRef>, now_ms: u64) -> FetchRequest {
        self.last_id += 1;
        let id = RequestId(self.last_id);
        for reference in &refs {
            self.idle.remove(reference);
            if let Some(want) = self.wants.get_mut(reference) {
                want.state = State::Asked(id);
            }
        }
        let peer = &mut self.others[position];
        peer.requests += 1;
        let request = FetchRequest { id, peer: peer.index, refs: refs.clone() };
        self.pending.insert(id, Pending { peer: position, refs, due_ms: now_ms.saturating_add(self.config.timeout_ms) });
        request
    }

    /// A request was answered with these blocks (verified, and named by their own digests); what is not among them is asked elsewhere.
    /// An answer after its time-out still counts.
    pub fn on_response(&mut self, id: RequestId, delivered: &[BlockRef], now_ms: u64) {
        for reference in delivered {
            self.resolved(reference);
        }
        self.on_failure(id, now_ms);
    }

    /// A request failed: its references are asked from the next peers. Unknown ids (timed out before) change nothing.
    pub fn on_failure(&mut self, id: RequestId, now_ms: u64) {
        let Some(pending) = self.pending.remove(&id) else { return };
        self.others[pending.peer].requests -= 1;
        let round_of_all = self.others.len();
        for reference in pending.refs {
            let Some(want) = self.wants.get_mut(&reference) else { continue };
            if !matches!(want.state, State::Asked(asked) if asked == id) {
                continue;
            }
            want.attempts += 1;
            if want.attempts.is_multiple_of(round_of_all) {
                let until_ms = now_ms.saturating_add(self.config.retry_delay_ms);
                want.state = State::Delayed(until_ms);
                self.delayed.insert((until_ms, reference));
            } else {
                want.state = State::Idle;
                self.idle.insert(reference);
            }
        }
    }

    /// `peer` sent a block of this round that was refused as too far ahead: a sign that we are behind, and whom to ask.
    pub fn saw_round(&mut self, peer: ValidatorIndex, round: Round) {
        if let Some(position) = self.position(peer) {
            let seen = &mut self.others[position].seen_round;
            *seen = round.max(*seen);
        }
    }

    /// Whether to fetch a range: when blocks are waiting (or were refused) that are more than `range_gap_rounds` above the highest accepted
    /// round, and no range request is under way. One at a time; report its end to [`Self::on_range_done`].
    pub fn should_range_sync(&mut self, dag: &BlockManager, now_ms: u64) -> Option<RangeRequest> {
        if let Some((position, due_ms)) = self.range {
            if due_ms > now_ms {
                return None;
            }
            self.on_range_done(self.others[position].index, false, now_ms);
        }
        let threshold = dag.highest_round().saturating_add(self.config.range_gap_rounds);
        let reported = self.others.iter().map(|p| p.seen_round).max().unwrap_or(0);
        if reported.max(dag.highest_suspended_round().unwrap_or(0)) <= threshold || now_ms < self.range_not_before_ms {
            return None;
        }
        let count = self.others.len();
        let turn = || (0..count).map(|i| (self.range_next + i) % count).filter(|&p| self.others[p].reachable);
        let position = turn().find(|&p| self.others[p].seen_round > threshold).or_else(|| turn().next())?;
        self.range = Some((position, now_ms.saturating_add(self.config.timeout_ms)));
        let above = dag.highest_accepted_rounds().into_iter().map(|r| r.max(dag.gc_round())).collect();
        Some(RangeRequest { peer: self.others[position].index, above })
    }

    /// The range request to `peer` ended; `progress` when it led to accepted blocks. Without progress the next peer is asked after
    /// `retry_delay_ms`, and what this one claimed about its round is forgotten.
    pub fn on_range_done(&mut self, peer: ValidatorIndex, progress: bool, now_ms: u64) {
        let Some((position, _)) = self.range.filter(|(position, _)| self.others[*position].index == peer) else { return };
        self.range = None;
        if !progress {
            self.others[position].seen_round = 0;
            self.range_next = position + 1;
            self.range_not_before_ms = now_ms.saturating_add(self.config.retry_delay_ms);
        }
    }

    /// References that are wanted and not here yet.
    #[must_use]
    pub fn wanted_len(&self) -> usize {
        self.wants.len()
    }

    /// Requests under way.
    #[must_use]
    pub fn requests_in_flight(&self) -> usize {
        self.pending.len()
    }

    fn position(&self, peer: ValidatorIndex) -> Option<usize> {
        self.others.binary_search_by_key(&peer, |p| p.index).ok()
    }
}
