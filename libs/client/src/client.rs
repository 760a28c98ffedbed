//! The client: reads, and the one loop that finds an endpoint that answers.

use crate::endpoint::{self, ClientOptions, Endpoints, Rpc};
use crate::model::{
    AccountInfo, AssetInfo, BlockInfo, CheckpointInfo, CommitInfo, NetworkInfo, Page, ParametersInfo, Receipt, TransactionInfo,
    ValidatorInfo, ValidatorSetInfo,
};
use crate::{ClientError, convert};
use kaldrix_api::{ApiError, ErrorCode};
use kaldrix_checkpoint::Proof;
use kaldrix_proto::ledger as pb;
use kaldrix_types::{Address, AssetId, CommitIndex, Digest, TxId};
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::time::Instant;
use tonic::{Code, Response, Status};

/// Waits between attempts: the first, and the longest.
const BACKOFF_FIRST: Duration = Duration::from_millis(25);
const BACKOFF_MAX: Duration = Duration::from_millis(1_000);

/// A connection to a ledger. Cheap to clone; clones share connections.
#[derive(Clone, Debug)]
pub struct Client {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    endpoints: Endpoints,
    rpcs: Vec<Rpc>,
    /// The endpoint that answered last.
    current: AtomicUsize,
    options: ClientOptions,
}

/// How an attempt ended.
pub(crate) enum Failure {
    /// No server answered, or the connection broke: what was sent may have arrived.
    Transport(String),
    /// The server answered with an error.
    Api(ApiError),
}

/// Tells the server's own answer from a failure on the way to it.
pub(crate) fn classify(status: &Status) -> Failure {
    // A status that was read off the wire has no source; one that the transport made up has.
    let made_here = std::error::Error::source(status).is_some();
    let error = ApiError::from_status(status);
    let foreign_unavailable = matches!(status.code(), Code::Unavailable | Code::Cancelled) && status.details().is_empty();
    if made_here || foreign_unavailable {
        let mut cause: &dyn std::error::Error = status;
        while let Some(deeper) = cause.source() {
            cause = deeper;
        }
        let text = if made_here { cause.to_string() } else { status.message().to_owned() };
        return Failure::Transport(text);
    }
    Failure::Api(error)
}

/// The wait before attempt `attempt + 1`: doubles, is capped, and is spread so that clients do not come back in step.
pub(crate) fn backoff(attempt: u32) -> Duration {
    let full = BACKOFF_FIRST.saturating_mul(1 << attempt.min(10)).min(BACKOFF_MAX);
    full.mul_f64(rand::random_range(0.5..1.0))
}

impl Client {
    /// Connects to one endpoint or a list (`"http://127.0.0.1:8080"`, `"127.0.0.1:8080,127.0.0.1:8081"`) and asks it for its network once.
    ///
    /// # Errors
    /// [`ClientError::Endpoint`] for a text that is none, [`ClientError::NoLedger`] when nothing answers.
    pub async fn connect(endpoints: impl Into<Endpoints>) -> Result<Self, ClientError> {
        let client = Self::new(endpoints, ClientOptions::default())?;
        client
            .call(
                Instant::now(),
                client.inner.options.read_timeout,
                |mut rpc| async move { rpc.get_network(pb::GetNetworkRequest {}).await },
            )
            .await?;
        Ok(client)
    }

    /// Prepares a client without contacting anybody. Must be called within a Tokio runtime.
    ///
    /// # Errors
    /// [`ClientError::Endpoint`] for a text that is none.
    pub fn new(endpoints: impl Into<Endpoints>, options: ClientOptions) -> Result<Self, ClientError> {
        let endpoints = endpoints.into();
        let rpcs = endpoint::open(&endpoints, &options)?;
        Ok(Self { inner: Arc::new(Inner { endpoints, rpcs, current: AtomicUsize::new(0), options }) })
    }

    /// The endpoints this client uses.
    #[must_use]
    pub fn endpoints(&self) -> &Endpoints {
        &self.inner.endpoints
    }

    pub(crate) fn options(&self) -> &ClientOptions {
        &self.inner.options
    }

