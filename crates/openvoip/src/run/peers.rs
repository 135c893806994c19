//! Streams between peers: TCP from and to the port that has the number of the peer port over UDP.
//!
//! The node decides which streams there are and when they end; here are their sockets. A stream leaves from the port
//! at which others arrive (`SO_REUSEPORT`), so that the other end knows this peer by one address, and of two peers
//! that connect to each other at once the system makes one connection.

use std::collections::{BTreeMap, VecDeque};
use std::io::{self, ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::time::Duration;

use mio::net::{TcpListener, TcpStream};
use mio::{Interest, Registry, Token};
use node::Event;
use socket2::{Domain, SockRef, Type};
use wire::Socket;

use super::{BURST, STREAM_PIECE, Source, World};

/// Bytes waiting for a slow peer before its stream is closed: what it was sent is of no use any more.
const MAX_BACKLOG: usize = 64 * 1024;

/// Connections that wait to be accepted.
const QUEUE: i32 = 128;

const INTEREST: Interest = Interest::READABLE.add(Interest::WRITABLE);

/// The streams of one peer.
#[derive(Default)]
pub(super) struct Peers {
    listener: Option<(TcpListener, SocketAddr, Token)>,
    streams: BTreeMap<SocketAddr, PeerStream>,
}

struct PeerStream {
    socket: TcpStream,
    token: Token,
    /// Whether it stands.
    is_open: bool,
    backlog: VecDeque<u8>,
}

impl Peers {
    /// Watches none of them any more: they stay open, and silent.
    pub(super) fn freeze(&mut self, registry: &Registry) -> io::Result<()> {
        if let Some((listener, ..)) = &mut self.listener {
            registry.deregister(listener)?;
        }
        self.streams.values_mut().try_for_each(|stream| registry.deregister(&mut stream.socket))
    }
}

/// A socket for streams at this address.
fn bound(address: SocketAddr) -> io::Result<socket2::Socket> {
    let socket = socket2::Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    socket.set_reuse_address(true)?;
    #[cfg(unix)]
    socket.set_reuse_port(true)?;
    socket.bind(&address.into())?;
    Ok(socket)
}

/// What was sent is acknowledged within so long, or the other end is gone: longer than requests last.
#[cfg(target_os = "linux")]
const GONE: Duration = Duration::from_secs(30);

/// A message leaves at once. A stream ends without ado: what it may have lost is repeated, and its addresses are
/// free for another at once.
fn prepare(socket: &TcpStream) -> io::Result<()> {
    let socket = SockRef::from(socket);
    socket.set_tcp_nodelay(true)?;
    #[cfg(target_os = "linux")]
    socket.set_tcp_user_timeout(Some(GONE))?;
    socket.set_linger(Some(Duration::ZERO))
}

fn connect(from: SocketAddr, to: SocketAddr) -> io::Result<TcpStream> {
    let socket = bound(from)?;
    match socket.connect(&to.into()) {
        Err(e) if e.kind() != ErrorKind::WouldBlock && !is_under_way(&e) => return Err(e),
        _ => {}
    }
    let socket = TcpStream::from_std(socket.into());
    prepare(&socket)?;
    Ok(socket)
}

#[cfg(unix)]
fn is_under_way(error: &io::Error) -> bool {
    error.raw_os_error() == Some(nix::libc::EINPROGRESS)
}

#[cfg(not(unix))]
fn is_under_way(_: &io::Error) -> bool {
    false
}

impl World {
    /// Lets other peers connect to a peer at this address.
    pub(super) fn listen_for_peers(&mut self, index: usize, address: SocketAddr) -> io::Result<()> {
        let socket = bound(address)?;
        socket.listen(QUEUE)?;
        let mut listener = TcpListener::from_std(socket.into());
        let token = self.token(Source::PeerListener(index));
        self.poll.registry().register(&mut listener, token, Interest::READABLE)?;
        self.hosted[index].peers.listener = Some((listener, address, token));
        Ok(())
    }

    pub(super) fn accept_peers(&mut self, index: usize, tell: &mut dyn FnMut(usize, Event)) {
        for _ in 0..BURST {
            let Some((listener, _, _)) = &self.hosted[index].peers.listener else { return };
            let (socket, remote) = match listener.accept() {
                Ok(accepted) => accepted,
                // That one is gone; there may be others behind it.
                Err(e) if matches!(e.kind(), ErrorKind::ConnectionAborted | ErrorKind::Interrupted) => {
                    continue;
                }
                Err(_) => return,
            };
            if prepare(&socket).is_ok() && self.watch_peer(index, remote, socket, true) {
                let now = self.now();
                self.hosted[index].node.handle_peer_stream_opened(now, remote);
            }
            // How many there may be is the node's affair: it has another closed at once.
            self.drain(index, tell);
        }
        // There may be more: readiness is told only once.
        let Some((listener, _, token)) = &mut self.hosted[index].peers.listener else { return };
        let _ = self.poll.registry().reregister(listener, *token, Interest::READABLE);
    }

    /// Connects to another peer.
    pub(super) fn open_to_peer(&mut self, index: usize, remote: SocketAddr) {
        let from = self.hosted[index].peers.listener.as_ref().map(|(_, address, _)| *address);
        let connected = from.ok_or(ErrorKind::NotConnected.into()).and_then(|from| connect(from, remote));
        let is_watched = match connected {
            // One that was accepted meanwhile has this address.
            _ if self.hosted[index].peers.streams.contains_key(&remote) => return,
            Ok(socket) => self.watch_peer(index, remote, socket, false),
            Err(e) => {
                tracing::debug!("no stream to {remote}: {e}");
                false
            }
        };
        if !is_watched {
            let now = self.now();
            self.hosted[index].node.handle_peer_stream_closed(now, remote);
        }
    }

    fn watch_peer(&mut self, index: usize, remote: SocketAddr, mut socket: TcpStream, is_open: bool) -> bool {
        let token = self.token(Source::Peer(index, remote));
        if self.poll.registry().register(&mut socket, token, INTEREST).is_err() {
            self.sources.remove(&token);
            return false;
        }
        self.drop_peer(index, remote);
        let stream = PeerStream { socket, token, is_open, backlog: VecDeque::new() };
        self.hosted[index].peers.streams.insert(remote, stream);
        true
    }

    /// A stream to a peer can be read, or written to, or stands now, or failed.
    pub(super) fn serve_peer(
        &mut self,
        index: usize,
        remote: SocketAddr,
        writable: bool,
        tell: &mut dyn FnMut(usize, Event),
    ) {
        let now = self.now();
        let Some(stream) = self.hosted[index].peers.streams.get_mut(&remote) else { return };
        if !stream.is_open {
            match stream.socket.take_error().map(|error| error.map_or_else(|| stream.socket.peer_addr(), Err))
            {
                Ok(Ok(_)) => {
                    stream.is_open = true;
                    self.hosted[index].node.handle_peer_stream_opened(now, remote);
                    self.drain(index, tell);
                }
                Ok(Err(e)) if e.kind() == ErrorKind::NotConnected => return,
                _ => return self.lose_peer(index, remote, tell),
            }
        }
        if writable && !self.flush_peer(index, remote) {
            return self.lose_peer(index, remote, tell);
        }
        self.read_peer(index, remote, tell);
    }

    fn read_peer(&mut self, index: usize, remote: SocketAddr, tell: &mut dyn FnMut(usize, Event)) {
        for _ in 0..BURST {
            let Some(stream) = self.hosted[index].peers.streams.get_mut(&remote) else { return };
            match stream.socket.read(&mut self.buffer[..STREAM_PIECE]) {
                Ok(len) if len > 0 => {
                    let now = self.now();
                    let bytes = &mut self.buffer[..len];
                    self.hosted[index].node.handle_datagram(now, Socket::PeerStream, remote, bytes);
                    self.drain(index, tell);
                }
                Err(e) if e.kind() == ErrorKind::WouldBlock => return,
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                _ => return self.lose_peer(index, remote, tell),
            }
        }
        // There may be more: readiness is told only once.
        let Some(stream) = self.hosted[index].peers.streams.get_mut(&remote) else { return };
        let _ = self.poll.registry().reregister(&mut stream.socket, stream.token, INTEREST);
    }

    /// Sends over a stream.
    pub(super) fn send_to_peer(&mut self, index: usize, remote: SocketAddr, bytes: &[u8]) {
        let Some(stream) = self.hosted[index].peers.streams.get_mut(&remote) else { return };
        stream.backlog.extend(bytes);
        if !self.flush_peer(index, remote) {
            self.drop_peer(index, remote);
            let now = self.now();
            self.hosted[index].node.handle_peer_stream_closed(now, remote);
        }
    }

    /// Writes what waits; `false` if the stream is of no use any more.
    fn flush_peer(&mut self, index: usize, remote: SocketAddr) -> bool {
        let Some(stream) = self.hosted[index].peers.streams.get_mut(&remote) else { return true };
        while !stream.backlog.is_empty() {
            match stream.socket.write(stream.backlog.as_slices().0) {
                Ok(written) => drop(stream.backlog.drain(..written)),
                Err(e) if e.kind() == ErrorKind::WouldBlock => break,
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(_) => return false,
            }
        }
        if stream.backlog.is_empty() {
            stream.backlog = VecDeque::new();
        }
        stream.backlog.len() <= MAX_BACKLOG
    }

    /// A stream ended, and its node is told.
    fn lose_peer(&mut self, index: usize, remote: SocketAddr, tell: &mut dyn FnMut(usize, Event)) {
        self.drop_peer(index, remote);
        let now = self.now();
        self.hosted[index].node.handle_peer_stream_closed(now, remote);
        self.drain(index, tell);
    }

    /// Closes a stream.
    pub(super) fn drop_peer(&mut self, index: usize, remote: SocketAddr) {
        if let Some(mut stream) = self.hosted[index].peers.streams.remove(&remote) {
            let _ = self.poll.registry().deregister(&mut stream.socket);
            self.sources.remove(&stream.token);
        }
    }
}

#[cfg(test)]
mod tests {
    use node::{Config, Identity, Node, Saved};
    use wire::{KeyPair, Seed, UnixTime};

    use super::*;
    use crate::run::Bound;

    /// Two peers without UDP of which each asks the other first.
    fn two() -> World {
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut world = World::new().unwrap();
        let bound = [0, 1].map(|_| Bound::new(any, true, any, true).unwrap());
        let addresses = bound.each_ref().map(|b| (b.peer_address, b.sip_address));
        for (n, bound) in bound.into_iter().enumerate() {
            let ((listen, sip), (other, _)) = (addresses[n], addresses[1 - n]);
            let config = Config { listen, sip, bootstrap: vec![other], udp: false, ..Config::default() };
            let identity =
                Identity { peer: KeyPair::from_seed(Seed::from_number(n as u64)), users: Vec::new() };
            let seed = Seed::from_number(n as u64 + 10);
            let node =
                Node::new(config, identity, Saved::default(), seed, world.now(), UnixTime(1_800_000_000));
            let index = world.add(node, bound).unwrap();
            world.with(index, &mut |_, _| {}, |_, _| {});
        }
        world
    }

    fn streams(world: &World) -> [usize; 2] {
        [0, 1].map(|n| world.node(n).status(world.now()).streams)
    }

    fn turn_until(world: &mut World, what: &str, is_true: impl Fn(&World) -> bool) {
        let end = world.now() + Duration::from_secs(10);
        while !is_true(world) {
            assert!(world.now() < end, "{what}: {:?}", streams(world));
            world.turn(Duration::from_millis(20), &mut |_, _| {}).unwrap();
        }
    }

    #[test]
    fn peers_that_connect_to_each_other_at_once_share_one_stream_and_a_dead_one_is_noticed() {
        let mut world = two();
        turn_until(&mut world, "both have it", |world| streams(world) == [1, 1]);
        turn_until(&mut world, "a link over it", |world| {
            world.node(0).status(world.now()).links == 1 && world.node(1).status(world.now()).links == 1
        });
        let sockets = |world: &World| [0, 1].map(|n| world.hosted[n].peers.streams.len());
        assert_eq!(sockets(&world), [1, 1]);
        world.kill(1);
        turn_until(&mut world, "it is gone", |world| streams(world)[0] == 0);
        assert!(world.hosted[0].peers.streams.values().all(|stream| !stream.is_open));
    }
}
