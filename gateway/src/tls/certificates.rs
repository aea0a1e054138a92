//! The certificates in use: read from files, chosen by the server name that a client asks for, exchanged for new ones while
//! clients come and go.
//!
//! A connection keeps what it began with, so nobody is dropped by a reload. Files that cannot be used change nothing.

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use control_api::services_tls::OF_AN_OLD_VERSION;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, NoServerSessionStorage, ProducesTickets, ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::{RootCertStore, ServerConfig};
use sha2::{Digest, Sha256};
use tokio::net::TcpStream;
use tokio::time::sleep;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate, X509Version};

use super::{Config, Source, TlsError, development};

/// How often files are looked at. Files that have changed are read once they are the same at two looks, so that a
/// certificate is not read while its key is still to be written.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// SHA-256 of a certificate.
pub(crate) type Fingerprint = [u8; 32];

/// For each file of certificates the setting that names it, and when the first of its certificates ends, in seconds since 1970.
pub(crate) type Ends = Vec<(Box<str>, i64)>;

/// The certificates of a gateway.
pub(crate) struct Certificates {
    provider: Arc<CryptoProvider>,
    current: ArcSwap<Loaded>,
    /// As the files were when they were last read, whatever came of it; locked for as long as that takes.
    read: Mutex<Stamps>,
}

/// What new connections get.
struct Loaded {
    config: Config,
    acceptor: TlsAcceptor,
    names: Arc<Names>,
    /// What the tickets are sealed with. They carry the client's certificate: they go when who vouches for it does.
    tickets: Arc<dyn ProducesTickets>,
    client_roots: Vec<CertificateDer<'static>>,
    ends: Ends,
}

/// Certificates that were read and checked, and are not in use yet.
pub(crate) struct Prepared {
    loaded: Loaded,
    stamps: Stamps,
}

/// Which certificate for which server name.
struct Names {
    default: Entry,
    /// By lower-case name; of a wildcard what follows the `*`.
    by_name: HashMap<Box<str>, Entry>,
}

#[derive(Clone)]
struct Entry {
    certified: Arc<CertifiedKey>,
    fingerprint: Fingerprint,
}

/// How a file can be told from what it was: inode, length, and when it was last changed in any way.
type Stamp = Option<(u64, u64, i64, i64)>;
type Stamps = Vec<Stamp>;

impl Certificates {
    /// Whether [`Self::load`] would succeed.
    pub(crate) fn examine(config: &Config) -> Result<(), TlsError> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        if let Source::Development { dir } = &config.source {
            development::files(dir)?;
        }
        Loaded::read(config, &provider, None).map(drop)
    }

    /// Reads the files; makes a development certificate where there are to be none.
    pub(crate) fn load(config: &Config) -> Result<Self, TlsError> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        if let Source::Development { dir } = &config.source {
            development::files(dir)?;
        }
        let stamps = stamps(config);
        let loaded = Loaded::read(config, &provider, None)?;
        for problem in loaded.names.out_of_date(None) {
            tracing::warn!("{problem}");
        }
        Ok(Self {
            provider,
            current: ArcSwap::from_pointee(loaded),
            read: Mutex::new(stamps),
        })
    }

    /// Reads the files again; connections that begin from now on get what is in them. When they cannot be used all stays
    /// as it is.
    pub(crate) fn reload(&self) -> Result<(), TlsError> {
        // Held from here on: the settings of a reload that comes meanwhile are not undone.
        let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        let config = self.current.load().config.clone();
        *read = stamps(&config);
        let prepared = self.prepare(&config)?;
        self.current.store(Arc::new(prepared.loaded));
        Ok(())
    }

    /// What these settings ask for. Nothing has changed yet.
    pub(crate) fn prepare(&self, config: &Config) -> Result<Prepared, TlsError> {
        if let Source::Development { dir } = &config.source {
            development::files(dir)?;
        }
        // Before the files are read: what changes meanwhile is seen at the next look.
        let stamps = stamps(config);
        let current = self.current.load();
        let loaded = Loaded::read(config, &self.provider, Some(&current))?;
        if let Some(problem) = loaded.names.out_of_date(Some(&current.names)).next() {
            return Err(TlsError::Content {
                path: config.files().swap_remove(0),
                problem,
            });
        }
        Ok(Prepared { loaded, stamps })
    }

    /// Connections that begin from now on get these.
    pub(crate) fn take(&self, prepared: Prepared) {
        let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        *read = prepared.stamps;
        self.current.store(Arc::new(prepared.loaded));
    }

    /// When those in use end, whatever is in the files by now.
    pub(crate) fn ends(&self) -> Ends {
        self.current.load().ends.clone()
    }

    fn stamps_now(&self) -> Stamps {
        stamps(&self.current.load().config)
    }

    /// Reloads whenever the files have changed, for as long as it runs. Cancel-safe.
    pub(crate) async fn follow(&self) {
        let mut before = self.stamps_now();
        loop {
            sleep(LOOK_EVERY).await;
            let now = self.stamps_now();
            let settled = now == before;
            before = now;
            if !settled || before == *self.read.lock().unwrap_or_else(PoisonError::into_inner) {
                continue;
            }
            match self.reload() {
                Ok(()) => tracing::info!("new certificates are in use"),
                Err(error) => tracing::error!(%error, "the changed certificates cannot be used; the old ones stay"),
            }
        }
    }

    /// The TLS handshake with a client that has asked for it; and the certificate that it was shown. Not cancel-safe.
    pub(crate) async fn upgrade(&self, tcp: TcpStream) -> io::Result<(TlsStream<TcpStream>, Fingerprint)> {
        let loaded = self.current.load_full();
        let stream = loaded.acceptor.accept(tcp).await?;
        let fingerprint = loaded.names.find(stream.get_ref().1.server_name()).fingerprint;
        Ok((stream, fingerprint))
    }
}

