//! Writes every service's certificate and configuration.

use super::network::{NetworkFile, RegionEntry, ValidatorEntry, validator_home, write};
use anyhow::Context;
use kaldrix_service_kit::config::PeerEntry;
use kaldrix_service_kit::dev_ca::DevCa;
use kaldrix_service_kit::{Config, Identity, Service};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

const TRUST_DOMAIN: &str = "kaldrix.local";

/// A validator's services, in the order in which they are best started.
const VALIDATOR_SERVICES: [Service; 3] = [Service::CryptoService, Service::ConsensusService, Service::DagService];

/// One service to start.
#[derive(Clone, Debug)]
pub(crate) struct Unit {
    /// Such as `v0/dag-service`.
    pub(crate) name: String,
    /// The folder of the validator or region that it belongs to.
    pub(crate) home: PathBuf,
    pub(crate) service: Service,
    pub(crate) config: PathBuf,
}

impl Unit {
    fn new(home: &Path, owner: &str, service: Service) -> Self {
        Self { name: format!("{owner}/{service}"), home: home.to_owned(), service, config: home.join(format!("{service}.toml")) }
    }
}

/// The services of a validator whose files are written.
pub(super) fn validator_units(dir: &Path, name: &str) -> Vec<Unit> {
    let home = validator_home(dir, name);
    VALIDATOR_SERVICES.into_iter().map(|service| Unit::new(&home, name, service)).collect()
}

/// See the module's text.
pub(super) struct Writer<'a> {
    pub(super) dir: &'a Path,
    pub(super) network: &'a NetworkFile,
    pub(super) ephemeral: bool,
}

impl Writer<'_> {
    /// Everything, in the order in which it is best started.
    pub(super) fn write_all(&self) -> anyhow::Result<Vec<Unit>> {
        let ca = DevCa::open(&self.dir.join("tls"))?;
        let operator = Identity::region(TRUST_DOMAIN, "local", Service::Operator);
        ca.issue_files(&self.dir.join("operator"), "operator", &operator, &[IpAddr::V4(Ipv4Addr::LOCALHOST)])?;
        let mut units = Vec::new();
        for service in VALIDATOR_SERVICES {
            for validator in self.network.active() {
                units.push(self.validator_unit(&ca, validator, service)?);
            }
        }
        for service in [Service::RegionSync, Service::LedgerApi] {
            for region in &self.network.regions {
                units.push(self.region_unit(&ca, region, service)?);
            }
        }
        Ok(units)
    }

    /// One validator's files.
    pub(super) fn write_validator(&self, validator: &ValidatorEntry) -> anyhow::Result<()> {
        let ca = DevCa::open(&self.dir.join("tls"))?;
        for service in VALIDATOR_SERVICES {
            self.validator_unit(&ca, validator, service)?;
        }
        Ok(())
    }

    fn base(&self, ca: &DevCa, home: &Path, identity: &Identity) -> anyhow::Result<Config> {
        let mut config = Config::default();
        let files = ca.issue_files(&home.join("tls"), identity.service.as_str(), identity, &[IpAddr::V4(Ipv4Addr::LOCALHOST)])?;
        config.tls.ca = DevCa::certificate_path(&self.dir.join("tls"));
        config.tls.certificate = files.certificate;
        config.tls.key = files.key;
        config.tls.trust_domain = TRUST_DOMAIN.to_owned();
        config.storage.path = home.join("db");
        let genesis = self.dir.join("genesis.json");
        config.dag.genesis = genesis.clone();
        config.api.genesis = genesis.clone();
        config.region.genesis = genesis;
        Ok(config)
    }

    fn validator_unit(&self, ca: &DevCa, validator: &ValidatorEntry, service: Service) -> anyhow::Result<Unit> {
        let home = validator_home(self.dir, &validator.name);
        let identity = Identity::validator(TRUST_DOMAIN, &validator.name, service);
        let mut config = self.base(ca, &home, &identity)?;
        config.dag.validator = validator.name.clone();
        config.dag.listen = validator.dag;
        config.dag.p2p_listen = multiaddr(validator.p2p);
        // Those that run already do not learn of a new one's address before their next start: it dials them.
        let others = self.network.active().filter(|v| v.name != validator.name);
        config.dag.peers = others.map(|v| PeerEntry { name: v.name.clone(), address: multiaddr(v.p2p) }).collect();
        config.dag.consensus_endpoint = validator.consensus.to_string();
        config.dag.crypto_endpoint = validator.crypto.to_string();
        config.consensus.listen = validator.consensus;
        config.crypto.listen = validator.crypto;
        config.crypto.key_file = home.join("key.json");
        config.crypto.guard_file = home.join("guard");
        config.crypto.audit_log = home.join("audit.jsonl");
        config.telemetry.validator = validator.name.clone();
        config.telemetry.region = validator.region.clone();
        self.unit(&home, &validator.name, service, &config)
    }

    fn region_unit(&self, ca: &DevCa, region: &RegionEntry, service: Service) -> anyhow::Result<Unit> {
        let home = self.dir.join("regions").join(&region.name);
        let identity = Identity::region(TRUST_DOMAIN, &region.name, service);
        let mut config = self.base(ca, &home, &identity)?;
        // The region's own validators first, then the others: a region whose last validator leaves goes on with those.
        let (near, far): (Vec<_>, Vec<_>) = self.network.active().partition(|v| v.region == region.name);
        let endpoints: Vec<String> = near.iter().chain(&far).map(|v| v.dag.to_string()).collect();
        config.region.name = region.name.clone();
        config.region.listen = region.sync;
        config.region.dag_endpoints = endpoints.clone();
        config.api.listen = region.api;
        config.api.region = region.name.clone();
        config.api.dag_endpoints = endpoints;
        config.api.region_endpoint = region.sync.to_string();
        config.api.faucet_key_file = Some(self.dir.join("faucet.json"));
        config.telemetry.region = region.name.clone();
        self.unit(&home, &region.name, service, &config)
    }

    fn unit(&self, home: &Path, owner: &str, service: Service, config: &Config) -> anyhow::Result<Unit> {
        let unit = Unit::new(home, owner, service);
        let kind = if self.ephemeral { "a temporary network" } else { "a development network" };
        let text = format!(
            "# {service} of {owner}, {kind}. Written by `kaldrix dev` at each start: changes here are lost.\n\n{}",
            config.to_toml()
        );
        write(&unit.config, &text).with_context(|| unit.name.clone())?;
        Ok(unit)
    }
}

fn multiaddr(address: SocketAddr) -> String {
    format!("/ip4/{}/tcp/{}", address.ip(), address.port())
}
