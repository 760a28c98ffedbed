//! The commented default file, and help for keys that do not exist.

use super::sections::SECTIONS;
use super::{Config, quoted};
use std::fmt::Write;

/// All defaults as a table. Keys without a default are absent.
pub(super) fn defaults() -> toml::Table {
    toml::Table::try_from(Config::default()).expect("the default configuration is a table of tables")
}

impl Config {
    /// A complete file: every key with its meaning and its default; keys without a default are commented out.
    #[must_use]
    pub fn documented_toml() -> String {
        let defaults = defaults();
        let mut out = String::from(
            "# Kaldrix configuration. One file serves all five services: each reads its section and the shared ones.\n\
             # Every key may be left out; the values below are the defaults. KALDRIX_SECTION__KEY in the environment overrides a key,\n\
             # for example KALDRIX_CONSENSUS__BLOCK_TIME_TARGET_MS=30. Unknown keys are errors. Relative paths start at this file's folder.\n",
        );
        for section in SECTIONS {
            out.push('\n');
            comment(&mut out, section.doc);
            let _ = writeln!(out, "[{}]", section.name);
            for (key, doc) in section.keys {
                comment(&mut out, doc);
                let value = defaults.get(section.name).and_then(|s| s.get(*key));
                let _ = match value {
                    Some(value) => writeln!(out, "{key} = {value}"),
                    None => writeln!(out, "# {key} ="),
                };
            }
        }
        out
    }
}

fn comment(out: &mut String, lines: &[&str]) {
    for line in lines {
        let _ = writeln!(out, "#{line}");
    }
}

/// What to say about a key that does not exist, at `path` (its last part the key).
pub(super) fn unknown_key(path: &[String], allowed: &[&str]) -> String {
    let Some(key) = path.last() else { return "unknown key".to_owned() };
    let elsewhere = SECTIONS
        .iter()
        .find(|s| path.len() == 2 && s.name != path[0] && s.keys.iter().any(|(k, _)| k == key))
        .map(|s| format!("{}.{key}", s.name));
    let near =
        || allowed.iter().filter(|k| distance(k, key) <= 1 + key.len() / 4).min_by_key(|k| distance(k, key)).map(|k| (*k).to_owned());
    let hint = elsewhere.or_else(near).map_or_else(String::new, |hint| format!("; did you mean {hint}?"));
    format!("unknown key{hint} Allowed here: {}", quoted(allowed)).replace("key Allowed", "key. Allowed")
}

/// Levenshtein distance, for short ASCII words.
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, y) in b.bytes().enumerate() {
            let substituted = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}
