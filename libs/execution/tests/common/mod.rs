//! A ledger in memory, a signature scheme that is only pretended, and short ways to write transactions.
#![allow(dead_code, unreachable_pub, missing_docs)]

use bytes::Bytes;
use kaldrix_execution::{FEE_POOL_KEY, OrderedTransaction, SignatureChecker, StateView, declared_keys, execute};
use kaldrix_types::{
    Account, Address, AssetId, BlockRef, ChainId, Commit, DecodedTransaction, Digest, ExecutedCommit, KeyRef, Operation, OutcomeStatus,
    Parameters, PublicKey, RejectCode, Scheme, SignedTransaction, StateKey, StateValue, Supply, TxBody, TxSignature, ValidatorIndex,
    encode,
};
use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};

pub const CHAIN: ChainId = ChainId(Digest([9; 32]));
pub const NOW_MS: u64 = 1_000_000;
pub const MINIMUM_FEE: u128 = 10;

/// A key; `seed` 255 is one that [`Pretended`] calls weak.
pub fn key(seed: u8) -> PublicKey {
    PublicKey::new(Scheme::Ed25519, vec![seed; 32]).expect("32 bytes")
}

pub fn address(seed: u8) -> Address {
    Address::of_key(&key(seed))
}

/// "Signs" with the id of the key; counts checks.
#[derive(Default)]
pub struct Pretended {
    pub checks: Cell<u32>,
}

impl SignatureChecker for Pretended {
    fn check(&self, tx: &DecodedTransaction, key: &PublicKey) -> Result<(), RejectCode> {
        self.checks.set(self.checks.get() + 1);
        if tx.signature().signature == key.id().as_bytes().as_slice() { Ok(()) } else { Err(RejectCode::BadSignature) }
    }

    fn check_key(&self, key: &PublicKey) -> Result<(), RejectCode> {
        if key.bytes()[0] == 255 { Err(RejectCode::WeakKey) } else { Ok(()) }
    }
}

/// What a test signs: change the fields that matter.
#[derive(Clone, Debug)]
pub struct Draft {
    pub body: TxBody,
    pub key: KeyRef,
    pub signer: u8,
}

/// A transaction of account `seed` with its first key inline.
pub fn draft(seed: u8, sequence: u64, operations: Vec<Operation>) -> Draft {
    let body = TxBody {
        chain_id: CHAIN,
        sender: address(seed),
        lane: 0,
        sequence,
        valid_until_ms: NOW_MS + 1,
        fee: MINIMUM_FEE,
        operations,
        memo: Bytes::from_static(b"memo"),
    };
    Draft { body, key: KeyRef::Inline(key(seed)), signer: seed }
}

impl Draft {
    pub fn by(mut self, key: KeyRef, signer: u8) -> Self {
        (self.key, self.signer) = (key, signer);
        self
    }

    pub fn lane(mut self, lane: u8) -> Self {
        self.body.lane = lane;
        self
    }

    pub fn fee(mut self, fee: u128) -> Self {
        self.body.fee = fee;
        self
    }

    pub fn valid_until(mut self, ms: u64) -> Self {
        self.body.valid_until_ms = ms;
        self
    }

    pub fn sign(&self) -> DecodedTransaction {
        self.try_sign().expect("a batch that does not contradict itself")
    }

    pub fn try_sign(&self) -> Result<DecodedTransaction, RejectCode> {
        let signature = Bytes::copy_from_slice(key(self.signer).id().as_bytes());
        let signed = SignedTransaction { body: self.body.clone(), signatures: vec![TxSignature { key: self.key.clone(), signature }] };
        DecodedTransaction::decode(encode(&signed).into(), CHAIN)
    }
}

pub fn pay(to: Address, amount: u128) -> Operation {
    Operation::Transfer { to, asset: AssetId::NATIVE, amount }
}

/// Only what was declared may be asked for.
struct Prefetched<'a> {
    state: &'a BTreeMap<StateKey, StateValue>,
    declared: BTreeSet<StateKey>,
}

impl StateView for Prefetched<'_> {
    fn get(&self, key: &StateKey) -> Option<StateValue> {
        assert!(self.declared.contains(key), "{key:?} was used but not declared");
        self.state.get(key).cloned()
    }
}

/// A whole ledger: executes commits and keeps the state.
#[derive(Clone)]
pub struct Ledger {
    pub state: BTreeMap<StateKey, StateValue>,
    pub index: u64,
    pub parameters: Parameters,
}

impl Ledger {
    /// Accounts `seeds` hold `amount` each.
    pub fn new(seeds: &[u8], amount: u128) -> Self {
        let mut state: BTreeMap<_, _> =
            seeds.iter().map(|s| (StateKey::Balance(address(*s), AssetId::NATIVE), StateValue::Balance(amount))).collect();
        let supply = Supply { amount: amount * seeds.len() as u128 };
        state.insert(StateKey::Supply(AssetId::NATIVE), StateValue::Supply(supply));
        Self { state, index: 0, parameters: Parameters { minimum_fee: MINIMUM_FEE, ..Parameters::default() } }
    }

    pub fn execute_with(&mut self, txs: &[DecodedTransaction], verified_with: Option<Digest>, checker: &Pretended) -> ExecutedCommit {
        self.index += 1;
        let leader = BlockRef { round: self.index, author: ValidatorIndex(0), digest: Digest::ZERO };
        let commit = Commit {
            index: self.index,
            epoch: 0,
            leader,
            previous: Digest::ZERO,
            timestamp_ms: NOW_MS,
            gc_round: 0,
            blocks: vec![leader],
            scores: vec![],
        };
        let ordered: Vec<_> =
            (0u32..).zip(txs).map(|(position, tx)| OrderedTransaction { block: 0, position, tx, verified_with }).collect();
        let declared = txs.iter().flat_map(declared_keys).chain([FEE_POOL_KEY]).collect();
        let view = Prefetched { state: &self.state, declared };
        let executed = execute(&commit, vec![], &ordered, &self.parameters, &view, checker);
        for change in &executed.changes {
            match &change.value {
                Some(value) => self.state.insert(change.key, value.clone()),
                None => self.state.remove(&change.key),
            };
        }
        executed
    }

    pub fn execute(&mut self, txs: &[DecodedTransaction]) -> ExecutedCommit {
        self.execute_with(txs, None, &Pretended::default())
    }

    /// Executes a commit of these transactions and gives their outcomes.
    pub fn run(&mut self, drafts: &[Draft]) -> Vec<OutcomeStatus> {
        let txs: Vec<_> = drafts.iter().map(Draft::sign).collect();
        self.execute(&txs).outcomes.iter().map(|o| o.status).collect()
    }

    pub fn run_one(&mut self, draft: Draft) -> OutcomeStatus {
        self.run(&[draft])[0]
    }

    pub fn balance(&self, of: Address, asset: AssetId) -> u128 {
        match self.state.get(&StateKey::Balance(of, asset)) {
            Some(StateValue::Balance(amount)) => *amount,
            _ => 0,
        }
    }

    pub fn kdx(&self, seed: u8) -> u128 {
        self.balance(address(seed), AssetId::NATIVE)
    }

    pub fn account(&self, seed: u8) -> Option<Account> {
        match self.state.get(&StateKey::Account(address(seed))) {
            Some(StateValue::Account(account)) => Some(account.clone()),
            _ => None,
        }
    }

    pub fn records(&self) -> impl Iterator<Item = (StateKey, StateValue)> + '_ {
        self.state.iter().map(|(k, v)| (*k, v.clone()))
    }
}
