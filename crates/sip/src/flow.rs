//! Where a SIP message comes from and goes to.

use std::fmt;
use std::net::SocketAddr;

use wire::{ConnectionId, NodeId};

/// One way to one SIP neighbour.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Flow {
    /// A phone at that address, by UDP.
    Udp(SocketAddr),
    /// A phone at that address, by a connection it opened.
    Stream(ConnectionId, SocketAddr),
    /// A phone at that address, by a connection over TLS that it opened: nobody else reads what is said there.
    Tls(ConnectionId, SocketAddr),
    /// Another peer: SIP inside P2PP Tunnel messages, delivered once or reported lost.
    Peer(NodeId),
    /// A user agent inside this process (echo, the command line's caller), trusted.
    Local(u32),
}

impl Flow {
    /// Whether what is sent arrives, so that nothing is sent twice (RFC 3261 section 17).
    pub fn is_reliable(&self) -> bool {
        !matches!(self, Flow::Udp(_))
    }

    /// Whether a phone is at the other end, which has to prove who it is.
    pub fn is_phone(&self) -> bool {
        self.remote().is_some()
    }

    /// The phone's address; `None` for a peer or a local user agent.
    pub fn remote(&self) -> Option<SocketAddr> {
        match self {
            Flow::Udp(address) | Flow::Stream(_, address) | Flow::Tls(_, address) => Some(*address),
            Flow::Peer(_) | Flow::Local(_) => None,
        }
    }

    /// The connection, if it is one.
    pub fn connection(&self) -> Option<ConnectionId> {
        match self {
            Flow::Stream(connection, _) | Flow::Tls(connection, _) => Some(*connection),
            Flow::Udp(_) | Flow::Peer(_) | Flow::Local(_) => None,
        }
    }

    /// The transport as a Via names it.
    pub fn transport(&self) -> &'static str {
        match self {
            Flow::Udp(_) => "UDP",
            Flow::Tls(..) => "TLS",
            Flow::Stream(..) | Flow::Peer(_) | Flow::Local(_) => "TCP",
        }
    }
}

impl fmt::Display for Flow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Flow::Udp(address) => write!(f, "udp {address}"),
            Flow::Stream(_, address) => write!(f, "tcp {address}"),
            Flow::Tls(_, address) => write!(f, "tls {address}"),
            Flow::Peer(node) => write!(f, "peer {}", node.key().short()),
            Flow::Local(number) => write!(f, "local {number}"),
        }
    }
}
