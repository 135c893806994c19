//! What an overlay agrees on, and what a request wishes: P2P-Options, Request-Options, PLookup,
//! RLookup.

use super::ParseError;
use super::field::{Cursor, Field, clip};
use super::record::Kind;
use crate::identity::PublicKey;
use crate::{HashAlgorithm, Key, ResourceId};

/// The overlay's options (draft: P2P-Options, with the difficulty of admission puzzles added).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct P2pOptions<'a> {
    /// The hash that places peers and resources.
    pub hash: HashAlgorithm,
    /// The overlay algorithm, by the draft's number (Chord 0, Kademlia 2, Bamboo 4, Gia 9, ...).
    pub algorithm: u8,
    /// Base of the algorithm: 2, 4, 8 ... 256; 0 if it has none.
    pub base: u16,
    /// The admission puzzle's difficulty (see [`crate::puzzle`]); 0 switches it off.
    pub difficulty: u8,
    /// Peers that hold a copy of each record.
    pub replicas: u8,
    /// Whether operators may set values on peers from afar (laboratories).
    pub remote_settings: bool,
    /// The overlay's name, UTF-8.
    pub name: &'a str,
}

const REMOTE_SETTINGS: u8 = 1;

/// Bits of the widest base, 256.
const MAX_BASE_BITS: u8 = 8;

impl<'a> Field<'a> for P2pOptions<'a> {
    fn read(cursor: &mut Cursor<'a>) -> Result<Self, ParseError> {
        let [hash, hash_len, algorithm, base_bits, difficulty, replicas, flags, name_len] = cursor.array()?;
        let hash = HashAlgorithm::from_number(hash).ok_or(cursor.malformed())?;
        if usize::from(hash_len) != hash.len() || base_bits > MAX_BASE_BITS {
            return Err(cursor.malformed());
        }
        Ok(P2pOptions {
            hash,
            algorithm,
            base: if base_bits == 0 { 0 } else { 1 << base_bits },
            difficulty,
            replicas,
            remote_settings: flags & REMOTE_SETTINGS != 0,
            name: cursor.read_sized(name_len.into())?,
        })
    }

    fn write(&self, out: &mut Vec<u8>) {
        let name = clip(self.name);
        let base_bits = if self.base < 2 { 0 } else { (self.base.ilog2() as u8).min(MAX_BASE_BITS) };
        out.extend_from_slice(&[
            self.hash as u8,
            self.hash.len() as u8,
            self.algorithm,
            base_bits,
            self.difficulty,
            self.replicas,
            if self.remote_settings { REMOTE_SETTINGS } else { 0 },
            name.len() as u8,
        ]);
        name.write(out);
    }
}

/// Wishes about the answer (draft: Request-Options; the flags keep their order from the left).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct RequestOptions {
    /// P: of several parallel copies, the one that may have side effects.
    pub primary: bool,
    /// R: the routing table is wanted.
    pub routing_table: bool,
    /// N: the neighbour table is wanted.
    pub neighbor_table: bool,
    /// A: as much as fits into one datagram is enough.
    pub partial: bool,
    /// S: this Join goes to an immediate neighbour.
    pub neighbor_join: bool,
    /// L: every hop shall append itself to a route log.
    pub route_log: bool,
    /// C: the receiver shall have another peer write to the sender's address.
    pub call_back: bool,
    /// First entry wanted of a table sent in pieces.
    pub offset: u16,
}

impl Field<'_> for RequestOptions {
    fn read(cursor: &mut Cursor<'_>) -> Result<Self, ParseError> {
        let bits: u32 = cursor.read()?;
        let flag = |n: u32| bits & (1 << n) != 0;
        Ok(RequestOptions {
            primary: flag(31),
            routing_table: flag(30),
            neighbor_table: flag(29),
            // 28 is the draft's E, a separate delivery of tables, which paging replaces.
            partial: flag(27),
            neighbor_join: flag(26),
            route_log: flag(25),
            call_back: flag(24),
            offset: (bits & 0xffff) as u16,
        })
    }

    fn write(&self, out: &mut Vec<u8>) {
        let flags = [
            (self.primary, 31),
            (self.routing_table, 30),
            (self.neighbor_table, 29),
            (self.partial, 27),
            (self.neighbor_join, 26),
            (self.route_log, 25),
            (self.call_back, 24),
        ];
        let bits = flags.iter().filter(|f| f.0).fold(u32::from(self.offset), |bits, f| bits | 1 << f.1);
        bits.write(out);
    }
}

/// What a peer lookup looks for (draft: PLookup).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PLookup {
    /// How many peers are wanted, 1 to 63.
    pub count: u8,
    /// Only the peer with exactly this identity is wanted.
    pub exact: bool,
    /// The key.
    pub key: Key,
}

impl PLookup {
    const EXACT: u8 = 0b10;
    /// The draft's range of two keys, which could be taken for one wider key.
    const RANGE: u8 = 0b01;
}

impl Field<'_> for PLookup {
    fn read(cursor: &mut Cursor<'_>) -> Result<Self, ParseError> {
        let head: u8 = cursor.read()?;
        let (count, exact) = (head >> 2, head & Self::EXACT != 0);
        if count == 0 || head & Self::RANGE != 0 {
            return Err(cursor.malformed());
        }
        Ok(PLookup { count, exact, key: cursor.read()? })
    }

    fn write(&self, out: &mut Vec<u8>) {
        out.push((self.count.clamp(1, 63) << 2) | if self.exact { Self::EXACT } else { 0 });
        self.key.write(out);
    }
}

/// What an object lookup looks for (draft: RLookup).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RLookup {
    /// Where.
    pub resource: ResourceId,
    /// Of which kind.
    pub kind: Kind,
    /// Only records of this owner.
    pub owner: Option<PublicKey>,
}

impl Field<'_> for RLookup {
    fn read(cursor: &mut Cursor<'_>) -> Result<Self, ParseError> {
        let kind = cursor.read()?;
        let len: u8 = cursor.read()?;
        let resource = cursor.read_sized(len.into())?;
        let owner = if cursor.end().is_ok() { None } else { Some(cursor.read()?) };
        Ok(RLookup { resource, kind, owner })
    }

    fn write(&self, out: &mut Vec<u8>) {
        self.kind.write(out);
        out.push(self.resource.key().as_bytes().len() as u8);
        self.resource.write(out);
        if let Some(owner) = self.owner {
            owner.write(out);
        }
    }
}
