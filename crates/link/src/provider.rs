//! Links that a provider makes for us: DTLS over UDP and TLS over TCP.
//!
//! Such a provider draws randomness and wants a clock, which nothing in the core has. So the core knows these two
//! traits; whoever drives it brings the provider. A session knows neither addresses nor tables: bytes go in and
//! out, and it says who the other is once that is proven.

use std::fmt::Debug;
use std::net::SocketAddr;

use wire::{PublicKey, Time};

/// What carries the bytes of a session.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Carrier {
    /// Datagrams, which get lost and change places: DTLS. A message is a datagram.
    Datagrams,
    /// A stream: TLS. A message is a piece of what was said, as long as it happens to be.
    Stream,
}

/// Which side of a handshake this is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Role {
    /// Asks for the link.
    Asks,
    /// Is asked.
    Asked,
}

/// What a session gives.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Output {
    /// Bytes for the other side: a datagram, or a piece of the stream.
    Bytes(Vec<u8>),
    /// It stands, and the other side has proven that this is its identity.
    Stands(PublicKey),
    /// What the other side said. Never before it stands.
    Message(Vec<u8>),
    /// It is over, or was never made.
    Over,
}

/// One link as a provider makes it.
pub trait Session: Debug + Send + Sync {
    /// Takes bytes of the other side.
    fn handle(&mut self, now: Time, bytes: &[u8]);

    /// Seals a message; only once it stands.
    fn seal(&mut self, now: Time, message: &[u8]);

    /// The next thing it gives.
    fn poll(&mut self) -> Option<Output>;

    /// When it wants to be woken.
    fn poll_timeout(&self) -> Option<Time>;

    /// Does what is due.
    fn handle_timeout(&mut self, now: Time);
}

/// Makes sessions in the name of one identity.
pub trait Provider: Debug + Send + Sync {
    /// A new session with whoever is at this address. It has bytes to send at once if it asks.
    fn begin(&self, now: Time, carrier: Carrier, role: Role, remote: SocketAddr) -> Box<dyn Session>;
}

/// All that a session had to give.
#[derive(Debug, Default)]
pub(crate) struct Outputs {
    pub(crate) bytes: Vec<Vec<u8>>,
    pub(crate) peer: Option<PublicKey>,
    pub(crate) messages: Vec<Vec<u8>>,
    pub(crate) is_over: bool,
}

impl Outputs {
    pub(crate) fn of(session: &mut dyn Session) -> Self {
        let mut outputs = Outputs::default();
        while let Some(given) = session.poll() {
            match given {
                Output::Bytes(bytes) => outputs.bytes.push(bytes),
                Output::Stands(peer) => outputs.peer = Some(peer),
                Output::Message(message) => outputs.messages.push(message),
                Output::Over => outputs.is_over = true,
            }
        }
        outputs
    }
}
