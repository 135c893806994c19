//! Calls into sound: media carried, measured, made and heard.
//!
//! | module | holds |
//! |---|---|
//! | [`session`] | two legs of one m-line joined: phone, other peer, or a built-in talker |
//! | [`latch`] | where a phone's media really comes from, and who may not take its place |
//! | [`reception`] | sequence numbers, loss and jitter as RFC 3550 counts them |
//! | [`srtp`] | sound between peers that nobody on the way can change, or hear (RFC 3711) |
//! | [`report`] | RTCP between peers: round-trip time, and how the far side hears us |
//! | [`mos`] | one number for how it sounds: the E-model |
//! | [`payload`] | what payload types mean, as far as a peer must know |
//! | [`endpoint`] | a talker without a phone: plays, echoes, records, dials digits |
//! | [`g711`], [`dtmf`], [`tone`], [`voice`], [`tape`], [`wav`] | what it plays and hears with |
//!
//! A session does not understand what it carries: any codec, video, text and DTMF pass untouched.
//! Nothing here does IO; a driver moves datagrams and says what time it is.

pub mod dtmf;
pub mod endpoint;
pub mod g711;
pub mod latch;
pub mod mos;
pub mod payload;
pub mod reception;
pub mod report;
pub mod session;
pub mod srtp;
pub mod tape;
pub mod tone;
pub mod voice;
pub mod wav;

pub use endpoint::{Endpoint, EndpointConfig, EndpointEvent, Source};
pub use g711::Law;
pub use mos::{Codec, Quality};
pub use payload::PayloadTypes;
pub use session::{
    Direction, Event, Face, Forward, Leg, LegStats, PeerFace, PhoneFace, Reason, Session, SessionConfig,
    stream_of,
};
pub use tone::{Heard, heard};
pub use wav::Wav;
