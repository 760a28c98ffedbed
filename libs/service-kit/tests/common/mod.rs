//! A CA, identities and a small RPC for tests over real sockets.
#![allow(dead_code, unreachable_pub, missing_docs, clippy::unwrap_used, clippy::print_stdout, reason = "each test file uses its part")]

pub mod collector;
pub mod traces;

use kaldrix_service_kit::dev_ca::DevCa;
use kaldrix_service_kit::server::{Limits, PeerInfo};
use kaldrix_service_kit::{Caller, GrpcServer, Identity, Service, TlsMaterial, allow};
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{TraceService, TraceServiceServer};
use opentelemetry_proto::tonic::collector::trace::v1::{ExportTraceServiceRequest, ExportTraceServiceResponse};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;
use tonic::{Request, Response, Status};

pub const TRUST_DOMAIN: &str = "kaldrix.local";

pub fn material(ca: &DevCa, identity: &Identity) -> TlsMaterial {
    let issued = ca.issue(identity, &[], &[]).unwrap();
    TlsMaterial::from_pem(
        ca.certificate_pem().as_bytes(),
        issued.certificate_pem.as_bytes(),
        issued.key_pem.as_bytes(),
        &identity.trust_domain,
    )
    .unwrap()
}

pub fn validator(ca: &DevCa, name: &str, service: Service) -> TlsMaterial {
    material(ca, &Identity::validator(TRUST_DOMAIN, name, service))
}

/// An RPC that only ledger-api may call (it happens to be OTLP's Export, the one service that the tests have at hand).
#[derive(Clone, Default)]
pub struct ForLedgerApi {
    pub seen: Arc<Mutex<Vec<(Caller, String)>>>,
}

#[tonic::async_trait]
impl TraceService for ForLedgerApi {
    async fn export(&self, request: Request<ExportTraceServiceRequest>) -> Result<Response<ExportTraceServiceResponse>, Status> {
        let caller = allow(&request, &[Service::LedgerApi])?;
        let key_exchange = request.extensions().get::<PeerInfo>().unwrap().key_exchange().to_owned();
        self.seen.lock().unwrap().push((caller, key_exchange));
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

pub struct Running {
    pub address: SocketAddr,
    pub handler: ForLedgerApi,
    pub cancel: CancellationToken,
    pub task: tokio::task::JoinHandle<()>,
}

impl Running {
    pub fn endpoint(&self) -> String {
        format!("127.0.0.1:{}", self.address.port())
    }
}

pub async fn start(tls: &TlsMaterial) -> Running {
    let limits = Limits { drain_max: Duration::from_millis(300), ..Limits::default() };
    let server = GrpcServer::builder(tls, "127.0.0.1:0".parse().unwrap()).limits(limits).bind().await.unwrap();
    let (address, handler, cancel) = (server.local_addr(), ForLedgerApi::default(), CancellationToken::new());
    let routes = Routes::new(TraceServiceServer::new(handler.clone()));
    let stop = cancel.clone();
    let task = tokio::spawn(async move { server.serve(routes, stop).await.unwrap() });
    Running { address, handler, cancel, task }
}
