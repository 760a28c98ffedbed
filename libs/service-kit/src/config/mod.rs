//! One configuration file for all five services: strict, documented, layered.
//!
//! ```text
//!   built-in defaults ◀─ TOML file ◀─ KALDRIX_SECTION__KEY      (the later wins; a key that nobody knows is an error)
//! ```
//!
//! Each service reads its own section and the shared ones (`[storage] [cache] [tls] [telemetry]`). A validator's consensus- and crypto-service also
//! read `[dag] validator` and `[dag] genesis`, so that these stand in one place. Relative paths are relative to the file's folder.

mod check;
mod document;
mod sections;
mod values;

pub use check::Problem;
pub use sections::{Api, Cache, Consensus, Crypto, Dag, Region, Storage, Telemetry, Tls};
pub use values::{CacheBackend, HashAlgorithm, LogFormat, PeerEntry, Propagation, SecretUrl, SignatureAlgorithm, StorageBackend};

use figment::error::Kind;
use figment::providers::{Format, Toml};
use figment::value::{Dict, Map, Value};
use figment::{Figment, Metadata, Profile, Provider};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// Everything that can be configured. See [`Config::documented_toml`] for all keys with their defaults.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// `[dag]`
    pub dag: Dag,
    /// `[consensus]`
    pub consensus: Consensus,
    /// `[crypto]`
    pub crypto: Crypto,
    /// `[api]`
    pub api: Api,
    /// `[region]`
    pub region: Region,
    /// `[storage]`
    pub storage: Storage,
    /// `[cache]`
    pub cache: Cache,
    /// `[tls]`
    pub tls: Tls,
    /// `[telemetry]`
    pub telemetry: Telemetry,
}

/// Why a configuration cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read the configuration {}: {reason}", path.display())]
    Read {
        /// Which file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// A key or a value is wrong.
    #[error("{origin}: {problem}")]
    Key {
        /// The file, or the environment variable.
        origin: String,
        /// Key, fault, and what is allowed.
        problem: Problem,
    },
    /// Not TOML.
    #[error("{origin}: not TOML: {reason}")]
    Syntax {
        /// The file.
        origin: String,
        /// Where and what.
        reason: String,
    },
    /// Well-formed, but it cannot work.
    #[error("{origin}: {}", check::lines(problems))]
    Semantic {
        /// The file.
        origin: String,
        /// All that is wrong.
        problems: Vec<Problem>,
    },
}

