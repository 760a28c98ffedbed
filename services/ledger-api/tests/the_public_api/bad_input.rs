//! Whatever comes in, the answer is a stable code, over both protocols.

use super::fixture::{Api, Options, address, key, signed_bytes};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use kaldrix_api::ApiError;
use kaldrix_proto::ledger as pb;
use kaldrix_types::{AssetId, ChainId, Digest, KeyRef, Operation, SignedTransaction, TxBody, TxSignature, encode};
use serde_json::json;

fn transfer(amount: u128) -> Operation {
    Operation::Transfer { to: address(2), asset: AssetId::NATIVE, amount }
}

/// Every transaction that is wrong by itself, with its code and HTTP status.
fn bad_transactions(api: &Api) -> Vec<(&'static str, Vec<u8>, u16, &'static str)> {
    let good = signed_bytes(api.body(vec![transfer(1)]));
    let wrong_chain = TxBody { chain_id: ChainId(Digest([8; 32])), ..api.body(vec![transfer(1)]) };
    let anchor = || Operation::Anchor { document: Digest([3; 32]), metadata: bytes::Bytes::new() };
    let mut bad_signature = good.clone();
    *bad_signature.last_mut().expect("bytes") ^= 1;
    // The inline key begins with its variant (0) and its scheme (0): behind the body and the count of signatures.
    let mut unknown_scheme = good.clone();
    let scheme_at = encode(&api.body(vec![transfer(1)])).len() + 2;
    unknown_scheme[scheme_at] = 9;
    let unsigned = SignedTransaction { body: api.body(vec![transfer(1)]), signatures: Vec::new() };
    let short = TxSignature { key: KeyRef::Inline(key(1).public_key().clone()), signature: bytes::Bytes::from_static(&[1, 2, 3]) };
    let short = SignedTransaction { body: api.body(vec![transfer(1)]), signatures: vec![short] };
    vec![
        ("nothing", Vec::new(), 400, "MALFORMED_TRANSACTION"),
        ("truncated", good[..good.len() / 2].to_vec(), 400, "MALFORMED_TRANSACTION"),
        ("trailing bytes", [good.as_slice(), &[0]].concat(), 400, "MALFORMED_TRANSACTION"),
        ("garbage", vec![0xff; 5_000], 400, "MALFORMED_TRANSACTION"),
        ("129 KiB", vec![0; 129 * 1024], 413, "TRANSACTION_TOO_LARGE"),
        ("unknown scheme", unknown_scheme, 400, "UNKNOWN_SCHEME"),
        ("wrong signature", bad_signature, 422, "BAD_SIGNATURE"),
        ("short signature", encode(&short), 422, "BAD_SIGNATURE"),
        ("no signature", encode(&unsigned), 422, "WRONG_SIGNATURE_COUNT"),
        ("wrong chain", signed_bytes(wrong_chain), 422, "WRONG_CHAIN"),
        ("no operations", signed_bytes(api.body(Vec::new())), 400, "NO_OPERATIONS"),
        ("too many operations", signed_bytes(api.body(vec![transfer(1); 1_025])), 413, "TRANSACTION_TOO_LARGE"),
        ("zero amount", signed_bytes(api.body(vec![transfer(0)])), 422, "ZERO_AMOUNT"),
        ("overflow", signed_bytes(api.body(vec![transfer(u128::MAX), transfer(1)])), 422, "AMOUNT_OVERFLOW"),
        ("contradiction", signed_bytes(api.body(vec![anchor(), anchor()])), 422, "CONTRADICTING_BATCH"),
    ]
}

#[tokio::test]
async fn a_bad_transaction_is_refused_with_its_code_over_rest_and_grpc() {
    let api = Api::start().await;
    let mut grpc = api.grpc().await;
    for (what, bytes, status, code) in bad_transactions(&api) {
        let answer = api.submit(&bytes, "FINAL", 1_000).await;
        assert_eq!(answer.json["code"], json!(code), "{what}: {}", answer.text);
        answer.is_problem(status, code);
        let message = pb::SubmitTransactionRequest { transaction: bytes.into(), wait_for: 3, timeout_ms: 1_000 };
        let error = ApiError::from_status(&grpc.submit_transaction(message).await.expect_err(what));
        assert_eq!(error.code.as_str(), code, "{what} over gRPC");
    }
    assert!(api.dag.taken.lock().is_empty(), "none of them reached the validator");
}

