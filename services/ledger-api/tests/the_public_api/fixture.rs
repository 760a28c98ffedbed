//! A running API with everything around it.

use super::fakes::{FakeDag, FakeRegion, link};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use kaldrix_api::clients::LedgerServiceClient;
use kaldrix_crypto::{SecretKey, sign_transaction};
use kaldrix_ledger_api::config::Settings;
use kaldrix_ledger_api::wiring::{Port, Upstream, start_with};
use kaldrix_proto::region as pb;
use kaldrix_service_kit::Supervisor;
use kaldrix_storage::{RegionBatch, RegionStore, SqliteRegionStore};
use kaldrix_types::{
    Address, AssetId, BlockRef, CertifiedCheckpoint, Checkpoint, Commit, DecodedTransaction, Digest, ExecutedCommit, Genesis,
    GenesisAccount, Header, KeyRef, Operation, OutcomeStatus, Parameters, Reputation, Scheme, SignedHeader, StateChange, StateKey,
    StateValue, TxBody, TxOutcome, Validator, ValidatorIndex, encode,
};
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use tonic::transport::{Channel, Endpoint};

/// Consensus time of commit `index`.
pub(crate) const fn time_of(index: u64) -> u64 {
    1_000_000 + index * 100
}

/// valid_until of a transaction that does not expire in a test.
pub(crate) const FAR: u64 = 100_000_000;

/// The key number `n`.
pub(crate) fn key(n: u8) -> SecretKey {
    SecretKey::from_seed(Scheme::Ed25519, &[n; 32]).expect("a seed")
}

pub(crate) fn address(n: u8) -> Address {
    Address::of_key(key(n).public_key())
}

/// The account that operates validator `n`.
pub(crate) fn operator(n: u8) -> Address {
    address(100 + n)
}

pub(crate) fn genesis() -> Genesis {
    let validator = |n: u8| Validator {
        name: format!("v{n}"),
        region: "us-east-1".into(),
        stake: 1,
        key: SecretKey::from_seed(Scheme::MlDsa65, &[n; 32]).expect("a seed").public_key().clone(),
        operator: operator(n),
    };
    Genesis {
        name: "testnet".into(),
        timestamp_ms: 1_000_000,
        parameters: Parameters::default(),
        validators: (0..4).map(validator).collect(),
        accounts: vec![GenesisAccount { address: address(1), amount: 10u128.pow(30) }],
    }
}

/// How to start the API.
#[derive(Default)]
pub(crate) struct Options {
    pub(crate) settings: Settings,
    /// Validators in front of the working one that nobody listens at.
    pub(crate) dead_validators: usize,
    /// Leave the working validator out.
    pub(crate) without_validator: bool,
}

/// See the module's text.
pub(crate) struct Api {
    pub(crate) address: SocketAddr,
    pub(crate) dag: Arc<FakeDag>,
    pub(crate) region: Arc<FakeRegion>,
    pub(crate) genesis: Genesis,
    pub(crate) http: reqwest::Client,
    pub(crate) store: SqliteRegionStore,
    index: std::sync::atomic::AtomicU64,
    supervisor: Supervisor,
    _folder: tempfile::TempDir,
}

impl Drop for Api {
    fn drop(&mut self) {
        self.supervisor.token().cancel();
    }
}

impl Api {
    pub(crate) async fn start() -> Self {
        Self::start_with(Options::default()).await
    }

    pub(crate) async fn start_with(options: Options) -> Self {
        let genesis = genesis();
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("region.sqlite");
        let store = SqliteRegionStore::open(&path, &genesis).await.expect("a new store");
        let reader = SqliteRegionStore::open_read_only(&path, genesis.chain_id()).await.expect("the same store");
        let cancel = CancellationToken::new();
        let (dag, region) = (FakeDag::new(genesis.chain_id()), FakeRegion::new());
        let mut validators = Vec::new();
        for _ in 0..options.dead_validators {
            // Bound and dropped: a port that nobody listens at.
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
            validators.push(link(listener.local_addr().expect("bound")));
        }
        if !options.without_validator {
            validators.push(link(dag.serve(&cancel).await));
        }
        let upstream = Upstream { validators, region: link(region.serve(&cancel).await), store: Arc::new(reader) };
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let supervisor = Supervisor::new(cancel);
        let mut settings = options.settings;
        settings.core.region = "us-east-1".into();
        let running =
            start_with(settings, genesis.clone(), upstream, Port { listener, acceptor: None }, &supervisor).await.expect("it starts");
        let http = reqwest::Client::builder().no_proxy().build().expect("a client");
        let index = 0.into();
        Self { address: running.local_addr, dag, region, genesis, http, store, index, supervisor, _folder: folder }
    }

    pub(crate) async fn grpc(&self) -> LedgerServiceClient<Channel> {
        let endpoint = Endpoint::from_shared(self.url("")).expect("a url");
        LedgerServiceClient::new(endpoint.connect().await.expect("h2c on the same port"))
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        Answer::of(self.http.get(self.url(path)).send().await.expect("an answer")).await
    }

