//! From votes in headers to certificates.

use kaldrix_types::{CertifiedCheckpoint, Checkpoint, Committee, Digest, SignedHeader, ValidatorIndex, VerifiedBlock};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Votes that are kept of one validator: its newest. Also how far behind the newest certified index others are still of interest.
pub const WINDOW: u64 = 64;
/// Own checkpoints that are kept while they wait for votes: the newest.
const OWN_MAX: usize = 1_024;

/// What the votes have come to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CertifierEvent {
    /// A quorum has voted for a checkpoint that was computed here, too. The certificate holds no vote that it could do without.
    Certified(CertifiedCheckpoint),
    /// At least one correct validator has computed another checkpoint than this one: a bug or a damaged store. Stop, and say so loudly.
    Diverged {
        /// Which checkpoint.
        index: u64,
        /// What was computed here.
        own: Digest,
        /// The other digest with the most votes.
        other: Digest,
        /// Stake that voted for anything else than `own`.
        stake: u64,
    },
}

/// Collects the checkpoint votes of one epoch's validators.
///
/// Votes and own checkpoints come in any order. A validator's first vote for an index counts, others do not, and of each validator at
/// most [`WINDOW`] votes are kept: whoever sends nonsense displaces nothing but its own. Certificates come in any order of indices, each
/// once. Votes are lost for one who executes a [`WINDOW`] later than others vote, and at a restart: such a checkpoint's certificate comes
/// from a peer ([`Self::on_certificate`]).
#[derive(Clone, Debug)]
pub struct Certifier {
    committee: Arc<Committee>,
    own: BTreeMap<u64, Own>,
    votes: BTreeMap<ValidatorIndex, BTreeMap<u64, Vote>>,
    /// What was certified lately.
    certified: BTreeMap<u64, Digest>,
}

#[derive(Clone, Debug)]
struct Own {
    checkpoint: Checkpoint,
    digest: Digest,
    has_diverged: bool,
}

#[derive(Clone, Debug)]
struct Vote {
    digest: Digest,
    /// Shared by all votes of one header.
    header: Arc<SignedHeader>,
}

impl Certifier {
    /// For the epoch of `committee`.
    #[must_use]
    pub fn new(committee: impl Into<Arc<Committee>>) -> Self {
        Self { committee: committee.into(), own: BTreeMap::new(), votes: BTreeMap::new(), certified: BTreeMap::new() }
    }

    /// This validator has computed a checkpoint (or had before it started). One of another epoch is not looked at.
    pub fn note_own(&mut self, checkpoint: &Checkpoint) -> Vec<CertifierEvent> {
        let index = checkpoint.index;
        if checkpoint.epoch != self.committee.epoch() {
            return Vec::new();
        }
        let digest = checkpoint.digest();
        if let Some(certified) = self.certified.get(&index) {
            let stake = self.committee.quorum();
            let diverged = CertifierEvent::Diverged { index, own: digest, other: *certified, stake };
            return if *certified == digest { Vec::new() } else { vec![diverged] };
        }
        if index <= self.floor() {
            return Vec::new();
        }
        self.own.insert(index, Own { checkpoint: checkpoint.clone(), digest, has_diverged: false });
        if self.own.len() > OWN_MAX {
            self.own.pop_first();
        }
        self.judge(index).into_iter().collect()
    }

    /// A block of this epoch was verified: counts the votes in its header.
    pub fn on_block(&mut self, block: &VerifiedBlock) -> Vec<CertifierEvent> {
        let header = block.header();
        if header.checkpoint_votes.is_empty() || header.epoch != self.committee.epoch() || self.committee.get(header.author).is_none() {
            return Vec::new();
        }
        let floor = self.floor();
        let mut signed = None;
        let mut touched = BTreeSet::new();
        let of_author = self.votes.entry(header.author).or_default();
        for vote in &header.checkpoint_votes {
            if vote.index <= floor || self.certified.contains_key(&vote.index) || of_author.contains_key(&vote.index) {
                continue;
            }
            let header_of = || Arc::new(SignedHeader { header: header.clone(), signature: block.block().signature.clone() });
            of_author.insert(vote.index, Vote { digest: vote.digest, header: Arc::clone(signed.get_or_insert_with(header_of)) });
            touched.insert(vote.index);
            if of_author.len() as u64 > WINDOW {
                of_author.pop_first();
            }
        }
        touched.into_iter().filter_map(|index| self.judge(index)).collect()
    }

