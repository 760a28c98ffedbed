//! The accounts that pay one another, and everything they will sign.

use crate::schedule::Schedule;
use anyhow::Context;
use bytes::Bytes;
use indicatif::ProgressBar;
use kaldrix_client::PreparedTransaction;
use kaldrix_crypto::{SecretKey, sign_transaction};
use kaldrix_types::{Address, AssetId, ChainId, KeyRef, Operation, Scheme, Sequence, TimestampMs, TxBody};
use std::ops::Range;
use std::time::{SystemTime, UNIX_EPOCH};

/// Every payment moves this many smallest units: all that matters is that it is one.
pub(crate) const AMOUNT: u128 = 1;
/// Between two updates of the progress bar.
const PROGRESS_STEP: u64 = 64;

/// One sender. Lane 0 only: strictly in order.
pub(crate) struct Account {
    pub(crate) key: SecretKey,
    pub(crate) address: Address,
}

/// What every transaction of a run has in common.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Terms {
    pub(crate) chain_id: ChainId,
    pub(crate) fee: u128,
    pub(crate) valid_until_ms: TimestampMs,
}

/// The wall clock in ms since the Unix epoch.
pub(crate) fn now_ms() -> TimestampMs {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| u64::try_from(d.as_millis()).unwrap_or(u64::MAX))
}

/// Splits `0..count` over the processors and runs `work` on each part; the results stay in order.
fn in_parallel<T: Send>(count: u64, work: impl Fn(Range<u64>) -> anyhow::Result<Vec<T>> + Sync) -> anyhow::Result<Vec<T>> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from) as u64;
    let step = count.div_ceil(threads).max(1);
    let work = &work;
    std::thread::scope(|scope| {
        let parts: Vec<_> =
            (0..threads).map(|t| (t * step).min(count)..((t + 1) * step).min(count)).map(|part| scope.spawn(move || work(part))).collect();
        let mut all = Vec::with_capacity(usize::try_from(count)?);
        for part in parts {
            all.extend(part.join().ok().context("a signing thread was lost")??);
        }
        Ok(all)
    })
}

/// Makes `count` accounts with new keys.
pub(crate) fn generate(count: u32, scheme: Scheme) -> anyhow::Result<Vec<Account>> {
    in_parallel(u64::from(count), |part| {
        part.map(|_| {
            let key = SecretKey::generate(scheme)?;
            let address = Address::of_key(key.public_key());
            Ok(Account { key, address })
        })
        .collect()
    })
}

/// Signs one payment of `from` to `to`.
pub(crate) fn payment(from: &Account, to: Address, sequence: Sequence, key: KeyRef, terms: &Terms) -> anyhow::Result<PreparedTransaction> {
    let body = TxBody {
        chain_id: terms.chain_id,
        sender: from.address,
        lane: 0,
        sequence,
        valid_until_ms: terms.valid_until_ms,
        fee: terms.fee,
        operations: vec![Operation::Transfer { to, asset: AssetId::NATIVE, amount: AMOUNT }],
        memo: Bytes::new(),
    };
    Ok(PreparedTransaction::from(&sign_transaction(body, &from.key, key)?))
}

/// Signs each account's first transaction, which carries its key and pays the next account.
pub(crate) fn sign_openings(accounts: &[Account], terms: &Terms) -> anyhow::Result<Vec<PreparedTransaction>> {
    in_parallel(accounts.len() as u64, |part| {
        part.map(|i| {
            let i = usize::try_from(i)?;
            let key = KeyRef::Inline(accounts[i].key.public_key().clone());
            payment(&accounts[i], accounts[(i + 1) % accounts.len()].address, 0, key, terms)
        })
        .collect()
    })
}

/// Signs every transaction of the schedule, in its order. The accounts are open: their sequences go on from 1, their key is number 0.
pub(crate) fn sign_schedule(
    accounts: &[Account],
    schedule: &Schedule,
    terms: &Terms,
    bar: &ProgressBar,
) -> anyhow::Result<Vec<PreparedTransaction>> {
    in_parallel(schedule.count, |part| {
        part.map(|i| {
            if i % PROGRESS_STEP == 0 {
                bar.inc(PROGRESS_STEP);
            }
            let (sender, number) = schedule.sender(i);
            payment(&accounts[sender], accounts[schedule.recipient(i)].address, number + 1, KeyRef::Index(0), terms)
        })
        .collect()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use kaldrix_types::{DecodedTransaction, Digest};

    #[test]
    fn what_is_signed_ahead_is_what_the_ledger_takes_in_order() {
        let accounts = generate(3, Scheme::Ed25519).unwrap();
        let terms = Terms { chain_id: ChainId(Digest([1; 32])), fee: 2, valid_until_ms: 9 };
        let schedule = Schedule { rate: 1, count: 10, accounts: 3 };
        let signed = sign_schedule(&accounts, &schedule, &terms, &ProgressBar::hidden()).unwrap();
        assert_eq!(signed.len(), 10);
        let openings = sign_openings(&accounts, &terms).unwrap();
        let mut next = [0; 3];
        for tx in openings.iter().chain(&signed) {
            let decoded = DecodedTransaction::decode(tx.bytes().to_vec().into(), terms.chain_id).unwrap();
            let sender = accounts.iter().position(|a| a.address == decoded.body().sender).unwrap();
            assert_eq!(decoded.body().sequence, next[sender]);
            assert_eq!(matches!(decoded.signature().key, KeyRef::Inline(_)), next[sender] == 0, "the first carries the key");
            next[sender] += 1;
            let verifying = kaldrix_crypto::VerifyingKey::prepare(accounts[sender].key.public_key()).unwrap();
            assert!(verifying.verify(&decoded.signing_message(), &decoded.signature().signature).is_ok());
        }
        assert_eq!(next.iter().sum::<u64>(), 13);
    }
}
