//! DAGs drawn as text.
//!
//! ```text
//!   validators A B C D            four of stake 1; `A=5` gives stake
//!   1: *                          everybody makes a block; without a list it links everything of the round before
//!   2: * -D B(-A) C(A B C')       all but D; B2 does not link A1; C2 links just A1, B1 and the second block C1'
//!   3: A A'(B C) B C(* D1)        A equivocates: A3 and A3'; C3 links all of round 2 and, weakly, D1
//!   => B1 direct-commit           what is to be found when the blocks drawn so far are there, and no more than that
//!   2: D                          a late block: drawn, and delivered, after blocks of higher rounds
//!   =>                            it changes nothing
//! ```
//!
//! - `validators A B C D from 40`: the epoch begins at round 40. `A40` is then a genesis block, and the first round to draw is 41.
//! - Each `=>` line adds to what is expected; a stage ends with the last one of a group. Blocks below the last group must change nothing.
//! - A block is called author, round, and one prime for each further block by that author in that round: `A1`, `A1'`.
//!   In a parent list the round may be left out: it is then the round before.
//! - `*` takes the first block of each author of the round before, `-A` all but A's (and implies `*`); a name replaces what `*` took of that author.
//!   At most one parent per author, as the protocol has it.
//! - A block always links its author's newest earlier block first, also when the list leaves it out (weakly if that is older than the
//!   round before), unless the list names another or `-A` excludes it.
//! - `#` begins a comment.

use kaldrix_types::{Address, BlockRef, ChainId, Committee, Digest, Epoch, Header, PublicKey, Round, Scheme, Validator, ValidatorIndex};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// A committee whose validators `A`, `B`, … have these stakes, all in region `test`. Keys are numbers, not keys.
///
/// # Panics
/// When the stakes form no committee.
#[must_use]
pub fn committee(stakes: &[u64]) -> Arc<Committee> {
    committee_in(0, 0, stakes)
}

/// The same in this epoch, which begins at this round.
///
/// # Panics
/// When the stakes form no committee.
#[must_use]
pub fn committee_in(epoch: Epoch, start_round: Round, stakes: &[u64]) -> Arc<Committee> {
    let validators = stakes.iter().enumerate().map(|(i, stake)| {
        let mut number = [0xaa; 32];
        number[..8].copy_from_slice(&(i as u64 + 1).to_be_bytes());
        let key = PublicKey::new(Scheme::Ed25519, number.to_vec()).expect("an Ed25519 key is any 32 bytes");
        let name = if i < 26 { letter(i).to_string() } else { format!("V{i}") };
        Validator { name, region: "test".to_owned(), stake: *stake, key, operator: Address(number) }
    });
    let committee = Committee::new(ChainId::default(), epoch, validators.collect()).expect("the stakes of a test form a committee");
    Arc::new(committee.starting_at(start_round))
}

/// A header without transactions and votes, for tests that need no real block.
#[must_use]
pub fn header(committee: &Committee, round: Round, author: ValidatorIndex, timestamp_ms: u64, parents: Vec<BlockRef>) -> Header {
    Header {
        version: Header::VERSION,
        chain_id: committee.chain(),
        epoch: committee.epoch(),
        round,
        author,
        timestamp_ms,
        parents,
        transactions_root: Digest::ZERO,
        transaction_count: 0,
        body_bytes: 0,
        commit_votes: Vec::new(),
        checkpoint_votes: Vec::new(),
    }
}

/// One block of a picture.
#[derive(Clone, Debug)]
pub struct Drawn {
    /// Its name, as `A1'`.
    pub name: String,
    /// Its reference: round, author and the digest of the header.
    pub reference: BlockRef,
    /// Its header; time is 1000 ms per round.
    pub header: Arc<Header>,
}

/// A moment of a picture at which a test looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stage {
    /// How many of the blocks are there.
    pub blocks: usize,
    /// How many of the expected lines hold then.
    pub expected: usize,
}

/// A DAG read from a drawing.
#[derive(Clone, Debug)]
pub struct Picture {
    /// The validators.
    pub committee: Arc<Committee>,
    /// The blocks line by line, within a line by author and prime: parents come first.
    pub blocks: Vec<Drawn>,
    /// What stands behind `=>`, line by line; without those that are empty.
    pub expected: Vec<String>,
    /// Where the groups of `=>` lines stand; the last one has all blocks.
    pub stages: Vec<Stage>,
    names: BTreeMap<String, BlockRef>,
}

