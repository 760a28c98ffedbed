//! The ledger under load: somebody else's, or one that was started for this run and is measured and stopped.

use crate::args::TargetArgs;
use crate::limits::{kib_field, require_loopback};
use crate::progress::say;
use anyhow::{Context, bail, ensure};
use kaldrix_client::{Client, ClientOptions, Endpoints};
use serde::Deserialize;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};

/// Keys, certificates and four validators on a slow machine.
const READY_MAX: Duration = Duration::from_secs(120);
/// After SIGINT; then SIGKILL.
const STOP_MAX: Duration = Duration::from_secs(30);
/// Linux counts process times in hundredths of a second for user space, whatever the kernel's own tick (proc_pid_stat(5), USER_HZ).
const TICK_US: u64 = 10_000;

/// The endpoints, and the processes behind them if they are ours.
pub(crate) struct Network {
    pub(crate) endpoints: Vec<String>,
    spawned: Option<Spawned>,
}

struct Spawned {
    child: Child,
    pids: Vec<u32>,
    /// Keeps the network's log until it has stopped.
    _folder: tempfile::TempDir,
    drain: tokio::task::JoinHandle<()>,
}

/// The line that `kaldrix dev --json` prints once everything answers.
#[derive(Debug, Deserialize)]
struct Ready {
    event: String,
    apis: Vec<String>,
    #[serde(default)]
    pids: Vec<u32>,
}

impl Network {
    /// Starts or names the network.
    pub(crate) async fn open(target: &TargetArgs) -> anyhow::Result<Self> {
        let network = if target.spawn {
            spawn(target).await?
        } else {
            Self { endpoints: Endpoints::from(&target.api).as_slice().to_vec(), spawned: None }
        };
        if !target.allow_remote {
            require_loopback(&network.endpoints)?;
        }
        Ok(network)
    }

    /// `per_endpoint` connections to each endpoint; client `k` talks to endpoint `k % endpoints` and to no other.
    pub(crate) fn clients(&self, per_endpoint: u32) -> anyhow::Result<Vec<Client>> {
        let count = self.endpoints.len() * per_endpoint as usize;
        (0..count).map(|k| Ok(Client::new(&self.endpoints[k % self.endpoints.len()], ClientOptions::default())?)).collect()
    }

    /// User and system time of the network's processes so far, µs; 0 when they are not ours.
    pub(crate) fn cpu_us(&self) -> u64 {
        self.sum(|pid| cpu_ticks(&read_proc(pid, "stat")?).map(|ticks| ticks * TICK_US))
    }

    /// Peak resident memory of the network's processes, KiB; 0 when they are not ours.
    pub(crate) fn peak_rss_kib(&self) -> u64 {
        self.sum(|pid| kib_field(&read_proc(pid, "status")?, "VmHWM:"))
    }

    fn sum(&self, read: impl Fn(u32) -> anyhow::Result<u64>) -> u64 {
        let pids = self.spawned.as_ref().map_or(&[][..], |s| &s.pids);
        pids.iter().filter_map(|pid| read(*pid).ok()).sum()
    }

    /// Stops what was started.
    pub(crate) async fn close(self) {
        let Some(mut spawned) = self.spawned else { return };
        if let Some(pid) = spawned.child.id() {
            // The shell's own `kill`: sending a signal without it would take unsafe code.
            let _ = Command::new("sh").arg("-c").arg(format!("kill -INT {pid}")).status().await;
        }
        match tokio::time::timeout(STOP_MAX, spawned.child.wait()).await {
            Ok(Ok(status)) if status.success() => {}
            Ok(Ok(status)) => say(&format!("the network stopped with {status}")),
            Ok(Err(error)) => say(&format!("the network could not be waited for: {error}")),
            Err(_) => {
                say(&format!("the network did not stop within {} s and was killed", STOP_MAX.as_secs()));
                let _ = spawned.child.kill().await;
            }
        }
        spawned.drain.abort();
    }
}

fn read_proc(pid: u32, file: &str) -> anyhow::Result<String> {
    Ok(std::fs::read_to_string(format!("/proc/{pid}/{file}"))?)
}

