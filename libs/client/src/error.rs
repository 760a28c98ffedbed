//! What can go wrong between a program and the ledger, and what to do about it.

use kaldrix_api::{ApiError, ErrorCode};
use kaldrix_types::{Address, RejectCode};

/// Why a call did not give what was asked for. [`ClientError::code`] is stable; the text says what to do.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The ledger answered with an error of its own.
    #[error("{}", .0.detail)]
    Api(ApiError),
    /// The text is not an endpoint.
    #[error("{endpoint:?} is not an API endpoint ({reason}): write it as http://127.0.0.1:8080")]
    Endpoint {
        /// What was given.
        endpoint: String,
        /// What is wrong with it.
        reason: String,
    },
    /// No endpoint could be reached.
    #[error("no ledger answers at {endpoints} ({cause}): start one with `kaldrix dev`, or name another with --api or KALDRIX_API")]
    NoLedger {
        /// The endpoints that were tried.
        endpoints: String,
        /// What the last one failed with.
        cause: String,
    },
    /// The ledger did not answer in time.
    #[error("the ledger did not answer within {waited_ms} ms: what was asked may still happen; look at it before doing it again")]
    Timeout {
        /// How long was waited.
        waited_ms: u64,
    },
    /// An answer that this version cannot read.
    #[error("the ledger's answer cannot be read (field {field}: {reason}): is the client as new as the ledger?")]
    Response {
        /// Which field.
        field: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// The transaction breaks a rule that needs no ledger to see; nothing was sent.
    #[error("{}", .0.help())]
    Invalid(RejectCode),
    /// The signer refused or failed; nothing was sent.
    #[error("the key could not sign: {0}")]
    Sign(String),
    /// The account exists and this key is not one of its keys.
    #[error("this key is not one of the keys of {address}: use the key the account has now (`kaldrix account {address}` lists them)")]
    NotAKeyOf {
        /// The account.
        address: Address,
    },
}

impl ClientError {
    /// The stable code: the ledger's own, or one of `INVALID_ENDPOINT`, `NO_LEDGER`, `TIMEOUT`, `BAD_RESPONSE`, `SIGNING_FAILED`.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Api(error) => error.code.as_str(),
            Self::Endpoint { .. } => "INVALID_ENDPOINT",
            Self::NoLedger { .. } => "NO_LEDGER",
            Self::Timeout { .. } => "TIMEOUT",
            Self::Response { .. } => "BAD_RESPONSE",
            Self::Invalid(code) => code.as_str(),
            Self::Sign(_) => "SIGNING_FAILED",
            Self::NotAKeyOf { .. } => RejectCode::WrongKey.as_str(),
        }
    }

    /// The ledger's own code, when it answered with one.
    #[must_use]
    pub const fn api_code(&self) -> Option<ErrorCode> {
        match self {
            Self::Api(error) => Some(error.code),
            _ => None,
        }
    }

    /// Whether the same request may succeed later.
    #[must_use]
    pub const fn is_retryable(&self) -> bool {
        match self {
            Self::Api(error) => error.code.is_retryable(),
            Self::NoLedger { .. } | Self::Timeout { .. } => true,
            _ => false,
        }
    }
}

impl From<ApiError> for ClientError {
    fn from(error: ApiError) -> Self {
        Self::Api(error)
    }
}

impl From<RejectCode> for ClientError {
    fn from(code: RejectCode) -> Self {
        Self::Invalid(code)
    }
}
