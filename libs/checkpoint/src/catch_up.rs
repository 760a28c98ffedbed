//! Recovery without trust: how a validator that lost its disk, or was away for too long, gets the state of a certified checkpoint.
//!
//! ```text
//!            ┌─ survey: every peer's newest certified checkpoint, with the ends of the epochs that lead there
//!   poll ───▶│
//!  (asks)    └─ source: one peer's state, page by page, then its commits up to the newest checkpoint (see download.rs)
//!                                                   │ root of the state == the checkpoint's?
//!   answer ──▶ certificates, chains, limits         ├─ yes ──▶ Installed
//!              │ wrong, too large, too late         └─ no ───▶ the next source, from the beginning
//!              └──▶ the peer is given up
//! ```
//!
//! Certificates speak for themselves whoever sends them, so they are collected from all peers. State comes from one peer at a time: when
//! it turns out wrong, it is clear who lied. A stale peer can at worst make the result as old as its newest certified checkpoint, and only
//! if no other peer answers in time.
//!
//! A peer that claims a state far ahead of every checkpoint costs `target_ms_max`; every other lie costs no more than what was read.
//!
//! Pure: requests are values, time is an argument. Memory is bounded by the limits in [`CatchUpConfig`].

mod download;
mod installed;
mod message;

pub use installed::Installed;
pub use message::{CatchUpAnswer, CatchUpConfig, CatchUpRequest, PeerFault};

use crate::EpochChain;
use download::Download;
use kaldrix_types::{BlockVerifier, CertifiedCheckpoint, CommitIndex, Epoch, decode};

/// A question to be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CatchUpAsk<P> {
    /// Goes back with the answer.
    pub id: u64,
    /// To whom.
    pub peer: P,
    /// What.
    pub request: CatchUpRequest,
}

/// How a catch-up ended.
#[derive(Debug)]
pub enum CatchUpOutcome {
    /// With a verified state.
    Installed(Box<Installed>),
    /// No peer has a certified checkpoint behind the own last commit: blocks and commits are to be had the ordinary way.
    NothingNewer,
    /// No peer is left. Begin again later, with all of them.
    Failed,
}

/// Where a catch-up is, for logs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CatchUpProgress {
    /// Peers that are not given up.
    pub peers: usize,
    /// The newest epoch whose validators are known.
    pub epoch: Epoch,
    /// The newest certified checkpoint that is known.
    pub checkpoint: Option<u64>,
    /// Records read.
    pub records: u64,
    /// Next commit to be read, while commits are read.
    pub commit: Option<CommitIndex>,
}

/// See the module's text. `P` names a peer. Call [`Self::poll`] after every answer and at least every few 100 ms, until
/// [`Self::outcome`] has something.
#[derive(Debug)]
pub struct CatchUp<P> {
    config: CatchUpConfig,
    /// Where this began.
    start: EpochChain,
    chain: EpochChain,
    epoch_ends: Vec<CertifiedCheckpoint>,
    own_last: CommitIndex,
    peers: Vec<Peer<P>>,
    /// The newest certified checkpoint that anybody has shown.
    best: Option<CertifiedCheckpoint>,
    source: Option<Source<P>>,
    /// Counts surveys; when the running one began.
    survey: (u64, u64),
    next_id: u64,
    given_up: Vec<(P, PeerFault)>,
    outcome: Option<CatchUpOutcome>,
    is_over: bool,
}

#[derive(Debug)]
struct Peer<P> {
    id: P,
    asked: Option<Asked>,
    /// Late or refused answers in a row.
    strikes: u32,
    /// The last survey that it has answered.
    surveyed: u64,
    /// The epoch of a checkpoint it has shown. If that is not known here, it is asked for the ends of those before.
    epoch: Epoch,
    /// Index of the newest certified checkpoint it has shown.
    claim: Option<u64>,
}