/// utime + stime: the 14th and 15th field, counted past the name, which may hold spaces and brackets.
fn cpu_ticks(stat: &str) -> anyhow::Result<u64> {
    let (_, rest) = stat.rsplit_once(')').context("no process name")?;
    let mut fields = rest.split_whitespace().skip(11);
    let mut next = || -> anyhow::Result<u64> { Ok(fields.next().context("too few fields")?.parse()?) };
    Ok(next()? + next()?)
}

async fn spawn(target: &TargetArgs) -> anyhow::Result<Network> {
    let binary = match &target.kaldrix {
        Some(path) => path.clone(),
        None => beside_this_program()?,
    };
    ensure!(binary.exists(), "{} does not exist: build it with `cargo build --release -p kaldrix`, or give --kaldrix", binary.display());
    let folder = tempfile::tempdir()?;
    let log_path = folder.path().join("network.log");
    let log = std::fs::File::create(&log_path)?;
    say(&format!("starting {} dev", binary.display()));
    let mut child = Command::new(&binary)
        .args(["dev", "--ephemeral", "--json", "--api", &target.spawn_api])
        .args(target.spawn_args.iter().filter(|a| !a.is_empty()))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(log)
        .kill_on_drop(true)
        .spawn()
        .with_context(|| format!("{} cannot be started", binary.display()))?;
    let mut lines = BufReader::new(child.stdout.take().context("its stdout is piped")?).lines();
    let ready = tokio::time::timeout(READY_MAX, wait_ready(&mut lines)).await;
    let ready = match ready {
        Ok(Ok(ready)) => ready,
        Ok(Err(error)) => return Err(error.context(tail(&log_path))),
        Err(_) => bail!("the network was not ready within {} s\n{}", READY_MAX.as_secs(), tail(&log_path)),
    };
    say(&format!("ready at {}", ready.apis.join(", ")));
    let pids = if ready.pids.is_empty() { child.id().into_iter().collect() } else { ready.pids };
    // Status lines go on: an unread pipe would stop the network.
    let drain = tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
    Ok(Network { endpoints: ready.apis, spawned: Some(Spawned { child, pids, _folder: folder, drain }) })
}

fn beside_this_program() -> anyhow::Result<PathBuf> {
    let own = std::env::current_exe()?;
    Ok(own.parent().context("this program is in a folder")?.join("kaldrix"))
}

async fn wait_ready(lines: &mut Lines<BufReader<ChildStdout>>) -> anyhow::Result<Ready> {
    while let Some(line) = lines.next_line().await? {
        if let Ok(ready) = serde_json::from_str::<Ready>(&line)
            && ready.event == "ready"
        {
            ensure!(!ready.apis.is_empty(), "the network is ready without an API");
            return Ok(ready);
        }
    }
    bail!("the network ended before it was ready")
}

/// The end of the network's log, for an error message.
fn tail(path: &Path) -> String {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(15)..].join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn process_times_are_found_behind_any_name() {
        let stat = "123 (a) b (c) S 1 2 3 4 5 6 7 8 9 10 250 50 0 0 20 0 9 0 1 2 3";
        assert_eq!(cpu_ticks(stat).unwrap(), 300);
        assert!(cpu_ticks("123 (x) S 1").is_err());
    }

    #[test]
    fn this_process_has_times_and_a_peak() {
        let pid = std::process::id();
        assert!(cpu_ticks(&read_proc(pid, "stat").unwrap()).is_ok());
        assert!(kib_field(&read_proc(pid, "status").unwrap(), "VmHWM:").unwrap() > 100);
    }

    #[test]
    fn the_ready_line_is_told_from_others() {
        let ready: Ready = serde_json::from_str(r#"{"event":"ready","apis":["http://127.0.0.1:1"],"data_dir":"x","pids":[7]}"#).unwrap();
        assert_eq!((ready.apis.len(), ready.pids), (1, vec![7]));
        assert!(serde_json::from_str::<Ready>(r#"{"event":"status","round":3}"#).is_err());
    }
}
