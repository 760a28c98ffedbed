//! What a command ends with when it does not end well.

use kaldrix_api::ErrorCode;
use kaldrix_client::{ClientError, Receipt, TransactionStatus, WaitFor};
use kaldrix_crypto::KeystoreError;
use std::process::ExitCode;

/// A problem for the person or script at the terminal: a stable code and a sentence that says what to do.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CliError {
    /// From the ledger, or on the way to it.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// From a key file.
    #[error(transparent)]
    Keystore(#[from] KeystoreError),
    /// The arguments do not fit together.
    #[error("{0}")]
    Usage(String),
    /// A file that cannot be read.
    #[error("{path}: {source}")]
    File {
        /// Which file.
        path: String,
        /// Why.
        source: std::io::Error,
    },
    /// The transaction was refused, or ordered without taking effect.
    #[error("{detail}")]
    Transaction {
        /// The ledger's code.
        code: String,
        /// What to do about it.
        detail: String,
    },
    /// A genesis file that defines no chain.
    #[error("the genesis cannot be used: {0}")]
    Genesis(kaldrix_types::GenesisError),
    /// A proof that does not hold, or is none.
    #[error("NOT PROVEN: {0}")]
    Proof(kaldrix_client::verify::ProofError),
    /// A simulated run that ended in a panic.
    #[error("a core panicked ({detail}); the same run again: {replay}")]
    Simulation {
        /// What it said.
        detail: String,
        /// The command.
        replay: String,
    },
    /// The local network is not as the command needs it.
    #[error("{0}")]
    LocalNetwork(String),
    /// The wait ran out.
    #[error(
        "the transaction is {status} and may still become final: look at it with `kaldrix tx {id} --wait`, or give --timeout more time"
    )]
    NotYet {
        /// How far it has come.
        status: TransactionStatus,
        /// Which transaction.
        id: kaldrix_types::TxId,
    },
    /// A defect of ours.
    #[error("the task that did this was lost: {0}")]
    Internal(String),
}

impl CliError {
    /// The stable code.
    pub(crate) fn code(&self) -> &str {
        match self {
            Self::Client(error) => error.code(),
            Self::Keystore(error) => match error {
                KeystoreError::Exists(_) => "KEY_FILE_EXISTS",
                KeystoreError::PassphraseNeeded => "PASSPHRASE_NEEDED",
                KeystoreError::WrongPassphrase => "WRONG_PASSPHRASE",
                KeystoreError::EmptyPassphrase => "EMPTY_PASSPHRASE",
                _ => "KEY_FILE",
            },
            Self::Usage(_) => "USAGE",
            Self::File { .. } => "FILE",
            Self::Transaction { code, .. } => code,
            Self::Genesis(_) => "GENESIS_INVALID",
            Self::Proof(_) => "PROOF_INVALID",
            Self::Simulation { .. } => "SIMULATION_PANICKED",
            Self::LocalNetwork(_) => "LOCAL_NETWORK",
            Self::NotYet { .. } => "WAIT_TIMEOUT",
            Self::Internal(_) => "INTERNAL",
        }
    }

    /// 2 for usage, as clap does; 1 for everything else.
    pub(crate) fn exit_code(&self) -> ExitCode {
        ExitCode::from(if matches!(self, Self::Usage(_)) { 2 } else { 1 })
    }
}

/// Whether a receipt is what was asked for. A transaction that became final without taking effect is not.
pub(crate) fn judge(receipt: &Receipt, level: WaitFor) -> Result<(), CliError> {
    let refused = matches!(receipt.status, TransactionStatus::Rejected | TransactionStatus::Expired);
    if refused || (receipt.status.is_final() && !receipt.success) {
        let code = receipt.code.clone().unwrap_or_else(|| receipt.status.to_string());
        let help = ErrorCode::parse(&code).map(|code| code.help().to_owned());
        let detail = receipt.detail.clone().or(help).unwrap_or_else(|| format!("the transaction is {} without effect", receipt.status));
        return Err(CliError::Transaction { code, detail });
    }
    if !receipt.status.satisfies(level) {
        return Err(CliError::NotYet { status: receipt.status, id: receipt.id });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn receipt(status: TransactionStatus, success: bool) -> Receipt {
        Receipt {
            id: kaldrix_types::TxId::default(),
            status,
            success,
            code: (!success).then(|| "INSUFFICIENT_BALANCE".to_owned()),
            detail: None,
            commit: None,
            latency_ms: 1,
        }
    }

    #[test]
    fn final_without_effect_is_a_failure_with_the_ledgers_code() {
        let error = judge(&receipt(TransactionStatus::Final, false), WaitFor::Final).unwrap_err();
        assert_eq!(error.code(), "INSUFFICIENT_BALANCE");
        assert!(error.to_string().contains("holds less"), "it says what is wrong: {error}");
        assert!(judge(&receipt(TransactionStatus::Final, true), WaitFor::Final).is_ok());
        assert!(judge(&receipt(TransactionStatus::Expired, false), WaitFor::Accepted).is_err());
    }

    #[test]
    fn a_wait_that_ran_out_is_not_a_success() {
        assert_eq!(judge(&receipt(TransactionStatus::Included, false), WaitFor::Final).unwrap_err().code(), "WAIT_TIMEOUT");
        assert!(judge(&receipt(TransactionStatus::Accepted, false), WaitFor::Accepted).is_ok());
    }
}
