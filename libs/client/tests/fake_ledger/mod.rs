//! A ledger that keeps its promises to clients, on a real socket, and misbehaves on demand.

#![allow(dead_code, clippy::unwrap_used, reason = "each test file uses its part; a helper that fails is a failed test")]

use kaldrix_api::{ApiError, ErrorCode};
use kaldrix_client::Client;
use kaldrix_proto::ledger::ledger_service_server::{LedgerService, LedgerServiceServer};
use kaldrix_proto::ledger::{self as pb};
use kaldrix_types::{Address, CertifiedCheckpoint, ChainId, DecodedTransaction, Digest, KeyRef, PublicKey, RejectCode, TxId, encode};
use std::collections::{HashMap, VecDeque};
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status};

/// What to do with the next submission, instead of serving it.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Fault {
    /// Takes the transaction, then breaks the connection before answering.
    TakeAndBreak,
    /// Says that no validator answers.
    NoValidator,
    /// Somebody else's transaction takes the sequence number first.
    SequenceTaken,
    /// Answers ACCEPTED at once, whatever was asked for.
    OnlyAccepted,
    /// As after `TakeAndBreak` at a region that is behind: knows only that the number is used.
    ForgetsTheId,
}

#[derive(Default)]
pub(crate) struct State {
    pub(crate) faults: VecDeque<Fault>,
    pub(crate) accounts: HashMap<Address, (Vec<PublicKey>, u64)>,
    pub(crate) landed: HashMap<TxId, pb::Transaction>,
    /// Every submission as it arrived: id, sequence, whether the key was inline.
    pub(crate) seen: Vec<(TxId, u64, bool)>,
    /// Streams end after so many commits.
    pub(crate) stream_length: u64,
    pub(crate) subscriptions: Vec<u64>,
    /// The newest checkpoint, if there is one.
    pub(crate) checkpoint: Option<CertifiedCheckpoint>,
    /// Text of every proof.
    pub(crate) proof: String,
    /// How often a proof is refused as not checkpointed yet before it is given.
    pub(crate) proof_refusals: u32,
    /// Account and asset of each account proof that was asked for.
    pub(crate) proofs_of: Vec<(String, String)>,
}

#[derive(Clone, Default)]
pub(crate) struct FakeLedger {
    pub(crate) state: Arc<Mutex<State>>,
}

pub(crate) fn chain() -> ChainId {
    ChainId(Digest([5; 32]))
}

impl FakeLedger {
    pub(crate) fn with_faults(faults: impl IntoIterator<Item = Fault>) -> Self {
        let ledger = Self::default();
        ledger.state.lock().unwrap().faults = faults.into_iter().collect();
        ledger
    }

    /// Serves on a free loopback port until the test's runtime ends; the endpoint's text.
    pub(crate) async fn serve(&self) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let service = LedgerServiceServer::new(self.clone());
        tokio::spawn(tonic::transport::Server::builder().add_service(service).serve_with_incoming(TcpListenerStream::new(listener)));
        format!("http://{address}")
    }

    pub(crate) async fn client(&self) -> Client {
        Client::connect(&self.serve().await).await.unwrap()
    }

    pub(crate) fn seen(&self) -> Vec<(TxId, u64, bool)> {
        self.state.lock().unwrap().seen.clone()
    }
}

impl State {
    fn land(&mut self, tx: &DecodedTransaction) -> Result<pb::Transaction, ApiError> {
        if let Some(first) = self.landed.get(&tx.id()) {
            return Ok(first.clone());
        }
        let body = tx.body();
        let (keys, next) = self.accounts.entry(body.sender).or_default();
        match (&tx.signature().key, keys.len()) {
            (KeyRef::Inline(key), 0) => keys.push(key.clone()),
            (KeyRef::Inline(key), _) if keys.contains(key) => {}
            (KeyRef::Inline(_), _) => return Err(RejectCode::WrongKey.into()),
            (KeyRef::Index(i), n) if usize::from(*i) < n => {}
            (KeyRef::Index(_), _) => return Err(RejectCode::UnknownAccount.into()),
        }
        match body.sequence.cmp(next) {
            std::cmp::Ordering::Less => return Err(RejectCode::SequenceReplayed.into()),
            std::cmp::Ordering::Greater => return Err(RejectCode::SequenceGap.into()),
            std::cmp::Ordering::Equal => *next += 1,
        }
        let answer = pb::Transaction {
            id: tx.id().to_string(),
            status: pb::TransactionStatus::Final.into(),
            success: true,
            commit_index: 7,
            sender: body.sender.to_string(),
            sequence: body.sequence,
            ..Default::default()
        };
        self.landed.insert(tx.id(), answer.clone());
        Ok(answer)
    }
}

