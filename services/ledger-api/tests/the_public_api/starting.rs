//! From a configuration: mutual TLS to the services behind, optional TLS in front, and clear errors.

use super::fakes::{FakeDag, FakeRegion};
use super::fixture::genesis;
use kaldrix_api::clients::LedgerServiceClient;
use kaldrix_ledger_api::wiring::start;
use kaldrix_proto::ledger::GetNetworkRequest;
use kaldrix_service_kit::dev_ca::{DevCa, Issued};
use kaldrix_service_kit::tls::Expected;
use kaldrix_service_kit::{Config, GrpcServer, Identity, Service, Supervisor, TlsMaterial, client};
use kaldrix_storage::SqliteRegionStore;
use kaldrix_types::Genesis;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use tonic::service::Routes;

const DOMAIN: &str = "kaldrix.local";

struct Network {
    ca: DevCa,
    dag: Arc<FakeDag>,
    config: Config,
    supervisor: Supervisor,
    folder: tempfile::TempDir,
    _store: SqliteRegionStore,
}

impl Drop for Network {
    fn drop(&mut self) {
        self.supervisor.token().cancel();
    }
}

fn issue(ca: &DevCa, service: Service) -> Issued {
    let identity = match service {
        Service::DagService => Identity::validator(DOMAIN, "v0", service),
        _ => Identity::region(DOMAIN, "us-east-1", service),
    };
    ca.issue(&identity, &[], &[]).expect("a certificate")
}

fn material(roots: &DevCa, issued: &Issued) -> TlsMaterial {
    TlsMaterial::from_pem(roots.certificate_pem().as_bytes(), issued.certificate_pem.as_bytes(), issued.key_pem.as_bytes(), DOMAIN)
        .expect("usable")
}

async fn serve(ca: &DevCa, service: Service, routes: Routes, supervisor: &Supervisor) -> String {
    let any: SocketAddr = "127.0.0.1:0".parse().expect("an address");
    let server = GrpcServer::builder(&material(ca, &issue(ca, service)), any).bind().await.expect("a port");
    let endpoint = server.local_addr().to_string();
    supervisor.spawn(service.as_str(), server.serve(routes, supervisor.token()));
    endpoint
}

impl Network {
    async fn new() -> Self {
        let (ca, folder, supervisor) = (DevCa::generate().expect("a CA"), tempfile::tempdir().expect("a folder"), Supervisor::default());
        let genesis = genesis();
        let store = SqliteRegionStore::open(&folder.path().join("region.sqlite"), &genesis).await.expect("a new store");
        let (dag, region) = (FakeDag::new(genesis.chain_id()), FakeRegion::new());
        let write = |name: &str, text: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, text).expect("written");
            path
        };
        let own = issue(&ca, Service::LedgerApi);
        let mut config = Config::default();
        config.api.listen = "127.0.0.1:0".parse().expect("an address");
        config.api.region = "us-east-1".into();
        config.api.genesis = write("genesis.json", &serde_json::to_string(&genesis).expect("JSON"));
        config.api.dag_endpoints = vec![serve(&ca, Service::DagService, dag.routes(), &supervisor).await];
        config.api.region_endpoint = serve(&ca, Service::RegionSync, region.routes(), &supervisor).await;
        config.storage.path = folder.path().to_owned();
        config.tls.ca = write("ca.pem", ca.certificate_pem());
        config.tls.certificate = write("own.pem", &own.certificate_pem);
        config.tls.key = write("own-key.pem", &own.key_pem);
        Self { ca, dag, config, supervisor, folder, _store: store }
    }

    async fn error(&self, config: &Config) -> String {
        format!("{:#}", start(config, &self.supervisor).await.expect_err("it must not start"))
    }
}

#[tokio::test]
async fn from_a_configuration_it_reaches_the_services_behind_over_mutual_tls() {
    let network = Network::new().await;
    let running = start(&network.config, &network.supervisor).await.expect("it starts");
    let url = format!("http://{}/readyz", running.local_addr);
    let http = reqwest::Client::builder().no_proxy().build().expect("a client");
    let mut last = String::new();
    for _ in 0..300 {
        let answer = http.get(&url).send().await.expect("an answer");
        if answer.status() == 200 {
            assert!(network.dag.taken.lock().is_empty());
            return;
        }
        last = answer.text().await.expect("text");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    panic!("not ready: {last}");
}

#[tokio::test]
async fn what_is_wrong_with_a_configuration_is_said_before_anything_runs() {
    let network = Network::new().await;
    let good = &network.config;
    let mut config = good.clone();
    config.api.dag_endpoints.clear();
    assert!(network.error(&config).await.contains("api.dag_endpoints"));

    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let mut config = good.clone();
    config.api.listen = taken.local_addr().expect("bound");
    assert!(network.error(&config).await.contains("in use"), "{}", network.error(&config).await);

    let mut config = good.clone();
    config.api.genesis = network.folder.path().join("missing.json");
    assert!(network.error(&config).await.contains("missing.json"));

    let other = Genesis { name: "another".into(), ..genesis() };
    let mut config = good.clone();
    config.api.genesis = network.folder.path().join("other.json");
    std::fs::write(&config.api.genesis, serde_json::to_string(&other).expect("JSON")).expect("written");
    let error = network.error(&config).await;
    assert!(error.contains(&genesis().chain_id().to_string()), "names the chain the store belongs to: {error}");

    let mut config = good.clone();
    config.api.faucet_key_file = Some(network.folder.path().join("no-key.json"));
    assert!(network.error(&config).await.contains("faucet_key_file"));

    let mut config = good.clone();
    config.tls.key = network.folder.path().join("no-key.pem");
    assert!(network.error(&config).await.contains("no-key.pem"));
}

async fn call(address: SocketAddr, tls: &TlsMaterial) -> Result<String, tonic::Status> {
    let channel = client::connect(&address.to_string(), tls, Expected::any(Service::LedgerApi)).expect("a channel");
    let network = LedgerServiceClient::new(channel).get_network(GetNetworkRequest {}).await?;
    Ok(network.into_inner().name)
}

#[tokio::test]
async fn with_tls_and_a_client_ca_only_clients_of_that_ca_get_in() {
    let mut network = Network::new().await;
    network.config.api.tls = true;
    network.config.api.client_ca = Some(network.config.tls.ca.clone());
    let running = start(&network.config, &network.supervisor).await.expect("it starts");
    let known = material(&network.ca, &issue(&network.ca, Service::Operator));
    assert_eq!(call(running.local_addr, &known).await.expect("let in"), "testnet");
    let foreign_ca = DevCa::generate().expect("a CA");
    let foreign = material(&network.ca, &issue(&foreign_ca, Service::Operator));
    assert!(call(running.local_addr, &foreign).await.is_err(), "a certificate of another CA");
    let plain = reqwest::Client::builder().no_proxy().build().expect("a client");
    assert!(plain.get(format!("http://{}/livez", running.local_addr)).send().await.is_err(), "no plain text");
}

#[tokio::test]
async fn a_read_model_that_is_created_a_moment_later_is_waited_for() {
    let network = Network::new().await;
    let mut config = network.config.clone();
    let late = tempfile::tempdir().expect("a folder");
    config.storage.path = late.path().to_owned();
    let create = async |path: &Path| {
        tokio::time::sleep(std::time::Duration::from_millis(300)).await;
        SqliteRegionStore::open(&path.join("region.sqlite"), &genesis()).await.expect("a new store")
    };
    let (started, _store) = tokio::join!(start(&config, &network.supervisor), create(late.path()));
    started.expect("it starts");
}
