//! What all validators of a run share: time, the network between them, the clients, the judge, and the books.

use crate::clients::Clients;
use crate::config::SimConfig;
use crate::judge::Judge;
use crate::keys::{KeyBook, KeyPair};
use crate::network::{Network, region_names};
use crate::packet::{Message, Packet};
use crate::queue::{Micros, Queue};
use crate::report::{Peaks, Problem};
use crate::state::State;
use crate::store::Store;
use kaldrix_checkpoint::StateTree;
use kaldrix_dag::Proposal;
use kaldrix_types::{
    Address, BlockRef, CertifiedCheckpoint, ChainId, Checkpoint, Committee, Digest, Epoch, Genesis, Header, Round, TimestampMs, Validator,
    ValidatorIndex, VerifiedBlock,
};
use std::collections::HashMap;
use std::sync::Arc;

/// What a participant is called.
pub(crate) fn name_of(participant: usize) -> String {
    format!("v{participant}")
}

/// When every simulated chain begins.
pub(crate) const GENESIS_MS: TimestampMs = 1_800_000_000_000;

/// What happens.
#[derive(Debug)]
pub(crate) enum Event {
    Message {
        from: usize,
        to: usize,
        message: Message,
    },
    /// Of one life of a process: it dies with that.
    Timer {
        who: usize,
        life: u32,
        timer: Timer,
    },
    FaultBegins(usize),
    FaultEnds(usize),
    /// A client has a new transaction.
    Submit,
    /// Clients look whether they waited long enough.
    Clients,
    /// Memory, supply, progress.
    Audit,
}

/// What a process has planned for itself.
#[derive(Debug)]
pub(crate) enum Timer {
    /// The process starts for the first time.
    Start,
    Tick,
    Fetch,
    Rebroadcast,
    Linger,
    Written,
    Signed(Box<Proposal>),
    Session,
    Boot,
    Follow,
    /// Somebody is in a later epoch.
    Hint,
    CatchUp,
    /// A Byzantine validator's message, later than it should have been sent.
    Send(usize, Packet),
}

/// One epoch's committee, and which participant holds which seat.
#[derive(Debug)]
pub(crate) struct Seats {
    pub(crate) committee: Arc<Committee>,
    /// Consensus time at which the epoch began.
    pub(crate) start_ms: TimestampMs,
    /// Participant by seat.
    participants: Vec<usize>,
    /// Seat by participant.
    seats: Vec<ValidatorIndex>,
}

impl Seats {
    fn new(committee: Committee, start_ms: TimestampMs, participants: usize) -> Self {
        let number = |v: &Validator| v.name.trim_start_matches('v').parse().unwrap_or(usize::MAX);
        let numbers: Vec<usize> = committee.validators().iter().map(number).collect();
        let mut seats = vec![ValidatorIndex::OBSERVER; participants];
        for (seat, participant) in committee.indices().zip(&numbers) {
            seats[*participant] = seat;
        }
        Self { committee: Arc::new(committee), start_ms, participants: numbers, seats }
    }

    pub(crate) fn seat(&self, participant: usize) -> ValidatorIndex {
        self.seats.get(participant).copied().unwrap_or(ValidatorIndex::OBSERVER)
    }

    pub(crate) fn participant(&self, seat: ValidatorIndex) -> Option<usize> {
        self.participants.get(seat.as_usize()).copied()
    }

    pub(crate) fn participants(&self) -> &[usize] {
        &self.participants
    }
}

/// What a validator has done so far.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Work {
    pub(crate) messages: u64,
    pub(crate) bytes: u64,
    pub(crate) signatures: u64,
    pub(crate) block_checks: u64,
    pub(crate) transaction_checks: u64,
}

struct Known {
    packet: Packet,
    header: Arc<Header>,
}

