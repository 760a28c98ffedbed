//! A payment's trace: a real OTLP receiver gets the spans of every service that it touched.

use crate::common::DevNetwork;
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{TraceService, TraceServiceServer};
use opentelemetry_proto::tonic::collector::trace::v1::{ExportTraceServiceRequest, ExportTraceServiceResponse};
use opentelemetry_proto::tonic::trace::v1::Span;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tonic::{Request, Response, Status};

#[derive(Clone, Default)]
struct Receiver(Arc<Mutex<Vec<Span>>>);

#[tonic::async_trait]
impl TraceService for Receiver {
    async fn export(&self, request: Request<ExportTraceServiceRequest>) -> Result<Response<ExportTraceServiceResponse>, Status> {
        let spans = request.into_inner().resource_spans.into_iter().flat_map(|r| r.scope_spans).flat_map(|s| s.spans);
        self.0.lock().unwrap().extend(spans);
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

fn service_of(span: &Span) -> Option<String> {
    use opentelemetry_proto::tonic::common::v1::any_value::Value;
    let attribute = span.attributes.iter().find(|a| a.key == "kaldrix.service")?;
    match attribute.value.as_ref()?.value.as_ref()? {
        Value::StringValue(name) => Some(name.clone()),
        _ => None,
    }
}

async fn trace_of_a_payment(propagation: &str) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let receiver = Receiver::default();
    let server = tonic::transport::Server::builder().add_service(TraceServiceServer::new(receiver.clone()));
    let incoming = tonic::transport::server::TcpIncoming::from(listener);
    tokio::spawn(server.serve_with_incoming(incoming));

    let folder = tempfile::tempdir().unwrap();
    let environment = [("KALDRIX_TELEMETRY__OTLP_ENDPOINT", endpoint.as_str()), ("KALDRIX_TELEMETRY__PROPAGATION", propagation)];
    let network = tokio::task::block_in_place(|| DevNetwork::start_in(folder.path(), &[], &environment));
    let (key, _) = tokio::task::block_in_place(|| network.funded_key("alice", "2"));
    let (_, bob) = network.key("bob");
    let transfer = ["transfer", "--key", key.to_str().unwrap(), "--to", &bob, "--amount", "1"];
    tokio::task::block_in_place(|| network.cli(&transfer));

    let wanted: BTreeSet<String> =
        ["ledger-api", "dag-service", "consensus-service", "crypto-service", "region-sync"].map(str::to_owned).into();
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let mut traces: BTreeMap<Vec<u8>, BTreeSet<String>> = BTreeMap::new();
        for span in receiver.0.lock().unwrap().iter() {
            if let Some(service) = service_of(span) {
                traces.entry(span.trace_id.clone()).or_default().insert(service);
            }
        }
        if traces.values().any(|services| wanted.is_subset(services)) {
            break;
        }
        let best = traces.values().max_by_key(|s| s.len());
        assert!(Instant::now() < deadline, "no trace has all five services; the best has {best:?}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    tokio::task::block_in_place(|| network.stop());
}

#[tokio::test(flavor = "multi_thread")]
async fn one_payment_is_one_trace_through_all_five_services() {
    trace_of_a_payment("w3c").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_holds_with_xray_ids() {
    trace_of_a_payment("xray").await;
}
