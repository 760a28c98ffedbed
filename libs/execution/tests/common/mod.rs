//! A ledger in memory, a signature scheme that is only pretended, and short ways to write transactions.
#![allow(dead_code, unreachable_pub, missing_docs)]

use bytes::Bytes;
use kaldrix_execution::{Execution, OrderedTransaction, SignatureChecker, StateView, execute_as, prefetch_keys};
use kaldrix_types::{
    Account, Address, AssetId, BlockRef, BlockVerifier, ChainId, Commit, DecodedTransaction, Digest, EpochRecord, EquivocationProof,
    ExecutedCommit, Genesis, GenesisAccount, Header, KeyRef, Operation, OutcomeStatus, Parameters, PublicKey, Purpose, RejectCode,
    Reputation, Scheme, SignedHeader, SignedTransaction, StateKey, StateValue, TxBody, TxSignature, Validator, ValidatorIndex,
    ValidatorRecord, WEIGHT_UNIT, encode, signing_message, validator_key_digest,
};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU32, Ordering};

pub const CHAIN: ChainId = ChainId(Digest([9; 32]));
pub const NOW_MS: u64 = 1_000_000;
pub const MINIMUM_FEE: u128 = 10;
/// One whole KDX.
pub const KDX: u128 = WEIGHT_UNIT;
/// Operators of the first epoch's validators, in committee order.
pub const OPERATORS: [u8; 4] = [200, 201, 202, 203];

/// A key; `seed` 255 is one that [`Pretended`] calls weak.
pub fn key(seed: u8) -> PublicKey {
    PublicKey::new(Scheme::Ed25519, vec![seed; 32]).expect("32 bytes")
}

pub fn address(seed: u8) -> Address {
    Address::of_key(&key(seed))
}

/// The first session key of the validator that account `seed` operates.
pub fn session_key(seed: u8) -> PublicKey {
    PublicKey::new(Scheme::Ed25519, [vec![7; 16], vec![seed; 16]].concat()).expect("32 bytes")
}

/// What [`Pretended`] takes for `key`'s signature over `message`.
pub fn pretend(key: &PublicKey, message: &[u8]) -> Bytes {
    [key.id().as_bytes().as_slice(), message].concat().into()
}

/// Transactions are "signed" with the id of the key, messages with the id and the message; counts the transactions it checked.
#[derive(Default)]
pub struct Pretended {
    pub checks: AtomicU32,
}

impl BlockVerifier for Pretended {
    fn verify(&self, key: &PublicKey, message: &[u8], signature: &[u8]) -> bool {
        signature == pretend(key, message)
    }
}

impl SignatureChecker for Pretended {
    fn check(&self, tx: &DecodedTransaction, key: &PublicKey) -> Result<(), RejectCode> {
        self.checks.fetch_add(1, Ordering::Relaxed);
        if tx.signature().signature == key.id().as_bytes().as_slice() { Ok(()) } else { Err(RejectCode::BadSignature) }
    }

    fn check_key(&self, key: &PublicKey) -> Result<(), RejectCode> {
        if key.bytes()[0] == 255 { Err(RejectCode::WeakKey) } else { Ok(()) }
    }
}

/// The session key's consent to work for account `seed`.
pub fn key_proof(seed: u8, key: &PublicKey) -> Bytes {
    pretend(key, &signing_message(Purpose::ValidatorKey, CHAIN, validator_key_digest(address(seed), key)))
}

/// Account `seed` registers a validator with [`session_key`].
pub fn register(seed: u8, stake: u128) -> Operation {
    let key = session_key(seed);
    let proof = key_proof(seed, &key);
    Operation::RegisterValidator { name: format!("validator-{seed}"), region: "eu-central-1".into(), key, stake, proof }
}

/// A header that `key` signed; different `salt`s give different headers.
pub fn signed_header(key: &PublicKey, epoch: u64, author: u16, round: u64, salt: u64) -> SignedHeader {
    let header = Header {
        version: Header::VERSION,
        chain_id: CHAIN,
        epoch,
        round,
        author: ValidatorIndex(author),
        timestamp_ms: salt,
        parents: vec![],
        transactions_root: Digest::ZERO,
        transaction_count: 0,
        body_bytes: 0,
        commit_votes: vec![],
        checkpoint_votes: vec![],
    };
    sign_header(header, key)
}

pub fn sign_header(header: Header, key: &PublicKey) -> SignedHeader {
    let signature = pretend(key, &signing_message(Purpose::Block, header.chain_id, header.digest()));
    SignedHeader { header, signature }
}

pub fn report(first: SignedHeader, second: SignedHeader) -> Operation {
    Operation::ReportEquivocation { proof: Box::new(EquivocationProof { first, second }) }
}

/// A report of two different blocks that `key` signed in round 5.
pub fn equivocation(key: &PublicKey, epoch: u64, author: u16) -> Operation {
    report(signed_header(key, epoch, author, 5, 1), signed_header(key, epoch, author, 5, 2))
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
    /// Authors of the blocks of the commits to come.
    pub authors: Vec<u16>,
}