/// See the module's text.
pub(crate) struct World<'a> {
    pub(crate) config: &'a SimConfig,
    pub(crate) queue: Queue<Event>,
    pub(crate) network: Network,
    pub(crate) book: KeyBook,
    pub(crate) chain: ChainId,
    /// By epoch.
    pub(crate) epochs: Vec<Arc<Seats>>,
    /// The chain's definition, and its state at the beginning.
    pub(crate) definition: Genesis,
    pub(crate) genesis: State,
    pub(crate) genesis_tree: StateTree,
    /// Who bonds, by participant.
    pub(crate) operators: Vec<Address>,
    pub(crate) judge: Judge,
    pub(crate) clients: Clients,
    /// Correct from the beginning to the end.
    pub(crate) honest: Vec<bool>,
    pub(crate) up: Vec<bool>,
    pub(crate) work: Vec<Work>,
    pub(crate) peaks: Peaks,
    pub(crate) problem: Option<Problem>,
    /// What correct validators signed, whatever they have lost since: looked up only.
    signed: HashMap<(usize, Epoch, Round), Digest>,
    /// Blocks on their way, shared by all: looked up only.
    known: HashMap<BlockRef, Known>,
    pub(crate) skipped: u64,
    pub(crate) equivocations: u64,
    pub(crate) refused_blocks: u64,
    pub(crate) new_sessions: u64,
    /// Highest index of a certificate that a correct validator has.
    pub(crate) checkpoints: u64,
    pub(crate) recoveries: u64,
    pub(crate) snapshots: u64,
    /// Validators that were slashed, all of them rightly.
    pub(crate) slashed: u64,
    /// Since when each validator waits for a commit; none while it cannot get one.
    pub(crate) waits_since: Vec<Option<Micros>>,
    pub(crate) gap_max: Micros,
    pub(crate) ledger_last: Micros,
    pub(crate) ledger_gap_max: Micros,
}

impl<'a> World<'a> {
    /// The world before anything happened, and the validators' keys.
    pub(crate) fn new(config: &'a SimConfig) -> (Self, Vec<Vec<KeyPair>>) {
        let mut book = KeyBook::new(config.seed);
        let network = Network::new(config);
        let regions = region_names(config.regions);
        let count = config.participants();
        let keys: Vec<Vec<KeyPair>> =
            (0..count).map(|number| vec![book.issue("validator", number), book.issue("next validator", number)]).collect();
        let operator_keys: Vec<KeyPair> = (0..count).map(|number| book.issue("operator", number)).collect();
        let operators: Vec<Address> = operator_keys.iter().map(|pair| Address::of_key(&pair.public)).collect();
        let validators = keys.iter().enumerate().take(config.validators).map(|(number, pairs)| Validator {
            name: name_of(number),
            region: regions[network.region_of(number)].clone(),
            stake: config.stakes.get(number).copied().unwrap_or(1_000),
            key: pairs[0].public.clone(),
            operator: operators[number],
        });
        let validators = validators.collect();
        let sessions = keys.iter().map(|pairs| pairs.to_vec()).collect();
        let mut clients = Clients::new(config, &mut book, operator_keys, sessions);
        let definition = Genesis {
            name: format!("simulation {}", config.seed),
            timestamp_ms: GENESIS_MS,
            parameters: config.parameters.clone(),
            validators,
            accounts: clients.genesis_accounts(),
        };
        clients.set_chain(definition.chain_id());
        let committee = definition.committee().expect("a checked configuration has validators enough, with keys of their own");
        let state = definition.state().expect("the model's accounts are distinct and their sum is small");
        let genesis = State::of(&state);
        let seats = Arc::new(Seats::new(committee, GENESIS_MS, count));
        let is_byzantine = |participant: usize| {
            let region = &regions[network.region_of(participant)];
            config.faults.is_byzantine(|who| crate::run::is_among(who, participant, region))
        };
        let honest = (0..count).map(|p| !is_byzantine(p)).collect();
        let world = Self {
            config,
            queue: Queue::new(),
            book,
            chain: definition.chain_id(),
            epochs: vec![seats],
            genesis_tree: genesis.tree(),
            genesis,
            definition,
            operators,
            judge: Judge::default(),
            clients,
            honest,
            up: vec![false; count],
            work: vec![Work::default(); count],
            peaks: Peaks::default(),
            problem: None,
            signed: HashMap::new(),
            known: HashMap::new(),
            skipped: 0,
            equivocations: 0,
            refused_blocks: 0,
            new_sessions: 0,
            checkpoints: 0,
            recoveries: 0,
            snapshots: 0,
            slashed: 0,
            waits_since: (0..count).map(|p| (p < config.validators).then_some(0)).collect(),
            gap_max: 0,
            ledger_last: 0,
            ledger_gap_max: 0,
            network,
        };
        (world, keys)
    }

    /// The epoch that a verified checkpoint begins, if it begins one: the same for everybody.
    pub(crate) fn epoch_after(&mut self, end: &Checkpoint) -> Option<Arc<Seats>> {
        let committee = end.next_committee()?;
        let number = usize::try_from(end.epoch + 1).unwrap_or(usize::MAX);
        match (self.epochs.get(number), committee) {
            (Some(known), Ok(committee)) if *known.committee == committee => return Some(Arc::clone(known)),
            (None, Ok(committee)) if number == self.epochs.len() => {
                let seats = Arc::new(Seats::new(committee, end.timestamp_ms, self.config.participants()));
                self.epochs.push(Arc::clone(&seats));
                return Some(seats);
            }
            (_, Ok(_)) => self.fail(None, format!("epoch {number} has another committee for some, or does not follow the one before")),
            (_, Err(error)) => self.fail(None, format!("epoch {number} has no committee: {error}")),
        }
        None
    }

