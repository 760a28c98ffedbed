//! The tables of the documentation, as Markdown.

use crate::say;
use kaldrix_sim::{Faults, Outcome, Regions, Report, SimConfig, run};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

const KINDS: [&str; 13] = [
    "silent",
    "equivocate-halves",
    "equivocate-each",
    "withhold 0,1,2,3,4,5,6",
    "withhold all",
    "withhold-body 0,1,2,3,4,5,6",
    "invalid-parents",
    "invalid-signatures",
    "invalid-timestamps",
    "late 1s",
    "lie-in-sync",
    "flood",
    "bad-transactions",
];

/// A row's name and its run.
type Row = (String, SimConfig);

fn aws(validators: usize, seconds: u64, rate: u32, seed: u64, script: &str) -> SimConfig {
    let faults = Faults::parse(script).expect("the scripts of the tables are right");
    let mut config = SimConfig::new(validators, Regions::Aws, seconds, rate, seed).with_faults(faults);
    config.settle_seconds = 15;
    config
}

/// Runs the rows on some threads and prints the table in their order.
fn table(title: &str, rows: &[Row], threads: usize) {
    let (next, done) = (AtomicUsize::new(0), Mutex::new(vec![None; rows.len()]));
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while let Some((number, (_, config))) =
                    Some(next.fetch_add(1, Ordering::Relaxed)).and_then(|number| Some((number, rows.get(number)?)))
                {
                    let report = run(config, &mut |_| {});
                    done.lock().unwrap_or_else(std::sync::PoisonError::into_inner)[number] = Some(report);
                }
            });
        }
    });
    say(&format!("\n### {title}\n"));
    say(
        "| run | outcome | finality p50 ms | p99 ms | max ms | longest gap ms | commits | skipped | messages/s | KB/s | signatures/s | checks/s |",
    );
    say("|---|---|---|---|---|---|---|---|---|---|---|---|");
    let reports = done.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    for ((name, _), report) in rows.iter().zip(reports.iter().flatten()) {
        say(&line(name, report));
    }
}

fn line(name: &str, r: &Report) -> String {
    let problem = match (&r.outcome, &r.problem) {
        (Outcome::Pass, _) | (_, None) => String::new(),
        (_, Some(problem)) => format!(": {}", problem.what),
    };
    let (f, l) = (&r.finality_ms, &r.load);
    format!(
        "| {name} | {:?}{problem} | {:.0} | {:.0} | {:.0} | {:.0} | {} | {} | {:.0} | {:.0} | {:.1} | {:.0} |",
        r.outcome,
        f.p50,
        f.p99,
        f.max,
        r.gap_max_ms,
        r.commits,
        r.skipped,
        l.messages,
        l.bytes / 1_000.0,
        l.signatures,
        l.block_checks + l.transaction_checks
    )
}

/// Everything, in the order of the documentation.
pub(crate) fn measure(seed: u64, threads: usize) -> bool {
    say(&format!("Simulator, virtual time, seed {seed}; per second and validator. Latencies: `libs/sim/data/aws-latency.toml`."));
    let sizes = [(4, 20), (21, 20), (100, 6)];
    let rows: Vec<Row> = sizes.iter().map(|(n, s)| (format!("{n} validators"), aws(*n, *s, 100, seed, ""))).collect();
    table("Size of the committee, 100 transactions per second", &rows, threads);

    let sites = ["us-east-1", "us-west-2", "eu-west-1", "eu-central-1"];
    let rows: Vec<Row> = sites
        .iter()
        .map(|site| (format!("without {site}"), aws(21, 20, 100, seed, &format!("at 5s crash region {site}"))))
        .chain(sites.iter().map(|site| (format!("{site} for 5 s"), aws(21, 20, 100, seed, &format!("at 5s crash region {site} for 5s")))))
        .collect();
    table("21 validators (6/5/5/5), loss of a site", &rows, threads);

    let mut rows = Vec::new();
    for (n, crashed) in [(4, "3"), (21, "1,2,3,4,5,6")] {
        for commits in [0, 300, 100] {
            let mut config = aws(n, 60, 50, seed, &format!("at 2s crash {crashed}"));
            config.parameters.schedule_commits = commits;
            rows.push((format!("{n} validators, crashed {crashed}, schedule_commits {commits}"), config));
        }
    }
    table("Reputation with crashed validators, 60 s", &rows, threads);

    let mut rows = Vec::new();
    for script in ["", "at 2s crash 3"] {
        for leaders in 1..=3 {
            for n in [4, 21] {
                let mut config = aws(n, 30, 100, seed, script);
                config.parameters.leaders_per_round = leaders;
                rows.push((
                    format!("{n} validators, {leaders} leaders per round{}", if script.is_empty() { "" } else { ", one crashed" }),
                    config,
                ));
            }
        }
    }
    table("Leaders per round", &rows, threads);

    for byzantine in ["15-20", "14-20"] {
        let row = |kind: &&str| (format!("{byzantine} {kind}"), aws(21, 8, 50, seed, &format!("byzantine {byzantine} {kind}")));
        let rows: Vec<Row> = KINDS.iter().map(row).collect();
        table(&format!("21 validators, Byzantine: {byzantine}"), &rows, threads);
    }
    true
}
