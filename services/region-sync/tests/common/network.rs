//! Certificates of a test network, and a dag-service that serves a [`Chain`].

use super::{Chain, genesis};
use kaldrix_api::clients::RegionServiceClient;
use kaldrix_proto::dag::dag_service_server::{DagService, DagServiceServer};
use kaldrix_proto::dag::{self, SubscribeExecutedRequest};
use kaldrix_service_kit::client::connect;
use kaldrix_service_kit::config::{Config, Tls};
use kaldrix_service_kit::dev_ca::DevCa;
use kaldrix_service_kit::tls::Expected;
use kaldrix_service_kit::{GrpcServer, Identity, Service, Supervisor, TlsMaterial};
use kaldrix_types::{CommitIndex, encode};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;
use tonic::transport::Channel;
use tonic::{Request, Response, Status};

pub const REGION: &str = "us-east-1";
const DOMAIN: &str = "kaldrix.local";
pub const ANY_PORT: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 0);

/// Certificates and files in a folder of their own.
pub struct Network {
    pub folder: tempfile::TempDir,
    ca: DevCa,
}

impl Network {
    pub fn new() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder can be made");
        let ca = DevCa::open(&folder.path().join("tls")).expect("a CA can be made");
        std::fs::write(folder.path().join("genesis.json"), genesis().to_json()).expect("the genesis can be written");
        Self { folder, ca }
    }

    fn tls_config(&self, identity: &Identity) -> Tls {
        let folder = self.folder.path().join("tls");
        let name = identity.dns_name();
        let files = self.ca.issue_files(&folder, &name, identity, &[]).expect("a certificate can be made");
        Tls { ca: DevCa::certificate_path(&folder), certificate: files.certificate, key: files.key, ..Tls::default() }
    }

    pub fn tls(&self, identity: &Identity) -> TlsMaterial {
        TlsMaterial::load(&self.tls_config(identity)).expect("own certificates can be loaded")
    }

    pub fn region_tls(&self, region: &str, service: Service) -> TlsMaterial {
        self.tls(&Identity::region(DOMAIN, region, service))
    }

    pub fn config(&self, dag: SocketAddr) -> Config {
        let mut config = Config { tls: self.tls_config(&Identity::region(DOMAIN, REGION, Service::RegionSync)), ..Config::default() };
        config.region.name = REGION.to_owned();
        config.region.listen = ANY_PORT;
        config.region.dag_endpoints = vec![dag.to_string()];
        config.region.genesis = self.folder.path().join("genesis.json");
        config.storage.path = self.folder.path().join("data");
        config
    }

    pub fn client(&self, address: SocketAddr, region: &str, service: Service) -> RegionServiceClient<Channel> {
        let tls = self.region_tls(region, service);
        let channel = connect(&address.to_string(), &tls, Expected::any(Service::RegionSync)).expect("a channel can be made");
        RegionServiceClient::new(channel).max_decoding_message_size(64 << 20)
    }
}

/// What the fake has, and what it was asked for.
pub struct FakeDag {
    chain: Mutex<Chain>,
    head: watch::Sender<CommitIndex>,
    pub asked_from: Mutex<Vec<CommitIndex>>,
    /// Streams end after this commit, once.
    pub break_after: Mutex<Option<CommitIndex>>,
    /// The first commit it has: it began with a snapshot when this is above 1.
    pub first: Mutex<CommitIndex>,
    pub traceparent: Mutex<Option<String>>,
}

impl FakeDag {
    pub fn new(chain: Chain) -> Arc<Self> {
        let head = watch::Sender::new(chain.head());
        let (asked_from, break_after, first, traceparent) = (Mutex::default(), Mutex::default(), Mutex::new(1), Mutex::default());
        Arc::new(Self { chain: Mutex::new(chain), head, asked_from, break_after, first, traceparent })
    }

    pub fn push_transfers(&self, n: usize) {
        let mut chain = self.chain.lock().unwrap();
        chain.push_transfers(n);
        self.head.send_replace(chain.head());
    }

    pub fn chain(&self) -> Chain {
        self.chain.lock().unwrap().clone()
    }

    fn message(&self, index: CommitIndex) -> dag::ExecutedCommit {
        let executed = self.chain.lock().unwrap().commits[index as usize - 1].clone();
        let trace = self.traceparent.lock().unwrap().clone();
        let traces = trace.into_iter().map(|traceparent| dag::Trace { position: 0, traceparent }).collect();
        dag::ExecutedCommit { index, executed: encode(&executed).into(), traces }
    }

