//! Random DAGs that a faulty network and up to a third of faulty stake could leave behind.

use crate::dag::{committee, header};
use kaldrix_types::{BlockRef, Committee, Header, Round, ValidatorIndex};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// A small generator for tests (SplitMix64): the same seed gives the same numbers everywhere.
#[derive(Clone, Debug)]
pub struct TestRandom(u64);

impl TestRandom {
    /// A generator.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// 64 random bits.
    pub const fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `bound`, which is above zero.
    pub const fn below(&mut self, bound: usize) -> usize {
        (self.bits() % bound as u64) as usize
    }

    /// True in `percent` of 100 cases.
    pub const fn chance(&mut self, percent: u8) -> bool {
        self.below(100) < percent as usize
    }

    /// Fisher-Yates.
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, self.below(last + 1));
        }
    }
}

/// What kind of DAG; chances in percent.
#[derive(Clone, Debug)]
pub struct Shape {
    /// Stake of each validator.
    pub stakes: Vec<u64>,
    /// How many rounds.
    pub rounds: Round,
    /// A validator makes no block in a round (as far as a quorum remains).
    pub miss: u8,
    /// A block does not link a block of the round before that it could (as far as a quorum remains).
    pub unlinked: u8,
    /// A block links, weakly, one older block that is not in its past yet.
    pub weak: u8,
    /// A faulty validator (they hold at most S − q of stake) makes two blocks in a round.
    pub equivocate: u8,
    /// A block says it has transactions.
    pub transactions: u8,
}

/// Blocks with their headers; parents come first.
#[derive(Clone, Debug)]
pub struct RandomDag {
    /// The validators.
    pub committee: Arc<Committee>,
    /// By round, then author.
    pub blocks: Vec<(BlockRef, Arc<Header>)>,
}

impl RandomDag {
    /// The DAG of this shape and seed, in an epoch that begins at round 0.
    #[must_use]
    pub fn generate(shape: &Shape, seed: u64) -> Self {
        Self::generate_in(committee(&shape.stakes), shape, seed)
    }

    /// The DAG of this shape and seed over another committee than that of the shape's stakes: another epoch, which begins at another round.
    #[must_use]
    pub fn generate_in(committee: Arc<Committee>, shape: &Shape, seed: u64) -> Self {
        let mut random = TestRandom::new(seed);
        let faulty = choose_faulty(&committee, &mut random);
        let mut builder = Builder::new(&committee);
        for round in (committee.start_round() + 1..).take(shape.rounds as usize) {
            let mut authors: Vec<ValidatorIndex> = committee.indices().collect();
            random.shuffle(&mut authors);
            let mut makers = thin_out(&committee, authors, shape.miss, &mut random);
            makers.sort_unstable();
            for author in makers {
                let twice = faulty.contains(&author) && random.chance(shape.equivocate);
                for _ in 0..=usize::from(twice) {
                    builder.add(shape, round, author, &mut random);
                }
            }
        }
        Self { committee: Arc::clone(&committee), blocks: builder.blocks }
    }

    /// The same blocks in a random order in which parents still come first.
    #[must_use]
    pub fn shuffled(&self, seed: u64) -> Vec<(BlockRef, Arc<Header>)> {
        let mut random = TestRandom::new(seed);
        let known: BTreeSet<BlockRef> = self.blocks.iter().map(|(r, _)| *r).collect();
        let mut missing: Vec<usize> =
            self.blocks.iter().map(|(_, header)| header.parents.iter().filter(|p| known.contains(p)).count()).collect();
        let mut children: BTreeMap<BlockRef, Vec<usize>> = BTreeMap::new();
        for (i, (_, header)) in self.blocks.iter().enumerate() {
            header.parents.iter().for_each(|p| children.entry(*p).or_default().push(i));
        }
        let mut ready: Vec<usize> = (0..self.blocks.len()).filter(|i| missing[*i] == 0).collect();
        let mut order = Vec::with_capacity(self.blocks.len());
        while !ready.is_empty() {
            let (reference, header) = &self.blocks[ready.swap_remove(random.below(ready.len()))];
            order.push((*reference, Arc::clone(header)));
            for child in children.get(reference).into_iter().flatten() {
                missing[*child] -= 1;
                if missing[*child] == 0 {
                    ready.push(*child);
                }
            }
        }
        order
    }
}

fn choose_faulty(committee: &Committee, random: &mut TestRandom) -> BTreeSet<ValidatorIndex> {
    let mut left = committee.total_stake() - committee.quorum();
    let mut candidates: Vec<ValidatorIndex> = committee.indices().collect();
    random.shuffle(&mut candidates);
    candidates
        .into_iter()
        .filter(|author| {
            let fits = committee.stake(*author) <= left;
            left -= if fits { committee.stake(*author) } else { 0 };
            fits
        })
        .collect()
}

