//! Committees, blocks and transactions to test with. Blocks pass the real `Block::verify`; only the signature check is a stand-in.

use bytes::Bytes;
use kaldrix_types::{
    Address, AssetId, Block, BlockRef, BlockVerifier, ChainId, CommitVote, Committee, DecodedTransaction, Digest, Header, KeyRef, Lane,
    Operation, PublicKey, Round, Scheme, Sequence, SignedTransaction, TimestampMs, TxBody, TxSignature, Validator, ValidatorIndex,
    VerifiedBlock, encode, encode_body, merkle_root,
};
use std::sync::Arc;

pub(crate) struct AcceptsEverything;

impl BlockVerifier for AcceptsEverything {
    fn verify(&self, _: &PublicKey, _: &[u8], _: &[u8]) -> bool {
        true
    }
}

pub(crate) fn chain() -> ChainId {
    ChainId(Digest([9; 32]))
}

pub(crate) fn committee(size: u8) -> Arc<Committee> {
    let validator = |i: u8| Validator {
        name: format!("validator-{i}"),
        region: "us-east-1".into(),
        stake: 1,
        key: PublicKey::new(Scheme::Ed25519, vec![i; 32]).unwrap(),
        operator: Address([i; 32]),
    };
    Arc::new(Committee::new(chain(), 0, (0..size).map(validator).collect()).unwrap())
}

/// `author`'s parent first, the rest in order.
pub(crate) fn own_first(author: u16, parents: &[BlockRef]) -> Vec<BlockRef> {
    let mut parents = parents.to_vec();
    parents.sort_by_key(|p| p.author != ValidatorIndex(author));
    parents
}

/// A verified empty block; `salt` makes equivocating variants.
pub(crate) fn block(
    committee: &Committee,
    round: Round,
    author: u16,
    parents: &[BlockRef],
    timestamp_ms: TimestampMs,
    salt: u64,
) -> Arc<VerifiedBlock> {
    let header = Header {
        version: Header::VERSION,
        chain_id: committee.chain(),
        epoch: committee.epoch(),
        round,
        author: ValidatorIndex(author),
        timestamp_ms,
        parents: own_first(author, parents),
        transactions_root: merkle_root(&[]),
        transaction_count: 0,
        body_bytes: 1,
        commit_votes: if salt == 0 { vec![] } else { vec![CommitVote { index: salt, digest: Digest::ZERO }] },
        checkpoint_votes: vec![],
    };
    verified(committee, header, encode_body([].iter()))
}

pub(crate) fn verified(committee: &Committee, header: Header, body: Bytes) -> Arc<VerifiedBlock> {
    let block = Block { header, signature: Bytes::from_static(&[1; 64]), body };
    Arc::new(block.verify(committee, &AcceptsEverything, u64::MAX).unwrap())
}

/// One block by each of `authors` on top of all of `parents`, at time `10 × round`.
pub(crate) fn layer(committee: &Committee, round: Round, authors: &[u16], parents: &[BlockRef]) -> Vec<Arc<VerifiedBlock>> {
    authors.iter().map(|a| block(committee, round, *a, parents, 10 * round, 0)).collect()
}

pub(crate) fn refs(blocks: &[Arc<VerifiedBlock>]) -> Vec<BlockRef> {
    blocks.iter().map(|b| b.reference()).collect()
}

/// Layers of all four authors for rounds 1 to `rounds`.
pub(crate) fn full_dag(committee: &Committee, rounds: Round) -> Vec<Vec<Arc<VerifiedBlock>>> {
    let authors: Vec<u16> = committee.indices().map(|i| i.0).collect();
    let mut parents = committee.genesis_blocks();
    let mut layers = Vec::new();
    for round in 1..=rounds {
        let blocks = layer(committee, round, &authors, &parents);
        parents = refs(&blocks);
        layers.push(blocks);
    }
    layers
}

/// What a test transaction is made of.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tx {
    pub(crate) sender: u8,
    pub(crate) lane: Lane,
    pub(crate) sequence: Sequence,
    pub(crate) fee: u128,
    pub(crate) valid_until_ms: TimestampMs,
}

impl Tx {
    pub(crate) const fn new(sender: u8, lane: Lane, sequence: Sequence) -> Self {
        Self { sender, lane, sequence, fee: 1, valid_until_ms: u64::MAX }
    }

    pub(crate) fn build(self) -> Arc<DecodedTransaction> {
        let body = TxBody {
            chain_id: chain(),
            sender: Address([self.sender; 32]),
            lane: self.lane,
            sequence: self.sequence,
            valid_until_ms: self.valid_until_ms,
            fee: self.fee,
            operations: vec![Operation::Transfer { to: Address([200; 32]), asset: AssetId::NATIVE, amount: 1 }],
            memo: Bytes::new(),
        };
        let signature = TxSignature { key: KeyRef::Index(0), signature: Bytes::from_static(&[0; 64]) };
        let bytes = encode(&SignedTransaction { body, signatures: vec![signature] });
        Arc::new(DecodedTransaction::decode(bytes.into(), chain()).unwrap())
    }
}

/// A small generator (SplitMix64) whose seed proptest chooses, prints and shrinks.
pub(crate) struct Rng(pub(crate) u64);

impl Rng {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }

    pub(crate) fn shuffle<T>(&mut self, items: &mut [T]) {
        for i in (1..items.len()).rev() {
            items.swap(i, self.below(i + 1));
        }
    }
}