    pub(crate) async fn post(&self, path: &str, body: &Value) -> Answer {
        Answer::of(self.http.post(self.url(path)).json(body).send().await.expect("an answer")).await
    }

    /// Submits over REST.
    pub(crate) async fn submit(&self, bytes: &[u8], wait_for: &str, timeout_ms: u32) -> Answer {
        let body = json!({ "transaction": STANDARD.encode(bytes), "wait_for": wait_for, "timeout_ms": timeout_ms });
        self.post("/v1/transactions", &body).await
    }

    /// A payment of key 1's, signed.
    pub(crate) fn payment(&self, sequence: u64) -> DecodedTransaction {
        self.payment_until(sequence, FAR)
    }

    pub(crate) fn payment_until(&self, sequence: u64, valid_until_ms: u64) -> DecodedTransaction {
        let operations = vec![Operation::Transfer { to: address(2), asset: AssetId::NATIVE, amount: 5 }];
        self.signed(TxBody { sequence, valid_until_ms, ..self.body(operations) })
    }

    pub(crate) fn body(&self, operations: Vec<Operation>) -> TxBody {
        TxBody {
            chain_id: self.genesis.chain_id(),
            sender: address(1),
            lane: 0,
            sequence: 0,
            valid_until_ms: FAR,
            fee: 0,
            operations,
            memo: Bytes::new(),
        }
    }

    pub(crate) fn signed(&self, body: TxBody) -> DecodedTransaction {
        let bytes = signed_bytes(body);
        DecodedTransaction::decode(bytes.into(), self.genesis.chain_id()).expect("a good transaction")
    }

    /// Puts a commit with these outcomes into the read model without announcing it.
    pub(crate) async fn project(&self, outcomes: &[(&DecodedTransaction, OutcomeStatus)]) -> pb::ProjectedCommit {
        let index = self.index.fetch_add(1, std::sync::atomic::Ordering::SeqCst) + 1;
        let previous = self.store.commit(index - 1).await.expect("readable").map_or(Digest::ZERO, |row| row.digest);
        let executed = executed_commit(&self.genesis, index, previous, outcomes);
        let notice = notice_of(&executed, outcomes);
        let mut batch = RegionBatch::default();
        batch.push(executed).expect("a fitting commit");
        self.store.apply(batch).await.expect("applied");
        self.dag.commit_index.store(index, std::sync::atomic::Ordering::SeqCst);
        notice
    }

    /// A commit with these outcomes: projected, then announced.
    pub(crate) async fn commit(&self, outcomes: &[(&DecodedTransaction, OutcomeStatus)]) -> u64 {
        let notice = self.project(outcomes).await;
        let index = notice.index;
        self.region.announce(notice);
        index
    }

    /// A commit that brings these state records: projected, then announced.
    pub(crate) async fn commit_changes(&self, changes: Vec<StateChange>) -> u64 {
        let index = self.index.fetch_add(1, std::sync::atomic::Ordering::SeqCst) + 1;
        let previous = self.store.commit(index - 1).await.expect("readable").map_or(Digest::ZERO, |row| row.digest);
        let executed = ExecutedCommit { changes, ..executed_commit(&self.genesis, index, previous, &[]) };
        let notice = notice_of(&executed, &[]);
        let mut batch = RegionBatch::default();
        batch.push(executed).expect("a fitting commit");
        self.store.apply(batch).await.expect("applied");
        self.region.announce(notice);
        index
    }

    /// The validator certifies a checkpoint over commits `first` to `last`.
    pub(crate) fn certify(&self, index: u64, first: u64, last: u64) -> CertifiedCheckpoint {
        let checkpoint = Checkpoint {
            version: Checkpoint::VERSION,
            chain_id: self.genesis.chain_id(),
            epoch: 0,
            index,
            previous: Digest::ZERO,
            first_commit: first,
            last_commit: last,
            last_commit_digest: Digest([7; 32]),
            outcomes_root: Digest([8; 32]),
            outcome_count: 3,
            state_root: Digest([9; 32]),
            timestamp_ms: time_of(last),
            next_epoch: None,
        };
        let vote = |author: u16| SignedHeader {
            header: Header { author: ValidatorIndex(author), checkpoint_votes: vec![checkpoint.vote()], ..header(&self.genesis, last, 0) },
            signature: Bytes::from_static(b"not checked here"),
        };
        let certified = CertifiedCheckpoint { votes: (0..3).map(vote).collect(), checkpoint: checkpoint.clone() };
        self.dag.checkpoints.lock().push(certified.clone());
        certified
    }

    /// As [`Self::commit`] with everything successful.
    pub(crate) async fn commit_all(&self, transactions: &[&DecodedTransaction]) -> u64 {
        let outcomes: Vec<_> = transactions.iter().map(|tx| (*tx, OutcomeStatus::Success)).collect();
        self.commit(&outcomes).await
    }

