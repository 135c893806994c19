//! Datagrams in a stream, each behind two bytes that say how long it is (RFC 4571).

/// Longest datagram that a stream carries: one of P2PP in a frame of a link, and some room.
pub const MAX_FRAME: usize = 1_500;

/// The stream says nothing that this peer understands: no datagram is that long, or none at all.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BadLength;

/// A datagram as it stands in a stream.
///
/// # Panics
/// If it is longer than [`MAX_FRAME`].
pub fn frame(datagram: &[u8]) -> Vec<u8> {
    assert!(datagram.len() <= MAX_FRAME, "a datagram of {} bytes", datagram.len());
    [&(datagram.len() as u16).to_be_bytes()[..], datagram].concat()
}

/// Cuts what comes out of a stream into datagrams. It keeps the one that is not whole yet, and nothing else.
#[derive(Debug, Default)]
pub struct Framer {
    begun: Vec<u8>,
}

impl Framer {
    /// The next whole datagram; what it takes of the `piece` is gone from there. `None`: more must come, and the
    /// piece is empty.
    ///
    /// # Errors
    /// If the length is nothing that a peer sends. There is no way to go on then.
    pub fn next(&mut self, piece: &mut &[u8]) -> Result<Option<Vec<u8>>, BadLength> {
        if !self.fill(2, piece) {
            return Ok(None);
        }
        let length = usize::from(u16::from_be_bytes([self.begun[0], self.begun[1]]));
        if length == 0 || length > MAX_FRAME {
            return Err(BadLength);
        }
        if !self.fill(2 + length, piece) {
            return Ok(None);
        }
        Ok(Some(std::mem::take(&mut self.begun).split_off(2)))
    }

    /// Whether a datagram has begun that is not whole yet.
    pub fn is_within(&self) -> bool {
        !self.begun.is_empty()
    }

    /// Whether as many bytes are there.
    fn fill(&mut self, wanted: usize, piece: &mut &[u8]) -> bool {
        let missing = wanted.saturating_sub(self.begun.len());
        let (taken, rest) = piece.split_at(missing.min(piece.len()));
        // Room for what came, not for what was announced.
        self.begun.extend_from_slice(taken);
        *piece = rest;
        taken.len() == missing
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn all(framer: &mut Framer, mut piece: &[u8]) -> Result<Vec<Vec<u8>>, BadLength> {
        let mut datagrams = Vec::new();
        while let Some(datagram) = framer.next(&mut piece)? {
            datagrams.push(datagram);
        }
        assert!(piece.is_empty());
        Ok(datagrams)
    }

    proptest! {
        #[test]
        fn however_a_stream_is_cut_the_same_datagrams_come_out(
            datagrams in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..=MAX_FRAME), 0..8),
            cuts in prop::collection::vec(1usize..2_000, 1..20),
        ) {
            let stream: Vec<u8> = datagrams.iter().flat_map(|d| frame(d)).collect();
            let (mut framer, mut rest, mut came) = (Framer::default(), &stream[..], Vec::new());
            for cut in cuts.iter().cycle() {
                if rest.is_empty() {
                    break;
                }
                let (piece, after) = rest.split_at((*cut).min(rest.len()));
                came.extend(all(&mut framer, piece).expect("only good lengths"));
                rest = after;
            }
            prop_assert_eq!(came, datagrams);
            prop_assert!(!framer.is_within());
        }

        #[test]
        fn no_bytes_make_it_keep_more_than_one_datagram(bytes in prop::collection::vec(any::<u8>(), 0..5_000)) {
            let mut framer = Framer::default();
            for piece in bytes.chunks(700) {
                let Ok(datagrams) = all(&mut framer, piece) else { break };
                prop_assert!(datagrams.iter().all(|d| (1..=MAX_FRAME).contains(&d.len())));
                prop_assert!(framer.begun.len() < 2 + MAX_FRAME);
            }
        }
    }

    #[test]
    fn a_length_that_nobody_sends_ends_a_stream_before_anything_is_kept() {
        for length in [0u16, MAX_FRAME as u16 + 1, u16::MAX] {
            let mut piece = &[&length.to_be_bytes()[..], &[0; 100]].concat()[..];
            assert_eq!(Framer::default().next(&mut piece), Err(BadLength), "{length}");
        }
    }

    #[test]
    fn a_datagram_announced_takes_no_memory_before_it_comes() {
        let mut framer = Framer::default();
        assert_eq!(framer.next(&mut &(MAX_FRAME as u16).to_be_bytes()[..]), Ok(None));
        assert!(framer.is_within() && framer.begun.capacity() < 64, "{}", framer.begun.capacity());
    }
}
