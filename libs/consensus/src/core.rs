//! The composition that a service or a simulator drives.

use crate::clock::ThresholdClock;
use crate::committer::{Committer, Decision, LeaderDecision};
use crate::dag::{HeaderDag, Refusal};
use crate::leader_timeout::{LeaderTimeouts, WaitBounds};
use crate::linearizer::{CommitRules, Linearizer};
use crate::pacemaker::{Pace, Pacemaker, Situation};
use crate::reputation::{self, SwappedLeaders};
use crate::schedule::Leaders;
use crate::wave::{Slot, Wave};
use kaldrix_types::{BlockRef, Commit, CommitIndex, Committee, Header, Round, TimestampMs, ValidatorIndex};
use std::sync::Arc;

/// How the core behaves. `gc_depth`, `leaders_per_round` and `schedule_commits` are rules of the chain (genesis parameters), the epoch's end is
/// a rule of the epoch, and the rest is each validator's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CoreConfig {
    /// Least time between two own proposals, in milliseconds.
    pub min_round_delay_ms: u64,
    /// The same while there is nothing to order.
    pub idle_round_delay_ms: u64,
    /// How long to wait for a round's leaders once its quorum is there, before anything is known about them. It adapts to each leader.
    pub leader_timeout_ms: u64,
    /// The least such wait: also what a leader that seems to be down still gets.
    pub leader_timeout_min_ms: u64,
    /// The longest such wait.
    pub leader_timeout_max_ms: u64,
    /// How many rounds below a committed leader later commits may reach (at least [`crate::GC_DEPTH_MIN`]).
    pub gc_depth: u64,
    /// Leader slots of each round, 1 to the number of validators.
    pub leaders_per_round: u32,
    /// Commits after which the scores of reputation change the schedule; 0: they are not kept, and it never changes.
    pub schedule_commits: u32,
    /// The epoch's last commit is the first one with this consensus time or a later one; `None`: it does not end.
    pub epoch_ends_at_ms: Option<TimestampMs>,
}

impl Default for CoreConfig {
    fn default() -> Self {
        Self {
            min_round_delay_ms: 50,
            idle_round_delay_ms: 500,
            leader_timeout_ms: 250,
            leader_timeout_min_ms: 50,
            leader_timeout_max_ms: 1_000,
            gc_depth: 60,
            leaders_per_round: 1,
            schedule_commits: 300,
            epoch_ends_at_ms: None,
        }
    }
}

/// What is durable from before: where to go on.
#[derive(Clone, Debug, Default)]
pub struct Recovered {
    /// The last commit that is durable. If it is of another epoch than the committee, which begins with it then, its `ends_epoch` is set.
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
    /// How long the leaders of the current round are waited for; 0 when their blocks are there.
    pub leader_wait_ms: u64,
    /// Validators that do not lead because of their reputation.
    pub swapped_out: usize,
    /// Whether the epoch's last commit is made.
    pub is_epoch_over: bool,
}

/// One validator's consensus in one epoch: takes headers and time, says what to propose and what is committed.
///
/// It begins in recovery: the caller replays the headers above the last commit's `gc_round` (parents first, each with its committed flag),
/// then calls [`ConsensusCore::finish_recovery`]. Until then it emits commits but proposes nothing.
///
/// After the epoch's last commit it commits nothing more but goes on proposing, so that votes can be cast; the next epoch has a core of its own.
/// A validator without a seat ([`ValidatorIndex::OBSERVER`]) gets the same commits and never proposes.
#[derive(Debug)]
pub struct ConsensusCore {
    own: ValidatorIndex,
    dag: HeaderDag,
    /// The schedule without reputation.
    schedule: Arc<dyn Leaders>,
    committer: Committer<SwappedLeaders<Arc<dyn Leaders>>>,
    linearizer: Linearizer,
    clock: ThresholdClock,
    pacemaker: Pacemaker,
    timeouts: LeaderTimeouts,
    last_decided: Option<Slot>,
    /// Slots skipped since the last commit, to go out with the next one. Bounded by the rounds without a commit.
    skipped: Vec<LeaderDecision>,
    /// Leaders of the clock's quorum round; nobody leads the start round.
    awaited: Vec<ValidatorIndex>,
    has_transactions: bool,
    replaying: bool,
    refused: u64,
}

