//! What one header costs consensus, deciding included: committees of 4, 21 and 100.

use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use kaldrix_consensus::{ConsensusCore, CoreConfig, Recovered, StakeSchedule};
use kaldrix_testkit::random_dag::{RandomDag, Shape};
use kaldrix_types::ValidatorIndex;
use std::hint::black_box;
use std::sync::Arc;

fn headers(c: &mut Criterion) {
    let mut group = c.benchmark_group("headers");
    group.sample_size(10);
    for (validators, leaders_per_round) in [(4, 1), (4, 2), (21, 1), (100, 1), (100, 4)] {
        let shape = Shape { stakes: vec![1; validators], rounds: 100, miss: 3, unlinked: 10, weak: 5, equivocate: 0, transactions: 50 };
        let dag = RandomDag::generate(&shape, 1);
        let config = CoreConfig { leaders_per_round, ..CoreConfig::default() };
        group.throughput(Throughput::Elements(dag.blocks.len() as u64));
        group.bench_function(BenchmarkId::new(format!("{validators} validators"), format!("{leaders_per_round} leaders")), |b| {
            let new = || {
                let schedule = StakeSchedule::new(&dag.committee);
                ConsensusCore::new(Arc::clone(&dag.committee), ValidatorIndex(0), config, schedule, Recovered::default(), 0)
            };
            b.iter_batched(
                new,
                |mut core| {
                    for (reference, header) in &dag.blocks {
                        black_box(core.on_header(*reference, Arc::clone(header), false, reference.round * 50));
                    }
                    core
                },
                BatchSize::PerIteration,
            );
        });
    }
    group.finish();
}

criterion_group!(benches, headers);
criterion_main!(benches);
