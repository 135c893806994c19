//! The loop: one thread, one poll, any number of peers.
//!
//! Every peer has a UDP port towards other peers and a TCP port of the same number (`run/peers.rs`), a UDP and a
//! TCP port towards phones, one for TLS (`run/tls.rs`), and pairs of UDP ports for phones' sound, bound when its
//! node asks for them, on which phones may make handshakes (`run/dtls.rs`). A datagram is read into one buffer and handed to its node; sound comes back in the same
//! buffer and is sent on without a copy.

pub mod dtls;
mod peers;
mod tls;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io::{self, ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use mio::net::{TcpListener, TcpStream, UdpSocket};
use mio::{Events, Interest, Poll, Registry, Token};
use node::{Config, Event, LinkFamily, Node, Provider, Tail};
use wire::{ConnectionId, KeyPair, Socket, Time, Transmit};

use crate::alarm::Alarm;
use crate::icmp;
use peers::Peers;

/// Datagrams read from one socket before the others get their turn.
const BURST: usize = 64;

/// Connections of phones to one peer at once.
const MAX_CONNECTIONS: usize = 64;

/// Bytes waiting for a slow phone before its connection is closed.
const MAX_BACKLOG: usize = 256 * 1024;

/// Bytes read from a phone's connection at once: a few requests, so that the ports for sound that one
/// asks for are bound before the stock is used up by those behind it.
const STREAM_PIECE: usize = 1_536;

/// Largest datagram read: anything longer is not ours.
const BUFFER: usize = 65_536;

/// Tokens from here on, and those below 1,000, are the caller's.
pub const FIRST_OF_CALLER: usize = usize::MAX / 2;

/// The first token that is not the caller's.
const ALARM: Token = Token(1_000);

/// What a token of the poll stands for.
#[derive(Clone, Copy, Debug)]
enum Source {
    Alarm,
    Udp(usize, Socket),
    PeerListener(usize),
    Peer(usize, SocketAddr),
    PhoneListener(usize),
    TlsListener(usize),
    Phone(usize, ConnectionId),
}

struct Stream {
    socket: TcpStream,
    remote: SocketAddr,
    token: Token,
    backlog: VecDeque<u8>,
    tls: Option<Box<tls::Session>>,
}

/// One peer and its sockets.
struct Hosted {
    node: Node,
    media_ip: IpAddr,
    udp: BTreeMap<Socket, (UdpSocket, Token)>,
    listener: Option<TcpListener>,
    tls: Option<tls::Door>,
    handshakes: dtls::Handshakes,
    streams: BTreeMap<ConnectionId, Stream>,
    peers: Peers,
    wakes: Option<Time>,
    gone: bool,
    /// Sockets that are kept open and never read.
    frozen: Vec<UdpSocket>,
    frozen_peers: Peers,
}

impl Hosted {
    /// The next phone that connects, over TLS or not.
    fn accept(&self, secure: bool) -> Option<(TcpStream, SocketAddr)> {
        let listener =
            if secure { self.tls.as_ref().map(|door| &door.listener) } else { self.listener.as_ref() }?;
        loop {
            match listener.accept() {
                // That one is gone; there may be others behind it.
                Err(e) if matches!(e.kind(), ErrorKind::ConnectionAborted | ErrorKind::Interrupted) => {}
                accepted => return accepted.ok(),
            }
        }
    }
}

/// The sockets of a peer, bound but not yet at work.
pub struct Bound {
    peer: UdpSocket,
    sip: UdpSocket,
    sip_tcp: TcpListener,
    tls: Option<tls::Door>,
    dtls: Option<dtls::Identity>,
    /// The address of the peer port.
    pub peer_address: SocketAddr,
    /// The address at which phones register.
    pub sip_address: SocketAddr,
    /// The address at which they register over TLS, if they can.
    pub sips_address: Option<SocketAddr>,
}

impl Bound {
    /// Binds the ports of a peer. `fixed` says which must not move when they are taken.
    pub fn new(
        peer: SocketAddr,
        peer_fixed: bool,
        sip: SocketAddr,
        sip_fixed: bool,
    ) -> Result<Bound, String> {
        let peer = bind(peer, peer_fixed, "--listen", UdpSocket::bind)?;
        let (sip, sip_tcp) = bind(sip, sip_fixed, "--sip", |a| {
            let udp = UdpSocket::bind(a)?;
            let tcp = TcpListener::bind(udp.local_addr()?)?;
            Ok((udp, tcp))
        })?;
        enlarge(&peer);
        enlarge(&sip);
        icmp::listen(&peer);
        let address = |s: &UdpSocket| s.local_addr().map_err(|e| e.to_string());
        let (peer_address, sip_address) = (address(&peer)?, address(&sip)?);
        Ok(Bound { peer, sip, sip_tcp, tls: None, dtls: None, peer_address, sip_address, sips_address: None })
    }
}

/// Binds an address; one that was not demanded moves to the next free port when taken.
fn bind<T>(
    wanted: SocketAddr,
    fixed: bool,
    option: &str,
    bind: impl Fn(SocketAddr) -> io::Result<T>,
) -> Result<T, String> {
    let mut address = wanted;
    for _ in 0..200 {
        match bind(address) {
            Ok(bound) => return Ok(bound),
            Err(e) if e.kind() == ErrorKind::AddrInUse && !fixed && address.port() != 0 => {
                address.set_port(address.port().wrapping_add(2).max(1_024));
            }
            Err(e) if e.kind() == ErrorKind::AddrInUse && address.port() == 0 => {}
            Err(e) => {
                return Err(format!(
                    "cannot use {wanted}: {e}. Choose another address with {option} IP:PORT, or leave \
                     {option} out and a free port is found"
                ));
            }
        }
    }
    Err(format!("no free port near {wanted}: choose one with {option} IP:PORT"))
}

/// Room for bursts; the system may grant less.
fn enlarge(socket: &UdpSocket) {
    let socket = socket2::SockRef::from(socket);
    let _ = socket.set_recv_buffer_size(1 << 20);
    let _ = socket.set_send_buffer_size(1 << 20);
}

/// What makes the links of a peer with these keys, if they are DTLS and TLS.
///
/// # Errors
/// In words, if the system does not let it.
pub fn provider(config: &Config, keys: &KeyPair) -> Result<Option<Arc<dyn Provider>>, String> {
    match config.links {
        LinkFamily::Noise => Ok(None),
        LinkFamily::Tls => Ok(Some(::tls::Tls::new(keys)?)),
    }
}

/// Something happened on a socket of the caller's own.
#[derive(Clone, Copy, Debug)]
pub struct Ready {
    /// Which.
    pub token: Token,
    /// Whether the other end is gone for good.
    pub hung_up: bool,
}

/// Peers, their sockets, and the clock.
pub struct World {
    poll: Poll,
    alarm: Alarm,
    events: Events,
    origin: Instant,
    hosted: Vec<Hosted>,
    sources: BTreeMap<Token, Source>,
    wakes: BTreeSet<(Time, usize)>,
    /// By when connections over TLS must have shaken hands, in the order in which they came.
    handshakes: VecDeque<(Time, usize, ConnectionId)>,
    /// When handshakes at media ports have to be asked again.
    dtls_wakes: BTreeSet<(Time, usize, u16)>,
    next_token: usize,
    next_connection: u64,
    buffer: Vec<u8>,
}

impl World {
    /// No peers yet.
    pub fn new() -> io::Result<World> {
        let poll = Poll::new()?;
        let alarm = Alarm::new(poll.registry(), ALARM)?;
        Ok(World {
            poll,
            alarm,
            events: Events::with_capacity(1_024),
            origin: Instant::now(),
            hosted: Vec::new(),
            sources: BTreeMap::from([(ALARM, Source::Alarm)]),
            wakes: BTreeSet::new(),
            handshakes: VecDeque::new(),
            dtls_wakes: BTreeSet::new(),
            next_token: ALARM.0,
            next_connection: 1,
            buffer: vec![0; BUFFER + Tail::MAX],
        })
    }

