//! Keys for the sound of a call, agreed on by the two peers it passes between.
//!
//! Where the overlay's profile protects, each media line of a session description between two peers carries a
//! public key for one use (X25519) as `a=x-openvoip-key`. The envelope that the description travels in is
//! signed by its peer for the other (`tunnel.rs`), so nobody can put in a key of their own, and what the keys
//! agree on becomes one key for each direction (HKDF, RFC 5869) that also depends on who the two peers are:
//! whoever passes off another's key as its own has other keys than both. No message is added, and none of
//! it depends on the way that the sound takes.

use std::collections::VecDeque;

use data_encoding::BASE64_NOPAD;
use hkdf::Hkdf;
use media::srtp::{Cipher, Keyed, MASTER_LEN, Master, Receiver, Sender};
use sha2::Sha256;
use wire::{AgreementKey, NodeId, Profile, Seed};
use zeroize::Zeroizing;

/// The attribute between peers that carries the key for one use of who wrote it.
pub(crate) const KEY_ATTRIBUTE: &str = "x-openvoip-key";

/// The status for a description without a key where there must be one: Security Agreement Required (RFC
/// 3329).
pub(crate) const NO_KEY: u16 = 494;

/// What the sound of an overlay is protected by; `None` in the open.
pub(crate) fn cipher(profile: Profile) -> Option<Cipher> {
    match profile {
        Profile::Open => None,
        Profile::Signed => Some(Cipher::Null),
        Profile::Secure => Some(Cipher::Aes),
    }
}

/// What `calls` says of sound that is protected so.
pub(crate) fn name(cipher: Cipher) -> &'static str {
    match cipher {
        Cipher::Aes => "srtp",
        Cipher::Null => "signed",
    }
}

/// Keys of the other side that are remembered: of the phones that rang there for one call.
const MAX_FORMER: usize = 16;

/// A key for one use.
pub(crate) type PublicHalf = [u8; wire::agreement::LEN];

/// The keys of one media line towards one peer.
pub(crate) struct Keying {
    cipher: Cipher,
    ours: AgreementKey,
    /// Its public half, which takes a while to find.
    public: PublicHalf,
    theirs: Option<PublicHalf>,
    /// What was agreed on with other keys of theirs, and may come back: several phones may ring there, each behind
    /// a key of its own. Begun anew it would number two packets alike under one key.
    former: VecDeque<(PublicHalf, Keyed)>,
}

impl Keying {
    pub(crate) fn new(cipher: Cipher, seed: Seed) -> Self {
        let ours = AgreementKey::ephemeral(seed);
        Keying { cipher, public: ours.public(), ours, theirs: None, former: VecDeque::new() }
    }

    /// What protects the sound, once both have said their keys.
    pub(crate) fn agreed(&self) -> Option<Cipher> {
        self.theirs.map(|_| self.cipher)
    }

    /// Our key for one use.
    pub(crate) fn ours(&self) -> PublicHalf {
        self.public
    }

    /// Theirs, once it was said.
    pub(crate) fn theirs(&self) -> Option<PublicHalf> {
        self.theirs
    }

    /// Our key, as it stands in a description.
    pub(crate) fn offer(&self) -> String {
        BASE64_NOPAD.encode(&self.public)
    }

    /// Takes the key of `peer` from a description. If it is another than before, `turn` puts the keys in that
    /// protect the stream from now on, and gives those that did. The error is the status to refuse it with.
    pub(crate) fn learn(
        &mut self,
        ids: [NodeId; 2],
        attribute: Option<&str>,
        turn: impl FnOnce(Keyed) -> Option<Keyed>,
    ) -> Result<(), u16> {
        let theirs = attribute.and_then(decode).ok_or(NO_KEY)?;
        if self.theirs == Some(theirs) {
            return Ok(());
        }
        let known = self.former.iter().position(|(key, _)| *key == theirs);
        let keyed = match known.and_then(|at| self.former.remove(at)) {
            Some((_, keyed)) => keyed,
            None => self.agree(ids, theirs).ok_or(NO_KEY)?,
        };
        let before = self.theirs.replace(theirs).zip(turn(keyed));
        self.former.extend(before);
        if self.former.len() > MAX_FORMER {
            self.former.pop_front();
        }
        Ok(())
    }

    fn agree(&self, [own, peer]: [NodeId; 2], theirs: PublicHalf) -> Option<Keyed> {
        let keys = Hkdf::<Sha256>::new(None, &*self.ours.agree(&theirs)?);
        let (us, them) = ((own, self.public), (peer, theirs));
        Some(Keyed {
            sender: Sender::new(self.cipher, &master(&keys, self.cipher, us, them)),
            receiver: Receiver::new(self.cipher, &master(&keys, self.cipher, them, us)),
        })
    }
}

/// So many bytes, as they stand in an attribute.
pub(crate) fn decode<const N: usize>(text: &str) -> Option<[u8; N]> {
    BASE64_NOPAD.decode(text.trim().as_bytes()).ok()?.try_into().ok()
}

/// Who is at one end of a stream, and its key for one use.
type End = (NodeId, PublicHalf);

