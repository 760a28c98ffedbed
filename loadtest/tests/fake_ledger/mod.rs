//! A ledger in one process: balances, sequences, commits and two API endpoints, which can be told to misbehave.

use kaldrix_api::{ApiError, ErrorCode};
use kaldrix_proto::ledger::ledger_service_server::{LedgerService, LedgerServiceServer};
use kaldrix_proto::ledger::{self as pb};
use kaldrix_types::{Address, AssetId, ChainId, DecodedTransaction, Digest, KeyRef, Operation, PublicKey, RejectCode, TxId};
use std::collections::HashMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status};

/// Smallest units that exist.
const SUPPLY: u128 = 1 << 100;
/// What every transaction costs.
const FEE: u128 = 3;

/// What is wrong with this ledger.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Faults {
    /// One unit of every 100th payment vanishes.
    pub(crate) loses_money: bool,
    /// Every 100th transaction is refused because the mempool "is full", for good.
    pub(crate) refuses: bool,
    /// The second region has other commit digests.
    pub(crate) forks: bool,
    /// Answers to the transactions ordered from this one on wait a second.
    pub(crate) stalls_after: Option<u64>,
}

#[derive(Default)]
struct State {
    balances: HashMap<Address, u128>,
    keys: HashMap<Address, Vec<PublicKey>>,
    next: HashMap<Address, u64>,
    landed: HashMap<TxId, pb::Transaction>,
    /// Transactions so far; each is a commit of its own.
    ordered: u64,
    submissions: u64,
}

#[derive(Clone)]
struct Region {
    number: u8,
    faults: Faults,
    state: Arc<Mutex<State>>,
}

fn chain() -> ChainId {
    ChainId(Digest([5; 32]))
}

/// Serves two regions on free loopback ports for as long as the test runs; the endpoints, comma-separated.
pub(crate) async fn serve(faults: Faults) -> String {
    let state = Arc::new(Mutex::new(State::default()));
    let mut endpoints = Vec::new();
    for number in 0..2 {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        endpoints.push(format!("http://{}", listener.local_addr().unwrap()));
        let service = LedgerServiceServer::new(Region { number, faults, state: Arc::clone(&state) });
        let server = tonic::transport::Server::builder().add_service(service);
        tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
    }
    endpoints.join(",")
}

impl State {
    fn order(&mut self, id: TxId, apply: impl FnOnce(&mut Self) -> Result<(), RejectCode>) -> pb::Transaction {
        self.ordered += 1;
        let outcome = apply(self);
        let answer = pb::Transaction {
            id: id.to_string(),
            status: pb::TransactionStatus::Final.into(),
            success: outcome.is_ok(),
            code: outcome.err().map(|c| c.to_string()).unwrap_or_default(),
            commit_index: self.ordered,
            ..Default::default()
        };
        self.landed.insert(id, answer.clone());
        answer
    }

    fn submit(&mut self, tx: &DecodedTransaction, faults: Faults) -> Result<pb::Transaction, ApiError> {
        if let Some(first) = self.landed.get(&tx.id()) {
            return Ok(first.clone());
        }
        let body = tx.body();
        let keys = self.keys.entry(body.sender).or_default();
        match &tx.signature().key {
            KeyRef::Inline(key) if keys.is_empty() => keys.push(key.clone()),
            KeyRef::Index(i) if keys.len() <= usize::from(*i) => return Err(RejectCode::UnknownAccount.into()),
            _ => {}
        }
        let next = self.next.entry(body.sender).or_default();
        match body.sequence.cmp(next) {
            std::cmp::Ordering::Less => return Err(RejectCode::SequenceReplayed.into()),
            std::cmp::Ordering::Greater => return Err(RejectCode::SequenceGap.into()),
            std::cmp::Ordering::Equal => *next += 1,
        }
        let lost = u128::from(faults.loses_money && self.ordered % 100 == 99);
        Ok(self.order(tx.id(), |state| {
            let outflow = body.outflow()?.into_iter().map(|(_, amount)| amount).sum::<u128>();
            let from = state.balances.entry(body.sender).or_default();
            *from = from.checked_sub(outflow).ok_or(RejectCode::InsufficientBalance)?;
            for operation in &body.operations {
                if let Operation::Transfer { to, amount, .. } = operation {
                    *state.balances.entry(*to).or_default() += amount - lost;
                }
            }
            Ok(())
        }))
    }
}

impl Region {
    fn commit(&self, index: u64) -> pb::Commit {
        let digest = |index: u64| {
            let mut bytes = [if self.faults.forks { self.number } else { 0 }; 32];
            bytes[..8].copy_from_slice(&index.to_le_bytes());
            Digest(bytes).to_string()
        };
        pb::Commit { index, digest: digest(index), previous: digest(index - 1), transaction_count: 1, ..Default::default() }
    }
}

type Stream<T> = Pin<Box<dyn tokio_stream::Stream<Item = Result<T, Status>> + Send>>;

fn not_here<T>() -> Result<Response<T>, Status> {
    Err(Status::unimplemented("the fake ledger does not have this"))
}

#[tonic::async_trait]
impl LedgerService for Region {
    async fn submit_transaction(&self, request: Request<pb::SubmitTransactionRequest>) -> Result<Response<pb::Transaction>, Status> {
        let tx = DecodedTransaction::decode(request.into_inner().transaction, chain()).map_err(ApiError::from)?;
        let (answer, stalled) = {
            let mut state = self.state.lock().unwrap();
            state.submissions += 1;
            if self.faults.refuses && state.submissions % 100 == 99 {
                return Err(ApiError::from(RejectCode::FeeTooLow).into());
            }
            let answer = state.submit(&tx, self.faults)?;
            (answer, self.faults.stalls_after.is_some_and(|after| state.ordered > after))
        };
        tokio::time::sleep(Duration::from_millis(if stalled { 1_000 } else { 5 })).await;
        Ok(Response::new(answer))
    }

