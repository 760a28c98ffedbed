//! `kaldrix validator add` and `remove`: a validator comes to a running local network, or leaves it, while payments flow.
//!
//! ```text
//!   add:    files, network.json ─▶ its services start ─▶ proof of its session key ─▶ money for the operator
//!           ─▶ RegisterValidator ─▶ the epoch ends ─▶ it has a seat
//!   remove: LeaveValidators ─▶ the epoch ends ─▶ network.json ─▶ its services stop
//! ```
//!
//! Both can be interrupted anywhere and run again: each step looks first whether it is done.

use super::OutputOptions;
use super::error::{self, CliError};
use super::output::{Output, fields};
use super::values::Unit;
use crate::dev::join::{self, LocalNetwork, LocalValidator};
use bytes::Bytes;
use clap::Args;
use kaldrix_api::clients::{CryptoServiceClient, DagServiceClient};
use kaldrix_client::{AccountSession, Client, ExecuteOptions, Receipt, WaitFor};
use kaldrix_crypto::KeyFile;
use kaldrix_proto::crypto::{ProveSessionKeyRequest, SessionKeyProof};
use kaldrix_proto::dag::{GetStatusRequest, Status};
use kaldrix_service_kit::TlsMaterial;
use kaldrix_service_kit::identity::{Owner, Service};
use kaldrix_service_kit::tls::Expected;
use kaldrix_types::{Address, AssetId, Epoch, Operation, PublicKey, RejectCode, WEIGHT_UNIT};
use serde::Serialize;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// How long services may take to start, and one transaction to become final.
const STEP_MAX: Duration = Duration::from_secs(60);
/// Besides two epochs: what a new validator may need to catch up.
const CATCH_UP_MAX: Duration = Duration::from_secs(120);
const PAUSE: Duration = Duration::from_millis(250);
/// How often a registration is tried again that meets the record of a former one.
const REGISTER_PERIOD: Duration = Duration::from_secs(5);
/// What the operator gets besides the stake, for fees.
const FOR_FEES: u128 = 10 * WEIGHT_UNIT;

/// `validator add`
#[derive(Debug, Args)]
#[command(after_help = "Example, with `kaldrix dev` running in another terminal:\n  kaldrix validator add --name v4 --region us-east-1")]
pub(crate) struct AddArgs {
    /// Its unique name: 1 to 32 of a-z, 0-9 and hyphens
    #[arg(long, value_parser = validator_name)]
    name: String,
    /// Where it runs; same alphabet
    #[arg(long, value_parser = validator_name)]
    region: String,
    /// Bonded at once, in KDX; the faucet pays it
    #[arg(long, value_name = "KDX", default_value = "1000")]
    stake: String,
    #[command(flatten)]
    local: LocalOptions,
}

/// `validator remove`
#[derive(Debug, Args)]
#[command(after_help = "Example, with `kaldrix dev` running in another terminal:\n  kaldrix validator remove v4")]
pub(crate) struct RemoveArgs {
    /// The validator's name
    #[arg(value_parser = validator_name)]
    name: String,
    #[command(flatten)]
    local: LocalOptions,
}

/// Which local network.
#[derive(Debug, Args)]
struct LocalOptions {
    /// The network's folder
    #[arg(long, env = "KALDRIX_DATA_DIR", default_value = "kaldrix-data", value_name = "DIR")]
    data_dir: PathBuf,
    #[command(flatten)]
    output: OutputOptions,
}

impl AddArgs {
    pub(crate) const fn output(&self) -> OutputOptions {
        self.local.output
    }
}

impl RemoveArgs {
    pub(crate) const fn output(&self) -> OutputOptions {
        self.local.output
    }
}

/// What came of it.
#[derive(Debug, Serialize)]
struct Done {
    validator: String,
    operator: Address,
    /// The first epoch in which it has a seat, or has none any more.
    epoch: Epoch,
    has_seat: bool,
    /// From the command's start.
    seconds: f64,
}

