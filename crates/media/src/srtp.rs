//! Sound that nobody on the way can change, or hear (SRTP, RFC 3711): between two peers, and between a phone and its peer.
//!
//! The transforms are those of RFC 3711: HMAC-SHA1 cut to 80 bits, or 32 where a phone asks for it, with AES-128 in counter mode
//! ([`Cipher::Aes`]) or with none ([`Cipher::Null`]), so that whoever listens to a radio can still read
//! what is said. Packets are changed where they lie; the tag is handed out beside them as a [`Tail`].
//!
//! A [`Sender`] here stands between a phone and the network and does not choose the sequence numbers: they
//! may repeat, and change places, also where the number wraps. So it estimates the index as a receiver
//! does, and refuses one that it has used: two packets under one index would tell each other's content.
//!
//! One counter numbers the RTCP of both SSRCs that a peer uses towards another, and the two sides of a call
//! have different keys. A receiver counts each SSRC by itself, since a phone may change its own.

use std::ops::Deref;

use aes::Aes128;
use aes::cipher::{InnerIvInit, KeyInit, KeyIvInit, StreamCipher};
use ctr::{Ctr128BE, CtrCore};
use hmac::{Hmac, Mac};
use sha1::Sha1;
use wire::Window;
use wire::rtp;
use zeroize::Zeroizing;

/// Bytes of a tag: 80 bits (RFC 3711, section 5.2).
pub const TAG_LEN: usize = 10;
/// Bytes of the short tag that a phone may ask for: 32 bits, on RTP only (RFC 4568, section 6.2.2).
const SHORT_TAG_LEN: usize = 4;

/// Sources of one receiver that are told apart, each with its own numbers: a phone takes another SSRC when it
/// holds a call, or plays music. Beyond that the one heard longest ago is forgotten.
const MAX_SOURCES: usize = 4;

/// Bytes of a master key and its salt (RFC 3711, section 8.2).
pub const MASTER_LEN: usize = KEY_LEN + SALT_LEN;

const KEY_LEN: usize = 16;
const SALT_LEN: usize = 14;
/// Bytes of the key of the tag.
const AUTH_LEN: usize = 20;

/// The number of an RTCP packet, and whether it is encrypted, behind it.
const INDEX_LEN: usize = 4;
/// The bit that says that RTCP is encrypted.
const ENCRYPTED: u32 = 1 << 31;
/// Bytes of RTCP that stay readable: its first header, and who sends it.
const RTCP_HEADER_LEN: usize = 8;

/// Indices that one key may number: 48 bits, RTCP 31 (RFC 3711, section 9.2).
const INDICES: u64 = 1 << 48;

/// What is done to the payload; the tag is always there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cipher {
    /// Encrypted by AES-128 in counter mode.
    Aes,
    /// Left readable.
    Null,
}

/// A key for one direction of one stream, and its salt.
pub type Master = Zeroizing<[u8; MASTER_LEN]>;

/// What goes behind a packet that was protected where it lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Tail {
    bytes: [u8; INDEX_LEN + TAG_LEN],
    len: u8,
}

impl Tail {
    /// No tail is longer.
    pub const MAX: usize = INDEX_LEN + TAG_LEN;

    fn push(&mut self, bytes: &[u8]) {
        let start = usize::from(self.len);
        self.bytes[start..start + bytes.len()].copy_from_slice(bytes);
        self.len += bytes.len() as u8;
    }
}

impl Deref for Tail {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }
}

/// The keys of RTP, or those of RTCP.
struct Keys {
    aes: Option<Aes128>,
    salt: [u8; SALT_LEN],
    mac: Hmac<Sha1>,
}

impl Keys {
    /// Derives three keys with the labels from `label` on (RFC 3711, section 4.3.1).
    fn derive(cipher: Cipher, master: &Master, label: u8) -> Keys {
        let derived = |label: u8, out: &mut [u8]| {
            let (key, salt) = master.split_at(KEY_LEN);
            let mut iv = [0; 16];
            iv[..SALT_LEN].copy_from_slice(salt);
            iv[7] ^= label;
            Ctr128BE::<Aes128>::new_from_slices(key, &iv).expect("of that length").apply_keystream(out);
        };
        let mut key = Zeroizing::new([0; KEY_LEN]);
        let mut auth = Zeroizing::new([0; AUTH_LEN]);
        let mut salt = [0; SALT_LEN];
        derived(label, &mut *key);
        derived(label + 1, &mut *auth);
        derived(label + 2, &mut salt);
        let aes = (cipher == Cipher::Aes).then(|| Aes128::new_from_slice(&*key).expect("of that length"));
        Keys { aes, salt, mac: Hmac::new_from_slice(&*auth).expect("any length") }
    }