#[derive(Clone, Copy, Debug)]
struct Asked {
    id: u64,
    what: What,
    sent_ms: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum What {
    Newest,
    /// When the newest known epoch was this one.
    EpochEnds(Epoch),
    Source,
}

#[derive(Debug)]
struct Source<P> {
    peer: P,
    download: Download,
    since_ms: u64,
    /// Since when all pages are here and no checkpoint covers them.
    waiting_since_ms: Option<u64>,
}

impl<P: Clone + PartialEq> CatchUp<P> {
    /// For one who knows the validators up to `chain` ([`EpochChain::from_genesis`], or after the last epoch's end in the own store) and
    /// has executed up to `own_last` (0: nothing). The clock is monotonic, in milliseconds.
    #[must_use]
    pub fn new(config: CatchUpConfig, chain: EpochChain, own_last: CommitIndex, peers: impl IntoIterator<Item = P>, now_ms: u64) -> Self {
        let peer = |id| Peer { id, asked: None, strikes: 0, surveyed: 0, epoch: 0, claim: None };
        Self {
            config,
            start: chain.clone(),
            chain,
            epoch_ends: Vec::new(),
            own_last,
            peers: peers.into_iter().map(peer).collect(),
            best: None,
            source: None,
            survey: (1, now_ms),
            next_id: 0,
            given_up: Vec::new(),
            outcome: None,
            is_over: false,
        }
    }

    /// The questions to be sent now. Each is to be answered with [`Self::answer`], by [`CatchUpAnswer::Refused`] if it cannot be sent.
    pub fn poll(&mut self, now_ms: u64) -> Vec<CatchUpAsk<P>> {
        self.expire(now_ms);
        self.look_after_source(now_ms);
        self.choose_source(now_ms);
        if self.is_over {
            return Vec::new();
        }
        let mut asks = Vec::new();
        for i in 0..self.peers.len() {
            let Some((what, request)) = self.next_question(i) else { continue };
            let id = self.next_id;
            self.next_id += 1;
            self.peers[i].asked = Some(Asked { id, what, sent_ms: now_ms });
            asks.push(CatchUpAsk { id, peer: self.peers[i].id.clone(), request });
        }
        asks
    }

    /// Takes the answer to question `id`. One that is too late is not looked at.
    pub fn answer(&mut self, id: u64, answer: CatchUpAnswer, now_ms: u64, verifier: &impl BlockVerifier) {
        let is_it = |peer: &Peer<P>| peer.asked.is_some_and(|asked| asked.id == id);
        let Some(i) = self.peers.iter().position(is_it).filter(|_| !self.is_over) else { return };
        let Some(asked) = self.peers[i].asked.take() else { return };
        let taken = match answer {
            CatchUpAnswer::Refused => return self.strike(i, asked.what, now_ms),
            answer if answer.size() > self.config.answer_bytes_max => Err(PeerFault::TooLarge("answer")),
            CatchUpAnswer::Checkpoints(items) if asked.what == What::Newest => self.take_newest(i, &items, verifier),
            CatchUpAnswer::Checkpoints(items) if asked.what != What::Source => self.take_epoch_ends(asked.what, &items, verifier),
            answer if asked.what == What::Source => self.take_from_source(answer),
            _ => Err(PeerFault::Malformed("an answer to another question")),
        };
        match taken {
            Ok(()) => self.peers[i].strikes = 0,
            Err(fault) => self.give_up(i, fault, now_ms),
        }
    }

    /// How it ended, once.
    pub const fn outcome(&mut self) -> Option<CatchUpOutcome> {
        self.outcome.take()
    }

    /// Peers that were given up, with why, since the last call.
    pub fn given_up(&mut self) -> Vec<(P, PeerFault)> {
        std::mem::take(&mut self.given_up)
    }

    /// Where this is.
    #[must_use]
    pub fn progress(&self) -> CatchUpProgress {
        CatchUpProgress {
            peers: self.peers.len(),
            epoch: self.chain.committee().epoch(),
            checkpoint: self.best.as_ref().map(|best| best.checkpoint.index),
            records: self.source.as_ref().map_or(0, |source| source.download.records()),
            commit: self.source.as_ref().and_then(|source| source.download.next_commit()),
        }
    }

