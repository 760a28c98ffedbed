//! `kaldrix sim check-vectors`.

use crate::cli::OutputOptions;
use crate::cli::error::CliError;
use crate::cli::output::Output;
use clap::Args;
use kaldrix_consensus::vectors::check_vector;
use serde::Serialize;
use std::panic::catch_unwind;
use std::path::PathBuf;

/// `sim check-vectors`
#[derive(Debug, Args)]
pub(super) struct VectorsArgs {
    /// One vector per line
    file: PathBuf,
    #[command(flatten)]
    pub(super) output: OutputOptions,
}

#[derive(Debug, PartialEq, Eq, Serialize)]
struct Counts {
    passed: usize,
    failed: usize,
}

/// True: no vector failed, and there was one.
pub(super) fn run(args: &VectorsArgs) -> Result<bool, CliError> {
    let output = Output::new(args.output);
    let problem = |source| CliError::File { path: args.file.display().to_string(), source };
    let content = std::fs::read(&args.file).map_err(problem)?;
    let counts = check(&content, |line, reason| output.problem("VECTOR_FAILED", &format!("line {line}: {reason}")));
    output.show(&counts, || format!("{} passed, {} failed", counts.passed, counts.failed));
    if counts == (Counts { passed: 0, failed: 0 }) {
        output.problem("NO_VECTORS", "the file holds no vector");
    }
    Ok(counts.failed == 0 && counts.passed > 0)
}

/// Checks every line that is not blank. What cannot be read, and what makes the rule panic, has failed.
fn check(content: &[u8], mut report: impl FnMut(usize, &str)) -> Counts {
    let mut counts = Counts { passed: 0, failed: 0 };
    for (line, number) in content.split(|byte| *byte == b'\n').zip(1..) {
        if line.trim_ascii().is_empty() {
            continue;
        }
        let result = match std::str::from_utf8(line) {
            Ok(text) => catch_unwind(|| check_vector(text)).unwrap_or_else(|_| Err("the commit rule panicked".to_owned())),
            Err(error) => Err(format!("not text: {error}")),
        };
        match result {
            Ok(()) => counts.passed += 1,
            Err(reason) => {
                counts.failed += 1;
                report(number, &reason);
            }
        }
    }
    counts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_that_cannot_be_read_have_failed_and_are_named() {
        let mut named = Vec::new();
        let counts = check(b"{}\n\nnot json\n\xff\xfe\n", |line, _| named.push(line));
        assert_eq!((counts, named), (Counts { passed: 0, failed: 3 }, vec![1, 3, 4]));
    }

    #[test]
    fn a_file_without_vectors_is_no_success() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("empty.jsonl");
        std::fs::write(&file, "\n").unwrap();
        assert!(!run(&VectorsArgs { file, output: OutputOptions { json: false } }).unwrap());
    }
}
