//! `kaldrix.ledger.v1.LedgerService`: decode → call → encode.

use crate::core::cursor::Cursor;
use crate::core::stream::{Event, Subscription};
use crate::core::{Ledger, Level, Submit};
use crate::error::invalid;
use futures::StreamExt as _;
use futures::stream::BoxStream;
use kaldrix_api::ApiError;
use kaldrix_proto::ledger as pb;
use kaldrix_proto::ledger::ledger_service_server::LedgerService;
use kaldrix_types::IdError;
use std::str::FromStr;
use std::sync::Arc;
use tonic::{Request, Response, Status};

/// The gRPC face of a [`Ledger`].
#[derive(Clone)]
pub struct LedgerRpc {
    ledger: Arc<Ledger>,
}

impl LedgerRpc {
    /// Wraps the handlers.
    #[must_use]
    pub const fn new(ledger: Arc<Ledger>) -> Self {
        Self { ledger }
    }

    fn answer<T>(&self, method: &'static str, result: Result<T, ApiError>) -> Result<Response<T>, Status> {
        self.ledger.metrics().request("grpc", method, result.as_ref().err().map(|e| e.code));
        Ok(Response::new(result?))
    }
}

fn parse<T: FromStr<Err = IdError>>(field: &str, text: &str) -> Result<T, ApiError> {
    text.parse().map_err(|error| invalid(field, error))
}

type Items<T> = BoxStream<'static, Result<T, Status>>;

#[tonic::async_trait]
impl LedgerService for LedgerRpc {
    type WatchTransactionStream = Items<pb::Transaction>;
    type SubscribeCommitsStream = Items<pb::Commit>;

    async fn submit_transaction(&self, request: Request<pb::SubmitTransactionRequest>) -> Result<Response<pb::Transaction>, Status> {
        let message = request.into_inner();
        let result = async {
            let level = Level::from_proto(message.wait_for)?;
            self.ledger.submit(Submit { transaction: message.transaction, level, timeout_ms: message.timeout_ms }).await
        };
        self.answer("SubmitTransaction", result.await)
    }

    async fn get_transaction(&self, request: Request<pb::GetTransactionRequest>) -> Result<Response<pb::Transaction>, Status> {
        let result = async { self.ledger.transaction(parse("id", &request.get_ref().id)?).await };
        self.answer("GetTransaction", result.await)
    }

    async fn watch_transaction(
        &self,
        request: Request<pb::GetTransactionRequest>,
    ) -> Result<Response<Self::WatchTransactionStream>, Status> {
        let result = async {
            let id = parse("id", &request.get_ref().id)?;
            let stream = Arc::clone(&self.ledger).watch_transaction(id).await?;
            Ok(stream.map(|item| item.map_err(Status::from)).boxed())
        };
        self.answer("WatchTransaction", result.await)
    }

    async fn get_account(&self, request: Request<pb::GetAccountRequest>) -> Result<Response<pb::Account>, Status> {
        let result = async { self.ledger.account(parse("address", &request.get_ref().address)?).await };
        self.answer("GetAccount", result.await)
    }

    async fn list_account_transactions(
        &self,
        request: Request<pb::ListAccountTransactionsRequest>,
    ) -> Result<Response<pb::ListAccountTransactionsResponse>, Status> {
        let message = request.into_inner();
        let result = async {
            let address = parse("address", &message.address)?;
            self.ledger.account_transactions(address, message.limit, &message.after).await
        };
        self.answer("ListAccountTransactions", result.await)
    }

    async fn get_commit(&self, request: Request<pb::GetCommitRequest>) -> Result<Response<pb::Commit>, Status> {
        self.answer("GetCommit", self.ledger.commit(request.get_ref().index).await)
    }

    async fn list_commits(&self, request: Request<pb::ListCommitsRequest>) -> Result<Response<pb::ListCommitsResponse>, Status> {
        let message = request.into_inner();
        self.answer("ListCommits", self.ledger.commits(message.limit, &message.after).await)
    }

    async fn subscribe_commits(
        &self,
        request: Request<pb::SubscribeCommitsRequest>,
    ) -> Result<Response<Self::SubscribeCommitsStream>, Status> {
        let after = match request.get_ref().from_index {
            0 => Cursor::behind(self.ledger.feed().newest()),
            from => Cursor::behind(from - 1),
        };
        let subscription = Subscription { after, commits: true, account: None };
        let stream = Arc::clone(&self.ledger).subscribe(subscription).map(|stream| {
            let commits = stream.filter_map(|event| async move {
                match event {
                    Ok(Event::Commit(published)) => Some(Ok(published.commit.clone())),
                    Ok(Event::Transaction(_)) => None,
                    Err(error) => Some(Err(Status::from(error))),
                }
            });
            commits.boxed()
        });
        self.answer("SubscribeCommits", stream)
    }

    async fn get_block(&self, request: Request<pb::GetBlockRequest>) -> Result<Response<pb::Block>, Status> {
        let result = async { self.ledger.block(parse("digest", &request.get_ref().digest)?).await };
        self.answer("GetBlock", result.await)
    }

    async fn get_asset(&self, request: Request<pb::GetAssetRequest>) -> Result<Response<pb::Asset>, Status> {
        let result = async { self.ledger.asset(parse("id", &request.get_ref().id)?).await };
        self.answer("GetAsset", result.await)
    }

    async fn get_network(&self, _: Request<pb::GetNetworkRequest>) -> Result<Response<pb::Network>, Status> {
        self.answer("GetNetwork", self.ledger.network().await)
    }

    async fn list_validators(&self, _: Request<pb::ListValidatorsRequest>) -> Result<Response<pb::ListValidatorsResponse>, Status> {
        self.answer("ListValidators", self.ledger.validators_list().await)
    }

    async fn get_checkpoint(&self, request: Request<pb::GetCheckpointRequest>) -> Result<Response<pb::Checkpoint>, Status> {
        self.answer("GetCheckpoint", self.ledger.checkpoint(request.get_ref().index).await)
    }

    async fn get_transaction_proof(
        &self,
        request: Request<pb::GetTransactionProofRequest>,
    ) -> Result<Response<pb::TransactionProof>, Status> {
        let result = async { self.ledger.transaction_proof(parse("id", &request.get_ref().id)?).await };
        self.answer("GetTransactionProof", result.await)
    }

    async fn get_account_proof(&self, request: Request<pb::GetAccountProofRequest>) -> Result<Response<pb::AccountProof>, Status> {
        let message = request.get_ref();
        let result = async {
            let asset = (!message.asset.is_empty()).then(|| parse("asset", &message.asset)).transpose()?;
            self.ledger.account_proof(parse("address", &message.address)?, asset).await
        };
        self.answer("GetAccountProof", result.await)
    }

    async fn get_parameters(&self, _: Request<pb::GetParametersRequest>) -> Result<Response<pb::Parameters>, Status> {
        self.answer("GetParameters", Ok(self.ledger.parameters()))
    }

    async fn request_faucet(&self, request: Request<pb::FaucetRequest>) -> Result<Response<pb::Transaction>, Status> {
        let message = request.into_inner();
        let result = async { self.ledger.faucet(parse("address", &message.address)?, &message.amount).await };
        self.answer("RequestFaucet", result.await)
    }
}