    fn next_question(&self, i: usize) -> Option<(What, CatchUpRequest)> {
        let peer = &self.peers[i];
        if peer.asked.is_some() {
            return None;
        }
        if let Some(source) = self.source.as_ref().filter(|source| source.peer == peer.id)
            && let Some(request) = source.download.request(&self.config)
        {
            return Some((What::Source, request));
        }
        // While pages and commits are read, nobody needs another checkpoint.
        if self.source.as_ref().is_some_and(|source| source.waiting_since_ms.is_none()) || peer.surveyed >= self.survey.0 {
            return None;
        }
        Some(if peer.epoch > self.chain.committee().epoch() {
            let from_index = self.chain.last_end().map_or(0, |end| end.index) + 1;
            let what = What::EpochEnds(self.chain.committee().epoch());
            (what, CatchUpRequest::Checkpoints { from_index, epoch_ends_only: true, limit: EPOCH_ENDS_PER_REQUEST })
        } else {
            (What::Newest, CatchUpRequest::Checkpoints { from_index: 0, epoch_ends_only: false, limit: 1 })
        })
    }

    fn take_newest(&mut self, i: usize, items: &[bytes::Bytes], verifier: &impl BlockVerifier) -> Result<(), PeerFault> {
        let newest = match items {
            [] => None,
            [one] => Some(decode_checkpoint(one)?),
            _ => return Err(PeerFault::Malformed("more checkpoints than asked for")),
        };
        let claim = newest.as_ref().map(|newest| newest.checkpoint.index);
        if let Some(newest) = newest {
            match newest.checkpoint.epoch.cmp(&self.chain.committee().epoch()) {
                std::cmp::Ordering::Greater => {
                    self.peers[i].epoch = newest.checkpoint.epoch;
                    return Ok(());
                }
                std::cmp::Ordering::Equal => self.take_certified(newest, verifier)?,
                // Epochs have ended since; nothing is claimed that is of use.
                std::cmp::Ordering::Less => {}
            }
        }
        self.peers[i].claim = claim;
        self.peers[i].surveyed = self.survey.0;
        Ok(())
    }

    fn take_epoch_ends(&mut self, what: What, items: &[bytes::Bytes], verifier: &impl BlockVerifier) -> Result<(), PeerFault> {
        if items.len() > EPOCH_ENDS_PER_REQUEST as usize {
            return Err(PeerFault::Malformed("more checkpoints than asked for"));
        }
        for bytes in items {
            let end = decode_checkpoint(bytes)?;
            // Another peer may have shown it in the meantime.
            if end.checkpoint.epoch >= self.chain.committee().epoch() {
                if end.checkpoint.next_epoch.is_none() {
                    return Err(PeerFault::Malformed("a checkpoint that ends no epoch"));
                }
                self.take_certified(end, verifier)?;
            }
        }
        if what == What::EpochEnds(self.chain.committee().epoch()) {
            // It claimed a later epoch, and cannot show how it came about.
            return Err(PeerFault::NotCertified);
        }
        Ok(())
    }

    fn take_certified(&mut self, certified: CertifiedCheckpoint, verifier: &impl BlockVerifier) -> Result<(), PeerFault> {
        if certified.checkpoint.next_epoch.is_some() {
            self.chain.advance(&certified, verifier).map_err(|_| PeerFault::NotCertified)?;
            self.epoch_ends.push(certified.clone());
        } else if self.best.as_ref().is_some_and(|best| best.checkpoint == certified.checkpoint) {
            // What is known needs no second look at its signatures.
            return Ok(());
        } else {
            self.chain.check(&certified, verifier).map_err(|_| PeerFault::NotCertified)?;
        }
        if self.best.as_ref().is_none_or(|best| best.checkpoint.index < certified.checkpoint.index) {
            self.best = Some(certified);
        }
        Ok(())
    }

    fn take_from_source(&mut self, answer: CatchUpAnswer) -> Result<(), PeerFault> {
        let Some(source) = &mut self.source else { return Ok(()) };
        source.download.take(answer, &self.config)?;
        if let Some(source) = self.source.take_if(|source| source.download.is_complete()) {
            let installed = Installed::new(source.download.finish()?, &self.start, &self.epoch_ends, self.config.gc_depth);
            self.end(CatchUpOutcome::Installed(Box::new(installed)));
        }
        Ok(())
    }

    /// Late answers.
    fn expire(&mut self, now_ms: u64) {
        let is_late = |asked: &Asked, config: &CatchUpConfig| now_ms.saturating_sub(asked.sent_ms) >= config.answer_ms_max;
        while let Some(i) = self.peers.iter().position(|peer| peer.asked.is_some_and(|asked| is_late(&asked, &self.config))) {
            if let Some(asked) = self.peers[i].asked.take() {
                self.strike(i, asked.what, now_ms);
            }
        }
    }

