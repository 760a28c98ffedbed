//! Notices that validators came to the network or left it while it runs.

use super::network::NetworkFile;
use super::plan::Plan;
use super::writer::{Unit, validator_units};
use std::path::PathBuf;
use std::time::Duration;

const PERIOD: Duration = Duration::from_millis(300);

/// A validator as it is to be.
#[derive(Debug)]
pub(super) struct Target {
    pub(super) name: String,
    /// Whether its services are to run.
    pub(super) active: bool,
    /// In the order in which they are best started.
    pub(super) units: Vec<Unit>,
}

/// See the module's text.
pub(super) struct Watch {
    dir: PathBuf,
    revision: u64,
}

impl Watch {
    pub(super) fn new(plan: &Plan) -> Self {
        Self { dir: plan.dir.clone(), revision: plan.revision }
    }

    /// Every validator as it is to be, as soon as somebody changed that. Cancelled, it loses nothing.
    pub(super) async fn changed(&mut self) -> Vec<Target> {
        loop {
            tokio::time::sleep(PERIOD).await;
            match NetworkFile::read(&self.dir) {
                Ok(network) if network.revision != self.revision => {
                    self.revision = network.revision;
                    return network.validators.iter().map(|v| self.target(&v.name, !v.removed)).collect();
                }
                Ok(_) => {}
                // The next look may find it whole again; what runs goes on.
                Err(error) => tracing::warn!("{error:#}"),
            }
        }
    }

    fn target(&self, name: &str, active: bool) -> Target {
        Target { name: name.to_owned(), active, units: validator_units(&self.dir, name) }
    }
}