impl Config {
    /// All files that are read.
    fn files(&self) -> Vec<PathBuf> {
        let (cert, key) = self.source.files();
        let named = self
            .named
            .iter()
            .flat_map(|named| [named.cert.clone(), named.key.clone()]);
        [cert, key]
            .into_iter()
            .chain(named)
            .chain(self.client_ca.clone())
            .collect()
    }
}

impl Source {
    fn files(&self) -> (PathBuf, PathBuf) {
        match self {
            Self::Operator { cert, key } => (cert.clone(), key.clone()),
            Self::Development { dir } => (dir.join("cert.pem"), dir.join("key.pem")),
        }
    }
}

fn stamps(config: &Config) -> Stamps {
    let stamp = |path: PathBuf| {
        let found = std::fs::metadata(path).ok()?;
        Some((found.ino(), found.size(), found.ctime(), found.ctime_nsec()))
    };
    config.files().into_iter().map(stamp).collect()
}

impl Loaded {
    fn read(config: &Config, provider: &Arc<CryptoProvider>, before: Option<&Self>) -> Result<Self, TlsError> {
        let (cert, key) = config.source.files();
        let mut names = Names {
            default: Entry::read(&cert, &key, provider)?,
            by_name: HashMap::new(),
        };
        let mut ends: Ends = vec![("gateway.tls.cert".into(), names.default.ends(&cert)?)];
        for (n, named) in config.named.iter().enumerate() {
            let entry = Entry::read(&named.cert, &named.key, provider)?;
            // Which of them: their names are the operator's, and a file may be called for a project.
            let setting = format!("gateway.tls.certificates[{n}].cert");
            ends.push((setting.into(), entry.ends(&named.cert)?));
            let given = match named.names.as_slice() {
                [] => entry.names(&named.cert)?,
                given => given.to_vec(),
            };
            for name in given {
                let found = names.by_name.insert(name_key(&name), entry.clone());
                if found.is_some() {
                    return Err(TlsError::Content {
                        path: named.cert.clone(),
                        problem: format!("another certificate is for the name {name:?}, too"),
                    });
                }
            }
        }
        let names = Arc::new(names);
        let client_roots = config.client_ca.as_deref().map(chain).transpose()?.unwrap_or_default();
        if let Some(path) = &config.client_ca {
            ends.push(("gateway.tls.client_ca".into(), earliest_end(path, &client_roots)?));
        }
        // One who no longer vouches for clients does not do so by an old ticket either.
        let tickets = match before.filter(|before| before.client_roots == client_roots) {
            Some(before) => Arc::clone(&before.tickets),
            None => rustls::crypto::ring::Ticketer::new()?,
        };
        let builder =
            ServerConfig::builder_with_provider(Arc::clone(provider)).with_safe_default_protocol_versions()?;
        let builder = match &config.client_ca {
            None => builder.with_no_client_auth(),
            Some(path) => {
                let unusable = |problem: String| TlsError::Content {
                    path: path.clone(),
                    problem,
                };
                let mut roots = RootCertStore::empty();
                for root in &client_roots {
                    roots.add(root.clone()).map_err(|e| unusable(e.to_string()))?;
                }
                // Accounts say whether they require one; a client that has none is for them to refuse.
                let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider))
                    .allow_unauthenticated()
                    .build()
                    .map_err(|e| unusable(e.to_string()))?;
                builder.with_client_cert_verifier(verifier)
            }
        };
        let mut server = builder.with_cert_resolver(Arc::clone(&names) as Arc<dyn ResolvesServerCert>);
        server.ticketer = Arc::clone(&tickets);
        server.session_storage = Arc::new(NoServerSessionStorage {});
        Ok(Self {
            config: config.clone(),
            acceptor: TlsAcceptor::from(Arc::new(server)),
            names,
            tickets,
            client_roots,
            ends,
        })
    }
}

impl Names {
    fn find(&self, name: Option<&str>) -> &Entry {
        let Some(name) = name.map(str::to_ascii_lowercase) else {
            return &self.default;
        };
        // A wildcard stands for one label.
        let wild = || name.find('.').and_then(|dot| self.by_name.get(&name[dot..]));
        self.by_name.get(name.as_str()).or_else(wild).unwrap_or(&self.default)
    }

    fn entries(&self) -> impl Iterator<Item = &Entry> {
        std::iter::once(&self.default).chain(self.by_name.values())
    }

