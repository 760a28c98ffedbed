//! Why a transaction is refused or fails: one closed list with stable names.

use serde::{Deserialize, Serialize};
use std::fmt;

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $text:literal, $help:literal;)*) => {
        /// A stable reason for refusing or failing a transaction. The order is part of the encoding: append only.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub enum RejectCode { $($(#[$doc])* $name,)* }

        impl RejectCode {
            /// Every code, in encoding order.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// The stable name, as clients see it.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }

            /// One sentence that says what to do about it.
            #[must_use]
            pub const fn help(self) -> &'static str {
                match self { $(Self::$name => $help,)* }
            }
        }
    };
}

codes! {
    /// The bytes are not a signed transaction.
    Malformed = "MALFORMED_TRANSACTION", "The bytes are not the canonical BCS encoding of a signed transaction.";
    /// Over a size or count limit.
    TooLarge = "TRANSACTION_TOO_LARGE", "The transaction is over a limit: 128 KiB, 1,024 operations, 256 bytes of memo.";
    /// No operations.
    Empty = "NO_OPERATIONS", "A transaction needs at least one operation.";
    /// For another chain.
    WrongChain = "WRONG_CHAIN", "The transaction names another chain; read the chain id from the network endpoint and sign again.";
    /// A scheme that this chain does not accept.
    UnknownScheme = "UNKNOWN_SCHEME", "Use ed25519, ml-dsa-44, ml-dsa-65, ml-dsa-87 or hybrid.";
    /// The signature does not hold.
    BadSignature = "BAD_SIGNATURE", "The signature does not hold for this body and the account's key.";
    /// The key is not one of the account's.
    WrongKey = "WRONG_KEY", "The key does not belong to the sender; use the key the account has now.";
    /// The number of signatures does not fit the account.
    WrongSignatureCount = "WRONG_SIGNATURE_COUNT", "This account needs exactly one signature.";
    /// The sender has no key on the ledger and the transaction carries none.
    UnknownAccount = "UNKNOWN_ACCOUNT", "The sender is not on the ledger yet; its first transaction must carry its public key.";
    /// A sequence number that was used before.
    SequenceReplayed = "SEQUENCE_REPLAYED", "This lane has already used the sequence number; read the account and sign with the next one.";
    /// A sequence number ahead of its lane.
    SequenceGap = "SEQUENCE_GAP", "An earlier sequence number of this lane is missing; submit it first.";
    /// Past its `valid_until`.
    Expired = "EXPIRED", "valid_until has passed: this transaction can never land; sign a new one.";
    /// `valid_until` too far ahead.
    ValidityTooLong = "VALIDITY_TOO_LONG", "valid_until is further ahead than the chain allows; choose an earlier one.";
    /// Fee below the minimum.
    FeeTooLow = "FEE_TOO_LOW", "The fee is below the chain's minimum; read it from the parameters endpoint.";
    /// Arithmetic would overflow.
    AmountOverflow = "AMOUNT_OVERFLOW", "The amounts of this transaction do not fit 128 bits.";
    /// A transfer, mint or burn of nothing.
    ZeroAmount = "ZERO_AMOUNT", "Amounts must be above zero.";
    /// The sender has too little.
    InsufficientBalance = "INSUFFICIENT_BALANCE", "The sender holds less than the transaction moves and its fee.";
    /// No such asset.
    UnknownAsset = "UNKNOWN_ASSET", "No asset has this id.";
    /// Not the issuer of the asset.
    NotIssuer = "NOT_ISSUER", "Only the asset's issuer can do this.";
    /// The asset's supply is fixed or its maximum reached.
    SupplyLimit = "SUPPLY_LIMIT", "The asset's maximum supply does not allow this.";
    /// The asset definition breaks a rule.
    BadAsset = "BAD_ASSET", "A symbol is 1 to 12 of A-Z and 0-9 and not KDX; decimals are at most 30.";
    /// Operations of one transaction contradict each other.
    ContradictingBatch = "CONTRADICTING_BATCH", "Two operations of this transaction contradict each other.";
    /// The document is anchored already.
    AnchorExists = "ANCHOR_EXISTS", "This sender has already anchored this document.";
    /// The account already has this key.
    KeyExists = "KEY_EXISTS", "The account already has this key.";
    /// The account has as many keys as it can.
    TooManyKeys = "TOO_MANY_KEYS", "An account holds at most 16 keys; rotate one instead.";
    /// The account has no key at this index.
    UnknownKey = "UNKNOWN_KEY", "The account has no key at this index.";
    /// The public key is weak or not a point.
    WeakKey = "WEAK_KEY", "The public key is not acceptable for its scheme.";
    /// Recipient may not be this address.
    BadRecipient = "BAD_RECIPIENT", "This address cannot receive transfers.";
    /// The sender operates no validator.
    NotValidator = "NOT_VALIDATOR", "The sender operates no validator; register one first.";
    /// The sender operates a validator already.
    AlreadyValidator = "ALREADY_VALIDATOR", "The sender already operates a validator; an account operates one.";
    /// Another validator has this name or key.
    NameTaken = "NAME_TAKEN", "Another validator already has this name or this key; choose another.";
    /// A name or region that breaks a rule.
    BadValidatorName = "BAD_VALIDATOR_NAME", "Names and regions of validators are 1 to 32 of a-z, 0-9 and hyphens.";
    /// The stake is or would fall below the minimum.
    StakeTooLow = "STAKE_TOO_LOW", "A validator bonds at least the chain's minimum stake; to take out everything, leave.";
    /// The network would have fewer validators than it must.
    TooFewValidators = "TOO_FEW_VALIDATORS", "The network needs a minimum number of validators; let another one join first.";
    /// As many validators are registered as there can be.
    TooManyValidators = "TOO_MANY_VALIDATORS", "As many validators are registered as there can be.";
    /// The validator is jailed, and its time is not over.
    Jailed = "JAILED", "The validator is jailed; unjail it when its time is over.";
    /// The validator is not jailed.
    NotJailed = "NOT_JAILED", "The validator is not jailed.";
    /// The validator leaves at the end of this epoch.
    Leaving = "LEAVING", "The validator is leaving; wait for the end of the epoch.";
    /// The session key did not sign that it belongs to this operator.
    BadKeyProof = "BAD_KEY_PROOF", "The proof must be the session key's signature over the operator's address and that key.";
    /// As many withdrawals wait as there can be.
    TooManyUnbondings = "TOO_MANY_UNBONDINGS", "Too many withdrawals of stake wait for the end of an epoch; wait for one.";
    /// The headers do not prove an equivocation.
    BadEvidence = "BAD_EVIDENCE", "Evidence is two different signed headers by one author of one round, of this epoch or the one before.";
    /// This validator was slashed for this epoch already.
    AlreadyReported = "ALREADY_REPORTED", "The validator was already slashed for this epoch.";
}

impl fmt::Display for RejectCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl std::error::Error for RejectCode {}

impl std::str::FromStr for RejectCode {
    type Err = ();
    fn from_str(text: &str) -> Result<Self, ()> {
        Self::ALL.iter().copied().find(|c| c.as_str() == text).ok_or(())
    }
}
