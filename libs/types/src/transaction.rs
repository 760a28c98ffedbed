//! Transactions: what a client signs, and the checks that need nothing but the bytes.

use crate::hash::{Context, Digest};
use crate::{
    Address, AssetId, ChainId, CodecError, EquivocationProof, Lane, PublicKey, Purpose, RejectCode, Sequence, TimestampMs, TxId, codec,
    limits, signing_message,
};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use std::sync::OnceLock;

/// One thing a transaction does. The order is part of the encoding: append only.
///
/// Still to come (PROTOCOL, "Transactions"): reserve, capture, void, policies and region operations.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Operation {
    /// Moves `amount` smallest units of `asset` from the sender to `to`.
    Transfer {
        /// Recipient; need not exist yet.
        to: Address,
        /// What is moved.
        asset: AssetId,
        /// Smallest units, above zero.
        amount: u128,
    },
    /// Creates an asset issued by the sender; its id is [`AssetId::derive`].
    CreateAsset {
        /// 1 to 12 of `A-Z0-9`.
        symbol: String,
        /// 0 to 30.
        decimals: u8,
        /// Credited to the sender at once; smallest units.
        initial_supply: u128,
        /// Upper bound of the supply; smallest units.
        maximum_supply: u128,
    },
    /// Creates `amount` of an asset of the sender's for `to`.
    Mint {
        /// An asset issued by the sender.
        asset: AssetId,
        /// Recipient.
        to: Address,
        /// Smallest units, above zero.
        amount: u128,
    },
    /// Destroys `amount` of the sender's own holding.
    Burn {
        /// Any asset but the native one.
        asset: AssetId,
        /// Smallest units, above zero.
        amount: u128,
    },
    /// Records that the sender knew a document at this commit's time.
    Anchor {
        /// The document's hash, of whatever kind the sender uses.
        document: Digest,
        /// At most 1,024 bytes.
        metadata: Bytes,
    },
    /// Adds a key that may sign for the sender, at the next free index.
    RegisterKey {
        /// The key to add.
        key: PublicKey,
    },
    /// Replaces the key at `index`: the old one can sign nothing from the next transaction on.
    RotateKey {
        /// Which of the sender's keys.
        index: u8,
        /// The key to put there.
        key: PublicKey,
    },
    /// Makes the sender the operator of a validator, which has a seat from the next epoch on if its stake suffices.
    RegisterValidator {
        /// Unique; 1 to 32 of a-z, 0-9 and hyphens.
        name: String,
        /// Where it runs; same alphabet.
        region: String,
        /// Its session key.
        key: PublicKey,
        /// Bonded at once, smallest units of KDX.
        stake: u128,
        /// The session key's signature with [`Purpose::ValidatorKey`] over [`crate::validator_key_digest`].
        proof: Bytes,
    },
    /// Bonds more of the sender's KDX to its validator, from the next epoch on.
    Stake {
        /// Smallest units, above zero.
        amount: u128,
    },
    /// Takes stake back: its weight ends with this epoch, it is paid out when the next one ends.
    Unstake {
        /// Smallest units, above zero.
        amount: u128,
    },
    /// Gives the sender's validator another session key, from the next epoch on.
    RotateSessionKey {
        /// The new key.
        key: PublicKey,
        /// As in [`Operation::RegisterValidator`].
        proof: Bytes,
    },
    /// Ends the sender's validator with this epoch; its stake is paid out when the next one ends.
    LeaveValidators,
    /// Asks for a seat again after being jailed.
    Unjail,
    /// Proves that a validator signed two blocks in one round: it is slashed and jailed. Costs no fee when it is a transaction's only operation.
    ReportEquivocation {
        /// The proof.
        proof: Box<EquivocationProof>,
    },
}

/// What is signed. Its hash is the transaction's id.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TxBody {
    /// The chain this is for.
    pub chain_id: ChainId,
    /// Who pays and authorizes.
    pub sender: Address,
    /// Which of the sender's sequences.
    pub lane: Lane,
    /// Position in the lane; lanes are strictly sequential from 0.
    pub sequence: Sequence,
    /// Consensus time after which this can never land, in milliseconds.
    pub valid_until_ms: TimestampMs,
    /// Offered to the validators, in smallest units of the native asset.
    pub fee: u128,
    /// 1 to 1,024 operations, applied in order: all or nothing.
    pub operations: Vec<Operation>,
    /// At most 256 bytes for the sender's own use.
    pub memo: Bytes,
}

