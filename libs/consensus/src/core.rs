//! The composition that a service or a simulator drives.

use crate::clock::ThresholdClock;
use crate::committer::{Committer, Decision, LeaderDecision};
use crate::dag::{HeaderDag, Refusal};
use crate::linearizer::Linearizer;
use crate::pacemaker::{Pace, Pacemaker};
use crate::schedule::Leaders;
use crate::wave::{Slot, Wave};
use kaldrix_types::{BlockRef, Commit, CommitIndex, Committee, Header, Round, ValidatorIndex};
use std::sync::Arc;

/// How the core behaves. `gc_depth` and `leaders_per_round` are rules of the chain (genesis parameters), the rest is each validator's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CoreConfig {
    /// Least time between two own proposals, in milliseconds.
    pub min_round_delay_ms: u64,
    /// The same while there is nothing to order.
    pub idle_round_delay_ms: u64,
    /// How long to wait for a round's leaders once its quorum is there.
    pub leader_timeout_ms: u64,
    /// How many rounds below a committed leader later commits may reach (at least [`crate::GC_DEPTH_MIN`]).
    pub gc_depth: u64,
    /// Leader slots of each round, 1 to the number of validators.
    pub leaders_per_round: u32,
}

impl Default for CoreConfig {
    fn default() -> Self {
        Self { min_round_delay_ms: 50, idle_round_delay_ms: 500, leader_timeout_ms: 250, gc_depth: 60, leaders_per_round: 1 }
    }
}

/// What is durable from before: where to go on.
#[derive(Clone, Debug, Default)]
pub struct Recovered {
    /// The last commit that is durable.
    pub last_commit: Option<Commit>,
    /// Round of the last own block that may have been sent; 0 for none.
    pub own_last_round: Round,
}

/// A commit, how it was decided, and what was skipped on the way to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DecidedCommit {
    /// The commit: equal on all correct validators.
    pub commit: Commit,
    /// How this validator decided its leader: may differ between validators, good for metrics only.
    pub decision: Decision,
    /// Slots skipped between the previous commit and this one, oldest first.
    pub skipped: Vec<LeaderDecision>,
}

/// What the caller is to do, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Build, sign and send the own block of this round.
    Propose {
        /// The round.
        round: Round,
    },
    /// Make this commit durable and execute it.
    Commit(DecidedCommit),
    /// The header was not taken, and those above it will not be: the stream of headers is broken, begin a new session.
    Refused {
        /// Which.
        block: BlockRef,
        /// Why.
        why: Refusal,
    },
}

/// Where consensus stands, for status lines and metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CoreStatus {
    /// The round this validator is in (threshold clock).
    pub round: Round,
    /// Highest round of an own block.
    pub own_round: Round,
    /// Index of the last commit; 0 for none.
    pub last_commit: CommitIndex,
    /// Round of the last decided leader slot; 0 for none.
    pub last_decided: Round,
    /// Blocks at or below this round are gone.
    pub gc_round: Round,
    /// Headers in memory.
    pub headers: usize,
    /// Headers in no commit yet.
    pub pending_headers: usize,
    /// Headers refused since the start.
    pub refused: u64,
}

/// One validator's consensus: takes headers and time, says what to propose and what is committed.
///
/// It begins in recovery: the caller replays the headers above the last commit's `gc_round` (parents first, each with its committed flag),
/// then calls [`ConsensusCore::finish_recovery`]. Until then it emits commits but proposes nothing.
#[derive(Debug)]
pub struct ConsensusCore {
    own: ValidatorIndex,
    dag: HeaderDag,
    committer: Committer<Arc<dyn Leaders>>,
    linearizer: Linearizer,
    clock: ThresholdClock,
    pacemaker: Pacemaker,
    last_decided: Option<Slot>,
    /// Slots skipped since the last commit, to go out with the next one. Bounded by the rounds without a commit.
    skipped: Vec<LeaderDecision>,
    /// Leaders of the clock's quorum round; nobody leads round 0.
    awaited: Vec<ValidatorIndex>,
    has_transactions: bool,
    replaying: bool,
    refused: u64,
}

impl ConsensusCore {
    /// A core in recovery.
    #[must_use]
    pub fn new(
        committee: Arc<Committee>,
        own: ValidatorIndex,
        config: CoreConfig,
        leaders: impl Leaders + 'static,
        recovered: Recovered,
        now_ms: u64,
    ) -> Self {
        let wave = Wave::new(config.leaders_per_round, committee.size());
        let committer = Committer::new(wave, Arc::new(leaders) as Arc<dyn Leaders>);
        let linearizer = Linearizer::new(config.gc_depth, recovered.last_commit.as_ref());
        let last_decided = recovered.last_commit.as_ref().map(|c| {
            // A schedule that does not know the leader is of another epoch: go on after its whole round.
            let last_of_round = Slot { round: c.leader.round, offset: wave.leaders_per_round() - 1 };
            committer.slot_of(c.leader.round, c.leader.author).unwrap_or(last_of_round)
        });
        let pace = Pace {
            min_round_delay_ms: config.min_round_delay_ms,
            idle_round_delay_ms: config.idle_round_delay_ms,
            leader_timeout_ms: config.leader_timeout_ms,
        };
        let gc_round = linearizer.next_gc_round();
        Self {
            own,
            dag: HeaderDag::new(committee, gc_round),
            committer,
            linearizer,
            clock: ThresholdClock::new(gc_round, now_ms),
            pacemaker: Pacemaker::new(pace, recovered.own_last_round),
            last_decided,
            skipped: Vec::new(),
            awaited: Vec::new(),
            has_transactions: false,
            replaying: true,
            refused: 0,
        }
    }

