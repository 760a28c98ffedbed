//! Decision vectors: random DAGs with the decisions of an independent implementation, one JSON object per line.
//!
//! ```text
//!   n, quorum, leaders_per_round, wave (3)       every stake is 1; leader of a slot = (round + offset) mod n
//!   blocks       [[id, author, round, digest8, [parent ids]]]           ids 0..n−1 are genesis, parents before children
//!   checkpoints  [{upto_round, decided: [[round, author, DC|IC|DS|IS, block id or null]]}]
//!                                                                        the decisions that the blocks up to that round allow
//!   subdags      [{leader, block_set: [ids, genesis included]}]          what each committed leader brings, nothing collected
//! ```

use crate::committer::{Committer, Decision, LeaderDecision};
use crate::dag::HeaderDag;
use crate::linearizer::{CommitRules, Linearizer};
use crate::schedule::RoundRobin;
use crate::wave::Wave;
use kaldrix_types::{Address, BlockRef, ChainId, Committee, Digest, Header, PublicKey, Round, Scheme, Validator, ValidatorIndex};
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

#[derive(Deserialize)]
struct Vector {
    n: u16,
    quorum: u64,
    leaders_per_round: u32,
    wave: u64,
    blocks: Vec<(u32, u16, Round, String, Vec<u32>)>,
    checkpoints: Vec<Checkpoint>,
    #[serde(default)]
    subdags: Vec<Subdag>,
}

#[derive(Deserialize)]
struct Checkpoint {
    upto_round: Round,
    decided: Vec<(Round, u16, String, Option<u32>)>,
}

#[derive(Deserialize)]
struct Subdag {
    leader: u32,
    block_set: BTreeSet<u32>,
}

/// Runs one vector: at each checkpoint the decisions from scratch and those from the cursor must both be the expected ones, and the
/// linearizer must bring the expected blocks for every committed leader.
///
/// # Errors
/// What differs, or why the line is no vector.
pub fn check_vector(line: &str) -> Result<(), String> {
    let vector: Vector = serde_json::from_str(line).map_err(|e| format!("not a decision vector: {e}"))?;
    let case = Case::build(&vector)?;
    case.run(&vector)
}

struct Case {
    committee: Arc<Committee>,
    blocks: Vec<(BlockRef, Arc<Header>)>,
    ids: BTreeMap<BlockRef, u32>,
}

impl Case {
    fn build(vector: &Vector) -> Result<Self, String> {
        let committee = committee(vector.n)?;
        if committee.quorum() != vector.quorum {
            return Err(format!("a quorum of {} is {}, the vector says {}", vector.n, committee.quorum(), vector.quorum));
        }
        if vector.wave != 3 {
            return Err(format!("waves of {} rounds are not supported, only of 3", vector.wave));
        }
        let mut references: BTreeMap<u32, BlockRef> = (0u32..).zip(committee.genesis_blocks()).collect();
        let mut blocks = Vec::new();
        let mut ids = BTreeMap::new();
        for (id, author, round, digest, parents) in vector.blocks.iter().filter(|b| b.2 > 0) {
            let reference = BlockRef { round: *round, author: ValidatorIndex(*author), digest: named_digest(*id, digest) };
            let parents: Option<Vec<BlockRef>> = parents.iter().map(|p| references.get(p).copied()).collect();
            let parents = parents.ok_or_else(|| format!("block {id} comes before a parent"))?;
            references.insert(*id, reference);
            ids.insert(reference, *id);
            blocks.push((reference, Arc::new(header(reference, parents))));
        }
        Ok(Self { committee, blocks, ids })
    }

    fn run(&self, vector: &Vector) -> Result<(), String> {
        let wave = Wave::new(vector.leaders_per_round, self.committee.size());
        let schedule = RoundRobin::new(self.committee.size());
        let mut dag = HeaderDag::new(Arc::clone(&self.committee), 0);
        let mut running = Committer::new(wave, schedule);
        let mut all: Vec<LeaderDecision> = Vec::new();
        for checkpoint in &vector.checkpoints {
            for (reference, header) in self.blocks.iter().filter(|(b, _)| b.round <= checkpoint.upto_round) {
                dag.insert(*reference, Arc::clone(header), false).map_err(|e| e.to_string())?;
            }
            all.extend(running.try_decide(&dag, all.last().map(LeaderDecision::slot)));
            let fresh = Committer::new(wave, schedule).try_decide(&dag, None);
            self.compare("from the cursor", checkpoint, &all)?;
            self.compare("from scratch", checkpoint, &fresh)?;
        }
        self.compare_subdags(vector, &mut dag, &all)
    }

