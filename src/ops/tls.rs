//! The certificate: reads it and its key from files, and again when the files change.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use std::{fmt, fs, io};

use log::{info, warn};
use parking_lot::{Mutex, RwLock};
use rustls::crypto::ring;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{InconsistentKeys, ServerConfig};

/// Interval at which the files are looked at. Certificates are renewed weeks before they end.
const LOOK_INTERVAL: Duration = Duration::from_secs(10);

/// The files of a certificate.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct TlsFiles {
    /// The certificate, followed by those that vouch for it (PEM).
    pub cert: PathBuf,
    /// Its private key (PEM).
    pub key: PathBuf,
}

/// The reason why TLS cannot start. Its text says what an operator can do.
#[derive(Debug)]
pub enum TlsError {
    /// A file cannot be read.
    Unreadable(PathBuf, io::Error),
    /// A file is not what it should be: its path, and what it should hold.
    Malformed(PathBuf, &'static str, pem::Error),
    /// The key cannot be used.
    Key(PathBuf, rustls::Error),
    /// The key belongs to another certificate.
    Mismatch(TlsFiles),
    /// The system provides no random numbers.
    System(rustls::Error),
}

impl fmt::Display for TlsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable(path, error) => {
                let user = "the server's user must be able to read it";
                write!(f, "cannot read {}, {user}: {error}", path.display())
            }
            Self::Malformed(path, what, error) => {
                write!(f, "{} must hold {what} in PEM form: {error}", path.display())
            }
            Self::Key(path, error) => {
                write!(f, "the key in {} cannot be used: {error}", path.display())
            }
            Self::Mismatch(TlsFiles { cert, key }) => write!(
                f,
                "the key in {} does not belong to the first certificate in {}",
                key.display(),
                cert.display()
            ),
            Self::System(error) => write!(f, "TLS cannot start: {error}"),
        }
    }
}

impl Error for TlsError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Unreadable(_, error) => Some(error),
            Self::Malformed(_, _, error) => Some(error),
            Self::Key(_, error) | Self::System(error) => Some(error),
            Self::Mismatch(_) => None,
        }
    }
}

/// The certificate that new connections are served with.
#[derive(Debug)]
pub struct Identity {
    files: TlsFiles,
    current: RwLock<Arc<CertifiedKey>>,
    /// When the files were last changed, as far as this server has read them.
    changed: Mutex<Changed>,
}

/// The times of the last change of both files; `None` for a file that cannot be looked at.
type Changed = [Option<SystemTime>; 2];

impl Identity {
    /// Reads the files.
    ///
    /// # Errors
    /// If they cannot be read or do not fit together.
    pub fn load(files: &TlsFiles) -> Result<Arc<Self>, TlsError> {
        let changed = Mutex::new(changed(files));
        let current = RwLock::new(Arc::new(certified(files)?));
        Ok(Arc::new(Self { files: files.clone(), current, changed }))
    }

    /// Reads the files again. If that fails, connections are served with the certificate as before,
    /// and the log says why.
    pub fn reload(&self) {
        *self.changed.lock() = changed(&self.files);
        match certified(&self.files) {
            Ok(key) => {
                *self.current.write() = Arc::new(key);
                info!(
                    "serving new connections with the certificate in {}",
                    self.files.cert.display()
                );
            }
            Err(error) => warn!("keeping the certificate that was read before: {error}"),
        }
    }

    /// Starts a thread that reads the files again when they have changed. It ends with the process.
    ///
    /// # Errors
    /// If there can be no further thread.
    pub fn watch(self: &Arc<Self>) -> io::Result<()> {
        let own = Arc::clone(self);
        let look = move || {
            loop {
                std::thread::sleep(LOOK_INTERVAL);
                if changed(&own.files) != *own.changed.lock() {
                    own.reload();
                }
            }
        };
        std::thread::Builder::new().name("certificate".into()).spawn(look).map(drop)
    }

    /// Returns the rules of TLS: versions 1.2 and 1.3, and tickets by which clients resume.
    ///
    /// # Errors
    /// If the system provides no random numbers.
    pub fn config(self: &Arc<Self>) -> Result<Arc<ServerConfig>, TlsError> {
        let provider = Arc::new(ring::default_provider());
        let builder = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(TlsError::System)?;
        let resolver: Arc<dyn ResolvesServerCert> = Arc::clone(self) as _;
        let mut config = builder.with_no_client_auth().with_cert_resolver(resolver);
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        config.ticketer = ring::Ticketer::new().map_err(TlsError::System)?;
        Ok(Arc::new(config))
    }
}

impl ResolvesServerCert for Identity {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.current.read()))
    }
}

fn changed(files: &TlsFiles) -> Changed {
    let changed = |path: &Path| fs::metadata(path).and_then(|file| file.modified()).ok();
    [changed(&files.cert), changed(&files.key)]
}

/// Reads a certificate with its key.
fn certified(files: &TlsFiles) -> Result<CertifiedKey, TlsError> {
    let read =
        |path: &Path| fs::read(path).map_err(|error| TlsError::Unreadable(path.to_owned(), error));
    let malformed = |path: &Path, what| {
        let path = path.to_owned();
        move |error| TlsError::Malformed(path, what, error)
    };
    let certs = CertificateDer::pem_slice_iter(&read(&files.cert)?)
        .collect::<Result<Vec<_>, _>>()
        .and_then(|certs| match certs.is_empty() {
            true => Err(pem::Error::NoItemsFound),
            false => Ok(certs),
        })
        .map_err(malformed(&files.cert, "a certificate"))?;
    let key = PrivateKeyDer::from_pem_slice(&read(&files.key)?)
        .map_err(malformed(&files.key, "a private key without a passphrase"))?;
    CertifiedKey::from_der(certs, key, &ring::default_provider()).map_err(|error| match error {
        rustls::Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => {
            TlsError::Mismatch(files.clone())
        }
        error => TlsError::Key(files.key.clone(), error),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[track_caller]
    fn fails(cert: &str, key: &str, part: &str) {
        let name = format!("bandsync-tls-{}-{}", std::process::id(), part.len());
        let folder = std::env::temp_dir().join(name);
        fs::create_dir_all(&folder).unwrap();
        let [cert, key] = [("cert.pem", cert), ("key.pem", key)].map(|(name, text)| {
            let path = folder.join(name);
            if !text.is_empty() {
                fs::write(&path, text).unwrap();
            }
            path
        });
        let error = Identity::load(&TlsFiles { cert, key }).unwrap_err();
        fs::remove_dir_all(folder).unwrap();
        assert!(error.to_string().contains(part), "{error}");
    }

    #[test]
    fn an_unusable_file_is_named_with_what_it_should_hold() {
        let nothing = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        fails("", "", "cannot read");
        fails("no certificate", "", "cert.pem must hold a certificate in PEM form");
        fails(nothing, "no key", "key.pem must hold a private key without a passphrase");
        let key = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n";
        fails(nothing, key, "the key in");
    }
}