    /// What is wrong with the time of certificates, but for those that are in use already: to refuse them mends nothing.
    fn out_of_date(&self, in_use: Option<&Self>) -> impl Iterator<Item = String> {
        let is_new = move |entry: &&Entry| {
            in_use.is_none_or(|names| names.entries().all(|known| known.fingerprint != entry.fingerprint))
        };
        self.entries().filter(is_new).filter_map(|entry| {
            let parsed = entry.parsed().ok()?;
            let validity = parsed.validity();
            let (from, until) = (validity.not_before, validity.not_after);
            (!validity.is_valid()).then(|| {
                format!(
                    "the certificate of {} is valid from {from} to {until} only",
                    parsed.subject()
                )
            })
        })
    }
}

impl ResolvesServerCert for Names {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.find(hello.server_name()).certified))
    }
}

impl fmt::Debug for Names {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.by_name.keys()).finish()
    }
}

fn name_key(name: &str) -> Box<str> {
    let name = name.to_ascii_lowercase();
    name.strip_prefix('*').unwrap_or(&name).into()
}

impl Entry {
    fn read(cert: &Path, key: &Path, provider: &CryptoProvider) -> Result<Self, TlsError> {
        let chain = chain(cert)?;
        refuse_old(cert, &chain[0])?;
        let private = PrivateKeyDer::from_pem_file(key).map_err(|e| unreadable(key, &e))?;
        let fingerprint = Sha256::digest(&chain[0]).into();
        let certified = CertifiedKey::from_der(chain, private, provider).map_err(|source| TlsError::Unusable {
            cert: cert.to_owned(),
            source,
        })?;
        let entry = Self {
            certified: Arc::new(certified),
            fingerprint,
        };
        entry.parsed().map_err(|problem| TlsError::Content {
            path: cert.to_owned(),
            problem,
        })?;
        Ok(entry)
    }

    fn parsed(&self) -> Result<X509Certificate<'_>, String> {
        let leaf = self.certified.cert.first().ok_or("holds no certificate")?;
        let (_, parsed) = X509Certificate::from_der(leaf).map_err(|e| e.to_string())?;
        Ok(parsed)
    }

    fn ends(&self, path: &Path) -> Result<i64, TlsError> {
        earliest_end(path, &self.certified.cert)
    }

    /// The server names that the certificate itself is for.
    fn names(&self, path: &Path) -> Result<Vec<String>, TlsError> {
        let nameless = |problem: &str| TlsError::Content {
            path: path.to_owned(),
            problem: problem.to_owned(),
        };
        let parsed = self.parsed().map_err(|problem| nameless(&problem))?;
        let alternatives = parsed
            .subject_alternative_name()
            .map_err(|e| nameless(&e.to_string()))?;
        let names = alternatives.iter().flat_map(|extension| &extension.value.general_names);
        let names: Vec<_> = names
            .filter_map(|name| match name {
                GeneralName::DNSName(name) => Some((*name).to_owned()),
                _ => None,
            })
            .collect();
        match names.is_empty() {
            true => Err(nameless("names no server; say which by `names`")),
            false => Ok(names),
        }
    }
}

/// When the first certificate of a PEM file ends, in seconds since 1970.
pub(crate) fn first_end(path: &Path) -> Result<i64, TlsError> {
    earliest_end(path, &chain(path)?)
}

/// A chain holds until the first of its certificates ends.
fn earliest_end(path: &Path, chain: &[CertificateDer<'_>]) -> Result<i64, TlsError> {
    let unusable = |problem: String| TlsError::Content {
        path: path.to_owned(),
        problem,
    };
    let mut earliest: Option<i64> = None;
    for certificate in chain {
        let (_, parsed) = X509Certificate::from_der(certificate).map_err(|e| unusable(e.to_string()))?;
        let ends = parsed.validity().not_after.timestamp();
        earliest = Some(earliest.map_or(ends, |before| before.min(ends)));
    }
    earliest.ok_or_else(|| unusable("holds no certificate".into()))
}

/// rustls would refuse it as well, in words that say nothing to people.
fn refuse_old(path: &Path, leaf: &CertificateDer<'_>) -> Result<(), TlsError> {
    match X509Certificate::from_der(leaf) {
        Ok((_, parsed)) if parsed.version() != X509Version::V3 => Err(TlsError::Content {
            path: path.to_owned(),
            problem: OF_AN_OLD_VERSION.into(),
        }),
        // What cannot be read is told where it is.
        _ => Ok(()),
    }
}

/// The certificates of a PEM file, at least one.
fn chain(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let chain = CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|e| unreadable(path, &e))?;
    match chain.is_empty() {
        true => Err(TlsError::Content {
            path: path.to_owned(),
            problem: "holds no certificate".into(),
        }),
        false => Ok(chain),
    }
}

fn unreadable(path: &Path, error: &rustls::pki_types::pem::Error) -> TlsError {
    TlsError::Content {
        path: path.to_owned(),
        problem: error.to_string(),
    }
}

#[cfg(test)]
mod tests;
