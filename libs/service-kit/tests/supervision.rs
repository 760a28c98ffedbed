//! Tasks with one fate; readiness and the metrics server.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test fails by panicking and shows what it measured")]

use kaldrix_service_kit::Supervisor;
use kaldrix_service_kit::metrics::{MetricsServer, Readiness, registry};
use kaldrix_service_kit::supervise::SuperviseError;
use prometheus_client::metrics::counter::Counter;
use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_util::sync::CancellationToken;

const DRAIN: Duration = Duration::from_millis(300);

fn until_stop(supervisor: &Supervisor, name: &str) {
    let token = supervisor.token();
    supervisor.spawn(name, async move {
        token.cancelled().await;
        Ok::<(), Infallible>(())
    });
}

#[tokio::test]
async fn the_first_task_that_fails_stops_all_and_is_named() {
    let supervisor = Supervisor::default();
    until_stop(&supervisor, "server");
    supervisor.spawn("store", async { Err(io::Error::other("the disk is full")) });
    let error = supervisor.run(DRAIN).await.unwrap_err();
    assert_eq!(error.to_string(), "task store failed: the disk is full");
}

#[tokio::test]
async fn a_panic_is_a_failure_of_its_task_only() {
    let supervisor = Supervisor::default();
    until_stop(&supervisor, "server");
    supervisor.spawn("core", async {
        assert_eq!(1 + 1, 3, "arithmetic");
        Ok::<(), Infallible>(())
    });
    let error = supervisor.run(DRAIN).await.unwrap_err();
    assert!(matches!(&error, SuperviseError::Panicked { task, reason } if task == "core" && reason.contains("arithmetic")), "{error}");
}

#[tokio::test]
async fn a_task_that_ends_by_itself_is_noticed_but_the_cause_comes_first() {
    let supervisor = Supervisor::default();
    supervisor.spawn("reader", async { Ok::<(), Infallible>(()) });
    assert!(matches!(supervisor.run(DRAIN).await, Err(SuperviseError::EndedEarly { task }) if task == "reader"));

    // The writer fails, which closes the reader's channel: the writer is the cause.
    let supervisor = Supervisor::default();
    let (sender, mut receiver) = tokio::sync::mpsc::channel::<()>(1);
    supervisor.spawn("reader", async move {
        while receiver.recv().await.is_some() {}
        Ok::<(), Infallible>(())
    });
    supervisor.spawn("writer", async move {
        drop(sender);
        tokio::time::sleep(Duration::from_millis(20)).await;
        Err(io::Error::other("no space"))
    });
    assert!(matches!(supervisor.run(DRAIN).await, Err(SuperviseError::Failed { task, .. }) if task == "writer"));
}

#[tokio::test]
async fn a_stop_from_outside_is_no_failure_and_a_finite_task_may_end() {
    let supervisor = Supervisor::default();
    until_stop(&supervisor, "server");
    supervisor.spawn_finite("boot", async { Ok::<(), Infallible>(()) });
    let token = supervisor.token();
    tokio::spawn(async move {
        tokio::time::sleep(Duration::from_millis(150)).await;
        token.cancel();
    });
    supervisor.run(DRAIN).await.unwrap();
}

#[tokio::test]
async fn a_task_that_hangs_does_not_hold_the_stop_for_ever() {
    let supervisor = Supervisor::default();
    supervisor.spawn("stuck", async {
        std::future::pending::<()>().await;
        Ok::<(), Infallible>(())
    });
    supervisor.token().cancel();
    let begun = Instant::now();
    let error = supervisor.run(DRAIN).await.unwrap_err().to_string();
    assert!(error.contains("stuck") && begun.elapsed() < Duration::from_secs(2), "{error}");
}

async fn get(address: std::net::SocketAddr, path: &str) -> String {
    let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
    stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").as_bytes()).await.unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).await.unwrap();
    text
}

#[tokio::test]
async fn metrics_liveness_and_readiness_are_served() {
    let mut metrics = registry("dag-service");
    let counter: Counter = Counter::default();
    metrics.register("blocks", "Blocks made", counter.clone());
    counter.inc_by(3);
    let readiness = Readiness::default();
    let gate = readiness.gate("catching up");
    let server = MetricsServer::bind("127.0.0.1:0".parse().unwrap(), Arc::new(metrics), readiness).await.unwrap();
    let (address, cancel) = (server.local_addr().unwrap(), CancellationToken::new());
    let serving = tokio::spawn(server.serve(cancel.clone()));
    assert!(get(address, "/livez").await.starts_with("HTTP/1.1 200"));
    let unready = get(address, "/readyz").await;
    assert!(unready.starts_with("HTTP/1.1 503") && unready.contains("catching up: not started"), "{unready}");
    gate.open();
    assert!(get(address, "/readyz").await.starts_with("HTTP/1.1 200"));
    gate.close("40 commits behind");
    assert!(get(address, "/readyz").await.contains("catching up: 40 commits behind"));
    assert!(get(address, "/metrics").await.contains("kaldrix_dag_service_blocks_total 3"));
    cancel.cancel();
    serving.await.unwrap().unwrap();
}
