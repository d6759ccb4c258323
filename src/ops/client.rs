//! HTTP requests to other servers: alerts to a webhook, `bandsync top` and `bandsync health`.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use rustls_native_certs::CertificateResult;
use ureq::tls::{Certificate, RootCerts, TlsConfig, TlsConfigBuilder, TlsProvider};
use ureq::{Agent, Error, Proxy};

/// Returns an agent for `url` that follows no redirects and returns every status as an answer. A
/// request takes at most `timeout`.
///
/// It trusts the authorities that the system trusts, or only those of `SSL_CERT_FILE` and
/// `SSL_CERT_DIR` if one of these is set, as the connections to Redis do. So an operator's own
/// authority works, and no list in the binary gets old. HTTPS uses the proxy of `HTTPS_PROXY`, if
/// it is set.
pub fn agent(url: &str, timeout: Duration) -> Agent {
    let is_secure = url.get(..6).is_some_and(|scheme| scheme.eq_ignore_ascii_case("https:"));
    let found = match is_secure {
        true => rustls_native_certs::load_native_certs(),
        false => CertificateResult::default(),
    };
    for error in &found.errors {
        log::warn!("cannot read a certificate authority: {error}");
    }
    let roots: Vec<_> =
        found.certs.iter().map(|cert| Certificate::from_der(cert).to_owned()).collect();
    let tls = tls().root_certs(RootCerts::Specific(Arc::new(roots))).build();
    // Servers that are asked without TLS are near, so no proxy is used.
    build(tls, is_secure.then(Proxy::try_from_env).flatten(), timeout)
}

/// Returns an agent like [`agent`] for the server on this machine. It accepts every certificate: it
/// asks by the address, which a certificate rarely names, and sends no secret.
pub fn agent_on_this_machine(timeout: Duration) -> Agent {
    build(tls().disable_verification(true).build(), None, timeout)
}

fn tls() -> TlsConfigBuilder {
    TlsConfig::builder()
        .provider(TlsProvider::Rustls)
        .unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::ring::default_provider()))
}

fn build(tls: TlsConfig, proxy: Option<Proxy>, timeout: Duration) -> Agent {
    let config = Agent::config_builder()
        .tls_config(tls)
        .timeout_global(Some(timeout))
        .proxy(proxy)
        .max_redirects(0)
        .http_status_as_error(false)
        .user_agent(concat!("bandsync/", env!("CARGO_PKG_VERSION")))
        .build();
    config.into()
}

/// The reason why another server gave no answer. Its text leaves out the address, which may carry a
/// secret.
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
            Error::BadUri(_) => f.write_str("the address is not valid"),
            Error::Timeout(_) => f.write_str("no answer in time"),
            Error::HostNotFound => f.write_str("no such host"),
            error if is_untrusted(error) => f.write_str(UNTRUSTED),
            Error::Io(error) => error.fmt(f),
            error => error.fmt(f),
        }
    }
}

impl std::error::Error for NoAnswer {}

/// Whether a certificate comes from an untrusted authority. The reason may lie inside an I/O error.
fn is_untrusted(error: &(dyn std::error::Error + 'static)) -> bool {
    const UNKNOWN: rustls::Error =
        rustls::Error::InvalidCertificate(rustls::CertificateError::UnknownIssuer);
    let wrapped = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
    // `ureq` does not return the source of its errors.
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
