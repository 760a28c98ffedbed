//! `kaldrix run <service> --config FILE`.

use clap::{Args, ValueEnum};
use std::io::Read;
use std::path::PathBuf;
use std::process::ExitCode;

/// The five services.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum ServiceName {
    LedgerApi,
    DagService,
    ConsensusService,
    CryptoService,
    RegionSync,
}

/// Run one service as a process.
#[derive(Debug, Args)]
pub(crate) struct RunOptions {
    /// Which service
    service: ServiceName,
    /// Its configuration file (TOML)
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// Stop when stdin is closed: whoever started this process is gone then
    #[arg(long, hide = true)]
    until_stdin_closes: bool,
}

pub(crate) fn main(options: &RunOptions) -> ExitCode {
    if options.until_stdin_closes {
        std::thread::spawn(|| {
            let mut sink = [0; 64];
            while matches!(std::io::stdin().read(&mut sink), Ok(count) if count > 0) {}
            // A signal to ourselves takes the same way out as an operator's.
            let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::TERM);
        });
    }
    let config = &options.config;
    match options.service {
        ServiceName::LedgerApi => kaldrix_ledger_api::wiring::run(config),
        ServiceName::DagService => kaldrix_dag_service::wiring::run(config),
        ServiceName::ConsensusService => kaldrix_consensus_service::wiring::run(config),
        ServiceName::CryptoService => kaldrix_crypto_service::wiring::run(config),
        ServiceName::RegionSync => kaldrix_region_sync::wiring::run(config),
    }
}
