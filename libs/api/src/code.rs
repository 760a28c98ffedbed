//! The closed list of error codes.

use kaldrix_types::RejectCode;
use std::fmt;
use tonic::Code;

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $text:literal, $grpc:ident, $http:literal, $help:literal;)*) => {
        /// A stable error code. Clients may match on the text; it never changes its meaning.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum ErrorCode {
            /// The transaction itself is at fault.
            Reject(RejectCode),
            $($(#[$doc])* $name,)*
        }

        impl ErrorCode {
            /// Every code that is not a [`RejectCode`].
            pub const OWN: &[Self] = &[$(Self::$name,)*];

            /// The stable name.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { Self::Reject(code) => code.as_str(), $(Self::$name => $text,)* }
            }

            /// One sentence that says what to do.
            #[must_use]
            pub const fn help(self) -> &'static str {
                match self { Self::Reject(code) => code.help(), $(Self::$name => $help,)* }
            }

            /// The gRPC status code.
            #[must_use]
            pub const fn grpc(self) -> Code {
                match self { Self::Reject(code) => reject_grpc(code), $(Self::$name => Code::$grpc,)* }
            }

            /// The HTTP status.
            #[must_use]
            pub const fn http(self) -> u16 {
                match self { Self::Reject(code) => reject_http(code), $(Self::$name => $http,)* }
            }
        }
    };
}

codes! {
    /// A field or parameter is not what it must be.
    InvalidArgument = "INVALID_ARGUMENT", InvalidArgument, 400, "A field or parameter is not valid; the detail names it.";
    /// The request body is not the JSON that this endpoint takes.
    MalformedJson = "MALFORMED_JSON", InvalidArgument, 400, "The body is not the JSON that this endpoint takes.";
    /// The request body is over the limit.
    BodyTooLarge = "BODY_TOO_LARGE", InvalidArgument, 413, "The request body is over the limit of this endpoint.";
    /// The content type is not one this endpoint takes.
    UnsupportedMediaType = "UNSUPPORTED_MEDIA_TYPE", InvalidArgument, 415, "Send application/json.";
    /// No such route.
    RouteNotFound = "ROUTE_NOT_FOUND", Unimplemented, 404, "There is no such endpoint; see /docs.";
    /// The route exists, the method does not.
    MethodNotAllowed = "METHOD_NOT_ALLOWED", Unimplemented, 405, "This endpoint takes another method; see /docs.";
    /// No such transaction.
    TransactionNotFound = "TRANSACTION_NOT_FOUND", NotFound, 404, "No transaction has this id in this region; it may still be on its way.";
    /// No such account.
    AccountNotFound = "ACCOUNT_NOT_FOUND", NotFound, 404, "The ledger has nothing under this address.";
    /// No such commit.
    CommitNotFound = "COMMIT_NOT_FOUND", NotFound, 404, "This commit does not exist yet.";
    /// No such block.
    BlockNotFound = "BLOCK_NOT_FOUND", NotFound, 404, "No committed block has this digest.";
    /// No such asset.
    AssetNotFound = "ASSET_NOT_FOUND", NotFound, 404, "No asset has this id.";
    /// The mempool is full.
    MempoolFull = "MEMPOOL_FULL", ResourceExhausted, 503, "The validator's queue is full; try again after the delay given.";
    /// The sender has too many transactions waiting.
    SenderQueueFull = "SENDER_QUEUE_FULL", ResourceExhausted, 429, "This sender has too many transactions waiting; wait until some are final.";
    /// Too many requests.
    RateLimited = "RATE_LIMITED", ResourceExhausted, 429, "Too many requests; try again after the delay given.";
    /// Too many requests at once, over all clients.
    Overloaded = "OVERLOADED", ResourceExhausted, 503, "The server has too much to do; try again after the delay given.";
    /// No client certificate, or no identity in it.
    Unauthenticated = "UNAUTHENTICATED", Unauthenticated, 401, "Present a client certificate of this network.";
    /// The caller may not call this.
    PermissionDenied = "PERMISSION_DENIED", PermissionDenied, 403, "This caller may not call this method.";
    /// No validator can be reached.
    NoValidator = "NO_VALIDATOR", Unavailable, 503, "No validator answers at the moment; submit the same transaction again, it cannot land twice.";
    /// The read model cannot be reached or is starting.
    ReadModelUnavailable = "READ_MODEL_UNAVAILABLE", Unavailable, 503, "This region's read model is not available at the moment; try again or ask another region.";
    /// The faucet is off.
    FaucetDisabled = "FAUCET_DISABLED", FailedPrecondition, 404, "This network has no faucet.";
    /// The faucet gives no more than a limit.
    FaucetLimit = "FAUCET_LIMIT", FailedPrecondition, 422, "The faucet gives less than that at once.";
    /// The stream's client is too slow, or its cursor too old.
    StreamBehind = "STREAM_BEHIND", DataLoss, 410, "The stream was cut because the reader was too slow; resume from the last cursor.";
    /// No such checkpoint.
    CheckpointNotFound = "CHECKPOINT_NOT_FOUND", NotFound, 404, "No certified checkpoint has this index yet.";
    /// No certified checkpoint covers it yet.
    NotCheckpointed = "NOT_CHECKPOINTED", FailedPrecondition, 409, "No checkpoint covers this yet; try again in about a second.";
    /// The validators that answer no longer hold it.
    HistoryPruned = "HISTORY_PRUNED", OutOfRange, 410, "The validators here do not hold history this old; ask another region.";
    /// A defect of ours; the cause is in the server's log.
    Internal = "INTERNAL", Internal, 500, "Something failed on the server; the trace id leads to it in the log.";
}

