//! The only place of these commands that writes to the terminal.

use super::OutputOptions;
use comfy_table::{CellAlignment, Table, presets};
use kaldrix_client::Receipt;
use serde::Serialize;
use std::io::Write;

/// Text for people, or JSON for scripts.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Output {
    json: bool,
}

#[derive(Serialize)]
struct Problem<'a> {
    code: &'a str,
    detail: &'a str,
}

impl Output {
    pub(crate) const fn new(options: OutputOptions) -> Self {
        Self { json: options.json }
    }

    /// Writes a result to stdout: `value` as one line of JSON, or the text.
    pub(crate) fn show(self, value: &impl Serialize, text: impl FnOnce() -> String) {
        let line = if self.json {
            serde_json::to_string(value).expect("results are structs of numbers, texts and lists")
        } else {
            text().trim_end().to_owned()
        };
        // A reader that closed its end (`| head`) is no error of ours.
        let _ = writeln!(std::io::stdout().lock(), "{line}");
    }

    /// Says something to a person; scripts do not see it.
    pub(crate) fn note(self, text: &str) {
        if !self.json {
            let _ = writeln!(std::io::stderr().lock(), "{text}");
        }
    }

    /// Says something on stderr to people and in scripts' logs alike.
    pub(crate) fn hint(self, text: &str) {
        let _ = writeln!(std::io::stderr().lock(), "{text}");
    }

    /// Writes a problem to stderr.
    pub(crate) fn problem(self, code: &str, detail: &str) {
        let line = if self.json {
            serde_json::to_string(&Problem { code, detail }).expect("two texts always serialise")
        } else {
            format!("error: {detail} [{code}]")
        };
        let _ = writeln!(std::io::stderr().lock(), "{line}");
    }

    /// Writes what came of a transaction.
    pub(crate) fn receipt(self, what: &str, receipt: &Receipt) {
        self.show(receipt, || receipt_text(what, receipt));
    }
}

/// Name and value pairs, aligned.
pub(crate) fn fields(pairs: &[(&str, String)]) -> String {
    let width = pairs.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    pairs.iter().map(|(name, value)| format!("  {name:<width$}  {value}\n")).collect()
}

/// Columns under headings; `right` lists the columns of numbers.
pub(crate) fn table(headings: &[&str], right: &[usize], rows: impl IntoIterator<Item = Vec<String>>) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(headings.to_vec());
    for row in rows {
        table.add_row(row);
    }
    for column in right {
        if let Some(column) = table.column_mut(*column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table.trim_fmt()
}

pub(crate) fn receipt_text(what: &str, receipt: &Receipt) -> String {
    let mut pairs = vec![("id", receipt.id.to_string())];
    if let Some(commit) = receipt.commit {
        pairs.push(("commit", commit.to_string()));
    }
    pairs.push(("latency", format!("{} ms", receipt.latency_ms)));
    if let Some(code) = &receipt.code {
        pairs.push(("code", code.clone()));
    }
    let outcome = if receipt.status.is_final() && !receipt.success { " without effect" } else { "" };
    format!("{}{outcome}: {what}\n{}", receipt.status, fields(&pairs))
}

#[cfg(test)]
mod tests {
    use super::*;
    use kaldrix_client::TransactionStatus;

    #[test]
    fn fields_are_aligned() {
        assert_eq!(fields(&[("id", "1".into()), ("commit", "22".into())]), "  id      1\n  commit  22\n");
    }

    #[test]
    fn scripts_find_the_promised_fields_in_a_receipt() {
        let receipt = Receipt {
            id: kaldrix_types::TxId::default(),
            status: TransactionStatus::Final,
            success: true,
            code: None,
            detail: None,
            commit: Some(7),
            latency_ms: 180,
        };
        let json = serde_json::to_value(&receipt).unwrap();
        assert_eq!(json["id"], "00".repeat(32));
        assert_eq!((&json["status"], &json["commit"], &json["latency_ms"]), (&"FINAL".into(), &7.into(), &180.into()));
    }
}
