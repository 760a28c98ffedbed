//! What a run is made of.

use crate::faults::{Faults, FaultsError, Origin};
use kaldrix_types::Parameters;
use std::fmt;
use std::str::FromStr;

/// Where validators stand and how long messages take between them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Regions {
    /// One place, a quarter of a millisecond each way.
    #[default]
    Lan,
    /// The AWS regions of `data/aws-latency.toml` in turn.
    Aws,
}

impl fmt::Display for Regions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Lan => "lan",
            Self::Aws => "aws",
        })
    }
}

/// Why something is no configuration of a run.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// A name that is none of [`Regions`].
    #[error("{0:?} names no regions: use lan or aws")]
    Regions(String),
    /// Too few or too many validators.
    #[error("{found} validators: use {min} to {max}", min = SimConfig::VALIDATORS_MIN, max = SimConfig::VALIDATORS_MAX)]
    Validators {
        /// How many were asked for.
        found: usize,
    },
    /// Stakes that are not one per validator.
    #[error("{found} stakes for {validators} validators: give one above zero for each, or none for equal stakes")]
    Stakes {
        /// How many were given.
        found: usize,
        /// How many there should be.
        validators: usize,
    },
    /// No time, or more than a day of it.
    #[error("{0} seconds: use 1 to 86400")]
    Seconds(u64),
    /// More transactions than the model is made for.
    #[error("{0} transactions per second: use at most 20000")]
    Rate(u32),
    /// Rules that make no chain.
    #[error("{0}")]
    Rules(&'static str),
    /// A fault that names a validator or region that does not exist.
    #[error("faults, {0}")]
    Faults(#[from] FaultsError),
}

impl FromStr for Regions {
    type Err = ConfigError;

    fn from_str(text: &str) -> Result<Self, ConfigError> {
        match text {
            "lan" => Ok(Self::Lan),
            "aws" => Ok(Self::Aws),
            other => Err(ConfigError::Regions(other.to_owned())),
        }
    }
}

/// One run. Equal configurations give equal reports, byte for byte.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SimConfig {
    /// How many validators.
    pub validators: usize,
    /// Where they stand.
    pub regions: Regions,
    /// Virtual seconds for which clients submit. The run goes on until everything is final, at most [`Self::settle_seconds`] longer.
    pub seconds: u64,
    /// Transactions per second, over all clients.
    pub rate: u32,
    /// Everything random comes from this.
    pub seed: u64,
    /// What goes wrong.
    pub faults: Faults,
    /// Voting weight per validator; empty for equal weights.
    pub stakes: Vec<u64>,
    /// Rules of the chain.
    pub parameters: Parameters,
    /// Least time between two proposals of a validator, in milliseconds.
    pub min_round_delay_ms: u64,
    /// The same while there is nothing to order.
    pub idle_round_delay_ms: u64,
    /// How long validators wait for a round's leaders to begin with, in milliseconds.
    pub leader_timeout_ms: u64,
    /// Time of one durable write, in microseconds; up to half as much is added at random.
    pub disk_us: u64,
    /// Time to sign a block, in microseconds.
    pub sign_us: u64,
    /// What a validator can send, in 1,000 bits per second.
    pub bandwidth_kbit: u64,
    /// Virtual seconds after which what is not final is taken as never final.
    pub settle_seconds: u64,
}

impl SimConfig {
    /// Fewest validators that tolerate a fault.
    pub const VALIDATORS_MIN: usize = 4;
    /// Most validators that the model is made for.
    pub const VALIDATORS_MAX: usize = 400;

    /// A run with the defaults of production and no faults.
    #[must_use]
    pub fn new(validators: usize, regions: Regions, seconds: u64, rate: u32, seed: u64) -> Self {
        Self {
            validators,
            regions,
            seconds,
            rate,
            seed,
            faults: Faults::none(),
            stakes: Vec::new(),
            // Who is cut off is one of the tolerated faults: that must not cost a seat, or fewer would be tolerated afterwards.
            parameters: Parameters { absence_basis_points: 0, ..Parameters::default() },
            min_round_delay_ms: 50,
            idle_round_delay_ms: 500,
            leader_timeout_ms: 250,
            disk_us: 1_500,
            sign_us: 600,
            bandwidth_kbit: 1_000_000,
            settle_seconds: 30,
        }
    }

    /// Validators that stand by and ask for a seat: one where epochs end within the run, none otherwise.
    #[must_use]
    pub fn spares(&self) -> usize {
        usize::from(self.parameters.epoch_ms < self.seconds * 1_000)
    }

    /// All who take part.
    pub(crate) fn participants(&self) -> usize {
        self.validators + self.spares()
    }