    async fn get_transaction(&self, request: Request<pb::GetTransactionRequest>) -> Result<Response<pb::Transaction>, Status> {
        let id: TxId = request.into_inner().id.parse().unwrap();
        let found = self.state.lock().unwrap().landed.get(&id).cloned();
        found.map(Response::new).ok_or_else(|| ApiError::from(ErrorCode::TransactionNotFound).into())
    }

    type WatchTransactionStream = Stream<pb::Transaction>;
    async fn watch_transaction(
        &self,
        request: Request<pb::GetTransactionRequest>,
    ) -> Result<Response<Self::WatchTransactionStream>, Status> {
        let now = self.get_transaction(request).await?.into_inner();
        Ok(Response::new(Box::pin(tokio_stream::iter([Ok(now)]))))
    }

    async fn get_account(&self, request: Request<pb::GetAccountRequest>) -> Result<Response<pb::Account>, Status> {
        let text = request.into_inner().address;
        let address: Address = text.parse().unwrap();
        let state = self.state.lock().unwrap();
        let Some(amount) = state.balances.get(&address) else { return Err(ApiError::from(ErrorCode::AccountNotFound).into()) };
        let keys = state.keys.get(&address).into_iter().flatten().enumerate();
        let balance = pb::Balance {
            asset: AssetId::NATIVE.to_string(),
            amount: amount.to_string(),
            symbol: "KDX".into(),
            decimals: kaldrix_types::NATIVE_DECIMALS.into(),
        };
        Ok(Response::new(pb::Account {
            address: text,
            balances: vec![balance],
            keys: keys
                .map(|(i, k)| pb::AccountKey { index: i as u32, scheme: k.scheme().to_string(), key_id: k.id().to_string() })
                .collect(),
            next_sequence: state.next.get(&address).copied().unwrap_or(0),
            ..Default::default()
        }))
    }

    async fn get_network(&self, _: Request<pb::GetNetworkRequest>) -> Result<Response<pb::Network>, Status> {
        let ordered = self.state.lock().unwrap().ordered;
        Ok(Response::new(pb::Network {
            name: "fake".into(),
            chain_id: chain().to_string(),
            region: format!("region-{}", self.number),
            commit_index: ordered,
            round: ordered,
            transaction_count: ordered,
            supply: SUPPLY.to_string(),
            faucet: true,
            ..Default::default()
        }))
    }

    async fn get_parameters(&self, _: Request<pb::GetParametersRequest>) -> Result<Response<pb::Parameters>, Status> {
        let minimum_fee = FEE.to_string();
        Ok(Response::new(pb::Parameters { minimum_fee, validity_ms_max: 86_400_000, ..Default::default() }))
    }

    async fn list_commits(&self, request: Request<pb::ListCommitsRequest>) -> Result<Response<pb::ListCommitsResponse>, Status> {
        let request = request.into_inner();
        let newest = request.after.parse().unwrap_or(self.state.lock().unwrap().ordered + 1) - 1;
        let oldest = newest.saturating_sub(u64::from(request.limit) - 1).max(1);
        let commits = (oldest..=newest).rev().map(|index| self.commit(index)).collect();
        Ok(Response::new(pb::ListCommitsResponse { commits, next: if oldest > 1 { oldest.to_string() } else { String::new() } }))
    }

    async fn request_faucet(&self, request: Request<pb::FaucetRequest>) -> Result<Response<pb::Transaction>, Status> {
        let request = request.into_inner();
        let (to, amount): (Address, u128) = (request.address.parse().unwrap(), request.amount.parse().unwrap());
        let mut state = self.state.lock().unwrap();
        let id = TxId(Digest([0xfa; 32]));
        Ok(Response::new(state.order(id, |state| {
            *state.balances.entry(to).or_default() += amount;
            Ok(())
        })))
    }

    type SubscribeCommitsStream = Stream<pb::Commit>;
    async fn subscribe_commits(&self, _: Request<pb::SubscribeCommitsRequest>) -> Result<Response<Self::SubscribeCommitsStream>, Status> {
        not_here()
    }
    async fn list_account_transactions(
        &self,
        _: Request<pb::ListAccountTransactionsRequest>,
    ) -> Result<Response<pb::ListAccountTransactionsResponse>, Status> {
        not_here()
    }
    async fn get_commit(&self, _: Request<pb::GetCommitRequest>) -> Result<Response<pb::Commit>, Status> {
        not_here()
    }
    async fn get_block(&self, _: Request<pb::GetBlockRequest>) -> Result<Response<pb::Block>, Status> {
        not_here()
    }
    async fn get_asset(&self, _: Request<pb::GetAssetRequest>) -> Result<Response<pb::Asset>, Status> {
        not_here()
    }
    async fn list_validators(&self, _: Request<pb::ListValidatorsRequest>) -> Result<Response<pb::ListValidatorsResponse>, Status> {
        Ok(Response::new(pb::ListValidatorsResponse::default()))
    }
    async fn get_checkpoint(&self, _: Request<pb::GetCheckpointRequest>) -> Result<Response<pb::Checkpoint>, Status> {
        Err(Status::unimplemented("nobody asks here"))
    }
    async fn get_transaction_proof(&self, _: Request<pb::GetTransactionProofRequest>) -> Result<Response<pb::TransactionProof>, Status> {
        Err(Status::unimplemented("nobody asks here"))
    }
    async fn get_account_proof(&self, _: Request<pb::GetAccountProofRequest>) -> Result<Response<pb::AccountProof>, Status> {
        Err(Status::unimplemented("nobody asks here"))
    }
}
