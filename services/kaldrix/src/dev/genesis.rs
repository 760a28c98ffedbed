//! A development chain: its validators' keys, its faucet's key, its genesis.

use kaldrix_crypto::SecretKey;
use kaldrix_types::{Address, Genesis, GenesisAccount, Parameters, PublicKey, Scheme, Validator, WEIGHT_UNIT};
use std::time::{SystemTime, UNIX_EPOCH};

/// What the faucet begins with: a thousand million KDX.
const FAUCET_SUPPLY: u128 = 1_000_000_000 * WEIGHT_UNIT;
/// What each validator has bonded, whole KDX.
const STAKE: u64 = 1_000;
/// What each validator's operator has besides.
const OPERATOR_FUNDS: u128 = 1_000 * WEIGHT_UNIT;
/// Short enough to see validators come and go.
const EPOCH_SECONDS: u64 = 60;

/// Traffic regions, then the witness: with stake over four sites, each below a third, no single loss stops the network.
pub(crate) const REGIONS: [&str; 4] = ["us-east-1", "us-west-2", "eu-west-1", "eu-central-1"];
/// Regions that answer clients.
pub(crate) const TRAFFIC_REGIONS: usize = 3;

/// Rules of a new chain that its founder may choose; `None` is the default.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Rules {
    /// Least length of an epoch.
    pub(crate) epoch_seconds: Option<u64>,
    /// Leader slots per round.
    pub(crate) leaders_per_round: Option<u32>,
}

impl Rules {
    fn parameters(self) -> Parameters {
        let defaults = Parameters::default();
        Parameters {
            epoch_ms: self.epoch_seconds.unwrap_or(EPOCH_SECONDS) * 1_000,
            leaders_per_round: self.leaders_per_round.unwrap_or(defaults.leaders_per_round),
            ..defaults
        }
    }

    /// Fails when a chain that exists has other rules than what is asked for.
    ///
    /// # Errors
    /// Which rule, and what it is.
    pub(crate) fn check(self, parameters: &Parameters) -> anyhow::Result<()> {
        let asked = [
            ("--epoch-seconds", self.epoch_seconds, parameters.epoch_ms / 1_000),
            ("--leaders-per-round", self.leaders_per_round.map(u64::from), parameters.leaders_per_round.into()),
        ];
        for (option, wanted, found) in asked {
            anyhow::ensure!(
                wanted.is_none_or(|wanted| wanted == found),
                "{option} is {found} in this network, for good; leave it out, or choose another --data-dir"
            );
        }
        Ok(())
    }
}

/// A validator of the first epoch.
pub(crate) struct Founder {
    pub(crate) name: String,
    pub(crate) region: String,
    /// Signs its blocks.
    pub(crate) session: SecretKey,
    /// Of the account that bonds its stake.
    pub(crate) operator: SecretKey,
}

/// A new signing key. Development keys are not encrypted on disk.
///
/// # Errors
/// When the system has no randomness.
pub(crate) fn key() -> anyhow::Result<SecretKey> {
    Ok(SecretKey::generate(Scheme::MlDsa65)?)
}

/// The genesis of a new chain.
pub(crate) fn new(founders: &[Founder], faucet: &PublicKey, rules: Rules) -> Genesis {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| u64::try_from(d.as_millis()).unwrap_or(u64::MAX));
    let validators = founders.iter().map(|founder| Validator {
        name: founder.name.clone(),
        region: founder.region.clone(),
        stake: STAKE,
        key: founder.session.public_key().clone(),
        operator: Address::of_key(founder.operator.public_key()),
    });
    let operators = founders.iter().map(|founder| (Address::of_key(founder.operator.public_key()), OPERATOR_FUNDS));
    let accounts = operators.chain([(Address::of_key(faucet), FAUCET_SUPPLY)]);
    Genesis {
        name: "kaldrix-dev".to_owned(),
        timestamp_ms: now,
        parameters: rules.parameters(),
        validators: validators.collect(),
        accounts: accounts.map(|(address, amount)| GenesisAccount { address, amount }).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_chain_has_the_rules_that_were_asked_for_and_no_others_are_accepted_later() {
        let rules = Rules { epoch_seconds: Some(5), leaders_per_round: None };
        let founders: Vec<Founder> = (0..4)
            .map(|i| Founder { name: format!("v{i}"), region: "lan".to_owned(), session: key().unwrap(), operator: key().unwrap() })
            .collect();
        let genesis = new(&founders, key().unwrap().public_key(), rules);
        assert_eq!(genesis.parameters.epoch_ms, 5_000);
        assert_eq!(genesis.committee().unwrap().size(), 4);
        genesis.state().unwrap();
        rules.check(&genesis.parameters).unwrap();
        Rules::default().check(&genesis.parameters).unwrap();
        let other = Rules { epoch_seconds: Some(60), leaders_per_round: None }.check(&genesis.parameters).unwrap_err();
        assert!(other.to_string().contains("--epoch-seconds is 5"), "{other}");
    }
}