impl ConsensusCore {
    /// A core in recovery. `leaders` is the epoch's schedule; reputation is put on top of it here.
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
        let schedule: Arc<dyn Leaders> = Arc::new(leaders);
        let CoreConfig { gc_depth, schedule_commits, epoch_ends_at_ms, .. } = config;
        let rules = CommitRules { gc_depth, schedule_commits, epoch_ends_at_ms };
        let linearizer = Linearizer::new(&committee, rules, recovered.last_commit.as_ref());
        let effective = &linearizer.reputation().effective;
        let swapped = SwappedLeaders::new(Arc::clone(&schedule), &committee, wave.leaders_per_round(), effective);
        let committer = Committer::new(wave, swapped);
        let last_in_epoch = recovered.last_commit.as_ref().filter(|c| c.epoch == committee.epoch());
        let last_decided = last_in_epoch.map(|c| cursor_after(&committer, c));
        let gc_round = linearizer.next_gc_round();
        let bounds =
            WaitBounds { initial_ms: config.leader_timeout_ms, min_ms: config.leader_timeout_min_ms, max_ms: config.leader_timeout_max_ms };
        let pace = Pace { min_round_delay_ms: config.min_round_delay_ms, idle_round_delay_ms: config.idle_round_delay_ms };
        Self {
            own,
            timeouts: LeaderTimeouts::new(bounds, committee.size(), gc_round),
            dag: HeaderDag::new(committee, gc_round),
            schedule,
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
    /// ignored. `committed` says that a durable commit up to the recovered one holds it; outside recovery
    /// that is only so behind a snapshot, whose blocks come later than the commits that hold them.
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
        self.move_clock(reference, now_ms);
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
        self.pacemaker.due_at_ms(&self.clock, self.situation())
    }

    /// Where things stand.
    #[must_use]
    pub fn status(&self) -> CoreStatus {
        CoreStatus {
            round: self.clock.round(),
            own_round: self.pacemaker.own_round(),
            last_commit: self.linearizer.last_index(),
            last_decided: self.last_decided.map_or(self.dag.committee().start_round(), |slot| slot.round),
            gc_round: self.dag.gc_round(),
            headers: self.dag.len(),
            pending_headers: self.dag.uncommitted(),
            refused: self.refused,
            leader_wait_ms: self.leader_wait_ms(),
            swapped_out: self.committer.leaders().table().swapped_out().len(),
            is_epoch_over: self.linearizer.is_epoch_over(),
        }
    }

    /// The headers, to look at.
    #[must_use]
    pub const fn dag(&self) -> &HeaderDag {
        &self.dag
    }

    /// The leader of a slot that is not decided yet, by the schedule as it is now.
    #[must_use]
    pub fn leader(&self, round: Round, offset: u32) -> ValidatorIndex {
        self.committer.leaders().leader(round, offset)
    }

    /// Whether there is anything to order: then rounds follow one another quickly. After the epoch's last commit there are votes to cast, and
    /// payments wait for the next epoch.
    fn is_busy(&self) -> bool {
        self.has_transactions || self.dag.uncommitted_with_transactions() > 0 || self.linearizer.is_epoch_over()
    }

    fn situation(&self) -> Situation {
        Situation { leader_wait_ms: self.leader_wait_ms(), busy: self.is_busy(), commit_round: self.linearizer.leader_round() }
    }

    fn has_block(&self, round: Round, author: ValidatorIndex) -> bool {
        self.dag.blocks_by(round, author).next().is_some()
    }

    /// How long to wait for the leaders of the clock's quorum round that have no block there yet: each of its slots would hold up the order
    /// otherwise. 0 when all are there.
    fn leader_wait_ms(&self) -> u64 {
        let round = self.clock.quorum_round();
        let missing = self.awaited.iter().filter(|leader| !self.has_block(round, **leader));
        missing.map(|leader| self.timeouts.wait_ms(*leader, round)).max().unwrap_or(0)
    }

