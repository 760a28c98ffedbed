//! Five hundred short random runs, all within what the protocol promises to survive. `examples/soak.rs` does the same for as long as one likes.

use kaldrix_sim::{Outcome, random_short_run, run};

const SEEDS: u64 = 50;

fn fifty(first: u64) {
    for seed in first..first + SEEDS {
        let report = run(&random_short_run(seed), &mut |_| {});
        assert_eq!(report.outcome, Outcome::Pass, "seed {seed}: {:?}\n{}\n{}", report.problem, report.faults, report.replay);
    }
}

macro_rules! fifties {
    ($($name:ident: $first:expr,)*) => {
        $(#[test]
        fn $name() {
            fifty($first);
        })*
    };
}

fifties! {
    fifty_random_runs_from_seed_1000_pass: 1_000,
    fifty_random_runs_from_seed_2000_pass: 2_000,
    fifty_random_runs_from_seed_3000_pass: 3_000,
    fifty_random_runs_from_seed_4000_pass: 4_000,
    fifty_random_runs_from_seed_5000_pass: 5_000,
    fifty_random_runs_from_seed_6000_pass: 6_000,
    fifty_random_runs_from_seed_7000_pass: 7_000,
    fifty_random_runs_from_seed_8000_pass: 8_000,
    fifty_random_runs_from_seed_9000_pass: 9_000,
    fifty_random_runs_from_seed_10000_pass: 10_000,
}
