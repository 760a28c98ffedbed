//! Validators as the state has them: seats, stakes, jail; and the operations that change them.

use super::fixture::{Api, operator, time_of};
use kaldrix_crypto::SecretKey;
use kaldrix_proto::ledger as pb;
use kaldrix_types::{
    EpochRecord, EquivocationProof, Header, Member, Operation, Scheme, SignedHeader, StateChange, StateKey, StateValue, TxBody, Unbonding,
    ValidatorIndex, ValidatorRecord, ValidatorStatus, WEIGHT_UNIT,
};
use serde_json::{Value, json};

fn change(key: StateKey, value: StateValue) -> StateChange {
    StateChange { key, value: Some(value) }
}

fn session_key(n: u8) -> SecretKey {
    SecretKey::from_seed(Scheme::MlDsa65, &[n; 32]).expect("a seed")
}

fn record(n: u8, stake: u128, status: ValidatorStatus) -> ValidatorRecord {
    ValidatorRecord {
        name: format!("v{n}"),
        region: "eu-west-1".into(),
        key: session_key(n).public_key().clone(),
        next_key: None,
        previous_key: None,
        stake,
        unbonding: Vec::new(),
        status,
        slashed_epoch: None,
    }
}

async fn validators(api: &Api) -> Value {
    let answer = api.get("/v1/validators").await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    answer.json
}

#[tokio::test]
async fn the_first_epoch_s_validators_are_those_of_the_genesis() {
    let api = Api::start().await;
    let list = validators(&api).await;
    assert_eq!((&list["epoch"], &list["epoch_start_ms"], &list["epoch_start_round"]), (&json!(0), &json!(1_000_000), &json!(0)));
    assert_eq!(list["next_epoch_estimate_ms"], json!(1_000_000 + 3_600_000));
    let first = &list["validators"][2];
    assert_eq!((&first["index"], &first["name"], &first["in_committee"]), (&json!(2), &json!("v2"), &json!(true)));
    assert_eq!((&first["operator"], &first["status"]), (&json!(operator(2).to_string()), &json!("active")));
    assert_eq!((&first["stake"], &first["bonded"], &first["unbonding"]), (&json!("1"), &json!(WEIGHT_UNIT.to_string()), &json!("0")));
    assert_eq!((&first["scheme"], &first["jailed_until_epoch"]), (&json!("ml-dsa-65"), &json!(null)));
}

#[tokio::test]
async fn seats_come_first_and_then_those_who_wait_leave_or_sit_in_jail() {
    let api = Api::start().await;
    let members: Vec<Member> = [3, 0, 1, 4].map(|n| Member { operator: operator(n), weight: u64::from(n) + 10 }).into();
    let epoch = EpochRecord {
        epoch: 7,
        start_round: 500,
        start_ms: time_of(90),
        first_commit: 90,
        members,
        previous_members: vec![Member { operator: operator(2), weight: 1 }],
        candidates: Vec::new(),
    };
    let leaving = ValidatorRecord {
        unbonding: vec![Unbonding { amount: 5, release_epoch: 8 }, Unbonding { amount: 6, release_epoch: 9 }],
        ..record(0, 20, ValidatorStatus::Leaving)
    };
    let mut changes = vec![
        change(StateKey::Validator(operator(0)), StateValue::Validator(Box::new(leaving))),
        change(StateKey::Validator(operator(2)), StateValue::Validator(Box::new(record(2, 9, ValidatorStatus::Jailed { until_epoch: 9 })))),
        change(StateKey::Validator(operator(4)), StateValue::Validator(Box::new(record(4, 44, ValidatorStatus::Active)))),
        change(StateKey::Epoch, StateValue::Epoch(epoch)),
    ];
    changes.sort_by_key(|c| c.key);
    api.commit_changes(changes).await;
    let list = validators(&api).await;
    assert_eq!((&list["epoch"], &list["epoch_start_round"], &list["epoch_start_ms"]), (&json!(7), &json!(500), &json!(time_of(90))));
    let row = |v: &Value| (v["name"].clone(), v["index"].clone(), v["stake"].clone(), v["status"].clone(), v["bonded"].clone());
    let rows: Vec<_> = list["validators"].as_array().expect("a list").iter().map(row).collect();
    let unit = json!(WEIGHT_UNIT.to_string());
    assert_eq!(
        rows,
        [
            (json!("v3"), json!(0), json!("13"), json!("active"), unit.clone()),
            (json!("v0"), json!(1), json!("10"), json!("leaving"), json!("20")),
            (json!("v1"), json!(2), json!("11"), json!("active"), unit),
            (json!("v4"), json!(3), json!("14"), json!("active"), json!("44")),
            (json!("v2"), json!(null), json!("0"), json!("jailed"), json!("9")),
        ]
    );
    assert_eq!((&list["validators"][1]["unbonding"], &list["validators"][4]["jailed_until_epoch"]), (&json!("11"), &json!(9)));
    let network = api.get("/v1/network").await.json;
    assert_eq!((&network["epoch"], &network["validator_count"]), (&json!(7), &json!(4)));
    let mut grpc = api.grpc().await;
    let same = grpc.list_validators(pb::ListValidatorsRequest {}).await.expect("known").into_inner();
    assert_eq!((same.epoch, same.validators.len(), same.validators[4].in_committee), (7, 5, false));
}

