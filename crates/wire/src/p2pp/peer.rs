//! Who peers are and where: Address-Info, Peer-Info, and the tables that list them.

use std::net::SocketAddr;

use smallvec::SmallVec;

use super::ParseError;
use super::field::{Cursor, Field};
use super::object::{ADDRESS_INFO, ADMISSION, PEER_ID, PEER_INFO, PUBLIC_KEY, PUZZLE_NONCE, UPTIME};
use super::tlv::{self, IGNORABLE, MANDATORY, Reader};
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
    /// The short form that tables and answers list: identity and one address.
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

/// A list of peers, read lazily from a message or lent for writing.
#[derive(Clone, Copy, Debug)]
pub enum PeerList<'a> {
    /// As it stands in a message, already checked.
    Encoded(&'a [u8]),
    /// Contacts to be written in the short form; those beyond 255 are not.
    Contacts(&'a [Contact]),
}

impl<'a> PeerList<'a> {
    /// The peers.
    pub fn iter(&self) -> impl Iterator<Item = PeerInfo<'a>> + use<'a> {
        let (encoded, contacts): (&'a [u8], &'a [Contact]) = match *self {
            PeerList::Encoded(bytes) => (bytes, &[]),
            PeerList::Contacts(contacts) => (&[], contacts),
        };
        Reader::new(encoded)
            .filter_map(|tlv| PeerInfo::read(&mut Cursor::new(tlv.ok()?)).ok())
            .chain(contacts.iter().map(PeerInfo::brief))
    }

    /// Identity and address of every peer that has both.
    pub fn contacts(&self) -> impl Iterator<Item = Contact> + use<'a> {
        self.iter().filter_map(|info| info.contact())
    }
}

impl<'a> Field<'a> for PeerList<'a> {
    fn read(cursor: &mut Cursor<'a>) -> Result<Self, ParseError> {
        let count: u8 = cursor.read()?;
        let peers = cursor.take_rest();
        let mut seen = 0usize;
        for tlv in Reader::new(peers) {
            let tlv = tlv?;
            if tlv.number != PEER_INFO || seen == usize::from(count) {
                return Err(cursor.malformed());
            }
            PeerInfo::read(&mut Cursor::new(tlv))?;
            seen += 1;
        }
        if seen != usize::from(count) {
            return Err(cursor.malformed());
        }
        Ok(PeerList::Encoded(peers))
    }

    fn write(&self, out: &mut Vec<u8>) {
        match self {
            PeerList::Encoded(bytes) => {
                let count = Reader::new(bytes).count();
                out.push(u8::try_from(count).expect("counted when it was read"));
                out.extend_from_slice(bytes);
            }
            PeerList::Contacts(contacts) => {
                let contacts = &contacts[..contacts.len().min(255)];
                out.push(contacts.len() as u8);
                for contact in contacts {
                    tlv::emit(out, PEER_INFO, MANDATORY, |o| PeerInfo::brief(contact).write(o));
                }
            }
        }
    }
}
