//! What the command line says.

use kaldrix_sim::{Faults, Regions, SimConfig, random_run};
use std::collections::BTreeMap;
use std::time::Duration;

pub(crate) const USAGE: &str = "\
soak --runs N | --minutes M     random runs, one after the other, until one fails
     --seed K                   of the first run; the others follow (0)
     --threads T                runs at a time (2)
     --keep-going               do not stop at a failure
     --script TEXT              this script of faults in place of random ones; lines end with ';'
     --validators N --regions lan|aws --seconds S --rate R --leaders L --epoch-ms MS --schedule-commits C
                                these in place of random ones
soak measure [--seed K] [--threads T]
                                the tables of the documentation, as Markdown";

/// What to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    Soak,
    Measure,
}

#[derive(Clone, Debug)]
pub(crate) struct Options {
    pub(crate) mode: Mode,
    pub(crate) runs: u64,
    pub(crate) limit: Option<Duration>,
    pub(crate) seed: u64,
    pub(crate) threads: usize,
    pub(crate) keep_going: bool,
    fixed: BTreeMap<String, String>,
}

impl Options {
    pub(crate) fn parse(arguments: &[String]) -> Result<Self, String> {
        let mut given = BTreeMap::new();
        let mut rest = arguments.iter().peekable();
        let mode = if rest.next_if(|first| *first == "measure").is_some() { Mode::Measure } else { Mode::Soak };
        let mut keep_going = false;
        while let Some(argument) = rest.next() {
            let name = argument.strip_prefix("--").ok_or_else(|| format!("{argument:?} is not understood"))?;
            if name == "keep-going" {
                keep_going = true;
                continue;
            }
            let known = [
                "runs",
                "minutes",
                "seed",
                "threads",
                "script",
                "validators",
                "regions",
                "seconds",
                "rate",
                "leaders",
                "epoch-ms",
                "schedule-commits",
            ];
            if !known.contains(&name) {
                return Err(format!("--{name} is not known"));
            }
            let value = rest.next().ok_or_else(|| format!("--{name} needs a value"))?;
            given.insert(name.to_owned(), value.clone());
        }
        let minutes: Option<u64> = number(&given, "minutes")?;
        let runs = number(&given, "runs")?;
        if mode == Mode::Soak && minutes.is_none() && runs.is_none() {
            return Err("say how long: --runs or --minutes".to_owned());
        }
        let options = Self {
            mode,
            runs: runs.unwrap_or(u64::MAX),
            limit: minutes.map(|m| Duration::from_secs(m * 60)),
            seed: number(&given, "seed")?.unwrap_or(0),
            threads: number(&given, "threads")?.unwrap_or(2).clamp(1, 64) as usize,
            keep_going,
            fixed: given,
        };
        options.config(options.seed)?;
        Ok(options)
    }

    /// The run of a seed.
    pub(crate) fn config(&self, seed: u64) -> Result<SimConfig, String> {
        let mut config = random_run(seed);
        if let Some(n) = number(&self.fixed, "validators")? {
            config.validators = n as usize;
            config.faults = kaldrix_sim::random_faults(seed, config.validators, config.seconds);
        }
        if let Some(regions) = self.fixed.get("regions") {
            config.regions = regions.parse::<Regions>().map_err(|e| e.to_string())?;
        }
        if let Some(seconds) = number(&self.fixed, "seconds")? {
            config.seconds = seconds;
            config.faults = kaldrix_sim::random_faults(seed, config.validators, config.seconds);
        }
        if let Some(rate) = number(&self.fixed, "rate")? {
            config.rate = rate as u32;
        }
        if let Some(leaders) = number(&self.fixed, "leaders")? {
            config.parameters.leaders_per_round = leaders as u32;
        }
        if let Some(epoch_ms) = number(&self.fixed, "epoch-ms")? {
            config.parameters.epoch_ms = epoch_ms;
        }
        if let Some(commits) = number(&self.fixed, "schedule-commits")? {
            config.parameters.schedule_commits = commits as u32;
        }
        if let Some(script) = self.fixed.get("script") {
            config.faults = Faults::parse(&script.replace(';', "\n")).map_err(|e| e.to_string())?;
        }
        config.check().map_err(|e| e.to_string())?;
        Ok(config)
    }
}

fn number(given: &BTreeMap<String, String>, name: &str) -> Result<Option<u64>, String> {
    given.get(name).map(|text| text.parse().map_err(|_| format!("--{name}: {text:?} is no number"))).transpose()
}
