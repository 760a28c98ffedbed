//! An error on its way to a caller.

use crate::ErrorCode;
use kaldrix_types::RejectCode;
use serde::{Deserialize, Serialize};
use std::time::Duration;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

const DOMAIN: &str = "kaldrix";

/// A code, a sentence, and how long to wait where waiting helps.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{code}: {detail}")]
pub struct ApiError {
    /// The stable code.
    pub code: ErrorCode,
    /// What is wrong in this case, and what to do.
    pub detail: String,
    /// When to try again.
    pub retry_after_ms: Option<u32>,
}

/// RFC 9457 problem details.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// URN of the code.
    #[serde(rename = "type")]
    pub kind: String,
    /// What the code means.
    pub title: String,
    /// HTTP status.
    pub status: u16,
    /// What is wrong in this case.
    pub detail: String,
    /// The stable code.
    pub code: String,
    /// When to try again, in ms.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub retry_after_ms: Option<u32>,
}

impl ApiError {
    /// An error with its own sentence.
    #[must_use]
    pub fn new(code: impl Into<ErrorCode>, detail: impl Into<String>) -> Self {
        Self { code: code.into(), detail: detail.into(), retry_after_ms: None }
    }

    /// Adds when to try again.
    #[must_use]
    pub fn retry_after(mut self, ms: u32) -> Self {
        self.retry_after_ms = Some(ms);
        self
    }

    /// The HTTP form.
    #[must_use]
    pub fn problem(&self) -> Problem {
        Problem {
            kind: format!("urn:kaldrix:error:{}", self.code.as_str().to_lowercase().replace('_', "-")),
            title: self.code.help().to_owned(),
            status: self.code.http(),
            detail: self.detail.clone(),
            code: self.code.as_str().to_owned(),
            retry_after_ms: self.retry_after_ms,
        }
    }

    /// Reads the error that a Kaldrix service sent; anything else becomes the code that fits its gRPC status.
    #[must_use]
    pub fn from_status(status: &Status) -> Self {
        let details = status.get_error_details();
        let code = details.error_info().filter(|i| i.domain == DOMAIN).and_then(|i| ErrorCode::parse(&i.reason));
        let retry_after_ms = details.retry_info().and_then(|r| r.retry_delay).map(|d| u32::try_from(d.as_millis()).unwrap_or(u32::MAX));
        let code = code.unwrap_or(match status.code() {
            Code::InvalidArgument | Code::OutOfRange => ErrorCode::InvalidArgument,
            Code::Unauthenticated => ErrorCode::Unauthenticated,
            Code::PermissionDenied => ErrorCode::PermissionDenied,
            Code::ResourceExhausted => ErrorCode::Overloaded,
            Code::Unimplemented => ErrorCode::RouteNotFound,
            Code::Unavailable | Code::DeadlineExceeded | Code::Cancelled => ErrorCode::NoValidator,
            _ => ErrorCode::Internal,
        });
        Self { code, detail: status.message().to_owned(), retry_after_ms }
    }
}

impl From<RejectCode> for ApiError {
    fn from(code: RejectCode) -> Self {
        Self::new(code, code.help())
    }
}

impl From<ErrorCode> for ApiError {
    fn from(code: ErrorCode) -> Self {
        Self::new(code, code.help())
    }
}

impl From<ApiError> for Status {
    fn from(error: ApiError) -> Self {
        let mut details = ErrorDetails::new();
        details.set_error_info(error.code.as_str(), DOMAIN, std::collections::HashMap::new());
        if let Some(ms) = error.retry_after_ms {
            details.set_retry_info(Some(Duration::from_millis(ms.into())));
        }
        Self::with_error_details(error.code.grpc(), error.detail, details)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_survives_the_way_through_grpc() {
        let error = ApiError::new(ErrorCode::MempoolFull, "50,000 transactions wait").retry_after(250);
        assert_eq!(ApiError::from_status(&Status::from(error.clone())), error);
        let reject = ApiError::from(RejectCode::SequenceGap);
        assert_eq!(ApiError::from_status(&Status::from(reject.clone())), reject);
        assert_eq!(reject.problem().status, 409);
    }

    #[test]
    fn a_foreign_status_gets_the_nearest_code() {
        assert_eq!(ApiError::from_status(&Status::unavailable("x")).code, ErrorCode::NoValidator);
        assert_eq!(ApiError::from_status(&Status::unknown("x")).code, ErrorCode::Internal);
    }
}
