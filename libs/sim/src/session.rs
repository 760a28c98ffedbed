//! The session between node and consensus, and what follows from their decisions.

use crate::process::Process;
use crate::store::Item;
use crate::validator::Validator;
use crate::world::{Timer, World};
use bytes::Bytes;
use kaldrix_checkpoint::CertifierEvent;
use kaldrix_consensus::{Action, ConsensusCore, CoreConfig, DecidedCommit, Recovered, StakeSchedule};
use kaldrix_dag::{Effect, ExecutedNotice};
use kaldrix_execution::{Execution, OrderedTransaction, execute_as, next_epoch, prefetch_keys};
use kaldrix_types::{
    Address, CertifiedCheckpoint, Commit, DecodedTransaction, Digest, EpochRecord, EquivocationProof, ExecutedCommit, KeyRef, Lane,
    NextEpoch, Operation, Purpose, SignedHeader, SignedTransaction, StateKey, StateValue, TxBody, TxSignature, VerifiedBlock, encode,
    signing_message,
};
use std::sync::Arc;

/// After a session ended, the next one begins this much later.
pub(crate) const SESSION_PAUSE_MS: u64 = 20;
const SESSION_PAUSE_MS_MAX: u64 = 1_000;
/// Blocks are deleted this many rounds behind garbage collection: production keeps ten times as many, and runs here are short.
const PRUNE_DISTANCE_ROUNDS: u64 = 100;
const PRUNE_PERIOD_COMMITS: u64 = 16;
/// A report is given up after this much consensus time.
const REPORT_VALID_MS: u64 = 60_000;

impl Process {
    fn epoch_record(&self) -> EpochRecord {
        match self.state.get(&StateKey::Epoch) {
            Some(StateValue::Epoch(record)) => record.clone(),
            _ => EpochRecord::default(),
        }
    }

    fn execute(&self, w: &World<'_>, commit: &Commit, blocks: &[Arc<VerifiedBlock>]) -> (ExecutedCommit, Option<NextEpoch>) {
        let mut transactions = Vec::new();
        for (block, index) in blocks.iter().zip(0..) {
            for (tx, position) in block.transactions().iter().zip(0..) {
                transactions.push(OrderedTransaction { block: index, position, tx, verified_with: None });
            }
        }
        let headers = blocks.iter().map(|b| b.header().clone()).collect();
        let view = self.state.view(prefetch_keys(commit, &transactions, &self.epoch_record()));
        let executed = execute_as(Execution::Serial, commit, headers, &transactions, &w.config.parameters, &view, &w.book);
        let next = next_epoch(&executed, &view);
        (executed, next)
    }
}

impl Validator {
    pub(crate) fn begin_session(&mut self, w: &mut World<'_>) {
        let now_ms = w.now_ms();
        let Some(process) = &mut self.process else { return };
        if process.core.is_some() || process.boot.is_some() || process.recovery.is_some() || process.follow.is_before_start {
            return;
        }
        let replay = process.node.replay();
        let recovered = Recovered { last_commit: process.last_commit.clone(), own_last_round: replay.own_last_round };
        let leaders = StakeSchedule::new(&process.seats.committee);
        let config = CoreConfig {
            min_round_delay_ms: w.config.min_round_delay_ms,
            idle_round_delay_ms: w.config.idle_round_delay_ms,
            leader_timeout_ms: w.config.leader_timeout_ms,
            gc_depth: w.config.parameters.gc_depth,
            leaders_per_round: w.config.parameters.leaders_per_round,
            schedule_commits: w.config.parameters.schedule_commits,
            epoch_ends_at_ms: Some(process.seats.start_ms.saturating_add(w.config.parameters.epoch_ms)),
            ..CoreConfig::default()
        };
        let committee = Arc::clone(&process.seats.committee);
        process.core = Some(ConsensusCore::new(committee, process.seat(), config, leaders, recovered, now_ms));
        for (block, committed) in replay.headers {
            let (_, header) = w.known(&block);
            self.consult(w, |core| core.on_header(block.reference(), header, committed, now_ms));
        }
        self.consult(w, |core| core.finish_recovery(now_ms));
    }

