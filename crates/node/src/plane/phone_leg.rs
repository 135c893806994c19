//! What protects the sound of a phone on its way to this peer and back: keys of a handshake (`dtls.rs`), keys that both
//! say (`sdes.rs`), or nothing.
//!
//! The phone chooses by the profile of its description, the owner by what is offered to a phone that is called: a
//! handshake first, then keys, then nothing, each only where the one before was refused (488).

use media::Session;
use sip::{Flow, Refused, Role};
use wire::rtp::Kind;
use wire::sdp::dtls::Fingerprint;
use wire::sdp::{Description, Media};
use wire::{Seed, Time};

use super::dtls::{self, Dtls, DtlsPolicy, HandshakeKeys, Wanted};
use super::sdes::{self, Sdes, SdesPolicy};

/// The profile that demands a handshake, and what stands behind it where there is feedback about sound (RFC 4585).
const HANDSHAKE: &str = "UDP/TLS/RTP/SAVP";
const FEEDBACK: &str = "F";

/// Why an answer is refused.
pub(super) const NOT_ANSWERED: &str = "the phone answered without the keys it was asked for";

/// Why nothing else is agreed on with a phone in whose place somebody was found.
pub(super) const BETWEEN: &str =
    "the phone showed another certificate than it named: nothing of this call is heard";

pub(super) fn refused(why: &'static str) -> Refused {
    Refused { status: 488, why }
}

/// What the owner wants, and the world can.
#[derive(Clone, Copy, Default)]
pub(crate) struct Policies {
    pub(crate) sdes: SdesPolicy,
    pub(crate) dtls: DtlsPolicy,
    /// Of the certificate that this peer shows in handshakes.
    pub(crate) fingerprint: Option<Fingerprint>,
}

/// What the owner and the way to a phone allow.
#[derive(Clone, Copy)]
pub(super) struct Terms {
    sdes: sdes::Terms,
    dtls: dtls::Terms,
}

impl Terms {
    pub(super) fn of(policies: Policies, flow: &Flow) -> Terms {
        let Policies { sdes, dtls, fingerprint } = policies;
        Terms { sdes: sdes::Terms::of(sdes, flow), dtls: dtls::Terms { policy: dtls, fingerprint } }
    }
}

/// What a phone's description says about the protection of one medium.
pub(super) struct Said {
    pub(super) crypto: Vec<String>,
    /// Whether its profile demands keys.
    pub(super) demanded: bool,
    /// Of a handshake, if its profile demands one.
    handshake: Option<dtls::Said>,
}

impl Said {
    /// Takes it out of a description, which then reads as one without.
    pub(super) fn take(description: &mut Description) -> Vec<Said> {
        let said = (0..description.media.len()).map(|index| {
            let crypto = description.media[index].attributes(sdes::CRYPTO).map(str::to_owned).collect();
            let protocol = description.media[index].protocol.clone();
            let handshake = protocol.strip_prefix(HANDSHAKE).filter(|rest| ["", FEEDBACK].contains(rest));
            let plain = match (handshake, protocol.as_str()) {
                // Phones that shake hands mostly say that they give feedback, and others refuse what says so.
                (Some(_), _) | (_, "RTP/SAVP") => Some("RTP/AVP"),
                (_, "RTP/SAVPF") => Some("RTP/AVPF"),
                _ => None,
            };
            let handshake = handshake.map(|rest| dtls::Said::of(description, index, rest == FEEDBACK));
            plain.into_iter().for_each(|plain| plain.clone_into(&mut description.media[index].protocol));
            Said { crypto, demanded: plain.is_some(), handshake }
        });
        let said = said.collect();
        description.remove_attributes(&sdes::ATTRIBUTES);
        description.remove_attributes(&dtls::ATTRIBUTES);
        said
    }
}

/// What a phone that is called is not offered any more, since it refused it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) enum Conceded {
    /// Nothing was refused.
    #[default]
    Nothing,
    /// A handshake.
    Handshake,
    /// Keys of any kind.
    Keys,
}

/// The protection of one medium of one phone.
pub(super) struct PhoneLeg {
    dtls: Dtls,
    sdes: Sdes,
    conceded: Conceded,
}

impl PhoneLeg {
    pub(super) fn new(seed: Seed, conceded: Conceded) -> PhoneLeg {
        PhoneLeg { dtls: Dtls::new(), sdes: Sdes::new(seed, conceded == Conceded::Keys), conceded }
    }