    /// Encrypts or decrypts what has this index (RFC 3711, section 4.1.1).
    fn crypt(&self, ssrc: u32, index: u64, payload: &mut [u8]) {
        let Some(aes) = &self.aes else { return };
        let mut iv = [0; 16];
        iv[..SALT_LEN].copy_from_slice(&self.salt);
        let number = u128::from(ssrc) << 64 | u128::from(index) << 16;
        let iv = u128::from_be_bytes(iv) ^ number;
        let core = CtrCore::inner_iv_init(aes.clone(), &iv.to_be_bytes().into());
        Ctr128BE::from_core(core).apply_keystream(payload);
    }

    /// The tag of a packet and a number that stands for its place in the stream.
    fn tag(&self, packet: &[u8], number: u32) -> Hmac<Sha1> {
        self.mac.clone().chain_update(packet).chain_update(number.to_be_bytes())
    }
}

/// The index that a sequence number stands for: the nearest to the highest seen (RFC 3711, section 3.3.1);
/// `None` if it was used, or is none.
fn index_of(sequence: u16, seen: &Window) -> Option<u64> {
    let index = match seen.highest() {
        None => u64::from(sequence),
        Some(highest) => {
            let ahead = sequence.wrapping_sub(highest as u16) as i16;
            highest.checked_add_signed(i64::from(ahead))?
        }
    };
    (index < INDICES && seen.is_new(index)).then_some(index)
}

/// Both kinds of keys of one direction.
struct Context {
    rtp: Keys,
    rtcp: Keys,
    /// Bytes of the tags of RTP.
    tag_len: usize,
}

impl Context {
    fn new(cipher: Cipher, master: &Master) -> Context {
        let [rtp, rtcp] = [0, 3].map(|label| Keys::derive(cipher, master, label));
        Context { rtp, rtcp, tag_len: TAG_LEN }
    }
}

/// What of an RTP packet the transform needs.
struct Numbers {
    ssrc: u32,
    sequence: u16,
    /// Where the payload begins.
    payload: usize,
}

impl Numbers {
    fn of(packet: &[u8]) -> Option<Numbers> {
        let payload = rtp::header_len(packet).ok()?;
        let sequence = u16::from_be_bytes([packet[2], packet[3]]);
        let ssrc = u32::from_be_bytes([packet[8], packet[9], packet[10], packet[11]]);
        Some(Numbers { ssrc, sequence, payload })
    }
}

fn rollover(index: u64) -> u32 {
    (index >> 16) as u32
}

/// Protects what goes to the other side, under one SSRC.
pub struct Sender {
    context: Context,
    seen: Window,
    next_rtcp: u32,
}

impl Sender {
    /// A sender with this key, which nothing was sent under.
    pub fn new(cipher: Cipher, master: &Master) -> Sender {
        Sender { context: Context::new(cipher, master), seen: Window::default(), next_rtcp: 0 }
    }

    /// The same with short tags.
    pub fn with_short_tags(mut self) -> Sender {
        self.context.tag_len = SHORT_TAG_LEN;
        self
    }

    /// Protects an RTP packet where it lies, and gives what goes behind it. `None` for what is no RTP, and for a
    /// number that was used already: then the packet must not be sent.
    pub fn protect(&mut self, packet: &mut [u8]) -> Option<Tail> {
        let numbers = Numbers::of(packet)?;
        let index = index_of(numbers.sequence, &self.seen)?;
        self.seen.note(index);
        let keys = &self.context.rtp;
        keys.crypt(numbers.ssrc, index, &mut packet[numbers.payload..]);
        let mut tail = Tail::default();
        tail.push(&keys.tag(packet, rollover(index)).finalize().into_bytes()[..self.context.tag_len]);
        Some(tail)
    }