    /// For sockets of the caller's own; tokens below 1,000 and from [`FIRST_OF_CALLER`] on are free.
    pub fn registry(&self) -> &Registry {
        self.poll.registry()
    }

    /// The clock.
    pub fn now(&self) -> Time {
        Time::from_micros(self.origin.elapsed().as_micros() as u64)
    }

    /// A peer.
    pub fn node(&self, index: usize) -> &Node {
        &self.hosted[index].node
    }

    /// Adds a peer with its bound sockets; returns its index.
    pub fn add(&mut self, node: Node, bound: Bound) -> io::Result<usize> {
        let index = self.hosted.len();
        let media_ip = node::config::reached_at(bound.sip_address, bound.sips_address);
        let mut hosted = Hosted {
            node,
            media_ip,
            udp: BTreeMap::new(),
            listener: None,
            tls: bound.tls,
            handshakes: dtls::Handshakes::of(bound.dtls),
            streams: BTreeMap::new(),
            peers: Peers::default(),
            wakes: None,
            gone: false,
            frozen: Vec::new(),
            frozen_peers: Peers::default(),
        };
        let (uses_udp, uses_tcp) = (hosted.node.uses_udp(), hosted.node.uses_tcp());
        for (socket, mut udp) in [(Socket::Peer, bound.peer), (Socket::Sip, bound.sip)] {
            if socket == Socket::Peer && !uses_udp {
                // It keeps the port's number, and nothing else.
                hosted.frozen.push(udp);
                continue;
            }
            let token = self.token(Source::Udp(index, socket));
            self.poll.registry().register(&mut udp, token, Interest::READABLE)?;
            hosted.udp.insert(socket, (udp, token));
        }
        let token = self.token(Source::PhoneListener(index));
        let mut listener = bound.sip_tcp;
        self.poll.registry().register(&mut listener, token, Interest::READABLE)?;
        hosted.listener = Some(listener);
        let token = self.token(Source::TlsListener(index));
        if let Some(door) = &mut hosted.tls {
            self.poll.registry().register(&mut door.listener, token, Interest::READABLE)?;
        }
        self.hosted.push(hosted);
        if uses_tcp {
            match self.listen_for_peers(index, bound.peer_address) {
                Err(e) if uses_udp => {
                    tracing::warn!("no streams between peers, TCP port {}: {e}", bound.peer_address.port());
                }
                listens => listens?,
            }
        }
        Ok(index)
    }

