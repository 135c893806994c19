//! A session of TLS 1.3, by rustls and *ring*, as towards phones. Both sides show certificates. A session that ended
//! is taken up again with a ticket: no certificate goes to and fro then, and nothing is signed.

use std::collections::VecDeque;
use std::fmt;
use std::io::{Read, Write};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use link::provider::{Output, Role, Session};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{ClientConnection, Resumption};
use rustls::crypto::ring::sign::any_ecdsa_type;
use rustls::crypto::{CryptoProvider, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{ServerConnection, ServerSessionMemoryCache};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::time_provider::TimeProvider;
use rustls::{
    CertificateError, ClientConfig, Connection, DigitallySignedStruct, DistinguishedName, Error,
    ServerConfig, SignatureScheme,
};
use wire::{PublicKey, Time};

use crate::certificate::{self, Own};

/// Hosts of whom a ticket is kept, and sessions that may be taken up again with us.
const MAX_TICKETS: usize = 256;

/// What one call reads of what was opened.
const PIECE: usize = 4_096;

/// Makes sessions of one peer.
pub(crate) struct Maker {
    moment: Moment,
    client: Arc<ClientConfig>,
    server: Arc<ServerConfig>,
}

/// The core's time as of the latest call, by which the library tells how old a ticket is. It begins anywhere: tickets
/// live no longer than the peer.
#[derive(Clone, Default, Debug)]
struct Moment(Arc<AtomicU64>);

impl Moment {
    fn set(&self, now: Time) {
        self.0.store(now.as_micros(), Ordering::Relaxed);
    }
}

impl TimeProvider for Moment {
    fn current_time(&self) -> Option<UnixTime> {
        Some(UnixTime::since_unix_epoch(Duration::from_micros(self.0.load(Ordering::Relaxed))))
    }
}

impl Maker {
    pub(crate) fn new(own: &Own) -> Result<Maker, String> {
        let cannot = |e: Error| format!("TLS cannot be used: {e}");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let judge = Arc::new(ByIdentity(provider.clone()));
        let versions = &[&rustls::version::TLS13];
        let der = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(&own.key[..]));
        let key = any_ecdsa_type(&der).map_err(cannot)?;
        let shown = CertifiedKey::new(vec![CertificateDer::from(own.certificate.clone())], key);
        let shown = Arc::new(SingleCertAndKey::from(shown));
        let moment = Moment::default();
        let clock = || Arc::new(moment.clone());
        let client = ClientConfig::builder_with_details(provider.clone(), clock());
        let client = client.with_protocol_versions(versions).map_err(cannot)?;
        let client = client.dangerous().with_custom_certificate_verifier(judge.clone());
        let mut client = client.with_client_cert_resolver(shown.clone());
        client.enable_sni = false;
        client.resumption = Resumption::in_memory_sessions(MAX_TICKETS);
        let server = ServerConfig::builder_with_details(provider, clock());
        let server = server.with_protocol_versions(versions).map_err(cannot)?;
        let mut server = server.with_client_cert_verifier(judge).with_cert_resolver(shown);
        server.session_storage = ServerSessionMemoryCache::new(MAX_TICKETS);
        // One is enough: a stream that stands is used, and another needs the next.
        server.send_tls13_tickets = 1;
        Ok(Maker { moment, client: Arc::new(client), server: Arc::new(server) })
    }

    pub(crate) fn begin(&self, now: Time, role: Role, remote: SocketAddr) -> Box<dyn Session> {
        self.moment.set(now);
        let name = ServerName::IpAddress(remote.ip().into());
        let connection = match role {
            Role::Asks => ClientConnection::new(self.client.clone(), name).map(Connection::Client),
            Role::Asked => ServerConnection::new(self.server.clone()).map(Connection::Server),
        };
        let (moment, given) = (self.moment.clone(), VecDeque::new());
        let mut session = Stream { moment, connection: connection.ok(), peer: None, given };
        match &mut session.connection {
            // What it takes goes on at once: whoever feeds it has the bounds.
            Some(connection) => connection.set_buffer_limit(None),
            None => session.given.push_back(Output::Over),
        }
        session.take_bytes();
        Box::new(session)
    }
}