impl ErrorCode {
    /// Whether the same request may succeed later.
    #[must_use]
    pub const fn is_retryable(self) -> bool {
        matches!(
            self,
            Self::MempoolFull
                | Self::SenderQueueFull
                | Self::RateLimited
                | Self::Overloaded
                | Self::NoValidator
                | Self::ReadModelUnavailable
                | Self::NotCheckpointed
        )
    }

    /// The code with this name.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::OWN.iter().copied().find(|c| c.as_str() == text).or_else(|| text.parse().ok().map(Self::Reject))
    }
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl From<RejectCode> for ErrorCode {
    fn from(code: RejectCode) -> Self {
        Self::Reject(code)
    }
}

const fn reject_grpc(code: RejectCode) -> Code {
    use RejectCode as R;
    match code {
        R::SequenceReplayed | R::AnchorExists | R::KeyExists | R::AlreadyValidator | R::NameTaken | R::AlreadyReported => {
            Code::AlreadyExists
        }
        R::SequenceGap
        | R::Expired
        | R::InsufficientBalance
        | R::UnknownAccount
        | R::UnknownAsset
        | R::NotIssuer
        | R::SupplyLimit
        | R::TooManyKeys
        | R::UnknownKey
        | R::WrongKey
        | R::NotValidator
        | R::StakeTooLow
        | R::TooFewValidators
        | R::TooManyValidators
        | R::Jailed
        | R::NotJailed
        | R::Leaving
        | R::TooManyUnbondings => Code::FailedPrecondition,
        _ => Code::InvalidArgument,
    }
}

const fn reject_http(code: RejectCode) -> u16 {
    use RejectCode as R;
    match code {
        R::Malformed | R::Empty | R::UnknownScheme => 400,
        R::TooLarge => 413,
        R::SequenceReplayed | R::SequenceGap | R::AnchorExists | R::KeyExists | R::AlreadyValidator | R::NameTaken | R::AlreadyReported => {
            409
        }
        _ => 422,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_is_unique_and_reads_back() {
        let all: Vec<ErrorCode> = ErrorCode::OWN.iter().copied().chain(RejectCode::ALL.iter().copied().map(ErrorCode::Reject)).collect();
        for (i, code) in all.iter().enumerate() {
            assert_eq!(ErrorCode::parse(code.as_str()), Some(*code));
            assert!(all.iter().skip(i + 1).all(|other| other.as_str() != code.as_str()), "{code} stands twice");
            assert!((400..600).contains(&code.http()));
        }
    }
}
