//! `kaldrix audit`: asks every validator of a local network for its newest commit, a digest over its whole state, and whether every
//! asset's balances add up to its supply; then compares them with one another and with each region's read model.

use crate::dev::join::operator_tls;
use crate::dev::network::NetworkFile;
use crate::dev::say;
use clap::Args;
use comfy_table::{Table, presets};
use kaldrix_api::clients::DagServiceClient;
use kaldrix_client::Client;
use kaldrix_proto::dag::{AuditRequest, AuditResponse};
use kaldrix_service_kit::tls::Expected;
use kaldrix_service_kit::{Config, Service, TlsMaterial};
use kaldrix_types::Digest;
use serde_json::json;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

/// How often the validators are asked again while payments change their state between two answers.
const TRIES: u32 = 20;
const PAUSE: Duration = Duration::from_millis(500);

/// Compare all validators and regions of a local network.
#[derive(Debug, Args)]
pub(crate) struct AuditOptions {
    /// The network's folder
    #[arg(long, env = "KALDRIX_DATA_DIR", default_value = "kaldrix-data", value_name = "DIR")]
    data_dir: PathBuf,
    /// Print one JSON value
    #[arg(long)]
    json: bool,
}

struct Answer {
    validator: String,
    audit: AuditResponse,
}

pub(crate) fn main(options: &AuditOptions) -> ExitCode {
    kaldrix_service_kit::install_crypto_provider();
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            say(&format!("error: the runtime cannot start: {error}"));
            return ExitCode::FAILURE;
        }
    };
    match runtime.block_on(audit(options)) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            say(&format!("error: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

async fn audit(options: &AuditOptions) -> anyhow::Result<bool> {
    let dir = &options.data_dir;
    let tls = operator_tls(dir)?;
    let mut tries = 0;
    let (answers, problems) = loop {
        let answers = ask_all(dir, &tls).await?;
        let problems = compare(dir, &answers).await?;
        tries += 1;
        if problems.is_empty() || tries == TRIES {
            break (answers, problems);
        }
        tokio::time::sleep(PAUSE).await;
    };
    show(&answers, &problems, options.json);
    Ok(problems.is_empty())
}

/// One service's configuration for each of these validators or regions.
fn configs(dir: &Path, owners: &str, mut names: Vec<String>, service: Service) -> anyhow::Result<Vec<(String, Config)>> {
    names.sort_unstable();
    let load = |name: String| {
        let config = Config::load(&dir.join(owners).join(&name).join(format!("{service}.toml")))?;
        Ok((name, config))
    };
    names.into_iter().map(load).collect()
}

async fn ask_all(dir: &Path, tls: &TlsMaterial) -> anyhow::Result<Vec<Answer>> {
    let ask = configs(dir, "validators", NetworkFile::read(dir)?.active_names(), Service::DagService)?.into_iter().map(
        async |(validator, config)| {
            let endpoint = config.dag.listen.to_string();
            let channel = kaldrix_service_kit::client::connect(&endpoint, tls, Expected::any(Service::DagService))?;
            let audit = DagServiceClient::new(channel).audit(AuditRequest {}).await;
            let audit = audit.map_err(|status| anyhow::anyhow!("{validator} does not answer on {endpoint}: {}", status.message()))?;
            Ok(Answer { validator, audit: audit.into_inner() })
        },
    );
    futures::future::try_join_all(ask).await
}

/// What does not fit, in words.
async fn compare(dir: &Path, answers: &[Answer]) -> anyhow::Result<Vec<String>> {
    let mut problems = Vec::new();
    for answer in answers {
        if !answer.audit.supply_error.is_empty() {
            problems.push(format!("{}: {}", answer.validator, answer.audit.supply_error));
        }
    }
    if answers.windows(2).any(|pair| pair[0].audit.state_digest != pair[1].audit.state_digest) {
        problems.push("the validators' states differ (or payments are being made)".to_owned());
    }
    for (region, config) in configs(dir, "regions", NetworkFile::read(dir)?.region_names(), Service::LedgerApi)? {
        let client = Client::connect(&format!("http://{}", config.api.listen)).await?;
        for answer in answers.iter().filter(|a| a.audit.commit_index > 0) {
            let index = answer.audit.commit_index;
            let ours = Digest::try_from(answer.audit.commit_digest.as_ref())?;
            match client.commit(index).await {
                Ok(commit) if commit.digest == ours => {}
                Ok(_) => problems.push(format!("{}: commit {index} has another digest in {region}", answer.validator)),
                Err(error) => problems.push(format!("{region} does not have commit {index} yet ({error})")),
            }
        }
        let supply = client.network().await?.supply.to_string();
        if answers.iter().any(|a| a.audit.native_supply != supply) {
            problems.push(format!("{region} shows a supply of {supply}"));
        }
    }
    Ok(problems)
}

#[allow(clippy::print_stdout, reason = "this is the command's result")]
fn show(answers: &[Answer], problems: &[String], as_json: bool) {
    let hex = |bytes: &[u8]| hex::encode(bytes);
    if as_json {
        let validators: Vec<_> = answers
            .iter()
            .map(|a| {
                json!({
                    "validator": a.validator, "commit": a.audit.commit_index, "commit_digest": hex(&a.audit.commit_digest),
                    "state_digest": hex(&a.audit.state_digest), "supply": a.audit.native_supply,
                })
            })
            .collect();
        println!("{}", json!({ "ok": problems.is_empty(), "validators": validators, "problems": problems }));
        return;
    }
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(["validator", "commit", "commit digest", "state digest", "supply"]);
    for a in answers {
        let short = |bytes: &[u8]| hex(bytes).chars().take(16).collect::<String>();
        table.add_row([
            a.validator.clone(),
            a.audit.commit_index.to_string(),
            short(&a.audit.commit_digest),
            short(&a.audit.state_digest),
            a.audit.native_supply.clone(),
        ]);
    }
    println!("{table}");
    if problems.is_empty() {
        println!("all validators hold the same state, every asset adds up, and every region has the same commits");
    }
    for problem in problems {
        say(&format!("problem: {problem}"));
    }
}
