//! Keys into peers: which peers to know, and which of them lead to a key.
//!
//! # The question
//!
//! Every peer and every resource stands somewhere in one identifier space. A peer that wants the
//! resource at a key must find the few peers that hold it, knowing only a few dozen of possibly
//! millions. An overlay algorithm decides *whom to know* so that this always works, and answers
//! two different questions about a key: who is nearer to it, and who holds it. They are kept
//! apart in [`Route`]: [`Route::Toward`] names peers strictly nearer than ourselves,
//! [`Route::Replicas`] names the holders. A peer that could only say "these are nearer" would have
//! no way to point at a holder that stands on the far side of the key, and a search would stall
//! one step before its goal.
//!
//! # The division of labour
//!
//! An [`Overlay`] sends nothing. Its owner, the engine in `node`, tells it what was seen:
//! [`Overlay::handle_peer`] with [`Evidence::Alive`] for a peer that *answered us*, with
//! [`Evidence::Mentioned`] for a peer somebody talked about, [`Overlay::handle_failure`] for one
//! that stayed silent. In return the overlay wishes, through [`Overlay::poll_upkeep`], for pings,
//! table exchanges and lookups. Rumours never enter a table: a mention can at most become a wish
//! to ping, and only an answer makes an entry. That one rule closes the cheapest way of poisoning
//! a table and keeps dead addresses from spreading.
//!
//! A search is a machine of its own, [`Lookup`], written once around the trait: iterative, with
//! `alpha` questions in flight, slow peers overtaken without being given up, and `d` disjoint
//! paths where an answer must not hang on one liar. The other way to search, recursive, needs from
//! the overlay only the next hop: [`next_hop`].
//!
//! # Upkeep under a budget
//!
//! Any traffic proves a peer alive, so a busy overlay maintains itself almost for free. What is
//! left is jittered (a thousand peers started together must not act together), paced (a floor
//! under the gap between two acts, however large the table), tuned to the churn that the peer
//! itself has measured ([`tuning`]), and stretched by [`Overlay::set_pace`] when the engine's byte
//! ledger asks for it.
//!
//! # A new algorithm
//!
//! One file with a type that implements [`Overlay`], a `METRIC` and a `build` function; one line in
//! the list below. The tests in `suite.rs` run on it by themselves.

pub mod attached;
pub mod bamboo;
mod care;
mod cell;
pub mod chord;
pub mod gia;
pub mod kademlia;
pub mod lookup;
pub mod onehop;
pub mod overlay;
pub mod recent;
mod ring;
pub mod size;
pub mod table;
pub mod tuning;

#[cfg(test)]
mod suite;

use wire::{NodeId, Seed, Time};

pub use attached::Attached;
pub use kademlia::Kademlia;
pub use lookup::{Ask, Goal, Lookup, Outcome, next_hop};
pub use overlay::{
    Entry, Evidence, Greeting, MAX_ROUTE, Metric, News, Overlay, Reason, Route, Standing, UnknownAlgorithm,
    Upkeep, Walks,
};
pub use size::Size;
pub use tuning::Churn;

/// Makes, of one line per algorithm, the enum, its construction and its row of tests.
macro_rules! algorithms {
    ($($(#[$doc:meta])* $name:ident = $number:literal in $module:ident),+ $(,)?) => {
        /// An overlay algorithm, numbered as in the P2P-Options of the P2PP draft.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
        #[repr(u8)]
        pub enum Algorithm {
            $($(#[$doc])* $name = $number),+
        }

        impl Algorithm {
            /// Every algorithm this build knows.
            pub const ALL: &'static [Algorithm] = &[$(Algorithm::$name),+];

            /// Its name in configuration and on the command line.
            pub fn name(self) -> &'static str {
                match self {
                    $(Algorithm::$name => stringify!($module)),+
                }
            }

            /// How it measures nearness; what a [`Lookup`] needs to know of it.
            pub fn metric(self) -> Metric {
                match self {
                    $(Algorithm::$name => $module::METRIC),+
                }
            }
        }

        /// A fresh overlay for the peer `local`, knowing nobody yet.
        ///
        /// `base_bits` is how many bits of a key one routing step resolves, where the algorithm
        /// has steps: 1 for base 2, 4 for base 16.
        pub fn build(
            algorithm: Algorithm,
            local: NodeId,
            base_bits: u8,
            seed: Seed,
            now: Time,
        ) -> Box<dyn Overlay> {
            match algorithm {
                $(Algorithm::$name => $module::build(local, base_bits, seed, now)),+
            }
        }

        #[cfg(test)]
        mod every_algorithm {
            $(mod $module {
                crate::suite::takes!(crate::Algorithm::$name);
            })+
        }
    };
}

algorithms! {
    /// A ring of successors and fingers (Stoica et al., 2001).
    Chord = 0 in chord,
    /// A tree of XOR distances (Maymounkov and Mazières, 2002); the default.
    Kademlia = 2 in kademlia,
    /// Leaf sets and prefix tables, kept by periods (Rhea et al., 2004).
    Bamboo = 4 in bamboo,
    /// Neighbours by capacity, and walks among them (Chawathe et al., 2003).
    Gia = 9 in gia,
    /// Everybody knows everybody, for up to about a thousand peers (Gupta et al., 2004).
    OneHop = 128 in onehop,
}
