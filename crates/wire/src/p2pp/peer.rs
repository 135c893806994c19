//! Who peers are and where: Address-Info, Peer-Info, and the tables that list them.

use std::net::SocketAddr;

use smallvec::SmallVec;

use super::ParseError;
use super::field::{Cursor, Field};
use super::object::{
    ADDRESS_INFO, ADMISSION, PEER_ID, PEER_INFO, PUBLIC_KEY, PUZZLE_NONCE, ROUTING_TABLE, UPTIME,
};
use super::tlv::{self, IGNORABLE, MANDATORY, Reader, Tlv};
use crate::identity::PublicKey;
use crate::{Contact, NodeId};

/// Most addresses in one Peer-Info: host and mapped address in two IP versions, two relays.
pub const MAX_ADDRESSES: usize = 6;

/// Most parts of one Peer-Info: the addresses, the five other parts, and a few that a later version
/// may add and this one skips.
const MAX_PARTS: usize = MAX_ADDRESSES + 9;

/// How an address was learnt (ICE terms, RFC 8445 section 5.1.1).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub enum CandidateKind {
    /// An address of the peer's own interface.
    Host = 0,
    /// Seen from outside by a STUN server or another peer.
    ServerReflexive = 1,
    /// Seen during connectivity checks.
    PeerReflexive = 2,
    /// A relay's.
    Relayed = 3,
}

/// Transport of an address.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub enum TransportKind {
    /// UDP.
    Udp = 0,
    /// TCP.
    Tcp = 1,
}

/// One address of a peer (draft: Address-Info).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct AddressInfo {
    /// How it was learnt.
    pub kind: CandidateKind,
    /// Its transport.
    pub transport: TransportKind,
    /// Candidates with one foundation share base and server (RFC 8445 section 5.1.1.3).
    pub foundation: u8,
    /// ICE component, from 1.
    pub component: u8,
    /// ICE priority.
    pub priority: u32,
    /// The address itself.
    pub address: SocketAddr,
}

impl AddressInfo {
    /// A UDP address of a peer's own.
    pub fn host(address: SocketAddr) -> Self {
        AddressInfo {
            kind: CandidateKind::Host,
            transport: TransportKind::Udp,
            foundation: 0,
            component: 1,
            priority: 0,
            address,
        }
    }
}

impl Field<'_> for AddressInfo {
    fn read(cursor: &mut Cursor<'_>) -> Result<Self, ParseError> {
        // The fourth byte is reserved.
        let [kinds, foundation, component, _] = cursor.array()?;
        Ok(AddressInfo {
            kind: match kinds >> 4 {
                0 => CandidateKind::Host,
                1 => CandidateKind::ServerReflexive,
                2 => CandidateKind::PeerReflexive,
                3 => CandidateKind::Relayed,
                _ => return Err(cursor.malformed()),
            },
            transport: match kinds & 0xf {
                0 => TransportKind::Udp,
                1 => TransportKind::Tcp,
                _ => return Err(cursor.malformed()),
            },
            foundation,
            component,
            priority: cursor.read()?,
            address: cursor.read()?,
        })
    }

    fn write(&self, out: &mut Vec<u8>) {
        let kinds = ((self.kind as u8) << 4) | self.transport as u8;
        out.extend_from_slice(&[kinds, self.foundation, self.component, 0]);
        self.priority.write(out);
        self.address.write(out);
    }
}

/// Who a peer is and where (draft: Peer-Info). At least an identity or an address is there.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct PeerInfo<'a> {
    /// Its Node-ID; may be left out where the header has it.
    pub id: Option<NodeId>,
    /// Its addresses, best first; those beyond [`MAX_ADDRESSES`] are not written.
    pub addresses: SmallVec<[AddressInfo; MAX_ADDRESSES]>,
    /// Seconds since it joined.
    pub uptime: Option<u32>,
    /// Its public key.
    pub public_key: Option<PublicKey>,
    /// Its admission puzzle's solution.
    pub puzzle_nonce: Option<u64>,
    /// An authority's admission.
    pub admission: Option<&'a [u8]>,
}

impl PeerInfo<'_> {
    /// As tables and answers list a peer: identity and one address.
    pub fn brief(contact: &Contact) -> Self {
        let mut info = PeerInfo { id: Some(contact.id), ..PeerInfo::default() };
        info.addresses.push(AddressInfo::host(contact.address));
        info
    }

    /// Identity and best UDP address, if both are there.
    pub fn contact(&self) -> Option<Contact> {
        let udp = self.addresses.iter().find(|a| a.transport == TransportKind::Udp)?;
        Some(Contact { id: self.id?, address: udp.address })
    }
}

