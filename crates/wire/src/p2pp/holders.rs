//! Who else holds a record, eight bytes for each.
//!
//! Whoever brings a record to a peer says who else has it, so that the new holder offers it to nobody of
//! them. Eight bytes of a Node-ID tell them apart: nobody has to be found by this list, and whoever made
//! an identity that begins like another's, with 2^64 draws, would keep a record from being offered to that one.

/// Bytes that stand for a holder.
pub const HEAD_LEN: usize = 8;

/// The value of a list.
pub fn list(heads: impl Iterator<Item = u64>) -> Vec<u8> {
    heads.flat_map(u64::to_be_bytes).collect()
}

/// The heads in a list; what is left behind the last whole one says nothing.
pub fn heads(list: &[u8]) -> impl Iterator<Item = u64> + '_ {
    list.chunks_exact(HEAD_LEN).map(|head| u64::from_be_bytes(head.try_into().expect("exact chunk")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::HashAlgorithm;

    #[test]
    fn a_list_names_whom_it_was_made_of() {
        let head = |n: u32| HashAlgorithm::Sha256.digest(&n.to_be_bytes()).head();
        let peers = [head(1), head(2), head(3)];
        let mut list = list(peers.into_iter());
        assert_eq!(list.len(), 3 * HEAD_LEN);
        list.push(7);
        assert_eq!(heads(&list).collect::<Vec<_>>(), peers);
    }
}
