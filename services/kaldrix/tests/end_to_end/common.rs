//! A real network for tests: `kaldrix dev` as a child process on free ports, and people's tools to look at it with.

use kaldrix_api::clients::DagServiceClient;
use kaldrix_proto::dag::{AuditRequest, AuditResponse, GetStatusRequest, Status as DagStatus};
use kaldrix_service_kit::tls::Expected;
use kaldrix_service_kit::{Config, Service, TlsMaterial};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

pub(crate) const BINARY: &str = env!("CARGO_BIN_EXE_kaldrix");

/// A running `kaldrix dev`.
pub(crate) struct DevNetwork {
    pub(crate) dir: PathBuf,
    pub(crate) apis: Vec<String>,
    pub(crate) ready: Value,
    child: Child,
    /// What it printed since, but for the status lines.
    events: Arc<Mutex<Vec<Value>>>,
    _temporary: Option<tempfile::TempDir>,
}

impl DevNetwork {
    /// A fresh network in this process's own temporary folder.
    pub(crate) fn start(extra: &[&str]) -> Self {
        let temporary = tempfile::tempdir().unwrap();
        let mut network = Self::start_in(temporary.path(), extra, &[]);
        network._temporary = Some(temporary);
        network
    }

    pub(crate) fn start_in(dir: &Path, extra: &[&str], environment: &[(&str, &str)]) -> Self {
        let mut child = Command::new(BINARY)
            .args(["dev", "--json", "--api", "127.0.0.1:0", "--data-dir"])
            .arg(dir)
            .args(extra)
            .envs(environment.iter().copied())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap());
        let mut ready = None;
        let mut line = String::new();
        while lines.read_line(&mut line).unwrap() > 0 {
            let value: Value = serde_json::from_str(&line).unwrap();
            line.clear();
            if value["event"] == "ready" {
                ready = Some(value);
                break;
            }
        }
        let events = Arc::new(Mutex::new(Vec::new()));
        let sink = Arc::clone(&events);
        // Also to keep the pipe from filling up.
        std::thread::spawn(move || {
            for line in lines.lines().map_while(Result::ok) {
                let value: Value = serde_json::from_str(&line).unwrap();
                if value["event"] != "status" {
                    sink.lock().unwrap().push(value);
                }
            }
        });
        let Some(ready) = ready else {
            let status = child.wait().unwrap();
            panic!("the network ended before it was ready: {status}");
        };
        let apis = ready["apis"].as_array().unwrap().iter().map(|a| a.as_str().unwrap().to_owned()).collect();
        Self { dir: dir.to_owned(), apis, ready, child, events, _temporary: None }
    }

    /// Ends it in order, as Ctrl-C does.
    pub(crate) fn stop(mut self) {
        signal(self.child.id(), Signal::INT);
        let status = self.child.wait().unwrap();
        assert!(status.success(), "the network stops in order, not with {status}");
    }

    /// `kill -9` of the process; with `--processes` of every service too.
    pub(crate) fn kill_all(&mut self) {
        signal(self.child.id(), Signal::KILL);
        for pid in self.ready["pids"].as_array().unwrap() {
            signal(u32::try_from(pid.as_u64().unwrap()).unwrap(), Signal::KILL);
        }
        self.child.wait().unwrap();
    }

    /// What it said about one validator since it was ready.
    pub(crate) fn event(&self, event: &str, validator: &str) -> Option<Value> {
        let events = self.events.lock().unwrap();
        events.iter().rev().find(|e| e["event"] == event && e["validator"] == validator).cloned()
    }

    /// A service's process and configuration (`--processes`).
    pub(crate) fn service(&self, name: &str) -> (u32, PathBuf) {
        let added = self.event("validator_added", name.split('/').next().unwrap()).unwrap_or(Value::Null);
        let mut services = added["services"].as_array().into_iter().chain(self.ready["services"].as_array()).flatten();
        let service = services.find(|s| s["name"] == name).unwrap();
        (u32::try_from(service["pid"].as_u64().unwrap_or(0)).unwrap(), service["config"].as_str().unwrap().into())
    }

    /// Runs a wallet command against the first API and returns its JSON.
    pub(crate) fn cli(&self, arguments: &[&str]) -> Value {
        let output = self.try_cli(0, arguments);
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).unwrap()
    }

    /// The same against a chosen API, whatever comes of it.
    pub(crate) fn try_cli(&self, api: usize, arguments: &[&str]) -> Output {
        Command::new(BINARY).args(arguments).args(["--api", &self.apis[api], "--json"]).output().unwrap()
    }

    /// `kaldrix validator add` or `remove` for this network, to its end.
    pub(crate) async fn validator(&self, arguments: &[&str]) -> Value {
        let output = tokio::process::Command::new(BINARY)
            .arg("validator")
            .args(arguments)
            .args(["--json", "--data-dir"])
            .arg(&self.dir)
            .output()
            .await
            .unwrap();
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).unwrap()
    }

    /// A new key file with money on its account.
    pub(crate) fn funded_key(&self, name: &str, amount: &str) -> (PathBuf, String) {
        let (path, address) = self.key(name);
        self.cli(&["faucet", &address, amount]);
        (path, address)
    }

    pub(crate) fn key(&self, name: &str) -> (PathBuf, String) {
        let path = self.dir.join(format!("{name}.json"));
        let output = Command::new(BINARY).args(["keys", "new", "--no-passphrase", "--json", "--out"]).arg(&path).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let made: Value = serde_json::from_slice(&output.stdout).unwrap();
        (path, made["address"].as_str().unwrap().to_owned())
    }

    pub(crate) fn validators(&self) -> Vec<String> {
        let count = self.ready["validators"].as_u64().unwrap();
        (0..count).map(|i| format!("v{i}")).collect()
    }

    /// An operator's view of one validator.
    pub(crate) async fn dag(&self, validator: &str) -> DagServiceClient<tonic::transport::Channel> {
        let config = Config::load(&self.dir.join("validators").join(validator).join("dag-service.toml")).unwrap();
        let read = |name: &str| std::fs::read(self.dir.join(name)).unwrap();
        let tls =
            TlsMaterial::from_pem(&read("tls/ca.pem"), &read("operator/operator.pem"), &read("operator/operator-key.pem"), "kaldrix.local")
                .unwrap();
        let channel =
            kaldrix_service_kit::client::connect(&config.dag.listen.to_string(), &tls, Expected::any(Service::DagService)).unwrap();
        DagServiceClient::new(channel)
    }

    pub(crate) async fn status(&self, validator: &str) -> Option<DagStatus> {
        let mut dag = self.dag(validator).await;
        let answer = tokio::time::timeout(Duration::from_secs(2), dag.get_status(GetStatusRequest {})).await;
        answer.ok()?.ok().map(tonic::Response::into_inner)
    }

    pub(crate) async fn audit(&self, validator: &str) -> AuditResponse {
        self.dag(validator).await.audit(AuditRequest {}).await.unwrap().into_inner()
    }

    /// Waits until every validator has executed commit `index`.
    pub(crate) async fn wait_for_commit_everywhere(&self, index: u64, limit: Duration) {
        self.wait_for_commit(&self.validators(), index, limit).await;
    }

    async fn wait_for_commit(&self, validators: &[String], index: u64, limit: Duration) {
        let deadline = Instant::now() + limit;
        for validator in validators {
            loop {
                if self.status(validator).await.is_some_and(|s| s.commit_index >= index) {
                    break;
                }
                assert!(Instant::now() < deadline, "{validator} does not reach commit {index}");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }

    /// All validators hold the same state, and its balances add up. Blocks from before a restart may still be ordered after it, between two
    /// answers, so the answers are compared until nothing moves any more: validators that diverged would never agree.
    pub(crate) async fn assert_validators_agree(&self) {
        self.assert_these_agree(&self.validators()).await;
    }

    /// The same of some.
    pub(crate) async fn assert_these_agree(&self, validators: &[String]) {
        let newest = self.status(&validators[0]).await.unwrap().commit_index;
        self.wait_for_commit(validators, newest, Duration::from_secs(30)).await;
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            let mut states = Vec::new();
            for validator in validators {
                let audit = self.audit(validator).await;
                assert_eq!(audit.supply_error, "", "{validator}");
                states.push((audit.state_digest, audit.native_supply));
            }
            if states.windows(2).all(|pair| pair[0] == pair[1]) {
                return;
            }
            assert!(Instant::now() < deadline, "validators differ: {states:?}");
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }
}

impl Drop for DevNetwork {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            signal(self.child.id(), Signal::INT);
            let deadline = Instant::now() + Duration::from_secs(20);
            while matches!(self.child.try_wait(), Ok(None)) {
                if Instant::now() > deadline {
                    let _ = self.child.kill();
                }
                std::thread::sleep(Duration::from_millis(50));
            }
        }
    }
}

/// Names as the functions above take them.
pub(crate) fn names(names: &[&str]) -> Vec<String> {
    names.iter().map(|n| (*n).to_owned()).collect()
}

pub(crate) fn signal(pid: u32, signal: Signal) {
    if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
        let _ = kill_process(pid, signal);
    }
}

/// Runs one service by hand, as an operator would after it was killed.
pub(crate) fn run_service(service: &str, config: &Path) -> Child {
    Command::new(BINARY).args(["run", service, "--config"]).arg(config).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}