/// The whole value of a part of a Peer-Info, which may be there once.
fn once<'a, T: Field<'a>>(slot: &mut Option<T>, part: &mut Cursor<'a>) -> Result<(), ParseError> {
    match slot.replace(part.read()?) {
        None => Ok(()),
        Some(_) => Err(ParseError::Malformed(PEER_INFO)),
    }
}

impl<'a> Field<'a> for PeerInfo<'a> {
    fn read(cursor: &mut Cursor<'a>) -> Result<Self, ParseError> {
        let mut info = PeerInfo::default();
        for (count, tlv) in Reader::new(cursor.take_rest()).enumerate() {
            let tlv = tlv?;
            if count == MAX_PARTS {
                return Err(ParseError::TooMany);
            }
            let mut part = Cursor::new(tlv);
            match tlv.number {
                PEER_ID => once(&mut info.id, &mut part)?,
                ADDRESS_INFO if info.addresses.len() == MAX_ADDRESSES => return Err(ParseError::TooMany),
                ADDRESS_INFO => info.addresses.push(part.read()?),
                UPTIME => once(&mut info.uptime, &mut part)?,
                PUBLIC_KEY => once(&mut info.public_key, &mut part)?,
                PUZZLE_NONCE => once(&mut info.puzzle_nonce, &mut part)?,
                ADMISSION => once(&mut info.admission, &mut part)?,
                _ if tlv.ignorable => continue,
                number => return Err(ParseError::UnknownObject(number)),
            }
            part.end()?;
        }
        if info.id.is_none() && info.addresses.is_empty() {
            return Err(ParseError::Malformed(PEER_INFO));
        }
        Ok(info)
    }

    fn write(&self, out: &mut Vec<u8>) {
        fn part<'a>(out: &mut Vec<u8>, number: u8, flags: u8, field: Option<&impl Field<'a>>) {
            if let Some(field) = field {
                tlv::emit(out, number, flags, |o| field.write(o));
            }
        }
        part(out, PEER_ID, MANDATORY, self.id.as_ref());
        for address in self.addresses.iter().take(MAX_ADDRESSES) {
            part(out, ADDRESS_INFO, MANDATORY, Some(address));
        }
        part(out, UPTIME, IGNORABLE, self.uptime.as_ref());
        part(out, PUBLIC_KEY, IGNORABLE, self.public_key.as_ref());
        part(out, PUZZLE_NONCE, IGNORABLE, self.puzzle_nonce.as_ref());
        part(out, ADMISSION, IGNORABLE, self.admission.as_ref());
    }
}

/// First byte of a short entry of a list: this bit tells it from a Peer-Info, whose number is 0.
const SHORT: u8 = 0x80;

/// Bit of a short entry's first byte: its address is an IPv6 one.
const SHORT_IPV6: u8 = 0b100;

/// Lengths of Node-IDs by the two lowest bits of a short entry's first byte.
const ID_LENGTHS: [usize; 3] = [16, 20, 32];

/// A short entry of a list: identity and UDP address without framing. Nothing if the next one is in full.
fn read_short(cursor: &mut Cursor<'_>) -> Result<Option<Contact>, ParseError> {
    let head = cursor.peek().ok_or(cursor.malformed())?;
    if head & SHORT == 0 {
        return Ok(None);
    }
    let head: u8 = cursor.read()?;
    let len = ID_LENGTHS.get(usize::from(head & 0b11)).ok_or(cursor.malformed())?;
    if head & !(SHORT | SHORT_IPV6 | 0b11) != 0 {
        return Err(cursor.malformed());
    }
    let id = cursor.read_sized(*len)?;
    let address = cursor.read_sized(if head & SHORT_IPV6 != 0 { 18 } else { 6 })?;
    Ok(Some(Contact { id, address }))
}

/// An entry of a list in full: a Peer-Info.
fn read_full<'a>(cursor: &mut Cursor<'a>) -> Result<PeerInfo<'a>, ParseError> {
    let tlv = cursor.object()?;
    if tlv.number != PEER_INFO {
        return Err(cursor.malformed());
    }
    PeerInfo::read(&mut Cursor::new(tlv))
}

/// The short entry of a contact: 39 bytes with SHA-256 and IPv4, where the framing of a Peer-Info and its
/// parts would make it 58.
fn write_short(contact: &Contact, out: &mut Vec<u8>) {
    let len = contact.id.key().as_bytes().len();
    let code = ID_LENGTHS.iter().position(|l| *l == len).expect("keys have these lengths") as u8;
    let family = if contact.address.is_ipv6() { SHORT_IPV6 } else { 0 };
    out.push(SHORT | family | code);
    contact.id.write(out);
    contact.address.write(out);
}

