//! Where the ledger is: endpoint texts, and the connections to them.

use crate::ClientError;
use kaldrix_api::clients::LedgerServiceClient;
use std::time::Duration;
use tonic::transport::{Channel, ClientTlsConfig, Endpoint};

/// A page of 200 transactions with 1,024 operations each stays far below this.
const MESSAGE_BYTES_MAX: usize = 64 * 1024 * 1024;

/// One or more API endpoints of the same ledger; the first is used as long as it answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoints(Vec<String>);

impl Endpoints {
    /// The endpoints as texts, with their schemes.
    #[must_use]
    pub fn as_slice(&self) -> &[String] {
        &self.0
    }

    fn parse<'a>(texts: impl Iterator<Item = &'a str>) -> Self {
        Self(
            texts
                .map(str::trim)
                .filter(|t| !t.is_empty())
                .map(|t| if t.contains("://") { t.trim_end_matches('/').to_owned() } else { format!("http://{t}") })
                .collect(),
        )
    }
}

impl From<&str> for Endpoints {
    /// One endpoint, or several separated by commas; `http://` may be left out.
    fn from(text: &str) -> Self {
        Self::parse(text.split(','))
    }
}

impl From<&String> for Endpoints {
    fn from(text: &String) -> Self {
        text.as_str().into()
    }
}

impl From<&[String]> for Endpoints {
    fn from(texts: &[String]) -> Self {
        Self::parse(texts.iter().map(String::as_str))
    }
}

/// How a client connects and how patient it is.
#[derive(Clone, Debug)]
pub struct ClientOptions {
    /// How long one connection attempt may take.
    pub connect_timeout: Duration,
    /// How long one read may take, retries included.
    pub read_timeout: Duration,
    /// How long a stream tries to come back after a disconnect before it ends with an error.
    pub stream_patience: Duration,
    /// Required for `https://` endpoints.
    pub tls: Option<ClientTlsConfig>,
}

impl Default for ClientOptions {
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(3),
            read_timeout: Duration::from_secs(10),
            stream_patience: Duration::from_secs(60),
            tls: None,
        }
    }
}

pub(crate) type Rpc = LedgerServiceClient<Channel>;

/// Prepares one connection per endpoint. Nothing is sent yet.
pub(crate) fn open(endpoints: &Endpoints, options: &ClientOptions) -> Result<Vec<Rpc>, ClientError> {
    if endpoints.0.is_empty() {
        return Err(ClientError::Endpoint { endpoint: String::new(), reason: "it is empty".into() });
    }
    endpoints.0.iter().map(|text| open_one(text, options)).collect()
}

fn open_one(text: &str, options: &ClientOptions) -> Result<Rpc, ClientError> {
    let bad = |reason: String| ClientError::Endpoint { endpoint: text.to_owned(), reason };
    let endpoint = match (text.starts_with("http://"), text.starts_with("https://"), &options.tls) {
        (true, ..) => Endpoint::from_shared(text.to_owned()).map_err(|e| bad(e.to_string()))?,
        (_, true, Some(tls)) => {
            let endpoint = Endpoint::from_shared(text.to_owned()).map_err(|e| bad(e.to_string()))?;
            endpoint.tls_config(tls.clone()).map_err(|e| bad(e.to_string()))?
        }
        (_, true, None) => return Err(bad("https needs ClientOptions::tls".into())),
        _ => return Err(bad("the scheme must be http or https".into())),
    };
    // Keep-alive pings find a dead server that never closed its connection.
    let channel = endpoint
        .connect_timeout(options.connect_timeout)
        .http2_keep_alive_interval(Duration::from_secs(10))
        .keep_alive_timeout(Duration::from_secs(10))
        .connect_lazy();
    Ok(Rpc::new(channel).max_decoding_message_size(MESSAGE_BYTES_MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_may_be_a_list_and_may_leave_out_the_scheme() {
        let endpoints = Endpoints::from("127.0.0.1:8080, http://[::1]:8081/,");
        assert_eq!(endpoints.as_slice(), ["http://127.0.0.1:8080", "http://[::1]:8081"]);
    }

    #[tokio::test]
    async fn an_endpoint_that_is_none_says_how_to_write_one() {
        for text in ["", "ftp://x", "http://a b", "https://localhost:1"] {
            let error = open(&Endpoints::from(text), &ClientOptions::default()).unwrap_err();
            assert_eq!(error.code(), "INVALID_ENDPOINT", "{text}");
            assert!(error.to_string().contains("http://127.0.0.1:8080"));
        }
    }
}