    pub(crate) fn end_session(&mut self, w: &mut World<'_>) {
        let Some(process) = &mut self.process else { return };
        if process.core.take().is_none() {
            return;
        }
        w.new_sessions += 1;
        process.tick_at = None;
        let moved = process.executed() > process.session_commit;
        process.session_commit = process.executed();
        process.session_pause_ms = if moved { SESSION_PAUSE_MS } else { (process.session_pause_ms * 2).min(SESSION_PAUSE_MS_MAX) };
        let pause = process.session_pause_ms * 1_000;
        self.plan(w, pause, Timer::Session);
    }

    /// Lets consensus decide, and acts on it.
    fn consult(&mut self, w: &mut World<'_>, ask: impl FnOnce(&mut ConsensusCore) -> Vec<Action>) {
        let Some(actions) = self.process.as_mut().and_then(|p| p.core.as_mut()).map(ask) else { return };
        for action in actions {
            let goes_on = match action {
                Action::Propose { round } => {
                    let now = self.clock(w);
                    if !self.is_silent()
                        && let Some(process) = &mut self.process
                    {
                        process.node.propose(round, now);
                    }
                    true
                }
                Action::Commit(decided) => self.on_decided(w, decided),
                Action::Refused { .. } => false,
            };
            if !goes_on {
                self.end_session(w);
                return;
            }
        }
    }

    /// Something that the node wants.
    pub(crate) fn carry_out(&mut self, w: &mut World<'_>, effect: Effect) {
        let now_ms = w.now_ms();
        match effect {
            Effect::Accepted(block) => {
                let (packet, header) = w.known(&block);
                let mut committed = false;
                if let Some(process) = &mut self.process {
                    committed = process.node.is_committed(&block.reference());
                    let own = block.reference().author == process.seat();
                    process.writes.push(Item::Block { packet, own });
                    process.findings.extend(process.certifier.on_block(&block));
                }
                self.consult(w, |core| core.on_header(block.reference(), header, committed, now_ms));
            }
            Effect::Pending(pending) => self.consult(w, |core| core.on_pending(pending, now_ms)),
            Effect::Propose(proposal) => {
                let proposal = self.mischief.proposal(proposal);
                if let Some(process) = &mut self.process {
                    process.writes.push(Item::Proposal(proposal));
                }
            }
            Effect::Evidence(first, second) => self.on_evidence(w, &first, &second),
            Effect::Fetch => {
                if let Some(process) = &mut self.process {
                    process.wants_fetch = true;
                }
            }
            Effect::EndSession => self.end_session(w),
        }
    }

    fn on_evidence(&mut self, w: &mut World<'_>, first: &Arc<VerifiedBlock>, second: &Arc<VerifiedBlock>) {
        if w.honest[self.id] {
            w.equivocations += 1;
            let author = self.process.as_ref().and_then(|p| p.seats.participant(first.header().author));
            if author.is_some_and(|author| w.honest[author]) {
                let what = format!("a correct validator would be slashed: it signed {} and {}", first.reference(), second.reference());
                w.fail(author, what);
            }
        }
        let now = self.clock(w);
        if let Some((report, next_sequence)) = self.report(w, first, second)
            && let Some(process) = &mut self.process
        {
            // Another report of the same equivocation may wait already.
            let _ = process.node.add_transaction(Arc::new(report), next_sequence, now);
        }
    }

