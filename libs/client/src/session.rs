//! One account, one key, one client: the session keeps track of the key's index and of the sequence numbers.

use crate::builder::VALIDITY_DEFAULT;
use crate::model::{AccountInfo, Receipt, TransactionStatus, WaitFor};
use crate::submit::PreparedTransaction;
use crate::{Client, ClientError, TransactionBuilder};
use kaldrix_api::ErrorCode;
use kaldrix_crypto::Signer;
use kaldrix_types::{Address, AssetId, ChainId, KeyRef, Lane, Operation, RejectCode, Sequence};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// How often a transaction is signed anew because its sequence number was taken.
const SIGNINGS_MAX: u32 = 4;

/// How a session's transaction is made and how long it is waited for.
#[derive(Clone, Debug)]
pub struct ExecuteOptions {
    /// Which lane; 0 is the strict default.
    pub lane: Lane,
    /// Smallest units of KDX; `None` means the chain's minimum.
    pub fee: Option<u128>,
    /// At most 256 bytes.
    pub memo: Vec<u8>,
    /// How long the transaction may take to land.
    pub valid_for: Duration,
    /// What to wait for.
    pub wait_for: WaitFor,
    /// How long to wait.
    pub timeout: Duration,
}

impl Default for ExecuteOptions {
    fn default() -> Self {
        Self {
            lane: 0,
            fee: None,
            memo: Vec::new(),
            valid_for: VALIDITY_DEFAULT,
            wait_for: WaitFor::Final,
            timeout: Duration::from_secs(10),
        }
    }
}

/// Where a lane is.
#[derive(Clone, Copy, Debug, Default)]
struct LaneState {
    /// The next sequence number; unknown until the ledger is asked.
    next: Option<Sequence>,
    /// Whether an earlier transaction of this session is accepted but not yet known to be final.
    unsettled: bool,
}

type LaneLock = Arc<tokio::sync::Mutex<LaneState>>;

/// An account that signs and submits.
///
/// Its first transaction carries the public key, later ones the key's index. Transactions of one lane go out one after the other;
/// different lanes are independent, so tasks that share a session each take their own. When another program uses the same lane and a
/// sequence number turns out to be taken, the session reads the account again and signs anew, but only when it is certain
/// that the first signing did not land: a payment is never made twice.
#[derive(Debug)]
pub struct AccountSession {
    client: Client,
    signer: SharedSigner,
    address: Address,
    chain_id: ChainId,
    minimum_fee: u128,
    /// The key's index, once the ledger has it.
    key_index: Mutex<Option<u8>>,
    /// At most one entry per lane: 256.
    lanes: Mutex<HashMap<Lane, LaneLock>>,
}

struct SharedSigner(Arc<dyn Signer>);

impl std::fmt::Debug for SharedSigner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?}", self.0.public_key())
    }
}

/// The key's index among the account's keys; `None` while the account has none.
fn index_of(account: &AccountInfo, signer: &dyn Signer) -> Result<Option<u8>, ClientError> {
    if account.keys.is_empty() {
        return Ok(None);
    }
    let id = signer.public_key().id();
    let found = account.keys.iter().find(|k| k.key_id == id).map(|k| k.index);
    found.map(Some).ok_or(ClientError::NotAKeyOf { address: account.address })
}

