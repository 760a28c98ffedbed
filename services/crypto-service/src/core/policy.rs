//! What a key may sign at all, decided before anything else looks at a request.

use kaldrix_types::{ChainId, Digest, Epoch, Purpose, Round};

/// What is to be signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request {
    /// A block of this key's own; goes through the double-sign guard.
    Block {
        /// The block's chain.
        chain: ChainId,
        /// Its epoch.
        epoch: Epoch,
        /// Its round, from 1.
        round: Round,
        /// Hash of its unsigned header.
        digest: Digest,
    },
    /// The binding of a libp2p peer id to this key.
    PeerBinding {
        /// The chain it holds for.
        chain: ChainId,
        /// Hash of peer id and validator index.
        digest: Digest,
    },
}

impl Request {
    /// What the signature will say yes to.
    #[must_use]
    pub const fn purpose(&self) -> Purpose {
        match self {
            Self::Block { .. } => Purpose::Block,
            Self::PeerBinding { .. } => Purpose::PeerBinding,
        }
    }

    /// The chain that the caller names.
    #[must_use]
    pub const fn chain(&self) -> ChainId {
        match self {
            Self::Block { chain, .. } | Self::PeerBinding { chain, .. } => *chain,
        }
    }

    /// What is signed over.
    #[must_use]
    pub const fn digest(&self) -> Digest {
        match self {
            Self::Block { digest, .. } | Self::PeerBinding { digest, .. } => *digest,
        }
    }
}

/// Why the policy refuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PolicyError {
    /// The key is for another chain.
    #[error("this key signs for chain {expected} only; the caller is configured for another network")]
    WrongChain {
        /// The key's chain.
        expected: ChainId,
    },
    /// The key is not for this.
    #[error("this key does not sign for the purpose {0:?}; see [crypto] in the configuration")]
    Purpose(Purpose),
    /// Genesis blocks are never signed.
    #[error("round 0 blocks exist by definition and are never signed")]
    GenesisRound,
}

/// The rules of one key.
#[derive(Clone, Debug)]
pub struct Policy {
    chain: ChainId,
    purposes: Vec<Purpose>,
}

impl Policy {
    /// A key of `chain` that signs for `purposes` and nothing else.
    #[must_use]
    pub fn new(chain: ChainId, purposes: &[Purpose]) -> Self {
        Self { chain, purposes: purposes.to_vec() }
    }

    /// A validator's key: blocks and peer bindings of `chain`.
    #[must_use]
    pub fn validator(chain: ChainId) -> Self {
        Self::new(chain, &[Purpose::Block, Purpose::PeerBinding])
    }

    /// The chain this key is for.
    #[must_use]
    pub const fn chain(&self) -> ChainId {
        self.chain
    }

    /// Whether `request` may go on to the guard.
    ///
    /// # Errors
    /// [`PolicyError`], the first rule broken.
    pub fn check(&self, request: &Request) -> Result<(), PolicyError> {
        if request.chain() != self.chain {
            return Err(PolicyError::WrongChain { expected: self.chain });
        }
        if !self.purposes.contains(&request.purpose()) {
            return Err(PolicyError::Purpose(request.purpose()));
        }
        if matches!(request, Request::Block { round: 0, .. }) {
            return Err(PolicyError::GenesisRound);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHAIN: ChainId = ChainId(Digest([2; 32]));

    #[test]
    fn a_key_signs_for_its_chain_and_purposes_only() {
        let block = |chain, round| Request::Block { chain, epoch: 0, round, digest: Digest([1; 32]) };
        let binding = Request::PeerBinding { chain: CHAIN, digest: Digest([1; 32]) };
        let policy = Policy::validator(CHAIN);
        assert_eq!(policy.check(&block(CHAIN, 1)), Ok(()));
        assert_eq!(policy.check(&binding), Ok(()));
        assert_eq!(policy.check(&block(ChainId::default(), 1)), Err(PolicyError::WrongChain { expected: CHAIN }));
        assert_eq!(policy.check(&block(CHAIN, 0)), Err(PolicyError::GenesisRound));
        let blocks_only = Policy::new(CHAIN, &[Purpose::Block]);
        assert_eq!(blocks_only.check(&binding), Err(PolicyError::Purpose(Purpose::PeerBinding)));
    }
}