    /// Only with a seat, not during recovery, and not on top of a round that the clock only has from the last commit: its blocks are not here to
    /// be parents.
    fn may_propose(&self) -> bool {
        let round = self.clock.quorum_round();
        let committee = self.dag.committee();
        !self.replaying && committee.get(self.own).is_some() && (round == committee.start_round() || round > self.dag.gc_round())
    }

    fn propose(&mut self, now_ms: u64) -> Option<Action> {
        if !self.may_propose() {
            return None;
        }
        let round = self.pacemaker.try_propose(&self.clock, self.situation(), now_ms)?;
        let led = self.clock.quorum_round();
        for leader in &self.awaited {
            let present = self.dag.blocks_by(led, *leader).next().is_some();
            self.timeouts.on_turn(*leader, led, present);
        }
        Some(Action::Propose { round })
    }

    fn move_clock(&mut self, new: BlockRef, now_ms: u64) {
        if self.replaying {
            self.timeouts.on_old_block(new.author, new.round);
        } else {
            self.timeouts.on_block(new.author, new.round, now_ms);
        }
        let committee = self.dag.committee();
        if !self.clock.observe(new.round, self.dag.stake_at(new.round), committee.quorum(), now_ms) {
            return;
        }
        if !self.replaying {
            let dag = &self.dag;
            let present = committee.indices().filter(|author| dag.blocks_by(new.round, *author).next().is_some());
            self.timeouts.on_quorum(new.round, now_ms, present);
        }
        self.await_leaders();
    }

    /// Whose blocks of the clock's quorum round are waited for.
    fn await_leaders(&mut self) {
        let (round, leaders) = (self.clock.quorum_round(), self.committer.leaders());
        let led = round > self.dag.committee().start_round();
        self.awaited = self.committer.wave().offsets().filter(|_| led).map(|offset| leaders.leader(round, offset)).collect();
    }

    fn decide(&mut self) -> Vec<Action> {
        let mut actions = Vec::new();
        while !self.linearizer.is_epoch_over() {
            let decided = self.committer.try_decide(&self.dag, self.last_decided);
            if !self.take(decided, &mut actions) {
                break;
            }
        }
        self.dag.collect(self.linearizer.next_gc_round());
        actions
    }

    /// Takes decisions up to the first commit that changes the schedule or ends the epoch: those after it no longer hold. Returns whether there
    /// was one.
    fn take(&mut self, decisions: Vec<LeaderDecision>, actions: &mut Vec<Action>) -> bool {
        for decided in decisions {
            self.last_decided = Some(decided.slot());
            let Some(leader) = decided.block else {
                self.skipped.push(decided);
                continue;
            };
            let commit = self.linearizer.commit(&mut self.dag, leader);
            let changes = reputation::changes_schedule(&commit.reputation);
            if changes {
                self.change_schedule(&commit);
            }
            let cut = changes || commit.ends_epoch;
            let skipped = std::mem::take(&mut self.skipped);
            actions.push(Action::Commit(DecidedCommit { commit, decision: decided.decision, skipped }));
            if cut {
                return true;
            }
        }
        false
    }

    fn change_schedule(&mut self, commit: &Commit) {
        let wave = self.committer.wave();
        let schedule = Arc::clone(&self.schedule);
        let effective = &commit.reputation.effective;
        self.committer.set_leaders(SwappedLeaders::new(schedule, self.dag.committee(), wave.leaders_per_round(), effective));
        self.last_decided = Some(cursor_after(&self.committer, commit));
        self.await_leaders();
    }
}

/// Where to go on after a commit, of which the schedule is already in force. If that commit changed the schedule, the other slots of its round
/// are left out: under the new one a leader could have two of them, and which of them come before the commit is not known from it.
fn cursor_after<L: Leaders>(committer: &Committer<L>, commit: &Commit) -> Slot {
    let round = commit.leader.round;
    let slot = if reputation::changes_schedule(&commit.reputation) { None } else { committer.slot_of(round, commit.leader.author) };
    slot.unwrap_or_else(|| committer.wave().last_slot(round))
}
