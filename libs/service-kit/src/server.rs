//! A gRPC server with mutual TLS: binds, authenticates, limits, traces, reports health, and stops within a time limit.

use crate::identity::Identity;
use crate::telemetry::TraceLayer;
use crate::tls::{TlsError, TlsMaterial, identity_of};
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tonic::service::Routes;
use tonic::transport::Server;
use tonic::transport::server::Connected;
use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;

/// Suggested limit for one gRPC message between services, bytes: a commit with its blocks. Set it on each generated server and client with
/// `max_decoding_message_size` and `max_encoding_message_size`; tonic's own default is 4 MiB.
pub const MESSAGE_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Why a server does not run.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// The port is taken.
    #[error("address {0} is in use: stop the other process, or choose another `listen` address")]
    AddressInUse(SocketAddr),
    /// Binding failed for another reason.
    #[error("cannot listen on {address}: {source}")]
    Bind {
        /// Where.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// TLS cannot be set up.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The server stopped by itself.
    #[error("the gRPC server failed: {0}")]
    Serve(#[from] tonic::transport::Error),
}

/// What one server may be asked for at a time.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Open connections.
    pub connections_max: usize,
    /// Handshakes under way.
    pub handshakes_max: usize,
    /// How long a handshake may take.
    pub handshake_timeout: Duration,
    /// Requests under way per connection; more wait.
    pub requests_per_connection_max: usize,
    /// Age at which a connection is asked to reconnect, so that certificates are checked anew and load spreads.
    pub connection_age_max: Duration,
    /// How long requests may go on after that.
    pub connection_age_grace: Duration,
    /// How long requests may go on after a stop was asked for.
    pub drain_max: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections_max: 1024,
            handshakes_max: 128,
            handshake_timeout: Duration::from_secs(5),
            requests_per_connection_max: 1024,
            connection_age_max: Duration::from_secs(3600),
            connection_age_grace: Duration::from_secs(60),
            drain_max: Duration::from_secs(5),
        }
    }
}

/// Binds `address`.
///
/// # Errors
/// [`ServerError::AddressInUse`] and [`ServerError::Bind`].
pub async fn bind(address: SocketAddr) -> Result<TcpListener, ServerError> {
    TcpListener::bind(address).await.map_err(|source| match source.kind() {
        io::ErrorKind::AddrInUse => ServerError::AddressInUse(address),
        _ => ServerError::Bind { address, source },
    })
}

/// Prepares a [`GrpcServer`].
#[derive(Debug)]
pub struct GrpcServerBuilder {
    listen: SocketAddr,
    tls: TlsMaterial,
    limits: Limits,
}

impl GrpcServerBuilder {
    /// Replaces the default limits.
    #[must_use]
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Binds the port; nothing is answered before [`GrpcServer::serve`].
    ///
    /// # Errors
    /// [`ServerError`] when the port is taken or the certificate unusable.
    pub async fn bind(self) -> Result<GrpcServer, ServerError> {
        let config = self.tls.server_config()?;
        let listener = bind(self.listen).await?;
        let address = listener.local_addr().map_err(|source| ServerError::Bind { address: self.listen, source })?;
        let health = HealthReporter::new();
        Ok(GrpcServer { listener, address, acceptor: TlsAcceptor::from(config), tls: self.tls, limits: self.limits, health })
    }
}

/// A bound gRPC server.
pub struct GrpcServer {
    listener: TcpListener,
    address: SocketAddr,
    acceptor: TlsAcceptor,
    tls: TlsMaterial,
    limits: Limits,
    health: HealthReporter,
}

impl std::fmt::Debug for GrpcServer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "GrpcServer({} on {})", self.tls.identity(), self.address)
    }
}

impl GrpcServer {
    /// A server of `tls`'s identity on `listen` (port 0: any free one).
    #[must_use]
    pub fn builder(tls: &TlsMaterial, listen: SocketAddr) -> GrpcServerBuilder {
        GrpcServerBuilder { listen, tls: tls.clone(), limits: Limits::default() }
    }

    /// Where it listens.
    #[must_use]
    pub const fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// `grpc.health.v1`: the service as a whole (name "") is SERVING from the start until the stop; set single services by name.
    #[must_use]
    pub fn health(&self) -> HealthReporter {
        self.health.clone()
    }