    /// Serves until the token of the result is cancelled.
    pub async fn serve(self: &Arc<Self>, network: &Network) -> (SocketAddr, CancellationToken) {
        let tls = network.tls(&Identity::validator(DOMAIN, "v0", Service::DagService));
        let server = GrpcServer::builder(&tls, ANY_PORT).bind().await.expect("a free port can be bound");
        let (address, token) = (server.local_addr(), CancellationToken::new());
        let routes = Routes::new(DagServiceServer::new(Fake { dag: Arc::clone(self), stop: token.clone() }));
        tokio::spawn(server.serve(routes, token.clone()));
        (address, token)
    }
}

struct Fake {
    dag: Arc<FakeDag>,
    stop: CancellationToken,
}

#[tonic::async_trait]
impl DagService for Fake {
    type SubscribeExecutedStream = ReceiverStream<Result<dag::ExecutedCommit, Status>>;

    async fn subscribe_executed(
        &self,
        request: Request<SubscribeExecutedRequest>,
    ) -> Result<Response<Self::SubscribeExecutedStream>, Status> {
        kaldrix_service_kit::allow(&request, &[Service::RegionSync])?;
        let mut next = request.into_inner().from_index;
        let (dag, stop) = (Arc::clone(&self.dag), self.stop.clone());
        dag.asked_from.lock().unwrap().push(next);
        let first = *dag.first.lock().unwrap();
        if next < first {
            return Err(Status::out_of_range(format!("this store's history begins with commit {first}")));
        }
        let (sender, receiver) = mpsc::channel(4);
        tokio::spawn(async move {
            let mut head = dag.head.subscribe();
            while stop.run_until_cancelled(async { head.wait_for(|head| *head >= next).await.is_ok() }).await == Some(true) {
                if sender.send(Ok(dag.message(next))).await.is_err() {
                    return;
                }
                if dag.break_after.lock().unwrap().take_if(|last| *last == next).is_some() {
                    let _ = sender.send(Err(Status::unavailable("the test breaks this stream"))).await;
                    return;
                }
                next += 1;
            }
        });
        Ok(Response::new(ReceiverStream::new(receiver)))
    }

    async fn submit_transactions(
        &self,
        _: Request<dag::SubmitTransactionsRequest>,
    ) -> Result<Response<dag::SubmitTransactionsResponse>, Status> {
        Err(Status::unimplemented("not in this test"))
    }

    async fn get_pending(&self, _: Request<dag::GetPendingRequest>) -> Result<Response<dag::GetPendingResponse>, Status> {
        Err(Status::unimplemented("not in this test"))
    }

    async fn get_status(&self, _: Request<dag::GetStatusRequest>) -> Result<Response<dag::Status>, Status> {
        Err(Status::unimplemented("not in this test"))
    }

    async fn get_checkpoint(&self, _: Request<dag::GetCheckpointRequest>) -> Result<Response<dag::GetCheckpointResponse>, Status> {
        Err(Status::unimplemented("not in this test"))
    }

    async fn get_transaction_proof(
        &self,
        _: Request<dag::GetTransactionProofRequest>,
    ) -> Result<Response<dag::GetTransactionProofResponse>, Status> {
        Err(Status::unimplemented("not in this test"))
    }

    async fn get_state_proof(&self, _: Request<dag::GetStateProofRequest>) -> Result<Response<dag::GetStateProofResponse>, Status> {
        Err(Status::unimplemented("not in this test"))
    }

    async fn audit(&self, _: Request<dag::AuditRequest>) -> Result<Response<dag::AuditResponse>, Status> {
        Err(Status::unimplemented("not in this test"))
    }
}

/// A region-sync under test.
pub struct Region {
    pub running: kaldrix_region_sync::wiring::Running,
    pub supervisor: Supervisor,
}

impl Region {
    pub async fn start(config: &Config) -> Self {
        let supervisor = Supervisor::default();
        let running = kaldrix_region_sync::wiring::start(config, &supervisor).await.expect("the region starts");
        Self { running, supervisor }
    }

    /// Waits until `index` can be read.
    pub async fn reach(&self, index: CommitIndex) {
        let reached = async {
            while self.running.store.cursor().await.expect("the store can be read") < index {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), reached).await.expect("the region gets there in time");
    }

    /// Stops and gives how it ended.
    pub async fn stop(self) -> Result<(), String> {
        self.supervisor.token().cancel();
        self.ended().await
    }

    /// Waits for its own end.
    pub async fn ended(self) -> Result<(), String> {
        let outcome = self.supervisor.run(Duration::from_secs(10)).await.map_err(|e| e.to_string());
        self.running.store.close().await.expect("the store closes");
        outcome
    }
}

pub fn database(folder: &Path) -> std::path::PathBuf {
    kaldrix_region_sync::wiring::store_path(&folder.join("data"))
}
