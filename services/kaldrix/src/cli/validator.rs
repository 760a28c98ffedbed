//! `kaldrix validator`: who validates, and the operator's transactions.

use super::error::CliError;
use super::output::{Output, fields, table};
use super::signing::SigningOptions;
use super::values::{Unit, utc};
use super::{ApiOptions, OutputOptions};
use clap::{Args, Subcommand};
use kaldrix_client::{ValidatorInfo, ValidatorSetInfo};
use kaldrix_types::{Operation, PublicKey};

/// The subcommands.
#[derive(Debug, Subcommand)]
pub(crate) enum ValidatorCommand {
    /// Show the running epoch's committee and everybody who is registered
    List(ListArgs),
    /// Add a validator to the network that `kaldrix dev` runs: files, services, stake, seat
    Add(super::validator_live::AddArgs),
    /// Let a validator leave the network that `kaldrix dev` runs, and stop its services
    Remove(super::validator_live::RemoveArgs),
    /// Register a validator of the signing account's and bond its first stake
    Register(Box<RegisterArgs>),
    /// Bond more stake
    Stake(AmountArgs),
    /// Take stake back; it is paid out at the end of the epoch that follows
    Unstake(AmountArgs),
    /// Give the validator another session key from the next epoch on
    Rotate(RotateArgs),
    /// End the validator with this epoch; all its stake is paid out after that
    Leave(LeaveArgs),
    /// Ask for a seat again after being jailed
    Unjail(LeaveArgs),
}

impl ValidatorCommand {
    pub(crate) const fn output(&self) -> OutputOptions {
        match self {
            Self::List(args) => args.api.output,
            Self::Add(args) => args.output(),
            Self::Remove(args) => args.output(),
            Self::Register(args) => args.signing.api.output,
            Self::Stake(args) | Self::Unstake(args) => args.signing.api.output,
            Self::Rotate(args) => args.signing.api.output,
            Self::Leave(args) | Self::Unjail(args) => args.signing.api.output,
        }
    }
}

/// `validator list`
#[derive(Debug, Args)]
pub(crate) struct ListArgs {
    #[command(flatten)]
    api: ApiOptions,
}

/// A session key with the proof that whoever names it holds it.
#[derive(Debug, Args)]
struct SessionKeyOptions {
    /// The session key as scheme:hex, as crypto-service shows it
    #[arg(long, value_name = "SCHEME:HEX")]
    session_key: PublicKey,
    /// The session key's signature that it belongs to this account, as crypto-service makes it: hexadecimal
    #[arg(long, value_name = "HEX")]
    proof: String,
}

impl SessionKeyOptions {
    fn proof(&self) -> Result<bytes::Bytes, CliError> {
        hex::decode(&self.proof).map(Into::into).map_err(|e| CliError::Usage(format!("--proof is not hexadecimal: {e}")))
    }
}

/// `validator register`
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  kaldrix validator register --key operator.key --name validator-5 --region eu-west-1 --stake 1000 \\\n    \
                        --session-key ml-dsa-65:… --proof …\n\n\
                        It has a seat from the next epoch on. On a local network `kaldrix validator add` does all of it."
)]
pub(crate) struct RegisterArgs {
    /// Its unique name: 1 to 32 of a-z, 0-9 and hyphens
    #[arg(long)]
    name: String,
    /// Where it runs; same alphabet
    #[arg(long)]
    region: String,
    /// Bonded at once, in KDX; each whole KDX is one unit of voting weight
    #[arg(long, value_name = "AMOUNT")]
    stake: String,
    /// The stake counts smallest units
    #[arg(long)]
    raw: bool,
    #[command(flatten)]
    session: SessionKeyOptions,
    #[command(flatten)]
    signing: SigningOptions,
}

/// `validator stake` and `validator unstake`
#[derive(Debug, Args)]
pub(crate) struct AmountArgs {
    /// How much KDX
    amount: String,
    /// The amount counts smallest units
    #[arg(long)]
    raw: bool,
    #[command(flatten)]
    signing: SigningOptions,
}

/// `validator rotate`
#[derive(Debug, Args)]
pub(crate) struct RotateArgs {
    #[command(flatten)]
    session: SessionKeyOptions,
    #[command(flatten)]
    signing: SigningOptions,
}

/// `validator leave` and `validator unjail`
#[derive(Debug, Args)]
pub(crate) struct LeaveArgs {
    #[command(flatten)]
    signing: SigningOptions,
}

