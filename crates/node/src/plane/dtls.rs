//! Keys for sound that a phone and its peer agree on by a handshake on the path of the sound (DTLS-SRTP, RFC 5763).
//!
//! The handshake is made by the world, which has the clock and the chance that it takes; here stands who may make one
//! and what it is worth. In its description each side names the certificate that it will show. A phone that shows
//! another than it named is not heard, and hears nothing, until the call ends: somebody may stand between.
//!
//! A phone that leaves it open who begins (`a=setup:actpass`) is let begin. It does so when it has our answer, so that we
//! know its certificate before its handshake; it is reached where it stands, also behind a NAT; and nothing goes to
//! an address that it only named.

use std::fmt;
use std::net::SocketAddr;

use media::Session;
use media::srtp::{Cipher, Keyed, Master, Receiver, Sender};
use sip::{Refused, Role};
use wire::Time;
use wire::rtp::Kind;
use wire::sdp::dtls::{Fingerprint, Setup};
use wire::sdp::{Description, Media};

use super::phone_leg::{BETWEEN, NOT_ANSWERED, refused};

/// What stands in descriptions for handshakes; none of it is for who is behind this peer.
pub(super) const ATTRIBUTES: [&str; 5] = [FINGERPRINT, SETUP, TLS_ID, "connection", "dtls-id"];
const FINGERPRINT: &str = "fingerprint";
const SETUP: &str = "setup";
const TLS_ID: &str = "tls-id";

/// Fingerprints that a phone may name: the one it shows, and a few that it might.
const MAX_FINGERPRINTS: usize = 8;

/// The longest datagram of a handshake: no path carries a longer one in one piece.
const MAX_DATAGRAM: usize = 2_048;

/// When sound between a phone and this peer is under keys of a handshake.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum DtlsPolicy {
    /// Never: a phone that demands one is refused.
    Never,
    /// Where a phone asks for it.
    #[default]
    Accepted,
    /// There, and phones that are called are asked for it first.
    Offered,
    /// Always: no phone calls or is called without.
    Always,
}

wire::choices!(
    DtlsPolicy, "choice": Never = "never", Accepted = "accepted", Offered = "offered", Always = "always",
);

/// What the handshakes of phones need of the world; each belongs to one of the media ports.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Handshake {
    /// One is to be made, and any before it to be forgotten.
    Begin {
        /// At which port.
        port: u16,
        /// Where to send the first message; else the phone begins.
        to: Option<SocketAddr>,
    },
    /// The phone has sent a datagram of it.
    Heard {
        /// To which port.
        port: u16,
        /// From where: answers go there and nowhere else.
        remote: SocketAddr,
        /// Whether that is where its sound is sent: a host has many ports, and anybody may send in their name.
        likely: bool,
        /// The datagram.
        bytes: Vec<u8>,
    },
    /// It is to be forgotten: the call is over, or has no need of it.
    End {
        /// At which port.
        port: u16,
    },
}

/// What a handshake came to.
pub struct HandshakeKeys {
    /// Where the phone is that made it.
    pub remote: SocketAddr,
    /// The certificate that the phone showed and proved to have the key of, in DER.
    pub certificate: Vec<u8>,
    /// For what we send.
    pub ours: Master,
    /// For what the phone sends.
    pub theirs: Master,
}

impl fmt::Debug for HandshakeKeys {
    /// Without the keys: what is shown may be kept.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HandshakeKeys").field("remote", &self.remote).finish_non_exhaustive()
    }
}

/// Whether a datagram on a media port is one of a handshake (RFC 7983).
pub(super) fn is_handshake(bytes: &[u8]) -> bool {
    matches!(bytes.first(), Some(20..=63)) && bytes.len() <= MAX_DATAGRAM
}

/// What the owner and the world allow.
#[derive(Clone, Copy)]
pub(super) struct Terms {
    pub(super) policy: DtlsPolicy,
    /// Of the certificate that this peer shows, if its world makes handshakes.
    pub(super) fingerprint: Option<Fingerprint>,
}