    /// Waits until the validator has taken `count` transactions.
    pub(crate) async fn taken(&self, count: usize) {
        eventually(|| self.dag.taken.lock().len() >= count).await;
    }
}

pub(crate) fn signed_bytes(body: TxBody) -> Vec<u8> {
    let signer = key(1);
    let reference = KeyRef::Inline(signer.public_key().clone());
    encode(&sign_transaction(body, &signer, reference).expect("signed"))
}

pub(crate) async fn eventually(mut holds: impl FnMut() -> bool) {
    for _ in 0..500 {
        if holds() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("it did not come to hold within 5 s");
}

fn header(genesis: &Genesis, index: u64, transactions: usize) -> Header {
    Header {
        version: Header::VERSION,
        chain_id: genesis.chain_id(),
        epoch: 0,
        round: index,
        author: ValidatorIndex(u16::try_from(index % 4).expect("small")),
        timestamp_ms: time_of(index),
        parents: Vec::new(),
        transactions_root: Digest::ZERO,
        transaction_count: u32::try_from(transactions).expect("few"),
        body_bytes: 0,
        commit_votes: Vec::new(),
        checkpoint_votes: Vec::new(),
    }
}

fn executed_commit(genesis: &Genesis, index: u64, previous: Digest, outcomes: &[(&DecodedTransaction, OutcomeStatus)]) -> ExecutedCommit {
    let header = header(genesis, index, outcomes.len());
    let leader = BlockRef { round: index, author: header.author, digest: header.digest() };
    let commit = Commit {
        index,
        epoch: 0,
        leader,
        previous,
        timestamp_ms: time_of(index),
        gc_round: 0,
        blocks: vec![leader],
        reputation: Reputation::default(),
        ends_epoch: false,
    };
    let outcome = |(position, (tx, status)): (u32, &(&DecodedTransaction, OutcomeStatus))| TxOutcome {
        id: tx.id(),
        block: 0,
        position,
        sender: tx.body().sender,
        lane: tx.body().lane,
        sequence: tx.body().sequence,
        status: *status,
    };
    let lanes = outcomes.iter().filter(|(tx, _)| tx.body().lane > 0).map(|(tx, _)| StateChange {
        key: StateKey::Lane(tx.body().sender, tx.body().lane),
        value: Some(StateValue::Lane(tx.body().sequence + 1)),
    });
    let mut changes: Vec<StateChange> = lanes.collect();
    changes.push(StateChange { key: StateKey::Balance(address(2), AssetId::NATIVE), value: Some(StateValue::Balance(u128::from(index))) });
    changes.sort_by_key(|c| c.key);
    changes.dedup_by_key(|c| c.key);
    ExecutedCommit {
        commit,
        headers: vec![header],
        outcomes: (0u32..).zip(outcomes).map(outcome).collect(),
        bodies: outcomes.iter().map(|(tx, _)| encode(tx.body()).into()).collect(),
        changes,
    }
}

fn notice_of(executed: &ExecutedCommit, outcomes: &[(&DecodedTransaction, OutcomeStatus)]) -> pb::ProjectedCommit {
    let transactions = outcomes.iter().map(|(tx, status)| pb::ProjectedTransaction {
        id: Bytes::copy_from_slice(tx.id().as_bytes()),
        status: encode(status).into(),
        accounts: tx.body().accounts().iter().map(|a| Bytes::copy_from_slice(a.as_bytes())).collect(),
        traceparent: String::new(),
    });
    pb::ProjectedCommit {
        index: executed.commit.index,
        timestamp_ms: executed.commit.timestamp_ms,
        digest: Bytes::copy_from_slice(executed.commit.digest().as_bytes()),
        leader_round: executed.commit.leader.round,
        transactions: transactions.collect(),
    }
}

/// A REST answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: reqwest::header::HeaderMap,
    pub(crate) text: String,
    pub(crate) json: Value,
}

impl Answer {
    pub(crate) async fn of(response: reqwest::Response) -> Self {
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let text = response.text().await.expect("a body");
        let json = serde_json::from_str(&text).unwrap_or(Value::Null);
        Self { status, headers, text, json }
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|v| v.to_str().ok()).unwrap_or_default()
    }

    /// Asserts an RFC 9457 problem with this code and status.
    #[track_caller]
    pub(crate) fn is_problem(&self, status: u16, code: &str) {
        assert_eq!((self.status, self.json["code"].as_str().unwrap_or_default()), (status, code), "{}", self.text);
        assert_eq!(self.header("content-type"), "application/problem+json");
        assert_eq!(self.json["status"], json!(status));
        for field in ["type", "title", "detail"] {
            assert!(self.json[field].as_str().is_some_and(|text| !text.is_empty()), "{field} in {}", self.text);
        }
    }
}