    /// `dtls` or `sdes` if all that passes is protected so, `mismatch` if nothing passes since the phone is not who it
    /// said, else `none`.
    pub(super) fn protection(&self) -> &'static str {
        match (self.dtls.is_on(), self.sdes.is_agreed()) {
            (true, _) => self.dtls.protection(),
            (_, true) => "sdes",
            _ => "none",
        }
    }

    /// What the phone was asked for and has said nothing to, and can be called again without.
    pub(super) fn may_concede(&self, policies: Policies) -> Option<Conceded> {
        if self.dtls.is_asked() {
            return (policies.dtls != DtlsPolicy::Always).then_some(Conceded::Handshake);
        }
        (self.sdes.is_asked() && policies.sdes != SdesPolicy::Always).then_some(Conceded::Keys)
    }

    /// Whether the phone may make a handshake now.
    pub(super) fn expects_handshake(&self) -> bool {
        self.dtls.is_expected()
    }

    /// What the world is to do now, told once.
    pub(super) fn take_wanted(&mut self) -> Option<Wanted> {
        self.dtls.take_wanted()
    }

    /// Takes what a handshake came to; the error says in words what is wrong with it.
    pub(super) fn shaken(
        &mut self,
        now: Time,
        session: &mut Session,
        leg: media::Leg,
        kind: Kind,
        outcome: Result<HandshakeKeys, String>,
    ) -> Result<(), String> {
        self.dtls.shaken(now, session, leg, kind, outcome)
    }

    /// Takes what the phone says, and lets it hold at its leg of the session.
    pub(super) fn hear(
        &mut self,
        session: &mut Session,
        leg: media::Leg,
        said: &Said,
        role: Role,
        terms: Terms,
    ) -> Result<(), Refused> {
        let Some(handshake) = &said.handshake else {
            if terms.dtls.policy == DtlsPolicy::Always {
                return Err(refused("this peer demands a handshake for sound (DTLS-SRTP)"));
            }
            if role == Role::Answer && self.dtls.is_on() {
                return Err(refused(NOT_ANSWERED));
            }
            if self.dtls.is_wrong() {
                return Err(refused(BETWEEN));
            }
            self.dtls.forget_offer();
            return self.sdes.hear(session, leg, said, role, terms.sdes);
        };
        let first = self.is_untold();
        self.dtls.hear(session, leg, handshake, role, terms.dtls, first)?;
        self.sdes.forget_offer();
        Ok(())
    }

    /// Says to the phone what is to protect its leg, in a description that has nothing of it.
    pub(super) fn say(
        &mut self,
        session: &mut Session,
        leg: media::Leg,
        media: &mut Media,
        role: Role,
        terms: Terms,
    ) -> Result<(), Refused> {
        match role {
            Role::Answer if self.dtls.is_offered() => {
                self.sdes.leave();
                self.dtls.accept(session, leg, media);
            }
            Role::Answer if self.sdes.is_offered() => self.dtls.leave(session, leg)?,
            Role::Answer => {}
            Role::Offer => {
                // What the phone offered has come to nothing.
                self.dtls.forget_offer();
                self.sdes.forget_offer();
                if self.is_untold() && terms.dtls.asks() && self.conceded == Conceded::Nothing {
                    self.dtls.ask(session, leg);
                }
            }
        }
        if !self.dtls.is_on() {
            return self.sdes.say(session, leg, media, role, terms.sdes);
        }
        self.dtls.say(media, role, terms.dtls)?;
        self.demand(media);
        Ok(())
    }

    /// Names the profile in which the phone spoke, or is asked, also of a medium that is turned down.
    pub(super) fn demand(&self, media: &mut Media) {
        let shakes = self.dtls.is_offered() || (self.dtls.is_on() && !self.sdes.is_offered());
        match media.protocol.strip_prefix("RTP/AVP").filter(|_| shakes) {
            Some(rest) => {
                let feedback = self.dtls.gives_feedback().map(|gives| if gives { FEEDBACK } else { "" });
                media.protocol = format!("{HANDSHAKE}{}", feedback.unwrap_or(rest));
            }
            None => self.sdes.demand(media),
        }
    }

    fn is_untold(&self) -> bool {
        !self.dtls.is_on() && self.sdes.is_untold()
    }
}