impl Config {
    /// Reads a file and this process's `KALDRIX_SECTION__KEY` variables.
    ///
    /// # Errors
    /// [`ConfigError`]: the first key that is unknown or has a wrong value. [`Config::check`] looks at the meaning.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        Self::load_with(path, std::env::vars_os().filter_map(|(k, v)| Some((k.into_string().ok()?, v.into_string().ok()?))))
    }

    /// As [`Config::load`] with an environment of the caller's.
    ///
    /// # Errors
    /// As [`Config::load`].
    pub fn load_with(path: &Path, environment: impl IntoIterator<Item = (String, String)>) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path).map_err(|e| ConfigError::Read { path: path.to_owned(), reason: e.to_string() })?;
        let mut config = Self::parse(&text, &path.display().to_string(), environment)?;
        let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
        config.resolve_paths(folder);
        Ok(config)
    }

    /// Parses TOML text; `origin` names it in errors. Paths stay as they are written.
    ///
    /// # Errors
    /// As [`Config::load`].
    pub fn parse(text: &str, origin: &str, environment: impl IntoIterator<Item = (String, String)>) -> Result<Self, ConfigError> {
        let defaults = document::defaults();
        let mut figment = Figment::new().merge(Toml::string(text));
        for (name, value) in environment {
            let Some((section, key)) = name.strip_prefix("KALDRIX_").and_then(|rest| rest.split_once("__")) else { continue };
            let (section, key) = (section.to_ascii_lowercase(), key.to_ascii_lowercase());
            // A key that holds text takes the variable as it is: a region may be called "1".
            let is_text = defaults.get(&section).and_then(|s| s.get(&key)).is_none_or(toml::Value::is_str);
            let value = if is_text { Value::from(value) } else { value.parse().unwrap_or_else(|never| match never {}) };
            figment = figment.merge(Variable { name, section, key, value });
        }
        figment.extract().map_err(|error| explain(error, origin))
    }

    /// As [`Config::load`], then [`Config::check_for`] these services.
    ///
    /// # Errors
    /// [`ConfigError`]; all problems of meaning at once.
    pub fn load_checked(path: &Path, services: &[crate::Service]) -> Result<Self, ConfigError> {
        let config = Self::load(path)?;
        let problems = config.check_for(services);
        if problems.is_empty() { Ok(config) } else { Err(ConfigError::Semantic { origin: path.display().to_string(), problems }) }
    }

    /// Makes relative paths relative to `folder`.
    pub fn resolve_paths(&mut self, folder: &Path) {
        for path in self.paths_mut() {
            if path.is_relative() {
                *path = folder.join(&*path);
            }
        }
    }

    /// Every path that is set.
    fn paths_mut(&mut self) -> impl Iterator<Item = &mut PathBuf> {
        let required = [
            &mut self.dag.genesis,
            &mut self.crypto.key_file,
            &mut self.crypto.guard_file,
            &mut self.crypto.audit_log,
            &mut self.api.genesis,
            &mut self.region.genesis,
            &mut self.storage.path,
            &mut self.tls.ca,
            &mut self.tls.certificate,
            &mut self.tls.key,
        ];
        let optional = [&mut self.crypto.passphrase_file, &mut self.api.faucet_key_file, &mut self.api.client_ca];
        required.into_iter().chain(optional.into_iter().flatten())
    }

    /// This configuration as TOML, without comments: what `kaldrix dev --processes` hands to its services.
    #[must_use]
    pub fn to_toml(&self) -> String {
        toml::to_string_pretty(self).expect("the configuration holds only tables, text, numbers, booleans and lists")
    }
}

/// One environment variable as a layer.
struct Variable {
    name: String,
    section: String,
    key: String,
    value: Value,
}

/// How [`explain`] recognises a variable in figment's metadata.
const VARIABLE: &str = "environment variable ";

impl Provider for Variable {
    fn metadata(&self) -> Metadata {
        Metadata::named(format!("{VARIABLE}{}", self.name))
    }

    fn data(&self) -> Result<Map<Profile, Dict>, figment::Error> {
        let section = Dict::from([(self.key.clone(), self.value.clone())]);
        Ok(Map::from([(Profile::Default, Dict::from([(self.section.clone(), section.into())]))]))
    }
}

/// Turns figment's first error into ours.
fn explain(error: figment::Error, origin: &str) -> ConfigError {
    let Some(error) = error.into_iter().next() else {
        return ConfigError::Syntax { origin: origin.to_owned(), reason: "unknown".to_owned() };
    };
    let variable = error.metadata.as_ref().filter(|m| m.name.starts_with(VARIABLE)).map(|m| m.name.to_string());
    let origin = variable.unwrap_or_else(|| origin.to_owned());
    let mut path = error.path.clone();
    let what = match &error.kind {
        Kind::UnknownField(field, allowed) => {
            // Figment names the unknown key in the path or not, depending on the source.
            if path.last() != Some(field) {
                path.push(field.clone());
            }
            document::unknown_key(&path, allowed)
        }
        Kind::UnknownVariant(found, allowed) => format!("{found:?} is not allowed; allowed: {}", quoted(allowed)),
        Kind::InvalidType(found, expected) => format!("found {found}, expected {expected}"),
        Kind::InvalidValue(found, expected) => format!("found {found}, expected {expected}"),
        Kind::InvalidLength(found, expected) => format!("{found} entries, expected {expected}"),
        Kind::MissingField(field) => format!("the key {field} is missing"),
        Kind::Message(reason) if path.is_empty() => return ConfigError::Syntax { origin, reason: reason.trim_end().to_owned() },
        other => other.to_string(),
    };
    ConfigError::Key { origin, problem: Problem { key: path.join("."), what } }
}

fn quoted(names: &[&str]) -> String {
    names.iter().map(|name| format!("{name:?}")).collect::<Vec<_>>().join(", ")
}
