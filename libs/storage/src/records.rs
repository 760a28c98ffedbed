//! State records as both stores keep them.

use crate::StoreError;
use kaldrix_types::{CommitIndex, StateKey, StateValue, decode};

/// A page of the state in ascending key order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StatePage {
    /// The commit after which the state was so. Pages of one audit belong together when this is equal on all of them.
    pub at: CommitIndex,
    /// The records; fewer than the limit on the last page.
    pub records: Vec<(StateKey, StateValue)>,
}

/// Longest encoded key ([`StateKey::Anchor`], [`StateKey::Balance`]): a variant byte and two times 32 bytes.
const KEY_BYTES_MAX: usize = 65;

pub(crate) fn decode_key(bytes: &[u8]) -> Result<StateKey, StoreError> {
    Ok(decode(bytes, KEY_BYTES_MAX)?)
}

/// Reads a value and checks that it is of its key's kind: execution relies on it.
pub(crate) fn decode_value(key: &StateKey, bytes: &[u8]) -> Result<StateValue, StoreError> {
    let value = StateValue::from_bytes(bytes)?;
    if fits(key, &value) { Ok(value) } else { Err(StoreError::Damaged(format!("the record {key:?} holds a value of another kind"))) }
}

/// Whether the value is of its key's kind.
pub(crate) const fn fits(key: &StateKey, value: &StateValue) -> bool {
    matches!(
        (key, value),
        (StateKey::Account(_), StateValue::Account(_))
            | (StateKey::Lane(..), StateValue::Lane(_))
            | (StateKey::Balance(..), StateValue::Balance(_))
            | (StateKey::Asset(_), StateValue::Asset(_))
            | (StateKey::Anchor(..), StateValue::Anchor(_))
            | (StateKey::Supply(_), StateValue::Supply(_))
            | (StateKey::Validator(_), StateValue::Validator(_))
            | (StateKey::ValidatorName(_), StateValue::ValidatorName(_))
            | (StateKey::Epoch, StateValue::Epoch(_))
            | (StateKey::Participation, StateValue::Participation(_))
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use kaldrix_types::{Address, AssetId, Digest, EpochRecord, Member, limits};
    use proptest::prelude::*;

    fn any_key() -> impl Strategy<Value = StateKey> {
        (0u8..10, any::<[u8; 32]>(), any::<[u8; 32]>(), any::<u8>()).prop_map(|(kind, a, b, lane)| match kind {
            0 => StateKey::Account(Address(a)),
            1 => StateKey::Lane(Address(a), lane),
            2 => StateKey::Balance(Address(a), AssetId(Digest(b))),
            3 => StateKey::Asset(AssetId(Digest(a))),
            4 => StateKey::Anchor(Address(a), Digest(b)),
            5 => StateKey::Supply(AssetId(Digest(a))),
            6 => StateKey::Validator(Address(a)),
            7 => StateKey::ValidatorName(Digest(a)),
            8 => StateKey::Epoch,
            _ => StateKey::Participation,
        })
    }

    proptest! {
        #[test]
        fn the_database_sorts_encoded_keys_as_the_protocol_sorts_keys(one in any_key(), two in any_key()) {
            prop_assert_eq!(one.cmp(&two), one.to_bytes().cmp(&two.to_bytes()));
            prop_assert_eq!(decode_key(&one.to_bytes()), Ok(one));
        }
    }

    #[test]
    fn a_value_of_another_kind_is_damage() {
        let supply = StateKey::Supply(AssetId::NATIVE);
        assert!(matches!(decode_value(&supply, &StateValue::Balance(1).to_bytes()), Err(StoreError::Damaged(_))));
        let participation = StateValue::Participation(vec![1, 2]);
        for key in [StateKey::Epoch, StateKey::Validator(Address([1; 32])), StateKey::ValidatorName(Digest([1; 32]))] {
            assert!(matches!(decode_value(&key, &participation.to_bytes()), Err(StoreError::Damaged(_))));
        }
        assert_eq!(decode_value(&StateKey::Participation, &participation.to_bytes()), Ok(participation));
    }

    #[test]
    fn the_epoch_of_the_largest_committee_can_be_read_back() {
        let operators: Vec<Address> =
            (0..limits::VALIDATORS_MAX).map(|n| Address::try_from([n.to_le_bytes(); 4].as_flattened()).unwrap()).collect();
        let members: Vec<Member> = operators.iter().map(|operator| Member { operator: *operator, weight: u64::MAX }).collect();
        let epoch = EpochRecord { members: members.clone(), previous_members: members, candidates: operators, ..EpochRecord::default() };
        let value = StateValue::Epoch(epoch);
        assert_eq!(decode_value(&StateKey::Epoch, &value.to_bytes()), Ok(value));
    }
}
