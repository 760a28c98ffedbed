//! The workload: clients that submit transfers, and wait, and insist.
//!
//! What ACCEPTED promises: the validator's mempool has the transaction and proposes it while the process lives. A mempool is memory, so after
//! a crash, or when a validator is cut off, the client hands the same transaction to another validator: it is executed once all the same.
//! So the promise that is checked is the client's: what a correct validator accepted becomes final, at the latest after the network healed
//! and the client asked again.

use crate::config::SimConfig;
use crate::keys::{KeyBook, KeyPair};
use crate::queue::Micros;
use crate::rng::Rng;
use bytes::Bytes;
use kaldrix_types::{
    Address, AssetId, ChainId, DecodedTransaction, ExecutedCommit, GenesisAccount, KeyRef, Lane, Operation, OutcomeStatus, Purpose,
    Sequence, SignedTransaction, TimestampMs, TxBody, TxId, TxSignature, WEIGHT_UNIT, encode, signing_message, validator_key_digest,
};
use std::collections::BTreeMap;
use std::sync::Arc;

/// After this long without the outcome a client hands the transaction to another validator.
const PATIENCE: Micros = 2_000_000;
/// After a refusal it tries again sooner.
const RETRY: Micros = 250_000;
/// What is submitted before is not measured: at the start nobody is busy yet, and rounds are slow.
const WARM_UP: Micros = 1_000_000;
const LANES: Lane = 8;
const ACCOUNT_BALANCE: u128 = 1_000_000_000;
const OPERATOR_BALANCE: u128 = 10_000 * WEIGHT_UNIT;
/// What a validator that joins bonds: as much as each of the first ones by default.
const SPARE_STAKE: u128 = 1_000 * WEIGHT_UNIT;
/// How long transactions are valid: longer than any run settles.
const VALIDITY_MS: u64 = 20 * 3_600_000;

struct Account {
    address: Address,
    keys: KeyPair,
    /// Its key is in the state: transactions name it by index from now on.
    known: bool,
}

/// A validator's operator: an account, its one slot, and what it knows about its validator.
struct Operator {
    slot: usize,
    is_free: bool,
    /// Of the validator: the first one, and the one to rotate to.
    sessions: Vec<KeyPair>,
    rotations: usize,
    /// Not one of the first validators.
    is_spare: bool,
    registered: bool,
}

/// One sequence of one account: at most one transaction at a time, or two rivals for the same place.
struct Slot {
    account: usize,
    lane: Lane,
    sequence: Sequence,
}

struct Waiting {
    tx: Arc<DecodedTransaction>,
    slot: usize,
    first_submitted: Micros,
    /// Asks again from here on.
    due: Micros,
    validator: usize,
    accepted: bool,
}

/// One submission.
pub(crate) struct Submission {
    pub(crate) tx: Arc<DecodedTransaction>,
    pub(crate) validator: usize,
}

/// See the module's text.
pub(crate) struct Clients {
    chain: ChainId,
    rng: Rng,
    accounts: Vec<Account>,
    slots: Vec<Slot>,
    operators: Vec<Operator>,
    first_operator_slot: usize,
    /// Whether validators come, go and bond.
    has_churn: bool,
    free: Vec<usize>,
    waiting: BTreeMap<TxId, Waiting>,
    /// Final ones, to be handed in again now and then.
    old: Vec<Arc<DecodedTransaction>>,
    valid_until_ms: TimestampMs,
    interval: Micros,
    warm_up: Micros,
    /// Transactions with an outcome.
    pub(crate) finals: u64,
    /// Submission to outcome, of those submitted after the start-up.
    pub(crate) samples: Vec<Micros>,
    pub(crate) slowest: Option<(Micros, TxId, Micros, usize)>,
    pub(crate) submitted: u64,
    pub(crate) accepted: u64,
    pub(crate) resubmitted: u64,
    pub(crate) refused: u64,
}