impl Done {
    fn show(&self, output: Output) {
        output.show(self, || {
            let what = if self.has_seat { "validates" } else { "has left" };
            let pairs = [("operator", self.operator.to_string()), ("since epoch", self.epoch.to_string())];
            format!("{} {what} after {:.1} s\n{}", self.validator, self.seconds, fields(&pairs))
        });
    }
}

fn validator_name(text: &str) -> Result<String, String> {
    let fine = (1..=32).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
    if fine { Ok(text.to_owned()) } else { Err("write 1 to 32 of a-z, 0-9 and hyphens".to_owned()) }
}

fn local(error: anyhow::Error) -> CliError {
    CliError::LocalNetwork(format!("{error:#}"))
}

/// Off the async threads: files, and keys that take a moment.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> anyhow::Result<T> + Send + 'static) -> Result<T, CliError> {
    tokio::task::spawn_blocking(work).await.map_err(|e| CliError::Internal(e.to_string()))?.map_err(local)
}

/// Makes a validator part of the network, and returns when it has a seat.
///
/// # Errors
/// A network that does not run, a name that somebody else has, what the ledger says to the registration, or no seat in time.
pub(crate) async fn add(args: AddArgs, output: Output) -> Result<(), CliError> {
    let started = Instant::now();
    let stake = Unit::native().parse(&args.stake, false)?;
    let (dir, name, region) = (args.local.data_dir, args.name, args.region);
    let network = blocking({
        let (name, region) = (name.clone(), region.clone());
        move || join::add(&dir, &name, &region)
    })
    .await?;
    output.note(&format!("{name} is part of the local network; its services are starting"));
    let operator = Operator::open(network, name).await?;
    let proof = operator.prove_session_key().await?;
    let key: PublicKey = proof.key.parse().map_err(|e| CliError::Internal(format!("crypto-service's key: {e}")))?;
    output.note(&format!("its session key is {} {}; its operator is {}", key.scheme(), key.id().short(), operator.address()));
    if operator.status().await.is_some_and(|s| s.own_seat) {
        return operator.done(true, started, output).await;
    }
    let registration = Operation::RegisterValidator { name: operator.name.clone(), region, key, stake, proof: proof.proof };
    operator.fund(stake, output).await?;
    let registered = operator.execute(registration.clone(), &[RejectCode::AlreadyValidator]).await?;
    output.note(if registered { "registered; it gets its seat when the epoch ends" } else { "registered before; waiting for its seat" });
    operator.wait_for_seat(registration, registered, output).await?;
    operator.done(true, started, output).await
}

/// Lets a validator leave, and stops its services when it has no seat any more.
///
/// # Errors
/// A network that does not run, no such validator, what the ledger says (fewer than the least number would be left), or no end in time.
pub(crate) async fn remove(args: RemoveArgs, output: Output) -> Result<(), CliError> {
    let started = Instant::now();
    let dir = args.local.data_dir;
    let network = blocking(move || LocalNetwork::open(&dir)).await?;
    let operator = Operator::open(network, args.name).await?;
    if !operator.local.removed {
        let left = [RejectCode::Leaving, RejectCode::NotValidator];
        let leaving = operator.execute(Operation::LeaveValidators, &left).await?;
        output.note(if leaving { "it leaves when the epoch ends" } else { "it was leaving already" });
        operator.wait_until_gone(output).await?;
        let (network, name) = (operator.network.clone(), operator.name.clone());
        blocking(move || join::remove(&network, &name)).await?;
        output.note("it has no seat any more; its services are stopping");
    }
    operator.wait_until_stopped().await?;
    operator.done(false, started, output).await
}

/// Everything that the operator of one validator of a local network has at hand.
struct Operator {
    network: LocalNetwork,
    name: String,
    local: LocalValidator,
    tls: TlsMaterial,
    session: AccountSession,
}