    fn token(&mut self, source: Source) -> Token {
        self.next_token += 1;
        self.sources.insert(Token(self.next_token), source);
        Token(self.next_token)
    }

    /// Stops hosting a peer, without a goodbye: its ports fall silent.
    pub fn kill(&mut self, index: usize) {
        let hosted = &mut self.hosted[index];
        hosted.gone = true;
        hosted.udp.clear();
        (hosted.listener, hosted.tls) = (None, None);
        hosted.streams.clear();
        hosted.handshakes = dtls::Handshakes::default();
        self.dtls_wakes.retain(|(_, of, _)| *of != index);
        hosted.peers = Peers::default();
        if let Some(at) = hosted.wakes.take() {
            self.wakes.remove(&(at, index));
        }
    }

    /// Stops hosting a peer as if its cable were cut: its ports stay taken and nobody reads them, so that
    /// the system tells nobody that it is gone.
    ///
    /// # Errors
    /// If the system does not stop watching its sockets.
    pub fn freeze(&mut self, index: usize) -> io::Result<()> {
        let hosted = &mut self.hosted[index];
        for (udp, _) in hosted.udp.values_mut() {
            self.poll.registry().deregister(udp)?;
        }
        let udp = std::mem::take(&mut hosted.udp);
        hosted.frozen.extend(udp.into_values().map(|(udp, _)| udp));
        hosted.frozen_peers = std::mem::take(&mut hosted.peers);
        hosted.frozen_peers.freeze(self.poll.registry())?;
        self.kill(index);
        Ok(())
    }

    /// Gives a peer a command; what it wants sent is sent, what it says goes to `tell`.
    pub fn with<T>(
        &mut self,
        index: usize,
        tell: &mut dyn FnMut(usize, Event),
        command: impl FnOnce(&mut Node, Time) -> T,
    ) -> T {
        let now = self.now();
        let result = command(&mut self.hosted[index].node, now);
        self.drain(index, tell);
        result
    }

