//! Phones over TLS: a connection is opened and sealed by rustls, which does no IO of its own.
//!
//! Between the socket and the node stands a [`Session`]. What came from the socket goes in, what was said comes out
//! piece by piece; what the node says goes in, and what is to be sent goes to the connection's backlog, whose bound
//! holds here too. No ticket and no session is kept: phones keep their connection for hours.

use std::collections::VecDeque;
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use mio::net::TcpListener;
use node::Event;
use rustls::server::NoServerSessionStorage;
use rustls::{ServerConfig, ServerConnection};
use wire::{ConnectionId, Socket};

use super::{Bound, STREAM_PIECE, World, bind};
use crate::home::Certificate;

/// How long a phone may take until it has shaken hands.
pub(super) const HANDSHAKE_WITHIN: Duration = Duration::from_secs(10);

/// Where phones connect over TLS.
pub(super) struct Door {
    pub(super) listener: TcpListener,
    pub(super) config: Arc<ServerConfig>,
}

impl Bound {
    /// Binds the port at which phones register over TLS, too, and shows them this certificate. `fixed` says that the
    /// port must not move when it is taken.
    ///
    /// # Errors
    /// In words, if the port or the certificate cannot be used.
    pub fn with_tls(
        mut self,
        sips: SocketAddr,
        fixed: bool,
        certificate: impl FnOnce(SocketAddr) -> Result<Certificate, String>,
    ) -> Result<Bound, String> {
        let listener = bind(sips, fixed, "--sips", TcpListener::bind)?;
        let address = listener.local_addr().map_err(|e| e.to_string())?;
        let config = config(certificate(address)?)?;
        (self.tls, self.sips_address) = (Some(Door { listener, config }), Some(address));
        Ok(self)
    }
}

fn config(certificate: Certificate) -> Result<Arc<ServerConfig>, String> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let versions = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let config = versions
        .and_then(|config| config.with_no_client_auth().with_single_cert(certificate.chain, certificate.key));
    let mut config = config.map_err(|e| format!("the certificate for phones cannot be used: {e}"))?;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(Arc::new(config))
}

/// The TLS of one connection.
pub(super) struct Session(ServerConnection);

impl Session {
    /// A connection that was just accepted.
    pub(super) fn new(config: &Arc<ServerConfig>) -> Option<Session> {
        let mut connection = ServerConnection::new(Arc::clone(config)).ok()?;
        // All of it goes to the backlog at once, which has a bound.
        connection.set_buffer_limit(None);
        Some(Session(connection))
    }

    pub(super) fn is_shaking_hands(&self) -> bool {
        self.0.is_handshaking()
    }

    /// Takes what came from the socket; how much of it, or `None` if the phone does not speak TLS as it should.
    fn take(&mut self, mut sealed: &[u8], backlog: &mut VecDeque<u8>) -> Option<usize> {
        let taken = self.0.read_tls(&mut sealed).ok().filter(|taken| *taken > 0)?;
        let understood = self.0.process_new_packets().is_ok();
        // What it has to answer, an alert perhaps.
        self.seal(&[], backlog);
        understood.then_some(taken)
    }

    /// The next piece of what was said; `Some(0)` if that was the end.
    fn open(&mut self, piece: &mut [u8]) -> Option<usize> {
        self.0.reader().read(piece).ok()
    }

    /// Seals what is to be said, and whatever TLS itself has to say.
    pub(super) fn seal(&mut self, bytes: &[u8], backlog: &mut VecDeque<u8>) {
        // Into memory: neither fails.
        let _ = self.0.writer().write_all(bytes);
        while self.0.wants_write() && self.0.write_tls(backlog).is_ok() {}
    }

    /// Says that this is the end, if there is room for that.
    pub(super) fn say_goodbye(mut self, socket: &mut impl Write) {
        self.0.send_close_notify();
        let _ = self.0.write_tls(socket);
    }
}

impl World {
    /// The TLS of one who connects, unless they have had too many handshakes done.
    pub(super) fn shake_hands(&mut self, index: usize, ip: IpAddr) -> Option<Box<Session>> {
        let now = self.now();
        let hosted = &mut self.hosted[index];
        let door = hosted.tls.as_ref()?;
        hosted.node.may_shake_hands(now, ip).then(|| Session::new(&door.config))?.map(Box::new)
    }

    /// Opens what was read from a connection over TLS into the first `len` bytes of the buffer, and gives it to the node;
    /// `false` if the connection has come to its end.
    pub(super) fn open_sealed(
        &mut self,
        index: usize,
        connection: ConnectionId,
        len: usize,
        tell: &mut dyn FnMut(usize, Event),
    ) -> bool {
        let mut taken = 0;
        let mut lasts = true;
        while lasts && taken < len {
            let Some(stream) = self.hosted[index].streams.get_mut(&connection) else { return true };
            let Some(tls) = &mut stream.tls else { return false };
            match tls.take(&self.buffer[taken..len], &mut stream.backlog) {
                Some(more) => taken += more,
                None => lasts = false,
            }
            self.flush(index, connection);
            lasts &= self.hear_opened(index, connection, len, tell);
        }
        lasts
    }

    /// Gives the node what was opened, in pieces that stand behind the sealed bytes of the buffer.
    fn hear_opened(
        &mut self,
        index: usize,
        connection: ConnectionId,
        at: usize,
        tell: &mut dyn FnMut(usize, Event),
    ) -> bool {
        loop {
            let Some(stream) = self.hosted[index].streams.get_mut(&connection) else { return true };
            let remote = stream.remote;
            let piece = &mut self.buffer[at..at + STREAM_PIECE];
            let opened = stream.tls.as_mut().and_then(|tls| tls.open(piece));
            match opened {
                None => return true,
                Some(0) => return false,
                Some(len) => {
                    let (now, socket) = (self.now(), Socket::SipTls(connection));
                    let bytes = &mut self.buffer[at..at + len];
                    self.hosted[index].node.handle_datagram(now, socket, remote, bytes);
                    self.drain(index, tell);
                }
            }
        }
    }

    /// Closes connections that took too long to shake hands.
    pub(super) fn end_handshakes(&mut self, tell: &mut dyn FnMut(usize, Event)) {
        let now = self.now();
        while let Some((_, index, connection)) = self.handshakes.pop_front_if(|(until, ..)| *until <= now) {
            let tls = self.hosted[index].streams.get(&connection).and_then(|stream| stream.tls.as_ref());
            if tls.is_some_and(|tls| tls.is_shaking_hands()) {
                self.close(index, connection);
                self.drain(index, tell);
            }
        }
    }
}
