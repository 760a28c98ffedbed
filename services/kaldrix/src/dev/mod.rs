//! `kaldrix dev`: a whole network on this machine, every hop the real one.
//!
//! ```text
//!   options ─▶ plan (names, ports, genesis, keys, certificates, 18 configs, all on disk)
//!                │
//!                ├─▶ in this process: every service's wiring::start
//!                └─▶ --processes: one `kaldrix run <service>` each
//!                          ├─▶ validators come and go: `kaldrix validator add|remove` ─▶ network.json ─▶ watch
//!                          └─▶ status line until Ctrl-C ─▶ stop in order
//! ```

mod genesis;
mod in_process;
pub(crate) mod join;
pub(crate) mod network;
mod plan;
mod ports;
mod processes;
mod status;
mod watch;
mod writer;

use clap::Args;
use kaldrix_service_kit::config::Telemetry;
use kaldrix_service_kit::telemetry;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

/// Start a whole network on this machine.
#[derive(Clone, Debug, Args)]
pub(crate) struct DevOptions {
    /// Where keys, genesis and databases are kept; a network found there goes on
    #[arg(long, env = "KALDRIX_DATA_DIR", default_value = "kaldrix-data", value_name = "DIR")]
    data_dir: PathBuf,
    /// Number of validators when the network is created, 4 to 20
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(4..=20))]
    validators: Option<u16>,
    /// Length of an epoch when the network is created, seconds: validators come and go at its end [default: 60]
    #[arg(long, value_name = "S", value_parser = clap::value_parser!(u64).range(2..=31_536_000))]
    epoch_seconds: Option<u64>,
    /// Leader slots per round when the network is created, 1 to 4
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=4))]
    leaders_per_round: Option<u32>,
    /// Address of the first region's API; the other regions take the next ports (port 0: any free ones)
    #[arg(long, default_value = "127.0.0.1:8080", value_name = "ADDRESS")]
    api: SocketAddr,
    /// Keep nothing: a fresh network in a temporary folder
    #[arg(long, conflicts_with = "data_dir")]
    ephemeral: bool,
    /// Print JSON lines ("ready", then "status" each second) instead of text
    #[arg(long)]
    json: bool,
    /// Run every service as a process of its own, so that one can be killed and restarted alone
    #[arg(long)]
    processes: bool,
}

impl DevOptions {
    const fn wanted(&self) -> plan::Wanted {
        let rules = genesis::Rules { epoch_seconds: self.epoch_seconds, leaders_per_round: self.leaders_per_round };
        plan::Wanted { validators: self.validators, rules }
    }
}

/// The life of `kaldrix dev`.
pub(crate) fn main(options: DevOptions) -> ExitCode {
    kaldrix_service_kit::install_crypto_provider();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            say(&format!("error: the runtime cannot start: {error}"));
            return ExitCode::FAILURE;
        }
    };
    let code = runtime.block_on(async {
        match live(options).await {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                say(&format!("error: {error:#}"));
                ExitCode::FAILURE
            }
        }
    });
    runtime.shutdown_timeout(Duration::from_secs(2));
    code
}

async fn live(options: DevOptions) -> anyhow::Result<()> {
    anyhow::ensure!(options.api.ip().is_loopback(), "the development network listens on loopback only, not on {}", options.api.ip());
    let guard = telemetry::init(&log_settings(), "kaldrix-dev")?;
    let temporary = if options.ephemeral { Some(tempfile::Builder::new().prefix("kaldrix-").tempdir()?) } else { None };
    let dir = temporary.as_ref().map_or(options.data_dir.clone(), |t| t.path().to_owned());
    let reporter = status::Reporter::new(options.json);
    reporter.note(&format!("network in {}", dir.display()));
    let plan = tokio::task::spawn_blocking({
        let (options, dir) = (options.clone(), dir.clone());
        move || plan::Plan::open(&dir, options.wanted(), options.api, options.ephemeral)
    })
    .await??;
    let result = if options.processes { processes::live(&plan, &reporter).await } else { in_process::live(&plan, &reporter).await };
    reporter.note("stopped");
    guard.shutdown().await;
    result
}

/// Logs of the network in this process: warnings, unless the environment asks for more. Traces go where `KALDRIX_TELEMETRY__OTLP_ENDPOINT` says.
fn log_settings() -> Telemetry {
    let defaults = Telemetry { log: "warn".to_owned(), ..Telemetry::default() };
    kaldrix_service_kit::Config::parse("", "defaults", std::env::vars()).map_or(defaults.clone(), |config| {
        let log = if std::env::var_os("KALDRIX_TELEMETRY__LOG").is_some() { config.telemetry.log.clone() } else { defaults.log };
        Telemetry { log, ..config.telemetry }
    })
}

/// A line for people.
#[allow(clippy::print_stderr, reason = "notes of a command go to stderr")]
pub(crate) fn say(text: &str) {
    eprintln!("{text}");
}