    /// Waits until something happens, at most `longest`, and deals with it. Returns which of
    /// the caller's own sockets are ready.
    pub fn turn(&mut self, longest: Duration, tell: &mut dyn FnMut(usize, Event)) -> io::Result<Vec<Ready>> {
        let now = self.now();
        let longest = now + longest;
        let due = [
            self.wakes.first().map(|(at, _)| *at),
            self.handshakes.front().map(|(at, ..)| *at),
            self.dtls_wakes.first().map(|(at, ..)| *at),
        ];
        let until = due.into_iter().flatten().fold(longest, Time::min);
        let limit = self.alarm.limit(now, until)?;
        match self.poll.poll(&mut self.events, limit) {
            Err(e) if e.kind() != ErrorKind::Interrupted => return Err(e),
            _ => {}
        }
        let ready: Vec<(Ready, bool, bool)> = self
            .events
            .iter()
            .map(|e| {
                (Ready { token: e.token(), hung_up: e.is_write_closed() }, e.is_writable(), e.is_error())
            })
            .collect();
        let mut own = Vec::new();
        for (ready, writable, failed) in ready {
            match self.sources.get(&ready.token).copied() {
                // What is due is done below, whatever woke us.
                Some(Source::Alarm) => {}
                Some(Source::Udp(index, socket)) => {
                    if failed && socket == Socket::Peer {
                        self.read_icmp(index, tell);
                    }
                    self.read_udp(index, socket, tell);
                }
                Some(Source::PeerListener(index)) => self.accept_peers(index, tell),
                Some(Source::Peer(index, remote)) => self.serve_peer(index, remote, writable, tell),
                Some(Source::PhoneListener(index)) => self.accept(index, false),
                Some(Source::TlsListener(index)) => self.accept(index, true),
                Some(Source::Phone(index, connection)) => {
                    if writable {
                        self.flush(index, connection);
                    }
                    self.read_stream(index, connection, tell);
                }
                None => own.push(ready),
            }
        }
        self.run_alarms(tell);
        self.end_handshakes(tell);
        self.run_handshakes(tell);
        Ok(own)
    }

    fn run_alarms(&mut self, tell: &mut dyn FnMut(usize, Event)) {
        // At most once per peer and turn, so that a busy peer never starves the sockets.
        let now = self.now();
        let due: Vec<usize> = self.wakes.iter().take_while(|(at, _)| *at <= now).map(|(_, i)| *i).collect();
        for index in due {
            self.hosted[index].node.handle_timeout(now);
            self.drain(index, tell);
        }
    }

    /// Tells a peer at which addresses nobody listens.
    fn read_icmp(&mut self, index: usize, tell: &mut dyn FnMut(usize, Event)) {
        for _ in 0..BURST {
            let Some((udp, _)) = self.hosted[index].udp.get(&Socket::Peer) else { return };
            let Some(report) = icmp::read(udp, &mut self.buffer) else { return };
            if let Some((remote, quoted)) = report.unreachable {
                let now = self.now();
                self.hosted[index].node.handle_unreachable(now, remote, &self.buffer[..quoted]);
                self.drain(index, tell);
            }
        }
        // There may be more: readiness is told only once.
        let Some((udp, token)) = self.hosted[index].udp.get_mut(&Socket::Peer) else { return };
        let _ = self.poll.registry().reregister(udp, *token, Interest::READABLE);
    }

    fn read_udp(&mut self, index: usize, socket: Socket, tell: &mut dyn FnMut(usize, Event)) {
        for _ in 0..BURST {
            let Some((udp, _)) = self.hosted[index].udp.get(&socket) else { return };
            let (len, remote) = match udp.recv_from(&mut self.buffer[..BUFFER]) {
                Ok(got) => got,
                Err(e) if e.kind() == ErrorKind::WouldBlock => return,
                // An earlier datagram found nobody at home: no fault of this socket.
                Err(_) => continue,
            };
            let now = self.now();
            let hosted = &mut self.hosted[index];
            let bytes = &mut self.buffer[..len];
            match hosted.node.handle_datagram(now, socket, remote, bytes) {
                Some(forward) => {
                    if let Some((out, _)) = hosted.udp.get(&forward.socket) {
                        icmp::send(out, forward.finish(&mut self.buffer), forward.remote);
                    }
                }
                None => self.drain(index, tell),
            }
        }
        // There may be more: readiness is told only once.
        let Some((udp, token)) = self.hosted[index].udp.get_mut(&socket) else { return };
        let _ = self.poll.registry().reregister(udp, *token, Interest::READABLE);
    }