/// The key of what goes from one end to the other.
fn master(keys: &Hkdf<Sha256>, cipher: Cipher, from: End, to: End) -> Master {
    let mut info = format!("OpenVoIP sound 1 {}\0", name(cipher)).into_bytes();
    for (id, key) in [from, to] {
        info.extend_from_slice(id.key().as_bytes());
        info.extend_from_slice(&key);
    }
    let mut master = Zeroizing::new([0; MASTER_LEN]);
    keys.expand(&info, &mut *master).expect("one block of output");
    master
}

#[cfg(test)]
mod tests {
    use super::*;
    use wire::{HashAlgorithm, KeyPair};

    fn id(n: u64) -> NodeId {
        KeyPair::from_seed(Seed::from_number(n)).public().node_id(HashAlgorithm::Sha256)
    }

    fn keying(n: u64) -> Keying {
        Keying::new(Cipher::Aes, Seed::from_number(n))
    }

    /// The keys that a learnt key leads to, if it is a new one.
    fn learn(keying: &mut Keying, [own, peer]: [u64; 2], key: &str) -> Option<Keyed> {
        let mut found = None;
        let turn = |keyed| {
            found = Some(keyed);
            None
        };
        keying.learn([id(own), id(peer)], Some(key), turn).unwrap();
        found
    }

    /// Whether what the first protects is opened by the second.
    fn hears(from: &mut Keyed, to: &mut Keyed, sequence: u16) -> bool {
        let header = wire::rtp::Header { sequence, ..Default::default() };
        let mut packet = header.packet(b"sound");
        let tail = from.sender.protect(&mut packet).unwrap();
        packet.extend_from_slice(&tail);
        to.receiver.open(&mut packet).is_some()
    }

    #[test]
    fn two_peers_agree_on_a_key_for_each_direction() {
        let (mut alice, mut bob) = (keying(1), keying(2));
        let (of_alice, of_bob) = (alice.offer(), bob.offer());
        let mut at_alice = learn(&mut alice, [1, 2], &of_bob).unwrap();
        let mut at_bob = learn(&mut bob, [2, 1], &of_alice).unwrap();
        assert!(hears(&mut at_alice, &mut at_bob, 1) && hears(&mut at_bob, &mut at_alice, 2));
        let mut echo = learn(&mut keying(1), [1, 2], &of_bob).unwrap();
        assert!(!hears(&mut at_alice, &mut echo, 3), "what is sent back is not heard");
        assert_eq!((alice.agreed(), bob.agreed()), (Some(Cipher::Aes), Some(Cipher::Aes)));
    }

    #[test]
    fn who_passes_off_anothers_key_as_its_own_has_other_keys_than_both() {
        let (mut alice, mut bob) = (keying(1), keying(2));
        let (of_alice, of_bob) = (alice.offer(), bob.offer());
        let mallory = 3;
        let mut at_alice = learn(&mut alice, [1, mallory], &of_bob).unwrap();
        let mut at_bob = learn(&mut bob, [2, mallory], &of_alice).unwrap();
        assert!(!hears(&mut at_alice, &mut at_bob, 1));
    }

    #[test]
    fn the_two_ciphers_share_no_key() {
        let (mut aes, mut null) = (keying(1), Keying::new(Cipher::Null, Seed::from_number(2)));
        let (of_aes, of_null) = (aes.offer(), null.offer());
        let mut at_aes = learn(&mut aes, [1, 2], &of_null).unwrap();
        let mut at_null = learn(&mut null, [2, 1], &of_aes).unwrap();
        assert!(!hears(&mut at_aes, &mut at_null, 1) && !hears(&mut at_null, &mut at_aes, 1));
    }

    #[test]
    fn without_a_key_or_with_a_worthless_one_there_is_no_agreement() {
        let zero = BASE64_NOPAD.encode(&[0; 32]);
        for attribute in [None, Some(""), Some("AAAA"), Some("not base64 at all"), Some(&*zero)] {
            let mut keying = keying(1);
            assert_eq!(keying.learn([id(1), id(2)], attribute, |_| None), Err(NO_KEY), "{attribute:?}");
            assert_eq!(keying.agreed(), None);
        }
    }

    #[test]
    fn the_same_key_again_changes_nothing() {
        let mut alice = keying(1);
        let bob = keying(2).offer();
        assert!(learn(&mut alice, [1, 2], &bob).is_some());
        assert!(learn(&mut alice, [1, 2], &bob).is_none());
    }

    #[test]
    fn a_key_that_comes_back_goes_on_counting_where_it_was() {
        let mut alice = keying(1);
        let [first, second] = [2, 3].map(|n| keying(n).offer());
        let mut in_use = None;
        let mut report = [0x80, 201, 0, 1, 0, 0, 0, 5, 1, 2, 3, 4];
        let mut tails = Vec::new();
        for key in [&first, &second, &first, &second] {
            alice.learn([id(1), id(2)], Some(key), |keyed| in_use.replace(keyed)).unwrap();
            let keyed: &mut Keyed = in_use.as_mut().unwrap();
            tails.push((key.clone(), keyed.sender.protect_rtcp(&mut report).unwrap()[..4].to_vec()));
        }
        let number = |n: u8| vec![0x80, 0, 0, n];
        assert_eq!(
            tails.iter().map(|(_, index)| index.clone()).collect::<Vec<_>>(),
            [0, 0, 1, 1].map(number)
        );
    }
}