impl Terms {
    /// Whether a phone is asked for it: one that is called can be called again without, any other only where there is no without.
    pub(super) fn asks(self, leg: media::Leg) -> bool {
        match self.policy {
            DtlsPolicy::Offered => leg == media::Leg::B,
            policy => policy == DtlsPolicy::Always,
        }
    }

    fn fingerprint(self) -> Result<Fingerprint, Refused> {
        let allowed = self.fingerprint.filter(|_| self.policy != DtlsPolicy::Never);
        allowed.ok_or(refused("this peer makes no handshakes for sound (DTLS-SRTP)"))
    }
}

/// What a phone's description says about the handshake of one medium.
pub(super) struct Said {
    fingerprints: Vec<String>,
    setup: Option<String>,
    tls_id: Option<String>,
    /// Whether RTCP may share the port of RTP, and so the handshake.
    mux: bool,
    feedback: bool,
}

impl Said {
    pub(super) fn of(description: &Description, index: usize, feedback: bool) -> Said {
        Said {
            feedback,
            fingerprints: description.attributes(index, FINGERPRINT).map(str::to_owned).collect(),
            setup: description.attributes(index, SETUP).next().map(str::to_owned),
            tls_id: description.attributes(index, TLS_ID).next().map(str::to_owned),
            mux: description.media[index].has("rtcp-mux"),
        }
    }

    /// What of it can be followed.
    fn wish(&self, role: Role) -> Result<Wish, Refused> {
        let lines = self.fingerprints.iter().take(MAX_FINGERPRINTS);
        let read: Result<Vec<_>, _> = lines.map(|line| Fingerprint::parse(line)).collect();
        let read = read.map_err(|_| refused("malformed a=fingerprint"))?;
        let certificates: Vec<Fingerprint> = read.into_iter().flatten().collect();
        if certificates.is_empty() {
            return Err(refused("no a=fingerprint by sha-256"));
        }
        // Who says nothing begins (RFC 4145, section 4).
        let setup = self.setup.as_deref().map_or(Some(Setup::Active), Setup::parse);
        match (setup, role) {
            (None, _) | (Some(Setup::Either), Role::Answer) => Err(refused("unusable a=setup")),
            (Some(setup), _) => {
                let we_begin = (setup != Setup::Either).then_some(setup == Setup::Passive);
                Ok(Wish { certificates, we_begin, tls_id: self.tls_id.clone(), mux: self.mux })
            }
        }
    }
}

/// What a phone said that fits what it is allowed.
struct Wish {
    certificates: Vec<Fingerprint>,
    /// If the phone does not leave it open.
    we_begin: Option<bool>,
    /// A name of the handshake (RFC 8842, section 4).
    tls_id: Option<String>,
    mux: bool,
}

/// What a handshake has proved.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Proof {
    /// Nothing yet.
    Awaited,
    /// That the phone has the certificate it named.
    Given,
    /// That somebody has another one.
    Wrong,
    /// Nothing: it came to no end.
    Failed,
}

/// What was agreed on with the phone.
struct Agreement {
    /// It shows one of these.
    certificates: Vec<Fingerprint>,
    we_begin: bool,
    tls_id: Option<String>,
    mux: bool,
    /// Where the phone listens, RTCP too if it has a port of its own; as far as it has said so.
    at: [Option<SocketAddr>; 2],
    proof: Proof,
}

impl Agreement {
    /// Whether the handshake also serves what the phone wants now, `at` where it listens now: it is one of two ends, at
    /// two addresses, in their roles (RFC 8842, section 5.1). An address that is not said, as by phones of old that hold
    /// a call, is no other.
    fn serves(&self, wish: &Wish, at: [Option<SocketAddr>; 2]) -> bool {
        let stays = |(then, now): (&Option<SocketAddr>, Option<SocketAddr>)| match (then, now) {
            (Some(then), Some(now)) => *then == now,
            // Until now we could not begin.
            (None, Some(_)) => !self.we_begin || self.proof == Proof::Given,
            (_, None) => true,
        };
        self.proof != Proof::Failed
            && self.certificates == wish.certificates
            && wish.we_begin.is_none_or(|we_begin| we_begin == self.we_begin)
            && (&self.tls_id, self.mux) == (&wish.tls_id, wish.mux)
            && self.at.iter().zip(at).all(stays)
    }
}

