//! Channels to other services: lazy, authenticated both ways, kept alive, reconnecting by themselves.

use crate::tls::{Expected, TlsError, TlsMaterial};
use http::Uri;
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use std::io;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tonic::transport::{Channel, Endpoint};

/// Why a channel cannot be made. That the other side is down is no such reason: calls then answer UNAVAILABLE until it is back.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The endpoint is no address.
    #[error("{0:?} is no endpoint: write host:port or https://host:port")]
    Endpoint(String),
    /// TLS cannot be set up.
    #[error(transparent)]
    Tls(#[from] TlsError),
}

/// How a channel behaves.
#[derive(Clone, Debug)]
pub struct Options {
    /// For TCP and TLS together.
    pub connect_timeout: Duration,
    /// For the head of a response; the messages of a stream may take longer. A shorter deadline in a request wins.
    pub request_timeout: Duration,
    /// How often a ping looks whether the other side lives.
    pub keepalive_interval: Duration,
    /// How long a ping may take.
    pub keepalive_timeout: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(3),
            request_timeout: Duration::from_secs(35),
            keepalive_interval: Duration::from_secs(10),
            keepalive_timeout: Duration::from_secs(5),
        }
    }
}

/// A channel to the `expected` service at `endpoint` (`host:port` or `https://host:port`) with default [`Options`]. It connects at the first call and
/// again after a loss. Must be called inside a tokio runtime.
///
/// # Errors
/// [`ClientError`] for an endpoint or a certificate that cannot be used.
pub fn connect(endpoint: &str, tls: &TlsMaterial, expected: Expected) -> Result<Channel, ClientError> {
    connect_with(endpoint, tls, expected, &Options::default())
}

/// As [`connect`] with own options.
///
/// # Errors
/// [`ClientError`].
pub fn connect_with(endpoint: &str, tls: &TlsMaterial, expected: Expected, options: &Options) -> Result<Channel, ClientError> {
    let wrong = || ClientError::Endpoint(endpoint.to_owned());
    let authority = endpoint.strip_prefix("https://").unwrap_or(endpoint).trim_end_matches('/').to_owned();
    // TLS is ours (see `tls.rs`), so that tonic must see a plain scheme; `origin` gives requests the true one.
    let uri: Uri = format!("http://{authority}").parse().map_err(|_| wrong())?;
    let origin: Uri = format!("https://{authority}").parse().map_err(|_| wrong())?;
    if uri.port_u16().is_none() || uri.path() != "/" || uri.query().is_some() {
        return Err(wrong());
    }
    let connector = TlsConnector::from(tls.client_config(expected)?);
    let endpoint = Endpoint::from(uri)
        .origin(origin)
        .connect_timeout(options.connect_timeout)
        .timeout(options.request_timeout)
        .http2_keep_alive_interval(options.keepalive_interval)
        .keep_alive_timeout(options.keepalive_timeout)
        .keep_alive_while_idle(true)
        .initial_stream_window_size(4 * 1024 * 1024)
        .initial_connection_window_size(16 * 1024 * 1024);
    let limit = options.connect_timeout;
    Ok(endpoint.connect_with_connector_lazy(tower::service_fn(move |uri: Uri| {
        let connector = connector.clone();
        async move { tokio::time::timeout(limit, open(connector, uri)).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())) }
    })))
}

async fn open(connector: TlsConnector, uri: Uri) -> io::Result<TokioIo<tokio_rustls::client::TlsStream<TcpStream>>> {
    let (Some(host), Some(port)) = (uri.host(), uri.port_u16()) else { return Err(io::ErrorKind::InvalidInput.into()) };
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let stream = TcpStream::connect((host, port)).await?;
    stream.set_nodelay(true)?;
    // The name is not checked (identities are) and not sent.
    let name = ServerName::try_from(host.to_owned()).map_err(|e| io::Error::new(io::ErrorKind::InvalidInput, e))?;
    Ok(TokioIo::new(connector.connect(name, stream).await?))
}
