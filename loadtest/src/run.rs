//! One run from accounts to report.

use crate::accounts;
use crate::args::{RunArgs, TargetArgs};
use crate::engine::{self, Load};
use crate::funding;
use crate::limits::require_memory;
use crate::network::Network;
use crate::progress::{bar, result, say};
use crate::report::{Measured, Report};
use crate::schedule::Schedule;
use crate::verify;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// `run`
pub(crate) async fn run(args: RunArgs) -> anyhow::Result<ExitCode> {
    require_memory(args.count(), args.target.scheme)?;
    let network = Network::open(&args.target).await?;
    let outcome = interruptible(measure(&network, &args.target, args.rate, args.count(), args.verify)).await;
    network.close().await;
    let report = outcome?;
    if args.target.json {
        say(&report.text());
        result(&serde_json::to_string(&report)?);
    } else {
        result(&report.text());
    }
    Ok(if report.verified == Some(false) || report.finals == 0 { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// Ctrl-C ends the work, so that a network that was started for it is stopped as well.
pub(crate) async fn interruptible<T>(work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    tokio::select! {
        outcome = work => outcome,
        _ = tokio::signal::ctrl_c() => Err(anyhow::anyhow!("interrupted")),
    }
}

/// Offers `count` payments at `rate` per second among new accounts.
pub(crate) async fn measure(network: &Network, target: &TargetArgs, rate: u64, count: u64, check: bool) -> anyhow::Result<Report> {
    // One HTTP/2 connection carries some hundred calls at once, and each of ours stays open until FINAL.
    let connections = target.connections.unwrap_or_else(|| u32::try_from(rate / 250).unwrap_or(u32::MAX).clamp(8, 128));
    let clients = network.clients(connections)?;
    let regions = network.clients(1)?;
    let schedule = Schedule { rate, count, accounts: u64::from(target.accounts) };
    let (number, scheme) = (target.accounts, target.scheme);
    let accounts = Arc::new(tokio::task::spawn_blocking(move || accounts::generate(number, scheme)).await??);
    let prepared = funding::prepare(&clients, &regions, Arc::clone(&accounts), schedule.per_account(), scheme).await?;

    let terms = prepared.terms;
    let signing = {
        let accounts = Arc::clone(&accounts);
        let bar = bar("signing ahead of time", count);
        tokio::task::spawn_blocking(move || {
            let signed = accounts::sign_schedule(&accounts, &schedule, &terms, &bar);
            bar.finish_and_clear();
            signed
        })
    };
    let transactions = signing.await??;
    if check {
        verify::regions_hold(&regions, &accounts, prepared.total).await?;
    }

    say(&format!("offering {count} at {rate}/s for {} s to {} API(s)", schedule.length().as_secs_f64().ceil(), regions.len()));
    let (round, cpu_us, since) = (regions[0].network().await?.round, network.cpu_us(), Instant::now());
    let timeout = Duration::from_millis(target.timeout_ms);
    let load = Load { clients, transactions, schedule, in_flight_max: target.in_flight_max, timeout };
    let (tally, transactions) = engine::drive(load).await;
    let measured = Measured {
        cpu_us: network.cpu_us().saturating_sub(cpu_us),
        peak_rss_kib: network.peak_rss_kib(),
        rounds: regions[0].network().await?.round.saturating_sub(round),
        elapsed: since.elapsed(),
    };
    let mut report = Report::new(&tally, &measured, rate, target.accounts, target.scheme.to_string());
    if check {
        let fees = terms.fee * u128::from(tally.finals + tally.failed);
        let outcome = verify::verify(&regions, &accounts, &transactions, prepared.total - fees, prepared.commit, &report).await;
        if let Err(error) = &outcome {
            say(&format!("NOT verified: {error:#}"));
        }
        report.verified = Some(outcome.is_ok());
    }
    Ok(report)
}
