//! Test money for development networks: requests are gathered and paid together, one transaction at a time.
//!
//! Several APIs of one network share the faucet's account, so each pays from a lane of its own (a hash of its region's name): no two of them
//! ever race for a sequence number.

use super::Ledger;
use crate::error::invalid;
use kaldrix_api::{ApiError, ErrorCode};
use kaldrix_proto::ledger as pb;
use kaldrix_types::hash::Context;
use kaldrix_types::{Address, Lane, NATIVE_DECIMALS, format_amount};
use tokio::sync::{mpsc, oneshot};

/// Most that one request gets: 1,000,000 KDX in smallest units.
pub const FAUCET_AMOUNT_MAX: u128 = 1_000_000 * 10u128.pow(NATIVE_DECIMALS as u32);
/// Requests that may wait.
const QUEUE_MAX: usize = 1_024;
/// What to tell clients when they are more.
const RETRY_MS: u32 = 1_000;

/// One payment that was asked for.
#[derive(Debug)]
pub struct Payment {
    /// Who gets it.
    pub to: Address,
    /// Smallest units.
    pub amount: u128,
    /// Where the transaction that paid it goes.
    pub reply: oneshot::Sender<Result<pb::Transaction, ApiError>>,
}

/// The way to the faucet's task.
#[derive(Clone, Debug)]
pub struct FaucetHandle {
    payments: mpsc::Sender<Payment>,
}

impl FaucetHandle {
    /// A handle and the queue to serve.
    #[must_use]
    pub fn new() -> (Self, mpsc::Receiver<Payment>) {
        let (payments, queue) = mpsc::channel(QUEUE_MAX);
        (Self { payments }, queue)
    }
}

/// The faucet's lane in this region: 1 to 255, so that lane 0 stays free for people.
#[must_use]
pub fn lane_of_region(region: &str) -> Lane {
    let digest = Context::KeyId.hash(&[b"faucet lane", region.as_bytes()]);
    digest.as_bytes()[0] % 255 + 1
}

impl Ledger {
    /// Pays `amount` smallest units of KDX to `to` and waits until that is final.
    ///
    /// # Errors
    /// FAUCET_DISABLED, FAUCET_LIMIT, INVALID_ARGUMENT, and whatever a submission can say.
    pub async fn faucet(&self, to: Address, amount: &str) -> Result<pb::Transaction, ApiError> {
        let handle = self.parts.faucet.as_ref().ok_or(ErrorCode::FaucetDisabled)?;
        let digits = !amount.is_empty() && amount.bytes().all(|b| b.is_ascii_digit());
        let over = || {
            let limit = format_amount(FAUCET_AMOUNT_MAX, NATIVE_DECIMALS);
            ApiError::new(ErrorCode::FaucetLimit, format!("the faucet gives at most {limit} KDX at once"))
        };
        if !digits {
            return Err(invalid("amount", "use decimal digits: smallest units of KDX"));
        }
        let amount: u128 = amount.parse().map_err(|_| over())?;
        if amount > FAUCET_AMOUNT_MAX {
            return Err(over());
        }
        if amount == 0 {
            return Err(invalid("amount", "must be above zero"));
        }
        if to == Address::FEE_POOL {
            return Err(kaldrix_types::RejectCode::BadRecipient.into());
        }
        let busy = || ApiError::new(ErrorCode::Overloaded, "too many faucet requests are waiting").retry_after(RETRY_MS);
        let (reply, answer) = oneshot::channel();
        handle.payments.try_send(Payment { to, amount, reply }).map_err(|_| busy())?;
        answer.await.unwrap_or_else(|_| Err(busy()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_region_has_a_lane_above_zero_and_the_known_ones_differ() {
        let lanes: Vec<Lane> = ["us-east-1", "us-west-2", "eu-west-1", ""].iter().map(|r| lane_of_region(r)).collect();
        assert!(lanes.iter().all(|lane| *lane > 0), "{lanes:?}");
        assert!(lanes[0] != lanes[1] && lanes[1] != lanes[2] && lanes[0] != lanes[2], "{lanes:?}");
    }
}
