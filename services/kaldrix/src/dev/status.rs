//! What `kaldrix dev` shows: where things are, then one line that lives.

use super::plan::{Plan, Unit};
use super::say;
use indicatif::{ProgressBar, ProgressStyle};
use kaldrix_client::{Client, NetworkInfo};
use serde_json::json;
use std::io::IsTerminal;
use std::net::SocketAddr;
use std::process::ExitStatus;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;

const READY_MAX: Duration = Duration::from_secs(60);
/// How often a line is written when stderr is no terminal.
const LINE_PERIOD: Duration = Duration::from_secs(5);

/// Text for people or JSON lines for scripts.
#[derive(Clone)]
pub(crate) struct Reporter {
    json: bool,
    bar: Option<ProgressBar>,
    stopping: Arc<AtomicBool>,
}

impl Reporter {
    pub(crate) fn new(json: bool) -> Self {
        let live = !json && std::io::stderr().is_terminal();
        let bar = live.then(|| {
            let style = ProgressStyle::with_template("{spinner} {msg}").unwrap_or_else(|_| ProgressStyle::default_spinner());
            ProgressBar::new_spinner().with_style(style)
        });
        Self { json, bar, stopping: Arc::default() }
    }

    /// A line for people; scripts do not see it.
    pub(crate) fn note(&self, text: &str) {
        match &self.bar {
            Some(bar) => bar.suspend(|| say(text)),
            None => say(text),
        }
    }

    /// From now on services that end do so because they were told to.
    pub(crate) fn stopping(&self) {
        self.stopping.store(true, Ordering::Relaxed);
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }

    pub(crate) fn service_ended(&self, name: &str, status: Option<ExitStatus>, restart: &str) {
        if self.stopping.load(Ordering::Relaxed) {
            return;
        }
        let how = status.map_or_else(|| "lost".to_owned(), |s| s.to_string());
        if self.json {
            print_line(&json!({ "event": "service_ended", "service": name, "status": how, "restart": restart }));
        }
        self.note(&format!("{name} ended ({how}); start it again with: {restart}"));
    }

    /// Returns when every region's API answers and has seen a commit, having said so.
    pub(crate) async fn wait_until_ready(&self, plan: &Plan, services: &[(String, u32)]) -> anyhow::Result<()> {
        let deadline = Instant::now() + READY_MAX;
        for (region, address) in &plan.apis {
            loop {
                match network(*address).await {
                    Some(network) if network.commit_index > 0 => break,
                    _ if Instant::now() > deadline => {
                        anyhow::bail!(
                            "the API of {region} on {address} is not ready after {} s; see the messages above or the logs",
                            READY_MAX.as_secs()
                        )
                    }
                    _ => tokio::time::sleep(Duration::from_millis(50)).await,
                }
            }
        }
        let urls: Vec<String> = plan.apis.iter().map(|(_, address)| format!("http://{address}")).collect();
        if self.json {
            let pids: Vec<u32> =
                if services.is_empty() { vec![std::process::id()] } else { services.iter().map(|(_, pid)| *pid).collect() };
            print_line(&json!({
                "event": "ready", "chain_id": plan.chain_id, "apis": urls, "data_dir": plan.dir,
                "validators": plan.validators.len(), "pids": pids, "services": services_json(&plan.units, services),
            }));
        } else {
            self.note(&ready_text(plan, &urls));
        }
        Ok(())
    }

    /// A validator's services were started while the network runs; `services` are process ids by name, where each is a process.
    pub(crate) fn validator_added(&self, name: &str, units: &[Unit], services: &[(String, u32)]) {
        if self.json {
            print_line(&json!({ "event": "validator_added", "validator": name, "services": services_json(units, services) }));
        }
        self.note(&format!("{name} was added: its services are starting"));
    }