impl AccountSession {
    /// Opens the account whose address follows from the signer's key.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn open(client: Client, signer: Arc<dyn Signer>) -> Result<Self, ClientError> {
        let address = Address::of_key(signer.public_key());
        Self::open_address(client, signer, address).await
    }

    /// Opens `address` with a key that was registered or rotated in later.
    ///
    /// # Errors
    /// [`ClientError::NotAKeyOf`] when the account has keys and this is none of them; otherwise see [`ClientError`].
    pub async fn open_address(client: Client, signer: Arc<dyn Signer>, address: Address) -> Result<Self, ClientError> {
        let chain_id = client.network().await?.chain_id;
        let minimum_fee = client.parameters().await?.minimum_fee;
        let session = Self {
            client,
            signer: SharedSigner(signer),
            address,
            chain_id,
            minimum_fee,
            key_index: Mutex::new(None),
            lanes: Mutex::new(HashMap::new()),
        };
        session.refresh().await?;
        Ok(session)
    }

    /// The account's address.
    #[must_use]
    pub const fn address(&self) -> Address {
        self.address
    }

    /// The chain that this session signs for.
    #[must_use]
    pub const fn chain_id(&self) -> ChainId {
        self.chain_id
    }

    /// The client underneath.
    #[must_use]
    pub const fn client(&self) -> &Client {
        &self.client
    }

    /// Sends `amount` smallest units of `asset` to `to`.
    ///
    /// # Errors
    /// As [`Self::execute`].
    pub async fn transfer(&self, to: Address, asset: AssetId, amount: u128, options: &ExecuteOptions) -> Result<Receipt, ClientError> {
        self.execute(vec![Operation::Transfer { to, asset, amount }], options).await
    }

    /// Signs one transaction with these operations, all or nothing, submits it and waits.
    ///
    /// A receipt can be FINAL and still not a success: see [`Receipt::is_final_success`].
    ///
    /// # Errors
    /// [`ClientError::Invalid`] before anything is sent, [`ClientError::Api`] when it was refused; after [`ClientError::Timeout`] and
    /// [`ClientError::NoLedger`] it may still land until its `valid_for` is over.
    pub async fn execute(&self, operations: Vec<Operation>, options: &ExecuteOptions) -> Result<Receipt, ClientError> {
        let lane = self.lane(options.lane);
        let mut lane = lane.lock().await;
        let started = tokio::time::Instant::now();
        for signing in 1.. {
            let (sequence, transaction) = self.sign(&operations, options, &mut lane).await?;
            let submission = self.client.submit_tracked(&transaction, options.wait_for, options.timeout).await;
            let taken = sequence_code(&submission.outcome);
            let Some(code) = taken else {
                self.settle(&mut lane, sequence, &submission.outcome);
                return submission.outcome;
            };
            if submission.ambiguous {
                // An attempt may have arrived unseen, and this answer may be about our own transaction: look before signing anew.
                lane.next = None;
                let info = self.client.wait_definite(transaction.id(), options.timeout).await?;
                return Ok(crate::submit::receipt(info, started));
            }
            let ahead = self.refetch(options.lane, &mut lane, sequence, code).await?;
            if !ahead || signing >= SIGNINGS_MAX {
                return submission.outcome;
            }
        }
        unreachable!("the loop above only ends by returning")
    }

    fn lane(&self, lane: Lane) -> LaneLock {
        Arc::clone(self.lanes.lock().unwrap_or_else(PoisonError::into_inner).entry(lane).or_default())
    }

    /// Reads the account, and with it the key's index; `None` while the ledger has nothing under the address.
    async fn refresh(&self) -> Result<Option<AccountInfo>, ClientError> {
        match self.client.account(self.address).await {
            Ok(account) => {
                let index = index_of(&account, &*self.signer.0)?;
                *self.key_index.lock().unwrap_or_else(PoisonError::into_inner) = index;
                Ok(Some(account))
            }
            Err(error) if error.api_code() == Some(ErrorCode::AccountNotFound) => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn sign(
        &self,
        operations: &[Operation],
        options: &ExecuteOptions,
        lane: &mut LaneState,
    ) -> Result<(Sequence, PreparedTransaction), ClientError> {
        let known_index = *self.key_index.lock().unwrap_or_else(PoisonError::into_inner);
        // Without an index the key itself goes along, which is always right but long: look whether the ledger has it by now.
        if lane.next.is_none() || known_index.is_none() {
            let fetched = self.refresh().await?.map_or(0, |a| a.next_sequence_of(options.lane));
            // A region's reads may lag behind a receipt that we already hold.
            lane.next = Some(lane.next.unwrap_or(0).max(fetched));
        }
        let sequence = lane.next.unwrap_or(0);
        let index = *self.key_index.lock().unwrap_or_else(PoisonError::into_inner);
        let key = index.map_or_else(|| KeyRef::Inline(self.signer.0.public_key().clone()), KeyRef::Index);
        let signed = TransactionBuilder::new(self.chain_id, self.address)
            .lane(options.lane)
            .sequence(sequence)
            .fee(options.fee.unwrap_or(self.minimum_fee))
            .memo(options.memo.clone())
            .valid_for(options.valid_for)
            .operations(operations.iter().cloned())
            .sign(&*self.signer.0, key)?;
        Ok((sequence, PreparedTransaction::from(&signed)))
    }

    /// Notes what a submission says about the lane.
    fn settle(&self, lane: &mut LaneState, sequence: Sequence, outcome: &Result<Receipt, ClientError>) {
        *lane = match outcome {
            Ok(receipt) if receipt.status.is_final() => LaneState { next: Some(sequence + 1), unsettled: false },
            Ok(receipt) if !receipt.status.is_definite() => LaneState { next: Some(sequence + 1), unsettled: true },
            // Refused, expired or unknown: the ledger knows where the lane is.
            Ok(_) | Err(_) => LaneState { next: None, unsettled: false },
        };
    }

    /// Reads where the lane is now. Answers whether signing anew makes sense.
    async fn refetch(&self, number: Lane, lane: &mut LaneState, tried: Sequence, code: RejectCode) -> Result<bool, ClientError> {
        let fetched = self.refresh().await?.map_or(0, |a| a.next_sequence_of(number));
        if code == RejectCode::SequenceReplayed && fetched <= tried {
            // Whoever took the number is not final yet: try the one behind it.
            *lane = LaneState { next: Some(tried + 1), unsettled: true };
            return Ok(true);
        }
        // A gap behind our own unfinished transactions closes by itself; signing a lower number would push one of them out.
        if lane.unsettled && fetched < tried {
            return Ok(false);
        }
        *lane = LaneState { next: Some(fetched), unsettled: false };
        Ok(fetched != tried)
    }
}

/// The sequence code that a submission ended with, as an error or as a rejection.
fn sequence_code(outcome: &Result<Receipt, ClientError>) -> Option<RejectCode> {
    let is_sequence = |code: &RejectCode| matches!(code, RejectCode::SequenceReplayed | RejectCode::SequenceGap);
    match outcome {
        Ok(receipt) if receipt.status == TransactionStatus::Rejected => receipt.code.as_deref()?.parse().ok().filter(is_sequence),
        Err(ClientError::Api(error)) => match error.code {
            ErrorCode::Reject(code) => Some(code).filter(is_sequence),
            _ => None,
        },
        _ => None,
    }
}