enum State {
    /// There is no handshake.
    Off,
    /// The phone was asked for one.
    Asked,
    /// There is one.
    On(Agreement),
}

/// What the world is to do.
#[derive(Clone, Copy)]
pub(super) enum Wanted {
    /// Make a handshake.
    Begin {
        we_begin: bool,
        /// Whether RTCP has one of its own.
        of_rtcp_too: bool,
    },
    /// Forget it.
    End,
}

/// The handshake of one medium of one phone.
pub(super) struct Dtls {
    state: State,
    /// What the phone offered, until it is answered: an offer that comes to nothing changes nothing.
    offered: Option<Wish>,
    wanted: Option<Wanted>,
    /// Whether the phone spoke of feedback, as is then spoken to it.
    feedback: Option<bool>,
}

impl Dtls {
    pub(super) fn new() -> Dtls {
        Dtls { state: State::Off, offered: None, wanted: None, feedback: None }
    }

    /// Whether the phone makes a handshake, or was asked to.
    pub(super) fn is_on(&self) -> bool {
        !matches!(self.state, State::Off)
    }

    /// Whether the phone was asked for one, and has said nothing to that.
    pub(super) fn is_asked(&self) -> bool {
        matches!(self.state, State::Asked)
    }

    /// Whether the phone may make one.
    pub(super) fn is_expected(&self) -> bool {
        matches!(self.state, State::On(_))
    }

    /// Whether the phone offered one, and waits for its answer.
    pub(super) fn is_offered(&self) -> bool {
        self.offered.is_some()
    }

    /// Whether the phone speaks of feedback, once it has spoken.
    pub(super) fn gives_feedback(&self) -> Option<bool> {
        self.feedback
    }

    /// The phone spoke of feedback or did not, in a description that is for another phone.
    pub(super) fn note_feedback(&mut self, said: &Said) {
        self.feedback = Some(said.feedback);
    }

    /// Whether somebody may stand between: that stays so until the call ends, whatever is offered then.
    pub(super) fn is_wrong(&self) -> bool {
        matches!(self.state, State::On(Agreement { proof: Proof::Wrong, .. }))
    }