fn broken() -> Status {
    Status::unavailable("connection reset by peer")
}

type Stream<T> = Pin<Box<dyn tokio_stream::Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl LedgerService for FakeLedger {
    async fn submit_transaction(&self, request: Request<pb::SubmitTransactionRequest>) -> Result<Response<pb::Transaction>, Status> {
        let bytes = request.into_inner().transaction;
        let tx = DecodedTransaction::decode(bytes, chain()).map_err(ApiError::from)?;
        let mut state = self.state.lock().unwrap();
        let inline = matches!(tx.signature().key, KeyRef::Inline(_));
        state.seen.push((tx.id(), tx.body().sequence, inline));
        match state.faults.pop_front() {
            None => {}
            Some(Fault::NoValidator) => return Err(ApiError::from(ErrorCode::NoValidator).into()),
            Some(Fault::TakeAndBreak) => {
                state.land(&tx)?;
                return Err(broken());
            }
            Some(Fault::SequenceTaken) => {
                state.accounts.entry(tx.body().sender).or_default().1 += 1;
                return Err(ApiError::from(RejectCode::SequenceReplayed).into());
            }
            Some(Fault::OnlyAccepted) => {
                let answer = state.land(&tx)?;
                return Ok(Response::new(pb::Transaction { status: pb::TransactionStatus::Accepted.into(), commit_index: 0, ..answer }));
            }
            Some(Fault::ForgetsTheId) => return Err(ApiError::from(RejectCode::SequenceReplayed).into()),
        }
        Ok(Response::new(state.land(&tx)?))
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
        let last = self.get_transaction(request).await?.into_inner();
        let first = pb::Transaction { status: pb::TransactionStatus::Accepted.into(), ..last.clone() };
        Ok(Response::new(Box::pin(tokio_stream::iter([Ok(first.clone()), Ok(first), Ok(last)]))))
    }

    async fn get_account(&self, request: Request<pb::GetAccountRequest>) -> Result<Response<pb::Account>, Status> {
        let text = request.into_inner().address;
        let address: Address = text.parse().unwrap();
        let state = self.state.lock().unwrap();
        let (keys, next) = state.accounts.get(&address).ok_or_else(|| Status::from(ApiError::from(ErrorCode::AccountNotFound)))?;
        let keys = keys.iter().enumerate().map(|(i, k)| pb::AccountKey {
            index: i as u32,
            scheme: k.scheme().to_string(),
            key_id: k.id().to_string(),
        });
        Ok(Response::new(pb::Account { address: text, keys: keys.collect(), next_sequence: *next, ..Default::default() }))
    }

    type SubscribeCommitsStream = Stream<pb::Commit>;
    async fn subscribe_commits(
        &self,
        request: Request<pb::SubscribeCommitsRequest>,
    ) -> Result<Response<Self::SubscribeCommitsStream>, Status> {
        let from = request.into_inner().from_index;
        let mut state = self.state.lock().unwrap();
        state.subscriptions.push(from);
        // Begins one too early, as a server with an inclusive cursor of another kind would.
        let first = from.saturating_sub(1).max(1);
        let commits = (first..=from + state.stream_length)
            .map(|index| Ok(pb::Commit { index, digest: "00".repeat(32), previous: "00".repeat(32), ..Default::default() }));
        let commits: Vec<_> = commits.chain([Err(broken())]).collect();
        Ok(Response::new(Box::pin(tokio_stream::iter(commits))))
    }

    async fn get_network(&self, _: Request<pb::GetNetworkRequest>) -> Result<Response<pb::Network>, Status> {
        Ok(Response::new(pb::Network { name: "fake".into(), chain_id: chain().to_string(), supply: "1".into(), ..Default::default() }))
    }

    async fn get_parameters(&self, _: Request<pb::GetParametersRequest>) -> Result<Response<pb::Parameters>, Status> {
        Ok(Response::new(pb::Parameters { minimum_fee: "3".into(), ..Default::default() }))
    }

    async fn list_account_transactions(
        &self,
        _: Request<pb::ListAccountTransactionsRequest>,
    ) -> Result<Response<pb::ListAccountTransactionsResponse>, Status> {
        Err(Status::unimplemented(""))
    }
    async fn get_commit(&self, _: Request<pb::GetCommitRequest>) -> Result<Response<pb::Commit>, Status> {
        Err(ApiError::from(ErrorCode::CommitNotFound).into())
    }
    async fn list_commits(&self, _: Request<pb::ListCommitsRequest>) -> Result<Response<pb::ListCommitsResponse>, Status> {
        Err(Status::unimplemented(""))
    }
    async fn get_block(&self, _: Request<pb::GetBlockRequest>) -> Result<Response<pb::Block>, Status> {
        Err(Status::unimplemented(""))
    }
    async fn get_asset(&self, _: Request<pb::GetAssetRequest>) -> Result<Response<pb::Asset>, Status> {
        Err(Status::unimplemented(""))
    }
    async fn list_validators(&self, _: Request<pb::ListValidatorsRequest>) -> Result<Response<pb::ListValidatorsResponse>, Status> {
        let validator = |index: u32, in_committee| pb::Validator {
            index,
            in_committee,
            name: format!("v{index}"),
            operator: Address([index as u8; 32]).to_string(),
            status: if in_committee { "active" } else { "jailed" }.into(),
            jailed_until_epoch: if in_committee { 0 } else { 9 },
            bonded: "5".into(),
            ..Default::default()
        };
        let validators = vec![validator(0, true), validator(1, false)];
        Ok(Response::new(pb::ListValidatorsResponse { validators, epoch: 7, epoch_start_round: 40, ..Default::default() }))
    }
    async fn get_checkpoint(&self, request: Request<pb::GetCheckpointRequest>) -> Result<Response<pb::Checkpoint>, Status> {
        let index = request.into_inner().index;
        let newest = self.state.lock().unwrap().checkpoint.clone().filter(|c| index == 0 || c.checkpoint.index == index);
        let certified = newest.ok_or_else(|| Status::from(ApiError::from(ErrorCode::CheckpointNotFound)))?;
        Ok(Response::new(pb::Checkpoint { certified: encode(&certified).into(), ..Default::default() }))
    }
    async fn get_transaction_proof(&self, _: Request<pb::GetTransactionProofRequest>) -> Result<Response<pb::TransactionProof>, Status> {
        let mut state = self.state.lock().unwrap();
        if state.proof_refusals > 0 {
            state.proof_refusals -= 1;
            return Err(ApiError::from(ErrorCode::NotCheckpointed).retry_after(20).into());
        }
        Ok(Response::new(pb::TransactionProof { proof_json: state.proof.clone(), checkpoint_index: 1 }))
    }
    async fn get_account_proof(&self, request: Request<pb::GetAccountProofRequest>) -> Result<Response<pb::AccountProof>, Status> {
        let message = request.into_inner();
        let mut state = self.state.lock().unwrap();
        state.proofs_of.push((message.address, message.asset));
        Ok(Response::new(pb::AccountProof { proof_json: state.proof.clone(), checkpoint_index: 1 }))
    }
    async fn request_faucet(&self, _: Request<pb::FaucetRequest>) -> Result<Response<pb::Transaction>, Status> {
        Err(ApiError::from(ErrorCode::FaucetDisabled).into())
    }
}