/// Which key a signature is by.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum KeyRef {
    /// The key itself: needed at an account's first transaction, allowed later while it is one of the account's keys.
    Inline(PublicKey),
    /// The account's key at this index.
    Index(u8),
}

/// One signature over `signing_message(Purpose::Transaction, chain id, tx id)`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TxSignature {
    /// Who signed.
    pub key: KeyRef,
    /// Encoded signature of the key's scheme.
    pub signature: Bytes,
}

/// What travels: the body and its signatures.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignedTransaction {
    /// What is signed.
    pub body: TxBody,
    /// Who signed; exactly one while accounts have single-key policies.
    pub signatures: Vec<TxSignature>,
}

impl TxBody {
    /// The transaction's id.
    #[must_use]
    pub fn id(&self) -> TxId {
        TxId(Context::TransactionId.hash(&[&codec::encode(self)]))
    }

    /// The bytes to sign.
    #[must_use]
    pub fn signing_message(&self) -> [u8; 77] {
        signing_message(Purpose::Transaction, self.chain_id, self.id().0)
    }

    /// What the operations and the fee take from the sender, per asset, in operation order of first mention.
    ///
    /// # Errors
    /// [`RejectCode::AmountOverflow`] when a sum does not fit 128 bits.
    pub fn outflow(&self) -> Result<Vec<(AssetId, u128)>, RejectCode> {
        let mut sums = vec![(AssetId::NATIVE, self.fee)];
        for operation in &self.operations {
            if let Operation::Transfer { asset, amount, .. } | Operation::Burn { asset, amount } = operation {
                match sums.iter_mut().find(|(a, _)| a == asset) {
                    Some((_, sum)) => *sum = sum.checked_add(*amount).ok_or(RejectCode::AmountOverflow)?,
                    None => sums.push((*asset, *amount)),
                }
            }
            if let Operation::RegisterValidator { stake: amount, .. } | Operation::Stake { amount } = operation {
                let native = &mut sums[0].1;
                *native = native.checked_add(*amount).ok_or(RejectCode::AmountOverflow)?;
            }
        }
        Ok(sums)
    }

    /// Whether this does nothing but report an equivocation: then it owes no fee.
    #[must_use]
    pub fn is_evidence(&self) -> bool {
        matches!(self.operations[..], [Operation::ReportEquivocation { .. }])
    }

    /// Every account whose balances this may change, sender first, without repeats.
    #[must_use]
    pub fn accounts(&self) -> Vec<Address> {
        let mut accounts = vec![self.sender];
        for operation in &self.operations {
            if let Operation::Transfer { to, .. } | Operation::Mint { to, .. } = operation
                && !accounts.contains(to)
            {
                accounts.push(*to);
            }
        }
        accounts
    }