impl Ledger {
    /// Accounts `seeds` hold `amount` each; the [`OPERATORS`] have bonded 100, 200, 300 and 400 KDX.
    pub fn new(seeds: &[u8], amount: u128) -> Self {
        let validator = |(seed, stake): (u8, u64)| Validator {
            name: format!("validator-{seed}"),
            region: "eu-west-1".into(),
            stake,
            key: session_key(seed),
            operator: address(seed),
        };
        let parameters = Parameters { minimum_fee: MINIMUM_FEE, ..Parameters::default() };
        let genesis = Genesis {
            name: "test".into(),
            timestamp_ms: NOW_MS - 1,
            parameters: parameters.clone(),
            validators: OPERATORS.into_iter().zip([100, 200, 300, 400]).map(validator).collect(),
            accounts: seeds.iter().map(|seed| GenesisAccount { address: address(*seed), amount }).collect(),
        };
        let state =
            genesis.state().expect("distinct accounts").into_iter().filter_map(|change| Some((change.key, change.value?))).collect();
        Self { state, index: 0, parameters, authors: vec![] }
    }

    fn commit(&self, ends_epoch: bool) -> Commit {
        let block = |author: &u16| BlockRef { round: self.index, author: ValidatorIndex(*author), digest: Digest::ZERO };
        Commit {
            index: self.index,
            epoch: self.epoch().epoch,
            leader: block(&0),
            previous: Digest::ZERO,
            timestamp_ms: NOW_MS,
            gc_round: 0,
            blocks: self.authors.iter().map(block).collect(),
            reputation: Reputation::default(),
            ends_epoch,
        }
    }

    /// Executes serially, and in parallel to see that nothing differs.
    fn execute_commit(
        &mut self,
        ends_epoch: bool,
        txs: &[DecodedTransaction],
        verified_with: Option<Digest>,
        checker: &Pretended,
    ) -> ExecutedCommit {
        self.index += 1;
        let commit = self.commit(ends_epoch);
        let ordered: Vec<_> =
            (0u32..).zip(txs).map(|(position, tx)| OrderedTransaction { block: 0, position, tx, verified_with }).collect();
        let declared = prefetch_keys(&commit, &ordered, &self.epoch()).into_iter().collect();
        let view = Prefetched { state: &self.state, declared };
        let executed = execute_as(Execution::Serial, &commit, vec![], &ordered, &self.parameters, &view, checker);
        for threads in [2, 5] {
            let execution = Execution::Parallel { threads, signatures_min: threads, operations_min: 0 };
            let parallel = execute_as(execution, &commit, vec![], &ordered, &self.parameters, &view, &Pretended::default());
            assert_eq!(encode(&parallel), encode(&executed), "{threads} threads differ from one");
        }
        for change in &executed.changes {
            match &change.value {
                Some(value) => self.state.insert(change.key, value.clone()),
                None => self.state.remove(&change.key),
            };
        }
        executed
    }

    pub fn execute_with(&mut self, txs: &[DecodedTransaction], verified_with: Option<Digest>, checker: &Pretended) -> ExecutedCommit {
        self.execute_commit(false, txs, verified_with, checker)
    }

    /// Executes a commit that ends its epoch.
    pub fn end_epoch(&mut self, txs: &[DecodedTransaction]) -> ExecutedCommit {
        self.execute_commit(true, txs, None, &Pretended::default())
    }

    /// Executes `commits` empty commits with blocks by `authors`.
    pub fn pass(&mut self, commits: u64, authors: &[u16]) {
        self.authors = authors.to_vec();
        for _ in 0..commits {
            self.execute(&[]);
        }
    }

    pub fn epoch(&self) -> EpochRecord {
        match self.state.get(&StateKey::Epoch) {
            Some(StateValue::Epoch(epoch)) => epoch.clone(),
            other => panic!("{other:?}"),
        }
    }

    /// Seeds of the committee's operators, in order.
    pub fn members(&self) -> Vec<u8> {
        let seed = |operator| (0..=255).find(|seed| address(*seed) == operator).expect("operators are test accounts");
        self.epoch().members.iter().map(|member| seed(member.operator)).collect()
    }

    pub fn participation(&self) -> Vec<u64> {
        match self.state.get(&StateKey::Participation) {
            Some(StateValue::Participation(counts)) => counts.clone(),
            other => panic!("{other:?}"),
        }
    }

    pub fn validator(&self, seed: u8) -> Option<ValidatorRecord> {
        match self.state.get(&StateKey::Validator(address(seed))) {
            Some(StateValue::Validator(record)) => Some((**record).clone()),
            _ => None,
        }
    }

    /// Changes a validator's record as no rule would; the caller keeps the books straight.
    pub fn edit(&mut self, seed: u8, change: impl FnOnce(&mut ValidatorRecord)) {
        let mut record = self.validator(seed).expect("registered");
        change(&mut record);
        self.state.insert(StateKey::Validator(address(seed)), StateValue::Validator(Box::new(record)));
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
