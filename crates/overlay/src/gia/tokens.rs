//! Flow control: a walk goes only to a neighbour that has granted a token for it.
//!
//! A peer makes as many tokens as it can serve walks, so many a second as its capacity says, and gives
//! each to the neighbour whose turn it is by start-time fair queueing (Goyal, Vin and Cheng, 1996), with
//! the neighbours' capacities as weights. A neighbour that does not spend its tokens gets no further
//! ones and leaves its share to the others. Grants are told as a count since the link began, so that a
//! message lost or repeated neither loses nor doubles a token.

use std::time::Duration;

use wire::Time;

/// Tokens one neighbour may hold at once.
pub(super) const WINDOW: u32 = 16;

/// Tokens that may wait to be given, for a time without neighbours or walks: a full table's worth.
const BURST: f64 = 64.0 * WINDOW as f64;

/// The tokens of one link, in both directions, counted since it began.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Purse {
    /// What the neighbour has granted us.
    allowed: u32,
    /// Walks passed to it.
    pub(super) sent: u32,
    /// What we have granted it.
    pub(super) granted: u32,
    /// Walks that came from it.
    received: u32,
    /// When it was last served, in the virtual time of the queue.
    start: f64,
}

impl Purse {
    /// Walks that may be passed to the neighbour now.
    pub(super) fn left(&self) -> u32 {
        self.allowed.saturating_sub(self.sent)
    }

    /// The neighbour tells how many it has granted us, and how many it has sent. Of those that did not
    /// arrive the tokens are used up too.
    pub(super) fn hear(&mut self, granted: u32, sent: u32) {
        self.allowed = self.allowed.max(granted);
        self.received = self.received.max(sent).min(self.granted);
    }

    /// Passes a walk; `false` if there is no token for it.
    pub(super) fn spend(&mut self) -> bool {
        let may = self.left() > 0;
        self.sent += u32::from(may);
        may
    }

    /// A walk has come from the neighbour; `false` if it had no token for it.
    pub(super) fn receive(&mut self) -> bool {
        let may = self.outstanding() > 0;
        self.received += u32::from(may);
        may
    }

    fn outstanding(&self) -> u32 {
        self.granted - self.received
    }
}

/// Makes tokens and says whose they are.
#[derive(Debug)]
pub(super) struct Mint {
    /// Made and not given yet.
    stock: f64,
    made: Time,
    /// The virtual time of the queue: the start of the token given last.
    clock: f64,
}

impl Mint {
    pub(super) fn new(now: Time) -> Self {
        Mint { stock: BURST, made: now, clock: 0.0 }
    }

    /// Makes what is due at `rate` tokens a second, and gives it to the neighbours, of which each has a
    /// purse and a weight.
    pub(super) fn give<'a>(
        &mut self,
        now: Time,
        rate: f64,
        neighbors: impl Iterator<Item = (&'a mut Purse, u32)>,
    ) {
        let made: Duration = now.since(self.made);
        self.made = self.made.max(now);
        self.stock = (self.stock + made.as_secs_f64() * rate).min(BURST);
        let mut waiting: Vec<(&mut Purse, f64)> = neighbors
            .filter(|(purse, _)| purse.outstanding() < WINDOW)
            .map(|(purse, weight)| (purse, 1.0 / f64::from(weight.max(1))))
            .collect();
        while self.stock >= 1.0 {
            // Who was away begins now, and has no claim on what it left to others.
            let clock = self.clock;
            let start = |purse: &Purse| purse.start.max(clock);
            let Some(next) =
                (0..waiting.len()).min_by(|&a, &b| start(waiting[a].0).total_cmp(&start(waiting[b].0)))
            else {
                return;
            };
            self.stock -= 1.0;
            let (purse, share) = &mut waiting[next];
            self.clock = start(purse);
            purse.start = self.clock + *share;
            purse.granted += 1;
            if purse.outstanding() >= WINDOW {
                waiting.swap_remove(next);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn give(mint: &mut Mint, seconds: u64, rate: f64, purses: &mut [Purse], weights: &[u32]) {
        mint.give(Time::from_secs(seconds), rate, purses.iter_mut().zip(weights.iter().copied()));
    }

    #[test]
    fn nobody_holds_more_than_a_window_and_nobody_sends_more_than_granted() {
        let mut mint = Mint::new(Time::ZERO);
        let mut ours = [Purse::default()];
        let mut theirs = Purse::default();
        let mut passed = 0;
        for s in 0..100 {
            give(&mut mint, s, 1_000.0, &mut ours, &[1]);
            theirs.hear(ours[0].granted, 0);
            while theirs.spend() {
                passed += 1;
                // Every third walk is lost on its way.
                if passed % 3 != 0 {
                    assert!(ours[0].receive(), "walk {passed} came without a token");
                }
            }
            assert!(passed <= ours[0].granted && ours[0].outstanding() <= WINDOW);
            ours[0].hear(0, theirs.sent);
        }
        assert!(passed >= 99 * WINDOW, "tokens of lost walks come back: {passed}");
        assert!(!theirs.spend());
    }

    #[test]
    fn tokens_are_made_as_fast_as_capacity_says() {
        let mut mint = Mint::new(Time::ZERO);
        mint.stock = 0.0;
        let mut purses = [Purse::default(); 8];
        give(&mut mint, 10, 2.0, &mut purses, &[1; 8]);
        assert_eq!(purses.iter().map(|p| p.granted).sum::<u32>(), 20);
    }

    #[test]
    fn scarce_tokens_go_by_the_weights_of_those_who_spend_them() {
        let mut mint = Mint::new(Time::ZERO);
        mint.stock = 0.0;
        let mut purses = [Purse::default(); 3];
        for s in 1..=1_000 {
            give(&mut mint, s, 11.0, &mut purses, &[1, 10, 1_000]);
            // The first two spend all they have, the third nothing.
            while purses[0].receive() {}
            while purses[1].receive() {}
        }
        assert_eq!(purses[2].granted, WINDOW, "who spends nothing gets a window and no more");
        let [modest, busy] = [purses[0].granted, purses[1].granted].map(f64::from);
        assert!((busy / modest - 10.0).abs() < 0.5, "{modest} against {busy}");
    }

    #[test]
    fn who_was_away_claims_nothing_for_that_time() {
        let mut mint = Mint::new(Time::ZERO);
        mint.stock = 0.0;
        let mut purses = [Purse::default(); 2];
        for s in 1..=500 {
            give(&mut mint, s, 2.0, &mut purses[..1], &[1]);
            while purses[0].receive() {}
        }
        let before = purses[0].granted;
        for s in 501..=520 {
            give(&mut mint, s, 2.0, &mut purses, &[1, 1]);
            purses.iter_mut().for_each(|p| while p.receive() {});
        }
        assert!(purses[0].granted - before >= 19, "the newcomer took the other's share");
    }
}
