//! Values with a closed set of words, and values that hide a secret.

use serde::{Deserialize, Serialize};
use std::fmt;

/// A peer of this validator.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PeerEntry {
    /// The validator's name, as in the genesis.
    pub name: String,
    /// Its libp2p address, such as `/ip4/127.0.0.1/tcp/7200`.
    pub address: String,
}

/// Where services keep their state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StorageBackend {
    /// One SQLite file per service.
    #[default]
    Sqlite,
}

/// Where the read path caches.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CacheBackend {
    /// In the process.
    #[default]
    Memory,
}

/// What validators sign with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum SignatureAlgorithm {
    /// FIPS 204, category 2.
    #[serde(rename = "ml-dsa-44")]
    MlDsa44,
    /// FIPS 204, category 3.
    #[default]
    #[serde(rename = "ml-dsa-65")]
    MlDsa65,
    /// FIPS 204, category 5.
    #[serde(rename = "ml-dsa-87")]
    MlDsa87,
}

impl SignatureAlgorithm {
    /// The word in the file.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::MlDsa44 => "ml-dsa-44",
            Self::MlDsa65 => "ml-dsa-65",
            Self::MlDsa87 => "ml-dsa-87",
        }
    }
}

/// The ledger's hash: a protocol rule, listed so that it can be seen and not be changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum HashAlgorithm {
    /// BLAKE3.
    #[default]
    Blake3,
}

/// How a trace travels between services.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Propagation {
    /// W3C Trace Context.
    #[default]
    W3c,
    /// AWS X-Ray: its header and its time-stamped trace ids.
    Xray,
}

/// How log lines look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// A URL that may hold a password or a token: shown without them.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SecretUrl(String);

impl SecretUrl {
    /// The URL with everything in it.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl From<&str> for SecretUrl {
    fn from(url: &str) -> Self {
        Self(url.to_owned())
    }
}

impl From<String> for SecretUrl {
    fn from(url: String) -> Self {
        Self(url)
    }
}

impl fmt::Debug for SecretUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = self.0.split(['?', '#']).next().unwrap_or_default();
        let shown = match (shown.split_once("://"), shown.rsplit_once('@')) {
            (Some((scheme, _)), Some((_, host))) => format!("{scheme}://redacted@{host}"),
            (None, Some((_, host))) => format!("redacted@{host}"),
            (_, None) => shown.to_owned(),
        };
        let query = if shown.len() < self.0.len() && self.0.contains(['?', '#']) { "?redacted" } else { "" };
        write!(f, "\"{shown}{query}\"")
    }
}
