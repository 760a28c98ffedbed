//! From the driver to the handler: one worker per peer for blocks, in order; a few tasks per peer for requests. Nothing here makes the driver wait.

use crate::message::{PeerRequest, PeerResponse, Wire};
use crate::{Bytes, PeerHandler};
use kaldrix_types::ValidatorIndex;
use libp2p::request_response::ResponseChannel;
use std::sync::Arc;
use tokio::sync::{Semaphore, mpsc};
use tokio_util::sync::CancellationToken;

/// Blocks of one peer that wait for the handler; the peer sends no more before it hears of them.
pub(crate) const PUSHES_IN_FLIGHT: usize = 16;
/// Requests of one peer that are answered at a time; more are refused.
const REQUESTS_SERVED: usize = 8;

pub(crate) type Answer = (ResponseChannel<Wire>, Wire);

/// The inbound side of one bound peer. Dropping it ends its tasks.
pub(crate) struct Inbound {
    from: ValidatorIndex,
    handler: Arc<dyn PeerHandler>,
    answers: mpsc::Sender<Answer>,
    blocks: mpsc::Sender<(Bytes, ResponseChannel<Wire>)>,
    requests: Arc<Semaphore>,
    stop: CancellationToken,
}

impl Drop for Inbound {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Inbound {
    pub(crate) fn new(from: ValidatorIndex, handler: Arc<dyn PeerHandler>, answers: mpsc::Sender<Answer>) -> Self {
        let (blocks, mut waiting) = mpsc::channel::<(Bytes, ResponseChannel<Wire>)>(PUSHES_IN_FLIGHT);
        let stop = CancellationToken::new();
        let (worker, acknowledge, stopped) = (Arc::clone(&handler), answers.clone(), stop.clone());
        tokio::spawn(stopped.run_until_cancelled_owned(async move {
            while let Some((block, channel)) = waiting.recv().await {
                worker.on_block(from, block).await;
                if acknowledge.send((channel, Wire::Ack)).await.is_err() {
                    return;
                }
            }
        }));
        Self { from, handler, answers, blocks, requests: Arc::new(Semaphore::new(REQUESTS_SERVED)), stop }
    }

    /// Queues a block; false when the peer sends more than it may.
    pub(crate) fn block(&self, block: Bytes, channel: ResponseChannel<Wire>) -> bool {
        self.blocks.try_send((block, channel)).is_ok()
    }

    /// Answers a request, or gives the channel back when the peer asks too much at a time.
    pub(crate) fn request(&self, request: PeerRequest, channel: ResponseChannel<Wire>) -> Result<(), Answer> {
        let Ok(permit) = Arc::clone(&self.requests).try_acquire_owned() else {
            return Err((channel, Wire::Response(PeerResponse::Refused("too many requests at a time".into()))));
        };
        let (from, handler, answers) = (self.from, Arc::clone(&self.handler), self.answers.clone());
        tokio::spawn(self.stop.clone().run_until_cancelled_owned(async move {
            let response = handler.on_request(from, request).await.within_limits();
            let _ = answers.send((channel, Wire::Response(response))).await;
            drop(permit);
        }));
        Ok(())
    }
}