    fn strike(&mut self, i: usize, what: What, now_ms: u64) {
        self.peers[i].strikes += 1;
        if self.peers[i].strikes >= self.config.strikes_max {
            self.give_up(i, PeerFault::Silent, now_ms);
        } else if what != What::Source {
            // It has had its turn in this survey.
            (self.peers[i].surveyed, self.peers[i].claim) = (self.survey.0, None);
        }
    }

    fn give_up(&mut self, i: usize, fault: PeerFault, now_ms: u64) {
        let peer = self.peers.remove(i);
        if self.source.take_if(|source| source.peer == peer.id).is_some() {
            self.new_survey(now_ms);
        }
        self.given_up.push((peer.id, fault));
    }

    fn new_survey(&mut self, now_ms: u64) {
        self.survey = (self.survey.0 + 1, now_ms);
    }

    /// Gives the source its target, or gives it up when its time is over.
    fn look_after_source(&mut self, now_ms: u64) {
        let Some(source) = &mut self.source else { return };
        let mut fault = (now_ms.saturating_sub(source.since_ms) >= self.config.source_ms_max).then_some(PeerFault::TooSlow);
        if let Some(needed) = source.download.needs_target() {
            if let Some(target) = self.best.as_ref().filter(|best| best.checkpoint.last_commit >= needed) {
                source.waiting_since_ms = None;
                fault = fault.or(source.download.aim(target.clone(), &self.config).err());
            } else {
                let since_ms = *source.waiting_since_ms.get_or_insert(now_ms);
                if now_ms.saturating_sub(since_ms) >= self.config.target_ms_max {
                    fault = fault.or(Some(PeerFault::Missing("a certified checkpoint behind its state")));
                } else if now_ms.saturating_sub(self.survey.1) >= self.config.poll_ms {
                    self.survey = (self.survey.0 + 1, now_ms);
                }
            }
        }
        let peer = source.peer.clone();
        if let (Some(fault), Some(i)) = (fault, self.peers.iter().position(|p| p.id == peer)) {
            self.give_up(i, fault, now_ms);
        }
    }

    /// Ends the survey, when it is time.
    fn choose_source(&mut self, now_ms: u64) {
        if self.source.is_some() || self.is_over {
            return;
        }
        if self.peers.is_empty() {
            return self.end(CatchUpOutcome::Failed);
        }
        let have_all_answered = self.peers.iter().all(|peer| peer.surveyed >= self.survey.0);
        let newer = self.best.as_ref().filter(|best| best.checkpoint.last_commit > self.own_last);
        let is_enough = newer.is_some() && now_ms.saturating_sub(self.survey.1) >= self.config.survey_ms;
        if !have_all_answered && !is_enough {
            return;
        }
        // The first of those that have come furthest; `max_by_key` would take the last.
        let claims = self.peers.iter().filter(|peer| peer.surveyed >= self.survey.0 && peer.claim.is_some());
        let source = claims.rev().max_by_key(|peer| peer.claim).map(|peer| peer.id.clone());
        match source {
            Some(peer) if newer.is_some() => {
                self.source = Some(Source { peer, download: Download::new(), since_ms: now_ms, waiting_since_ms: None });
            }
            Some(_) => self.end(CatchUpOutcome::NothingNewer),
            // Somebody answered, and has no checkpoint.
            None if newer.is_none() && self.peers.iter().any(|peer| peer.strikes == 0) && have_all_answered => {
                self.end(CatchUpOutcome::NothingNewer);
            }
            // Nobody who answers has a state to give: ask again, as long as their strikes allow.
            None if have_all_answered => self.new_survey(now_ms),
            None => {}
        }
    }

    fn end(&mut self, outcome: CatchUpOutcome) {
        (self.outcome, self.is_over, self.source) = (Some(outcome), true, None);
    }
}

/// Epochs whose ends are asked for at a time.
const EPOCH_ENDS_PER_REQUEST: u32 = 64;

fn decode_checkpoint(bytes: &[u8]) -> Result<CertifiedCheckpoint, PeerFault> {
    decode(bytes, bytes.len()).map_err(|_| PeerFault::Malformed("a checkpoint"))
}
