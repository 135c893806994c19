//! What must hold for any bytes: one plain function for every parser, and one for a whole peer.
//!
//! A target takes bytes, hands them to the code under test, and panics if something that must hold
//! does not: what was read and written again reads the same, a bound is kept, time advances. The
//! functions need nothing but stable Rust. `fuzz/` in the root of the repository wraps them for
//! libFuzzer, and `tests/corpus.rs` here replays `fuzz/corpus`, so that every input that ever broke
//! something is tried again by `cargo test`.
//!
//! | file | targets |
//! |---|---|
//! | `between_peers` | `p2pp`, `record`, `link`, `stream`, `stun` |
//! | `secured` | `tls`, `link_certificate`: DTLS, TLS and what is shown in them |
//! | `signalling` | `sip`, `sip_stream`, `sdp`, `crypto`, `fingerprint` |
//! | `sound` | `rtp`, `rtcp`, `media`, `wav`, `tape`, `handshake` |
//! | `peer` | `node`: every socket of a whole peer, and time |
//! | `commands` | `control`: lines of the control protocol |
//! | `invitation` | `document`, `ticket`: what is handed over before joining; `certificate`, `domain`: names that are given or proven |
//!
//! A new parser gets a function here, a line in [`TARGETS`], a wrapper in `fuzz/targets` and a folder
//! in `fuzz/corpus`; the test says which of them is missing.

pub mod between_peers;
pub mod commands;
pub mod invitation;
pub mod peer;
mod script;
pub mod secured;
pub mod seeds;
pub mod signalling;
pub mod sound;

/// A function that must not panic, whatever the bytes.
pub type Target = fn(&[u8]);

/// Every target by its name: that of its wrapper and of its corpus.
pub const TARGETS: &[(&str, Target)] = &[
    ("p2pp", between_peers::p2pp),
    ("record", between_peers::record),
    ("link", between_peers::link),
    ("stream", between_peers::stream),
    ("stun", between_peers::stun),
    ("tls", secured::tls),
    ("link_certificate", secured::link_certificate),
    ("sip", signalling::sip),
    ("sip_stream", signalling::sip_stream),
    ("sdp", signalling::sdp),
    ("crypto", signalling::crypto),
    ("fingerprint", signalling::fingerprint),
    ("rtp", sound::rtp),
    ("rtcp", sound::rtcp),
    ("media", sound::media),
    ("wav", sound::wav),
    ("tape", sound::tape),
    ("handshake", sound::handshake),
    ("node", peer::node),
    ("control", commands::control),
    ("document", invitation::document),
    ("ticket", invitation::ticket),
    ("certificate", invitation::certificate),
    ("domain", invitation::domain),
];
