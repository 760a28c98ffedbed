//! One call from ledger-api to dag-service and one background task, traced.

use super::collector::{Collector, text};
use super::{start, validator};
use kaldrix_service_kit::config::{Propagation, SecretUrl, Telemetry};
use kaldrix_service_kit::dev_ca::DevCa;
use kaldrix_service_kit::tls::Expected;
use kaldrix_service_kit::{Service, client, telemetry};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_client::TraceServiceClient;
use opentelemetry_proto::tonic::trace::v1::Span;
use tracing::Instrument;

const CLIENT: i32 = 3;
const SERVER: i32 = 2;
const INTERNAL: i32 = 1;
const RPC: &str = "opentelemetry.proto.collector.trace.v1.TraceService/Export";

/// Makes the calls and checks that all spans are one trace, each the child of the one before. Returns the first span.
pub async fn one_trace_through_two_services(propagation: Propagation) -> Span {
    let collector = Collector::default();
    let config = Telemetry { otlp_endpoint: Some(SecretUrl::from(collector.start().await)), propagation, ..Telemetry::default() };
    let guard = telemetry::init(&config, "test").unwrap();
    let ca = DevCa::generate().unwrap();
    let server = start(&validator(&ca, "v0", Service::DagService)).await;
    let channel =
        client::connect(&server.endpoint(), &validator(&ca, "v0", Service::LedgerApi), Expected::any(Service::DagService)).unwrap();

    let work = telemetry::span_in_trace("pay", "ledger-api", None);
    let carried = async {
        let mut traced = TraceServiceClient::new(telemetry::traced(channel.clone()));
        traced.export(telemetry::request(ExportTraceServiceRequest::default())).await.unwrap();
        telemetry::traceparent().unwrap()
    }
    .instrument(work)
    .await;
    drop(telemetry::span_in_trace("execute", "dag-service", Some(&carried)));

    // Without a traced channel the trace is carried all the same; a refused call is marked.
    let refused =
        client::connect(&server.endpoint(), &validator(&ca, "v0", Service::CryptoService), Expected::any(Service::DagService)).unwrap();
    let status =
        async { TraceServiceClient::new(refused).export(telemetry::request(ExportTraceServiceRequest::default())).await.unwrap_err() }
            .instrument(telemetry::span_in_trace("refused", "crypto-service", None))
            .await;
    assert_eq!(status.code(), tonic::Code::PermissionDenied);
    // Probes leave no spans.
    let mut health = tonic_health::pb::health_client::HealthClient::new(channel);
    health.check(tonic_health::pb::HealthCheckRequest::default()).await.unwrap();
    guard.shutdown().await;

    let pay = collector.span(INTERNAL, "pay");
    let call = collector.span(CLIENT, RPC);
    let served = collector.spans.lock().unwrap().iter().find(|s| s.kind == SERVER && s.trace_id == pay.trace_id).cloned().unwrap();
    let execute = collector.span(INTERNAL, "execute");
    println!("{propagation:?}: trace {} went through pay, {} and back", hex(&pay.trace_id), served.name);
    assert_eq!(served.name, RPC);
    assert_eq!((&call.trace_id, &served.trace_id, &execute.trace_id), (&pay.trace_id, &pay.trace_id, &pay.trace_id));
    assert_eq!((&call.parent_span_id, &served.parent_span_id, &execute.parent_span_id), (&pay.span_id, &call.span_id, &pay.span_id));
    assert_eq!(text(&served, "kaldrix.service").as_deref(), Some("dag-service"));
    assert_eq!(text(&execute, "kaldrix.service").as_deref(), Some("dag-service"));

    let failed = collector.span(INTERNAL, "refused");
    let spans = collector.spans.lock().unwrap();
    let denied = spans.iter().find(|s| s.kind == SERVER && s.parent_span_id == failed.span_id).unwrap();
    assert_eq!(text(denied, "rpc.grpc.status_code").as_deref(), Some("7"));
    assert_eq!(denied.status.as_ref().unwrap().code, 2);
    assert!(spans.iter().all(|s| !s.name.contains("grpc.health") && (s.name == RPC || s.kind == INTERNAL)), "{spans:?}");
    pay
}

pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}