    /// Protects an RTCP compound where it lies, and gives what goes behind it.
    pub fn protect_rtcp(&mut self, packet: &mut [u8]) -> Option<Tail> {
        let ssrc = rtp::sender_ssrc(packet)?;
        let index = self.next_rtcp;
        if index >= ENCRYPTED {
            return None;
        }
        self.next_rtcp += 1;
        let keys = &self.context.rtcp;
        keys.crypt(ssrc, u64::from(index), packet.get_mut(RTCP_HEADER_LEN..)?);
        let number = if keys.aes.is_some() { index | ENCRYPTED } else { index };
        let mut tail = Tail::default();
        tail.push(&number.to_be_bytes());
        tail.push(&keys.tag(packet, number).finalize().into_bytes()[..TAG_LEN]);
        Some(tail)
    }
}

/// What was heard of one source.
#[derive(Clone, Copy)]
struct Heard {
    ssrc: u32,
    rtp: Window,
    rtcp: Window,
}

/// Opens what comes from the other side.
pub struct Receiver {
    context: Context,
    /// The latest first.
    heard: [Option<Heard>; MAX_SOURCES],
}

impl Receiver {
    /// A receiver with this key, which nothing was heard under.
    pub fn new(cipher: Cipher, master: &Master) -> Receiver {
        Receiver { context: Context::new(cipher, master), heard: [None; MAX_SOURCES] }
    }

    /// The same with short tags.
    pub fn with_short_tags(mut self) -> Receiver {
        self.context.tag_len = SHORT_TAG_LEN;
        self
    }

    /// What was heard of a source, which may be nothing yet.
    fn heard_of(&self, ssrc: u32) -> Heard {
        let known = self.heard.iter().flatten().find(|heard| heard.ssrc == ssrc);
        known.copied().unwrap_or(Heard { ssrc, rtp: Window::default(), rtcp: Window::default() })
    }

    /// Notes what proved genuine.
    fn note(&mut self, heard: Heard) {
        let known = self.heard.iter().position(|h| h.is_some_and(|h| h.ssrc == heard.ssrc));
        let place = known.unwrap_or(MAX_SOURCES - 1);
        self.heard[..=place].rotate_right(1);
        self.heard[0] = Some(heard);
    }

    /// Opens an RTP packet where it lies, and says how much of it is left; `None` for what is not genuine, or was
    /// heard already, which changes nothing.
    pub fn open(&mut self, packet: &mut [u8]) -> Option<usize> {
        let len = packet.len().checked_sub(self.context.tag_len)?;
        let (packet, tag) = packet.split_at_mut(len);
        let numbers = Numbers::of(packet)?;
        let mut heard = self.heard_of(numbers.ssrc);
        let index = index_of(numbers.sequence, &heard.rtp)?;
        let keys = &self.context.rtp;
        keys.tag(packet, rollover(index)).verify_truncated_left(tag).ok()?;
        keys.crypt(numbers.ssrc, index, &mut packet[numbers.payload..]);
        heard.rtp.note(index);
        self.note(heard);
        Some(len)
    }

    /// Opens an RTCP compound where it lies, and says how much of it is left; `None` for what is not genuine, or
    /// was heard already.
    pub fn open_rtcp(&mut self, packet: &mut [u8]) -> Option<usize> {
        let len = packet.len().checked_sub(INDEX_LEN + TAG_LEN)?;
        let (packet, tail) = packet.split_at_mut(len);
        let (number, tag) = tail.split_first_chunk::<INDEX_LEN>()?;
        let number = u32::from_be_bytes(*number);
        let ssrc = rtp::sender_ssrc(packet)?;
        let keys = &self.context.rtcp;
        let index = u64::from(number & !ENCRYPTED);
        let as_agreed = (number & ENCRYPTED != 0) == keys.aes.is_some();
        let mut heard = self.heard_of(ssrc);
        if !as_agreed || !heard.rtcp.is_new(index) {
            return None;
        }
        keys.tag(packet, number).verify_truncated_left(tag).ok()?;
        keys.crypt(ssrc, index, packet.get_mut(RTCP_HEADER_LEN..)?);
        heard.rtcp.note(index);
        self.note(heard);
        Some(len)
    }
}

/// The keys of a stream, both ways.
#[derive(Debug)]
pub struct Keyed {
    /// For what we send.
    pub sender: Sender,
    /// For what we hear.
    pub receiver: Receiver,
}

impl std::fmt::Debug for Sender {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Sender(..)")
    }
}

impl std::fmt::Debug for Receiver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Receiver(..)")
    }
}

#[cfg(test)]
mod tests;