impl Clients {
    /// Accounts with their keys, in the book from now on.
    pub(crate) fn new(config: &SimConfig, book: &mut KeyBook, operator_keys: Vec<KeyPair>, sessions: Vec<Vec<KeyPair>>) -> Self {
        let count = (config.rate as usize).clamp(16, 2_000);
        let accounts = (0..count).map(|number| {
            let keys = book.issue("account", number);
            Account { address: Address::of_key(&keys.public), keys, known: false }
        });
        let mut accounts: Vec<Account> = accounts.collect();
        let slot = |(lane, account)| Slot { account, lane, sequence: 0 };
        let mut slots: Vec<Slot> = (0..LANES).flat_map(|lane| (0..count).map(move |account| (lane, account))).map(slot).collect();
        let free = (0..slots.len()).collect();
        let first_operator_slot = slots.len();
        let mut operators = Vec::new();
        for (number, (keys, sessions)) in operator_keys.into_iter().zip(sessions).enumerate() {
            operators.push(Operator {
                slot: slots.len(),
                is_free: true,
                sessions,
                rotations: 0,
                is_spare: number >= config.validators,
                registered: number < config.validators,
            });
            slots.push(Slot { account: accounts.len(), lane: 0, sequence: 0 });
            accounts.push(Account { address: Address::of_key(&keys.public), keys, known: false });
        }
        Self {
            chain: ChainId::default(),
            rng: Rng::new(config.seed, 2),
            operators,
            first_operator_slot,
            has_churn: config.spares() > 0,
            free,
            accounts,
            slots,
            waiting: BTreeMap::new(),
            old: Vec::new(),
            valid_until_ms: crate::world::GENESIS_MS + VALIDITY_MS,
            interval: if config.rate == 0 { 0 } else { 1_000_000 / Micros::from(config.rate) },
            warm_up: WARM_UP.min(config.seconds * 250_000),
            finals: 0,
            samples: Vec::new(),
            slowest: None,
            submitted: 0,
            accepted: 0,
            resubmitted: 0,
            refused: 0,
        }
    }

    pub(crate) fn genesis_accounts(&self) -> Vec<GenesisAccount> {
        let operators = self.slots[self.first_operator_slot..].iter().map(|slot| slot.account).min().unwrap_or(self.accounts.len());
        let amount = |number: usize| if number < operators { ACCOUNT_BALANCE } else { OPERATOR_BALANCE };
        self.accounts.iter().enumerate().map(|(number, a)| GenesisAccount { address: a.address, amount: amount(number) }).collect()
    }

    pub(crate) const fn set_chain(&mut self, chain: ChainId) {
        self.chain = chain;
    }

    /// Time until the next new transaction; none when the rate is zero.
    pub(crate) fn pause(&mut self) -> Option<Micros> {
        (self.interval > 0).then(|| self.rng.between(self.interval / 2, self.interval * 3 / 2))
    }

    /// Whether every client has its outcome.
    pub(crate) fn is_settled(&self) -> bool {
        self.waiting.is_empty()
    }

    /// A transaction without an outcome, for the report.
    pub(crate) fn unsettled(&self) -> Option<String> {
        let accepted = self.waiting.values().find(|w| w.accepted).or_else(|| self.waiting.values().next())?;
        Some(format!(
            "{} transactions are not final; {} was submitted at {} ms and last handed to validator {}",
            self.waiting.len(),
            accepted.tx.id(),
            accepted.first_submitted / 1_000,
            accepted.validator
        ))
    }