#[tokio::test]
async fn what_only_the_validator_can_know_comes_back_with_its_code_too() {
    let api = Api::start().await;
    let mut grpc = api.grpc().await;
    let cases = [
        ("SEQUENCE_REPLAYED", 409),
        ("SEQUENCE_GAP", 409),
        ("EXPIRED", 422),
        ("VALIDITY_TOO_LONG", 422),
        ("INSUFFICIENT_BALANCE", 422),
        ("UNKNOWN_ACCOUNT", 422),
        ("UNKNOWN_ASSET", 422),
        ("FEE_TOO_LOW", 422),
        ("WRONG_KEY", 422),
    ];
    for (sequence, (code, status)) in (0..).zip(cases) {
        api.dag.refuse(code, 0);
        let tx = api.payment(sequence);
        api.submit(tx.bytes(), "FINAL", 1_000).await.is_problem(status, code);
        let message = pb::SubmitTransactionRequest { transaction: tx.bytes().clone(), wait_for: 3, timeout_ms: 1_000 };
        let error = ApiError::from_status(&grpc.submit_transaction(message).await.expect_err(code));
        assert_eq!(error.code.as_str(), code);
    }
    api.dag.refuse("MEMPOOL_FULL", 1_500);
    let answer = api.submit(api.payment(99).bytes(), "FINAL", 1_000).await;
    answer.is_problem(503, "MEMPOOL_FULL");
    assert_eq!(answer.header("retry-after"), "2", "whole seconds, rounded up");
    assert_eq!(answer.json["retry_after_ms"], json!(1_500));
}

