//! A chain without consensus or execution: commits with made-up effects, run through the real builder and certifier, with real keys.

use bytes::Bytes;
use kaldrix_checkpoint::{Certifier, CertifierEvent, CheckpointBuilder, StateTree};
use kaldrix_crypto::{SecretKey, Signer, Verifier};
use kaldrix_types::hash::Context;
use kaldrix_types::{
    Account, Address, Anchor, Asset, AssetId, Block, BlockRef, CertifiedCheckpoint, Checkpoint, CheckpointVote, Commit, Committee, Digest,
    ExecutedCommit, Genesis, GenesisAccount, Header, KeySlot, NextEpoch, OutcomeStatus, Parameters, Purpose, RejectCode, Reputation,
    Scheme, StateChange, StateKey, StateValue, TxId, TxOutcome, Validator, ValidatorIndex, VerifiedBlock, encode, encode_body, merkle_root,
    signing_message,
};
use std::collections::BTreeMap;
use std::sync::Arc;

pub(crate) type State = BTreeMap<StateKey, StateValue>;

pub(crate) fn verifier() -> Verifier {
    Verifier::new(64)
}

pub(crate) fn address(n: u64) -> Address {
    Address(Context::Address.hash(&[&n.to_le_bytes()]).0)
}

pub(crate) fn balance_of(n: u64) -> StateKey {
    StateKey::Balance(address(n), AssetId::NATIVE)
}

/// Validator number `n` of all that ever are.
fn key(n: u8) -> SecretKey {
    // One post-quantum key among them; the others are fast.
    let scheme = if n == 0 { Scheme::MlDsa44 } else { Scheme::Ed25519 };
    SecretKey::from_seed(scheme, &[n + 1; 32]).unwrap()
}

fn validator(n: u8, stake: u64) -> Validator {
    let operator = address(1_000 + u64::from(n));
    Validator { name: format!("v{n}"), region: "lan".to_owned(), stake, key: key(n).public_key().clone(), operator }
}

#[derive(Clone)]
pub(crate) struct World {
    pub(crate) genesis: Genesis,
    pub(crate) committee: Arc<Committee>,
    pub(crate) builder: CheckpointBuilder,
    pub(crate) state: State,
    pub(crate) commits: Vec<Arc<ExecutedCommit>>,
    pub(crate) checkpoints: Vec<CertifiedCheckpoint>,
    /// The state at each checkpoint.
    pub(crate) states: Vec<State>,
    certifier: Certifier,
    random: u64,
}

/// Which validators, by number, and their stakes.
pub(crate) fn equal(numbers: std::ops::Range<u8>) -> Vec<Validator> {
    numbers.map(|n| validator(n, 10)).collect()
}

impl World {
    /// Four validators; a checkpoint every five commits, or at once when there are outcomes.
    pub(crate) fn new(accounts: u64) -> Self {
        let parameters = Parameters { checkpoint_commits: 5, checkpoint_ms: 1_000_000, gc_depth: 7, ..Parameters::default() };
        Self::with(parameters, equal(0..4), accounts)
    }

    pub(crate) fn with(parameters: Parameters, validators: Vec<Validator>, accounts: u64) -> Self {
        let accounts = (0..accounts).map(|n| GenesisAccount { address: address(n), amount: 1_000 + u128::from(n) }).collect();
        let genesis = Genesis { name: "test".to_owned(), timestamp_ms: 1_000, parameters, validators, accounts };
        let committee = Arc::new(genesis.committee().unwrap());
        let records = genesis.state().unwrap();
        let state: State = records.into_iter().map(|change| (change.key, change.value.unwrap())).collect();
        let tree = StateTree::of(&state);
        let builder = CheckpointBuilder::new(genesis.chain_id(), &genesis.parameters, None, tree, Vec::<ExecutedCommit>::new());
        let certifier = Certifier::new(Arc::clone(&committee));
        let (commits, checkpoints, states) = (Vec::new(), Vec::new(), Vec::new());
        Self { genesis, committee, builder, state, commits, checkpoints, states, certifier, random: 0x9e37_79b9_7f4a_7c15 }
    }