pub(crate) async fn run(command: ValidatorCommand, output: Output) -> Result<(), CliError> {
    let kdx = Unit::native();
    match command {
        ValidatorCommand::List(args) => list(args, output).await,
        ValidatorCommand::Add(args) => super::validator_live::add(args, output).await,
        ValidatorCommand::Remove(args) => super::validator_live::remove(args, output).await,
        ValidatorCommand::Register(args) => register(*args, output).await,
        ValidatorCommand::Stake(args) => {
            let amount = kdx.parse(&args.amount, args.raw)?;
            let what = format!("{} bonded, from the next epoch on", kdx.format(amount));
            execute(&args.signing, Operation::Stake { amount }, &what, output).await
        }
        ValidatorCommand::Unstake(args) => {
            let amount = kdx.parse(&args.amount, args.raw)?;
            let what = format!("{} on its way back, paid out when the next epoch ends", kdx.format(amount));
            execute(&args.signing, Operation::Unstake { amount }, &what, output).await
        }
        ValidatorCommand::Rotate(args) => {
            let (key, proof) = (args.session.session_key.clone(), args.session.proof()?);
            let what = format!("{} session key {} signs from the next epoch on", key.scheme(), key.id().short());
            execute(&args.signing, Operation::RotateSessionKey { key, proof }, &what, output).await
        }
        ValidatorCommand::Leave(args) => {
            let what = "the validator leaves at the end of this epoch";
            execute(&args.signing, Operation::LeaveValidators, what, output).await
        }
        ValidatorCommand::Unjail(args) => {
            execute(&args.signing, Operation::Unjail, "the validator has a seat again from the next epoch on", output).await
        }
    }
}

async fn register(args: RegisterArgs, output: Output) -> Result<(), CliError> {
    let kdx = Unit::native();
    let (stake, proof) = (kdx.parse(&args.stake, args.raw)?, args.session.proof()?);
    let what = format!("validator {} is registered with {}; it has a seat from the next epoch on", args.name, kdx.format(stake));
    let key = args.session.session_key;
    let operation = Operation::RegisterValidator { name: args.name, region: args.region, key, stake, proof };
    execute(&args.signing, operation, &what, output).await
}

async fn execute(signing: &SigningOptions, operation: Operation, what: &str, output: Output) -> Result<(), CliError> {
    let session = signing.session().await?;
    signing.execute_and_show(&session, operation, what, output).await
}

async fn list(args: ListArgs, output: Output) -> Result<(), CliError> {
    let set = args.api.connect().await?.validator_set().await?;
    output.show(&set, || text(&set));
    Ok(())
}

fn text(set: &ValidatorSetInfo) -> String {
    let mut text = fields(&[
        ("epoch", format!("{}, since {}, from round {}", set.epoch, utc(set.epoch_start_ms), set.epoch_start_round)),
        ("next epoch", format!("with the first commit after {}", utc(set.next_epoch_estimate_ms))),
    ]);
    text.push('\n');
    text.push_str(&validator_table(&set.validators));
    text.push('\n');
    text
}

/// One line per validator; `kaldrix status` shows the same.
pub(super) fn validator_table(validators: &[ValidatorInfo]) -> String {
    let kdx = |units: u128| kaldrix_types::format_amount(units, kaldrix_types::NATIVE_DECIMALS);
    let rows = validators.iter().map(|v| {
        let status = match v.jailed_until_epoch {
            Some(epoch) => format!("{} until epoch {epoch}", v.status),
            None if !v.in_committee && v.status == "active" => "waits for a seat".to_owned(),
            None => v.status.clone(),
        };
        let last_round = if v.in_committee { v.last_round.to_string() } else { String::new() };
        vec![
            v.index.map(|i| i.0.to_string()).unwrap_or_default(),
            v.name.clone(),
            v.region.clone(),
            status,
            v.stake.to_string(),
            kdx(v.bonded),
            kdx(v.unbonding),
            v.scheme.clone(),
            last_round,
            v.operator.to_string(),
        ]
    });
    let headings = ["#", "validator", "region", "status", "weight", "bonded", "unbonding", "scheme", "last round", "operator"];
    table(&headings, &[0, 4, 5, 6, 8], rows)
}

#[cfg(test)]
mod tests {
    use super::*;
    use kaldrix_types::{Address, ValidatorIndex};

    fn validator(index: Option<u16>, status: &str, jailed_until_epoch: Option<u64>) -> ValidatorInfo {
        ValidatorInfo {
            index: index.map(ValidatorIndex),
            in_committee: index.is_some(),
            name: "v".into(),
            region: "eu".into(),
            operator: Address([1; 32]),
            status: status.into(),
            jailed_until_epoch,
            stake: 10,
            bonded: 1_500_000_000_000_000_000,
            unbonding: 0,
            scheme: "ml-dsa-65".into(),
            key_id: "ab".into(),
            last_round: 77,
        }
    }

    #[test]
    fn who_has_a_seat_who_waits_and_who_is_in_jail_can_be_told_apart() {
        let rows = [validator(Some(3), "active", None), validator(None, "active", None), validator(None, "jailed", Some(9))];
        let text = validator_table(&rows);
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines[1].contains('3') && lines[1].contains("active") && lines[1].contains("77"), "{text}");
        assert!(lines[2].contains("waits for a seat") && !lines[2].contains("77"), "{text}");
        assert!(lines[3].contains("jailed until epoch 9") && lines[3].contains("1.5"), "{text}");
    }

    #[test]
    fn scripts_get_exact_amounts_and_the_index_of_the_seat() {
        let json = serde_json::to_value(validator(Some(3), "active", None)).unwrap();
        assert_eq!((&json["index"], &json["bonded"], &json["stake"]), (&3.into(), &"1500000000000000000".into(), &"10".into()));
        assert_eq!(json["operator"], Address([1; 32]).to_string());
    }
}