    /// The same with faults.
    #[must_use]
    pub fn with_faults(mut self, faults: Faults) -> Self {
        self.faults = faults;
        self
    }

    /// Whether this makes a run.
    ///
    /// # Errors
    /// [`ConfigError`], the first thing that is wrong.
    pub fn check(&self) -> Result<(), ConfigError> {
        if !(Self::VALIDATORS_MIN..=Self::VALIDATORS_MAX).contains(&self.validators) {
            return Err(ConfigError::Validators { found: self.validators });
        }
        if !self.stakes.is_empty() && (self.stakes.len() != self.validators || self.stakes.contains(&0)) {
            return Err(ConfigError::Stakes { found: self.stakes.len(), validators: self.validators });
        }
        if !(1..=86_400).contains(&self.seconds) {
            return Err(ConfigError::Seconds(self.seconds));
        }
        if self.rate > 20_000 {
            return Err(ConfigError::Rate(self.rate));
        }
        if self.parameters.leaders_per_round == 0 || self.parameters.leaders_per_round as usize > self.validators {
            return Err(ConfigError::Rules("leaders per round: use 1 to the number of validators"));
        }
        if self.parameters.epoch_ms < 500 {
            return Err(ConfigError::Rules("epoch: use at least 500 ms"));
        }
        self.faults.check(self.validators, &crate::network::region_names(self.regions))?;
        Ok(())
    }

    /// The one command line that gives this run again.
    #[must_use]
    pub fn replay(&self) -> String {
        let mut line = format!(
            "kaldrix sim --validators {} --regions {} --seconds {} --rate {} --seed {}",
            self.validators, self.regions, self.seconds, self.rate, self.seed
        );
        match &self.faults.origin {
            Origin::Given => {}
            Origin::File(name) => line.push_str(&format!(" --faults {name}")),
            Origin::Random(seed) => line.push_str(&format!(" --faults random:{seed}")),
        }
        let rules = Parameters::default();
        if self.parameters.leaders_per_round != rules.leaders_per_round {
            line.push_str(&format!(" --leaders {}", self.parameters.leaders_per_round));
        }
        if self.parameters.epoch_ms != rules.epoch_ms {
            line.push_str(&format!(" --epoch-ms {}", self.parameters.epoch_ms));
        }
        if self.parameters.schedule_commits != rules.schedule_commits {
            line.push_str(&format!(" --schedule-commits {}", self.parameters.schedule_commits));
        }
        let usual = Self::new(self.validators, self.regions, self.seconds, self.rate, self.seed);
        for (flag, own, default) in [
            ("min-round-ms", self.min_round_delay_ms, usual.min_round_delay_ms),
            ("idle-round-ms", self.idle_round_delay_ms, usual.idle_round_delay_ms),
            ("leader-timeout-ms", self.leader_timeout_ms, usual.leader_timeout_ms),
            ("disk-us", self.disk_us, usual.disk_us),
            ("sign-us", self.sign_us, usual.sign_us),
            ("bandwidth-kbit", self.bandwidth_kbit, usual.bandwidth_kbit),
            ("settle-seconds", self.settle_seconds, usual.settle_seconds),
        ] {
            if own != default {
                line.push_str(&format!(" --{flag} {own}"));
            }
        }
        if !self.stakes.is_empty() {
            line.push_str(&format!(" --stakes {}", self.stakes.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")));
        }
        line
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_replay_line_names_everything_that_makes_the_run() {
        let mut config = SimConfig::new(7, Regions::Aws, 5, 20, 42);
        assert_eq!(config.replay(), "kaldrix sim --validators 7 --regions aws --seconds 5 --rate 20 --seed 42");
        config.faults.origin = Origin::File("x.faults".into());
        config.parameters.leaders_per_round = 2;
        assert!(config.replay().ends_with("--seed 42 --faults x.faults --leaders 2"));
        (config.min_round_delay_ms, config.disk_us) = (20, 9_000);
        assert!(config.replay().ends_with("--leaders 2 --min-round-ms 20 --disk-us 9000"), "{}", config.replay());
    }

    #[test]
    fn what_makes_no_run_is_refused() {
        assert_eq!(SimConfig::new(3, Regions::Lan, 5, 20, 1).check(), Err(ConfigError::Validators { found: 3 }));
        assert_eq!(SimConfig::new(4, Regions::Lan, 0, 20, 1).check(), Err(ConfigError::Seconds(0)));
        assert!("mars".parse::<Regions>().is_err());
        let faults = Faults::parse("crash region us-east-1").unwrap();
        assert!(SimConfig::new(4, Regions::Lan, 5, 20, 1).with_faults(faults.clone()).check().is_err());
        assert_eq!(SimConfig::new(4, Regions::Aws, 5, 20, 1).with_faults(faults).check(), Ok(()));
    }
}
