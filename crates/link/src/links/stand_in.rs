//! Nothing, as long as Noise: for simulated worlds that cannot pay for a hundred thousand handshakes.
//!
//! It tells who is who by their word, and notices a frame of another link by accident, not by design. Only
//! identities whose signatures are stand-ins use it, which only a scenario makes: see [`wire::signatures`].

use wire::{KeyPair, PublicKey};

use super::noise;
use super::suite::{Agreed, Cipher, Initiator, Responder, TAG};

/// Length of the third body, that of Noise.
const THIRD: usize = 2 * TAG + PublicKey::LEN + 1;

#[derive(Debug)]
struct Half(PublicKey);

pub(crate) fn initiate(keys: &KeyPair) -> (Box<dyn Initiator>, Vec<u8>) {
    (Box::new(Half(keys.public())), keys.public().0.to_vec())
}

pub(crate) fn respond(keys: &KeyPair, first: &[u8]) -> Option<(Box<dyn Responder>, Vec<u8>)> {
    first.first_chunk::<{ PublicKey::LEN }>()?;
    Some((Box::new(Half(keys.public())), body(keys.public(), noise::SECOND)))
}

fn body(own: PublicKey, len: usize) -> Vec<u8> {
    let mut body = own.0.to_vec();
    body.resize(len, 0);
    body
}

impl Half {
    fn agreed(&self, body: &[u8]) -> Option<Agreed> {
        let peer = PublicKey(*body.first_chunk()?);
        Some(Agreed { peer, cipher: Box::new(Both { own: self.0, peer }) })
    }
}

impl Initiator for Half {
    fn finish(self: Box<Self>, second: &[u8]) -> Option<(Vec<u8>, Agreed)> {
        Some((body(self.0, THIRD), self.agreed(second)?))
    }
}

impl Responder for Half {
    fn finish(self: Box<Self>, third: &[u8]) -> Option<Agreed> {
        self.agreed(third)
    }
}

#[derive(Debug)]
struct Both {
    own: PublicKey,
    peer: PublicKey,
}

/// Half of who sends, half of who receives, and the counter.
fn tag(from: &PublicKey, to: &PublicKey, counter: u32) -> [u8; TAG] {
    let mut tag = [0; TAG];
    tag[..6].copy_from_slice(&from.0[..6]);
    tag[6..12].copy_from_slice(&to.0[..6]);
    tag[12..].copy_from_slice(&counter.to_be_bytes());
    tag
}

impl Cipher for Both {
    fn seal(&self, _: &[u8; 9], counter: u32, message: &[u8]) -> Vec<u8> {
        [message, &tag(&self.own, &self.peer, counter)].concat()
    }

    fn open(&self, _: &[u8; 9], counter: u32, body: &[u8]) -> Option<Vec<u8>> {
        let (message, theirs) = body.split_last_chunk::<TAG>()?;
        (*theirs == tag(&self.peer, &self.own, counter)).then(|| message.to_vec())
    }
}
