//! The configuration: defaults, layers, and what errors say.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test fails by panicking and shows what it measured")]

use kaldrix_service_kit::Service;
use kaldrix_service_kit::config::{Config, Propagation, SecretUrl};
use std::path::Path;

const NOTHING: [(String, String); 0] = [];

fn env(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
}

fn error(text: &str, environment: &[(&str, &str)]) -> String {
    Config::parse(text, "kaldrix.toml", env(environment)).unwrap_err().to_string()
}

#[test]
fn the_defaults_are_these() {
    insta::assert_snapshot!(Config::default().to_toml());
}

#[test]
fn the_documented_file_is_the_defaults_and_names_every_key() {
    let text = Config::documented_toml();
    assert_eq!(Config::parse(&text, "documented", NOTHING).unwrap(), Config::default());
    for key in ["passphrase_file", "otlp_endpoint", "metrics_listen", "client_ca", "block_time_target_ms", "key_rotation_interval_secs"] {
        assert!(text.lines().any(|l| l.starts_with(&format!("{key} =")) || l.starts_with(&format!("# {key} ="))), "{key}");
    }
}

#[test]
fn a_written_out_configuration_reads_back_as_itself() {
    let text = "[dag]\nvalidator = 'v1'\npeers = [{ name = 'v0', address = '/ip4/127.0.0.1/tcp/1' }]\n[telemetry]\notlp_endpoint = 'http://c:4317'";
    let config = Config::parse(text, "a", NOTHING).unwrap();
    assert_eq!(config.dag.peers.len(), 1);
    assert_eq!(Config::parse(&config.to_toml(), "b", NOTHING).unwrap(), config);
}

#[test]
fn the_environment_wins_over_the_file_and_text_stays_text() {
    let pairs = [
        ("KALDRIX_CONSENSUS__BLOCK_TIME_TARGET_MS", "30"),
        ("KALDRIX_CONSENSUS__BLOCK_REWARD", "340282366920938463463374607431768211455"),
        ("KALDRIX_REGION__NAME", "1"),
        ("KALDRIX_API__DAG_ENDPOINTS", "[\"a:1\", \"b:2\"]"),
        ("KALDRIX_API__FAUCET_KEY_FILE", "faucet.json"),
        ("KALDRIX_TELEMETRY__PROPAGATION", "xray"),
        ("KALDRIX_TELEMETRY__METRICS_LISTEN", "127.0.0.1:9100"),
        ("KALDRIX_TELEMETRY__SAMPLE_RATIO", "0.25"),
        // Another tool's variable: no section, so not ours.
        ("KALDRIX_API", "http://127.0.0.1:8080"),
        ("PATH", "/bin"),
    ];
    let config = Config::parse("[consensus]\nblock_time_target_ms = 70\nleader_timeout_ms = 300", "a", env(&pairs)).unwrap();
    assert_eq!(config.consensus.block_time_target_ms, 30);
    assert_eq!(config.consensus.leader_timeout_ms, 300);
    assert_eq!(config.consensus.block_reward, u128::MAX.to_string());
    assert_eq!(config.region.name, "1");
    assert_eq!(config.api.dag_endpoints, ["a:1", "b:2"]);
    assert_eq!(config.api.faucet_key_file.as_deref(), Some(Path::new("faucet.json")));
    assert_eq!(config.telemetry.propagation, Propagation::Xray);
    assert_eq!(config.telemetry.metrics_listen, Some("127.0.0.1:9100".parse().unwrap()));
    assert!((config.telemetry.sample_ratio - 0.25).abs() < 1e-9);
}

