//! A validator with its crypto-service on loopback, and clients with certificates of a development authority.
#![allow(dead_code, unreachable_pub, missing_docs, clippy::unwrap_used, reason = "each test file uses its part")]

use kaldrix_api::clients::CryptoServiceClient;
use kaldrix_crypto::{SecretKey, SecretString, Verifier};
use kaldrix_crypto_service::{provision, wiring};
use kaldrix_proto::crypto::{SignBlockRequest, SignPeerBindingRequest};
use kaldrix_service_kit::dev_ca::DevCa;
use kaldrix_service_kit::identity::{Identity, Owner, Service};
use kaldrix_service_kit::tls::Expected;
use kaldrix_service_kit::{Config, Supervisor, TlsMaterial, client};
use kaldrix_types::{Address, ChainId, Digest, Genesis, Parameters, Purpose, Scheme, Validator, signing_message};
use std::time::Duration;
use tempfile::TempDir;
use tonic::transport::Channel;

pub const DOMAIN: &str = "kaldrix.local";
pub const PASSPHRASE: &str = "correct horse";

pub struct World {
    pub folder: TempDir,
    pub ca: DevCa,
    pub key: SecretKey,
    pub chain: ChainId,
    pub config: Config,
}

impl World {
    /// Validator v0 with an encrypted key, provisioned and configured; nothing runs yet.
    pub fn new() -> Self {
        let folder = TempDir::new().unwrap();
        let at = |name: &str| folder.path().join(name);
        let ca = DevCa::open(folder.path()).unwrap();
        let key = SecretKey::from_seed(Scheme::MlDsa65, &[4; 32]).unwrap();
        let validator = |name: &str, key: &SecretKey| Validator {
            name: name.to_owned(),
            region: "us-east-1".to_owned(),
            stake: 1,
            key: key.public_key().clone(),
            operator: Address::of_key(key.public_key()),
        };
        let other = SecretKey::from_seed(Scheme::MlDsa65, &[5; 32]).unwrap();
        let genesis = Genesis {
            name: "test".to_owned(),
            timestamp_ms: 1,
            parameters: Parameters::default(),
            validators: vec![validator("v0", &key), validator("v1", &other)],
            accounts: Vec::new(),
        };
        std::fs::write(at("genesis.json"), genesis.to_json()).unwrap();
        std::fs::write(at("passphrase"), format!("{PASSPHRASE}\n")).unwrap();
        let identity = Identity::validator(DOMAIN, "v0", Service::CryptoService);
        let files = ca.issue_files(folder.path(), "crypto", &identity, &[]).unwrap();
        let mut config = Config::default();
        config.dag.validator = "v0".to_owned();
        config.dag.genesis = at("genesis.json");
        config.crypto.listen = "127.0.0.1:0".parse().unwrap();
        config.crypto.key_file = at("key.json");
        config.crypto.passphrase_file = Some(at("passphrase"));
        config.crypto.guard_file = at("guard");
        config.crypto.audit_log = at("audit.jsonl");
        config.tls.ca = DevCa::certificate_path(folder.path());
        config.tls.certificate = files.certificate;
        config.tls.key = files.key;
        DOMAIN.clone_into(&mut config.tls.trust_domain);
        let chain = genesis.chain_id();
        let passphrase = SecretString::from(PASSPHRASE);
        provision(&key, chain, &config.crypto.key_file, &config.crypto.guard_file, Some(&passphrase)).unwrap();
        Self { folder, ca, key, chain, config }
    }

    pub async fn start(&self) -> Service0 {
        let supervisor = Supervisor::default();
        let running = wiring::start(&self.config, &supervisor).await.unwrap();
        Service0 { supervisor, endpoint: format!("127.0.0.1:{}", running.grpc.port()) }
    }

    pub async fn start_error(&self) -> String {
        format!("{:#}", wiring::start(&self.config, &Supervisor::default()).await.unwrap_err())
    }

    pub fn client(&self, service: &Service0, identity: &Identity) -> CryptoServiceClient<Channel> {
        let issued = self.ca.issue(identity, &[], &[]).unwrap();
        let (certificate, key) = (issued.certificate_pem.as_bytes(), issued.key_pem.as_bytes());
        let tls = TlsMaterial::from_pem(self.ca.certificate_pem().as_bytes(), certificate, key, DOMAIN).unwrap();
        let expected = Expected::of(Owner::Validator("v0".to_owned()), Service::CryptoService);
        CryptoServiceClient::new(client::connect(&service.endpoint, &tls, expected).unwrap())
    }

    pub fn own_dag(&self, service: &Service0) -> CryptoServiceClient<Channel> {
        self.client(service, &Identity::validator(DOMAIN, "v0", Service::DagService))
    }

    pub fn block(&self, round: u64, digest: u8) -> SignBlockRequest {
        let chain_id = self.chain.as_bytes().to_vec().into();
        SignBlockRequest { chain_id, round, digest: vec![digest; 32].into(), ..Default::default() }
    }

    pub fn binding(&self) -> SignPeerBindingRequest {
        SignPeerBindingRequest { chain_id: self.chain.as_bytes().to_vec().into(), digest: vec![9; 32].into(), ..Default::default() }
    }

    pub fn holds(&self, purpose: Purpose, digest: u8, signature: &[u8]) -> bool {
        let message = signing_message(purpose, self.chain, Digest([digest; 32]));
        Verifier::new(1).verify_message(self.key.public_key(), &message, signature).is_ok()
    }

    pub fn audit_lines(&self) -> Vec<String> {
        std::fs::read_to_string(self.folder.path().join("audit.jsonl")).unwrap().lines().map(str::to_owned).collect()
    }
}

pub struct Service0 {
    pub supervisor: Supervisor,
    pub endpoint: String,
}

impl Service0 {
    pub async fn stop(self) {
        self.supervisor.token().cancel();
        self.supervisor.run(Duration::from_secs(5)).await.unwrap();
    }
}
