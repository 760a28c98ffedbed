//! What a key may sign at all, decided before anything else looks at a request.

use kaldrix_types::{Address, ChainId, Digest, Epoch, Operation, PublicKey, Purpose, Round, TxBody, validator_key_digest};

/// What is to be signed.
#[derive(Clone, Debug, PartialEq, Eq)]
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
        /// Hash of peer id and session key.
        digest: Digest,
    },
    /// A transaction that reports an equivocation, by the session key's own account.
    Evidence(Box<TxBody>),
    /// The statement that this key belongs to an operator.
    KeyProof {
        /// The chain it holds for.
        chain: ChainId,
        /// The account that operates the validator.
        operator: Address,
    },
}

impl Request {
    /// What the signature will say yes to.
    #[must_use]
    pub const fn purpose(&self) -> Purpose {
        match self {
            Self::Block { .. } => Purpose::Block,
            Self::PeerBinding { .. } => Purpose::PeerBinding,
            Self::Evidence(_) => Purpose::Transaction,
            Self::KeyProof { .. } => Purpose::ValidatorKey,
        }
    }

    /// The chain that the caller names.
    #[must_use]
    pub fn chain(&self) -> ChainId {
        match self {
            Self::Block { chain, .. } | Self::PeerBinding { chain, .. } | Self::KeyProof { chain, .. } => *chain,
            Self::Evidence(body) => body.chain_id,
        }
    }

