//! The network on disk: what is where, and every service's configuration. Opened again, it is the same network.
//!
//! ```text
//!   DIR/network.json  genesis.json  faucet.json  lock
//!      /tls/          the development CA
//!      /validators/v0/{key.json, guard, audit.jsonl, db/, <service>.toml, tls/}
//!      /regions/us-east-1/{db/, <service>.toml, tls/}
//!      /operator/     a certificate for people's tools
//! ```

use super::genesis::{self, REGIONS, TRAFFIC_REGIONS};
use super::ports::{Ports, is_free};
use anyhow::Context;
use kaldrix_crypto::Keystore;
use kaldrix_service_kit::config::PeerEntry;
use kaldrix_service_kit::dev_ca::DevCa;
use kaldrix_service_kit::{Config, Identity, Service};
use kaldrix_types::Genesis;
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

const TRUST_DOMAIN: &str = "kaldrix.local";
const VALIDATORS_DEFAULT: u16 = 4;

/// What must stay the same when the network is started again.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct NetworkFile {
    version: u32,
    chain_id: String,
    validators: Vec<ValidatorPorts>,
    regions: Vec<RegionPorts>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ValidatorPorts {
    name: String,
    region: String,
    dag: SocketAddr,
    consensus: SocketAddr,
    crypto: SocketAddr,
    p2p: SocketAddr,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RegionPorts {
    name: String,
    api: SocketAddr,
    sync: SocketAddr,
}

/// One service to start.
#[derive(Clone, Debug)]
pub(crate) struct Unit {
    /// Such as `v0/dag-service`.
    pub(crate) name: String,
    pub(crate) service: Service,
    pub(crate) config: PathBuf,
}

/// A network ready to be started.
pub(crate) struct Plan {
    pub(crate) dir: PathBuf,
    pub(crate) chain_id: String,
    /// In the order in which they are best started.
    pub(crate) units: Vec<Unit>,
    /// (region, address) of each public API.
    pub(crate) apis: Vec<(String, SocketAddr)>,
    pub(crate) validators: usize,
    /// Held while the network runs.
    _lock: File,
}

impl Plan {
    /// Opens the network in `dir`, or makes one there.
    ///
    /// # Errors
    /// A folder that cannot be written or is in use, a network of another shape, a port that is taken.
    pub(crate) fn open(dir: &Path, validators: Option<u16>, api: SocketAddr, ephemeral: bool) -> anyhow::Result<Self> {
        std::fs::create_dir_all(dir)
            .with_context(|| format!("the data directory {} cannot be made; choose another with --data-dir", dir.display()))?;
        let dir = dir.canonicalize()?;
        let lock = lock(&dir)?;
        let mut ports = Ports::new();
        let path = dir.join("network.json");
        let (mut network, genesis) = if path.exists() {
            reopen(&dir, &path, validators)?
        } else {
            create(&dir, usize::from(validators.unwrap_or(VALIDATORS_DEFAULT)), &mut ports)?
        };
        assign_ports(&mut network, api, &mut ports)?;
        write(&path, &serde_json::to_string_pretty(&network)?)?;
        let units = Writer { dir: &dir, network: &network, ephemeral }.write_all()?;
        let apis = network.regions.iter().map(|r| (r.name.clone(), r.api)).collect();
        let validators = network.validators.len();
        Ok(Self { dir, chain_id: genesis.chain_id().to_string(), units, apis, validators, _lock: lock })
    }
}

fn lock(dir: &Path) -> anyhow::Result<File> {
    let path = dir.join("lock");
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path)
        .with_context(|| format!("the data directory {} cannot be written; choose another with --data-dir", dir.display()))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(_) => anyhow::bail!("the network in {} is running already; stop it first, or choose another --data-dir", dir.display()),
    }
}

fn reopen(dir: &Path, path: &Path, validators: Option<u16>) -> anyhow::Result<(NetworkFile, Genesis)> {
    let network: NetworkFile = serde_json::from_str(&std::fs::read_to_string(path)?)
        .with_context(|| format!("{} is not a network file of this version", path.display()))?;
    let genesis_path = dir.join("genesis.json");
    let genesis = Genesis::from_json(&std::fs::read_to_string(&genesis_path).with_context(|| genesis_path.display().to_string())?)?;
    let found = genesis.chain_id().to_string();
    anyhow::ensure!(
        found == network.chain_id,
        "{} defines chain {found}, but the data in {} belongs to chain {}; put the right genesis back, or choose another --data-dir",
        genesis_path.display(),
        dir.display(),
        network.chain_id
    );
    if let Some(wanted) = validators {
        let found = network.validators.len();
        anyhow::ensure!(
            usize::from(wanted) == found,
            "the network in {} has {found} validators, not {wanted}; leave --validators out, or choose another --data-dir",
            dir.display()
        );
    }
    Ok((network, genesis))
}