    /// What protects what passes: nothing else passes while a handshake is on.
    pub(super) fn protection(&self) -> &'static str {
        match &self.state {
            State::On(Agreement { proof: Proof::Given, .. }) => "dtls",
            State::On(Agreement { proof: Proof::Wrong, .. }) => "mismatch",
            _ => "none",
        }
    }

    /// Takes what the phone says; `first` if nothing was said to it or by it before.
    pub(super) fn hear(
        &mut self,
        session: &mut Session,
        leg: media::Leg,
        said: &Said,
        role: Role,
        terms: Terms,
        first: bool,
    ) -> Result<(), Refused> {
        terms.fingerprint()?;
        let wish = said.wish(role)?;
        self.feedback = Some(said.feedback);
        match role {
            Role::Answer if !self.is_on() => return Err(refused(NOT_ANSWERED)),
            Role::Answer => self.settle(session, leg, wish),
            Role::Offer => {
                if first {
                    // The other side may speak before its answer is here.
                    session.await_keys(leg, false);
                }
                self.offered = Some(wish);
            }
        }
        Ok(())
    }

    /// Lets hold from now on what the phone wants.
    fn settle(&mut self, session: &mut Session, leg: media::Leg, wish: Wish) {
        let at = session.announced(leg);
        match &mut self.state {
            State::On(Agreement { proof: Proof::Wrong, .. }) => return,
            State::On(agreed) if agreed.serves(&wish, at) => {
                agreed.at.iter_mut().zip(at).for_each(|(then, now)| *then = now.or(*then));
                return;
            }
            _ => {}
        }
        let Wish { certificates, we_begin, tls_id, mux } = wish;
        let we_begin = we_begin.unwrap_or(false);
        session.await_keys(leg, !mux);
        self.wanted = Some(Wanted::Begin { we_begin, of_rtcp_too: !mux });
        self.state = State::On(Agreement { certificates, we_begin, tls_id, mux, at, proof: Proof::Awaited });
    }

    /// There is no handshake any more, and nothing else either; not where somebody may stand between.
    pub(super) fn leave(&mut self, session: &mut Session, leg: media::Leg) -> Result<(), Refused> {
        self.offered = None;
        if self.is_wrong() {
            return Err(refused(BETWEEN));
        }
        if self.is_on() {
            self.state = State::Off;
            self.wanted = Some(Wanted::End);
            session.set_protected(leg, false);
        }
        Ok(())
    }

    /// Asks the phone for a handshake.
    pub(super) fn ask(&mut self, session: &mut Session, leg: media::Leg) {
        self.state = State::Asked;
        session.await_keys(leg, false);
    }

    /// What the phone offered has come to nothing.
    pub(super) fn forget_offer(&mut self) {
        self.offered = None;
    }

    /// Lets hold what the phone offered, since it is answered with `media`.
    pub(super) fn accept(&mut self, session: &mut Session, leg: media::Leg, media: &Media) {
        if let Some(mut wish) = self.offered.take() {
            wish.mux &= media.has("rtcp-mux");
            self.settle(session, leg, wish);
        }
    }

    /// Says to the phone which certificate it will see, and who begins.
    pub(super) fn say(&self, media: &mut Media, role: Role, terms: Terms) -> Result<(), Refused> {
        let setup = match (&self.state, role) {
            (State::On(Agreement { we_begin: true, .. }), Role::Answer) => Setup::Active,
            (_, Role::Answer) => Setup::Passive,
            (_, Role::Offer) => Setup::Either,
        };
        media.set_attribute(FINGERPRINT, &terms.fingerprint()?.to_string());
        media.set_attribute(SETUP, setup.name());
        Ok(())
    }

    /// What the world is to do now, told once.
    pub(super) fn take_wanted(&mut self) -> Option<Wanted> {
        self.wanted.take()
    }

    /// Takes what a handshake came to, at the port of RTP or of RTCP; the error says in words what is wrong with it.
    pub(super) fn shaken(
        &mut self,
        now: Time,
        session: &mut Session,
        leg: media::Leg,
        kind: Kind,
        outcome: Result<HandshakeKeys, String>,
    ) -> Result<(), String> {
        let State::On(agreed) = &mut self.state else { return Ok(()) };
        let shaken = match outcome {
            Ok(shaken) => shaken,
            Err(why) => {
                if agreed.proof == Proof::Awaited && kind == Kind::Rtp {
                    agreed.proof = Proof::Failed;
                }
                return Err(format!("a phone's handshake for sound failed: {why}"));
            }
        };
        let shown = Fingerprint::of(&shaken.certificate);
        if !agreed.certificates.contains(&shown) {
            let heard = match (kind, agreed.proof) {
                // There were no keys of theirs before, and are none now.
                (Kind::Rtcp, _) => "its reports (RTCP) are not read",
                (Kind::Rtp, Proof::Given) => {
                    "the call goes on under the keys of who has proved to be the phone"
                }
                (Kind::Rtp, _) => {
                    agreed.proof = Proof::Wrong;
                    session.await_keys(leg, false);
                    "nothing of the call is heard"
                }
            };
            return Err(format!(
                "SOMEBODY MAY STAND BETWEEN a phone and this peer: the certificate shown on the path of its sound \
                 ({shown}) is not the one that it named; {heard}"
            ));
        }
        if agreed.proof == Proof::Wrong {
            return Ok(());
        }
        let keys = Keyed {
            sender: Sender::new(Cipher::Aes, &shaken.ours),
            receiver: Receiver::new(Cipher::Aes, &shaken.theirs),
        };
        session.prove(now, leg, kind, shaken.remote);
        match kind {
            Kind::Rtcp => session.set_rtcp_keys(leg, keys),
            Kind::Rtp => {
                agreed.proof = Proof::Given;
                session.set_keys(leg, keys);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
