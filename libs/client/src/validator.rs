//! What operators of validators sign.

use crate::ClientError;
use bytes::Bytes;
use kaldrix_crypto::Signer;
use kaldrix_types::{Address, ChainId, Operation, Purpose, signing_message, validator_key_digest};

/// The session key's signature that it belongs to `operator`: what [`Operation::RegisterValidator`] and [`Operation::RotateSessionKey`] ask
/// for. Where the session key is in a crypto-service, that service makes it.
///
/// # Errors
/// [`ClientError::Sign`] when the key cannot sign.
pub fn prove_session_key(session_key: &dyn Signer, chain_id: ChainId, operator: Address) -> Result<Bytes, ClientError> {
    let message = signing_message(Purpose::ValidatorKey, chain_id, validator_key_digest(operator, session_key.public_key()));
    session_key.sign(&message).map_err(|e| ClientError::Sign(e.to_string()))
}

/// Registers `operator`'s validator with a session key that is at hand; `stake` counts smallest units of KDX and is bonded at once.
///
/// # Errors
/// [`ClientError::Sign`] when the session key cannot sign.
pub fn register_validator(
    session_key: &dyn Signer,
    chain_id: ChainId,
    operator: Address,
    name: impl Into<String>,
    region: impl Into<String>,
    stake: u128,
) -> Result<Operation, ClientError> {
    let proof = prove_session_key(session_key, chain_id, operator)?;
    Ok(Operation::RegisterValidator { name: name.into(), region: region.into(), key: session_key.public_key().clone(), stake, proof })
}

/// Gives `operator`'s validator another session key from the next epoch on.
///
/// # Errors
/// [`ClientError::Sign`] when the session key cannot sign.
pub fn rotate_session_key(session_key: &dyn Signer, chain_id: ChainId, operator: Address) -> Result<Operation, ClientError> {
    let proof = prove_session_key(session_key, chain_id, operator)?;
    Ok(Operation::RotateSessionKey { key: session_key.public_key().clone(), proof })
}

#[cfg(test)]
mod tests {
    use super::*;
    use kaldrix_crypto::{SecretKey, Verifier};
    use kaldrix_types::{BlockVerifier, Digest, Scheme};

    #[test]
    fn the_proof_holds_for_this_operator_key_and_chain_only() {
        let (key, other) = (SecretKey::generate(Scheme::MlDsa65).unwrap(), SecretKey::generate(Scheme::MlDsa65).unwrap());
        let (chain, operator) = (ChainId(Digest([3; 32])), Address([4; 32]));
        let Operation::RegisterValidator { key: public, stake, proof, name, region } =
            register_validator(&key, chain, operator, "v5", "eu-west-1", 9).unwrap()
        else {
            panic!("another operation");
        };
        assert_eq!((&public, stake, name.as_str(), region.as_str()), (key.public_key(), 9, "v5", "eu-west-1"));
        let verifier = Verifier::new(4);
        let holds = |chain, operator, public: &kaldrix_types::PublicKey| {
            let message = signing_message(Purpose::ValidatorKey, chain, validator_key_digest(operator, public));
            BlockVerifier::verify(&verifier, public, &message, &proof)
        };
        assert!(holds(chain, operator, &public));
        assert!(!holds(chain, Address([5; 32]), &public));
        assert!(!holds(ChainId(Digest([4; 32])), operator, &public));
        assert!(!holds(chain, operator, other.public_key()));
    }
}