impl Picture {
    /// Reads a drawing.
    ///
    /// # Panics
    /// When it cannot be read, with the line that is wrong: drawings are written by hand, for tests.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let mut lines = text.lines().map(|line| line.split('#').next().unwrap_or_default().trim()).filter(|line| !line.is_empty());
        let first = lines.next().expect("a picture begins with its validators");
        let mut picture =
            Self { committee: read_committee(first), blocks: Vec::new(), expected: Vec::new(), stages: Vec::new(), names: BTreeMap::new() };
        for genesis in picture.committee.genesis_blocks() {
            picture.names.insert(name(genesis.round, genesis.author, 0), genesis);
        }
        for line in lines {
            if let Some(expected) = line.strip_prefix("=>").map(str::trim) {
                picture.expected.extend((!expected.is_empty()).then(|| expected.to_owned()));
                picture.end_stage();
            } else {
                let (round, blocks) = line.split_once(':').unwrap_or_else(|| panic!("expected `round: blocks`, found `{line}`"));
                picture.draw_round(round.trim().parse().unwrap_or_else(|_| panic!("no round: `{line}`")), blocks);
            }
        }
        picture.end_stage();
        picture
    }

    fn end_stage(&mut self) {
        let stage = Stage { blocks: self.blocks.len(), expected: self.expected.len() };
        self.stages.retain(|s| s.blocks < stage.blocks);
        self.stages.push(stage);
    }

    /// The block of this name (genesis blocks are `A0`, `B0`, … in an epoch from round 0).
    ///
    /// # Panics
    /// When there is none.
    #[must_use]
    pub fn reference(&self, name: &str) -> BlockRef {
        *self.names.get(name).unwrap_or_else(|| panic!("the picture has no block {name}"))
    }

    /// The name of a block, or its reference as text if it is not of this picture.
    #[must_use]
    pub fn name_of(&self, reference: &BlockRef) -> String {
        self.names.iter().find(|(_, r)| *r == reference).map_or_else(|| reference.to_string(), |(name, _)| name.clone())
    }

    /// The letter of a validator.
    #[must_use]
    pub fn author_name(author: ValidatorIndex) -> String {
        letter(author.as_usize()).to_string()
    }

    fn draw_round(&mut self, round: Round, text: &str) {
        assert!(round > self.committee.start_round(), "round {round} is not of the epoch");
        let mut wanted: BTreeMap<(ValidatorIndex, usize), String> = BTreeMap::new();
        let mut left_out = BTreeSet::new();
        for token in tokens(text) {
            if token == "*" {
                for author in self.committee.indices() {
                    wanted.entry((author, 0)).or_insert_with(|| "*".to_owned());
                }
            } else if let Some(author) = token.strip_prefix('-') {
                left_out.insert(self.author(author));
            } else {
                let (block, parents) = token.split_once('(').unwrap_or((&token, "*)"));
                let (author, named_round, prime) = self.split_name(block, round);
                assert_eq!(named_round, round, "{block} stands in the line of round {round}");
                wanted.insert((author, prime), parents.trim_end_matches(')').to_owned());
            }
        }
        for ((author, prime), parents) in wanted.into_iter().filter(|((author, _), _)| !left_out.contains(author)) {
            self.draw_block(round, author, prime, &parents);
        }
    }

    fn draw_block(&mut self, round: Round, author: ValidatorIndex, prime: usize, list: &str) {
        let mut parents: BTreeMap<ValidatorIndex, BlockRef> = BTreeMap::new();
        let mut excluded = BTreeSet::new();
        let mut named = Vec::new();
        let mut all = false;
        for token in list.split_whitespace() {
            if token == "*" {
                all = true;
            } else if let Some(letter) = token.strip_prefix('-') {
                all = true;
                excluded.insert(self.author(letter));
            } else {
                let (parent, of_round, prime) = self.split_name(token, round - 1);
                assert!(of_round < round, "{token} is no parent for a block of round {round}");
                named.push((parent, self.reference(&name(of_round, parent, prime))));
            }
        }
        if all {
            let before = self.committee.indices().filter_map(|a| Some((a, *self.names.get(&name(round - 1, a, 0))?)));
            parents.extend(before.filter(|(a, _)| !excluded.contains(a)));
        }
        parents.extend(named);
        if !excluded.contains(&author)
            && !parents.contains_key(&author)
            && let Some(own) = (0..round).rev().find_map(|r| self.names.get(&name(r, author, 0)))
        {
            parents.insert(author, *own);
        }
        let own = parents.remove(&author);
        let parents = own.into_iter().chain(parents.into_values()).collect();
        // The prime makes the digest of an equivocation another one.
        let header = Arc::new(header(&self.committee, round, author, round * 1000 + prime as u64, parents));
        let drawn = Drawn { name: name(round, author, prime), reference: header.reference(), header };
        let clash = self.names.insert(drawn.name.clone(), drawn.reference);
        assert!(clash.is_none(), "{} is drawn twice", drawn.name);
        self.blocks.push(drawn);
    }

    fn author(&self, text: &str) -> ValidatorIndex {
        self.committee.index_of(text).unwrap_or_else(|| panic!("`{text}` is no validator of this picture"))
    }

    /// `A`, `A'`, `A3`, `A3'` → author, round, primes.
    fn split_name(&self, text: &str, default_round: Round) -> (ValidatorIndex, Round, usize) {
        let bare = text.trim_end_matches('\'');
        let (author, round) = bare.split_at(bare.len().min(1));
        let round = if round.is_empty() { default_round } else { round.parse().unwrap_or_else(|_| panic!("`{text}` is no block")) };
        (self.author(author), round, text.len() - bare.len())
    }
}

