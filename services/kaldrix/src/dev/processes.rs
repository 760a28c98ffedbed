//! Every service as a process of its own, with the written-out configs: one can be killed and started again alone.

use super::plan::{Plan, Unit};
use super::status::Reporter;
use super::watch::{Target, Watch};
use anyhow::Context;
use rustix::process::{Pid, Signal, kill_process};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::process::{Child, Command};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

const STOP_MAX: Duration = Duration::from_secs(12);

/// Runs until Ctrl-C. A service that ends is reported, with the line that starts it again; the others go on.
///
/// # Errors
/// When a process cannot be started, or the network does not get ready.
pub(crate) async fn live(plan: &Plan, reporter: &Reporter) -> anyhow::Result<()> {
    std::fs::create_dir_all(plan.dir.join("logs"))?;
    let mut processes = Processes { dir: plan.dir.clone(), reporter: reporter.clone(), running: Vec::new(), waiting: JoinSet::new() };
    let result = tokio::select! {
        result = run(plan, reporter, &mut processes) => result,
        signal = kaldrix_service_kit::supervise::signal() => {
            reporter.note(&format!("{signal}: stopping"));
            Ok(())
        }
    };
    reporter.stopping();
    processes.stop_all().await;
    result
}

async fn run(plan: &Plan, reporter: &Reporter, processes: &mut Processes) -> anyhow::Result<()> {
    for unit in &plan.units {
        processes.start(unit)?;
    }
    reporter.wait_until_ready(plan, &processes.pids()).await?;
    let status = reporter.clone().watch(plan.apis.clone(), CancellationToken::new());
    tokio::pin!(status);
    let mut watch = Watch::new(plan);
    loop {
        tokio::select! {
            () = &mut status => return Ok(()),
            targets = watch.changed() => for target in targets {
                follow(&target, processes, reporter);
            },
        }
    }
}

/// Starts or stops a validator's services, if they are not as they are to be.
fn follow(target: &Target, processes: &mut Processes, reporter: &Reporter) {
    let Some(home) = target.units.first().map(|u| u.home.clone()) else { return };
    match (target.active, processes.is_known(&home)) {
        (true, false) => match target.units.iter().try_for_each(|unit| processes.start(unit)) {
            Ok(()) => reporter.validator_added(&target.name, &target.units, &processes.pids()),
            Err(error) => {
                processes.stop(&home);
                reporter.note(&format!("{} could not be started: {error:#}; run `kaldrix validator add` again", target.name));
            }
        },
        (false, true) => {
            processes.stop(&home);
            reporter.validator_removed(&target.name);
        }
        _ => {}
    }
}

/// A started service, which may have ended since.
struct Running {
    name: String,
    home: PathBuf,
    pid: Option<u32>,
    /// It was told to end: nothing to report.
    told: Arc<AtomicBool>,
    /// Nothing has this process id any more, or something else has.
    gone: Arc<AtomicBool>,
}

impl Running {
    fn tell(&self, signal: Signal) {
        self.told.store(true, Ordering::Relaxed);
        let pid = self.pid.filter(|_| !self.gone.load(Ordering::Relaxed));
        if let Some(pid) = pid.and_then(|pid| i32::try_from(pid).ok()).and_then(Pid::from_raw) {
            // It may be gone already.
            let _ = kill_process(pid, signal);
        }
    }
}

struct Processes {
    dir: PathBuf,
    reporter: Reporter,
    running: Vec<Running>,
    waiting: JoinSet<()>,
}

impl Processes {
    fn start(&mut self, unit: &Unit) -> anyhow::Result<()> {
        let mut child = spawn(&self.dir, unit)?;
        let (told, gone) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
        let pid = child.id();
        self.running.push(Running {
            name: unit.name.clone(),
            home: unit.home.clone(),
            pid,
            told: Arc::clone(&told),
            gone: Arc::clone(&gone),
        });
        let (name, reporter, restart) = (unit.name.clone(), self.reporter.clone(), restart_line(unit));
        self.waiting.spawn(async move {
            // Held open: the service stops when this process is gone.
            let _stdin = child.stdin.take();
            let ended = child.wait().await;
            gone.store(true, Ordering::Relaxed);
            if !told.load(Ordering::Relaxed) {
                reporter.service_ended(&name, ended.ok(), &restart);
            }
        });
        Ok(())
    }

    /// Whether the services in this folder were started and not told to stop; single ones may have ended.
    fn is_known(&self, home: &Path) -> bool {
        self.running.iter().any(|r| r.home == home)
    }

    /// Process ids by service.
    fn pids(&self) -> Vec<(String, u32)> {
        self.running.iter().filter_map(|r| Some((r.name.clone(), r.pid?))).collect()
    }

    /// Tells the services in this folder to stop; those that do not are killed, in the background.
    fn stop(&mut self, home: &Path) {
        let (stopped, rest) = std::mem::take(&mut self.running).into_iter().partition(|r| r.home == home);
        self.running = rest;
        let stopped: Vec<Running> = stopped;
        stopped.iter().for_each(|r| r.tell(Signal::TERM));
        self.waiting.spawn(async move {
            let all_gone = async {
                while !stopped.iter().all(|r| r.gone.load(Ordering::Relaxed)) {
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            };
            if tokio::time::timeout(STOP_MAX, all_gone).await.is_err() {
                stopped.iter().for_each(|r| r.tell(Signal::KILL));
            }
        });
    }

    async fn stop_all(&mut self) {
        self.running.iter().for_each(|r| r.tell(Signal::TERM));
        let waiting = &mut self.waiting;
        let all_gone = async { while waiting.join_next().await.is_some() {} };
        if tokio::time::timeout(STOP_MAX, all_gone).await.is_err() {
            self.running.iter().for_each(|r| r.tell(Signal::KILL));
        }
    }
}

fn spawn(dir: &Path, unit: &Unit) -> anyhow::Result<Child> {
    let log = dir.join("logs").join(format!("{}.log", unit.name.replace('/', "-")));
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