    /// Sends what a peer wants sent, deals with what it asks of us, and tells the rest.
    fn drain(&mut self, index: usize, tell: &mut dyn FnMut(usize, Event)) {
        loop {
            while let Some(transmit) = self.hosted[index].node.poll_transmit() {
                self.send(index, transmit);
            }
            let Some(event) = self.hosted[index].node.poll_event() else { break };
            match event {
                Event::MediaPortsWanted(count) => self.bind_media(index, count),
                Event::MediaPortReleased(port) => self.unbind_media(index, port),
                Event::Handshake(wanted) => self.serve_handshake(index, wanted),
                Event::CloseStream(connection) => self.close(index, connection),
                Event::OpenPeerStream(remote) => self.open_to_peer(index, remote),
                Event::ClosePeerStream(remote) => self.drop_peer(index, remote),
                event => tell(index, event),
            }
        }
        let hosted = &mut self.hosted[index];
        let wakes = hosted.node.poll_timeout().map(|(at, _)| at).filter(|_| !hosted.gone);
        if hosted.wakes != wakes {
            hosted.wakes.into_iter().for_each(|at| {
                self.wakes.remove(&(at, index));
            });
            wakes.into_iter().for_each(|at| {
                self.wakes.insert((at, index));
            });
            hosted.wakes = wakes;
        }
    }

    fn send(&mut self, index: usize, transmit: Transmit) {
        if let Socket::SipStream(connection) | Socket::SipTls(connection) = transmit.socket {
            if let Some(stream) = self.hosted[index].streams.get_mut(&connection) {
                match &mut stream.tls {
                    Some(tls) => tls.seal(&transmit.bytes, &mut stream.backlog),
                    None => stream.backlog.extend(&transmit.bytes),
                }
            }
            return self.flush(index, connection);
        }
        if transmit.socket == Socket::PeerStream {
            return self.send_to_peer(index, transmit.remote, &transmit.bytes);
        }
        if let Some((udp, _)) = self.hosted[index].udp.get(&transmit.socket) {
            icmp::send(udp, &transmit.bytes, transmit.remote);
        }
    }

    // ---- media ports ---------------------------------------------------------------------------

    fn bind_media(&mut self, index: usize, count: usize) {
        for bound in 0..count {
            let pair = bind_pair(self.hosted[index].media_ip);
            let Some((port, even, odd)) = pair.and_then(|(e, o)| Some((e.local_addr().ok()?.port(), e, o)))
            else {
                tracing::debug!("no ports for sound are left; {} wanted", count - bound);
                return self.hosted[index].node.refuse_media_ports(count - bound);
            };
            for (port, mut udp) in [(port, even), (port + 1, odd)] {
                let token = self.token(Source::Udp(index, Socket::Media(port)));
                let _ = self.poll.registry().register(&mut udp, token, Interest::READABLE);
                self.hosted[index].udp.insert(Socket::Media(port), (udp, token));
            }
            self.hosted[index].node.offer_media_port(port);
        }
    }

    fn unbind_media(&mut self, index: usize, port: u16) {
        for port in [port, port + 1] {
            self.forget_handshake(index, port);
            if let Some((mut udp, token)) = self.hosted[index].udp.remove(&Socket::Media(port)) {
                let _ = self.poll.registry().deregister(&mut udp);
                self.sources.remove(&token);
            }
        }
    }

    // ---- phones over TCP -----------------------------------------------------------------------

