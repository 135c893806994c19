//! Links over streams that a provider makes: TLS ([`crate::provider`]).
//!
//! TLS lies below the framing: what it says is datagrams, each behind its length, as in a stream without it. Of two
//! peers that connect to each other at once the system makes one connection, and both say hello; the greater hello is
//! answered, by the other.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use wire::{PublicKey, Time};

use crate::provider::{Carrier, Outputs, Provider, Role, Session};

/// Bytes of a TLS record before its message, and where in a record the random bytes of a hello stand.
const RECORD_HEAD: usize = 5;
const RANDOM: std::ops::Range<usize> = 11..43;

/// A handshake record whose message is a ClientHello begins so, at these places.
const HANDSHAKE: u8 = 22;
const CLIENT_HELLO: u8 = 1;

/// All streams over which a provider speaks, or is about to.
#[derive(Debug)]
pub(crate) struct SealedStreams {
    provider: Option<Arc<dyn Provider>>,
    streams: BTreeMap<SocketAddr, Stream>,
}

#[derive(Debug)]
struct Stream {
    session: Box<dyn Session>,
    /// Whose it is, once it stands.
    peer: Option<PublicKey>,
    /// Our hello, until it is clear that the other side answers it.
    hello: Option<Vec<u8>>,
    /// What came before that was clear.
    begun: Vec<u8>,
    /// Bytes to pass over: a hello that we do not answer.
    skip: usize,
    /// What was opened and is not fetched yet.
    opened: Vec<u8>,
    /// Whether nothing more will be.
    is_over: bool,
}

/// What a piece of a stream led to.
#[derive(Debug, Default)]
pub(crate) struct Led {
    /// Bytes to send.
    pub(crate) bytes: Vec<Vec<u8>>,
    /// Whether it stands since this piece.
    pub(crate) has_stood_up: bool,
}

impl SealedStreams {
    pub(crate) fn new(provider: Option<Arc<dyn Provider>>) -> Self {
        SealedStreams { provider, streams: BTreeMap::new() }
    }

    /// A stream stands: what is to be sent over it first.
    pub(crate) fn open(&mut self, now: Time, remote: SocketAddr, role: Role) -> Vec<Vec<u8>> {
        let Some(provider) = &self.provider else { return Vec::new() };
        let mut session = provider.begin(now, Carrier::Stream, role, remote);
        let bytes = Outputs::of(&mut *session).bytes;
        let hello = (role == Role::Asks).then(|| bytes.concat());
        let (begun, opened) = (Vec::new(), Vec::new());
        let stream = Stream { session, peer: None, hello, begun, skip: 0, opened, is_over: false };
        self.streams.insert(remote, stream);
        bytes
    }

    pub(crate) fn close(&mut self, remote: &SocketAddr) {
        self.streams.remove(remote);
    }

    /// How many stand.
    pub(crate) fn len(&self) -> usize {
        self.streams.values().filter(|stream| stream.peer.is_some()).count()
    }

    /// Whose stream it is, if it stands.
    pub(crate) fn peer(&self, remote: &SocketAddr) -> Option<PublicKey> {
        self.streams.get(remote)?.peer
    }

    /// Whether nothing more will be opened than was.
    pub(crate) fn is_over(&self, remote: &SocketAddr) -> bool {
        self.streams.get(remote).is_some_and(|stream| stream.is_over)
    }

    /// What was opened and is not fetched yet; to be taken from.
    pub(crate) fn opened(&mut self, remote: &SocketAddr) -> Option<&mut Vec<u8>> {
        Some(&mut self.streams.get_mut(remote)?.opened)
    }

    /// Seals what is to be said over the stream of an address.
    pub(crate) fn seal(&mut self, now: Time, remote: &SocketAddr, bytes: &[u8]) -> Option<Vec<u8>> {
        let stream = self.streams.get_mut(remote).filter(|stream| stream.peer.is_some())?;
        stream.session.seal(now, bytes);
        Some(Outputs::of(&mut *stream.session).bytes.concat())
    }

    /// Takes a piece of a stream.
    pub(crate) fn handle(&mut self, now: Time, remote: &SocketAddr, piece: &[u8]) -> Led {
        let Some(stream) = self.streams.get_mut(remote) else { return Led::default() };
        let mut piece = piece.to_vec();
        if stream.hello.is_some() {
            stream.begun.extend_from_slice(&piece);
            let Some(provider) = &self.provider else { return Led::default() };
            if !stream.settle(now, &**provider, *remote) {
                return Led::default();
            }
            piece = std::mem::take(&mut stream.begun);
        }
        let skipped = stream.skip.min(piece.len());
        stream.skip -= skipped;
        if piece.len() > skipped {
            stream.session.handle(now, &piece[skipped..]);
        }
        let outputs = Outputs::of(&mut *stream.session);
        stream.peer = stream.peer.or(outputs.peer);
        outputs.messages.into_iter().for_each(|message| stream.opened.extend(message));
        stream.is_over |= outputs.is_over;
        Led { bytes: outputs.bytes, has_stood_up: outputs.peer.is_some() }
    }
}

impl Stream {
    /// Looks whether what has begun to come answers our hello or is another hello, and then whose turn it is. `false` if
    /// that is not clear yet.
    fn settle(&mut self, now: Time, provider: &dyn Provider, remote: SocketAddr) -> bool {
        let begun = &self.begun;
        let is_hello = begun.first() == Some(&HANDSHAKE)
            && begun.get(RECORD_HEAD).is_none_or(|kind| *kind == CLIENT_HELLO);
        if is_hello {
            let Some(theirs) = begun.get(RANDOM) else { return false };
            let ours = self.hello.as_ref().and_then(|hello| hello.get(RANDOM));
            if ours > Some(theirs) {
                let length = [begun[RECORD_HEAD - 2], begun[RECORD_HEAD - 1]];
                self.skip = RECORD_HEAD + usize::from(u16::from_be_bytes(length));
            } else {
                self.session = provider.begin(now, Carrier::Stream, Role::Asked, remote);
            }
        }
        self.hello = None;
        true
    }
}