impl Operator {
    async fn open(network: LocalNetwork, name: String) -> Result<Self, CliError> {
        let local_validator = network.validator(&name).map_err(local)?.clone();
        let tls = network.operator_tls().map_err(local)?;
        let key = KeyFile::open(&network.operator_key(&name))?.unlock(None)?;
        let client = Client::connect(&network.apis).await?;
        let session = AccountSession::open(client, Arc::new(key)).await?;
        Ok(Self { network, name, local: local_validator, tls, session })
    }

    const fn address(&self) -> Address {
        self.session.address()
    }

    /// Asks the validator's crypto-service until it is there.
    async fn prove_session_key(&self) -> Result<SessionKeyProof, CliError> {
        let expected = Expected::of(Owner::Validator(self.name.clone()), Service::CryptoService);
        let channel = kaldrix_service_kit::client::connect(&self.local.crypto.to_string(), &self.tls, expected);
        let mut crypto = CryptoServiceClient::new(channel.map_err(|e| CliError::LocalNetwork(e.to_string()))?);
        let operator = Bytes::copy_from_slice(self.address().as_bytes());
        let deadline = Instant::now() + STEP_MAX;
        loop {
            let request = ProveSessionKeyRequest { operator: operator.clone(), ..ProveSessionKeyRequest::default() };
            match crypto.prove_session_key(kaldrix_service_kit::telemetry::request(request)).await {
                Ok(proof) => return Ok(proof.into_inner()),
                Err(status) if Instant::now() > deadline => {
                    return Err(CliError::LocalNetwork(format!(
                        "the crypto-service of {} does not answer on {}: {}; see what `kaldrix dev` says, then run this again",
                        self.name,
                        self.local.crypto,
                        status.message()
                    )));
                }
                Err(_) => tokio::time::sleep(PAUSE).await,
            }
        }
    }

    /// What the faucet has to add to the operator's money.
    async fn fund(&self, stake: u128, output: Output) -> Result<(), CliError> {
        let client = self.session.client();
        let has = match client.account(self.address()).await {
            Ok(account) => account.balance(AssetId::NATIVE),
            Err(error) if error.api_code() == Some(kaldrix_api::ErrorCode::AccountNotFound) => 0,
            Err(error) => return Err(error.into()),
        };
        if has >= stake {
            return Ok(());
        }
        let missing = stake - has + FOR_FEES;
        let receipt = client.faucet(self.address(), missing).await?;
        let info = client.wait_definite(receipt.id, STEP_MAX).await?;
        output.note(&format!("the faucet paid {} to its operator", Unit::native().format(missing)));
        error::judge(
            &Receipt { status: info.status, success: info.success, code: info.code, detail: info.detail, ..receipt },
            WaitFor::Final,
        )
    }

