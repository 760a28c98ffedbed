//! The network on disk: what is where, and every service's configuration. Opened again, it is the same network.
//!
//! ```text
//!   DIR/network.json  genesis.json  faucet.json  lock  network.lock
//!      /keys/         v0.json …: the account that operates each validator
//!      /tls/          the development CA
//!      /validators/v0/{key.json, guard, audit.jsonl, db/, <service>.toml, tls/}
//!      /regions/us-east-1/{db/, <service>.toml, tls/}
//!      /operator/     a certificate for people's tools
//! ```

use super::genesis::{self, Founder, REGIONS, Rules, TRAFFIC_REGIONS};
use super::network::{self, NetworkFile, RegionEntry, ValidatorEntry, operator_key, validator_home, write};
use super::ports::{Ports, is_free};
pub(crate) use super::writer::Unit;
use super::writer::Writer;
use anyhow::Context;
use kaldrix_crypto::{Keystore, SecretKey};
use kaldrix_types::{ChainId, Genesis};
use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

const VALIDATORS_DEFAULT: u16 = 4;

/// What a new network is to be, and what an existing one must be; `None` takes either as it comes.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Wanted {
    /// Validators of the first epoch.
    pub(crate) validators: Option<u16>,
    pub(crate) rules: Rules,
}

/// A network ready to be started.
pub(crate) struct Plan {
    pub(crate) dir: PathBuf,
    pub(crate) chain_id: String,
    /// In the order in which they are best started.
    pub(crate) units: Vec<Unit>,
    /// (region, address) of each public API.
    pub(crate) apis: Vec<(String, SocketAddr)>,
    /// Names, without those that have left.
    pub(crate) validators: Vec<String>,
    /// Of the network file that this follows.
    pub(crate) revision: u64,
    /// Held while the network runs.
    _lock: File,
}

impl Plan {
    /// Opens the network in `dir`, or makes one there.
    ///
    /// # Errors
    /// A folder that cannot be written or is in use, a network of another shape, a port that is taken.
    pub(crate) fn open(dir: &Path, wanted: Wanted, api: SocketAddr, ephemeral: bool) -> anyhow::Result<Self> {
        std::fs::create_dir_all(dir)
            .with_context(|| format!("the data directory {} cannot be made; choose another with --data-dir", dir.display()))?;
        let dir = dir.canonicalize()?;
        let lock = network::lock_running(&dir)?;
        let _edit = network::edit(&dir)?;
        let mut ports = Ports::new();
        let (mut network, genesis) = if network::file(&dir).exists() { reopen(&dir, wanted)? } else { create(&dir, wanted, &mut ports)? };
        ports.reserve(network.addresses());
        assign_ports(&mut network, api, &mut ports)?;
        network.write(&dir)?;
        let units = Writer { dir: &dir, network: &network, ephemeral }.write_all()?;
        let apis = network.regions.iter().map(|r| (r.name.clone(), r.api)).collect();
        let (validators, revision) = (network.active_names(), network.revision);
        Ok(Self { dir, chain_id: genesis.chain_id().to_string(), units, apis, validators, revision, _lock: lock })
    }
}

/// Reads the genesis of the network in `dir`.
pub(super) fn read_genesis(dir: &Path) -> anyhow::Result<Genesis> {
    let path = dir.join("genesis.json");
    let text = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    Genesis::from_json(&text).with_context(|| path.display().to_string())
}

fn reopen(dir: &Path, wanted: Wanted) -> anyhow::Result<(NetworkFile, Genesis)> {
    let network = NetworkFile::read(dir)?;
    let genesis = read_genesis(dir)?;
    let found = genesis.chain_id().to_string();
    anyhow::ensure!(
        found == network.chain_id,
        "{} defines chain {found}, but the data in {} belongs to chain {}; put the right genesis back, or choose another --data-dir",
        dir.join("genesis.json").display(),
        dir.display(),
        network.chain_id
    );
    if let Some(wanted) = wanted.validators {
        let found = genesis.validators.len();
        anyhow::ensure!(
            usize::from(wanted) == found,
            "the network in {} began with {found} validators, not {wanted}; leave --validators out, or choose another --data-dir",
            dir.display()
        );
    }
    wanted.rules.check(&genesis.parameters)?;
    Ok((network, genesis))
}

