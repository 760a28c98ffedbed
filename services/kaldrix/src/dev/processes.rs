//! Every service as a process of its own, with the written-out configs: one can be killed and started again alone.

use super::plan::{Plan, Unit};
use super::status::Reporter;
use anyhow::Context;
use rustix::process::{Pid, Signal, kill_process};
use std::fs::File;
use std::process::Stdio;
use std::time::Duration;
use tokio::process::{Child, Command};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

const STOP_MAX: Duration = Duration::from_secs(12);

/// A started service.
struct Running {
    name: String,
    pid: Option<u32>,
}

/// Runs until Ctrl-C. A service that ends is reported, with the line that starts it again; the others go on.
///
/// # Errors
/// When a process cannot be started, or the network does not get ready.
pub(crate) async fn live(plan: &Plan, reporter: &Reporter) -> anyhow::Result<()> {
    std::fs::create_dir_all(plan.dir.join("logs"))?;
    let mut waiting = JoinSet::new();
    let mut running = Vec::new();
    for unit in &plan.units {
        let mut child = spawn(plan, unit)?;
        running.push(Running { name: unit.name.clone(), pid: child.id() });
        let (name, reporter, restart) = (unit.name.clone(), reporter.clone(), restart_line(unit));
        waiting.spawn(async move {
            // Held open: the service stops when this process is gone.
            let _stdin = child.stdin.take();
            let ended = child.wait().await;
            reporter.service_ended(&name, ended.ok(), &restart);
        });
    }
    let pids: Vec<(String, u32)> = running.iter().filter_map(|r| Some((r.name.clone(), r.pid?))).collect();
    let watch = CancellationToken::new();
    let up = async {
        reporter.wait_until_ready(plan, &pids).await?;
        reporter.clone().watch(plan.apis.clone(), watch.clone()).await;
        anyhow::Ok(())
    };
    let result = tokio::select! {
        result = up => result,
        signal = kaldrix_service_kit::supervise::signal() => {
            reporter.note(&format!("{signal}: stopping"));
            Ok(())
        }
    };
    reporter.stopping();
    for (_, pid) in &pids {
        tell(*pid, Signal::TERM);
    }
    let all_gone = async { while waiting.join_next().await.is_some() {} };
    if tokio::time::timeout(STOP_MAX, all_gone).await.is_err() {
        for (_, pid) in &pids {
            tell(*pid, Signal::KILL);
        }
    }
    result
}

fn spawn(plan: &Plan, unit: &Unit) -> anyhow::Result<Child> {
    let log = plan.dir.join("logs").join(format!("{}.log", unit.name.replace('/', "-")));
    let log = File::options().create(true).append(true).open(&log).with_context(|| log.display().to_string())?;
    Command::new(std::env::current_exe()?)
        .args(["run", unit.service.as_str(), "--until-stdin-closes", "--config"])
        .arg(&unit.config)
        .stdin(Stdio::piped())
        .stdout(log.try_clone()?)
        .stderr(log)
        // Ctrl-C in the terminal reaches this process alone, which then stops the services.
        .process_group(0)
        .spawn()
        .with_context(|| format!("{} cannot be started", unit.name))
}

fn restart_line(unit: &Unit) -> String {
    format!("kaldrix run {} --config {}", unit.service, unit.config.display())
}

fn tell(pid: u32, signal: Signal) {
    if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
        // It may be gone already.
        let _ = kill_process(pid, signal);
    }
}
