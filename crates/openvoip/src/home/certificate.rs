//! The certificate by which phones know this peer over TLS, and its key.
//!
//! Nobody vouches for a peer in a mesh, so it signs its own, once, and phones are given the file `sips.pem`. It
//! begins in 1970, since phones without a clock wake up there, and ends with 2049, the last year that every
//! reader understands (RFC 5280, section 4.1.2.5). Who has a certificate from elsewhere names its files.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};

use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair, SanType, date_time_ymd};
use rustls::client::verify_server_name;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::ParsedCertificate;
use zeroize::Zeroizing;

use super::{Home, make_private};

const CERTIFICATE: &str = "sips.pem";
const KEY: &str = "sips-key.pem";

/// Files of the owner's own, in PEM.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CertificateFiles {
    /// The certificate, and those that lead to whom phones trust.
    pub certificate: PathBuf,
    /// Its key.
    pub key: PathBuf,
}

/// A certificate with its key.
pub struct Certificate {
    /// The certificate, and those that vouch for it.
    pub chain: Vec<CertificateDer<'static>>,
    /// Its key.
    pub key: PrivateKeyDer<'static>,
}

impl Certificate {
    /// Whether it is of that address.
    pub fn names(&self, ip: IpAddr) -> bool {
        let parsed = self.chain.first().and_then(|end| ParsedCertificate::try_from(end).ok());
        parsed.is_some_and(|end| verify_server_name(&end, &ServerName::from(ip)).is_ok())
    }
}

impl Home {
    /// The certificate of this peer; made when first asked for.
    ///
    /// # Errors
    /// In words, with what to do.
    pub fn certificate(&self, sips: SocketAddr, users: &[String]) -> Result<Certificate, String> {
        let files = CertificateFiles { certificate: self.certificate_file(), key: self.0.join(KEY) };
        if !files.certificate.exists() && !files.key.exists() {
            let [certificate, key] = new_pem(sips, users)?;
            self.write(KEY, key.as_bytes())?;
            self.write(CERTIFICATE, certificate.as_bytes())?;
        }
        make_private(&files.key);
        read(&files).map_err(|e| format!("{e}. Without {CERTIFICATE} and {KEY} new ones are made"))
    }

    /// Where the certificate is that phones are given, if it is this peer's own.
    pub fn certificate_file(&self) -> PathBuf {
        self.0.join(CERTIFICATE)
    }
}

/// A certificate that nobody keeps.
///
/// # Errors
/// If there is no randomness.
pub fn passing(sips: SocketAddr) -> Result<Certificate, String> {
    let [certificate, key] = new_pem(sips, &[])?;
    let unreadable = |e| format!("the new certificate cannot be read: {e}");
    Ok(Certificate {
        chain: vec![CertificateDer::from_pem_slice(certificate.as_bytes()).map_err(unreadable)?],
        key: PrivateKeyDer::from_pem_slice(key.as_bytes()).map_err(unreadable)?,
    })
}

/// A certificate from files.
///
/// # Errors
/// In words: which file, and why.
pub fn read(files: &CertificateFiles) -> Result<Certificate, String> {
    let why = |path: &Path, e| format!("cannot read {} as PEM: {e}", path.display());
    let chain = CertificateDer::pem_file_iter(&files.certificate).and_then(Iterator::collect);
    let chain: Vec<_> = chain.map_err(|e| why(&files.certificate, e))?;
    let key = PrivateKeyDer::from_pem_file(&files.key).map_err(|e| why(&files.key, e))?;
    Ok(Certificate { chain, key })
}

/// A certificate for whatever phones may call this peer, and its key, in PEM.
fn new_pem(sips: SocketAddr, users: &[String]) -> Result<[Zeroizing<String>; 2], String> {
    let cannot = |e: rcgen::Error| format!("cannot make a certificate: {e}");
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let domains = users.iter().filter_map(|user| user.split_once('@')).map(|(_, domain)| domain.to_owned());
    let mut names: Vec<String> =
        domains.chain([host, "localhost".into()]).filter(|n| node::config::is_name(n)).collect();
    names.sort();
    names.dedup();
    let mut params = CertificateParams::new(names.clone()).map_err(cannot)?;
    let ips = [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into(), sips.ip()];
    for ip in ips.into_iter().filter(|ip| !ip.is_unspecified()).map(SanType::IpAddress) {
        if !params.subject_alt_names.contains(&ip) {
            params.subject_alt_names.push(ip);
        }
    }
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, format!("OpenVoIP {}", names.join(" ")));
    (params.not_before, params.not_after) = (date_time_ymd(1970, 1, 1), date_time_ymd(2049, 12, 31));
    let key = KeyPair::generate().map_err(cannot)?;
    let certificate = params.self_signed(&key).map_err(cannot)?;
    Ok([certificate.pem().into(), key.serialize_pem().into()])
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    const HERE: &str = "192.0.2.1:5061";

    #[test]
    fn a_certificate_is_made_once_names_this_peer_and_its_key_is_the_owners_alone() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::open(dir.path()).unwrap();
        let first = home.certificate(HERE.parse().unwrap(), &["alice@camp.example".into()]).unwrap();
        let again = home.certificate("198.51.100.7:5061".parse().unwrap(), &[]).unwrap();
        assert_eq!(first.chain, again.chain);
        let named = ["192.0.2.1", "127.0.0.1", "198.51.100.7"].map(|ip| again.names(ip.parse().unwrap()));
        assert_eq!(named, [true, true, false]);
        let end = ParsedCertificate::try_from(&again.chain[0]).unwrap();
        for (name, is_named) in [("camp.example", true), ("localhost", true), ("other.example", false)] {
            let name = ServerName::try_from(name).unwrap();
            assert_eq!(verify_server_name(&end, &name).is_ok(), is_named, "{name:?}");
        }
        assert_eq!(fs::metadata(dir.path().join(KEY)).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn a_key_that_came_open_from_a_backup_is_closed_and_a_damaged_one_is_not_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::open(dir.path()).unwrap();
        let made = || home.certificate(HERE.parse().unwrap(), &[]);
        made().unwrap();
        let key = dir.path().join(KEY);
        fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).unwrap();
        made().unwrap();
        assert_eq!(fs::metadata(&key).unwrap().permissions().mode() & 0o777, 0o600);
        fs::write(&key, "short").unwrap();
        assert!(made().err().unwrap().contains(KEY));
        assert_eq!(fs::read(&key).unwrap(), b"short");
    }
}
