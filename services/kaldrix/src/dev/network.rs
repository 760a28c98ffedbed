//! `network.json`: which validators and regions a folder's network has, and on which ports. While the network runs it is changed by
//! `kaldrix validator add` and `remove`, and `kaldrix dev` follows.
//!
//! ```text
//!   validator add ──edit lock, then rename──▶ network.json ◀──reads when the revision changes── kaldrix dev
//! ```
//!
//! A validator is part of the network from the moment its entry is there. Its files are written before that, so whatever is interrupted
//! is either nothing or complete.

use anyhow::Context;
use serde::{Deserialize, Serialize};
use std::fs::{File, TryLockError};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

/// Of the file's shape.
pub(super) const VERSION: u32 = 2;

/// What must stay the same when the network is started again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct NetworkFile {
    pub(super) version: u32,
    /// Grows with each change that a running network is to follow.
    pub(super) revision: u64,
    pub(super) chain_id: String,
    pub(super) validators: Vec<ValidatorEntry>,
    pub(super) regions: Vec<RegionEntry>,
}

/// One validator.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ValidatorEntry {
    pub(super) name: String,
    pub(super) region: String,
    pub(super) dag: SocketAddr,
    pub(super) consensus: SocketAddr,
    pub(super) crypto: SocketAddr,
    pub(super) p2p: SocketAddr,
    /// It has left: its files stay, its services do not run.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) removed: bool,
}

/// One region that answers clients.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RegionEntry {
    pub(super) name: String,
    pub(super) api: SocketAddr,
    pub(super) sync: SocketAddr,
}

impl NetworkFile {
    /// Reads the file in `dir`.
    ///
    /// # Errors
    /// A folder without a network, or with one of another version.
    pub(crate) fn read(dir: &Path) -> anyhow::Result<Self> {
        let path = file(dir);
        let text = std::fs::read_to_string(&path)
            .with_context(|| format!("{} is no folder of a local network; name it with --data-dir", dir.display()))?;
        let network: Self = serde_json::from_str(&text).ok().filter(|network: &Self| network.version == VERSION).with_context(|| {
            format!("{} is not a network file of this version; choose another --data-dir, or delete this one", path.display())
        })?;
        Ok(network)
    }

    /// Replaces the file in `dir`, at once or not at all.
    ///
    /// # Errors
    /// A folder that cannot be written.
    pub(super) fn write(&self, dir: &Path) -> anyhow::Result<()> {
        write(&file(dir), &serde_json::to_string_pretty(self)?)
    }

    /// The validators that are part of the network.
    pub(super) fn active(&self) -> impl Iterator<Item = &ValidatorEntry> {
        self.validators.iter().filter(|v| !v.removed)
    }

    /// Every address that somebody has.
    pub(super) fn addresses(&self) -> Vec<SocketAddr> {
        let validators = self.validators.iter().flat_map(|v| [v.dag, v.consensus, v.crypto, v.p2p]);
        validators.chain(self.regions.iter().flat_map(|r| [r.api, r.sync])).collect()
    }

    /// Their names.
    pub(crate) fn active_names(&self) -> Vec<String> {
        self.active().map(|v| v.name.clone()).collect()
    }

    /// The regions' names.
    pub(crate) fn region_names(&self) -> Vec<String> {
        self.regions.iter().map(|r| r.name.clone()).collect()
    }
}

/// Where the file is.
pub(super) fn file(dir: &Path) -> PathBuf {
    dir.join("network.json")
}

/// A validator's folder.
pub(super) fn validator_home(dir: &Path, name: &str) -> PathBuf {
    dir.join("validators").join(name)
}

/// The key of the account that operates a validator.
pub(super) fn operator_key(dir: &Path, name: &str) -> PathBuf {
    dir.join("keys").join(format!("{name}.json"))
}

/// Keeps other commands from changing the file; waits for its turn. Held until dropped.
///
/// # Errors
/// A folder that cannot be written.
pub(super) fn edit(dir: &Path) -> anyhow::Result<File> {
    let file = open_lock(&dir.join("network.lock"))?;
    file.lock()?;
    Ok(file)
}

/// Marks the network in `dir` as running, until the file is dropped.
///
/// # Errors
/// When it is running already, or the folder cannot be written.
pub(super) fn lock_running(dir: &Path) -> anyhow::Result<File> {
    let file = open_lock(&dir.join("lock"))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(_) => anyhow::bail!("the network in {} is running already; stop it first, or choose another --data-dir", dir.display()),
    }
}

/// Fails unless the network in `dir` runs.
pub(super) fn ensure_running(dir: &Path) -> anyhow::Result<()> {
    match open_lock(&dir.join("lock"))?.try_lock_shared() {
        Err(TryLockError::WouldBlock) => Ok(()),
        Err(TryLockError::Error(error)) => Err(error.into()),
        Ok(()) => {
            let dir = dir.display();
            anyhow::bail!("the network in {dir} does not run; start it with `kaldrix dev --data-dir {dir}`, then try again")
        }
    }
}

fn open_lock(path: &Path) -> anyhow::Result<File> {
    File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(path)
        .with_context(|| format!("{} cannot be written; choose another folder with --data-dir", path.display()))
}

/// Replaces a file, at once or not at all.
///
/// # Errors
/// A folder that cannot be written.
pub(super) fn write(path: &Path, text: &str) -> anyhow::Result<()> {
    let temporary = path.with_extension("new");
    let written = std::fs::write(&temporary, text).and_then(|()| std::fs::rename(&temporary, path));
    written.with_context(|| format!("{} cannot be written; choose another folder with --data-dir", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network() -> NetworkFile {
        let at = |port| SocketAddr::from(([127, 0, 0, 1], port));
        let entry = |name: &str, removed| ValidatorEntry {
            name: name.to_owned(),
            region: "us-east-1".to_owned(),
            dag: at(1),
            consensus: at(2),
            crypto: at(3),
            p2p: at(4),
            removed,
        };
        let regions = vec![RegionEntry { name: "us-east-1".to_owned(), api: at(5), sync: at(6) }];
        NetworkFile {
            version: VERSION,
            revision: 7,
            chain_id: "c".to_owned(),
            validators: vec![entry("v0", false), entry("v1", true)],
            regions,
        }
    }

    #[test]
    fn a_network_file_is_read_as_it_was_written_and_another_version_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        network().write(folder.path()).unwrap();
        let read = NetworkFile::read(folder.path()).unwrap();
        assert_eq!(read, network());
        assert_eq!(read.active_names(), ["v0"]);
        NetworkFile { version: 1, ..network() }.write(folder.path()).unwrap();
        assert!(NetworkFile::read(folder.path()).unwrap_err().to_string().contains("version"));
    }

    #[test]
    fn a_network_runs_as_long_as_its_lock_is_held() {
        let folder = tempfile::tempdir().unwrap();
        assert!(ensure_running(folder.path()).unwrap_err().to_string().contains("kaldrix dev"));
        let running = lock_running(folder.path()).unwrap();
        ensure_running(folder.path()).unwrap();
        assert!(lock_running(folder.path()).unwrap_err().to_string().contains("running already"));
        drop(running);
        assert!(ensure_running(folder.path()).is_err());
    }
}