    /// A header of a verified block. Parents come first, or are at or below the garbage-collection round. Known and collected ones are
    /// ignored. `committed` says that a durable commit up to the recovered one holds it; outside recovery it is `false`.
    pub fn on_header(&mut self, reference: BlockRef, header: Arc<Header>, committed: bool, now_ms: u64) -> Vec<Action> {
        match self.dag.insert(reference, header, committed) {
            Ok(true) => {}
            Ok(false) => return Vec::new(),
            Err(why) => {
                self.refused += 1;
                return vec![Action::Refused { block: reference, why }];
            }
        }
        if reference.author == self.own {
            self.pacemaker.note_own_round(reference.round);
        }
        if self.clock.observe(reference.round, self.dag.stake_at(reference.round), self.dag.committee().quorum(), now_ms) {
            let (round, leaders) = (self.clock.quorum_round(), self.committer.leaders());
            self.awaited = self.committer.wave().offsets().map(|offset| leaders.leader(round, offset)).collect();
        }
        let mut actions = self.decide();
        actions.extend(self.propose(now_ms));
        actions
    }

    /// Whether the mempool has transactions waiting for a block of ours.
    pub fn on_pending(&mut self, has_transactions: bool, now_ms: u64) -> Vec<Action> {
        self.has_transactions = has_transactions;
        self.propose(now_ms).into_iter().collect()
    }

    /// Time has passed; see [`ConsensusCore::next_deadline_ms`].
    pub fn on_tick(&mut self, now_ms: u64) -> Vec<Action> {
        self.propose(now_ms).into_iter().collect()
    }

    /// The replay is over: from now on proposals are made. Waiting for leaders begins now.
    pub fn finish_recovery(&mut self, now_ms: u64) -> Vec<Action> {
        self.replaying = false;
        self.clock.restart_timer(now_ms);
        self.propose(now_ms).into_iter().collect()
    }

    /// Whoever builds blocks is a new one (reconnected, restarted): a proposal that was asked for and did not come is asked for again.
    pub fn on_new_session(&mut self, now_ms: u64) -> Vec<Action> {
        self.pacemaker.forget_unanswered();
        self.propose(now_ms).into_iter().collect()
    }

    /// An own block of this round may exist somewhere (as peers report it): never propose at or below it.
    pub fn note_own_round(&mut self, round: Round) {
        self.pacemaker.note_own_round(round);
    }

    /// When to call [`ConsensusCore::on_tick`] if nothing else happens before; `None` when only a header can move things.
    #[must_use]
    pub fn next_deadline_ms(&self) -> Option<u64> {
        if !self.may_propose() {
            return None;
        }
        self.pacemaker.due_at_ms(&self.clock, self.leaders_present(), self.is_busy())
    }

    /// Where things stand.
    #[must_use]
    pub fn status(&self) -> CoreStatus {
        CoreStatus {
            round: self.clock.round(),
            own_round: self.pacemaker.own_round(),
            last_commit: self.linearizer.last_index(),
            last_decided: self.last_decided.map_or(0, |slot| slot.round),
            gc_round: self.dag.gc_round(),
            headers: self.dag.len(),
            pending_headers: self.dag.uncommitted(),
            refused: self.refused,
        }
    }

    /// The headers, to look at.
    #[must_use]
    pub const fn dag(&self) -> &HeaderDag {
        &self.dag
    }

    /// Whether there is anything to order: then rounds follow one another quickly.
    fn is_busy(&self) -> bool {
        self.has_transactions || self.dag.uncommitted_with_transactions() > 0
    }

    /// Whether every leader of the clock's quorum round has a block there: each of its slots would hold up the order otherwise.
    fn leaders_present(&self) -> bool {
        let round = self.clock.quorum_round();
        self.awaited.iter().all(|leader| self.dag.blocks_by(round, *leader).next().is_some())
    }

    /// Not during recovery, and not on top of a round that the clock only has from the last commit: its blocks are not here to be parents.
    fn may_propose(&self) -> bool {
        !self.replaying && (self.clock.quorum_round() == 0 || self.clock.quorum_round() > self.dag.gc_round())
    }

    fn propose(&mut self, now_ms: u64) -> Option<Action> {
        if !self.may_propose() {
            return None;
        }
        let (present, busy) = (self.leaders_present(), self.is_busy());
        let round = self.pacemaker.try_propose(&self.clock, present, busy, now_ms)?;
        Some(Action::Propose { round })
    }

    fn decide(&mut self) -> Vec<Action> {
        let mut actions = Vec::new();
        for decided in self.committer.try_decide(&self.dag, self.last_decided) {
            self.last_decided = Some(decided.slot());
            match decided.block {
                None => self.skipped.push(decided),
                Some(leader) => {
                    let commit = self.linearizer.commit(&mut self.dag, leader);
                    let skipped = std::mem::take(&mut self.skipped);
                    actions.push(Action::Commit(DecidedCommit { commit, decision: decided.decision, skipped }));
                }
            }
        }
        self.dag.collect(self.linearizer.next_gc_round());
        actions
    }
}
