//! Pays what the faucet was asked for: gathers waiting requests into one transaction, sees it final, goes on.

use crate::core::faucet::Payment;
use crate::core::{Ledger, Level, Submit};
use kaldrix_api::{ApiError, ErrorCode};
use kaldrix_crypto::{SecretKey, sign_transaction};
use kaldrix_proto::ledger as pb;
use kaldrix_types::{Address, AssetId, KeyRef, Lane, Operation, RejectCode, Sequence, TxBody, encode};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// Payments of one transaction.
const BATCH_MAX: usize = 256;
/// How long one transaction may take to become final.
const WAIT_MS: u32 = 10_000;
/// How long one transaction stays valid.
const VALIDITY_MS: u64 = 60_000;
/// Tries when another process used our sequence number, or an earlier payment of ours is still on its way.
const TRIES: u32 = 5;
const RETRY_DELAY: Duration = Duration::from_millis(300);

/// The faucet's account in one region.
pub struct Faucet {
    key: SecretKey,
    sender: Address,
    lane: Lane,
    next: Option<Sequence>,
}

impl Faucet {
    /// A faucet that pays from `key`'s account in `lane`.
    #[must_use]
    pub fn new(key: SecretKey, lane: Lane) -> Self {
        let sender = Address::of_key(key.public_key());
        Self { key, sender, lane, next: None }
    }

    async fn pay(&mut self, ledger: &Ledger, payments: &[(Address, u128)]) -> Result<pb::Transaction, ApiError> {
        let mut last = ApiError::from(ErrorCode::Internal);
        for attempt in 0..TRIES {
            if attempt > 0 {
                tokio::time::sleep(RETRY_DELAY).await;
            }
            match self.try_pay(ledger, payments).await {
                Ok(transaction) => return Ok(transaction),
                Err(error) => {
                    self.next = None;
                    let sequence = matches!(error.code, ErrorCode::Reject(RejectCode::SequenceReplayed | RejectCode::SequenceGap));
                    if !sequence && !error.code.is_retryable() {
                        return Err(error);
                    }
                    tracing::debug!(%error, attempt, "a faucet payment has to be signed again");
                    last = error;
                }
            }
        }
        Err(last)
    }

    async fn try_pay(&mut self, ledger: &Ledger, payments: &[(Address, u128)]) -> Result<pb::Transaction, ApiError> {
        let sequence = match self.next {
            Some(next) => next,
            None => self.read_sequence(ledger).await?,
        };
        let body = self.body(ledger, sequence, payments);
        let signed = sign_transaction(body, &self.key, KeyRef::Inline(self.key.public_key().clone())).map_err(|error| {
            tracing::error!(%error, "the faucet's key does not sign");
            ApiError::from(ErrorCode::Internal)
        })?;
        let submit = Submit { transaction: encode(&signed).into(), level: Level::Final, timeout_ms: WAIT_MS };
        let transaction = ledger.submit(submit).await?;
        if transaction.status() != pb::TransactionStatus::Final {
            // It may still land: the next payment finds out from the store which number is free.
            self.next = None;
            return Ok(transaction);
        }
        self.next = Some(sequence + 1);
        match ErrorCode::parse(&transaction.code).filter(|_| !transaction.success) {
            Some(code) => Err(ApiError::new(code, format!("the faucet's payment failed: {}", transaction.detail))),
            None => Ok(transaction),
        }
    }

    async fn read_sequence(&self, ledger: &Ledger) -> Result<Sequence, ApiError> {
        match ledger.account(self.sender).await {
            Ok(account) if self.lane == 0 => Ok(account.next_sequence),
            Ok(account) => Ok(account.lanes.iter().find(|l| l.lane == u32::from(self.lane)).map_or(0, |l| l.next_sequence)),
            Err(error) if error.code == ErrorCode::AccountNotFound => Ok(0),
            Err(error) => Err(error),
        }
    }

    fn body(&self, ledger: &Ledger, sequence: Sequence, payments: &[(Address, u128)]) -> TxBody {
        let now_ms = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| u64::try_from(d.as_millis()).unwrap_or(u64::MAX));
        // Consensus time may be ahead of this clock.
        let base_ms = now_ms.max(ledger.feed().newest_timestamp_ms());
        let parameters = &ledger.genesis().parameters;
        let operations =
            payments.iter().map(|(to, amount)| Operation::Transfer { to: *to, asset: AssetId::NATIVE, amount: *amount }).collect();
        TxBody {
            chain_id: ledger.chain(),
            sender: self.sender,
            lane: self.lane,
            sequence,
            valid_until_ms: base_ms + VALIDITY_MS.min(parameters.validity_ms_max),
            fee: parameters.minimum_fee,
            operations,
            memo: bytes::Bytes::from_static(b"faucet"),
        }
    }
}

/// Runs until `cancel`.
pub async fn run(mut faucet: Faucet, mut queue: mpsc::Receiver<Payment>, ledger: Arc<Ledger>, cancel: CancellationToken) {
    let mut waiting = Vec::with_capacity(BATCH_MAX);
    loop {
        tokio::select! {
            () = cancel.cancelled() => return,
            count = queue.recv_many(&mut waiting, BATCH_MAX) => if count == 0 { return },
        }
        // Whoever has gone away is not paid.
        waiting.retain(|payment| !payment.reply.is_closed());
        if waiting.is_empty() {
            continue;
        }
        let payments: Vec<(Address, u128)> = waiting.iter().map(|p| (p.to, p.amount)).collect();
        let result = tokio::select! {
            () = cancel.cancelled() => return,
            result = faucet.pay(&ledger, &payments) => result,
        };
        for payment in waiting.drain(..) {
            let _ = payment.reply.send(result.clone());
        }
    }
}