    /// The transaction that has an equivocator slashed, as dag-service makes it.
    fn report(&self, w: &World<'_>, first: &VerifiedBlock, second: &VerifiedBlock) -> Option<(DecodedTransaction, u64)> {
        let process = self.process.as_ref()?;
        let committee = &process.seats.committee;
        let keys = self.session_key(process)?;
        let accused = committee.get(first.reference().author).filter(|_| first.header().epoch == committee.epoch())?;
        if process.state.validator(accused.operator)?.slashed_epoch == Some(committee.epoch()) {
            return None;
        }
        let sender = Address::of_key(&keys.public);
        // A lane for each culprit, so that one report never waits for another.
        let lane = Lane::try_from(first.reference().author.0 % 255 + 1).unwrap_or(1);
        let sequence = process.state.next_sequence(sender, lane);
        let signed = |b: &VerifiedBlock| SignedHeader { header: b.header().clone(), signature: b.block().signature.clone() };
        let proof = Box::new(EquivocationProof { first: signed(first), second: signed(second) });
        let time_ms = process.last_commit.as_ref().map_or(crate::world::GENESIS_MS, |c| c.timestamp_ms);
        let body = TxBody {
            chain_id: w.chain,
            sender,
            lane,
            sequence,
            valid_until_ms: time_ms + REPORT_VALID_MS,
            fee: 0,
            operations: vec![Operation::ReportEquivocation { proof }],
            memo: Bytes::new(),
        };
        let signature = keys.sign(&signing_message(Purpose::Transaction, w.chain, body.id().0));
        let signed = SignedTransaction { body, signatures: vec![TxSignature { key: KeyRef::Inline(keys.public.clone()), signature }] };
        Some((DecodedTransaction::decode(encode(&signed).into(), w.chain).ok()?, sequence))
    }

    /// A commit: its blocks, its effects, and word of them to everybody. Returns whether the session can go on.
    fn on_decided(&mut self, w: &mut World<'_>, decided: DecidedCommit) -> bool {
        let now = self.clock(w);
        let DecidedCommit { mut commit, skipped, .. } = decided;
        let honest = w.honest[self.id];
        let Some(process) = &mut self.process else { return false };
        let (index, previous) = process.last_commit.as_ref().map_or((0, Digest::ZERO), |c| (c.index, c.digest()));
        if commit.index != index + 1 || commit.previous != previous {
            return false;
        }
        if process.miscommits && commit.blocks.len() > 1 {
            commit.blocks.remove(0);
            process.miscommits = false;
        }
        let Some(blocks) = process.node.committed(&commit) else { return false };
        let (executed, next) = process.execute(w, &commit, &blocks);
        w.work[self.id].transaction_checks += w.book.take_checked();
        process.builder.remember(&executed, |key| process.state.get(key).cloned());
        process.builder.remember(&executed, |key| process.state.get(key).cloned());
        process.state.apply(&executed);
        let checkpoint = process.builder.on_executed(&executed, next);
        process.node.executed(&ExecutedNotice::of(&executed), now);
        if let Some(checkpoint) = &checkpoint {
            process.node.vote(checkpoint.vote());
            process.findings.extend(process.certifier.note_own(checkpoint));
        }
        process.last_commit = Some(commit);
        self.mischief.remember(&blocks);
        let executed = if honest {
            match w.judge.executed(executed) {
                Ok((executed, is_first)) => {
                    w.skipped += if is_first { skipped.len() as u64 } else { 0 };
                    w.note_commit(self.id, is_first);
                    let compared = w.judge.state(executed.commit.index, &process.state);
                    if let Err(what) = compared.and_then(|()| checkpoint.as_ref().map_or(Ok(()), |c| w.judge.closed(c))) {
                        w.fail(Some(self.id), what);
                    }
                    let at = w.now();
                    w.clients.executed(at, self.id, &executed);
                    executed
                }
                Err(what) => {
                    w.fail(Some(self.id), what);
                    return false;
                }
            }
        } else {
            Arc::new(executed)
        };
        process.writes.push(Item::Executed(executed, process.builder.tree().clone(), checkpoint.map(Box::new)));
        if process.executed().is_multiple_of(PRUNE_PERIOD_COMMITS) {
            process.writes.push(Item::Prune(process.gc_round().saturating_sub(PRUNE_DISTANCE_ROUNDS)));
        }
        if let Some(end) = process.epoch_end.take() {
            self.on_certified(w, end);
        }
        true
    }

