//! NewSessionKey and ProveSessionKey: what an operator needs for a rotation, or to register a validator.

use super::sign::Signing;
use crate::config::Settings;
use crate::core::policy::Request;
use crate::core::session::{SessionKeyError, SessionKeys};
use crate::error::CryptoServiceError;
use kaldrix_api::{ApiError, ErrorCode};
use kaldrix_proto::DecodeError;
use kaldrix_proto::crypto::{NewSessionKeyRequest, SessionKeyProof};
use kaldrix_service_kit::Caller;
use kaldrix_types::{Address, ChainId, KeyId, Scheme};
use std::sync::Arc;
use tokio::sync::Mutex;
use tonic::{Response, Status};

/// Makes session keys, one at a time.
pub(crate) struct NewKeys {
    settings: Arc<Settings>,
    /// The folder's bound is checked and used up by one request at a time.
    turn: Arc<Mutex<()>>,
}

impl NewKeys {
    pub(crate) fn new(settings: Settings) -> Self {
        Self { settings: Arc::new(settings), turn: Arc::default() }
    }

    /// Makes the key beside the desk, so that blocks are signed meanwhile, then has it say whose it is.
    pub(super) async fn create(
        &self,
        caller: &Caller,
        request: &NewSessionKeyRequest,
        signing: &Arc<Signing>,
    ) -> Result<Response<SessionKeyProof>, Status> {
        let operator = operator(&request.operator)?;
        let scheme: Scheme = match request.scheme.as_str() {
            "" => self.settings.scheme,
            name => name.parse().map_err(|e| ApiError::new(ErrorCode::InvalidArgument, format!("scheme: {e}")))?,
        };
        let turn = Arc::clone(&self.turn).lock_owned().await;
        let (settings, desk) = (Arc::clone(&self.settings), Arc::clone(signing));
        let work = tokio::task::spawn_blocking(move || {
            let keys = SessionKeys::beside(&settings.key_file, settings.chain);
            let (key, guard) = keys.create(scheme, settings.read_passphrase()?.as_ref())?;
            let id = key.public_key().id();
            let added = desk.add(key, guard).map(|()| id);
            // The turn goes with the work, also when the caller has hung up.
            drop(turn);
            Ok(added)
        });
        let id = match work.await {
            Ok(Ok(id)) => id?,
            Ok(Err(CryptoServiceError::SessionKeys(error @ SessionKeyError::TooMany(_)))) => {
                return Err(Status::failed_precondition(error.to_string()));
            }
            Ok(Err(error)) => return Err(not_made(&error)),
            Err(error) => return Err(not_made(&error)),
        };
        tracing::info!(caller = %caller.identity(), key = %id, %scheme, "made a session key");
        prove(caller, Some(id), self.settings.chain, operator, signing).await
    }
}

/// Has a key say whose it is.
pub(super) async fn prove(
    caller: &Caller,
    key: Option<KeyId>,
    chain: ChainId,
    operator: Address,
    signing: &Signing,
) -> Result<Response<SessionKeyProof>, Status> {
    let signed = signing.sign(caller, key, Request::KeyProof { chain, operator }).await?;
    Ok(Response::new(SessionKeyProof { key: signed.key.to_string(), proof: signed.signature }))
}

/// An address from a message.
pub(super) fn operator(bytes: &[u8]) -> Result<Address, DecodeError> {
    kaldrix_proto::digest("operator", bytes).map(|digest| Address(digest.0))
}

/// What was there before still signs, so this ends nothing.
fn not_made(error: &dyn std::error::Error) -> Status {
    tracing::error!(%error, "a session key could not be made");
    ApiError::from(ErrorCode::Internal).into()
}