    /// New transactions for these validators (never empty), in most cases one.
    pub(crate) fn next(&mut self, now: Micros, validators: &[usize]) -> Vec<Submission> {
        let kind = self.rng.below(100);
        if kind < 2
            && let Some(tx) = self.rng.pick(&self.old).cloned()
        {
            // Long final: whoever gets it must not execute it again.
            let validator = self.choose(validators);
            return vec![Submission { tx, validator }];
        }
        if self.has_churn
            && self.rng.chance(60)
            && let Some((slot, tx)) = self.operate()
        {
            return vec![self.submit(now, slot, tx, validators)];
        }
        // Under pressure clients wait for their turn.
        let Some(slot) = self.take_slot() else { return Vec::new() };
        let amount =
            if kind < 4 { u128::from(self.rng.between(2, 9)) * ACCOUNT_BALANCE * 1_000 } else { u128::from(self.rng.between(1, 500)) };
        let first = self.transfer(slot, amount);
        let mut submissions = vec![self.submit(now, slot, first, validators)];
        if (4..8).contains(&kind) {
            // The same to several validators at once.
            let tx = Arc::clone(&submissions[0].tx);
            for _ in 0..2 {
                submissions.push(Submission { tx: Arc::clone(&tx), validator: self.choose(validators) });
            }
        } else if (8..12).contains(&kind) {
            // A rival for the same place in the sequence: one of the two is executed.
            let rival = self.transfer(slot, amount + 1);
            submissions.push(self.submit(now, slot, rival, validators));
        }
        submissions
    }

    fn take_slot(&mut self) -> Option<usize> {
        let position = self.rng.below(self.free.len() as u64) as usize;
        (!self.free.is_empty()).then(|| self.free.swap_remove(position))
    }

    fn choose(&mut self, validators: &[usize]) -> usize {
        self.rng.pick(validators).copied().unwrap_or(0)
    }

    fn submit(&mut self, now: Micros, slot: usize, tx: Arc<DecodedTransaction>, validators: &[usize]) -> Submission {
        let validator = self.choose(validators);
        let waiting = Waiting { tx: Arc::clone(&tx), slot, first_submitted: now, due: now + PATIENCE, validator, accepted: false };
        self.waiting.insert(tx.id(), waiting);
        self.submitted += 1;
        Submission { tx, validator }
    }

    /// What an operator wants next. Correct validators bond and rotate their keys; only those that came later leave again: whoever fails
    /// besides is a share of those that are left.
    fn operate(&mut self) -> Option<(usize, Arc<DecodedTransaction>)> {
        let number = self.operators.iter().position(|o| !o.registered).unwrap_or(self.rng.below(self.operators.len() as u64) as usize);
        let chain = self.chain;
        let operator = self.operators.get_mut(number).filter(|o| o.is_free)?;
        operator.is_free = false;
        let slot = operator.slot;
        let address = self.accounts[self.slots[slot].account].address;
        let proof = |pair: &KeyPair| pair.sign(&signing_message(Purpose::ValidatorKey, chain, validator_key_digest(address, &pair.public)));
        let amount = u128::from(self.rng.between(1, 10)) * WEIGHT_UNIT;
        let operation = if operator.registered {
            match self.rng.below(if operator.is_spare { 8 } else { 6 }) {
                0 | 1 => Operation::Stake { amount },
                2 => Operation::Unstake { amount },
                3 | 4 => {
                    operator.rotations += 1;
                    let pair = &operator.sessions[operator.rotations % operator.sessions.len()];
                    Operation::RotateSessionKey { key: pair.public.clone(), proof: proof(pair) }
                }
                5 => Operation::Unjail,
                _ => Operation::LeaveValidators,
            }
        } else {
            operator.registered = true;
            let pair = &operator.sessions[0];
            let (key, proof) = (pair.public.clone(), proof(pair));
            Operation::RegisterValidator { name: crate::world::name_of(number), region: "spare".into(), key, stake: SPARE_STAKE, proof }
        };
        Some((slot, self.transaction(slot, operation)))
    }

    fn transfer(&mut self, slot: usize, amount: u128) -> Arc<DecodedTransaction> {
        let to = self.rng.below(self.accounts.len() as u64) as usize;
        self.transaction(slot, Operation::Transfer { to: self.accounts[to].address, asset: AssetId::NATIVE, amount })
    }