fn create(dir: &Path, wanted: Wanted, ports: &mut Ports) -> anyhow::Result<(NetworkFile, Genesis)> {
    let faucet = genesis::key()?;
    let mut founders = Vec::new();
    let mut entries = Vec::new();
    for index in 0..usize::from(wanted.validators.unwrap_or(VALIDATORS_DEFAULT)) {
        let (name, region) = (format!("v{index}"), REGIONS[index % REGIONS.len()].to_owned());
        entries.push(entry(&name, &region, ports)?);
        founders.push(Founder { name, region, session: genesis::key()?, operator: genesis::key()? });
    }
    let genesis = genesis::new(&founders, faucet.public_key(), wanted.rules);
    // A creation that was interrupted left files of a chain that never began: network.json is written last.
    replace_key(&dir.join("faucet.json"), &faucet)?;
    std::fs::create_dir_all(dir.join("keys"))?;
    for founder in &founders {
        replace_key(&operator_key(dir, &founder.name), &founder.operator)?;
        provision(dir, &founder.name, &founder.session, genesis.chain_id())?;
    }
    write(&dir.join("genesis.json"), &genesis.to_json())?;
    let unset = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let regions = REGIONS[..TRAFFIC_REGIONS]
        .iter()
        .map(|name| Ok(RegionEntry { name: (*name).to_owned(), api: unset, sync: ports.take()? }))
        .collect::<anyhow::Result<_>>()?;
    let chain_id = genesis.chain_id().to_string();
    Ok((NetworkFile { version: network::VERSION, revision: 0, chain_id, validators: entries, regions }, genesis))
}

/// A validator's entry with ports that are free.
pub(super) fn entry(name: &str, region: &str, ports: &mut Ports) -> anyhow::Result<ValidatorEntry> {
    let (dag, consensus, crypto, p2p) = (ports.take()?, ports.take()?, ports.take()?, ports.take()?);
    Ok(ValidatorEntry { name: name.to_owned(), region: region.to_owned(), dag, consensus, crypto, p2p, removed: false })
}

fn replace_key(path: &Path, key: &SecretKey) -> anyhow::Result<()> {
    let _ = std::fs::remove_file(path);
    Keystore::create(path, key, None)?;
    Ok(())
}

/// Writes the session key, with its guard, of a validator that is not part of a network yet: what is there was never used.
pub(super) fn provision(dir: &Path, name: &str, key: &SecretKey, chain: ChainId) -> anyhow::Result<()> {
    let home = validator_home(dir, name);
    std::fs::create_dir_all(&home)?;
    let (key_file, guard) = (home.join("key.json"), home.join("guard"));
    let _ = (std::fs::remove_file(&key_file), std::fs::remove_file(&guard));
    kaldrix_crypto_service::provision(key, chain, &key_file, &guard, None)?;
    Ok(())
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
    for validator in network.validators.iter_mut().filter(|v| !v.removed) {
        reassign(validator, ports)?;
    }
    for region in &mut network.regions {
        if !is_free(region.sync) {
            region.sync = ports.take()?;
        }
    }
    Ok(())
}

/// Other ports in place of those that are taken.
pub(super) fn reassign(validator: &mut ValidatorEntry, ports: &mut Ports) -> anyhow::Result<()> {
    for address in [&mut validator.dag, &mut validator.consensus, &mut validator.crypto, &mut validator.p2p] {
        if !is_free(*address) {
            *address = ports.take()?;
        }
    }
    Ok(())
}
