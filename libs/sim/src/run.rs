//! One run from its first event to its report.

use crate::config::SimConfig;
use crate::faults::Who;
use crate::network::region_names;
use crate::queue::Micros;
use crate::report::{Finality, Load, Outcome, Problem, Progress, Report, Slowest, Transactions};
use crate::rng::Rng;
use crate::store::Store;
use crate::validator::Validator;
use crate::world::{Event, World};

/// Memory, supply and progress are looked at this often.
pub(crate) const AUDIT_PERIOD: Micros = 100_000;
/// Clients look at what they wait for this often.
const CLIENT_PERIOD: Micros = 125_000;

/// Whether a set names this participant.
pub(crate) fn is_among(who: &Who, participant: usize, region: &str) -> bool {
    match who {
        Who::All => true,
        Who::These(list) => list.iter().any(|n| usize::from(*n) == participant),
        Who::Region(name) => name == region,
    }
}

/// Runs `config` to its end. `progress` is told now and then how far it is.
///
/// Faults that name validators or regions that do not exist hit nobody: [`SimConfig::check`] finds those.
///
/// # Panics
/// When a core panics, which is a defect of the core; and for a configuration that [`SimConfig::check`] refuses.
#[must_use]
pub fn run(config: &SimConfig, progress: &mut dyn FnMut(Progress)) -> Report {
    Run::new(config).finish(progress)
}

pub(crate) struct Run<'a> {
    pub(crate) world: World<'a>,
    pub(crate) validators: Vec<Validator>,
    pub(crate) regions: Vec<String>,
    rng: Rng,
    events: u64,
    pub(crate) crashes: u64,
    pub(crate) restarts: u64,
    pub(crate) audits: u64,
    /// Which commit everybody has to reach once all is final.
    pub(crate) target: Option<u64>,
    /// Which checkpoint has to be certified then.
    pub(crate) certified_target: Option<u64>,
    pub(crate) is_over: bool,
}

impl<'a> Run<'a> {
    fn new(config: &'a SimConfig) -> Self {
        let (world, keys) = World::new(config);
        let validators = keys
            .into_iter()
            .enumerate()
            .map(|(id, keys)| Validator::new(id, keys, Store::new(world.genesis.clone(), world.genesis_tree.clone()), config.seed))
            .collect();
        let regions = region_names(config.regions);
        let rng = Rng::new(config.seed, 3);
        let mut run = Self {
            world,
            validators,
            regions,
            rng,
            events: 0,
            crashes: 0,
            restarts: 0,
            audits: 0,
            target: None,
            certified_target: None,
            is_over: false,
        };
        run.plan();
        run
    }

    fn plan(&mut self) {
        let config = self.world.config;
        let queue = &mut self.world.queue;
        for (number, fault) in config.faults.list.iter().enumerate() {
            queue.at(fault.from_ms * 1_000, Event::FaultBegins(number));
            if let Some(until_ms) = fault.until_ms {
                queue.at(until_ms * 1_000, Event::FaultEnds(number));
            }
        }
        queue.at(AUDIT_PERIOD, Event::Audit);
        queue.at(CLIENT_PERIOD, Event::Clients);
        // Processes do not start all at once.
        for id in 0..config.participants() {
            let after = self.rng.below(20_000);
            self.world.queue.at(after, Event::Timer { who: id, life: 0, timer: crate::world::Timer::Start });
        }
        if let Some(pause) = self.world.clients.pause() {
            self.world.queue.at(100_000 + pause, Event::Submit);
        }
    }

    pub(crate) const fn end(&self) -> Micros {
        self.world.config.seconds * 1_000_000
    }

    fn finish(mut self, progress: &mut dyn FnMut(Progress)) -> Report {
        while !self.is_over
            && self.world.problem.is_none()
            && let Some(event) = self.world.queue.next()
        {
            self.events += 1;
            let is_audit = matches!(event, Event::Audit);
            self.handle(event);
            if is_audit {
                let (virtual_ms, end_ms) = (self.world.now_ms(), self.end() / 1_000);
                let finals = self.world.clients.finals;
                progress(Progress { virtual_ms, end_ms, commits: self.world.judge.commits(), finals });
            }
        }
        self.report()
    }

    pub(crate) fn handle(&mut self, event: Event) {
        let event = match self.addressee(&event) {
            Some(who) => match &mut self.validators[who].backlog {
                Some(backlog) => return backlog.push(event),
                None => event,
            },
            None => event,
        };
        let w = &mut self.world;
        match event {
            Event::Message { from, to, message } => self.validators[to].on_message(w, from, message),
            Event::Timer { who, life, timer } => {
                let validator = &mut self.validators[who];
                if validator.life == life && (validator.process.is_some() || matches!(timer, crate::world::Timer::Start)) {
                    validator.on_timer(w, timer);
                }
            }
            Event::FaultBegins(number) => self.begin_fault(number),
            Event::FaultEnds(number) => self.end_fault(number),
            Event::Submit => self.submit_new(),
            Event::Clients => self.clients_look(),
            Event::Audit => self.audit(),
        }
    }

    const fn addressee(&self, event: &Event) -> Option<usize> {
        match event {
            Event::Message { to, .. } => Some(*to),
            Event::Timer { who, .. } => Some(*who),
            _ => None,
        }
    }

    // --- clients --------------------------------------------------------------------------------------------------------------------

    /// Correct validators whose processes are there: whom clients turn to.
    fn open(&self) -> Vec<usize> {
        (0..self.validators.len()).filter(|id| self.world.honest[*id] && self.world.up[*id]).collect()
    }

