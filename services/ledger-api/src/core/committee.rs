//! Who validates: the running epoch's committee and everybody else who is registered, from the read model's state.

use super::Ledger;
use kaldrix_api::ApiError;
use kaldrix_proto::ledger as pb;
use kaldrix_types::{Address, Epoch, Member, ValidatorIndex, ValidatorRecord, ValidatorStatus};
use std::collections::BTreeMap;

impl Ledger {
    /// The running epoch's committee in index order, then the registered validators without a seat.
    ///
    /// # Errors
    /// READ_MODEL_UNAVAILABLE.
    pub async fn validators_list(&self) -> Result<pb::ListValidatorsResponse, ApiError> {
        let epoch = self.read(self.store().epoch()).await?.unwrap_or_default();
        let mut records: BTreeMap<Address, ValidatorRecord> = self.read(self.store().validators()).await?.into_iter().collect();
        let rounds = self.feed().rounds(epoch.epoch);
        let seat = |(member, index): (&Member, u32)| pb::Validator {
            index,
            stake: member.weight.to_string(),
            in_committee: true,
            last_round: rounds.get(index as usize).copied().unwrap_or(0),
            ..validator(member.operator, records.remove(&member.operator).as_ref())
        };
        let mut validators: Vec<pb::Validator> = epoch.members.iter().zip(0u32..).map(seat).collect();
        let seatless = |(operator, record)| pb::Validator { stake: "0".to_owned(), ..validator(operator, Some(&record)) };
        validators.extend(records.into_iter().map(seatless));
        Ok(pb::ListValidatorsResponse {
            validators,
            epoch: epoch.epoch,
            epoch_start_ms: epoch.start_ms,
            next_epoch_estimate_ms: epoch.start_ms.saturating_add(self.genesis().parameters.epoch_ms),
            epoch_start_round: epoch.start_round,
        })
    }

    /// Name of a block's author; empty for a committee so old that the state no longer has it.
    ///
    /// # Errors
    /// READ_MODEL_UNAVAILABLE.
    pub(super) async fn author_name(&self, epoch: Epoch, author: ValidatorIndex) -> Result<String, ApiError> {
        let position = author.as_usize();
        if epoch == 0 {
            return Ok(self.genesis().validators.get(position).map(|v| v.name.clone()).unwrap_or_default());
        }
        let running = self.read(self.store().epoch()).await?.unwrap_or_default();
        let members = match running.epoch.checked_sub(epoch) {
            Some(0) => &running.members,
            Some(1) => &running.previous_members,
            _ => return Ok(String::new()),
        };
        let Some(member) = members.get(position) else { return Ok(String::new()) };
        let record = self.read(self.store().record(&kaldrix_types::StateKey::Validator(member.operator))).await?;
        Ok(match record {
            Some(kaldrix_types::StateValue::Validator(record)) => record.name,
            _ => String::new(),
        })
    }
}

/// What its record says; the seat is the caller's to add.
fn validator(operator: Address, record: Option<&ValidatorRecord>) -> pb::Validator {
    let mut message = pb::Validator { operator: operator.to_string(), ..Default::default() };
    let Some(record) = record else { return message };
    message.name.clone_from(&record.name);
    message.region.clone_from(&record.region);
    message.scheme = record.key.scheme().to_string();
    message.key_id = record.key.id().to_string();
    message.bonded = record.stake.to_string();
    // The sum is part of the supply, which fits.
    message.unbonding = record.unbonding.iter().fold(0u128, |sum, u| sum.saturating_add(u.amount)).to_string();
    (message.status, message.jailed_until_epoch) = match record.status {
        ValidatorStatus::Active => ("active".to_owned(), 0),
        ValidatorStatus::Leaving => ("leaving".to_owned(), 0),
        ValidatorStatus::Jailed { until_epoch } => ("jailed".to_owned(), until_epoch),
    };
    message
}