#[tokio::test]
async fn the_rules_about_epochs_stakes_and_checkpoints_can_be_read() {
    let api = Api::start().await;
    let rules = api.get("/v1/parameters").await.json;
    assert_eq!((&rules["epoch_ms"], &rules["checkpoint_commits"], &rules["checkpoint_ms"]), (&json!(3_600_000), &json!(64), &json!(1_000)));
    assert_eq!((&rules["minimum_stake"], &rules["slash_basis_points"]), (&json!(WEIGHT_UNIT.to_string()), &json!(500)));
    assert_eq!((&rules["jail_epochs"], &rules["absence_basis_points"], &rules["schedule_commits"]), (&json!(2), &json!(500), &json!(300)));
}

#[tokio::test]
async fn operations_of_validators_are_readable() {
    let api = Api::start().await;
    let key = session_key(9).public_key().clone();
    let header = |round_time| Header {
        version: Header::VERSION,
        chain_id: api.genesis.chain_id(),
        epoch: 3,
        round: 17,
        author: ValidatorIndex(2),
        timestamp_ms: round_time,
        parents: Vec::new(),
        transactions_root: kaldrix_types::Digest::ZERO,
        transaction_count: 0,
        body_bytes: 0,
        commit_votes: Vec::new(),
        checkpoint_votes: Vec::new(),
    };
    let signed = |time| SignedHeader { header: header(time), signature: bytes::Bytes::from_static(&[1; 64]) };
    let proof = Box::new(EquivocationProof { first: signed(1), second: signed(2) });
    let register = Operation::RegisterValidator {
        name: "v9".into(),
        region: "eu-west-1".into(),
        key: key.clone(),
        stake: 5,
        proof: bytes::Bytes::from_static(&[2; 64]),
    };
    let operations = vec![
        register,
        Operation::Stake { amount: 6 },
        Operation::Unstake { amount: 7 },
        Operation::RotateSessionKey { key: key.clone(), proof: bytes::Bytes::from_static(&[2; 64]) },
        Operation::LeaveValidators,
        Operation::Unjail,
        Operation::ReportEquivocation { proof },
    ];
    let tx = api.signed(TxBody { ..api.body(operations) });
    api.commit_all(&[&tx]).await;
    let read = api.get(&format!("/v1/transactions/{}", tx.id())).await.json;
    let id = key.id().to_string();
    let expected = json!([
        { "kind": "register_validator", "validator_name": "v9", "region": "eu-west-1", "amount": "5", "key_id": id, "scheme": "ml-dsa-65" },
        { "kind": "stake", "amount": "6" },
        { "kind": "unstake", "amount": "7" },
        { "kind": "rotate_session_key", "key_id": id, "scheme": "ml-dsa-65" },
        { "kind": "leave_validators" },
        { "kind": "unjail" },
        { "kind": "report_equivocation", "accused_epoch": 3, "accused_round": 17, "accused_index": 2 },
    ]);
    assert_eq!(read["operations"], expected);
}
