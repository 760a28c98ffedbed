//! `kaldrix anchor`.

use super::error::CliError;
use super::output::{Output, receipt_text};
use super::signing::SigningOptions;
use clap::Args;
use kaldrix_client::Receipt;
use kaldrix_types::{Digest, Operation};
use serde::Serialize;
use std::path::{Path, PathBuf};

/// `anchor`
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  kaldrix anchor --key alice.key contract.pdf --metadata 'signed copy'\n  \
                        kaldrix anchor --key alice.key --hash 4f…     any 32-byte hash, of whatever kind\n\n\
                        A file is hashed with BLAKE3 (as b3sum does); only the hash leaves this machine.")]
#[group(id = "document", required = true, multiple = false, args = ["file", "hash"])]
pub(crate) struct AnchorArgs {
    /// The document
    file: Option<PathBuf>,
    /// Its hash instead of the document: 64 hexadecimal digits
    #[arg(long, value_name = "HEX")]
    hash: Option<Digest>,
    /// Up to 1,024 bytes that everybody can read
    #[arg(long, value_name = "TEXT", default_value = "")]
    metadata: String,
    #[command(flatten)]
    pub(crate) signing: SigningOptions,
}

#[derive(Serialize)]
struct Anchored<'a> {
    #[serde(flatten)]
    receipt: &'a Receipt,
    document: Digest,
}

pub(crate) async fn run(args: AnchorArgs, output: Output) -> Result<(), CliError> {
    let document = match (args.hash, args.file) {
        (Some(hash), _) => hash,
        (None, Some(path)) => {
            tokio::task::spawn_blocking(move || hash_file(&path)).await.map_err(|e| CliError::Internal(e.to_string()))??
        }
        (None, None) => return Err(CliError::Usage("give a document or --hash".into())),
    };
    let session = args.signing.session().await?;
    let what = format!("document {document} is on the record");
    let show = |receipt: &Receipt| output.show(&Anchored { receipt, document }, || receipt_text(&what, receipt));
    let operation = Operation::Anchor { document, metadata: args.metadata.into_bytes().into() };
    args.signing.execute(&session, vec![operation], show).await
}

fn hash_file(path: &Path) -> Result<Digest, CliError> {
    let problem = |source| CliError::File { path: path.display().to_string(), source };
    let file = std::fs::File::open(path).map_err(problem)?;
    let mut hasher = blake3::Hasher::new();
    hasher.update_reader(file).map_err(problem)?;
    Ok(Digest(*hasher.finalize().as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_document_has_the_hash_that_b3sum_prints() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("document");
        std::fs::write(&path, b"").unwrap();
        // BLAKE3 of the empty input, from the reference test vectors.
        assert_eq!(hash_file(&path).unwrap().to_string(), "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262");
        assert_eq!(hash_file(Path::new("does/not/exist")).unwrap_err().code(), "FILE");
    }
}