    fn accept(&mut self, index: usize, secure: bool) {
        while let Some((mut socket, remote)) = self.hosted[index].accept(secure) {
            if !self.hosted[index].node.expects_phones_from(remote.ip(), secure) {
                continue;
            }
            let tls = if secure { self.shake_hands(index, remote.ip()) } else { None };
            if secure && tls.is_none() {
                continue;
            }
            if self.hosted[index].streams.len() >= MAX_CONNECTIONS && !self.make_room(index) {
                continue;
            }
            let connection = ConnectionId(self.next_connection);
            self.next_connection += 1;
            let token = self.token(Source::Phone(index, connection));
            let interest = Interest::READABLE | Interest::WRITABLE;
            if self.poll.registry().register(&mut socket, token, interest).is_ok() {
                if secure {
                    self.handshakes.push_back((self.now() + tls::HANDSHAKE_WITHIN, index, connection));
                }
                let stream = Stream { socket, remote, token, backlog: VecDeque::new(), tls };
                self.hosted[index].streams.insert(connection, stream);
            }
        }
    }

    /// Closes the oldest connection over which no phone is registered, so that nobody keeps phones out
    /// by holding connections open.
    fn make_room(&mut self, index: usize) -> bool {
        let hosted = &self.hosted[index];
        let oldest = hosted.streams.keys().find(|c| !hosted.node.has_phone_on(**c)).copied();
        if let Some(connection) = oldest {
            self.close(index, connection);
        }
        oldest.is_some()
    }

    fn read_stream(&mut self, index: usize, connection: ConnectionId, tell: &mut dyn FnMut(usize, Event)) {
        for _ in 0..BURST {
            let hosted = &mut self.hosted[index];
            let Some(stream) = hosted.streams.get_mut(&connection) else { return };
            let remote = stream.remote;
            match stream.socket.read(&mut self.buffer[..STREAM_PIECE]) {
                Ok(len) if len > 0 && stream.tls.is_some() => {
                    if !self.open_sealed(index, connection, len, tell) {
                        self.close(index, connection);
                        return self.drain(index, tell);
                    }
                }
                Ok(len) if len > 0 => {
                    let now = self.now();
                    let bytes = &mut self.buffer[..len];
                    let socket = Socket::SipStream(connection);
                    self.hosted[index].node.handle_datagram(now, socket, remote, bytes);
                    self.drain(index, tell);
                }
                Err(e) if e.kind() == ErrorKind::WouldBlock => return,
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                _ => {
                    self.close(index, connection);
                    return self.drain(index, tell);
                }
            }
        }
        // There may be more: readiness is told only once.
        let Some(stream) = self.hosted[index].streams.get_mut(&connection) else { return };
        let interest = Interest::READABLE | Interest::WRITABLE;
        let _ = self.poll.registry().reregister(&mut stream.socket, stream.token, interest);
    }

    fn flush(&mut self, index: usize, connection: ConnectionId) {
        let Some(stream) = self.hosted[index].streams.get_mut(&connection) else { return };
        while !stream.backlog.is_empty() {
            match stream.socket.write(stream.backlog.as_slices().0) {
                Ok(written) => drop(stream.backlog.drain(..written)),
                Err(e) if e.kind() == ErrorKind::WouldBlock => break,
                Err(_) => return,
            }
        }
        if stream.backlog.len() > MAX_BACKLOG {
            self.close(index, connection);
        }
    }

    /// Closes a connection, whoever wanted it, and tells its node.
    fn close(&mut self, index: usize, connection: ConnectionId) {
        if let Some(mut stream) = self.hosted[index].streams.remove(&connection) {
            // Behind half a record it would be read as its rest.
            let tls = stream.tls.take().filter(|_| stream.backlog.is_empty());
            tls.into_iter().for_each(|tls| tls.say_goodbye(&mut stream.socket));
            let _ = self.poll.registry().deregister(&mut stream.socket);
            self.sources.remove(&stream.token);
            let now = self.now();
            self.hosted[index].node.handle_stream_closed(now, connection);
        }
    }
}

/// An even port and the odd one after it, both free.
fn bind_pair(ip: IpAddr) -> Option<(UdpSocket, UdpSocket)> {
    for _ in 0..100 {
        let first = UdpSocket::bind(SocketAddr::new(ip, 0)).ok()?;
        let port = first.local_addr().ok()?.port();
        let other = UdpSocket::bind(SocketAddr::new(ip, port ^ 1));
        match (other, port % 2) {
            (Ok(odd), 0) => return Some((first, odd)),
            (Ok(even), _) => return Some((even, first)),
            _ => {}
        }
    }
    None
}