    /// A validator's services were told to stop while the network runs.
    pub(crate) fn validator_removed(&self, name: &str) {
        if self.json {
            print_line(&json!({ "event": "validator_removed", "validator": name }));
        }
        self.note(&format!("{name} has left: its services are stopping"));
    }

    /// Shows the live status until `cancel`.
    pub(crate) async fn watch(self, apis: Vec<(String, SocketAddr)>, cancel: CancellationToken) {
        let mut before: Option<(Instant, NetworkInfo)> = None;
        let mut last_line = Instant::now();
        loop {
            tokio::select! {
                () = cancel.cancelled() => return,
                () = tokio::time::sleep(Duration::from_secs(1)) => {}
            }
            let now = newest(&apis).await;
            let Some(network) = now else {
                self.note("no API answers");
                continue;
            };
            let (tps, rounds) = before.as_ref().map_or((0.0, 0.0), |(at, old)| {
                let seconds = at.elapsed().as_secs_f64();
                let per_second = |new: u64, old: u64| new.saturating_sub(old) as f64 / seconds;
                (per_second(network.transaction_count, old.transaction_count), per_second(network.round, old.round))
            });
            self.show(&network, tps, rounds, &mut last_line);
            before = Some((Instant::now(), network));
        }
    }

    fn show(&self, network: &NetworkInfo, tps: f64, rounds: f64, last_line: &mut Instant) {
        if self.json {
            print_line(&json!({
                "event": "status", "round": network.round, "commits": network.commit_index, "transactions": network.transaction_count,
                "tps": tps.round(), "rounds_per_s": rounds.round(),
                "finality_ms": { "p50": network.finality_p50_ms, "p99": network.finality_p99_ms },
            }));
            return;
        }
        let finality = if network.finality_p50_ms == 0 {
            "no payments in the last minute".to_owned()
        } else {
            format!("finality p50 {} ms, p99 {} ms", network.finality_p50_ms, network.finality_p99_ms)
        };
        let text = format!(
            "round {} ({rounds:.0}/s) · {} commits · {} transactions ({tps:.0}/s) · {finality}",
            network.round, network.commit_index, network.transaction_count
        );
        match &self.bar {
            Some(bar) => {
                bar.set_message(text);
                bar.tick();
            }
            None if last_line.elapsed() >= LINE_PERIOD => {
                *last_line = Instant::now();
                say(&text);
            }
            None => {}
        }
    }
}

fn services_json(units: &[Unit], services: &[(String, u32)]) -> Vec<serde_json::Value> {
    let one = |unit: &Unit| {
        let pid = services.iter().find(|(name, _)| *name == unit.name).map(|(_, pid)| *pid);
        json!({ "name": unit.name, "service": unit.service.as_str(), "config": unit.config, "pid": pid })
    };
    units.iter().map(one).collect()
}

fn ready_text(plan: &Plan, urls: &[String]) -> String {
    let mut text = format!("ready: chain {}, {} validators", &plan.chain_id[..16], plan.validators.len());
    for ((region, _), url) in plan.apis.iter().zip(urls) {
        text.push_str(&format!("\n  {region:<14} {url}   (status page; /docs explains the API)"));
    }
    text.push_str("\nCtrl-C stops the network; started again it goes on from where it was.");
    text
}

async fn newest(apis: &[(String, SocketAddr)]) -> Option<NetworkInfo> {
    for (_, address) in apis {
        if let Some(network) = network(*address).await {
            return Some(network);
        }
    }
    None
}

async fn network(address: SocketAddr) -> Option<NetworkInfo> {
    let ask = async { Client::connect(&format!("http://{address}")).await.ok()?.network().await.ok() };
    tokio::time::timeout(Duration::from_secs(2), ask).await.ok().flatten()
}

#[allow(clippy::print_stdout, reason = "JSON lines are the command's result")]
fn print_line(value: &serde_json::Value) {
    use std::io::Write;
    println!("{value}");
    // A reader that waits for the line must get it now; one that is gone does not matter.
    let _ = std::io::stdout().flush();
}
