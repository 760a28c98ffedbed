//! Free ports below the range from which the system takes ports for outgoing connections, so that a stopped service finds its own again.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};

const FIRST: u16 = 10_100;
const LAST: u16 = 31_900;

/// Hands out loopback ports that were free a moment ago, each once.
pub(crate) struct Ports {
    next: u16,
    reserved: Vec<SocketAddr>,
}

impl Ports {
    /// Begins at a place that depends on this process, so that networks started together do not meet.
    pub(crate) fn new() -> Self {
        let spread = LAST - FIRST;
        Self { next: FIRST + u16::try_from(rand::random::<u32>() % u32::from(spread)).unwrap_or(0), reserved: Vec::new() }
    }

    /// These are somebody's also while nobody listens there.
    pub(crate) fn reserve(&mut self, addresses: impl IntoIterator<Item = SocketAddr>) {
        self.reserved.extend(addresses);
    }

    /// A free port.
    ///
    /// # Errors
    /// When the whole range is taken.
    pub(crate) fn take(&mut self) -> anyhow::Result<SocketAddr> {
        for _ in FIRST..LAST {
            self.next = if self.next >= LAST { FIRST } else { self.next + 1 };
            let address = SocketAddr::from((Ipv4Addr::LOCALHOST, self.next));
            if !self.reserved.contains(&address) && is_free(address) {
                return Ok(address);
            }
        }
        anyhow::bail!("no free port between {FIRST} and {LAST} on loopback")
    }
}

/// Whether a server could listen there now.
pub(crate) fn is_free(address: SocketAddr) -> bool {
    TcpListener::bind(address).is_ok()
}
