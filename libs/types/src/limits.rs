//! A limit on everything that somebody else can make large. These are protocol rules: changing one changes the chain.

/// A signed transaction's bytes.
pub const TRANSACTION_BYTES_MAX: usize = 128 * 1024;
/// Operations of one transaction.
pub const OPERATIONS_MAX: usize = 1024;
/// A transaction's memo in bytes.
pub const MEMO_BYTES_MAX: usize = 256;
/// Signatures of one transaction.
pub const SIGNATURES_MAX: usize = 16;
/// Metadata of an anchored document in bytes.
pub const ANCHOR_METADATA_BYTES_MAX: usize = 1024;
/// Keys of one account.
pub const ACCOUNT_KEYS_MAX: usize = 16;
/// An asset's symbol in bytes (ASCII upper-case letters and digits).
pub const SYMBOL_BYTES_MAX: usize = 12;
/// An asset's decimals.
pub const ASSET_DECIMALS_MAX: u8 = 30;
/// Transactions of one block.
pub const BLOCK_TRANSACTIONS_MAX: usize = 10_000;
/// Body of one block in bytes.
pub const BLOCK_BODY_BYTES_MAX: usize = 8 * 1024 * 1024;
/// A block header with its parents in bytes, for committees of up to [`VALIDATORS_MAX`].
pub const HEADER_BYTES_MAX: usize = 256 * 1024;
/// Parents of one block (strong and weak).
pub const PARENTS_MAX: usize = 2 * VALIDATORS_MAX;
/// Validators of one epoch.
pub const VALIDATORS_MAX: usize = 1_000;
/// A validator's name or region in bytes (a-z, 0-9, hyphen).
pub const VALIDATOR_NAME_BYTES_MAX: usize = 32;
/// Withdrawals of stake of one validator that wait for the end of an epoch.
pub const UNBONDINGS_MAX: usize = 16;
/// Votes on commits or on checkpoints in one header.
pub const VOTES_MAX: usize = 256;
/// How far a block's timestamp may be ahead of the receiver's clock.
pub const CLOCK_DRIFT_MS_MAX: u64 = 500;
/// A public key's bytes (the hybrid of Ed25519 and ML-DSA-65, or ML-DSA-87).
pub const PUBLIC_KEY_BYTES_MAX: usize = 4096;
/// One signature's bytes (ML-DSA-87 has 4,627).
pub const SIGNATURE_BYTES_MAX: usize = 8192;
