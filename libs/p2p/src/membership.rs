//! Whose connections are kept, and what for: the committee changes while the network runs.

use kaldrix_types::{ChainId, Committee, KeyId, PublicKey, ValidatorIndex};
use std::collections::HashMap;

/// A session key without a seat in the running committee: of a registered validator that waits for one or has left, or the one that a
/// member signs with in the epoch before or after.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// The validator's name, as in [`crate::P2pConfig::peers`].
    pub name: String,
    /// The session key.
    pub key: PublicKey,
}

/// What a peer may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// A member of the committee: gets pushes, its pushes are taken, asks and is asked.
    Member(ValidatorIndex),
    /// No seat: asks and is asked. What it pushes is acknowledged unread.
    Candidate,
    /// An unknown key, while this node does not know today's keys ([`Membership::open`]): is asked, and may not ask.
    Guest,
}

struct Known {
    name: String,
    seat: Option<ValidatorIndex>,
}

/// The committee of the running epoch and those around it. A value: a new epoch makes a new one ([`crate::BlockNetwork::set_membership`]).
pub struct Membership {
    chain: ChainId,
    known: HashMap<KeyId, Known>,
    /// By index.
    seats: Vec<KeyId>,
    open: bool,
}

impl Membership {
    /// The members of `committee`, and `candidates`: every registered validator's session key that has no seat, the next and the previous
    /// keys of members that rotate (a peer may be an epoch ahead or behind), and the own key. A candidate with a member's key is that member.
    #[must_use]
    pub fn new(committee: &Committee, candidates: impl IntoIterator<Item = Candidate>) -> Self {
        let mut known: HashMap<KeyId, Known> =
            candidates.into_iter().map(|candidate| (candidate.key.id(), Known { name: candidate.name, seat: None })).collect();
        let mut seats = Vec::with_capacity(committee.size());
        for (index, validator) in committee.indices().zip(committee.validators()) {
            known.insert(validator.key.id(), Known { name: validator.name.clone(), seat: Some(index) });
            seats.push(validator.key.id());
        }
        Self { chain: committee.chain(), known, seats, open: false }
    }

    /// The same, and peers with unknown keys are kept as [`Role::Guest`]: for a node that was away, and trusts answers only by what they
    /// prove. A guest is whoever connects; ask those that this node dialled first ([`crate::ConnectedPeer::dialed`]).
    #[must_use]
    pub fn open(mut self) -> Self {
        self.open = true;
        self
    }

    /// The chain.
    #[must_use]
    pub const fn chain(&self) -> ChainId {
        self.chain
    }

    /// What the owner of this session key may do; `None`: it is not to be connected.
    #[must_use]
    pub fn role(&self, key: KeyId) -> Option<Role> {
        match self.known.get(&key) {
            Some(Known { seat: Some(index), .. }) => Some(Role::Member(*index)),
            Some(Known { seat: None, .. }) => Some(Role::Candidate),
            None => self.open.then_some(Role::Guest),
        }
    }

    /// The validator's name; `None` for an unknown key.
    #[must_use]
    pub fn name(&self, key: KeyId) -> Option<&str> {
        self.known.get(&key).map(|known| known.name.as_str())
    }

    /// The session key of the member at `index`.
    #[must_use]
    pub fn key_of(&self, index: ValidatorIndex) -> Option<KeyId> {
        self.seats.get(index.as_usize()).copied()
    }

    /// How many keys are known.
    pub(crate) fn size(&self) -> usize {
        self.known.len()
    }
}

impl std::fmt::Debug for Membership {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let candidates = self.known.len() - self.seats.len();
        f.debug_struct("Membership").field("members", &self.seats.len()).field("candidates", &candidates).field("open", &self.open).finish()
    }
}