fn read_committee(line: &str) -> Arc<Committee> {
    let text = line.strip_prefix("validators").unwrap_or_else(|| panic!("expected `validators A B …`, found `{line}`"));
    let (stakes, start_round) = text.split_once("from").unwrap_or((text, "0"));
    let start_round = start_round.trim().parse().unwrap_or_else(|_| panic!("no round: `{line}`"));
    committee_in(0, start_round, &read_stakes(stakes))
}

fn read_stakes(text: &str) -> Vec<u64> {
    let stake = |(i, token): (usize, &str)| {
        let (name, stake) = token.split_once('=').unwrap_or((token, "1"));
        assert_eq!(name, letter(i).to_string(), "validators are called A, B, … in order");
        stake.parse().unwrap_or_else(|_| panic!("`{token}` has no stake"))
    };
    text.split_whitespace().enumerate().map(stake).collect()
}

/// Splits at white space outside parentheses.
fn tokens(text: &str) -> Vec<String> {
    let mut tokens = vec![String::new()];
    let mut inside = false;
    for c in text.chars() {
        inside = (inside || c == '(') && c != ')';
        if c.is_whitespace() && !inside {
            tokens.push(String::new());
        } else if let Some(token) = tokens.last_mut() {
            token.push(c);
        }
    }
    tokens.retain(|t| !t.is_empty());
    tokens
}

fn name(round: Round, author: ValidatorIndex, prime: usize) -> String {
    format!("{}{round}{}", letter(author.as_usize()), "'".repeat(prime))
}

fn letter(index: usize) -> char {
    assert!(index < 26, "pictures have at most 26 validators");
    (b'A' + index as u8) as char
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parents(picture: &Picture, block: &str) -> String {
        let reference = picture.reference(block);
        let drawn = picture.blocks.iter().find(|b| b.reference == reference).expect("drawn");
        drawn.header.parents.iter().map(|p| picture.name_of(p)).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn a_picture_says_who_links_whom() {
        let picture = Picture::parse(
            "validators A B C=3 D
             1: * C'          # C equivocates
             2: * -D B(-A) C(A B C')
             3: A A'(B C) B(-B C) C(* D1) D
             => nothing yet",
        );
        assert_eq!(picture.committee.stake(ValidatorIndex(2)), 3);
        assert_eq!(parents(&picture, "A1"), "A0 B0 C0 D0");
        assert_eq!(parents(&picture, "A2"), "A1 B1 C1 D1");
        assert_eq!(parents(&picture, "B2"), "B1 C1 D1");
        assert_eq!(parents(&picture, "C2"), "C1' A1 B1");
        assert_eq!(parents(&picture, "A3'"), "A2 B2 C2");
        assert_eq!(parents(&picture, "B3"), "A2 C2");
        assert_eq!(parents(&picture, "C3"), "C2 A2 B2 D1");
        assert_eq!(parents(&picture, "D3"), "D1 A2 B2 C2");
        assert_eq!(picture.expected, ["nothing yet"]);
        assert_ne!(picture.reference("C1"), picture.reference("C1'"));
    }

    #[test]
    fn a_picture_is_looked_at_where_its_arrows_stand() {
        let picture = Picture::parse(
            "validators A B from 7
             8: A
             => first
             => second
             8: B            # late
             =>
             9: A",
        );
        assert_eq!(picture.expected, ["first", "second"]);
        let stage = |blocks, expected| Stage { blocks, expected };
        assert_eq!(picture.stages, [stage(1, 2), stage(2, 2), stage(3, 2)]);
        assert_eq!(parents(&picture, "B8"), "B7 A7");
        assert_eq!(parents(&picture, "A9"), "A8 B8");
    }
}
