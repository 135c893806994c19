//! The two sides of a session: which there are, what each faces, and which way its media goes.

use std::net::{IpAddr, SocketAddr};

use crate::endpoint::Endpoint;

/// One side of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Leg {
    /// The first side.
    A,
    /// The second side.
    B,
}

impl Leg {
    /// Both sides.
    pub const BOTH: [Leg; 2] = [Leg::A, Leg::B];

    /// The other side.
    pub fn other(self) -> Leg {
        match self {
            Leg::A => Leg::B,
            Leg::B => Leg::A,
        }
    }
}

/// A leg that faces a phone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PhoneFace {
    /// Our RTP port towards it, even; its RTCP comes to the next one, unless multiplexed.
    pub port: u16,
    /// Whether RTCP shares the RTP port (RFC 5761).
    pub rtcp_mux: bool,
    /// Where its SDP says it listens; `None` until there is one.
    pub announced: Option<SocketAddr>,
    /// Where it listens for RTCP, if its SDP says so (RFC 3605); else the port after RTP.
    pub announced_rtcp: Option<SocketAddr>,
    /// Where its signalling comes from, a hint on where its media will.
    pub signalled_from: Option<IpAddr>,
}

impl PhoneFace {
    /// A phone of which only our port is known.
    pub fn new(port: u16) -> PhoneFace {
        PhoneFace { port, rtcp_mux: false, announced: None, announced_rtcp: None, signalled_from: None }
    }
}

/// A leg that faces another peer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerFace {
    /// Where that peer is at present; `None` until a path is known.
    pub remote: Option<SocketAddr>,
    /// The id under which it wants to receive; `None` until it said so.
    pub send_id: Option<u32>,
    /// The id under which we want to receive. Even, see [`super::new_stream_id`].
    pub receive_id: u32,
    /// Whether nothing may pass before there are keys ([`super::Session::set_keys`]), nor without them.
    pub protected: bool,
}

/// What a leg faces.
#[derive(Debug)]
pub enum Face {
    /// A phone.
    Phone(PhoneFace),
    /// Another peer.
    Peer(PeerFace),
    /// A talker of our own.
    Local(Box<Endpoint>),
}

/// Who sends, as the party at the far end of a leg has it (RFC 8866 section 6.7).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Direction {
    /// The party sends and listens.
    #[default]
    SendRecv,
    /// The party sends and does not listen (it holds the other one).
    SendOnly,
    /// The party listens and does not send (it is held).
    RecvOnly,
    /// Neither.
    Inactive,
}

impl Direction {
    /// Whether the party sends.
    pub fn sends(self) -> bool {
        matches!(self, Direction::SendRecv | Direction::SendOnly)
    }

    /// Whether the party listens.
    pub fn listens(self) -> bool {
        matches!(self, Direction::SendRecv | Direction::RecvOnly)
    }
}
