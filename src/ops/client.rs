//! HTTP requests to other servers: alerts to a webhook, and `bandsync top`.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use rustls_native_certs::CertificateResult;
use ureq::tls::{Certificate, RootCerts, TlsConfig, TlsProvider};
use ureq::{Agent, Error, Proxy};

/// An agent for `url` that follows no redirects and takes every status as an answer. A request
/// takes `timeout` at most.
///
/// Trusted are the authorities that the system trusts, or those of `SSL_CERT_FILE` and
/// `SSL_CERT_DIR` alone if one of these is set, as for Redis: an operator's own authority works,
/// and no list ages with the binary. HTTPS goes through the proxy of `HTTPS_PROXY`, if that is set.
pub fn agent(url: &str, timeout: Duration) -> Agent {
    let is_secure = url.get(..6).is_some_and(|scheme| scheme.eq_ignore_ascii_case("https:"));
    let found = match is_secure {
        true => rustls_native_certs::load_native_certs(),
        false => CertificateResult::default(),
    };
    for error in &found.errors {
        log::warn!("a certificate authority cannot be read: {error}");
    }
    let roots: Vec<_> =
        found.certs.iter().map(|cert| Certificate::from_der(cert).to_owned()).collect();
    let tls = TlsConfig::builder()
        .provider(TlsProvider::Rustls)
        .root_certs(RootCerts::Specific(Arc::new(roots)))
        .unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .build();
    let config = Agent::config_builder()
        .tls_config(tls)
        .timeout_global(Some(timeout))
        // What is asked in the clear is near.
        .proxy(is_secure.then(Proxy::try_from_env).flatten())
        .max_redirects(0)
        .http_status_as_error(false)
        .user_agent(concat!("bandsync/", env!("CARGO_PKG_VERSION")))
        .build();
    config.into()
}

/// Why another server gave no answer. Its text is without the address, which may carry a secret.
#[derive(Debug)]
pub struct NoAnswer(Error);

impl From<Error> for NoAnswer {
    fn from(error: Error) -> Self {
        Self(error)
    }
}

impl fmt::Display for NoAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Error::BadUri(_) => f.write_str("the address cannot be read"),
            Error::Timeout(_) => f.write_str("no answer in time"),
            Error::HostNotFound => f.write_str("no such host"),
            error if is_untrusted(error) => f.write_str(UNTRUSTED),
            Error::Io(error) => error.fmt(f),
            error => error.fmt(f),
        }
    }
}

impl std::error::Error for NoAnswer {}

/// Whether a certificate comes from an authority that is not trusted here. The reason may lie inside
/// of errors of input and output.
fn is_untrusted(error: &(dyn std::error::Error + 'static)) -> bool {
    const UNKNOWN: rustls::Error =
        rustls::Error::InvalidCertificate(rustls::CertificateError::UnknownIssuer);
    let wrapped = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
    // `ureq` names no source of its errors.
    let inner: Option<&(dyn std::error::Error + 'static)> = match error.downcast_ref::<Error>() {
        Some(Error::Io(error)) => Some(error),
        Some(Error::Rustls(error)) => Some(error),
        _ => error.source(),
    };
    error.downcast_ref::<rustls::Error>() == Some(&UNKNOWN)
        || wrapped.is_some_and(|error| is_untrusted(error))
        || inner.is_some_and(is_untrusted)
}

const UNTRUSTED: &str = "its certificate comes from an authority that is not trusted here (install the system's \
    package ca-certificates, or name the authority's file in SSL_CERT_FILE)";