#[tokio::test]
async fn a_body_that_is_not_the_json_expected_is_refused() {
    let api = Api::start().await;
    let post = |content_type: &'static str, body: Vec<u8>| {
        let request = api.http.post(api.url("/v1/transactions")).header("content-type", content_type).body(body);
        async { super::fixture::Answer::of(request.send().await.expect("an answer")).await }
    };
    const JSON: &str = "application/json";
    post(JSON, b"{".to_vec()).await.is_problem(400, "MALFORMED_JSON");
    post(JSON, Vec::new()).await.is_problem(400, "MALFORMED_JSON");
    post(JSON, b"[]".to_vec()).await.is_problem(400, "MALFORMED_JSON");
    post(JSON, b"\xff\xfe".to_vec()).await.is_problem(400, "MALFORMED_JSON");
    post(JSON, br#"{"transaction":"","wait":"FINAL"}"#.to_vec()).await.is_problem(400, "MALFORMED_JSON");
    post(JSON, br#"{"transaction":"","timeout_ms":-1}"#.to_vec()).await.is_problem(400, "MALFORMED_JSON");
    post(JSON, br#"{"transaction":"*"}"#.to_vec()).await.is_problem(400, "INVALID_ARGUMENT");
    post(JSON, br#"{"transaction":"","wait_for":"SOON"}"#.to_vec()).await.is_problem(400, "INVALID_ARGUMENT");
    post("text/plain", b"{}".to_vec()).await.is_problem(415, "UNSUPPORTED_MEDIA_TYPE");
    post("application/x-www-form-urlencoded", b"a=b".to_vec()).await.is_problem(415, "UNSUPPORTED_MEDIA_TYPE");
    post(JSON, vec![b' '; 300 * 1024]).await.is_problem(413, "BODY_TOO_LARGE");
    let answer = api.http.post(api.url("/v1/transactions")).send().await.expect("an answer");
    super::fixture::Answer::of(answer).await.is_problem(415, "UNSUPPORTED_MEDIA_TYPE");
}

#[tokio::test]
async fn json_a_million_levels_deep_neither_overflows_the_stack_nor_passes() {
    let mut options = Options::default();
    options.settings.body_bytes_max = 4 << 20;
    let api = Api::start_with(options).await;
    let depth = 1_000_000;
    for (open, close) in [("[", "]"), ("{\"a\":", "}")] {
        let nested = format!("{}1{}", open.repeat(depth / open.len()), close.repeat(depth / open.len()));
        for body in [nested.clone(), format!("{{\"transaction\":{nested}}}"), format!("{{\"other\":{nested}}}")] {
            let request = api.http.post(api.url("/v1/transactions")).header("content-type", "application/json").body(body);
            super::fixture::Answer::of(request.send().await.expect("an answer")).await.is_problem(400, "MALFORMED_JSON");
        }
    }
    assert_eq!(api.get("/livez").await.status, 200);
}

#[tokio::test]
async fn a_million_levels_are_over_the_default_body_limit_anyway() {
    let api = Api::start().await;
    let request = api.http.post(api.url("/v1/transactions")).header("content-type", "application/json").body("[".repeat(1_000_000));
    super::fixture::Answer::of(request.send().await.expect("an answer")).await.is_problem(413, "BODY_TOO_LARGE");
}

#[tokio::test]
async fn wrong_paths_methods_and_parameters_have_codes_too() {
    let api = Api::start().await;
    let (id, me) = ("ab".repeat(32), address(1));
    for path in ["/v2/network", "/v1/", "/v1/transactions/a/b", "/v1/network/", "/%ff", "/..%2f..%2fetc"] {
        api.get(path).await.is_problem(404, "ROUTE_NOT_FOUND");
    }
    api.get("/v1/transactions").await.is_problem(405, "METHOD_NOT_ALLOWED");
    let wrong_method = api.post("/v1/network", &json!({})).await;
    wrong_method.is_problem(405, "METHOD_NOT_ALLOWED");
    assert!(wrong_method.header("allow").contains("GET"), "{:?}", wrong_method.headers);
    for path in [
        "/v1/transactions/xyz".to_owned(),
        "/v1/transactions/%ff".to_owned(),
        format!("/v1/transactions/{id}00"),
        "/v1/accounts/kx1qqqq".to_owned(),
        "/v1/accounts/bc1qar0srrr7xfkvy5l643lydnw9re59gtzzwf5mdq".to_owned(),
        "/v1/blocks/12".to_owned(),
        "/v1/assets/KDX".to_owned(),
        "/v1/commits/first".to_owned(),
        "/v1/commits/-1".to_owned(),
        "/v1/commits/99999999999999999999".to_owned(),
        "/v1/commits?limit=0".to_owned(),
        "/v1/commits?limit=201".to_owned(),
        "/v1/commits?limit=many".to_owned(),
        "/v1/commits?after=%3Cscript%3E".to_owned(),
        format!("/v1/accounts/{me}/transactions?after=7"),
        "/v1/checkpoints/0".to_owned(),
        "/v1/checkpoints/newest".to_owned(),
        "/v1/checkpoints/-1".to_owned(),
        "/v1/checkpoints/18446744073709551616".to_owned(),
        "/v1/transactions/xyz/proof".to_owned(),
        format!("/v1/transactions/{id}00/proof"),
        "/v1/accounts/kx1qqqq/proof".to_owned(),
        format!("/v1/accounts/{me}/proof?asset=KDX"),
        format!("/v1/accounts/{me}/proof?asset="),
        "/v1/events?account=nobody".to_owned(),
        "/v1/events?commits=perhaps".to_owned(),
    ] {
        let answer = api.get(&path).await;
        assert_eq!(answer.json["code"], json!("INVALID_ARGUMENT"), "{path}: {}", answer.text);
        answer.is_problem(400, "INVALID_ARGUMENT");
    }
    let events = api.http.get(api.url("/v1/events")).header("last-event-id", "yesterday").send().await.expect("an answer");
    super::fixture::Answer::of(events).await.is_problem(400, "INVALID_ARGUMENT");
}

#[tokio::test]
async fn what_does_not_exist_is_not_found_with_a_code_of_its_own() {
    let api = Api::start().await;
    let mut grpc = api.grpc().await;
    let (id, nobody) = ("ab".repeat(32), address(9));
    api.get(&format!("/v1/transactions/{id}")).await.is_problem(404, "TRANSACTION_NOT_FOUND");
    api.get(&format!("/v1/accounts/{nobody}")).await.is_problem(404, "ACCOUNT_NOT_FOUND");
    api.get("/v1/commits/1").await.is_problem(404, "COMMIT_NOT_FOUND");
    api.get(&format!("/v1/commits/{}", u64::MAX)).await.is_problem(404, "COMMIT_NOT_FOUND");
    api.get(&format!("/v1/blocks/{id}")).await.is_problem(404, "BLOCK_NOT_FOUND");
    api.get(&format!("/v1/assets/{id}")).await.is_problem(404, "ASSET_NOT_FOUND");
    api.post("/v1/faucet", &json!({ "address": nobody, "amount": "1" })).await.is_problem(404, "FAUCET_DISABLED");
    api.get("/v1/checkpoints/latest").await.is_problem(404, "CHECKPOINT_NOT_FOUND");
    api.get("/v1/checkpoints/1").await.is_problem(404, "CHECKPOINT_NOT_FOUND");
    api.get(&format!("/v1/transactions/{id}/proof")).await.is_problem(404, "TRANSACTION_NOT_FOUND");
    let error = grpc.get_account_proof(pb::GetAccountProofRequest { address: "kx1".into(), asset: String::new() }).await;
    assert_eq!(ApiError::from_status(&error.expect_err("no address")).code.as_str(), "INVALID_ARGUMENT");
    let error = grpc.get_account_proof(pb::GetAccountProofRequest { address: nobody.to_string(), asset: "12".into() }).await;
    assert_eq!(ApiError::from_status(&error.expect_err("no asset")).code.as_str(), "INVALID_ARGUMENT");
    let error = grpc.get_transaction_proof(pb::GetTransactionProofRequest { id: "12".into() }).await.expect_err("no id");
    assert_eq!(ApiError::from_status(&error).code.as_str(), "INVALID_ARGUMENT");
    let error = grpc.get_checkpoint(pb::GetCheckpointRequest { index: 0 }).await.expect_err("none yet");
    assert_eq!((error.code(), ApiError::from_status(&error).code.as_str()), (tonic::Code::NotFound, "CHECKPOINT_NOT_FOUND"));
    let error = grpc.get_transaction(pb::GetTransactionRequest { id: id.clone() }).await.expect_err("unknown");
    assert_eq!((error.code(), ApiError::from_status(&error).code.as_str()), (tonic::Code::NotFound, "TRANSACTION_NOT_FOUND"));
    let error = grpc.watch_transaction(pb::GetTransactionRequest { id }).await.expect_err("unknown");
    assert_eq!(ApiError::from_status(&error).code.as_str(), "TRANSACTION_NOT_FOUND");
    let error = grpc.get_account(pb::GetAccountRequest { address: "kx1".into() }).await.expect_err("no address");
    assert_eq!(ApiError::from_status(&error).code.as_str(), "INVALID_ARGUMENT");
    let message = pb::SubmitTransactionRequest { wait_for: 77, ..Default::default() };
    let error = grpc.submit_transaction(message).await.expect_err("no level");
    assert_eq!(ApiError::from_status(&error).code.as_str(), "INVALID_ARGUMENT");
}

#[tokio::test]
async fn base64_of_another_alphabet_is_not_taken_for_a_transaction() {
    let api = Api::start().await;
    let text = STANDARD.encode(api.payment(0).bytes()).replace('/', "_").replace('+', "-");
    let answer = api.post("/v1/transactions", &json!({ "transaction": format!("{text}-_") })).await;
    answer.is_problem(400, "INVALID_ARGUMENT");
}