    /// A certificate from a peer, whose signatures hold, stands for the votes that are missing. Nothing comes of one that is known.
    pub fn on_certificate(&mut self, certified: &CertifiedCheckpoint) -> Vec<CertifierEvent> {
        let index = certified.checkpoint.index;
        let is_known = index <= self.floor() || self.certified.contains_key(&index);
        if certified.checkpoint.epoch != self.committee.epoch() || is_known {
            return Vec::new();
        }
        let other = certified.checkpoint.digest();
        let own = self.own.get(&index).map_or(other, |own| own.digest);
        let stake = certified.votes.iter().map(|vote| self.committee.stake(vote.header.author)).sum();
        self.settle(index, other);
        if own == other {
            vec![CertifierEvent::Certified(certified.clone())]
        } else {
            vec![CertifierEvent::Diverged { index, own, other, stake }]
        }
    }

    /// Own checkpoints that wait for their quorum, ascending.
    pub fn waiting(&self) -> impl Iterator<Item = &Checkpoint> {
        self.own.values().map(|own| &own.checkpoint)
    }

    /// Indices up to here are of no interest any more.
    fn floor(&self) -> u64 {
        self.certified.last_key_value().map_or(0, |(newest, _)| newest.saturating_sub(WINDOW))
    }

    fn judge(&mut self, index: u64) -> Option<CertifierEvent> {
        let own = self.own.get_mut(&index)?;
        let (mut for_own, mut against) = (Vec::new(), BTreeMap::<Digest, u64>::new());
        for (author, votes) in &self.votes {
            match votes.get(&index) {
                Some(vote) if vote.digest == own.digest => for_own.push((self.committee.stake(*author), &vote.header)),
                Some(vote) => *against.entry(vote.digest).or_default() += self.committee.stake(*author),
                None => {}
            }
        }
        if let Some(votes) = smallest_quorum(self.committee.quorum(), for_own) {
            let (checkpoint, digest) = (own.checkpoint.clone(), own.digest);
            self.settle(index, digest);
            return Some(CertifierEvent::Certified(CertifiedCheckpoint { checkpoint, votes }));
        }
        // Who votes for anything else than what is right is faulty; more than all faulty ones together cannot be faulty.
        let stake: u64 = against.values().sum();
        let (other, _) = against.into_iter().max_by_key(|(_, stake)| *stake)?;
        if stake < self.committee.validity() || own.has_diverged {
            return None;
        }
        own.has_diverged = true;
        Some(CertifierEvent::Diverged { index, own: own.digest, other, stake })
    }

    /// Nothing more is to be learned about this index.
    fn settle(&mut self, index: u64, digest: Digest) {
        self.certified.insert(index, digest);
        let floor = self.floor();
        self.certified.retain(|index, _| *index > floor);
        self.own.retain(|other, _| *other > floor && *other != index);
        for votes in self.votes.values_mut() {
            votes.retain(|other, _| *other > floor && *other != index);
        }
    }
}

/// Votes of a quorum, ascending by author, of which none can be left out; `None` when there is no quorum. Largest stakes first, which
/// makes it small. `votes` ascend by author.
fn smallest_quorum(quorum: u64, mut votes: Vec<(u64, &Arc<SignedHeader>)>) -> Option<Vec<SignedHeader>> {
    votes.sort_by_key(|(stake, _)| std::cmp::Reverse(*stake));
    let mut sum = 0u64;
    let last = votes.iter().position(|(stake, _)| {
        sum += stake;
        sum >= quorum
    })?;
    votes.truncate(last + 1);
    votes.sort_by_key(|(_, header)| header.header.author);
    Some(votes.into_iter().map(|(_, header)| SignedHeader::clone(header)).collect())
}
