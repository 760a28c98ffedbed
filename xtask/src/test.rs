//! `cargo xtask test`: the steps of continuous integration, each with its heading and its time.

use crate::check;
use anyhow::{Context, bail};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Built from source when missing; pinned so that every machine runs tests alike.
const NEXTEST_VERSION: &str = "0.9.143";

/// What `cargo xtask test` takes.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Leave out the end-to-end tests.
    #[arg(long, conflicts_with = "full")]
    quick: bool,
    /// Also the slow tests (names that begin with `slow_`).
    #[arg(long)]
    full: bool,
    /// Print the steps and the tests that would run, and run none.
    #[arg(long)]
    list: bool,
    /// Passed on to `cargo nextest run`: names to filter by, `-E EXPRESSION`, `-p PACKAGE`, …
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    filters: Vec<String>,
}

impl Options {
    /// A profile of `.config/nextest.toml`.
    fn profile(&self) -> &'static str {
        let in_ci = std::env::var("CI").is_ok_and(|v| v == "true" || v == "1");
        match (self.full, self.quick, in_ci) {
            (true, ..) => "full",
            (_, true, _) => "quick",
            (_, _, true) => "ci",
            _ => "default",
        }
    }
}

/// How a step is done.
enum Action {
    /// Something of this program's.
    Own(fn() -> anyhow::Result<()>),
    /// `cargo` with these arguments.
    Cargo(Vec<String>),
}

struct Step {
    name: &'static str,
    action: Action,
}

impl Step {
    fn own(name: &'static str, action: fn() -> anyhow::Result<()>) -> Self {
        Self { name, action: Action::Own(action) }
    }

    fn cargo(name: &'static str, arguments: &[&str]) -> Self {
        Self { name, action: Action::Cargo(arguments.iter().map(|&a| a.to_owned()).collect()) }
    }

    fn run(&self) -> anyhow::Result<()> {
        match &self.action {
            Action::Own(action) => action(),
            Action::Cargo(arguments) => cargo(arguments),
        }
    }

    fn describe(&self) -> String {
        match &self.action {
            Action::Own(_) => self.name.to_owned(),
            Action::Cargo(arguments) => format!("{}: cargo {}", self.name, arguments.join(" ")),
        }
    }
}

/// All steps in order. Clippy, tests and doc tests share profile, features and flags, so each dependency is compiled once per kind of output.
fn steps(options: &Options) -> Vec<Step> {
    let tests = Step { name: "tests", action: Action::Cargo(nextest(options, "run")) };
    vec![
        Step::own("tools", tools),
        Step::cargo("format", &["fmt", "--all", "--", "--check"]),
        Step::own("dependency direction", check::run),
        Step::cargo("clippy", &["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"]),
        tests,
        Step::cargo("doc tests", &["test", "--doc", "--workspace"]),
    ]
}

fn nextest(options: &Options, what: &str) -> Vec<String> {
    let mut arguments: Vec<String> = ["nextest", what, "--profile", options.profile()].map(str::to_owned).into();
    // With both, cargo would build everything.
    let names_packages = options.filters.iter().any(|f| f.starts_with("-p") || f.starts_with("--package"));
    if !names_packages {
        arguments.push("--workspace".to_owned());
    }
    arguments.extend(options.filters.iter().cloned());
    arguments
}

/// Runs every step even when one fails, so that one run shows all there is to mend; without the tools nothing is tried.
///
/// # Errors
/// Names the steps that failed.
pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    let steps = steps(options);
    if options.list {
        return list(options, &steps);
    }
    let start = Instant::now();
    let mut results: Vec<(&str, Duration, bool)> = Vec::with_capacity(steps.len());
    for (i, step) in steps.iter().enumerate() {
        println!("\n── {}/{} {}", i + 1, steps.len(), step.describe());
        let begin = Instant::now();
        let outcome = step.run();
        let took = begin.elapsed();
        match &outcome {
            Ok(()) => println!("   {} ok in {:.1} s", step.name, took.as_secs_f64()),
            Err(error) => println!("   {} FAILED after {:.1} s: {error:#}", step.name, took.as_secs_f64()),
        }
        results.push((step.name, took, outcome.is_ok()));
        if i == 0 && outcome.is_err() {
            break;
        }
    }
    println!("\n── summary (profile {})", options.profile());
    for (name, took, ok) in &results {
        println!("   {:<22} {:>8.1} s  {}", name, took.as_secs_f64(), if *ok { "ok" } else { "FAILED" });
    }
    println!("   {:<22} {:>8.1} s", "all", start.elapsed().as_secs_f64());
    let failed: Vec<&str> = results.iter().filter(|(_, _, ok)| !ok).map(|(name, ..)| *name).collect();
    if failed.is_empty() { Ok(()) } else { bail!("failed: {}", failed.join(", ")) }
}

fn list(options: &Options, steps: &[Step]) -> anyhow::Result<()> {
    for (i, step) in steps.iter().enumerate() {
        println!("{}. {}", i + 1, step.describe());
    }
    cargo(&nextest(options, "list"))
}

/// The cargo that runs us, from the top of the workspace.
fn cargo_command() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."));
    command
}

fn cargo(arguments: &[String]) -> anyhow::Result<()> {
    let status = cargo_command().args(arguments).status().context("cargo cannot be started")?;
    if status.success() { Ok(()) } else { bail!("cargo {} ended with {status}", arguments.join(" ")) }
}

fn answers(command: &mut Command) -> bool {
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok_and(|status| status.success())
}

/// Makes sure that everything the other steps call is there.
fn tools() -> anyhow::Result<()> {
    if !answers(Command::new("cc").arg("--version")) {
        bail!("no C compiler: aws-lc and SQLite are built from source; on Debian: apt-get install build-essential");
    }
    for (component, subcommand) in [("rustfmt", "fmt"), ("clippy", "clippy")] {
        if !answers(cargo_command().args([subcommand, "--version"])) {
            bail!("cargo {subcommand} is missing: rustup component add {component}");
        }
    }
    if !answers(cargo_command().args(["nextest", "--version"])) {
        println!("cargo-nextest is missing; building {NEXTEST_VERSION} from crates.io (some minutes, once)");
        cargo(&["install", "cargo-nextest", "--locked", "--version", NEXTEST_VERSION].map(str::to_owned))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(quick: bool, full: bool) -> Options {
        Options { quick, full, list: false, filters: vec!["a_name".into()] }
    }

    #[test]
    fn filters_go_to_the_tests_and_nowhere_else() {
        let steps = steps(&options(false, true));
        let with_filter: Vec<&str> = steps.iter().filter(|s| s.describe().contains("a_name")).map(|s| s.name).collect();
        assert_eq!(with_filter, ["tests"]);
        assert!(steps[4].describe().contains("--profile full"));
    }

    #[test]
    fn a_package_that_is_named_is_the_only_one_built() {
        let mut options = options(false, false);
        assert!(nextest(&options, "run").contains(&"--workspace".to_owned()));
        options.filters = vec!["-p".into(), "xtask".into()];
        assert!(!nextest(&options, "run").contains(&"--workspace".to_owned()));
    }

    #[test]
    fn quick_has_its_own_profile() {
        assert_eq!(options(true, false).profile(), "quick");
    }
}
