//! Before the clock starts: money for every account, and every account's key on the ledger.

use crate::accounts::{self, AMOUNT, Account, Terms};
use crate::progress::{bar, say};
use anyhow::{Context, ensure};
use futures::stream::{self, StreamExt, TryStreamExt};
use kaldrix_client::{AccountSession, Client, ExecuteOptions, PreparedTransaction, Receipt, WaitFor};
use kaldrix_crypto::{SecretKey, Signer};
use kaldrix_types::{Address, AssetId, CommitIndex, Operation, Scheme};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// Payments of one funding transaction: below the 1,024 operations and the 128 KiB that one may have.
const BATCH: usize = 1_000;
/// Opening transactions on their way at once.
const OPENINGS_AT_ONCE: usize = 256;
/// How long one step of the preparation may take.
const STEP_MAX: Duration = Duration::from_secs(60);
/// Signing and running must be over before the transactions expire.
const VALIDITY_MS: u64 = 6 * 3_600_000;

/// What the preparation found out.
pub(crate) struct Prepared {
    pub(crate) terms: Terms,
    /// What all accounts hold together.
    pub(crate) total: u128,
    /// Commit that holds the last of it.
    pub(crate) commit: CommitIndex,
}

/// Funds and opens `accounts`, so that each can send `per_account` payments. `regions` holds one client per endpoint.
pub(crate) async fn prepare(
    clients: &[Client],
    regions: &[Client],
    accounts: Arc<Vec<Account>>,
    per_account: u64,
    scheme: Scheme,
) -> anyhow::Result<Prepared> {
    let network = clients[0].network().await?;
    let parameters = clients[0].parameters().await?;
    let validity_ms = VALIDITY_MS.min(parameters.validity_ms_max.saturating_sub(60_000));
    let terms =
        Terms { chain_id: network.chain_id, fee: parameters.minimum_fee, valid_until_ms: accounts::now_ms().saturating_add(validity_ms) };
    let payments = u128::from(per_account) + 1;
    // Twice what is needed: whoever has paid may not have been paid yet.
    let each = 2 * payments * (terms.fee + AMOUNT) + 1_000;
    let batches = accounts.len().div_ceil(BATCH) as u128;
    let whole = each * accounts.len() as u128 + batches * terms.fee;

    let root: Arc<dyn Signer> = Arc::new(SecretKey::generate(scheme)?);
    let funded = fund(&clients[0], root, &accounts, each, whole).await?;
    wait_for_commit(regions, funded).await?;
    let opened = open(clients, Arc::clone(&accounts), terms).await?;
    wait_for_commit(regions, opened).await?;
    let fees = terms.fee * accounts.len() as u128;
    Ok(Prepared { terms, total: each * accounts.len() as u128 - fees, commit: opened })
}

/// Faucet → root → every account.
async fn fund(client: &Client, root: Arc<dyn Signer>, accounts: &[Account], each: u128, whole: u128) -> anyhow::Result<CommitIndex> {
    let address = Address::of_key(root.public_key());
    let receipt = client.faucet(address, whole).await.context("the load generator takes its money from the faucet")?;
    let money = client.wait_definite(receipt.id, STEP_MAX).await?;
    ensure!(money.success, "the faucet's payment did not take effect: {}", money.code.unwrap_or_default());
    wait_for_commit(std::slice::from_ref(client), money.commit.unwrap_or(0)).await?;
    let session = AccountSession::open(client.clone(), root).await?;
    let options = ExecuteOptions { timeout: STEP_MAX, valid_for: STEP_MAX * 2, ..ExecuteOptions::default() };
    let bar = bar("funding accounts", accounts.len() as u64);
    let mut commit = 0;
    for batch in accounts.chunks(BATCH) {
        let transfer = |a: &Account| Operation::Transfer { to: a.address, asset: AssetId::NATIVE, amount: each };
        let receipt = session.execute(batch.iter().map(transfer).collect(), &options).await?;
        check(&receipt)?;
        commit = commit.max(receipt.commit.unwrap_or(0));
        bar.inc(batch.len() as u64);
    }
    bar.finish_and_clear();
    Ok(commit)
}

fn check(receipt: &Receipt) -> anyhow::Result<()> {
    let code = receipt.code.as_deref().unwrap_or("no code");
    ensure!(receipt.is_final_success(), "transaction {} is {} ({code}) where it should be final", receipt.id, receipt.status);
    Ok(())
}

/// Every account's first transaction: it carries the key, so that the measured ones can name it by its index.
async fn open(clients: &[Client], accounts: Arc<Vec<Account>>, terms: Terms) -> anyhow::Result<CommitIndex> {
    let count = accounts.len();
    let openings = tokio::task::spawn_blocking(move || accounts::sign_openings(&accounts, &terms)).await??;
    let bar = &bar("opening accounts", count as u64);
    let one = |(i, transaction): (usize, PreparedTransaction)| async move {
        let client = &clients[i % clients.len()];
        let receipt = client.submit_prepared(&transaction, WaitFor::Final, STEP_MAX).await?;
        check(&receipt)?;
        bar.inc(1);
        anyhow::Ok(receipt.commit.unwrap_or(0))
    };
    let commits = stream::iter(openings.into_iter().enumerate()).map(one).buffer_unordered(OPENINGS_AT_ONCE);
    let last = commits.try_fold(0, |last, commit| async move { Ok(last.max(commit)) }).await?;
    bar.finish_and_clear();
    Ok(last)
}

/// Waits until every region's reads have reached `commit`.
pub(crate) async fn wait_for_commit(regions: &[Client], commit: CommitIndex) -> anyhow::Result<()> {
    let deadline = Instant::now() + STEP_MAX;
    for region in regions {
        loop {
            let network = region.network().await?;
            if network.commit_index >= commit {
                break;
            }
            ensure!(
                Instant::now() < deadline,
                "region {} is at commit {} and does not reach {commit}: it does not follow",
                network.region,
                network.commit_index
            );
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
    Ok(())
}

/// Waits until no more transactions are being ordered, at most a minute: what an overload left behind must not slow the next run.
pub(crate) async fn wait_for_quiet(client: &Client) -> anyhow::Result<()> {
    let deadline = Instant::now() + STEP_MAX;
    let mut before = client.network().await?.transaction_count;
    while Instant::now() < deadline {
        tokio::time::sleep(Duration::from_millis(1_500)).await;
        let now = client.network().await?.transaction_count;
        if now == before {
            return Ok(());
        }
        before = now;
    }
    say("the network is still busy with the last rate after a minute");
    Ok(())
}