fn create(dir: &Path, validators: usize, ports: &mut Ports) -> anyhow::Result<(NetworkFile, Genesis)> {
    let faucet = genesis::key()?;
    let mut entries = Vec::new();
    let mut keys = Vec::new();
    for index in 0..validators {
        let name = format!("v{index}");
        let region = REGIONS[index % REGIONS.len()].to_owned();
        let home = dir.join("validators").join(&name);
        std::fs::create_dir_all(&home)?;
        keys.push((name.clone(), region.clone(), genesis::key()?));
        let (dag, consensus, crypto, p2p) = (ports.take()?, ports.take()?, ports.take()?, ports.take()?);
        entries.push(ValidatorPorts { name, region, dag, consensus, crypto, p2p });
    }
    let public: Vec<_> = keys.iter().map(|(name, region, key)| (name.clone(), region.clone(), key.public_key().clone())).collect();
    let genesis = genesis::new(&public, faucet.public_key());
    // A creation that was interrupted left files of a chain that never began: network.json is written last.
    let _ = std::fs::remove_file(dir.join("faucet.json"));
    Keystore::create(&dir.join("faucet.json"), &faucet, None)?;
    for (name, _, key) in &keys {
        let home = dir.join("validators").join(name);
        let (key_file, guard) = (home.join("key.json"), home.join("guard"));
        let _ = (std::fs::remove_file(&key_file), std::fs::remove_file(&guard));
        kaldrix_crypto_service::provision(key, genesis.chain_id(), &key_file, &guard, None)?;
    }
    write(&dir.join("genesis.json"), &genesis.to_json())?;
    let unset = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let regions = REGIONS[..TRAFFIC_REGIONS]
        .iter()
        .map(|name| Ok(RegionPorts { name: (*name).to_owned(), api: unset, sync: ports.take()? }))
        .collect::<anyhow::Result<_>>()?;
    Ok((NetworkFile { version: 1, chain_id: genesis.chain_id().to_string(), validators: entries, regions }, genesis))
}

/// Public ports are as asked for; internal ones as before where they are still free.
fn assign_ports(network: &mut NetworkFile, api: SocketAddr, ports: &mut Ports) -> anyhow::Result<()> {
    for (index, region) in network.regions.iter_mut().enumerate() {
        region.api = if api.port() == 0 {
            ports.take()?
        } else {
            let port = api.port().checked_add(u16::try_from(index)?).context("--api leaves no room for the other regions' ports")?;
            SocketAddr::new(api.ip(), port)
        };
        let (name, address) = (&region.name, region.api);
        anyhow::ensure!(is_free(address), "the API of {name} cannot listen on {address}: the port is taken; choose another with --api");
    }
    let internal = network
        .validators
        .iter_mut()
        .flat_map(|v| [&mut v.dag, &mut v.consensus, &mut v.crypto, &mut v.p2p])
        .chain(network.regions.iter_mut().map(|r| &mut r.sync));
    for address in internal {
        if !is_free(*address) {
            *address = ports.take()?;
        }
    }
    Ok(())
}

/// Writes every service's certificate and configuration.
struct Writer<'a> {
    dir: &'a Path,
    network: &'a NetworkFile,
    ephemeral: bool,
}

impl Writer<'_> {
    fn write_all(&self) -> anyhow::Result<Vec<Unit>> {
        let ca = DevCa::open(&self.dir.join("tls"))?;
        let operator = Identity::region(TRUST_DOMAIN, "local", Service::Operator);
        ca.issue_files(&self.dir.join("operator"), "operator", &operator, &[IpAddr::V4(Ipv4Addr::LOCALHOST)])?;
        let mut units = Vec::new();
        for service in [Service::CryptoService, Service::ConsensusService, Service::DagService] {
            for validator in &self.network.validators {
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

    fn validator_unit(&self, ca: &DevCa, validator: &ValidatorPorts, service: Service) -> anyhow::Result<Unit> {
        let home = self.dir.join("validators").join(&validator.name);
        let identity = Identity::validator(TRUST_DOMAIN, &validator.name, service);
        let mut config = self.base(ca, &home, &identity)?;
        config.dag.validator = validator.name.clone();
        config.dag.listen = validator.dag;
        config.dag.p2p_listen = multiaddr(validator.p2p);
        config.dag.peers = self
            .network
            .validators
            .iter()
            .filter(|v| v.name != validator.name)
            .map(|v| PeerEntry { name: v.name.clone(), address: multiaddr(v.p2p) })
            .collect();
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

    fn region_unit(&self, ca: &DevCa, region: &RegionPorts, service: Service) -> anyhow::Result<Unit> {
        let home = self.dir.join("regions").join(&region.name);
        let identity = Identity::region(TRUST_DOMAIN, &region.name, service);
        let mut config = self.base(ca, &home, &identity)?;
        // The region's own validator first, then the others.
        let (near, far): (Vec<_>, Vec<_>) = self.network.validators.iter().partition(|v| v.region == region.name);
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
        let path = home.join(format!("{service}.toml"));
        let kind = if self.ephemeral { "a temporary network" } else { "a development network" };
        let text = format!(
            "# {service} of {owner}, {kind}. Written by `kaldrix dev` at each start: changes here are lost.\n\n{}",
            config.to_toml()
        );
        write(&path, &text)?;
        Ok(Unit { name: format!("{owner}/{service}"), service, config: path })
    }
}

fn multiaddr(address: SocketAddr) -> String {
    format!("/ip4/{}/tcp/{}", address.ip(), address.port())
}

fn write(path: &Path, text: &str) -> anyhow::Result<()> {
    let temporary = path.with_extension("new");
    let written = std::fs::write(&temporary, text).and_then(|()| std::fs::rename(&temporary, path));
    written.with_context(|| format!("{} cannot be written; choose another folder with --data-dir", path.display()))
}
