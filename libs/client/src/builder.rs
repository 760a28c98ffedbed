//! Building transactions by hand, for programs that keep their own sequence numbers.

use crate::ClientError;
use kaldrix_crypto::Signer;
use kaldrix_types::{
    Address, AssetId, ChainId, DecodedTransaction, KeyRef, Lane, Operation, Sequence, SignedTransaction, TimestampMs, TxBody, encode,
};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// How long a transaction may take to land unless the builder says otherwise.
pub(crate) const VALIDITY_DEFAULT: Duration = Duration::from_secs(60);

/// The wall clock in ms since the Unix epoch.
pub(crate) fn now_ms() -> TimestampMs {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| u64::try_from(d.as_millis()).unwrap_or(u64::MAX))
}

/// Collects what a transaction says; [`TransactionBuilder::sign`] makes it final.
///
/// Defaults: lane 0, sequence 0, valid for 60 seconds, no fee, no memo. [`crate::AccountSession`] fills in sequence, key and fee by itself.
#[derive(Clone, Debug)]
#[must_use = "a builder does nothing until it is signed"]
pub struct TransactionBuilder {
    body: TxBody,
}

impl TransactionBuilder {
    /// Begins a transaction of `sender` on the chain `chain_id`.
    pub fn new(chain_id: ChainId, sender: Address) -> Self {
        let valid_until_ms = now_ms().saturating_add(VALIDITY_DEFAULT.as_millis() as u64);
        let body =
            TxBody { chain_id, sender, lane: 0, sequence: 0, valid_until_ms, fee: 0, operations: Vec::new(), memo: Vec::new().into() };
        Self { body }
    }

    /// Which of the sender's independent sequences; 0 is the strict default.
    pub fn lane(mut self, lane: Lane) -> Self {
        self.body.lane = lane;
        self
    }

    /// Position in the lane.
    pub fn sequence(mut self, sequence: Sequence) -> Self {
        self.body.sequence = sequence;
        self
    }

    /// Consensus time after which the transaction can never land.
    pub fn valid_until_ms(mut self, timestamp_ms: TimestampMs) -> Self {
        self.body.valid_until_ms = timestamp_ms;
        self
    }

    /// As [`Self::valid_until_ms`], counted from now on this machine's clock.
    pub fn valid_for(mut self, duration: Duration) -> Self {
        self.body.valid_until_ms = now_ms().saturating_add(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX));
        self
    }

    /// Smallest units of KDX; the chain's minimum is in its parameters.
    pub fn fee(mut self, fee: u128) -> Self {
        self.body.fee = fee;
        self
    }

    /// At most 256 bytes for the sender's own use.
    pub fn memo(mut self, memo: impl Into<Vec<u8>>) -> Self {
        self.body.memo = memo.into().into();
        self
    }

    /// Adds one operation.
    pub fn operation(mut self, operation: Operation) -> Self {
        self.body.operations.push(operation);
        self
    }

    /// Adds operations, in order; all of a transaction's operations take effect or none.
    pub fn operations(mut self, operations: impl IntoIterator<Item = Operation>) -> Self {
        self.body.operations.extend(operations);
        self
    }

    /// Adds a transfer of `amount` smallest units.
    pub fn transfer(self, to: Address, asset: AssetId, amount: u128) -> Self {
        self.operation(Operation::Transfer { to, asset, amount })
    }

    /// What will be signed, unchecked.
    #[must_use]
    pub fn body(&self) -> &TxBody {
        &self.body
    }

    /// Signs, and checks every rule that needs no ledger.
    ///
    /// # Errors
    /// [`ClientError::Invalid`] with the code the ledger would answer, [`ClientError::Sign`] when the key cannot sign.
    pub fn sign(self, signer: &dyn Signer, key: KeyRef) -> Result<SignedTransaction, ClientError> {
        let chain_id = self.body.chain_id;
        let signed = kaldrix_crypto::sign_transaction(self.body, signer, key).map_err(|e| ClientError::Sign(e.to_string()))?;
        DecodedTransaction::decode(encode(&signed).into(), chain_id)?;
        Ok(signed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kaldrix_crypto::SecretKey;
    use kaldrix_types::{Digest, RejectCode, Scheme};

    fn builder(key: &SecretKey) -> TransactionBuilder {
        TransactionBuilder::new(ChainId(Digest([7; 32])), Address::of_key(key.public_key()))
    }

    #[test]
    fn a_built_transaction_says_what_it_was_told_and_verifies() {
        let key = SecretKey::generate(Scheme::MlDsa65).unwrap();
        let before = now_ms();
        let signed = builder(&key)
            .lane(3)
            .sequence(9)
            .fee(5)
            .memo("rent")
            .transfer(Address([9; 32]), AssetId::NATIVE, 10)
            .sign(&key, KeyRef::Inline(key.public_key().clone()))
            .unwrap();
        let body = &signed.body;
        assert_eq!((body.lane, body.sequence, body.fee, &body.memo[..]), (3, 9, 5, &b"rent"[..]));
        assert!((before + 60_000..=now_ms() + 60_000).contains(&body.valid_until_ms));
        let verifying = kaldrix_crypto::VerifyingKey::prepare(key.public_key()).unwrap();
        assert!(verifying.verify(&body.signing_message(), &signed.signatures[0].signature).is_ok());
    }

    #[test]
    fn what_the_ledger_would_refuse_is_refused_before_it_is_sent() {
        let key = SecretKey::generate(Scheme::Ed25519).unwrap();
        let sign = |b: TransactionBuilder| match b.sign(&key, KeyRef::Index(0)) {
            Err(ClientError::Invalid(code)) => code,
            other => panic!("{other:?}"),
        };
        assert_eq!(sign(builder(&key)), RejectCode::Empty);
        assert_eq!(sign(builder(&key).transfer(Address([9; 32]), AssetId::NATIVE, 0)), RejectCode::ZeroAmount);
        assert_eq!(sign(builder(&key).memo([0; 257]).transfer(Address([9; 32]), AssetId::NATIVE, 1)), RejectCode::TooLarge);
    }
}
