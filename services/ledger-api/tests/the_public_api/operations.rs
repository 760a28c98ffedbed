//! Probes, documents, pages, and both protocols on one port.

use super::fixture::{Api, Options};
use std::time::Duration;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use tonic_reflection::pb::v1::ServerReflectionRequest;
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;

async fn becomes_ready(api: &Api) -> bool {
    for _ in 0..300 {
        if api.get("/readyz").await.status == 200 {
            return true;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    false
}

#[tokio::test]
async fn it_is_ready_when_store_region_and_validator_answer_and_says_what_is_missing() {
    let api = Api::start().await;
    assert_eq!(api.get("/livez").await.status, 200);
    assert!(becomes_ready(&api).await, "{}", api.get("/readyz").await.text);
    let lonely = Api::start_with(Options { without_validator: true, dead_validators: 1, ..Default::default() }).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    let answer = lonely.get("/readyz").await;
    assert_eq!(answer.status, 503);
    assert!(answer.json["obstacles"].to_string().contains("validators"), "{}", answer.text);
}

#[tokio::test]
async fn grpc_health_follows_readiness() {
    let api = Api::start().await;
    assert!(becomes_ready(&api).await);
    let channel = tonic::transport::Endpoint::from_shared(api.url("")).expect("a url").connect().await.expect("h2c");
    let mut health = HealthClient::new(channel);
    for service in ["", "kaldrix.ledger.v1.LedgerService"] {
        let mut status = 0;
        for _ in 0..100 {
            let request = tonic_health::pb::HealthCheckRequest { service: service.to_owned() };
            status = health.check(request).await.expect("known").into_inner().status;
            if status == ServingStatus::Serving as i32 {
                break;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        assert_eq!(status, ServingStatus::Serving as i32, "{service:?}");
    }
}

#[tokio::test]
async fn reflection_names_the_public_service_and_describes_it() {
    let api = Api::start().await;
    let channel = tonic::transport::Endpoint::from_shared(api.url("")).expect("a url").connect().await.expect("h2c");
    let mut client = ServerReflectionClient::new(channel);
    let ask = |request| ServerReflectionRequest { host: String::new(), message_request: Some(request) };
    let requests = tokio_stream::iter([
        ask(MessageRequest::ListServices(String::new())),
        ask(MessageRequest::FileContainingSymbol("kaldrix.ledger.v1.LedgerService".into())),
    ]);
    let mut answers = client.server_reflection_info(requests).await.expect("open").into_inner();
    let Some(MessageResponse::ListServicesResponse(list)) = answers.message().await.expect("one").and_then(|a| a.message_response) else {
        panic!("no list of services");
    };
    let names: Vec<String> = list.service.into_iter().map(|s| s.name).collect();
    assert!(names.contains(&"kaldrix.ledger.v1.LedgerService".to_owned()), "{names:?}");
    assert!(!names.iter().any(|n| n.contains("DagService")), "internal services are not offered: {names:?}");
    let file = answers.message().await.expect("one").and_then(|a| a.message_response);
    assert!(matches!(file, Some(MessageResponse::FileDescriptorResponse(_))), "{file:?}");
}

#[tokio::test]
async fn metrics_count_requests_by_route_and_code() {
    let api = Api::start().await;
    api.get("/v1/network").await;
    api.get("/v1/commits/77").await;
    api.get("/nowhere").await;
    let mut grpc = api.grpc().await;
    grpc.get_network(kaldrix_proto::ledger::GetNetworkRequest {}).await.expect("an answer");
    let metrics = api.get("/metrics").await;
    assert!(metrics.header("content-type").starts_with("application/openmetrics-text"));
    for line in [
        r#"kaldrix_ledger_api_requests_total{transport="rest",method="/v1/network",code="OK"} 1"#,
        r#"kaldrix_ledger_api_requests_total{transport="rest",method="/v1/commits/{index}",code="COMMIT_NOT_FOUND"} 1"#,
        r#"kaldrix_ledger_api_requests_total{transport="rest",method="unknown",code="ROUTE_NOT_FOUND"} 1"#,
        r#"kaldrix_ledger_api_requests_total{transport="grpc",method="GetNetwork",code="OK"} 1"#,
    ] {
        assert!(metrics.text.contains(line), "{line} in\n{}", metrics.text);
    }
}

#[tokio::test]
async fn the_pages_work_offline_and_may_run_nothing_but_their_own_scripts() {
    let api = Api::start().await;
    for path in ["/", "/docs", "/assets/page.css", "/assets/status.js", "/assets/docs.js"] {
        let page = api.get(path).await;
        assert_eq!(page.status, 200, "{path}");
        for elsewhere in ["http://", "https://", "innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval("] {
            assert!(!page.text.contains(elsewhere), "{path} has {elsewhere}");
        }
        assert!(page.header("content-security-policy").contains("script-src 'self'"), "{path}");
        assert_eq!(page.header("x-content-type-options"), "nosniff");
    }
    let document = api.get("/openapi.json").await;
    assert_eq!(document.header("content-type"), "application/json");
    for (method, path) in kaldrix_ledger_api::rest::routes() {
        assert!(document.json["paths"][path][method]["responses"]["default"].is_object(), "{method} {path}");
    }
}

#[tokio::test]
async fn browsers_of_other_origins_may_call_only_when_configured() {
    let ask = |api: &Api| api.http.get(api.url("/v1/network")).header("origin", "http://example.org").send();
    let closed = Api::start().await;
    assert!(ask(&closed).await.expect("an answer").headers().get("access-control-allow-origin").is_none());
    let mut options = Options::default();
    options.settings.cors = true;
    let open = Api::start_with(options).await;
    assert_eq!(ask(&open).await.expect("an answer").headers()["access-control-allow-origin"], "*");
    let preflight = open
        .http
        .request(reqwest::Method::OPTIONS, open.url("/v1/transactions"))
        .header("origin", "http://example.org")
        .header("access-control-request-method", "POST")
        .header("access-control-request-headers", "content-type")
        .send()
        .await
        .expect("an answer");
    assert!(preflight.status().is_success());
}

#[tokio::test]
async fn several_apis_in_one_process_do_not_know_of_one_another() {
    let (one, two) = (Api::start().await, Api::start().await);
    let tx = one.payment(0);
    one.commit_all(&[&tx]).await;
    assert_eq!(one.get(&format!("/v1/transactions/{}", tx.id())).await.status, 200);
    assert_eq!(two.get(&format!("/v1/transactions/{}", tx.id())).await.status, 404);
    assert!(!two.get("/metrics").await.text.contains("/v1/transactions/{id}\",code=\"OK\""));
}

#[tokio::test]
async fn a_stop_ends_streams_and_lets_go_of_the_port() {
    let api = Api::start().await;
    let mut grpc = api.grpc().await;
    let mut stream =
        grpc.subscribe_commits(kaldrix_proto::ledger::SubscribeCommitsRequest { from_index: 1 }).await.expect("open").into_inner();
    let address = api.address;
    drop(api);
    let ended = tokio::time::timeout(Duration::from_secs(5), stream.message()).await.expect("within 5 s");
    assert!(!matches!(ended, Ok(Some(_))), "{ended:?}");
    let mut bound = None;
    for _ in 0..100 {
        bound = tokio::net::TcpListener::bind(address).await.ok();
        if bound.is_some() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(bound.is_some(), "the port is free again");
}
