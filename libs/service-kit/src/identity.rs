//! Who a workload is: its SPIFFE id (SPIFFE-ID, section 2), carried as the URI name of its certificate.

use std::fmt;
use std::str::FromStr;

/// The kinds of workload that speak to one another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Service {
    /// `ledger-api`
    LedgerApi,
    /// `dag-service`
    DagService,
    /// `consensus-service`
    ConsensusService,
    /// `crypto-service`
    CryptoService,
    /// `region-sync`
    RegionSync,
    /// `operator`: a person's tool, for status and administration.
    Operator,
}

impl Service {
    /// Every kind.
    pub const ALL: [Self; 6] =
        [Self::LedgerApi, Self::DagService, Self::ConsensusService, Self::CryptoService, Self::RegionSync, Self::Operator];

    /// The name in SPIFFE ids, traces and logs.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::LedgerApi => "ledger-api",
            Self::DagService => "dag-service",
            Self::ConsensusService => "consensus-service",
            Self::CryptoService => "crypto-service",
            Self::RegionSync => "region-sync",
            Self::Operator => "operator",
        }
    }
}

impl fmt::Display for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Service {
    type Err = IdentityError;
    fn from_str(text: &str) -> Result<Self, IdentityError> {
        Self::ALL.into_iter().find(|s| s.as_str() == text).ok_or_else(|| IdentityError::UnknownService(text.to_owned()))
    }
}

/// Whom a workload works for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Owner {
    /// One validator, by name.
    Validator(String),
    /// One region, by name.
    Region(String),
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Validator(name) => write!(f, "validator/{name}"),
            Self::Region(name) => write!(f, "region/{name}"),
        }
    }
}

/// Why a text is no identity of ours.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IdentityError {
    /// Not of the form `spiffe://<trust domain>/validator|region/<name>/<service>`.
    #[error("{0:?} is not spiffe://<trust domain>/validator|region/<name>/<service>")]
    Form(String),
    /// The last part names no service.
    #[error("{0:?} is no service: use ledger-api, dag-service, consensus-service, crypto-service, region-sync or operator")]
    UnknownService(String),
}

/// `spiffe://<trust domain>/validator/<name>/<service>` or `spiffe://<trust domain>/region/<name>/<service>`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Identity {
    /// Who issues the ids; peers of another trust domain are refused.
    pub trust_domain: String,
    /// Whom the workload works for.
    pub owner: Owner,
    /// What the workload is.
    pub service: Service,
}

impl Identity {
    /// The identity of a validator's workload.
    #[must_use]
    pub fn validator(trust_domain: &str, name: &str, service: Service) -> Self {
        Self { trust_domain: trust_domain.to_owned(), owner: Owner::Validator(name.to_owned()), service }
    }

    /// The identity of a region's workload.
    #[must_use]
    pub fn region(trust_domain: &str, name: &str, service: Service) -> Self {
        Self { trust_domain: trust_domain.to_owned(), owner: Owner::Region(name.to_owned()), service }
    }

    /// A DNS name that fits the identity: `dag-service.v0.validator.kaldrix.local`.
    #[must_use]
    pub fn dns_name(&self) -> String {
        let (kind, name) = match &self.owner {
            Owner::Validator(name) => ("validator", name),
            Owner::Region(name) => ("region", name),
        };
        format!("{}.{name}.{kind}.{}", self.service, self.trust_domain)
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "spiffe://{}/{}/{}", self.trust_domain, self.owner, self.service)
    }
}

/// Whether `text` may be a trust domain or a path segment (SPIFFE-ID, sections 2.1 and 2.2, lower case only).
#[must_use]
pub fn is_name(text: &str) -> bool {
    (1..=128).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'_' | b'.'))
        && text != "."
        && text != ".."
}

impl FromStr for Identity {
    type Err = IdentityError;

    fn from_str(text: &str) -> Result<Self, IdentityError> {
        let form = || IdentityError::Form(text.chars().take(200).collect());
        let parts: Vec<&str> = text.strip_prefix("spiffe://").ok_or_else(form)?.splitn(5, '/').collect();
        let [trust_domain, kind, name, service] = parts.as_slice() else { return Err(form()) };
        if !is_name(trust_domain) || !is_name(name) {
            return Err(form());
        }
        let owner = match *kind {
            "validator" => Owner::Validator((*name).to_owned()),
            "region" => Owner::Region((*name).to_owned()),
            _ => return Err(form()),
        };
        Ok(Self { trust_domain: (*trust_domain).to_owned(), owner, service: service.parse()? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identity_survives_its_text_form() {
        for identity in [
            Identity::validator("kaldrix.local", "v0", Service::DagService),
            Identity::region("kaldrix.local", "us-east-1", Service::RegionSync),
        ] {
            assert_eq!(identity.to_string().parse::<Identity>(), Ok(identity));
        }
    }

    #[test]
    fn anything_else_is_refused() {
        for text in [
            "",
            "https://kaldrix.local/validator/v0/dag-service",
            "spiffe://kaldrix.local/validator/v0",
            "spiffe://kaldrix.local/validator/v0/dag-service/more",
            "spiffe://kaldrix.local/validator/../dag-service",
            "spiffe://kaldrix.local/validator//dag-service",
            "spiffe:///validator/v0/dag-service",
            "spiffe://kaldrix.local/person/v0/dag-service",
            "spiffe://kaldrix.local/validator/V0/dag-service",
            "spiffe://kaldrix.local/validator/v0/dag-servic",
        ] {
            assert!(text.parse::<Identity>().is_err(), "{text}");
        }
    }
}