    /// What the certifier has found since the last look.
    pub(crate) fn look_at_findings(&mut self, w: &mut World<'_>) {
        while let Some(finding) = self.with(|p| p.findings.pop_front()).flatten() {
            match finding {
                CertifierEvent::Certified(certified) => self.on_certified(w, Arc::new(certified)),
                CertifierEvent::Diverged { index, own, other, stake } => {
                    if w.honest[self.id] {
                        let what = format!("checkpoint {index} is {own} here, and stake {stake} votes for others such as {other}");
                        w.fail(Some(self.id), what);
                    }
                }
            }
        }
    }

    /// A quorum vouches for a checkpoint. Own results are compared with it; at an epoch's end the next one begins once that is durable.
    pub(crate) fn on_certified(&mut self, w: &mut World<'_>, certified: Arc<CertifiedCheckpoint>) {
        let honest = w.honest[self.id];
        let Some(process) = &mut self.process else { return };
        let checkpoint = &certified.checkpoint;
        if checkpoint.last_commit > process.executed() {
            if checkpoint.next_epoch.is_some() && checkpoint.epoch == process.seats.committee.epoch() {
                process.epoch_end = Some(certified);
            }
            return;
        }
        let stored = || self.store.checkpoint(checkpoint.index).map(kaldrix_types::Checkpoint::digest);
        // Without an own one it is of a time that this validator has only as a snapshot.
        let Some(own) = process.builder.own_digest(checkpoint.index).or_else(stored) else { return };
        let digest = checkpoint.digest();
        if honest && own != digest {
            w.fail(Some(self.id), format!("checkpoint {} is {own} here, and {digest} is certified", checkpoint.index));
            return;
        }
        process.builder.certified(checkpoint.index);
        process.writes.push(Item::Certified(Arc::clone(&certified)));
        if honest {
            w.note_certified(self.id, &certified);
        }
    }

    /// A certificate is durable.
    pub(crate) fn on_durable_certificate(&mut self, w: &mut World<'_>, certified: &CertifiedCheckpoint) {
        let Some(process) = &mut self.process else { return };
        if certified.checkpoint.epoch == process.seats.committee.epoch()
            && let Some(seats) = w.epoch_after(&certified.checkpoint)
        {
            process.enter(seats, &self.store, false, w);
            self.entered(w);
        }
    }

    /// The node is in another epoch, or behind a snapshot.
    pub(crate) fn entered(&mut self, w: &mut World<'_>) {
        if self.with(|p| p.boot.take()).flatten().is_some() {
            // Whether it may have signed in this epoch is a new question.
            self.begin_boot(w);
        } else {
            self.begin_session(w);
        }
        self.take_early(w);
    }

    /// Blocks that came before their epoch had begun here; what is still too early is kept again.
    pub(crate) fn take_early(&mut self, w: &mut World<'_>) {
        for (from, packet) in self.with(|p| std::mem::take(&mut p.early)).unwrap_or_default() {
            self.take(w, from, &packet);
        }
    }

    pub(crate) fn on_tick(&mut self, w: &mut World<'_>) {
        if let Some(process) = &mut self.process {
            process.tick_at = None;
        }
        let now_ms = w.now_ms();
        self.consult(w, |core| core.on_tick(now_ms));
    }

    /// Consensus has asked to be woken.
    pub(crate) fn plan_tick(&mut self, w: &mut World<'_>) {
        let now = w.now();
        let Some(process) = &mut self.process else { return };
        let Some(deadline_ms) = process.core.as_ref().and_then(ConsensusCore::next_deadline_ms) else { return };
        // Never at once again: a deadline that has passed is looked at a millisecond later.
        let at = (deadline_ms * 1_000).max(now + 1_000);
        if process.tick_at.is_none_or(|planned| planned > at) {
            process.tick_at = Some(at);
            self.plan(w, at - now, Timer::Tick);
        }
    }
}