    /// Whether the transaction took effect; `false` for a refusal with one of the codes `done`.
    async fn execute(&self, operation: Operation, done: &[RejectCode]) -> Result<bool, CliError> {
        let options = ExecuteOptions { timeout: STEP_MAX, ..ExecuteOptions::default() };
        let receipt = self.session.execute(vec![operation], &options).await.map_err(CliError::from);
        match receipt.and_then(|receipt| error::judge(&receipt, WaitFor::Final)) {
            Ok(()) => Ok(true),
            Err(error) if done.iter().any(|code| code.as_str() == error.code()) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// What the validator's dag-service says about itself; `None` while it does not answer.
    async fn status(&self) -> Option<Status> {
        status_of(&self.local, &self.tls).await
    }

    async fn wait_for_seat(&self, registration: Operation, mut registered: bool, output: Output) -> Result<(), CliError> {
        let deadline = Instant::now() + self.patience();
        let (mut tried, mut seen) = (Instant::now(), None);
        loop {
            let status = self.status().await;
            if status.as_ref().is_some_and(|s| s.own_seat && !s.catching_up) {
                return Ok(());
            }
            let epoch = status.as_ref().map(|s| (s.epoch, s.catching_up));
            if epoch.is_some() && epoch != seen {
                seen = epoch;
                let what = if status.is_some_and(|s| s.catching_up) { "catching up" } else { "following" };
                output.note(&format!("{what} in epoch {}", epoch.unwrap_or_default().0));
            }
            // The record may be that of a time before: it goes when its stake is paid out, and then the way is free.
            if !registered && tried.elapsed() > REGISTER_PERIOD {
                tried = Instant::now();
                registered = self.execute(registration.clone(), &[RejectCode::AlreadyValidator]).await?;
            }
            self.still_time(deadline, "got no seat")?;
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Returns when the validator has no seat, and all others know it.
    async fn wait_until_gone(&self, output: Output) -> Result<(), CliError> {
        let deadline = Instant::now() + self.patience();
        let left_in = self.statuses().await.iter().map(|(_, status)| status.epoch).max().unwrap_or(0);
        output.note(&format!("waiting for the end of epoch {left_in}"));
        loop {
            let statuses = self.statuses().await;
            let others_know = statuses.iter().filter(|(name, _)| *name != self.name).all(|(_, status)| status.epoch > left_in);
            let has_no_seat = statuses.iter().filter(|(name, _)| *name == self.name).all(|(_, status)| !status.own_seat);
            if others_know && has_no_seat && !statuses.is_empty() {
                return Ok(());
            }
            self.still_time(deadline, "still has its seat")?;
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Of every validator that answers.
    async fn statuses(&self) -> Vec<(String, Status)> {
        let ask = self.network.active().map(async |validator| Some((validator.name.clone(), status_of(validator, &self.tls).await?)));
        futures::future::join_all(ask).await.into_iter().flatten().collect()
    }

    async fn wait_until_stopped(&self) -> Result<(), CliError> {
        let deadline = Instant::now() + STEP_MAX;
        while tokio::net::TcpStream::connect(self.local.dag).await.is_ok() {
            self.still_time(deadline, "still runs: stop its services by hand if they were started by hand; it")?;
            tokio::time::sleep(PAUSE).await;
        }
        Ok(())
    }

    fn patience(&self) -> Duration {
        Duration::from_millis(self.network.epoch_ms.saturating_mul(2)) + CATCH_UP_MAX
    }

    fn still_time(&self, deadline: Instant, what: &str) -> Result<(), CliError> {
        if Instant::now() < deadline {
            return Ok(());
        }
        let name = &self.name;
        Err(CliError::LocalNetwork(format!(
            "{name} {what} in time; see what `kaldrix dev` and `kaldrix validator list` say, then run this again"
        )))
    }

    async fn done(&self, has_seat: bool, started: Instant, output: Output) -> Result<(), CliError> {
        let epoch = self.session.client().network().await?.epoch;
        let seconds = (started.elapsed().as_secs_f64() * 10.0).round() / 10.0;
        Done { validator: self.name.clone(), operator: self.address(), epoch, has_seat, seconds }.show(output);
        Ok(())
    }
}

async fn status_of(validator: &LocalValidator, tls: &TlsMaterial) -> Option<Status> {
    let expected = Expected::of(Owner::Validator(validator.name.clone()), Service::DagService);
    let channel = kaldrix_service_kit::client::connect(&validator.dag.to_string(), tls, expected).ok()?;
    let mut dag = DagServiceClient::new(channel);
    let asking = dag.get_status(kaldrix_service_kit::telemetry::request(GetStatusRequest {}));
    let answer = tokio::time::timeout(Duration::from_secs(2), asking).await.ok()?;
    answer.ok().map(|status| status.into_inner())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_that_the_ledger_takes() {
        assert!(validator_name("v4").is_ok() && validator_name("eu-west-1").is_ok());
        for bad in ["", "V4", "a b", "v/4", &"a".repeat(33)] {
            assert!(validator_name(bad).is_err(), "{bad}");
        }
    }
}
