//! SignBlock, SignPeerBinding, SignEvidence: one request at a time, on a thread that may block.

use crate::core::audit::Outcome;
use crate::core::desk::{DeskError, LastSigned, Signed, SigningDesk};
use crate::core::guard::Guard;
use crate::core::policy::Request;
use crate::error::{CryptoServiceError, is_refusal, status};
use crate::metrics::Metrics;
use kaldrix_api::{ApiError, ErrorCode};
use kaldrix_crypto::SecretKey;
use kaldrix_proto::crypto::{SignBlockRequest, SignEvidenceRequest, SignPeerBindingRequest};
use kaldrix_proto::{DecodeError, decode_bcs, digest};
use kaldrix_service_kit::Caller;
use kaldrix_types::{ChainId, KeyId, PublicKey, TimestampMs, limits};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Instant, SystemTime, UNIX_EPOCH};
use tokio::sync::{Semaphore, mpsc};
use tonic::Status;

/// When a refused caller may come back: a signature takes about a millisecond, most of it the disk's.
const RETRY_MS: u32 = 10;

/// The message as the core has it.
pub(super) fn block(message: &SignBlockRequest) -> Result<Request, DecodeError> {
    Ok(Request::Block {
        chain: ChainId(digest("chain_id", &message.chain_id)?),
        epoch: message.epoch,
        round: message.round,
        digest: digest("digest", &message.digest)?,
    })
}

/// The message as the core has it.
pub(super) fn peer_binding(message: &SignPeerBindingRequest) -> Result<Request, DecodeError> {
    Ok(Request::PeerBinding { chain: ChainId(digest("chain_id", &message.chain_id)?), digest: digest("digest", &message.digest)? })
}

/// The message as the core has it.
pub(super) fn evidence(message: &SignEvidenceRequest) -> Result<Request, DecodeError> {
    Ok(Request::Evidence(decode_bcs("body", &message.body, limits::TRANSACTION_BYTES_MAX)?))
}

/// Which key a message names: `None` for the main one.
pub(super) fn key_id(bytes: &[u8]) -> Result<Option<KeyId>, DecodeError> {
    if bytes.is_empty() { Ok(None) } else { digest("key_id", bytes).map(Some) }
}

/// The way from a request on the runtime to the desk on a blocking thread.
pub(crate) struct Signing {
    desk: Arc<Mutex<SigningDesk>>,
    /// Beside the desk, so that who asks for keys does not wait for a signature.
    keys: RwLock<Vec<PublicKey>>,
    waiting: Arc<Semaphore>,
    failures: mpsc::Sender<CryptoServiceError>,
    metrics: Arc<Metrics>,
}

impl Signing {
    /// At most `waiting_max` requests wait for `desk`; what makes signing unsafe goes to `failures`, of which the first counts.
    pub(crate) fn new(desk: SigningDesk, waiting_max: usize, failures: mpsc::Sender<CryptoServiceError>, metrics: Arc<Metrics>) -> Self {
        let signing = Self {
            keys: RwLock::default(),
            desk: Arc::new(Mutex::new(desk)),
            waiting: Arc::new(Semaphore::new(waiting_max)),
            failures,
            metrics,
        };
        signing.refresh_keys();
        signing
    }