#[test]
fn errors_name_the_place_the_key_the_fault_and_what_is_allowed() {
    let typo = error("[dag]\nmax_transactions_per_blok = 5", &[]);
    assert!(
        typo.starts_with("kaldrix.toml: dag.max_transactions_per_blok: unknown key; did you mean max_transactions_per_block?"),
        "{typo}"
    );
    assert!(typo.contains("\"mempool_bytes\""), "{typo}");

    let elsewhere = error("", &[("KALDRIX_DAG__BLOCK_TIME_TARGET_MS", "30")]);
    assert!(
        elsewhere.starts_with("environment variable KALDRIX_DAG__BLOCK_TIME_TARGET_MS: dag.block_time_target_ms: unknown key"),
        "{elsewhere}"
    );
    assert!(elsewhere.contains("did you mean consensus.block_time_target_ms?"), "{elsewhere}");

    let section = error("[consensu]\nlisten = '127.0.0.1:1'", &[]);
    assert!(section.contains("consensu: unknown key; did you mean consensus?"), "{section}");

    let kind = error("[cache]\ncapacity = 'many'", &[]);
    assert!(kind.contains("kaldrix.toml: cache.capacity: found string \"many\", expected u64"), "{kind}");

    let word = error("[crypto]\nhash_algorithm = 'sha256'", &[]);
    assert!(word.contains("crypto.hash_algorithm") && word.contains("\"sha256\"") && word.contains("\"blake3\""), "{word}");

    let address = error("[api]\nlisten = 'localhost'", &[]);
    assert!(address.contains("api.listen: ") && address.contains("socket address"), "{address}");

    let peer = error("[[dag.peers]]\nname = 'v0'\nadress = '/ip4/1.2.3.4/tcp/1'", &[]);
    assert!(peer.contains("dag.peers.0.adress: unknown key; did you mean address?"), "{peer}");

    let syntax = error("[dag\nvalidator = 1", &[]);
    assert!(syntax.starts_with("kaldrix.toml: not TOML: ") && syntax.contains("line 1"), "{syntax}");

    let missing = Config::load(Path::new("no/such/file.toml")).unwrap_err().to_string();
    assert!(missing.contains("cannot read the configuration no/such/file.toml"), "{missing}");
}

#[test]
fn relative_paths_begin_at_the_files_folder() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("kaldrix.toml");
    std::fs::write(&file, "[dag]\ngenesis = 'g.json'\n[crypto]\nkey_file = '/keys/k'\npassphrase_file = 'p'").unwrap();
    let config = Config::load_with(&file, NOTHING).unwrap();
    assert_eq!(config.dag.genesis, dir.path().join("g.json"));
    assert_eq!(config.crypto.key_file, Path::new("/keys/k"));
    assert_eq!(config.crypto.passphrase_file, Some(dir.path().join("p")));
    assert_eq!(config.tls.ca, dir.path().join("tls/ca.pem"));
}

#[test]
fn a_check_finds_all_that_cannot_work() {
    let text = "
        [dag]
        validator = 'V 0'
        max_transactions_per_block = 0
        mempool_bytes = 1
        consensus_endpoint = 'nowhere'
        listen = '127.0.0.1:7110'
        [consensus]
        leader_timeout_ms = 50
        num_validators = 3
        block_reward = '-1'
        [api]
        region = 'r'
        client_ca = 'missing.pem'
        [telemetry]
        sample_ratio = 2.0
        log = 'kaldrix=loud'
        otlp_endpoint = 'collector'
    ";
    let config = Config::parse(text, "a", NOTHING).unwrap();
    let problems = config.check();
    for key in [
        "dag.validator",
        "dag.genesis",
        "dag.max_transactions_per_block",
        "dag.mempool_bytes",
        "dag.consensus_endpoint",
        "consensus.leader_timeout_ms",
        "consensus.num_validators",
        "consensus.block_reward",
        "consensus.listen",
        "api.dag_endpoints",
        "api.client_ca",
        "tls.ca",
        "telemetry.sample_ratio",
        "telemetry.log",
        "telemetry.otlp_endpoint",
    ] {
        assert!(problems.iter().any(|p| p.key == key), "{key} is not in {problems:?}");
    }
    assert!(!problems.iter().any(|p| p.key.starts_with("region.")), "an unused section is not looked at: {problems:?}");
    assert!(config.check_for(&[Service::RegionSync]).iter().any(|p| p.key == "region.name"));
}

#[test]
fn a_sound_configuration_has_no_problems() {
    let dir = tempfile::tempdir().unwrap();
    for file in ["genesis.json", "ca.pem", "c.pem", "k.pem"] {
        std::fs::write(dir.path().join(file), "").unwrap();
    }
    let file = dir.path().join("kaldrix.toml");
    std::fs::write(&file, "[dag]\nvalidator = 'v0'\n[region]\nname = 'r'\n[tls]\nca = 'ca.pem'\ncertificate = 'c.pem'\nkey = 'k.pem'")
        .unwrap();
    let config = Config::load_with(&file, NOTHING).unwrap();
    assert_eq!(config.check(), []);
}

#[test]
fn debug_output_holds_no_secret() {
    let mut config = Config::default();
    config.telemetry.otlp_endpoint = Some(SecretUrl::from("http://user:hunter2@collector:4317/?token=abc"));
    let shown = format!("{config:?}");
    assert!(!shown.contains("hunter2") && !shown.contains("abc"), "{shown}");
    assert!(shown.contains("collector:4317"), "{shown}");
}
