//! Many short random runs, until one fails: `soak --minutes 60` or `soak --runs 20000`. Run `soak` without arguments for all options.

mod soak {
    pub(crate) mod many;
    pub(crate) mod measure;
    pub(crate) mod options;
}

use soak::many::many;
use soak::measure::measure;
use soak::options::{Mode, Options, USAGE};
use std::io::Write;
use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let options = match Options::parse(&arguments) {
        Ok(options) => options,
        Err(why) => {
            say(&format!("{why}\n\n{USAGE}"));
            return ExitCode::from(2);
        }
    };
    let has_passed = match options.mode {
        Mode::Soak => many(&options),
        Mode::Measure => measure(options.seed, options.threads),
    };
    if has_passed { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// A line on standard output. Where nobody listens any more there is nobody to tell.
pub(crate) fn say(line: &str) {
    let _ = writeln!(std::io::stdout(), "{line}");
}
