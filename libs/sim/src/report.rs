//! What a run found.

use serde::Serialize;

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Outcome {
    /// Every invariant held, and everything that clients were promised became final.
    Pass,
    /// Nothing wrong was decided, but something that should have become final did not.
    NoProgress,
    /// An invariant was broken: two truths, money out of nothing, a promise that was not kept.
    Diverged,
}

/// What was wrong, where and when.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// Which invariant, and how it was broken.
    pub what: String,
    /// The validator that showed it, if it was one.
    pub validator: Option<usize>,
    /// Virtual time in milliseconds.
    pub at_ms: u64,
}

/// Milliseconds from a client's first submission until the transaction was executed by the validator that it waits for. The first second
/// (the first quarter of a shorter run) is not measured: it is the start-up.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Finality {
    /// Median.
    pub p50: f64,
    /// 99 of 100 were faster.
    pub p99: f64,
    /// The slowest.
    pub max: f64,
    /// How many were measured.
    pub samples: usize,
}

impl Finality {
    pub(crate) fn of(mut micros: Vec<u64>) -> Self {
        micros.sort_unstable();
        let at = |share: f64| {
            let rank = (micros.len() as f64 * share).ceil().max(1.0) as usize - 1;
            micros.get(rank.min(micros.len().saturating_sub(1))).map_or(0.0, |us| (*us / 10) as f64 / 100.0)
        };
        Self { p50: at(0.5), p99: at(0.99), max: at(1.0), samples: micros.len() }
    }
}

/// What became of the clients' transactions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Transactions {
    /// Handed in for the first time.
    pub submitted: u64,
    /// Taken in by a validator.
    pub accepted: u64,
    /// Executed with effect.
    pub succeeded: u64,
    /// Executed, but their operations did not hold together.
    pub failed: u64,
    /// Ordered without effect: copies, rivals, bad ones. Not an error by itself.
    pub discarded: u64,
    /// Handed in again after the client had waited.
    pub resubmitted: u64,
    /// Refused at submission.
    pub refused: u64,
}

/// Per validator and second of virtual time, on average over all validators.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Load {
    /// Messages sent.
    pub messages: f64,
    /// Bytes sent.
    pub bytes: f64,
    /// Signatures made.
    pub signatures: f64,
    /// Signatures of blocks checked.
    pub block_checks: f64,
    /// Signatures of transactions checked.
    pub transaction_checks: f64,
}

/// The most that any correct validator had in memory at a time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Peaks {
    /// Blocks in the DAG.
    pub blocks: usize,
    /// Blocks waiting for parents.
    pub suspended: usize,
    /// Blocks being asked for.
    pub wanted: usize,
    /// Transactions in the mempool.
    pub mempool: usize,
    /// Headers in consensus.
    pub headers: usize,
}

/// The transaction that took longest.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Slowest {
    /// Its id.
    pub id: String,
    /// How long it took.
    pub ms: f64,
    /// When it was first submitted, in virtual milliseconds.
    pub submitted_at_ms: u64,
    /// The validator that the client waited for in the end.
    pub validator: usize,
}

/// Everything about a run. Equal configurations give equal reports, but for `wall_ms`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Report {
    /// How it ended.
    pub outcome: Outcome,
    /// Submission to execution.
    pub finality_ms: Finality,
    /// Commits of the ledger.
    pub commits: u64,
    /// Leader slots that were skipped.
    pub skipped: u64,
    /// Bytes sent by all validators, per commit.
    pub bytes_per_commit: f64,
    /// Block signatures made by all validators, per commit.
    pub signatures_per_commit: f64,
    /// The longest that a validator which runs and reaches a quorum went without a commit.
    pub gap_max_ms: f64,
    /// The longest that no validator at all went on: the ledger stood still.
    pub ledger_gap_max_ms: f64,
    /// What was wrong, if anything.
    pub problem: Option<Problem>,
    /// The command that gives this run again.
    pub replay: String,
    /// The faults as a script.
    pub faults: String,
    /// Validators.
    pub validators: usize,
    /// `lan` or `aws`.
    pub regions: String,
    /// The seed.
    pub seed: u64,
    /// Virtual time that passed.
    pub virtual_seconds: f64,
    /// Epochs that were begun.
    pub epochs: u64,
    /// Checkpoints with a certificate.
    pub checkpoints: u64,
    /// Snapshots that validators took over to catch up.
    pub snapshots: u64,
    /// Validators that lost stake for equivocations.
    pub slashed: u64,
    /// What became of the clients' transactions.
    pub transactions: Transactions,
    /// Per validator and second.
    pub load: Load,
    /// The most in memory.
    pub peaks: Peaks,
    /// Pairs of blocks by one author in one round that correct validators saw.
    pub equivocations: u64,
    /// Blocks that correct validators refused as no correct validator would have made them.
    pub refused_blocks: u64,
    /// Sessions of consensus that were begun anew while the validator ran.
    pub new_sessions: u64,
    /// Processes that ended.
    pub crashes: u64,
    /// Processes that came back.
    pub restarts: u64,
    /// The slowest transaction.
    pub slowest: Option<Slowest>,
    /// Digest over all commits and the state at the end: equal for equal runs, and for little else.
    pub digest: String,
    /// Events that the run consists of.
    pub events: u64,
    /// Real time that the run took, if the caller measured it: not part of the result.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wall_ms: Option<u64>,
}

/// How far a run is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Virtual time.
    pub virtual_ms: u64,
    /// When clients stop; the run ends a little later.
    pub end_ms: u64,
    /// Commits so far.
    pub commits: u64,
    /// Transactions that are final.
    pub finals: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_of_the_samples() {
        let finality = Finality::of((1..=100).rev().map(|n| n * 1_000).collect());
        assert_eq!((finality.p50, finality.p99, finality.max, finality.samples), (50.0, 99.0, 100.0, 100));
        assert_eq!(Finality::of(vec![]), Finality::default());
        assert_eq!(Finality::of(vec![1_234]).p99, 1.23);
    }
}