    /// Every key, the main one first.
    pub(super) fn keys(&self) -> Vec<PublicKey> {
        self.keys.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn refresh_keys(&self) {
        let Ok(desk) = self.desk.lock() else { return };
        let keys = desk.public_keys();
        self.metrics.session_keys.set(i64::try_from(keys.len()).unwrap_or(i64::MAX));
        *self.keys.write().unwrap_or_else(PoisonError::into_inner) = keys;
    }

    /// Puts a new key on the desk. Blocks for as long as a signature may take.
    pub(super) fn add(&self, key: SecretKey, guard: Guard) -> Result<(), Status> {
        match self.desk.lock() {
            Ok(mut desk) => desk.add(Arc::new(key), guard),
            Err(_) => return Err(self.fail(CryptoServiceError::Worker("while it held the keys".to_owned()))),
        }
        self.refresh_keys();
        Ok(())
    }

    /// What a key's guard knows.
    pub(super) async fn last_signed(&self, key: Option<KeyId>) -> Result<LastSigned, Status> {
        let desk = Arc::clone(&self.desk);
        // The desk may be waiting for the disk.
        let work = tokio::task::spawn_blocking(move || desk.lock().ok().map(|desk| desk.last_signed_with(key)));
        match work.await {
            Ok(Some(Some(last))) => Ok(last),
            Ok(Some(None)) => Err(Status::not_found("no such session key is here")),
            Ok(None) | Err(_) => Err(self.fail(CryptoServiceError::Worker("while it held the keys".to_owned()))),
        }
    }

    pub(super) async fn sign(&self, caller: &Caller, key: Option<KeyId>, request: Request) -> Result<Signed, Status> {
        let Ok(turn) = Arc::clone(&self.waiting).try_acquire_owned() else {
            self.metrics.refused_busy.inc();
            return Err(ApiError::new(ErrorCode::Overloaded, "too many requests wait for this key").retry_after(RETRY_MS).into());
        };
        let (desk, metrics, caller) = (Arc::clone(&self.desk), Arc::clone(&self.metrics), caller.identity().to_string());
        metrics.signing.inc();
        // The turn goes with the work: a caller that hangs up does not make room for the next one while its request still runs.
        let work = tokio::task::spawn_blocking(move || {
            let begun = Instant::now();
            let purpose = request.purpose();
            let result = match desk.lock() {
                Ok(mut desk) => {
                    let result = desk.sign(key, &request, &caller, now_ms());
                    metrics.signed_up_to(desk.last_signed().1);
                    Ok(result)
                }
                Err(_) => Err(CryptoServiceError::Worker("while it held the keys".to_owned())),
            };
            metrics.requested(purpose, result.as_ref().ok().and_then(outcome), begun.elapsed());
            metrics.signing.dec();
            drop(turn);
            (purpose, result)
        });
        match work.await {
            Ok((_, Ok(Ok(signed)))) => Ok(signed),
            Ok((purpose, Ok(Err(refusal)))) if is_refusal(&refusal) => {
                tracing::warn!(%refusal, ?purpose, ?key, "refused to sign");
                Err(status(&refusal))
            }
            Ok((_, Ok(Err(failure)))) => {
                let answer = status(&failure);
                self.fail(CryptoServiceError::Signing(failure));
                Err(answer)
            }
            Ok((_, Err(failure))) => Err(self.fail(failure)),
            Err(join) => Err(self.fail(CryptoServiceError::Worker(join.to_string()))),
        }
    }

    /// Ends the service: the supervisor logs the failure where it handles it.
    fn fail(&self, failure: CryptoServiceError) -> Status {
        // Full: an earlier failure is on its way and counts.
        let _ = self.failures.try_send(failure);
        ApiError::from(ErrorCode::Internal).into()
    }
}

fn outcome(result: &Result<Signed, DeskError>) -> Option<Outcome> {
    match result {
        Ok(signed) => Some(signed.outcome),
        Err(DeskError::Policy(_)) => Some(Outcome::RefusedPolicy),
        Err(DeskError::Conflict { .. }) => Some(Outcome::RefusedConflict),
        Err(DeskError::Past { .. }) => Some(Outcome::RefusedPast),
        Err(DeskError::UnknownKey(_)) => Some(Outcome::RefusedUnknownKey),
        Err(DeskError::Guard(_) | DeskError::Audit(_) | DeskError::Sign(_)) => None,
    }
}

/// This machine's clock, for the audit log only.
fn now_ms() -> TimestampMs {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| u64::try_from(d.as_millis()).unwrap_or(u64::MAX))
}
