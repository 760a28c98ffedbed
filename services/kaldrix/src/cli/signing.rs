//! What every command that signs has in common: key, passphrase, lane, fee, wait.

use super::ApiOptions;
use super::error::{self, CliError};
use super::output::Output;
use super::values::{self, Unit};
use clap::Args;
use kaldrix_client::{AccountSession, ExecuteOptions, Receipt, WaitFor};
use kaldrix_crypto::{KeyFile, SecretKey, SecretString};
use kaldrix_types::{Address, Lane, Operation};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// The variable that scripts give a passphrase in.
const PASSPHRASE_VARIABLE: &str = "KALDRIX_PASSPHRASE";

/// Where a passphrase comes from.
#[derive(Clone, Debug, Args)]
pub(crate) struct PassphraseOptions {
    /// File whose first line is the passphrase (scripts may set KALDRIX_PASSPHRASE instead; otherwise it is asked for)
    #[arg(long, value_name = "FILE", help_heading = "Key")]
    pub(crate) passphrase_file: Option<PathBuf>,
}

impl PassphraseOptions {
    /// The passphrase from the file, the environment, or the terminal; `confirm` asks twice.
    pub(crate) fn obtain(&self, prompt: &str, confirm: bool) -> Result<SecretString, CliError> {
        if let Some(path) = &self.passphrase_file {
            let text = std::fs::read_to_string(path).map_err(|source| CliError::File { path: path.display().to_string(), source })?;
            return Ok(text.lines().next().unwrap_or_default().into());
        }
        if let Ok(text) = std::env::var(PASSPHRASE_VARIABLE) {
            return Ok(text.into());
        }
        let ask = |prompt: &str| {
            rpassword::prompt_password(prompt).map_err(|_| {
                CliError::Usage(format!(
                    "there is no terminal to ask for a passphrase: set {PASSPHRASE_VARIABLE} or give --passphrase-file"
                ))
            })
        };
        let first = ask(prompt)?;
        if confirm && ask("The same passphrase again: ")? != first {
            return Err(CliError::Usage("the two passphrases differ".into()));
        }
        Ok(first.into())
    }

    /// Opens a key file, with a passphrase if it needs one. Off the async threads: deriving the key takes 0.1 s.
    pub(crate) async fn unlock(&self, path: &Path) -> Result<SecretKey, CliError> {
        let (options, path) = (self.clone(), path.to_owned());
        let work = move || {
            let file = KeyFile::open(&path)?;
            let passphrase =
                if file.is_encrypted() { Some(options.obtain(&format!("Passphrase of {}: ", path.display()), false)?) } else { None };
            Ok(file.unlock(passphrase.as_ref())?)
        };
        tokio::task::spawn_blocking(work).await.map_err(|e| CliError::Internal(e.to_string()))?
    }
}

/// Options of every command that signs a transaction.
#[derive(Clone, Debug, Args)]
pub(crate) struct SigningOptions {
    /// Key file that signs (`kaldrix keys new` makes one)
    #[arg(long, value_name = "FILE", help_heading = "Key")]
    pub(crate) key: PathBuf,
    /// The account, if the key was registered with it or rotated in later; otherwise it follows from the key
    #[arg(long, value_name = "ADDRESS", help_heading = "Key")]
    pub(crate) account: Option<Address>,
    #[command(flatten)]
    pub(crate) passphrase: PassphraseOptions,
    /// How far to wait: accepted, included, final or checkpointed
    #[arg(long, value_name = "LEVEL", default_value = "final", help_heading = "Transaction")]
    pub(crate) wait: WaitFor,
    /// How long to wait: 500ms, 10s, 2m
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = values::duration, help_heading = "Transaction")]
    pub(crate) timeout: Duration,
    /// After this time the transaction can no longer land
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = values::duration, help_heading = "Transaction")]
    pub(crate) valid_for: Duration,
    /// Lane 0 to 255: transactions of different lanes do not wait for one another
    #[arg(long, value_name = "N", default_value_t = 0, help_heading = "Transaction")]
    pub(crate) lane: Lane,
    /// Fee in KDX (default: the least that the chain takes)
    #[arg(long, value_name = "KDX", help_heading = "Transaction")]
    pub(crate) fee: Option<String>,
    /// Up to 256 bytes that everybody can read
    #[arg(long, value_name = "TEXT", help_heading = "Transaction")]
    pub(crate) memo: Option<String>,
    #[command(flatten)]
    pub(crate) api: ApiOptions,
}

impl SigningOptions {
    /// Opens the key and the account.
    pub(crate) async fn session(&self) -> Result<AccountSession, CliError> {
        // The ledger first: nobody should type a passphrase for a ledger that is not there.
        let client = self.api.connect().await?;
        let key = Arc::new(self.passphrase.unlock(&self.key).await?);
        Ok(match self.account {
            Some(address) => AccountSession::open_address(client, key, address).await?,
            None => AccountSession::open(client, key).await?,
        })
    }

    fn execute_options(&self) -> Result<ExecuteOptions, CliError> {
        Ok(ExecuteOptions {
            lane: self.lane,
            fee: self.fee.as_deref().map(|fee| Unit::native().parse(fee, false)).transpose()?,
            memo: self.memo.clone().unwrap_or_default().into_bytes(),
            valid_for: self.valid_for,
            wait_for: self.wait,
            timeout: self.timeout,
        })
    }

    /// Signs, submits, waits; `show` prints the receipt, and then the receipt decides how the command ends.
    pub(crate) async fn execute(
        &self,
        session: &AccountSession,
        operations: Vec<Operation>,
        show: impl FnOnce(&Receipt),
    ) -> Result<(), CliError> {
        let receipt = session.execute(operations, &self.execute_options()?).await?;
        show(&receipt);
        error::judge(&receipt, self.wait)
    }

    /// [`Self::execute`] with the usual print.
    pub(crate) async fn execute_and_show(
        &self,
        session: &AccountSession,
        operation: Operation,
        what: &str,
        output: Output,
    ) -> Result<(), CliError> {
        self.execute(session, vec![operation], |receipt| output.receipt(what, receipt)).await
    }
}
