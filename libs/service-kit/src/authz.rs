//! Who may call an RPC. Each handler begins with `allow(&request, &[Service::…])?`, so that the list stands beside the code it guards.

use crate::identity::{Identity, Owner, Service};
use crate::server::PeerInfo;
use std::sync::Arc;
use tonic::{Request, Status};

/// The authenticated workload behind a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    identity: Arc<Identity>,
}

impl Caller {
    /// The caller of `request`.
    ///
    /// # Errors
    /// `UNAUTHENTICATED` when the request did not come over a connection of [`crate::GrpcServer`].
    pub fn of<T>(request: &Request<T>) -> Result<Self, Status> {
        Self::from_extensions(request.extensions().get::<PeerInfo>())
    }

    fn from_extensions(peer: Option<&PeerInfo>) -> Result<Self, Status> {
        match peer {
            Some(peer) => Ok(Self { identity: Arc::clone(peer.identity()) }),
            None => Err(Status::unauthenticated("this RPC needs a client certificate with a SPIFFE id")),
        }
    }

    /// The SPIFFE identity.
    #[must_use]
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// What the caller is.
    #[must_use]
    pub fn service(&self) -> Service {
        self.identity.service
    }
}

/// Admits a request of any of these services, of whatever validator or region.
///
/// # Errors
/// `PERMISSION_DENIED`, naming the caller and the services that may call; `UNAUTHENTICATED` without a certificate.
pub fn allow<T>(request: &Request<T>, services: &[Service]) -> Result<Caller, Status> {
    let caller = Caller::of(request)?;
    if services.contains(&caller.service()) { Ok(caller) } else { Err(denied(&caller, services, None)) }
}

/// Admits a request of any of these services that works for `owner` as well: a validator's key signs for that validator's services only.
///
/// # Errors
/// `PERMISSION_DENIED`, naming the caller and who may call; `UNAUTHENTICATED` without a certificate.
pub fn allow_from<T>(request: &Request<T>, owner: &Owner, services: &[Service]) -> Result<Caller, Status> {
    let caller = Caller::of(request)?;
    if services.contains(&caller.service()) && caller.identity.owner == *owner {
        Ok(caller)
    } else {
        Err(denied(&caller, services, Some(owner)))
    }
}

fn denied(caller: &Caller, services: &[Service], owner: Option<&Owner>) -> Status {
    let allowed = services.iter().map(|s| s.as_str()).collect::<Vec<_>>().join(", ");
    let of = owner.map_or_else(String::new, |owner| format!(" of {owner}"));
    tracing::warn!(caller = %caller.identity, %allowed, "a call was refused: not this caller's to make");
    Status::permission_denied(format!("{} may not call this; it is for {allowed}{of}", caller.identity))
}