    /// The endpoint in use, with its position.
    pub(crate) fn rpc(&self) -> (usize, Rpc) {
        let position = self.inner.current.load(Ordering::Relaxed) % self.inner.rpcs.len();
        (position, self.inner.rpcs[position].clone())
    }

    /// Leaves the endpoint at `position` for the next one, unless somebody else already did.
    pub(crate) fn leave(&self, position: usize) {
        let next = (position + 1) % self.inner.rpcs.len();
        let _ = self.inner.current.compare_exchange(position, next, Ordering::Relaxed, Ordering::Relaxed);
    }

    /// How many endpoints there are.
    pub(crate) fn width(&self) -> u32 {
        u32::try_from(self.inner.rpcs.len()).unwrap_or(u32::MAX)
    }

    pub(crate) fn no_ledger(&self, cause: String) -> ClientError {
        ClientError::NoLedger { endpoints: self.inner.endpoints.as_slice().join(", "), cause }
    }

    /// Calls until an answer, an error that waiting does not help, or the deadline; every endpoint is tried at least once.
    pub(crate) async fn call<T, F, Fut>(&self, deadline: Instant, attempt_max: Duration, request: F) -> Result<T, ClientError>
    where
        F: Fn(Rpc) -> Fut,
        Fut: Future<Output = Result<Response<T>, Status>>,
    {
        for attempt in 0.. {
            let (position, rpc) = self.rpc();
            let Ok(answer) = tokio::time::timeout(attempt_max, request(rpc)).await else {
                self.leave(position);
                if attempt + 1 >= self.width() && Instant::now() >= deadline {
                    return Err(ClientError::Timeout { waited_ms: u64::try_from(attempt_max.as_millis()).unwrap_or(u64::MAX) });
                }
                continue;
            };
            let failure = match answer {
                Ok(response) => return Ok(response.into_inner()),
                Err(status) => classify(&status),
            };
            let (error, pause) = self.judge(position, attempt, failure)?;
            if attempt + 1 >= self.width() && Instant::now() + pause >= deadline {
                return Err(error);
            }
            // With several endpoints the first pass goes through them without a pause.
            if attempt + 1 >= self.width() {
                tokio::time::sleep(pause).await;
            }
        }
        unreachable!("the loop above only ends by returning")
    }

    /// Whether to try again after `failure`, and after which pause.
    ///
    /// # Errors
    /// The failure itself when trying again cannot help.
    pub(crate) fn judge(&self, position: usize, attempt: u32, failure: Failure) -> Result<(ClientError, Duration), ClientError> {
        match failure {
            Failure::Transport(cause) => {
                self.leave(position);
                Ok((self.no_ledger(cause), backoff(attempt)))
            }
            Failure::Api(error) if error.code.is_retryable() => {
                if matches!(error.code, ErrorCode::NoValidator | ErrorCode::ReadModelUnavailable) {
                    self.leave(position);
                }
                let asked = error.retry_after_ms.map(|ms| Duration::from_millis(ms.into())).unwrap_or_default();
                Ok((error.into(), asked.max(backoff(attempt))))
            }
            Failure::Api(error) => Err(error.into()),
        }
    }

    async fn read<T, F, Fut>(&self, request: F) -> Result<T, ClientError>
    where
        F: Fn(Rpc) -> Fut,
        Fut: Future<Output = Result<Response<T>, Status>>,
    {
        let limit = self.inner.options.read_timeout;
        self.call(Instant::now() + limit, limit, request).await
    }

    /// What the ledger holds under `address`.
    ///
    /// # Errors
    /// [`ErrorCode::AccountNotFound`] when nothing; otherwise see [`ClientError`].
    pub async fn account(&self, address: Address) -> Result<AccountInfo, ClientError> {
        let address = &address.to_string();
        let request = |mut rpc: Rpc| async move { rpc.get_account(pb::GetAccountRequest { address: address.clone() }).await };
        convert::account(self.read(request).await?)
    }

