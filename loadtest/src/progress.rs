//! What a person sees on stderr while waiting.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::{IsTerminal, Write};
use std::time::Duration;

/// Writes a line to stderr. Stdout is for results.
pub(crate) fn say(line: &str) {
    let _ = writeln!(std::io::stderr().lock(), "{line}");
}

/// Writes a result to stdout.
pub(crate) fn result(line: &str) {
    let _ = writeln!(std::io::stdout().lock(), "{line}");
}

/// A bar for work of a known size; without a terminal, one line now and nothing more.
pub(crate) fn bar(what: &str, length: u64) -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        say(&format!("{what}: {length}"));
        return ProgressBar::with_draw_target(Some(length), ProgressDrawTarget::hidden());
    }
    let style = ProgressStyle::with_template("{prefix:<22} {bar:32} {pos}/{len} {msg}").expect("the template is a constant");
    let bar = ProgressBar::new(length).with_style(style).with_prefix(what.to_owned());
    bar.enable_steady_tick(Duration::from_millis(250));
    bar
}
