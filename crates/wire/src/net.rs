//! What goes in and out of a peer, and how a peer is pointed at.

use std::net::SocketAddr;

use crate::NodeId;

/// Where to find a peer: who it is and one address at which it answers.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Contact {
    /// Its identity in the overlay.
    pub id: NodeId,
    /// The address at which it was last heard, or which it announced.
    pub address: SocketAddr,
}

/// A connection of a stream transport, numbered by the world that owns its socket.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ConnectionId(pub u64);

/// One of the sockets of a peer.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Socket {
    /// The one port towards other peers: P2PP, STUN, media between peers.
    Peer,
    /// A stream from and to the TCP port of the same number; there is one for each remote address.
    PeerStream,
    /// The UDP port at which phones register.
    Sip,
    /// A phone's connection to the TCP port at which phones register.
    SipStream(ConnectionId),
    /// A phone's connection over TLS; what passes here is what was said inside it.
    SipTls(ConnectionId),
    /// The UDP port with this number, towards a phone's media (RTP on even, RTCP on odd numbers).
    Media(u16),
}

/// Bytes that arrived.
#[derive(Clone, Copy, Debug)]
pub struct Datagram<'a> {
    /// The socket they arrived on.
    pub socket: Socket,
    /// Who sent them.
    pub remote: SocketAddr,
    /// The bytes: one datagram, or a piece of a stream.
    pub bytes: &'a [u8],
}

/// Bytes to be sent.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Transmit {
    /// The socket to send from.
    pub socket: Socket,
    /// Who shall get them.
    pub remote: SocketAddr,
    /// One datagram, or a piece of a stream.
    pub bytes: Vec<u8>,
}
