//! Queues that cost nothing while they are empty.
//!
//! Nearly every queue of a peer is drained after every input and empty in between. What a queue once
//! held it would keep room for, in each of many thousand peers of one process.

use std::collections::VecDeque;

/// Takes the first of `queue`, whose memory is given back with its last.
pub fn pop_front<T>(queue: &mut VecDeque<T>) -> Option<T> {
    let first = queue.pop_front();
    if queue.is_empty() && queue.capacity() > 0 {
        *queue = VecDeque::new();
    }
    first
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_drained_queue_holds_no_memory() {
        let mut queue: VecDeque<u64> = (0..100).collect();
        assert_eq!(std::iter::from_fn(|| pop_front(&mut queue)).count(), 100);
        assert_eq!(queue.capacity(), 0);
    }
}