    /// The epoch that a store says is running.
    pub(crate) fn seats_of(&mut self, store: &Store) -> Arc<Seats> {
        let Some(newest) = store.last_certified() else { return Arc::clone(&self.epochs[0]) };
        match self.epoch_after(&newest.checkpoint) {
            Some(next) => next,
            None => {
                let number = usize::try_from(newest.checkpoint.epoch).unwrap_or(usize::MAX);
                Arc::clone(self.epochs.get(number).expect("a certificate of an epoch comes after that epoch's begin"))
            }
        }
    }

    /// The newest epoch.
    pub(crate) fn newest(&self) -> &Arc<Seats> {
        self.epochs.last().expect("epoch 0 is always there")
    }

    /// A correct validator believes a certificate.
    pub(crate) fn note_certified(&mut self, validator: usize, certified: &CertifiedCheckpoint) {
        let Checkpoint { index, epoch, .. } = certified.checkpoint;
        match self.judge.certified(certified) {
            Ok(false) => {}
            Ok(true) => {
                self.checkpoints = self.checkpoints.max(index);
                let committee = usize::try_from(epoch).ok().and_then(|e| self.epochs.get(e)).map(|seats| Arc::clone(&seats.committee));
                if committee.is_none_or(|committee| certified.verify(&committee, &self.book).is_err()) {
                    self.fail(Some(validator), format!("the certificate of checkpoint {index} does not hold"));
                }
            }
            Err(what) => self.fail(Some(validator), what),
        }
    }

    pub(crate) const fn now(&self) -> Micros {
        self.queue.now()
    }

    pub(crate) const fn now_ms(&self) -> u64 {
        self.queue.now() / 1_000
    }

    /// An invariant is broken: the run ends here.
    pub(crate) fn fail(&mut self, validator: Option<usize>, what: impl Into<String>) {
        let at_ms = self.now_ms();
        self.problem.get_or_insert_with(|| Problem { what: what.into(), validator, at_ms });
    }

    /// A key signs a block. A correct validator's signs one block per round, whatever the validator has lost.
    pub(crate) fn note_signed(&mut self, validator: usize, epoch: Epoch, block: BlockRef) {
        if !self.honest[validator] {
            return;
        }
        let before = *self.signed.entry((validator, epoch, block.round)).or_insert(block.digest);
        if before != block.digest {
            let what = format!(
                "a correct validator signs a second block in round {} of epoch {epoch}: {before}, then {}",
                block.round, block.digest
            );
            self.fail(Some(validator), what);
        }
    }

    pub(crate) fn send(&mut self, from: usize, to: usize, message: Message) {
        let bytes = message.bytes();
        let work = &mut self.work[from];
        work.messages += 1;
        work.bytes += bytes as u64;
        let now = self.now();
        let [first, second] = self.network.send(now, from, to, bytes);
        if let Some(at) = second {
            self.queue.at(at, Event::Message { from, to, message: message.clone() });
        }
        if let Some(at) = first {
            self.queue.at(at, Event::Message { from, to, message });
        }
    }

    /// The one copy of a verified block that travels and is stored, and its header.
    pub(crate) fn known(&mut self, block: &Arc<VerifiedBlock>) -> (Packet, Arc<Header>) {
        let known = self
            .known
            .entry(block.reference())
            .or_insert_with(|| Known { packet: Packet::verified(block), header: Arc::new(block.header().clone()) });
        (known.packet.clone(), Arc::clone(&known.header))
    }

    /// Forgets blocks that nobody will ask for under ordinary circumstances; who asks gets another copy.
    pub(crate) fn forget_below(&mut self, round: Round) {
        self.known.retain(|reference, _| reference.round >= round);
    }

    /// A validator went on by a commit.
    pub(crate) fn note_commit(&mut self, validator: usize, is_first: bool) {
        let now = self.now();
        if is_first {
            self.ledger_gap_max = self.ledger_gap_max.max(now - self.ledger_last);
            self.ledger_last = now;
        }
        if let Some(since) = self.waits_since[validator].replace(now) {
            self.gap_max = self.gap_max.max(now - since);
        }
    }
}
