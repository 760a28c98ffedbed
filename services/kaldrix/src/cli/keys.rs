//! `kaldrix keys`: key files, and the keys of an account.

use super::OutputOptions;
use super::error::CliError;
use super::output::{Output, fields};
use super::signing::{PassphraseOptions, SigningOptions};
use clap::{Args, Subcommand};
use kaldrix_crypto::{KeyFile, Keystore, SecretKey};
use kaldrix_types::{Address, Operation, PublicKey, Scheme};
use serde::Serialize;
use std::path::{Path, PathBuf};

/// The subcommands.
#[derive(Debug, Subcommand)]
pub(crate) enum KeysCommand {
    /// Make a key and write it to a file
    New(NewArgs),
    /// Show what a key file holds; needs no passphrase
    Show(ShowArgs),
    /// Let a second key sign for the account as well
    Register(AccountKeyArgs),
    /// Replace the account's key: the old one can sign nothing afterwards, the address stays
    Rotate(RotateArgs),
}

impl KeysCommand {
    pub(crate) const fn output(&self) -> OutputOptions {
        match self {
            Self::New(args) => args.output,
            Self::Show(args) => args.output,
            Self::Register(args) => args.signing.api.output,
            Self::Rotate(args) => args.keys.signing.api.output,
        }
    }
}

/// `keys new`
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  kaldrix keys new --out alice.key\n  kaldrix keys new --out bot.key --no-passphrase --json\n  \
                        KALDRIX_PASSPHRASE=… kaldrix keys new --out ci.key --scheme hybrid")]
pub(crate) struct NewArgs {
    /// File to write; an existing one is never overwritten
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// ml-dsa-44, ml-dsa-65, ml-dsa-87, hybrid (Ed25519 and ML-DSA-65) or ed25519
    #[arg(long, value_name = "SCHEME", default_value_t = Scheme::default())]
    scheme: Scheme,
    /// Store the key unencrypted: for tests and for machines that are safe otherwise
    #[arg(long, conflicts_with = "passphrase_file")]
    no_passphrase: bool,
    #[command(flatten)]
    passphrase: PassphraseOptions,
    #[command(flatten)]
    output: OutputOptions,
}

/// `keys show`
#[derive(Debug, Args)]
pub(crate) struct ShowArgs {
    /// The key file
    file: PathBuf,
    /// Print the address and nothing else: `kaldrix faucet $(kaldrix keys show a.key --address) 100`
    #[arg(long, conflicts_with = "json")]
    address: bool,
    #[command(flatten)]
    output: OutputOptions,
}

/// `keys register`
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  kaldrix keys register --key alice.key --new alice-phone.key")]
pub(crate) struct AccountKeyArgs {
    /// Key file of the key to add; only its public half is read
    #[arg(long, value_name = "FILE")]
    new: PathBuf,
    #[command(flatten)]
    signing: SigningOptions,
}

/// `keys rotate`
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  kaldrix keys rotate --key old.key --new new.key\n  \
                        kaldrix transfer --key new.key --account kx1… --to kx1… --amount 1     (the address is still the old key's)")]
pub(crate) struct RotateArgs {
    /// Index of the key to replace (default: the one that signs)
    #[arg(long, value_name = "N")]
    index: Option<u8>,
    #[command(flatten)]
    keys: AccountKeyArgs,
}

#[derive(Serialize)]
struct Shown<'a> {
    address: Address,
    scheme: Scheme,
    file: String,
    encrypted: bool,
    key_id: String,
    /// Kilobytes long: only where it is asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    public_key: Option<&'a PublicKey>,
}

fn show(output: Output, path: &Path, file: &KeyFile, with_public_key: bool) {
    let shown = Shown {
        address: file.address(),
        scheme: file.scheme(),
        file: path.display().to_string(),
        encrypted: file.is_encrypted(),
        public_key: with_public_key.then(|| file.public_key()),
        key_id: file.public_key().id().to_string(),
    };
    output.show(&shown, || {
        let stored = if shown.encrypted { "encrypted" } else { "NOT encrypted" };
        fields(&[
            ("address", shown.address.to_string()),
            ("scheme", shown.scheme.to_string()),
            ("key id", shown.key_id.clone()),
            ("file", format!("{} ({stored})", shown.file)),
        ])
    });
}

pub(crate) async fn run(command: KeysCommand, output: Output) -> Result<(), CliError> {
    match command {
        KeysCommand::New(args) => {
            let work = move || new(&args, output);
            tokio::task::spawn_blocking(work).await.map_err(|e| CliError::Internal(e.to_string()))?
        }
        KeysCommand::Show(args) => {
            let file = KeyFile::open(&args.file)?;
            if args.address {
                output.show(&file.address(), || file.address().to_string());
            } else {
                show(output, &args.file, &file, true);
            }
            Ok(())
        }
        KeysCommand::Register(args) => {
            let key = KeyFile::open(&args.new)?.public_key().clone();
            let session = args.signing.session().await?;
            let what = format!("{} key {} may sign for {}", key.scheme(), key.id().short(), session.address());
            args.signing.execute_and_show(&session, Operation::RegisterKey { key }, &what, output).await
        }
        KeysCommand::Rotate(args) => rotate(args, output).await,
    }
}

fn new(args: &NewArgs, output: Output) -> Result<(), CliError> {
    if args.out.exists() {
        return Err(kaldrix_crypto::KeystoreError::Exists(args.out.clone()).into());
    }
    let passphrase = if args.no_passphrase { None } else { Some(args.passphrase.obtain("Passphrase for the new key: ", true)?) };
    let key = SecretKey::generate(args.scheme).map_err(kaldrix_crypto::KeystoreError::from)?;
    let file = Keystore::create(&args.out, &key, passphrase.as_ref())?;
    show(output, &args.out, &file, false);
    output.note("Keep a copy of the file in a safe place: whoever has it and the passphrase has the account, and nobody can restore it.");
    Ok(())
}

async fn rotate(args: RotateArgs, output: Output) -> Result<(), CliError> {
    let RotateArgs { index, keys: AccountKeyArgs { new, signing } } = args;
    let key = KeyFile::open(&new)?.public_key().clone();
    let current = KeyFile::open(&signing.key)?.public_key().id();
    let session = signing.session().await?;
    let index = match index {
        Some(index) => index,
        // Before its first transaction an account has no keys; the one that signs becomes number 0 by signing.
        None => match session.client().account(session.address()).await {
            Ok(account) => account.keys.iter().find(|k| k.key_id == current).map_or(0, |k| k.index),
            Err(error) if error.api_code() == Some(kaldrix_api::ErrorCode::AccountNotFound) => 0,
            Err(error) => return Err(error.into()),
        },
    };
    let what = format!("key {index} of {} is now {} key {}", session.address(), key.scheme(), key.id().short());
    signing.execute_and_show(&session, Operation::RotateKey { index, key }, &what, output).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shown_key_has_the_fields_that_scripts_read() {
        let key = SecretKey::generate(Scheme::MlDsa65).unwrap();
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.key");
        let file = Keystore::create(&path, &key, None).unwrap();
        let shown = Shown {
            address: file.address(),
            scheme: file.scheme(),
            file: path.display().to_string(),
            encrypted: file.is_encrypted(),
            public_key: None,
            key_id: key.public_key().id().to_string(),
        };
        let json = serde_json::to_value(&shown).unwrap();
        assert_eq!(json["address"], Address::of_key(key.public_key()).to_string());
        assert_eq!(json["scheme"], "ml-dsa-65");
        assert_eq!(json["file"], path.display().to_string());
        assert_eq!(json["encrypted"], false);
    }
}
