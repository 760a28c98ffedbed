//! A development chain: its validators' keys, its faucet's key, its genesis.

use kaldrix_crypto::SecretKey;

use kaldrix_types::{Address, Genesis, GenesisAccount, Parameters, PublicKey, Scheme, Validator};
use std::time::{SystemTime, UNIX_EPOCH};

/// What the faucet begins with: a thousand million KDX.
const FAUCET_SUPPLY: u128 = 1_000_000_000 * 10u128.pow(18);

/// Traffic regions, then the witness: with stake over four sites, each below a third, no single loss stops the network.
pub(crate) const REGIONS: [&str; 4] = ["us-east-1", "us-west-2", "eu-west-1", "eu-central-1"];
/// Regions that answer clients.
pub(crate) const TRAFFIC_REGIONS: usize = 3;

/// A new signing key. Development keys are not encrypted on disk.
///
/// # Errors
/// When the system has no randomness.
pub(crate) fn key() -> anyhow::Result<SecretKey> {
    Ok(SecretKey::generate(Scheme::MlDsa65)?)
}

/// The genesis of a new chain.
pub(crate) fn new(validators: &[(String, String, PublicKey)], faucet: &PublicKey) -> Genesis {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| u64::try_from(d.as_millis()).unwrap_or(u64::MAX));
    Genesis {
        name: "kaldrix-dev".to_owned(),
        timestamp_ms: now,
        parameters: Parameters::default(),
        validators: validators
            .iter()
            .map(|(name, region, key)| Validator { name: name.clone(), region: region.clone(), stake: 1, key: key.clone() })
            .collect(),
        accounts: vec![GenesisAccount { address: Address::of_key(faucet), amount: FAUCET_SUPPLY }],
    }
}