    fn submit_new(&mut self) {
        let now = self.world.now();
        if now >= self.end() {
            return;
        }
        if let Some(pause) = self.world.clients.pause() {
            self.world.queue.after(pause, Event::Submit);
        }
        let open = self.open();
        if open.is_empty() {
            return;
        }
        for submission in self.world.clients.next(now, &open) {
            self.hand_in(submission);
        }
    }

    fn hand_in(&mut self, submission: crate::clients::Submission) {
        let crate::clients::Submission { tx, validator } = submission;
        if self.validators[validator].backlog.is_some() {
            // It stands still: no answer.
            return;
        }
        let id = tx.id();
        let accepted = self.validators[validator].submit(&mut self.world, tx);
        let now = self.world.now();
        self.world.clients.answered(now, &id, accepted);
    }

    fn clients_look(&mut self) {
        self.world.queue.after(CLIENT_PERIOD, Event::Clients);
        let now = self.world.now();
        let open = self.open();
        for (id, _) in self.world.clients.due(now) {
            // Whomever it asks now knows the outcome if there is one.
            if self.world.judge.outcome(&id).is_some() {
                self.world.clients.settle(now, id);
            } else if !open.is_empty()
                && let Some(submission) = self.world.clients.resubmit(now, &id, &open)
            {
                self.hand_in(submission);
            }
        }
    }

    // --- report ---------------------------------------------------------------------------------------------------------------------

    fn stuck(&self) -> Option<Problem> {
        let (at_ms, w_checkpoints) = (self.world.now_ms(), self.world.checkpoints);
        if let Some(what) = self.world.clients.unsettled() {
            return Some(Problem { what, validator: None, at_ms });
        }
        if let Some(target) = self.certified_target.filter(|target| w_checkpoints < *target) {
            let what = format!("checkpoint {target} is closed, and the newest certified one is {w_checkpoints}");
            return Some(Problem { what, validator: None, at_ms });
        }
        let (id, executed) = self.behind(self.target.unwrap_or_else(|| self.world.judge.commits()))?;
        let what = format!("validator {id} stands at commit {executed} of {}", self.world.judge.commits());
        Some(Problem { what, validator: Some(id), at_ms })
    }

    /// Where every validator stands.
    fn standings(&self) -> String {
        let of = |v: &Validator| match &v.process {
            None => format!("{}: down", v.id),
            Some(p) => format!("{}: {}", v.id, p.standing()),
        };
        self.validators.iter().map(of).collect::<Vec<_>>().join(", ")
    }

    fn report(mut self) -> Report {
        let now = self.world.now();
        for id in 0..self.validators.len() {
            if let Some(since) = self.world.waits_since[id].filter(|_| self.world.honest[id]) {
                self.world.gap_max = self.world.gap_max.max(now - since);
            }
        }
        let ledger_gap = self.world.ledger_gap_max.max(now - self.world.ledger_last);
        let (outcome, problem) = match self.world.problem.take() {
            Some(problem) => (Outcome::Diverged, Some(problem)),
            None => match self.stuck() {
                Some(problem) => {
                    let what = format!("{}; {}", problem.what, self.standings());
                    (Outcome::NoProgress, Some(Problem { what, ..problem }))
                }
                None => (Outcome::Pass, None),
            },
        };
        let w = &self.world;
        let commits = w.judge.commits();
        let per_commit = |sum: u64| rounded(sum as f64 / commits.max(1) as f64);
        let total = |of: fn(&crate::world::Work) -> u64| w.work.iter().map(of).sum::<u64>();
        let seconds = now as f64 / 1_000_000.0;
        let rate = |of| rounded(total(of) as f64 / self.validators.len() as f64 / seconds.max(0.001));
        let ms = |us: Micros| (us / 10) as f64 / 100.0;
        let slowest = w.clients.slowest.as_ref();
        Report {
            outcome,
            finality_ms: Finality::of(w.clients.samples.clone()),
            commits,
            skipped: w.skipped,
            bytes_per_commit: per_commit(total(|w| w.bytes)),
            signatures_per_commit: per_commit(total(|w| w.signatures)),
            gap_max_ms: ms(w.gap_max),
            ledger_gap_max_ms: ms(ledger_gap),
            problem,
            replay: w.config.replay(),
            faults: w.config.faults.to_string(),
            validators: w.config.validators,
            regions: w.config.regions.to_string(),
            seed: w.config.seed,
            virtual_seconds: rounded(seconds),
            epochs: w.epochs.len() as u64,
            checkpoints: w.checkpoints,
            snapshots: w.snapshots,
            slashed: w.slashed,
            transactions: Transactions {
                submitted: w.clients.submitted,
                accepted: w.clients.accepted,
                succeeded: w.judge.succeeded,
                failed: w.judge.failed,
                discarded: w.judge.discarded,
                resubmitted: w.clients.resubmitted,
                refused: w.clients.refused,
            },
            load: Load {
                messages: rate(|w| w.messages),
                bytes: rate(|w| w.bytes),
                signatures: rate(|w| w.signatures),
                block_checks: rate(|w| w.block_checks),
                transaction_checks: rate(|w| w.transaction_checks),
            },
            peaks: w.peaks,
            equivocations: w.equivocations,
            refused_blocks: w.refused_blocks,
            new_sessions: w.new_sessions,
            crashes: self.crashes,
            restarts: self.restarts,
            slowest: slowest.map(|(took, id, at, validator)| Slowest {
                id: id.to_string(),
                ms: ms(*took),
                submitted_at_ms: at / 1_000,
                validator: *validator,
            }),
            digest: w.judge.digest().to_string(),
            events: self.events,
            wall_ms: None,
        }
    }
}

/// To two decimals, so that reports are easy to read.
fn rounded(value: f64) -> f64 {
    (value * 100.0).round() / 100.0
}
