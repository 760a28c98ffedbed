//! The seam between those who need signatures and whatever holds the key.

use bytes::Bytes;
use kaldrix_types::{KeyRef, PublicKey, SignedTransaction, TxBody, TxSignature};
use std::sync::Arc;

/// Why nothing was signed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SignError {
    /// The library or token that holds the key failed.
    #[error("the key's backend failed to sign: {0}")]
    Backend(String),
    /// The reference names another key than the signer's.
    #[error("the transaction would carry another public key than the signer's: pass the signer's own key, or its index")]
    WrongKey,
}

/// Something that holds one private key: a [`crate::SecretKey`], later a PKCS#11 token. Used as `dyn Signer`.
pub trait Signer: Send + Sync {
    /// The public half.
    fn public_key(&self) -> &PublicKey;

    /// Signs `message` as it is: domain separation is the caller's (`kaldrix_types::signing_message`). The length is
    /// `public_key().scheme().signature_len()`. May block on a device. Two signatures of one message may differ.
    ///
    /// # Errors
    /// [`SignError::Backend`].
    fn sign(&self, message: &[u8]) -> Result<Bytes, SignError>;
}

impl<T: Signer + ?Sized> Signer for Arc<T> {
    fn public_key(&self) -> &PublicKey {
        (**self).public_key()
    }

    fn sign(&self, message: &[u8]) -> Result<Bytes, SignError> {
        (**self).sign(message)
    }
}

/// Signs `body` and attaches the signature under `key`: the signer's public key itself (an account's first transaction), or its index.
///
/// # Errors
/// [`SignError::WrongKey`] when `key` carries another key than the signer's, [`SignError::Backend`] when signing fails.
pub fn sign_transaction(body: TxBody, signer: &dyn Signer, key: KeyRef) -> Result<SignedTransaction, SignError> {
    if let KeyRef::Inline(carried) = &key
        && carried != signer.public_key()
    {
        return Err(SignError::WrongKey);
    }
    let signature = signer.sign(&body.signing_message())?;
    Ok(SignedTransaction { body, signatures: vec![TxSignature { key, signature }] })
}
