//! A run's report in words.

use crate::cli::output::fields;
use kaldrix_sim::Report;

pub(super) fn text(report: &Report) -> String {
    let r = report;
    let finality = &r.finality_ms;
    let (tx, load, peaks) = (&r.transactions, &r.load, &r.peaks);
    let mut pairs = vec![
        (
            "finality",
            format!(
                "p50 {:.1} ms, p99 {:.1} ms, at most {:.1} ms ({} payments)",
                finality.p50, finality.p99, finality.max, finality.samples
            ),
        ),
        ("commits", format!("{}, {} leader slots skipped", r.commits, r.skipped)),
        ("longest gap", format!("{:.0} ms of one validator, {:.0} ms of the ledger", r.gap_max_ms, r.ledger_gap_max_ms)),
        ("epochs", format!("{}, {} certified checkpoints", r.epochs, r.checkpoints)),
        (
            "payments",
            format!(
                "{} submitted, {} accepted, {} took effect, {} failed; {} submitted again, {} refused, {} discarded",
                tx.submitted, tx.accepted, tx.succeeded, tx.failed, tx.resubmitted, tx.refused, tx.discarded
            ),
        ),
        ("per commit", format!("{:.0} bytes, {:.1} signatures, over all validators", r.bytes_per_commit, r.signatures_per_commit)),
        (
            "per second",
            format!("{:.0} messages, {:.0} bytes, {:.1} signatures of each validator", load.messages, load.bytes, load.signatures),
        ),
        ("checked", format!("{:.0} block and {:.0} payment signatures per second by each", load.block_checks, load.transaction_checks)),
        (
            "in memory",
            format!(
                "at most {} blocks, {} suspended, {} asked for, {} payments, {} headers in consensus",
                peaks.blocks, peaks.suspended, peaks.wanted, peaks.mempool, peaks.headers
            ),
        ),
        (
            "went wrong",
            format!(
                "{} crashes, {} restarts, {} equivocations, {} blocks refused, {} sessions begun anew",
                r.crashes, r.restarts, r.equivocations, r.refused_blocks, r.new_sessions
            ),
        ),
        ("digest", r.digest.clone()),
    ];
    if let Some(problem) = &r.problem {
        let who = problem.validator.map(|v| format!(" (validator {v})")).unwrap_or_default();
        pairs.push(("problem", format!("at {} ms{who}: {}", problem.at_ms, problem.what)));
    }
    let wall = r.wall_ms.map(|ms| format!(" in {ms} ms")).unwrap_or_default();
    format!(
        "{:?}: {} validators, {}, seed {}, {:.1} virtual seconds{wall}\n{}",
        r.outcome,
        r.validators,
        r.regions,
        r.seed,
        r.virtual_seconds,
        fields(&pairs)
    )
}