    fn compare(&self, how: &str, checkpoint: &Checkpoint, found: &[LeaderDecision]) -> Result<(), String> {
        let found: Vec<(Round, u16, String, Option<u32>)> = found
            .iter()
            .map(|d| (d.round, d.author.0, code(d.decision).to_owned(), d.block.and_then(|b| self.ids.get(&b).copied())))
            .collect();
        let upto = checkpoint.upto_round;
        for (expected, found) in checkpoint.decided.iter().zip(&found) {
            if expected != found {
                return Err(format!("up to round {upto}, decided {how}: expected {expected:?}, found {found:?}"));
            }
        }
        if found.len() != checkpoint.decided.len() {
            return Err(format!("up to round {upto}, decided {how}: expected {} slots, found {}", checkpoint.decided.len(), found.len()));
        }
        Ok(())
    }

    fn compare_subdags(&self, vector: &Vector, dag: &mut HeaderDag, decided: &[LeaderDecision]) -> Result<(), String> {
        let rules = CommitRules { gc_depth: u64::MAX, schedule_commits: 0, epoch_ends_at_ms: None };
        let mut linearizer = Linearizer::new(&self.committee, rules, None);
        let leaders: Vec<BlockRef> = decided.iter().filter_map(|d| d.block).collect();
        if leaders.len() != vector.subdags.len() {
            return Err(format!("expected {} committed leaders, found {}", vector.subdags.len(), leaders.len()));
        }
        for (leader, expected) in leaders.into_iter().zip(&vector.subdags) {
            let commit = linearizer.commit(dag, leader);
            let found: BTreeSet<u32> = commit.blocks.iter().filter_map(|b| self.ids.get(b).copied()).collect();
            // Genesis blocks have no content and are part of no commit.
            let blocks: BTreeSet<u32> = expected.block_set.iter().copied().filter(|id| *id >= u32::from(vector.n)).collect();
            if self.ids.get(&leader) != Some(&expected.leader) || found != blocks {
                return Err(format!("leader {}: expected the blocks {blocks:?}, found {found:?}", expected.leader));
            }
        }
        Ok(())
    }
}

const fn code(decision: Decision) -> &'static str {
    match decision {
        Decision::DirectCommit => "DC",
        Decision::IndirectCommit => "IC",
        Decision::DirectSkip => "DS",
        Decision::IndirectSkip => "IS",
    }
}

/// A digest that begins as the vector says (ties are broken alike) and is unique.
fn named_digest(id: u32, hex: &str) -> Digest {
    let mut bytes = [0; 32];
    let prefix = u64::from_str_radix(hex, 16).unwrap_or_default();
    bytes[..8].copy_from_slice(&prefix.to_be_bytes());
    bytes[28..].copy_from_slice(&id.to_be_bytes());
    Digest(bytes)
}

fn header(reference: BlockRef, parents: Vec<BlockRef>) -> Header {
    Header {
        version: Header::VERSION,
        chain_id: ChainId::default(),
        epoch: 0,
        round: reference.round,
        author: reference.author,
        timestamp_ms: reference.round,
        parents,
        transactions_root: Digest::ZERO,
        transaction_count: 0,
        body_bytes: 0,
        commit_votes: Vec::new(),
        checkpoint_votes: Vec::new(),
    }
}

fn committee(size: u16) -> Result<Arc<Committee>, String> {
    let validators = (0..size).map(|i| {
        let mut key = [0u8; 32];
        key[..2].copy_from_slice(&i.to_be_bytes());
        let operator = Address(key);
        let key = PublicKey::new(Scheme::Ed25519, key.to_vec()).map_err(|e| e.to_string())?;
        Ok(Validator { name: format!("v{i}"), region: "vectors".to_owned(), stake: 1, key, operator })
    });
    let validators = validators.collect::<Result<Vec<_>, String>>()?;
    Committee::new(ChainId::default(), 0, validators).map(Arc::new).map_err(|e| e.to_string())
}
