//! After a run: nothing is missing, no money came or went, and every region tells the same story.

use crate::accounts::Account;
use crate::funding::wait_for_commit;
use crate::progress::{bar, say};
use crate::report::Report;
use anyhow::{Context, ensure};
use futures::stream::{self, StreamExt, TryStreamExt};
use kaldrix_client::{Client, PreparedTransaction};
use kaldrix_types::{Address, AssetId, CommitIndex, Digest, TxId};
use std::collections::BTreeMap;

/// Reads on their way at once.
const READS_AT_ONCE: usize = 64;
/// Of a longer run, this many transactions are looked up, evenly spread.
const LOOKUPS_MAX: usize = 20_000;
/// The newest commits that are compared between regions.
const COMMITS_MAX: usize = 5_000;

/// Checks everything that can be checked from outside.
pub(crate) async fn verify(
    regions: &[Client],
    accounts: &[Account],
    transactions: &[PreparedTransaction],
    total: u128,
    since: CommitIndex,
    report: &Report,
) -> anyhow::Result<()> {
    let mut newest = 0;
    for region in regions {
        newest = newest.max(region.network().await?.commit_index);
    }
    wait_for_commit(regions, newest).await?;
    ensure!(report.is_complete(), "{} of {} due transactions became final", report.finals, report.offered + report.not_offered);
    let looked_up = all_are_final(regions, transactions).await?;
    regions_hold(regions, accounts, total).await?;
    let commits = commits_agree(regions, since, newest).await?;
    let supplies = stream::iter(regions).then(|r| async move { Ok::<_, kaldrix_client::ClientError>(r.network().await?.supply) });
    let supplies: Vec<u128> = supplies.try_collect().await?;
    ensure!(supplies.windows(2).all(|pair| pair[0] == pair[1]), "the regions disagree about the supply of KDX: {supplies:?}");
    say(&format!(
        "verified: {looked_up} transactions are FINAL, {} accounts hold what they should, {} region(s) agree on {commits} commits",
        accounts.len(),
        regions.len()
    ));
    Ok(())
}

/// Every transaction (or an even sample of many) is FINAL with effect, asked of the regions in turn.
async fn all_are_final(regions: &[Client], transactions: &[PreparedTransaction]) -> anyhow::Result<usize> {
    let step = transactions.len().div_ceil(LOOKUPS_MAX).max(1);
    let count = transactions.len().div_ceil(step);
    let bar = &bar("looking up transactions", count as u64);
    let check = |(i, id): (usize, TxId)| async move {
        let info = regions[i % regions.len()].transaction(id).await.with_context(|| format!("transaction {id}"))?;
        ensure!(info.status.is_final() && info.success, "transaction {id} is {} and not a success", info.status);
        bar.inc(1);
        Ok(())
    };
    let ids = transactions.iter().step_by(step).map(PreparedTransaction::id).enumerate();
    stream::iter(ids).map(check).buffer_unordered(READS_AT_ONCE).try_collect::<()>().await?;
    bar.finish_and_clear();
    Ok(count)
}

/// The accounts together hold `total` in every region, and each account the same in all of them.
pub(crate) async fn regions_hold(regions: &[Client], accounts: &[Account], total: u128) -> anyhow::Result<()> {
    let mut first: Option<BTreeMap<Address, u128>> = None;
    for (i, region) in regions.iter().enumerate() {
        let read = |address: Address| async move {
            let account = region.account(address).await.with_context(|| format!("account {address}"))?;
            anyhow::Ok((address, account.balance(AssetId::NATIVE)))
        };
        let balances: BTreeMap<Address, u128> =
            stream::iter(accounts.iter().map(|a| a.address)).map(read).buffer_unordered(READS_AT_ONCE).try_collect().await?;
        let sum: u128 = balances.values().sum();
        ensure!(sum == total, "in region {i} the accounts hold {sum} smallest units together, and it should be {total}");
        match &first {
            None => first = Some(balances),
            Some(first) => {
                let differs = first.iter().find(|(address, amount)| balances.get(address) != Some(amount));
                ensure!(differs.is_none(), "region {i} and the first one disagree about {differs:?}");
            }
        }
    }
    Ok(())
}

/// All regions have the same digests for the commits `since..=newest`, and each names the one before.
async fn commits_agree(regions: &[Client], since: CommitIndex, newest: CommitIndex) -> anyhow::Result<usize> {
    let mut first: Option<BTreeMap<CommitIndex, Digest>> = None;
    for (i, region) in regions.iter().enumerate() {
        let digests = digests(region, since, newest).await?;
        match &first {
            None => first = Some(digests),
            Some(first) => {
                for (index, digest) in first {
                    let other = digests.get(index).with_context(|| format!("region {i} does not have commit {index}"))?;
                    ensure!(other == digest, "region {i} has another digest for commit {index}: {other} and {digest}");
                }
            }
        }
    }
    Ok(first.map_or(0, |f| f.len()))
}

/// Digests of the newest commits, by index, at most [`COMMITS_MAX`].
async fn digests(region: &Client, since: CommitIndex, newest: CommitIndex) -> anyhow::Result<BTreeMap<CommitIndex, Digest>> {
    let lowest = since.max(newest.saturating_sub(COMMITS_MAX as u64)).max(1);
    let mut digests = BTreeMap::new();
    let mut after: Option<String> = None;
    let mut previous_of_newer: Option<Digest> = None;
    loop {
        let page = region.commits(200, after.as_deref()).await?;
        for commit in &page.items {
            if let Some(previous) = previous_of_newer.replace(commit.previous) {
                ensure!(previous == commit.digest, "commit {} is not the one that commit {} names", commit.index, commit.index + 1);
            }
            if (lowest..=newest).contains(&commit.index) {
                digests.insert(commit.index, commit.digest);
            }
        }
        let reached = page.items.last().is_none_or(|c| c.index <= lowest);
        after = page.next;
        if reached || after.is_none() {
            break;
        }
    }
    let expected = newest - lowest + 1;
    ensure!(digests.len() as u64 == expected, "{} of {expected} commits are there", digests.len());
    Ok(digests)
}
