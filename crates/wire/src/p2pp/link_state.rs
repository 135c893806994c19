//! What two peers that are neighbours by agreement, or could be, say to each other: Link-State.

use super::ParseError;
use super::field::{Cursor, Field};

const NEIGHBOR: u8 = 1;
const FRESH: u8 = 2;
const INDEX: u8 = 4;

/// The state of a link, as one of its ends sees it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct LinkState<'a> {
    /// The sender takes the receiver for a neighbour, or wants it as one.
    pub neighbor: bool,
    /// And did not until now.
    pub fresh: bool,
    /// How many neighbours the sender has.
    pub degree: u8,
    /// What the sender takes on, in requests passed on a second.
    pub capacity: u32,
    /// Requests that the receiver may have sent it in all since the link began.
    pub tokens: u32,
    /// Requests that the sender has sent the receiver in all since then.
    pub spent: u32,
    /// A mark of the receiver's index that the sender has; 0 for none.
    pub known: u32,
    /// The sender's index, where the receiver does not know it.
    pub index: Option<Index<'a>>,
}

/// Digests of the keys whose records a peer holds: of each the first four bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Index<'a>(&'a [u8]);

impl<'a> Index<'a> {
    /// Bytes of a digest.
    pub const DIGEST_LEN: usize = 4;

    /// An index as it stands on the wire; `None` if the last digest is cut.
    pub fn new(bytes: &'a [u8]) -> Option<Self> {
        bytes.len().is_multiple_of(Self::DIGEST_LEN).then_some(Index(bytes))
    }

    /// The digests.
    pub fn iter(self) -> impl Iterator<Item = u32> + use<'a> {
        self.0.chunks_exact(Self::DIGEST_LEN).map(|d| u32::from_be_bytes(d.try_into().expect("four bytes")))
    }
}

impl<'a> Field<'a> for LinkState<'a> {
    fn read(cursor: &mut Cursor<'a>) -> Result<Self, ParseError> {
        let [flags, degree] = cursor.array()?;
        let (capacity, tokens) = (cursor.read()?, cursor.read()?);
        let (spent, known) = (cursor.read()?, cursor.read()?);
        let rest = cursor.take_rest();
        let has_index = flags & INDEX != 0;
        if flags & !(NEIGHBOR | FRESH | INDEX) != 0 || !has_index && !rest.is_empty() {
            return Err(cursor.malformed());
        }
        let index = if has_index { Some(Index::new(rest).ok_or(cursor.malformed())?) } else { None };
        let (neighbor, fresh) = (flags & NEIGHBOR != 0, flags & FRESH != 0);
        Ok(LinkState { neighbor, fresh, degree, capacity, tokens, spent, known, index })
    }

    fn write(&self, out: &mut Vec<u8>) {
        let flags = [(self.neighbor, NEIGHBOR), (self.fresh, FRESH), (self.index.is_some(), INDEX)];
        let flags = flags.iter().filter(|(set, _)| *set).fold(0, |all, (_, flag)| all | flag);
        out.extend_from_slice(&[flags, self.degree]);
        for number in [self.capacity, self.tokens, self.spent, self.known] {
            number.write(out);
        }
        out.extend_from_slice(self.index.map_or(&[], |index| index.0));
    }
}
