//! The public port: accepts, optionally speaks TLS, serves HTTP/1.1 and HTTP/2, and stops within a time limit.

use crate::gateway::Gateway;
use crate::metrics::{Counted, Metrics};
use axum::body::Body;
use http::Request;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use std::convert::Infallible;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Open connections at most; more wait in the operating system's queue.
const CONNECTIONS_MAX: usize = 8_192;
/// How long a TLS handshake may take.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long the head of an HTTP/1.1 request may take, counted from the end of the one before: slow senders and idle clients go then.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);
/// Requests under way on one HTTP/2 connection.
const STREAMS_PER_CONNECTION_MAX: u32 = 1_024;
/// How long requests may go on after a stop was asked for.
const DRAIN_MAX: Duration = Duration::from_secs(3);
/// Pause after the operating system refused a connection (too many open files).
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// A bound public port.
pub struct PublicServer {
    /// Where connections come in.
    pub listener: TcpListener,
    /// TLS, or plain text on loopback and behind a proxy.
    pub tls: Option<TlsAcceptor>,
    /// Who answers.
    pub gateway: Gateway,
    /// Metrics.
    pub metrics: Metrics,
}

impl PublicServer {
    /// Serves until `cancel`, then lets requests finish for three seconds and closes what is left.
    ///
    /// # Errors
    /// None while it runs; the signature is that of a supervised task.
    pub async fn serve(self, cancel: CancellationToken) -> io::Result<()> {
        let (tracker, kill) = (TaskTracker::new(), CancellationToken::new());
        let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        loop {
            let place = tokio::select! {
                () = cancel.cancelled() => break,
                place = Arc::clone(&places).acquire_owned() => place.map_err(io::Error::other)?,
            };
            let accepted = tokio::select! {
                () = cancel.cancelled() => break,
                accepted = self.listener.accept() => accepted,
            };
            let (stream, peer) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::warn!(%error, "a connection could not be accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            let connection = Connection {
                gateway: self.gateway.clone(),
                peer: peer.ip(),
                cancel: cancel.clone(),
                _counted: Counted::new(&self.metrics.connections),
            };
            let (tls, kill) = (self.tls.clone(), kill.clone());
            tracker.spawn(async move {
                let _place = place;
                tokio::select! {
                    () = kill.cancelled() => {}
                    () = connection.run(stream, tls) => {}
                }
            });
        }
        drop(self.listener);
        tracker.close();
        if tokio::time::timeout(DRAIN_MAX, tracker.wait()).await.is_err() {
            tracing::info!("closing connections that did not finish in time");
            kill.cancel();
            tracker.wait().await;
        }
        Ok(())
    }
}

struct Connection {
    gateway: Gateway,
    peer: IpAddr,
    cancel: CancellationToken,
    _counted: Counted,
}

impl Connection {
    async fn run(self, stream: TcpStream, tls: Option<TlsAcceptor>) {
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "a connection was gone at once");
            return;
        }
        match tls {
            None => self.serve(stream).await,
            Some(acceptor) => match tokio::time::timeout(HANDSHAKE_TIMEOUT, acceptor.accept(stream)).await {
                Ok(Ok(stream)) => self.serve(stream).await,
                Ok(Err(error)) => tracing::debug!(%error, peer = %self.peer, "a TLS handshake failed"),
                Err(_) => tracing::debug!(peer = %self.peer, "a TLS handshake took too long"),
            },
        }
    }

    async fn serve<IO: AsyncRead + AsyncWrite + Unpin + Send + 'static>(self, stream: IO) {
        let mut builder = auto::Builder::new(TokioExecutor::new());
        builder.http1().timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT);
        builder
            .http2()
            .timer(TokioTimer::new())
            .max_concurrent_streams(STREAMS_PER_CONNECTION_MAX)
            .keep_alive_interval(Duration::from_secs(20))
            .keep_alive_timeout(Duration::from_secs(10))
            .initial_stream_window_size(512 * 1024)
            .initial_connection_window_size(2 * 1024 * 1024);
        let service = service_fn(|request: Request<Incoming>| {
            let (gateway, peer) = (self.gateway.clone(), self.peer);
            async move { Ok::<_, Infallible>(gateway.answer(request.map(Body::new), peer).await) }
        });
        let connection = builder.serve_connection(TokioIo::new(stream), service);
        tokio::pin!(connection);
        let ended = tokio::select! {
            ended = connection.as_mut() => ended,
            () = self.cancel.cancelled() => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        if let Err(error) = ended {
            tracing::debug!(%error, peer = %self.peer, "a connection broke");
        }
    }
}
