//! A validator comes to a running network, or leaves it: the part that is files. What the ledger has to say to it is
//! `kaldrix validator add` and `remove`.
//!
//! ```text
//!   add:    keys, guard, certificates, configurations ─▶ entry in network.json ─▶ `kaldrix dev` starts its services
//!   remove: the ledger let it go ─▶ entry says so ─▶ `kaldrix dev` stops them
//! ```
//!
//! Each step may be the last one before a crash: done again, it finds what is there and goes on.

use super::genesis;
use super::network::{self, NetworkFile, ValidatorEntry, operator_key};
use super::plan::{entry, provision, read_genesis, reassign};
use super::ports::Ports;
use super::writer::Writer;
use anyhow::Context;
use kaldrix_crypto::Keystore;
use kaldrix_service_kit::TlsMaterial;
use kaldrix_service_kit::config::Tls;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

/// A validator of a local network, as its operator's tools see it.
#[derive(Clone, Debug)]
pub(crate) struct LocalValidator {
    pub(crate) name: String,
    pub(crate) dag: SocketAddr,
    pub(crate) crypto: SocketAddr,
    /// It has left.
    pub(crate) removed: bool,
}

impl From<&ValidatorEntry> for LocalValidator {
    fn from(entry: &ValidatorEntry) -> Self {
        Self { name: entry.name.clone(), dag: entry.dag, crypto: entry.crypto, removed: entry.removed }
    }
}

/// A running local network, as an operator's tools see it.
#[derive(Clone, Debug)]
pub(crate) struct LocalNetwork {
    dir: PathBuf,
    /// Every one that is part of it, or was.
    pub(crate) validators: Vec<LocalValidator>,
    /// The regions' public endpoints, separated by commas.
    pub(crate) apis: String,
    /// Least length of an epoch.
    pub(crate) epoch_ms: u64,
}

impl LocalNetwork {
    /// Reads the network in `dir`.
    ///
    /// # Errors
    /// A folder without a network, or one that does not run.
    pub(crate) fn open(dir: &Path) -> anyhow::Result<Self> {
        let dir =
            dir.canonicalize().with_context(|| format!("{} is no folder of a local network; name it with --data-dir", dir.display()))?;
        let network = NetworkFile::read(&dir)?;
        network::ensure_running(&dir)?;
        let apis: Vec<String> = network.regions.iter().map(|r| format!("http://{}", r.api)).collect();
        let epoch_ms = read_genesis(&dir)?.parameters.epoch_ms;
        Ok(Self { validators: network.validators.iter().map(Into::into).collect(), apis: apis.join(","), epoch_ms, dir })
    }

    /// The validator of this name.
    ///
    /// # Errors
    /// There is none; the text says which there are.
    pub(crate) fn validator(&self, name: &str) -> anyhow::Result<&LocalValidator> {
        self.validators.iter().find(|v| v.name == name).with_context(|| {
            let known: Vec<&str> = self.validators.iter().map(|v| v.name.as_str()).collect();
            format!("there is no validator {name:?} in {}; there are {}", self.dir.display(), known.join(", "))
        })
    }

    /// The validators that are part of it.
    pub(crate) fn active(&self) -> impl Iterator<Item = &LocalValidator> {
        self.validators.iter().filter(|v| !v.removed)
    }

    /// Key file of the account that operates a validator.
    pub(crate) fn operator_key(&self, name: &str) -> PathBuf {
        operator_key(&self.dir, name)
    }

    /// The certificate of an operator's tools.
    ///
    /// # Errors
    /// Files that are missing or damaged.
    pub(crate) fn operator_tls(&self) -> anyhow::Result<TlsMaterial> {
        operator_tls(&self.dir)
    }
}

/// The certificate of an operator's tools for the network in `dir`.
///
/// # Errors
/// Files that are missing or damaged.
pub(crate) fn operator_tls(dir: &Path) -> anyhow::Result<TlsMaterial> {
    let tls = Tls {
        ca: dir.join("tls/ca.pem"),
        certificate: dir.join("operator/operator.pem"),
        key: dir.join("operator/operator-key.pem"),
        ..Tls::default()
    };
    TlsMaterial::load(&tls).with_context(|| format!("{} is no folder of a local network; name it with --data-dir", dir.display()))
}

/// Makes a validator part of the network in `dir`: `kaldrix dev` starts its services when this returns. One that is there already, or was
/// once, comes back with the keys it had.
///
/// # Errors
/// A network that does not run, a validator of this name in another region, files that cannot be written.
pub(crate) fn add(dir: &Path, name: &str, region: &str) -> anyhow::Result<LocalNetwork> {
    let local = LocalNetwork::open(dir)?;
    let dir = &local.dir;
    let _edit = network::edit(dir)?;
    let mut network = NetworkFile::read(dir)?;
    let mut ports = Ports::new();
    ports.reserve(network.addresses());
    match network.validators.iter().position(|v| v.name == name) {
        Some(place) => {
            let found = &network.validators[place];
            anyhow::ensure!(found.region == region, "{name} stands in {}, not in {region}; choose another name", found.region);
            if found.removed {
                let mut again = ValidatorEntry { removed: false, ..found.clone() };
                reassign(&mut again, &mut ports)?;
                Writer { dir, network: &network, ephemeral: false }.write_validator(&again)?;
                network.validators[place] = again;
            }
        }
        None => {
            let new = entry(name, region, &mut ports)?;
            provision(dir, name, &genesis::key()?, read_genesis(dir)?.chain_id())?;
            let operator = operator_key(dir, name);
            std::fs::create_dir_all(dir.join("keys"))?;
            if !operator.exists() {
                Keystore::create(&operator, &genesis::key()?, None)?;
            }
            Writer { dir, network: &network, ephemeral: false }.write_validator(&new)?;
            network.validators.push(new);
        }
    }
    network.revision += 1;
    network.write(dir)?;
    LocalNetwork::open(dir)
}

/// Takes a validator that has left the ledger's committee out of the network: `kaldrix dev` stops its services.
///
/// # Errors
/// No such validator, or a file that cannot be written.
pub(crate) fn remove(local: &LocalNetwork, name: &str) -> anyhow::Result<()> {
    let _edit = network::edit(&local.dir)?;
    let mut network = NetworkFile::read(&local.dir)?;
    let entry = network.validators.iter_mut().find(|v| v.name == name).context("the validator is not in network.json any more")?;
    entry.removed = true;
    network.revision += 1;
    network.write(&local.dir)
}