    /// Answers `routes` until `cancel`, then lets requests finish for [`Limits::drain_max`] and closes what is left (hyper#4170: a graceful stop
    /// alone may wait for ever).
    ///
    /// # Errors
    /// [`ServerError::Serve`] when the server stops by itself.
    pub async fn serve(self, routes: Routes, cancel: CancellationToken) -> Result<(), ServerError> {
        let kill = CancellationToken::new();
        let _kill_on_drop = kill.clone().drop_guard();
        let (connections, mut accepted) = mpsc::channel(64);
        let own = self.tls.identity().clone();
        let gate = Gate { acceptor: self.acceptor, own: own.clone(), limits: self.limits.clone(), kill: kill.clone() };
        let accepting = tokio::spawn(accept(self.listener, gate, connections, cancel.clone()));
        let incoming = futures::stream::poll_fn(move |cx| accepted.poll_recv(cx).map(|next| next.map(Ok::<_, io::Error>)));
        let routes = routes.add_service(tonic_health::pb::health_server::HealthServer::new(
            tonic_health::server::HealthService::from_health_reporter(self.health.clone()),
        ));
        let serving = Server::builder()
            .layer(TraceLayer::new(own.service.as_str()))
            .concurrency_limit_per_connection(self.limits.requests_per_connection_max)
            .max_concurrent_streams(1024)
            .initial_stream_window_size(4 * 1024 * 1024)
            .initial_connection_window_size(16 * 1024 * 1024)
            .http2_keepalive_interval(Some(Duration::from_secs(20)))
            .http2_keepalive_timeout(Some(Duration::from_secs(10)))
            .max_connection_age(self.limits.connection_age_max)
            .max_connection_age_grace(self.limits.connection_age_grace)
            .add_routes(routes)
            .serve_with_incoming_shutdown(incoming, cancel.clone().cancelled_owned());
        tokio::pin!(serving);
        let drain_max = self.limits.drain_max;
        let health = self.health;
        let out_of_time = async {
            cancel.cancelled().await;
            health.set_service_status("", ServingStatus::NotServing).await;
            tokio::time::sleep(drain_max).await;
        };
        let result = tokio::select! {
            result = &mut serving => result,
            () = out_of_time => {
                tracing::warn!(service = %own.service, drain_ms = drain_max.as_millis(), "requests did not finish in time; closing their connections");
                kill.cancel();
                tokio::time::timeout(Duration::from_secs(1), &mut serving).await.unwrap_or(Ok(()))
            }
        };
        accepting.abort();
        Ok(result?)
    }
}

struct Gate {
    acceptor: TlsAcceptor,
    own: Identity,
    limits: Limits,
    kill: CancellationToken,
}

async fn accept(listener: TcpListener, gate: Gate, connections: mpsc::Sender<TlsConnection>, stop: CancellationToken) {
    let gate = Arc::new(gate);
    let open = Arc::new(Semaphore::new(gate.limits.connections_max));
    let handshakes = Arc::new(Semaphore::new(gate.limits.handshakes_max));
    loop {
        let next = async {
            let permit = Arc::clone(&open).acquire_owned().await.ok()?;
            let turn = Arc::clone(&handshakes).acquire_owned().await.ok()?;
            Some((permit, turn, listener.accept().await))
        };
        let accepted = tokio::select! {
            () = stop.cancelled() => return,
            accepted = next => accepted,
        };
        let Some((permit, turn, result)) = accepted else { return };
        let (stream, address) = match result {
            Ok(accepted) => accepted,
            Err(error) => {
                // Out of file descriptors, or the peer is gone already: the next accept may do better.
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        let (gate, connections) = (Arc::clone(&gate), connections.clone());
        tokio::spawn(async move {
            let outcome = tokio::time::timeout(gate.limits.handshake_timeout, handshake(&gate, stream, address, permit)).await;
            drop(turn);
            match outcome {
                Ok(Ok(connection)) => drop(connections.send(connection).await),
                Ok(Err(reason)) => tracing::info!(%address, %reason, service = %gate.own.service, "refused a connection"),
                Err(_) => tracing::info!(%address, service = %gate.own.service, "refused a connection: the handshake took too long"),
            }
        });
    }
}

async fn handshake(gate: &Gate, stream: TcpStream, address: SocketAddr, permit: OwnedSemaphorePermit) -> Result<TlsConnection, String> {
    stream.set_nodelay(true).map_err(|e| e.to_string())?;
    let stream = gate.acceptor.accept(stream).await.map_err(|e| e.to_string())?;
    let (_, session) = stream.get_ref();
    let leaf = session.peer_certificates().and_then(<[_]>::first).ok_or("no client certificate")?;
    let identity = identity_of(leaf).map_err(|e| e.to_string())?;
    if identity.trust_domain != gate.own.trust_domain {
        return Err(format!("{identity} is of another trust domain than {}", gate.own.trust_domain));
    }
    let key_exchange = session.negotiated_key_exchange_group().map(|group| format!("{:?}", group.name())).unwrap_or_default();
    let peer = PeerInfo { inner: Arc::new(Peer { address, identity: Arc::new(identity), key_exchange }) };
    Ok(TlsConnection { stream, peer, killed: Box::pin(gate.kill.clone().cancelled_owned()), _permit: permit })
}

/// Who is at the other end of a connection; in each request's extensions.
#[derive(Clone, Debug)]
pub struct PeerInfo {
    inner: Arc<Peer>,
}

#[derive(Debug)]
struct Peer {
    address: SocketAddr,
    identity: Arc<Identity>,
    key_exchange: String,
}

impl PeerInfo {
    /// The authenticated identity.
    #[must_use]
    pub fn identity(&self) -> &Arc<Identity> {
        &self.inner.identity
    }

    /// Where it connects from.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.inner.address
    }

    /// The negotiated key exchange: `X25519MLKEM768`.
    #[must_use]
    pub fn key_exchange(&self) -> &str {
        &self.inner.key_exchange
    }
}

/// An authenticated connection that can be cut when its time is up.
struct TlsConnection {
    stream: TlsStream<TcpStream>,
    peer: PeerInfo,
    killed: Pin<Box<WaitForCancellationFutureOwned>>,
    _permit: OwnedSemaphorePermit,
}

impl Connected for TlsConnection {
    type ConnectInfo = PeerInfo;
    fn connect_info(&self) -> PeerInfo {
        self.peer.clone()
    }
}

impl AsyncRead for TlsConnection {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.killed.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        }
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for TlsConnection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
    fn poll_write_vectored(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bufs: &[io::IoSlice<'_>]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }
    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
