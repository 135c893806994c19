//! Noise XX with X25519, ChaCha20-Poly1305 and BLAKE2s (The Noise Protocol Framework, revision 34).
//!
//! The static keys are the identity keys in their agreement form; one byte beside each, encrypted like it,
//! holds the sign that gives the identity back. Both identities are hidden from all who only listen, that
//! of who is asked not from who asks.

use snow::params::NoiseParams;
use snow::{Builder, HandshakeState, StatelessTransportState};
use wire::{KeyPair, PublicKey, Seed};

use crate::resolver::Seeded;

use super::suite::{Agreed, Cipher, Initiator, Responder, TAG};

const PATTERN: &str = "Noise_XX_25519_ChaChaPoly_BLAKE2s";

/// Mixed into all keys, so that no other use of the same pattern is mistaken for this.
const PROLOGUE: &[u8] = b"OpenVoIP link 1";

/// The second body: an ephemeral key, a static key and its tag, and a sign and its tag.
pub(crate) const SECOND: usize = 32 + (32 + TAG) + (1 + TAG);

/// One half of a handshake.
#[derive(Debug)]
struct Half {
    state: HandshakeState,
    /// The sign of the own identity key.
    sign: u8,
}

impl Half {
    fn new(keys: &KeyPair, seed: Seed, asks: bool) -> Half {
        let params: NoiseParams = PATTERN.parse().expect("a pattern that snow knows");
        let agreement = keys.agreement();
        let builder = Builder::with_resolver(params, Box::new(Seeded(seed)))
            .local_private_key(agreement.secret())
            .and_then(|builder| builder.prologue(PROLOGUE));
        let state = builder.and_then(|b| if asks { b.build_initiator() } else { b.build_responder() });
        Half { state: state.expect("all that XX needs is there"), sign: keys.public().sign() }
    }

    fn write(&mut self, payload: &[u8]) -> Vec<u8> {
        let mut body = vec![0; SECOND + TAG];
        let written = self.state.write_message(payload, &mut body).expect("there is room");
        body.truncate(written);
        body
    }

    /// Who sent a body that ends with its static key and sign.
    fn read_identity(&mut self, body: &[u8]) -> Option<PublicKey> {
        let mut sign = [0; SECOND];
        let len = self.state.read_message(body, &mut sign).ok()?;
        let key = self.state.get_remote_static()?.try_into().ok()?;
        match sign[..len] {
            [sign @ 0..=1] => PublicKey::of_agreement_key(&key, sign),
            _ => None,
        }
    }

    fn agreed(self, peer: PublicKey) -> Option<Agreed> {
        let keys = self.state.into_stateless_transport_mode().ok()?;
        Some(Agreed { peer, cipher: Box::new(Keys(keys)) })
    }
}

pub(crate) fn initiate(keys: &KeyPair, seed: Seed) -> (Box<dyn Initiator>, Vec<u8>) {
    let mut half = Half::new(keys, seed, true);
    let first = half.write(&[]);
    (Box::new(half), first)
}

pub(crate) fn respond(keys: &KeyPair, seed: Seed, first: &[u8]) -> Option<(Box<dyn Responder>, Vec<u8>)> {
    let mut half = Half::new(keys, seed, false);
    half.state.read_message(first.get(..32)?, &mut []).ok()?;
    let second = half.write(&[half.sign]);
    Some((Box::new(half), second))
}

impl Initiator for Half {
    fn finish(mut self: Box<Self>, second: &[u8]) -> Option<(Vec<u8>, Agreed)> {
        let peer = self.read_identity(second)?;
        let third = self.write(&[self.sign]);
        Some((third, self.agreed(peer)?))
    }
}

impl Responder for Half {
    fn finish(mut self: Box<Self>, third: &[u8]) -> Option<Agreed> {
        let peer = self.read_identity(third)?;
        self.agreed(peer)
    }
}

/// The keys of both directions. The head needs no seal of its own: its index chose these keys, and its
/// counter is the nonce.
#[derive(Debug)]
struct Keys(StatelessTransportState);

impl Cipher for Keys {
    fn seal(&self, _: &[u8; 9], counter: u32, message: &[u8]) -> Vec<u8> {
        let mut body = vec![0; message.len() + TAG];
        let written = self.0.write_message(counter.into(), message, &mut body);
        body.truncate(written.expect("a datagram is shorter than a Noise message may be"));
        body
    }

    fn open(&self, _: &[u8; 9], counter: u32, body: &[u8]) -> Option<Vec<u8>> {
        let mut message = vec![0; body.len()];
        let read = self.0.read_message(counter.into(), body, &mut message).ok()?;
        message.truncate(read);
        Some(message)
    }
}
