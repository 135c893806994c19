//! A phone that speaks to a peer of the real program over TLS, and trusts the certificate of its data directory.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use sip::Flow;
use sip::transaction::SentBy;
use sip::ua::{Handle, UaConfig, UaEvent, UserAgent};
use wire::rtp::Header;
use wire::sdp::Description;
use wire::sdp::crypto::Crypto;
use wire::sip::{Frame, Framer};
use wire::{ConnectionId, Seed, Time};

use super::Peer;

/// What a client needs that trusts this peer.
pub fn trusting(peer: &Peer) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(peer.dir().join("sips.pem")).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    Arc::new(config.with_root_certificates(roots).with_no_client_auth())
}

pub struct TlsPhone {
    stream: StreamOwned<ClientConnection, TcpStream>,
    framer: Framer,
    flow: Flow,
    pub ua: UserAgent,
    started: Instant,
    /// Every message heard.
    pub heard: String,
}

impl TlsPhone {
    /// A phone of a user of demo.test that shook hands with this peer; not registered yet.
    pub fn connect(peer: &Peer, user: &str, password: &str) -> TlsPhone {
        let sips: SocketAddr = peer.at("sips");
        let mut socket = TcpStream::connect(sips).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        let here = socket.local_addr().unwrap();
        let mut client = ClientConnection::new(trusting(peer), ServerName::from(sips.ip())).unwrap();
        client.complete_io(&mut socket).expect("a handshake");
        socket.set_read_timeout(Some(Duration::from_millis(10))).unwrap();
        let flow = Flow::Tls(ConnectionId(1), sips);
        let config = UaConfig {
            user: user.into(),
            domain: "demo.test".into(),
            password: Some(password.into()),
            flow,
            sent_by: SentBy { host: here.ip().to_string(), port: Some(here.port()) },
            expires: 600,
        };
        TlsPhone {
            stream: StreamOwned::new(client, socket),
            framer: Framer::new(),
            flow,
            ua: UserAgent::new(config, Seed::from_number(here.port().into())),
            started: Instant::now(),
            heard: String::new(),
        }
    }

    pub fn now(&self) -> Time {
        Time::ZERO + self.started.elapsed()
    }

    /// Registers; says whether it worked.
    pub fn register(&mut self) -> bool {
        self.ua.register(self.now());
        let is_told = |event: &UaEvent| matches!(event, UaEvent::Registered | UaEvent::RegisterFailed { .. });
        matches!(self.until(is_told), UaEvent::Registered)
    }

    /// Calls the echo with this offer; the call, and the description it was answered.
    pub fn call(&mut self, offer: Vec<u8>) -> (Handle, Vec<u8>) {
        let call = self.ua.invite(self.now(), "echo@demo.test", offer);
        match self.until(|event| matches!(event, UaEvent::Answered { .. })) {
            UaEvent::Answered { sdp, .. } => (call, sdp),
            _ => unreachable!("waited for it"),
        }
    }

    /// Goes on until something happens, for at most five seconds.
    pub fn until(&mut self, wanted: impl Fn(&UaEvent) -> bool) -> UaEvent {
        let end = Instant::now() + Duration::from_secs(5);
        loop {
            if let Some(event) = self.turn().filter(&wanted) {
                return event;
            }
            assert!(Instant::now() < end, "nothing of that sort; heard {}", self.heard);
        }
    }

    /// Sends what is due, takes what came.
    pub fn turn(&mut self) -> Option<UaEvent> {
        self.ua.handle_timeout(self.now());
        while let Some((_, bytes)) = self.ua.poll_transmit() {
            self.stream.write_all(&bytes).unwrap();
        }
        let mut buffer = [0; 4_096];
        match self.stream.read(&mut buffer) {
            Ok(len) => self.framer.push(&buffer[..len]),
            Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            Err(e) => panic!("{e}"),
        }
        while let Ok(Some(frame)) = self.framer.next_frame() {
            if let Frame::Message(message) = frame {
                self.heard.push_str(&String::from_utf8_lossy(&message));
                self.ua.handle_message(self.now(), self.flow, &message);
            }
        }
        self.ua.poll_event()
    }
}

/// The password of alice's phone.
pub const PASSWORD: &str = "pear-lamp-37";

/// A peer that serves alice, and her phone.
pub fn alices(dir: &Path) -> Peer {
    let peer = Peer::ready(dir, &["up", "--user", "alice@demo.test"]);
    peer.get(&["phone", "add", "alice", "--password", PASSWORD]);
    peer
}

/// The packet of sound with this number, in clear.
pub fn spoken(sequence: u16) -> Vec<u8> {
    let timestamp = u32::from(sequence) * 160;
    Header { sequence, timestamp, ssrc: 5, ..Header::default() }.packet(&[0x35; 160])
}

/// What a phone offers that demands keys for its sound, and says this one.
pub fn demanding(port: u16, key: &Crypto) -> Vec<u8> {
    format!(
        "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\n\
         m=audio {port} RTP/SAVP 0\r\na=crypto:{key}\r\n"
    )
    .into_bytes()
}

/// Where a peer wants sound, and the key that it said, in a description that demands them.
pub fn demanded(sdp: &[u8]) -> (SocketAddr, Crypto) {
    let sdp = Description::parse(sdp).unwrap();
    assert_eq!(sdp.media[0].protocol, "RTP/SAVP");
    let key = Crypto::parse(sdp.media[0].attribute("crypto").expect("a key")).unwrap().unwrap();
    (sdp.destination(0).unwrap(), key)
}