    /// The rules that need no state: limits, amounts, contradictions.
    fn check(&self) -> Result<(), RejectCode> {
        if self.operations.is_empty() {
            return Err(RejectCode::Empty);
        }
        if self.operations.len() > limits::OPERATIONS_MAX || self.memo.len() > limits::MEMO_BYTES_MAX {
            return Err(RejectCode::TooLarge);
        }
        let mut rotated = [false; 256];
        let mut keys = std::collections::HashSet::new();
        let mut documents = std::collections::HashSet::new();
        for operation in &self.operations {
            match operation {
                Operation::Transfer { amount, to, .. } | Operation::Mint { amount, to, .. } => {
                    if *amount == 0 {
                        return Err(RejectCode::ZeroAmount);
                    }
                    if to.is_reserved() {
                        return Err(RejectCode::BadRecipient);
                    }
                }
                Operation::Burn { asset, amount } => {
                    if *amount == 0 {
                        return Err(RejectCode::ZeroAmount);
                    }
                    if *asset == AssetId::NATIVE {
                        return Err(RejectCode::NotIssuer);
                    }
                }
                Operation::CreateAsset { symbol, decimals, initial_supply, maximum_supply } => {
                    let symbol_ok = (1..=limits::SYMBOL_BYTES_MAX).contains(&symbol.len())
                        && symbol.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit())
                        && symbol != crate::NATIVE_SYMBOL;
                    if !symbol_ok || *decimals > limits::ASSET_DECIMALS_MAX || *maximum_supply == 0 {
                        return Err(RejectCode::BadAsset);
                    }
                    if initial_supply > maximum_supply {
                        return Err(RejectCode::SupplyLimit);
                    }
                }
                Operation::Anchor { document, metadata } => {
                    if metadata.len() > limits::ANCHOR_METADATA_BYTES_MAX {
                        return Err(RejectCode::TooLarge);
                    }
                    if !documents.insert(*document) {
                        return Err(RejectCode::ContradictingBatch);
                    }
                }
                Operation::RegisterKey { key } => {
                    if !keys.insert(key.id()) {
                        return Err(RejectCode::ContradictingBatch);
                    }
                }
                Operation::RotateKey { index, key } => {
                    if std::mem::replace(&mut rotated[usize::from(*index)], true) || !keys.insert(key.id()) {
                        return Err(RejectCode::ContradictingBatch);
                    }
                }
                Operation::RegisterValidator { name, region, proof, .. } => {
                    if !is_validator_name(name) || !is_validator_name(region) {
                        return Err(RejectCode::BadValidatorName);
                    }
                    check_key_proof(proof)?;
                }
                Operation::RotateSessionKey { proof, .. } => check_key_proof(proof)?,
                Operation::Stake { amount } | Operation::Unstake { amount } => {
                    if *amount == 0 {
                        return Err(RejectCode::ZeroAmount);
                    }
                }
                Operation::ReportEquivocation { proof } => {
                    proof.culprit().filter(|culprit| culprit.chain_id == self.chain_id).ok_or(RejectCode::BadEvidence)?;
                }
                Operation::LeaveValidators | Operation::Unjail => {}
            }
        }
        self.outflow().map(|_| ())
    }
}

fn is_validator_name(text: &str) -> bool {
    (1..=limits::VALIDATOR_NAME_BYTES_MAX).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
}

fn check_key_proof(proof: &Bytes) -> Result<(), RejectCode> {
    if proof.len() > limits::SIGNATURE_BYTES_MAX { Err(RejectCode::BadKeyProof) } else { Ok(()) }
}

/// A transaction that decoded, is within limits, and does not contradict itself. Its signature has NOT been checked.
#[derive(Clone, Debug)]
pub struct DecodedTransaction {
    id: TxId,
    /// Made at first need: who only forwards a transaction never hashes its signature.
    leaf: OnceLock<Digest>,
    bytes: Bytes,
    transaction: SignedTransaction,
}

impl PartialEq for DecodedTransaction {
    fn eq(&self, other: &Self) -> bool {
        self.bytes == other.bytes
    }
}

impl Eq for DecodedTransaction {}

impl DecodedTransaction {
    /// Decodes and checks what needs no state.
    ///
    /// # Errors
    /// The [`RejectCode`] of the first rule broken.
    pub fn decode(bytes: Bytes, chain: ChainId) -> Result<Self, RejectCode> {
        let transaction: SignedTransaction = codec::decode(&bytes, limits::TRANSACTION_BYTES_MAX).map_err(|e| match e {
            CodecError::TooLarge { .. } => RejectCode::TooLarge,
            CodecError::Malformed(text) if text.contains("variant") => RejectCode::UnknownScheme,
            CodecError::Malformed(_) => RejectCode::Malformed,
        })?;
        if transaction.body.chain_id != chain {
            return Err(RejectCode::WrongChain);
        }
        transaction.body.check()?;
        if transaction.signatures.len() != 1 {
            return Err(RejectCode::WrongSignatureCount);
        }
        Ok(Self { id: transaction.body.id(), leaf: OnceLock::new(), bytes, transaction })
    }

    /// The transaction's id.
    #[must_use]
    pub const fn id(&self) -> TxId {
        self.id
    }