struct Stream {
    moment: Moment,
    /// Nothing when it is over.
    connection: Option<Connection>,
    /// Who is at the other end, once it stands.
    peer: Option<PublicKey>,
    given: VecDeque<Output>,
}

impl Stream {
    fn take_bytes(&mut self) {
        let Some(connection) = &mut self.connection else { return };
        let mut bytes = Vec::new();
        // Into memory: it does not fail.
        while connection.wants_write() && connection.write_tls(&mut bytes).is_ok() {}
        if !bytes.is_empty() {
            self.given.push_back(Output::Bytes(bytes));
        }
    }

    /// Takes what was opened; `false` if the other side said that this is the end.
    fn take_messages(&mut self) -> bool {
        let Some(connection) = &mut self.connection else { return false };
        let mut piece = [0; PIECE];
        loop {
            match connection.reader().read(&mut piece) {
                Ok(0) => return false,
                Ok(len) => self.given.push_back(Output::Message(piece[..len].to_vec())),
                Err(_) => return true,
            }
        }
    }

    /// Notes that it stands, once it does; `false` if the certificate that was shown is nobody's.
    fn stand(&mut self) -> bool {
        let Some(connection) = self.connection.as_ref().filter(|c| !c.is_handshaking()) else { return true };
        if self.peer.is_none() {
            let shown = connection.peer_certificates().and_then(|chain| chain.first());
            self.peer = shown.and_then(|certificate| certificate::identity(certificate));
            self.given.extend(self.peer.map(Output::Stands));
        }
        self.peer.is_some()
    }
}

impl Session for Stream {
    fn handle(&mut self, now: Time, mut bytes: &[u8]) {
        self.moment.set(now);
        let mut lasts = true;
        while lasts && !bytes.is_empty() {
            let Some(connection) = &mut self.connection else { return };
            lasts = matches!(connection.read_tls(&mut bytes), Ok(1..))
                && connection.process_new_packets().is_ok();
            // What it has to answer, an alert perhaps; and what it opened before it came upon what it cannot.
            self.take_bytes();
            lasts &= self.stand() && self.take_messages();
        }
        if !lasts {
            self.connection = None;
            self.given.push_back(Output::Over);
        }
    }

    fn seal(&mut self, now: Time, message: &[u8]) {
        self.moment.set(now);
        if let Some(connection) = &mut self.connection {
            let _ = connection.writer().write_all(message);
        }
        self.take_bytes();
    }

    fn poll(&mut self) -> Option<Output> {
        self.given.pop_front()
    }

    fn poll_timeout(&self) -> Option<Time> {
        None
    }

    fn handle_timeout(&mut self, _: Time) {}
}

impl fmt::Debug for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Stream({:?})", self.peer)
    }
}

/// Takes every certificate behind which an identity stands; which it is, is judged by whoever asked for the link.
#[derive(Debug)]
struct ByIdentity(Arc<CryptoProvider>);

impl ByIdentity {
    fn judge(&self, certificate: &CertificateDer<'_>) -> Result<(), Error> {
        match certificate::identity(certificate) {
            Some(_) => Ok(()),
            None => Err(Error::InvalidCertificate(CertificateError::ApplicationVerificationFailure)),
        }
    }
}

/// How a signature of a handshake is checked, by either side: TLS 1.2 is not spoken.
macro_rules! tls13_by_p256 {
    () => {
        fn verify_tls12_signature(
            &self,
            _: &[u8],
            _: &CertificateDer<'_>,
            _: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            Err(Error::General("TLS 1.2".into()))
        }

        fn verify_tls13_signature(
            &self,
            message: &[u8],
            certificate: &CertificateDer<'_>,
            signed: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            verify_tls13_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
        }

        fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
            vec![SignatureScheme::ECDSA_NISTP256_SHA256]
        }
    };
}

impl ServerCertVerifier for ByIdentity {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.judge(certificate).map(|()| ServerCertVerified::assertion())
    }

    tls13_by_p256!();
}

impl ClientCertVerifier for ByIdentity {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        certificate: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        self.judge(certificate).map(|()| ClientCertVerified::assertion())
    }

    tls13_by_p256!();
}