    /// What `key` signs over.
    #[must_use]
    pub fn digest(&self, key: &PublicKey) -> Digest {
        match self {
            Self::Block { digest, .. } | Self::PeerBinding { digest, .. } => *digest,
            Self::Evidence(body) => body.id().0,
            Self::KeyProof { operator, .. } => validator_key_digest(*operator, key),
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
    /// Session keys sign no other transactions than reports of equivocations.
    #[error("a session key signs no such transaction: {0}")]
    NotEvidence(&'static str),
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

    /// A validator's session key: blocks, peer bindings, reports of equivocations, and whose key it is.
    #[must_use]
    pub fn validator(chain: ChainId) -> Self {
        Self::new(chain, &[Purpose::Block, Purpose::PeerBinding, Purpose::Transaction, Purpose::ValidatorKey])
    }

    /// The chain this key is for.
    #[must_use]
    pub const fn chain(&self) -> ChainId {
        self.chain
    }

    /// Whether `request` to `key` may go on to the guard.
    ///
    /// # Errors
    /// [`PolicyError`], the first rule broken.
    pub fn check(&self, request: &Request, key: &PublicKey) -> Result<(), PolicyError> {
        if request.chain() != self.chain {
            return Err(PolicyError::WrongChain { expected: self.chain });
        }
        if !self.purposes.contains(&request.purpose()) {
            return Err(PolicyError::Purpose(request.purpose()));
        }
        if matches!(request, Request::Block { round: 0, .. }) {
            return Err(PolicyError::GenesisRound);
        }
        if let Request::Evidence(body) = request {
            return is_evidence(body, key).map_err(PolicyError::NotEvidence);
        }
        Ok(())
    }
}

/// Whether this is a report of an equivocation and nothing that could cost anybody anything. Whether the accused did it is the ledger's to
/// decide: a false report only fails there.
fn is_evidence(body: &TxBody, key: &PublicKey) -> Result<(), &'static str> {
    let [Operation::ReportEquivocation { proof }] = &body.operations[..] else {
        return Err("it is not exactly one report of an equivocation");
    };
    if proof.culprit().is_none_or(|culprit| culprit.chain_id != body.chain_id) {
        return Err("what it reports is no equivocation on this chain");
    }
    if body.fee != 0 {
        return Err("reports are free of charge");
    }
    if body.sender != Address::of_key(key) {
        return Err("its sender is not the account of the session key");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use kaldrix_types::{EquivocationProof, Header, Scheme, SignedHeader, ValidatorIndex};

    const CHAIN: ChainId = ChainId(Digest([2; 32]));

    fn key() -> PublicKey {
        PublicKey::new(Scheme::Ed25519, vec![7; 32]).unwrap()
    }

    #[test]
    fn a_key_signs_for_its_chain_and_purposes_only() {
        let block = |chain, round| Request::Block { chain, epoch: 0, round, digest: Digest([1; 32]) };
        let binding = Request::PeerBinding { chain: CHAIN, digest: Digest([1; 32]) };
        let proof = |chain| Request::KeyProof { chain, operator: Address([5; 32]) };
        let policy = Policy::validator(CHAIN);
        let check = |request: &Request| policy.check(request, &key());
        assert_eq!(check(&block(CHAIN, 1)), Ok(()));
        assert_eq!(check(&binding), Ok(()));
        assert_eq!(check(&proof(CHAIN)), Ok(()));
        assert_eq!(check(&block(ChainId::default(), 1)), Err(PolicyError::WrongChain { expected: CHAIN }));
        assert_eq!(check(&proof(ChainId::default())), Err(PolicyError::WrongChain { expected: CHAIN }));
        assert_eq!(check(&block(CHAIN, 0)), Err(PolicyError::GenesisRound));
        let blocks_only = Policy::new(CHAIN, &[Purpose::Block]);
        assert_eq!(blocks_only.check(&binding, &key()), Err(PolicyError::Purpose(Purpose::PeerBinding)));
    }

    fn header(author: u16, timestamp_ms: u64) -> SignedHeader {
        let header = Header {
            version: Header::VERSION,
            chain_id: CHAIN,
            epoch: 3,
            round: 9,
            author: ValidatorIndex(author),
            timestamp_ms,
            parents: Vec::new(),
            transactions_root: Digest::ZERO,
            transaction_count: 0,
            body_bytes: 0,
            commit_votes: Vec::new(),
            checkpoint_votes: Vec::new(),
        };
        SignedHeader { header, signature: Bytes::new() }
    }

    fn report(first: SignedHeader, second: SignedHeader) -> TxBody {
        TxBody {
            chain_id: CHAIN,
            sender: Address::of_key(&key()),
            lane: 0,
            sequence: 0,
            valid_until_ms: 1,
            fee: 0,
            operations: vec![Operation::ReportEquivocation { proof: Box::new(EquivocationProof { first, second }) }],
            memo: Bytes::new(),
        }
    }

    #[test]
    fn the_only_transaction_that_a_session_key_signs_is_a_free_report_of_its_own_account() {
        let good = report(header(1, 1), header(1, 2));
        let mut foreign_headers = [header(1, 1), header(1, 2)];
        foreign_headers.iter_mut().for_each(|h| h.header.chain_id = ChainId::default());
        let [first, second] = foreign_headers;
        let transfer = Operation::Burn { asset: kaldrix_types::AssetId::NATIVE, amount: 1 };
        let cases = [
            ("two authors", report(header(1, 1), header(2, 1))),
            ("one header twice", report(header(1, 1), header(1, 1))),
            ("another chain's headers", report(first, second)),
            ("a fee", TxBody { fee: 1, ..good.clone() }),
            ("another sender", TxBody { sender: Address([1; 32]), ..good.clone() }),
            ("nothing", TxBody { operations: Vec::new(), ..good.clone() }),
            ("something besides", TxBody { operations: vec![good.operations[0].clone(), transfer.clone()], ..good.clone() }),
            ("something else", TxBody { operations: vec![transfer], ..good.clone() }),
        ];
        let policy = Policy::validator(CHAIN);
        assert_eq!(policy.check(&Request::Evidence(Box::new(good.clone())), &key()), Ok(()));
        for (what, body) in cases {
            let refused = policy.check(&Request::Evidence(Box::new(body)), &key());
            assert!(matches!(refused, Err(PolicyError::NotEvidence(_))), "{what}: {refused:?}");
        }
        let elsewhere = Request::Evidence(Box::new(TxBody { chain_id: ChainId::default(), ..good }));
        assert_eq!(policy.check(&elsewhere, &key()), Err(PolicyError::WrongChain { expected: CHAIN }));
    }
}
