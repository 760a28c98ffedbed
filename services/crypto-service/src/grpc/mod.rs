//! `kaldrix.crypto.v1.CryptoService`: decode, check the caller, hand over, encode.

mod session;
mod sign;
mod verify;

pub(crate) use session::NewKeys;
pub(crate) use sign::Signing;
pub(crate) use verify::Verification;

use kaldrix_proto::crypto::crypto_service_server::CryptoService;
use kaldrix_proto::crypto::{
    GetLastSignedRequest, GetLastSignedResponse, GetPublicKeyRequest, NewSessionKeyRequest, ProveSessionKeyRequest,
    PublicKey as PublicKeyMessage, SessionKeyProof, SignBlockRequest, SignEvidenceRequest, SignEvidenceResponse, SignPeerBindingRequest,
    Signature, VerifyBatchRequest, VerifyBatchResponse,
};
use kaldrix_service_kit::identity::{Owner, Service};
use kaldrix_service_kit::{allow, allow_from};
use kaldrix_types::ChainId;
use std::sync::Arc;
use tonic::{Request, Response, Status};

/// Every service of the network; operators' tools are none.
const ANY_SERVICE: [Service; 5] =
    [Service::LedgerApi, Service::DagService, Service::ConsensusService, Service::CryptoService, Service::RegionSync];

/// The service's handlers.
pub(crate) struct CryptoGrpc {
    owner: Owner,
    chain: ChainId,
    signing: Arc<Signing>,
    new_keys: NewKeys,
    verification: Verification,
}

impl CryptoGrpc {
    pub(crate) fn new(owner: Owner, chain: ChainId, signing: Signing, new_keys: NewKeys, verification: Verification) -> Self {
        Self { owner, chain, signing: Arc::new(signing), new_keys, verification }
    }
}

#[tonic::async_trait]
impl CryptoService for CryptoGrpc {
    async fn get_public_key(&self, request: Request<GetPublicKeyRequest>) -> Result<Response<PublicKeyMessage>, Status> {
        allow(&request, &Service::ALL)?;
        let keys: Vec<String> = self.signing.keys().iter().map(ToString::to_string).collect();
        Ok(Response::new(PublicKeyMessage { key: keys.first().cloned().unwrap_or_default(), keys }))
    }

    async fn sign_block(&self, request: Request<SignBlockRequest>) -> Result<Response<Signature>, Status> {
        let caller = allow_from(&request, &self.owner, &[Service::DagService])?;
        let message = request.get_ref();
        let signed = self.signing.sign(&caller, sign::key_id(&message.key_id)?, sign::block(message)?).await?;
        Ok(Response::new(Signature { signature: signed.signature }))
    }

    async fn get_last_signed(&self, request: Request<GetLastSignedRequest>) -> Result<Response<GetLastSignedResponse>, Status> {
        allow_from(&request, &self.owner, &[Service::DagService])?;
        let last = self.signing.last_signed(sign::key_id(&request.get_ref().key_id)?).await?;
        Ok(Response::new(GetLastSignedResponse { epoch: last.epoch, round: last.round, complete: last.is_complete }))
    }

    async fn sign_peer_binding(&self, request: Request<SignPeerBindingRequest>) -> Result<Response<Signature>, Status> {
        let caller = allow_from(&request, &self.owner, &[Service::DagService])?;
        let message = request.get_ref();
        let signed = self.signing.sign(&caller, sign::key_id(&message.key_id)?, sign::peer_binding(message)?).await?;
        Ok(Response::new(Signature { signature: signed.signature }))
    }

    async fn sign_evidence(&self, request: Request<SignEvidenceRequest>) -> Result<Response<SignEvidenceResponse>, Status> {
        let caller = allow_from(&request, &self.owner, &[Service::DagService])?;
        let message = request.get_ref();
        let signed = self.signing.sign(&caller, sign::key_id(&message.key_id)?, sign::evidence(message)?).await?;
        Ok(Response::new(SignEvidenceResponse { signature: signed.signature, key: signed.key.to_string() }))
    }

    async fn new_session_key(&self, request: Request<NewSessionKeyRequest>) -> Result<Response<SessionKeyProof>, Status> {
        let caller = allow(&request, &[Service::Operator])?;
        self.new_keys.create(&caller, request.get_ref(), &self.signing).await
    }

    async fn prove_session_key(&self, request: Request<ProveSessionKeyRequest>) -> Result<Response<SessionKeyProof>, Status> {
        let caller = allow(&request, &[Service::Operator])?;
        let message = request.get_ref();
        let (key, operator) = (sign::key_id(&message.key_id)?, session::operator(&message.operator)?);
        session::prove(&caller, key, self.chain, operator, &self.signing).await
    }

    async fn verify_batch(&self, request: Request<VerifyBatchRequest>) -> Result<Response<VerifyBatchResponse>, Status> {
        allow(&request, &ANY_SERVICE)?;
        self.verification.verify(request.into_inner()).await
    }
}