/// Leaves each author out by chance, as long as those that stay are a quorum.
fn thin_out(committee: &Committee, authors: Vec<ValidatorIndex>, percent: u8, random: &mut TestRandom) -> Vec<ValidatorIndex> {
    let mut stake: u64 = authors.iter().map(|a| committee.stake(*a)).sum();
    let mut kept = authors;
    kept.retain(|author| {
        let left = stake - committee.stake(*author);
        let leave = left >= committee.quorum() && random.chance(percent);
        if leave {
            stake = left;
        }
        !leave
    });
    kept
}

struct Builder<'a> {
    committee: &'a Committee,
    blocks: Vec<(BlockRef, Arc<Header>)>,
    /// Blocks by round, from the start round on, and author.
    rounds: Vec<BTreeMap<ValidatorIndex, Vec<BlockRef>>>,
    headers: BTreeMap<BlockRef, Arc<Header>>,
}

impl<'a> Builder<'a> {
    fn new(committee: &'a Committee) -> Self {
        let genesis = committee.genesis_blocks().into_iter().map(|b| (b.author, vec![b])).collect();
        Self { committee, blocks: Vec::new(), rounds: vec![genesis], headers: BTreeMap::new() }
    }

    fn position(&self, round: Round) -> usize {
        (round - self.committee.start_round()) as usize
    }

    fn add(&mut self, shape: &Shape, round: Round, author: ValidatorIndex, random: &mut TestRandom) {
        let before = &self.rounds[self.position(round) - 1];
        let mut authors: Vec<ValidatorIndex> = before.keys().copied().filter(|a| *a != author).collect();
        random.shuffle(&mut authors);
        // The own one goes last so that it is the one to stay when a quorum needs it; it is put back if it was left out.
        authors.extend(before.contains_key(&author).then_some(author));
        let chosen = thin_out(self.committee, authors, shape.unlinked, random);
        let mut parents: BTreeMap<ValidatorIndex, BlockRef> =
            chosen.into_iter().map(|a| (a, before[&a][random.below(before[&a].len())])).collect();
        if !parents.contains_key(&author) {
            let own = self.rounds.iter().rev().filter_map(|r| r.get(&author)).flatten().find(|b| b.round < round);
            parents.extend(own.map(|b| (author, *b)));
        }
        if random.chance(shape.weak) {
            parents.extend(self.unseen(round, &parents, random).map(|b| (b.author, b)));
        }
        let own = parents.remove(&author);
        let parents: Vec<BlockRef> = own.into_iter().chain(parents.into_values()).collect();
        let newest = parents.iter().filter_map(|p| self.headers.get(p)).map(|h| h.timestamp_ms).max().unwrap_or(1_000_000);
        let mut header = header(self.committee, round, author, newest + random.below(60) as u64, parents);
        header.transaction_count = u32::from(random.chance(shape.transactions));
        // Two blocks of one author and round must differ even if all of the above came out alike.
        header.body_bytes = self.blocks.len() as u32;
        self.push(header);
    }

    /// A block of the last rounds before `round − 1` that is not reached from `parents`, by an author that has no parent there yet.
    fn unseen(&self, round: Round, parents: &BTreeMap<ValidatorIndex, BlockRef>, random: &mut TestRandom) -> Option<BlockRef> {
        let mut seen: BTreeSet<BlockRef> = BTreeSet::new();
        let mut open: Vec<BlockRef> = parents.values().copied().collect();
        while let Some(block) = open.pop() {
            if block.round + 12 > round && seen.insert(block) {
                open.extend(self.headers.get(&block).iter().flat_map(|h| h.parents.iter().copied()));
            }
        }
        let start_round = self.committee.start_round();
        let old = self.rounds.iter().rev().flat_map(|r| r.values().flatten().copied());
        let old = old.skip_while(|b| b.round + 1 >= round).take_while(|b| b.round > start_round && b.round + 10 > round);
        let unseen: Vec<BlockRef> = old.filter(|b| !seen.contains(b) && !parents.contains_key(&b.author)).collect();
        (!unseen.is_empty()).then(|| unseen[random.below(unseen.len())])
    }

    fn push(&mut self, header: Header) {
        let header = Arc::new(header);
        let reference = header.reference();
        let position = self.position(header.round);
        if self.rounds.len() <= position {
            self.rounds.push(BTreeMap::new());
        }
        self.rounds[position].entry(header.author).or_default().push(reference);
        self.headers.insert(reference, Arc::clone(&header));
        self.blocks.push((reference, header));
    }
}
