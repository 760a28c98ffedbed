//! `kaldrix config check FILE` and `kaldrix config default`.

use crate::dev::say;
use clap::Subcommand;
use kaldrix_service_kit::Config;
use std::path::PathBuf;
use std::process::ExitCode;

/// Check a configuration file, or print one with every key explained.
#[derive(Debug, Subcommand)]
pub(crate) enum ConfigCommand {
    /// Say what is wrong with a configuration file
    Check {
        /// The file (TOML)
        file: PathBuf,
        /// Print {"ok","problems"} as JSON
        #[arg(long)]
        json: bool,
    },
    /// Print a configuration with every key, its meaning and its default
    Default,
}

pub(crate) fn main(command: &ConfigCommand) -> ExitCode {
    match command {
        ConfigCommand::Default => {
            print(&Config::documented_toml());
            ExitCode::SUCCESS
        }
        ConfigCommand::Check { file, json } => check(file, *json),
    }
}

fn check(file: &std::path::Path, json: bool) -> ExitCode {
    let problems: Vec<(String, String)> = match Config::load(file) {
        Err(error) => vec![(String::new(), error.to_string())],
        Ok(config) => config.check().into_iter().map(|p| (p.key, p.what)).collect(),
    };
    let ok = problems.is_empty();
    if json {
        let list: Vec<_> = problems.iter().map(|(key, what)| serde_json::json!({ "key": key, "what": what })).collect();
        print(&serde_json::json!({ "ok": ok, "problems": list }).to_string());
    } else if ok {
        print(&format!("{} is fine", file.display()));
    } else {
        for (key, what) in &problems {
            say(&if key.is_empty() { what.clone() } else { format!("{key}: {what}") });
        }
    }
    if ok { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

#[allow(clippy::print_stdout, reason = "this is the command's result")]
fn print(text: &str) {
    println!("{text}");
}
