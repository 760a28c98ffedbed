//! Short random runs, for soaks and tests.

use crate::config::{Regions, SimConfig};
use crate::faults::random_faults;
use crate::rng::Rng;

/// The random run of this seed: everything about it follows from the number. A few virtual seconds, faults within what the protocol
/// promises to survive ([`random_faults`]): it has to pass.
#[must_use]
pub fn random_run(seed: u64) -> SimConfig {
    let mut rng = Rng::new(seed, 0xA0);
    let mut pick = |choices: &[u64]| rng.pick(choices).copied().unwrap_or_default();
    let validators = pick(&[4, 4, 4, 5, 7, 10]) as usize;
    let regions = if pick(&[0, 0, 1]) == 1 { Regions::Aws } else { Regions::Lan };
    let seconds = pick(&[2, 3, 4, 5, 6]);
    let rate = pick(&[5, 20, 40, 80]) as u32;
    let mut config = SimConfig::new(validators, regions, seconds, rate, seed);
    config.parameters.leaders_per_round = pick(&[1, 1, 2]) as u32;
    config.parameters.schedule_commits = pick(&[300, 20, 40]) as u32;
    config.parameters.epoch_ms = pick(&[config.parameters.epoch_ms, 1_000, 1_500]);
    config.with_faults(random_faults(seed, validators, seconds))
}

/// As [`random_run`], but of two virtual seconds and at most seven validators: for tests that make many.
#[must_use]
pub fn random_short_run(seed: u64) -> SimConfig {
    let mut config = random_run(seed);
    (config.validators, config.seconds) = (config.validators.min(7), 2);
    config.rate = config.rate.min(40);
    let faults = random_faults(seed, config.validators, config.seconds);
    config.with_faults(faults)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_random_run_is_one_that_can_be_run_and_follows_from_its_seed() {
        for seed in 0..500 {
            let config = random_run(seed);
            assert_eq!(config.check(), Ok(()), "{}", config.replay());
            assert_eq!(config, random_run(seed));
            assert_eq!(random_short_run(seed).check(), Ok(()));
        }
        assert_ne!(random_run(1).faults, random_run(2).faults);
    }
}