/// A list of peers, read lazily from a message or lent for writing.
#[derive(Clone, Copy, Debug)]
pub enum PeerList<'a> {
    /// As it stands in a message, already checked: its number of peers, and their entries.
    Encoded(u8, &'a [u8]),
    /// Contacts to be written as short entries; those beyond 255 are not.
    Contacts(&'a [Contact]),
}

impl<'a> PeerList<'a> {
    /// What is to be read, and what was lent.
    fn parts(&self) -> (Cursor<'a>, &'a [Contact]) {
        let (encoded, contacts): (&'a [u8], &'a [Contact]) = match *self {
            PeerList::Encoded(_, bytes) => (bytes, &[]),
            PeerList::Contacts(contacts) => (&[], contacts),
        };
        (Cursor::new(Tlv { number: ROUTING_TABLE, ignorable: false, value: encoded }), contacts)
    }

    /// The peers.
    pub fn iter(&self) -> impl Iterator<Item = PeerInfo<'a>> + use<'a> {
        let (mut entries, contacts) = self.parts();
        let next = move || match read_short(&mut entries).ok()? {
            Some(contact) => Some(PeerInfo::brief(&contact)),
            None => read_full(&mut entries).ok(),
        };
        std::iter::from_fn(next).chain(contacts.iter().map(PeerInfo::brief))
    }

    /// Identity and address of every peer that has both.
    pub fn contacts(&self) -> impl Iterator<Item = Contact> + use<'a> {
        let (mut entries, contacts) = self.parts();
        let next = move || match read_short(&mut entries).ok()? {
            Some(contact) => Some(Some(contact)),
            None => read_full(&mut entries).ok().map(|info| info.contact()),
        };
        std::iter::from_fn(next).flatten().chain(contacts.iter().copied())
    }
}

impl<'a> Field<'a> for PeerList<'a> {
    fn read(cursor: &mut Cursor<'a>) -> Result<Self, ParseError> {
        let count: u8 = cursor.read()?;
        let peers = cursor.take_rest();
        let mut entries = Cursor::new(Tlv { number: cursor.number, ignorable: false, value: peers });
        for _ in 0..count {
            if read_short(&mut entries)?.is_none() {
                read_full(&mut entries)?;
            }
        }
        entries.end()?;
        Ok(PeerList::Encoded(count, peers))
    }

    fn write(&self, out: &mut Vec<u8>) {
        match self {
            PeerList::Encoded(count, bytes) => {
                out.push(*count);
                out.extend_from_slice(bytes);
            }
            PeerList::Contacts(contacts) => {
                let contacts = &contacts[..contacts.len().min(255)];
                out.push(contacts.len() as u8);
                contacts.iter().for_each(|contact| write_short(contact, out));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::HashAlgorithm;

    fn contact(name: &str, address: &str) -> Contact {
        let address = address.parse().expect("an address");
        Contact { id: NodeId(HashAlgorithm::Sha256.digest(name.as_bytes())), address }
    }

    fn read(value: &[u8]) -> Result<Vec<Contact>, ParseError> {
        let tlv = Tlv { number: ROUTING_TABLE, ignorable: false, value };
        PeerList::read(&mut Cursor::new(tlv)).map(|list| list.contacts().collect())
    }

    #[test]
    fn a_list_may_mix_short_entries_and_peer_infos() {
        let [short, full] = [contact("a", "192.0.2.1:7080"), contact("b", "[2001:db8::1]:7081")];
        let mut value = vec![2];
        write_short(&short, &mut value);
        assert_eq!(value.len(), 1 + 39);
        tlv::emit(&mut value, PEER_INFO, MANDATORY, |out| PeerInfo::brief(&full).write(out));
        assert_eq!(read(&value), Ok(vec![short, full]));
    }

    #[test]
    fn a_broken_short_entry_is_malformed() {
        let mut value = vec![1];
        write_short(&contact("a", "192.0.2.1:7080"), &mut value);
        for (at, byte) in [(1, 0x83), (1, 0xC2), (1, 0x86), (0, 2), (0, 0)] {
            let mut broken = value.clone();
            broken[at] = byte;
            assert_eq!(read(&broken), Err(ParseError::Malformed(ROUTING_TABLE)), "{byte:#x} at {at}");
        }
        assert!(read(&value[..value.len() - 1]).is_err());
    }
}