    /// Hash of all bytes, signatures included: the leaf of a block's Merkle tree, and what a signature check is remembered by.
    #[must_use]
    pub fn leaf(&self) -> Digest {
        *self.leaf.get_or_init(|| Context::BlockLeaf.hash(&[&self.bytes]))
    }

    /// The signed bytes, as submitted.
    #[must_use]
    pub const fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// What is signed.
    #[must_use]
    pub const fn body(&self) -> &TxBody {
        &self.transaction.body
    }

    /// The only signature.
    #[must_use]
    pub fn signature(&self) -> &TxSignature {
        &self.transaction.signatures[0]
    }

    /// The bytes that were signed.
    #[must_use]
    pub fn signing_message(&self) -> [u8; 77] {
        signing_message(Purpose::Transaction, self.transaction.body.chain_id, self.id.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn chain() -> ChainId {
        ChainId(Digest([9; 32]))
    }

    fn signed(operations: Vec<Operation>) -> SignedTransaction {
        let body = TxBody {
            chain_id: chain(),
            sender: Address([1; 32]),
            lane: 0,
            sequence: 0,
            valid_until_ms: 1,
            fee: 0,
            operations,
            memo: Bytes::new(),
        };
        SignedTransaction { body, signatures: vec![TxSignature { key: KeyRef::Index(0), signature: Bytes::from_static(&[0; 64]) }] }
    }

    fn decode(tx: &SignedTransaction) -> Result<DecodedTransaction, RejectCode> {
        DecodedTransaction::decode(codec::encode(tx).into(), chain())
    }

    fn transfer(amount: u128) -> Operation {
        Operation::Transfer { to: Address([2; 32]), asset: AssetId::NATIVE, amount }
    }

    #[test]
    fn signatures_do_not_change_the_id_but_change_the_leaf() {
        let first = signed(vec![transfer(1)]);
        let mut second = first.clone();
        second.signatures[0].signature = Bytes::from_static(&[1; 64]);
        let (first, second) = (decode(&first).unwrap(), decode(&second).unwrap());
        assert_eq!(first.id(), second.id());
        assert_ne!(first.leaf(), second.leaf());
    }

    #[test]
    fn every_static_rule_has_its_own_code() {
        let anchor = || Operation::Anchor { document: Digest([3; 32]), metadata: Bytes::new() };
        let asset = |symbol: &str| Operation::CreateAsset { symbol: symbol.into(), decimals: 2, initial_supply: 1, maximum_supply: 1 };
        let cases = [
            (vec![], RejectCode::Empty),
            (vec![transfer(1); 1025], RejectCode::TooLarge),
            (vec![transfer(0)], RejectCode::ZeroAmount),
            (vec![transfer(u128::MAX), transfer(1)], RejectCode::AmountOverflow),
            (vec![anchor(), anchor()], RejectCode::ContradictingBatch),
            (vec![asset("KDX")], RejectCode::BadAsset),
            (vec![asset("lower")], RejectCode::BadAsset),
            (vec![Operation::Burn { asset: AssetId::NATIVE, amount: 1 }], RejectCode::NotIssuer),
        ];
        for (operations, code) in cases {
            assert_eq!(decode(&signed(operations)).unwrap_err(), code);
        }
    }

    #[test]
    fn other_chains_and_damaged_bytes_are_told_apart() {
        let bytes = codec::encode(&signed(vec![transfer(1)]));
        assert_eq!(DecodedTransaction::decode(bytes.clone().into(), ChainId::default()).unwrap_err(), RejectCode::WrongChain);
        assert_eq!(DecodedTransaction::decode(bytes[..50].to_vec().into(), chain()).unwrap_err(), RejectCode::Malformed);
        assert_eq!(
            DecodedTransaction::decode(vec![0; limits::TRANSACTION_BYTES_MAX + 1].into(), chain()).unwrap_err(),
            RejectCode::TooLarge
        );
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes: Vec<u8>) {
            let _ = DecodedTransaction::decode(bytes.into(), chain());
        }

        #[test]
        fn a_damaged_transaction_never_panics(position in 0usize..200, value: u8) {
            let mut bytes = codec::encode(&signed(vec![transfer(1)]));
            let position = position % bytes.len();
            bytes[position] = value;
            let _ = DecodedTransaction::decode(bytes.into(), chain());
        }
    }
}