    /// xorshift64 (Marsaglia 2003): the same run every time.
    pub(crate) fn random(&mut self, below: u64) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random % below
    }

    pub(crate) fn now_ms(&self) -> u64 {
        self.commits.last().map_or(self.genesis.timestamp_ms, |c| c.commit.timestamp_ms)
    }

    /// A commit with `transactions` outcomes and some changes: new, changed and deleted records.
    pub(crate) fn step(&mut self, transactions: usize) -> Option<Checkpoint> {
        let mut changes = BTreeMap::new();
        for _ in 0..transactions.max(1) {
            let n = self.random(400);
            let amount = u128::from(self.random(1 << 40)) << 40;
            let value = (self.random(4) > 0).then_some(StateValue::Balance(amount));
            if value.is_some() || self.state.contains_key(&balance_of(n)) {
                changes.insert(balance_of(n), value);
            }
        }
        let changes = changes.into_iter().map(|(key, value)| StateChange { key, value }).collect();
        self.commit(transactions, changes, None)
    }

    /// The commit that ends the epoch, and with it a checkpoint that is certified at once.
    pub(crate) fn end_epoch(&mut self, next: Vec<Validator>) -> Checkpoint {
        self.commit(1, Vec::new(), Some(next)).unwrap()
    }

    /// Executes and, where it closes a checkpoint, certifies.
    pub(crate) fn commit(&mut self, transactions: usize, changes: Vec<StateChange>, next: Option<Vec<Validator>>) -> Option<Checkpoint> {
        let executed = self.next_commit(transactions, changes, next.is_some());
        let next_epoch = next.map(|validators| NextEpoch { start_round: executed.commit.leader.round, validators });
        self.builder.remember(&executed, |key| self.state.get(key).cloned());
        for StateChange { key, value } in &executed.changes {
            match value {
                Some(value) => self.state.insert(*key, value.clone()),
                None => self.state.remove(key),
            };
        }
        let checkpoint = self.builder.on_executed(&executed, next_epoch);
        self.commits.push(Arc::new(executed));
        if let Some(checkpoint) = &checkpoint {
            self.certify(checkpoint);
        }
        checkpoint
    }

    /// A commit that follows the last one.
    pub(crate) fn next_commit(&mut self, transactions: usize, changes: Vec<StateChange>, ends_epoch: bool) -> ExecutedCommit {
        let last = self.commits.last().map(|executed| &executed.commit);
        let index = last.map_or(1, |last| last.index + 1);
        let round = last.map_or(0, |last| last.leader.round) + 1;
        let author = ValidatorIndex(u16::try_from(index % self.committee.size() as u64).unwrap());
        let leader = self.header(author, round, Vec::new());
        let headers = vec![leader];
        let blocks: Vec<BlockRef> = headers.iter().map(Header::reference).collect();
        let commit = Commit {
            index,
            epoch: self.committee.epoch(),
            leader: blocks[0],
            previous: last.map_or(Digest::ZERO, Commit::digest),
            timestamp_ms: self.now_ms() + 100,
            gc_round: round.saturating_sub(self.genesis.parameters.gc_depth + 1),
            blocks,
            reputation: Reputation::default(),
            ends_epoch,
        };
        let bodies: Vec<Bytes> = (0..transactions).map(|i| Bytes::from(encode(&(index, i as u64, "a body")))).collect();
        let outcome = |(i, body): (usize, &Bytes)| TxOutcome {
            id: TxId(Context::TransactionId.hash(&[body])),
            block: 0,
            position: u32::try_from(i).unwrap(),
            sender: address(i as u64),
            lane: 0,
            sequence: index,
            status: if i % 3 == 2 { OutcomeStatus::Failed(RejectCode::Expired) } else { OutcomeStatus::Success },
        };
        let outcomes = bodies.iter().enumerate().map(outcome).collect();
        ExecutedCommit { commit, headers, outcomes, bodies, changes }
    }

    fn header(&self, author: ValidatorIndex, round: u64, checkpoint_votes: Vec<CheckpointVote>) -> Header {
        let mut parents: Vec<BlockRef> = self
            .committee
            .indices()
            .map(|a| BlockRef {
                round: round - 1,
                author: a,
                digest: Context::BlockDigest.hash(&[&round.to_le_bytes(), &a.0.to_le_bytes()]),
            })
            .collect();
        parents.swap(0, author.as_usize());
        Header {
            version: 1,
            chain_id: self.genesis.chain_id(),
            epoch: self.committee.epoch(),
            round,
            author,
            timestamp_ms: self.now_ms(),
            parents,
            transactions_root: merkle_root(&[]),
            transaction_count: 0,
            body_bytes: 1,
            commit_votes: Vec::new(),
            checkpoint_votes,
        }
    }

    /// A signed block of this epoch, a few rounds on, with these votes.
    pub(crate) fn block(&self, author: u16, votes: Vec<CheckpointVote>) -> VerifiedBlock {
        let round = self.commits.last().map_or(0, |c| c.commit.leader.round) + 3;
        let header = self.header(ValidatorIndex(author), round, votes);
        let validator = self.committee.get(header.author).unwrap();
        let secret = key(validator.name[1..].parse().unwrap());
        let signature = secret.sign(&signing_message(Purpose::Block, header.chain_id, header.digest())).unwrap();
        let block = Block { header, signature, body: encode_body([].iter()) };
        block.verify(&self.committee, &verifier(), u64::MAX).unwrap()
    }

    fn certify(&mut self, checkpoint: &Checkpoint) {
        let mut events = self.certifier.note_own(checkpoint);
        for author in 0..u16::try_from(self.committee.size()).unwrap() {
            events.extend(self.certifier.on_block(&self.block(author, vec![checkpoint.vote()])));
        }
        let [CertifierEvent::Certified(certified)] = &events[..] else { panic!("one certificate, not {events:?}") };
        self.builder.certified(checkpoint.index);
        self.checkpoints.push(certified.clone());
        self.states.push(self.state.clone());
        if let Some(next) = checkpoint.next_committee() {
            self.committee = Arc::new(next.unwrap());
            self.certifier = Certifier::new(Arc::clone(&self.committee));
        }
    }

    pub(crate) fn epoch_ends(&self) -> impl Iterator<Item = &CertifiedCheckpoint> {
        self.checkpoints.iter().filter(|c| c.checkpoint.next_epoch.is_some())
    }

    /// The ends of the epochs before the one of checkpoint `index`.
    pub(crate) fn ends_before(&self, index: u64) -> Vec<CertifiedCheckpoint> {
        self.epoch_ends().filter(|end| end.checkpoint.index < index).cloned().collect()
    }

    pub(crate) fn outcomes_of(&self, checkpoint: &Checkpoint) -> impl Iterator<Item = &TxOutcome> {
        let covered = checkpoint.first_commit..=checkpoint.last_commit;
        self.commits.iter().filter(move |c| covered.contains(&c.commit.index)).flat_map(|c| &c.outcomes)
    }
}

/// One record of every kind that genesis does not write.
pub(crate) fn one_of_each() -> Vec<StateChange> {
    let owner = address(7);
    let asset = AssetId(Digest([5; 32]));
    let account = Account { keys: vec![KeySlot { key: key(9).public_key().clone(), since: 3 }], next_sequence: 12 };
    let mut changes: Vec<StateChange> = [
        (StateKey::Account(owner), StateValue::Account(account)),
        (StateKey::Lane(owner, 3), StateValue::Lane(4)),
        (StateKey::Balance(owner, asset), StateValue::Balance(u128::MAX - 5)),
        (
            StateKey::Asset(asset),
            StateValue::Asset(Asset { issuer: owner, symbol: "EURX".to_owned(), decimals: 2, maximum_supply: 1 << 90 }),
        ),
        (
            StateKey::Anchor(owner, Digest([6; 32])),
            StateValue::Anchor(Anchor { timestamp_ms: 99, metadata: Bytes::from_static(b"invoice 7") }),
        ),
    ]
    .into_iter()
    .map(|(key, value)| StateChange { key, value: Some(value) })
    .collect();
    changes.sort_by_key(|change| change.key);
    changes
}