    /// One page of an account's transactions, newest first. `after` is [`Page::next`] of the page before.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn account_transactions(
        &self,
        address: Address,
        limit: u32,
        after: Option<&str>,
    ) -> Result<Page<TransactionInfo>, ClientError> {
        let request =
            &pb::ListAccountTransactionsRequest { address: address.to_string(), limit, after: after.unwrap_or_default().to_owned() };
        let page = self.read(|mut rpc| async move { rpc.list_account_transactions(request.clone()).await }).await?;
        let items = page.transactions.into_iter().map(convert::transaction).collect::<Result<_, _>>()?;
        Ok(Page { items, next: Some(page.next).filter(|n| !n.is_empty()) })
    }

    /// A transaction by its id.
    ///
    /// # Errors
    /// [`ErrorCode::TransactionNotFound`] when this region knows none; otherwise see [`ClientError`].
    pub async fn transaction(&self, id: TxId) -> Result<TransactionInfo, ClientError> {
        let id = &id.to_string();
        let request = |mut rpc: Rpc| async move { rpc.get_transaction(pb::GetTransactionRequest { id: id.clone() }).await };
        convert::transaction(self.read(request).await?)
    }

    /// A commit with the ids of up to 1,000 of its transactions.
    ///
    /// # Errors
    /// [`ErrorCode::CommitNotFound`] when there is none yet; otherwise see [`ClientError`].
    pub async fn commit(&self, index: CommitIndex) -> Result<CommitInfo, ClientError> {
        convert::commit(self.read(|mut rpc| async move { rpc.get_commit(pb::GetCommitRequest { index }).await }).await?)
    }

    /// One page of commits, newest first. `after` is [`Page::next`] of the page before.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn commits(&self, limit: u32, after: Option<&str>) -> Result<Page<CommitInfo>, ClientError> {
        let request = &pb::ListCommitsRequest { limit, after: after.unwrap_or_default().to_owned() };
        let page = self.read(|mut rpc| async move { rpc.list_commits(request.clone()).await }).await?;
        let items = page.commits.into_iter().map(convert::commit).collect::<Result<_, _>>()?;
        Ok(Page { items, next: Some(page.next).filter(|n| !n.is_empty()) })
    }

    /// A committed block.
    ///
    /// # Errors
    /// [`ErrorCode::BlockNotFound`] when there is none; otherwise see [`ClientError`].
    pub async fn block(&self, digest: Digest) -> Result<BlockInfo, ClientError> {
        let digest = &digest.to_string();
        let request = |mut rpc: Rpc| async move { rpc.get_block(pb::GetBlockRequest { digest: digest.clone() }).await };
        convert::block(self.read(request).await?)
    }

    /// An asset's definition and supply.
    ///
    /// # Errors
    /// [`ErrorCode::AssetNotFound`] when there is none; otherwise see [`ClientError`].
    pub async fn asset(&self, id: AssetId) -> Result<AssetInfo, ClientError> {
        let id = &id.to_string();
        let request = |mut rpc: Rpc| async move { rpc.get_asset(pb::GetAssetRequest { id: id.clone() }).await };
        convert::asset(self.read(request).await?)
    }

    /// The network as the answering region sees it.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn network(&self) -> Result<NetworkInfo, ClientError> {
        convert::network(self.read(|mut rpc| async move { rpc.get_network(pb::GetNetworkRequest {}).await }).await?)
    }

    /// The running epoch and everybody who is registered as a validator.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn validator_set(&self) -> Result<ValidatorSetInfo, ClientError> {
        convert::validator_set(self.read(|mut rpc| async move { rpc.list_validators(pb::ListValidatorsRequest {}).await }).await?)
    }

    /// The validators of the running epoch in index order, then those without a seat.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn validators(&self) -> Result<Vec<ValidatorInfo>, ClientError> {
        Ok(self.validator_set().await?.validators)
    }

    /// A certified checkpoint by its index, or the newest one. The votes are as the server sent them: [`crate::verify`] checks them.
    ///
    /// # Errors
    /// [`ErrorCode::CheckpointNotFound`] when there is none yet; otherwise see [`ClientError`].
    pub async fn checkpoint(&self, index: Option<u64>) -> Result<CheckpointInfo, ClientError> {
        let index = index.unwrap_or(0);
        convert::checkpoint(&self.read(|mut rpc| async move { rpc.get_checkpoint(pb::GetCheckpointRequest { index }).await }).await?)
    }

    /// The proof of what became of a transaction. Soon after it became final this waits for the checkpoint, within the read time-out.
    /// It is as the server sent it: [`crate::verify::verify_proof`] says whether it holds.
    ///
    /// # Errors
    /// [`ErrorCode::NotCheckpointed`] when no checkpoint covers it in time, [`ErrorCode::TransactionNotFound`],
    /// [`ErrorCode::HistoryPruned`]; otherwise see [`ClientError`].
    pub async fn transaction_proof(&self, id: TxId) -> Result<Proof, ClientError> {
        let request = &pb::GetTransactionProofRequest { id: id.to_string() };
        let answer = self.read(|mut rpc| async move { rpc.get_transaction_proof(request.clone()).await }).await?;
        convert::proof(&answer.proof_json)
    }

    /// The proof of what an account holds of `asset` in the newest checkpoint, or without one, of its keys and sequence number; or that
    /// there is nothing. As the server sent it: [`crate::verify::verify_proof`] says whether it holds.
    ///
    /// # Errors
    /// [`ErrorCode::NotCheckpointed`] before the first checkpoint; otherwise see [`ClientError`].
    pub async fn account_proof(&self, address: Address, asset: Option<AssetId>) -> Result<Proof, ClientError> {
        let asset = asset.map(|asset| asset.to_string()).unwrap_or_default();
        let request = &pb::GetAccountProofRequest { address: address.to_string(), asset };
        let answer = self.read(|mut rpc| async move { rpc.get_account_proof(request.clone()).await }).await?;
        convert::proof(&answer.proof_json)
    }

    /// The chain's rules.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn parameters(&self) -> Result<ParametersInfo, ClientError> {
        convert::parameters(self.read(|mut rpc| async move { rpc.get_parameters(pb::GetParametersRequest {}).await }).await?)
    }

    /// Asks a development network for `amount` smallest units of test KDX.
    ///
    /// Not repeated after an unclear failure: two payments could follow.
    ///
    /// # Errors
    /// [`ErrorCode::FaucetDisabled`] and [`ErrorCode::FaucetLimit`]; otherwise see [`ClientError`].
    pub async fn faucet(&self, address: Address, amount: u128) -> Result<Receipt, ClientError> {
        let started = Instant::now();
        let (_, mut rpc) = self.rpc();
        let request = pb::FaucetRequest { address: address.to_string(), amount: amount.to_string() };
        let limit = self.inner.options.read_timeout;
        let answer = tokio::time::timeout(limit, rpc.request_faucet(request)).await;
        let answer = answer.map_err(|_| ClientError::Timeout { waited_ms: crate::submit::ms(limit) })?;
        let message = answer.map_err(|status| match classify(&status) {
            Failure::Transport(cause) => self.no_ledger(cause),
            Failure::Api(error) => error.into(),
        })?;
        Ok(crate::submit::receipt(convert::transaction(message.into_inner())?, started))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ledgers_own_errors_are_told_from_a_broken_way_to_it() {
        let own = Status::from(ApiError::from(ErrorCode::NoValidator));
        assert!(matches!(classify(&own), Failure::Api(e) if e.code == ErrorCode::NoValidator));
        assert!(matches!(classify(&Status::unavailable("connection reset")), Failure::Transport(_)));
        assert!(matches!(classify(&Status::from_error("broken pipe".into())), Failure::Transport(_)));
    }

    #[test]
    fn pauses_grow_to_a_cap_and_are_never_in_step() {
        for attempt in 0..40 {
            let pause = backoff(attempt);
            assert!(pause >= BACKOFF_FIRST / 2 && pause <= BACKOFF_MAX, "{attempt}: {pause:?}");
        }
        let pauses: std::collections::HashSet<Duration> = (0..20).map(|_| backoff(6)).collect();
        assert!(pauses.len() > 10);
    }

    #[tokio::test]
    async fn when_nothing_listens_the_error_says_how_to_start_a_ledger() {
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let error = Client::connect(&format!("{free}")).await.unwrap_err();
        assert_eq!(error.code(), "NO_LEDGER");
        let text = error.to_string();
        assert!(text.contains("kaldrix dev") && text.contains("KALDRIX_API") && text.contains(&free.to_string()), "{text}");
    }
}
