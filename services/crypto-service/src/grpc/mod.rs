//! `kaldrix.crypto.v1.CryptoService`: decode, check the caller, hand over, encode.

mod sign;
mod verify;

pub(crate) use sign::Signing;
pub(crate) use verify::Verification;

use kaldrix_proto::crypto::crypto_service_server::CryptoService;
use kaldrix_proto::crypto::{
    GetPublicKeyRequest, PublicKey as PublicKeyMessage, SignBlockRequest, SignPeerBindingRequest, Signature, VerifyBatchRequest,
    VerifyBatchResponse,
};
use kaldrix_service_kit::identity::{Owner, Service};
use kaldrix_service_kit::{allow, allow_from};
use kaldrix_types::PublicKey;
use tonic::{Request, Response, Status};

/// Every service of the network; operators' tools are none.
const ANY_SERVICE: [Service; 5] =
    [Service::LedgerApi, Service::DagService, Service::ConsensusService, Service::CryptoService, Service::RegionSync];

/// The service's handlers.
pub(crate) struct CryptoGrpc {
    owner: Owner,
    public_key: PublicKey,
    signing: Signing,
    verification: Verification,
}

impl CryptoGrpc {
    pub(crate) const fn new(owner: Owner, public_key: PublicKey, signing: Signing, verification: Verification) -> Self {
        Self { owner, public_key, signing, verification }
    }
}

#[tonic::async_trait]
impl CryptoService for CryptoGrpc {
    async fn get_public_key(&self, request: Request<GetPublicKeyRequest>) -> Result<Response<PublicKeyMessage>, Status> {
        allow(&request, &ANY_SERVICE)?;
        Ok(Response::new(PublicKeyMessage { key: self.public_key.to_string() }))
    }

    async fn sign_block(&self, request: Request<SignBlockRequest>) -> Result<Response<Signature>, Status> {
        let caller = allow_from(&request, &self.owner, &[Service::DagService])?;
        self.signing.sign(&caller, sign::block(request.get_ref())?).await
    }

    async fn sign_peer_binding(&self, request: Request<SignPeerBindingRequest>) -> Result<Response<Signature>, Status> {
        let caller = allow_from(&request, &self.owner, &[Service::DagService])?;
        self.signing.sign(&caller, sign::peer_binding(request.get_ref())?).await
    }

    async fn verify_batch(&self, request: Request<VerifyBatchRequest>) -> Result<Response<VerifyBatchResponse>, Status> {
        allow(&request, &ANY_SERVICE)?;
        self.verification.verify(request.into_inner()).await
    }
}