    fn transaction(&self, slot: usize, operation: Operation) -> Arc<DecodedTransaction> {
        let Slot { account, lane, sequence } = self.slots[slot];
        let sender = &self.accounts[account];
        let body = TxBody {
            chain_id: self.chain,
            sender: sender.address,
            lane,
            sequence,
            valid_until_ms: self.valid_until_ms,
            fee: 1,
            operations: vec![operation],
            memo: Bytes::new(),
        };
        let key = if sender.known { KeyRef::Index(0) } else { KeyRef::Inline(sender.keys.public.clone()) };
        let signature = sender.keys.sign(&signing_message(Purpose::Transaction, self.chain, body.id().0));
        let signed = SignedTransaction { body, signatures: vec![TxSignature { key, signature }] };
        Arc::new(DecodedTransaction::decode(encode(&signed).into(), self.chain).expect("a transaction of this model is well formed"))
    }

    /// How the validator answered a submission.
    pub(crate) fn answered(&mut self, now: Micros, id: &TxId, accepted: bool) {
        if accepted {
            self.accepted += 1;
        } else {
            self.refused += 1;
        }
        if let Some(waiting) = self.waiting.get_mut(id) {
            waiting.accepted |= accepted;
            if !accepted {
                waiting.due = waiting.due.min(now + RETRY);
            }
        }
    }

    /// A correct validator executed a commit: clients that wait for it learn their outcomes.
    pub(crate) fn executed(&mut self, now: Micros, validator: usize, executed: &ExecutedCommit) {
        for outcome in &executed.outcomes {
            match outcome.status {
                OutcomeStatus::Success | OutcomeStatus::Failed(_) => {
                    if self.waiting.get(&outcome.id).is_some_and(|w| w.validator == validator) {
                        self.settle(now, outcome.id);
                    }
                }
                OutcomeStatus::Discarded(_) => {
                    if let Some(waiting) = self.waiting.get_mut(&outcome.id).filter(|w| w.validator == validator) {
                        waiting.due = waiting.due.min(now + RETRY);
                    }
                }
            }
        }
    }

    /// The transaction was executed: its client is content, a rival for its place has lost, and the place after it is free.
    pub(crate) fn settle(&mut self, now: Micros, id: TxId) {
        let Some(waiting) = self.waiting.remove(&id) else { return };
        let took = now - waiting.first_submitted;
        self.finals += 1;
        if waiting.first_submitted >= self.warm_up {
            self.samples.push(took);
        }
        if self.slowest.as_ref().is_none_or(|slowest| slowest.0 < took) {
            self.slowest = Some((took, id, waiting.first_submitted, waiting.validator));
        }
        if self.old.len() < 64 {
            self.old.push(Arc::clone(&waiting.tx));
        }
        self.waiting.retain(|_, other| other.slot != waiting.slot);
        let slot = &mut self.slots[waiting.slot];
        slot.sequence += 1;
        self.accounts[slot.account].known = true;
        match waiting.slot.checked_sub(self.first_operator_slot) {
            Some(operator) => self.operators[operator].is_free = true,
            None => self.free.push(waiting.slot),
        }
    }

    /// Transactions whose clients have waited long enough, with the validator they waited for.
    pub(crate) fn due(&self, now: Micros) -> Vec<(TxId, usize)> {
        self.waiting.iter().filter(|(_, w)| w.due <= now).map(|(id, w)| (*id, w.validator)).collect()
    }

    /// Hands it to another validator.
    pub(crate) fn resubmit(&mut self, now: Micros, id: &TxId, validators: &[usize]) -> Option<Submission> {
        let validator = self.choose(validators);
        let waiting = self.waiting.get_mut(id)?;
        waiting.validator = validator;
        waiting.due = now + PATIENCE;
        self.resubmitted += 1;
        Some(Submission { tx: Arc::clone(&waiting.tx), validator })
    }
}
