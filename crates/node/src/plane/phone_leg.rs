//! What protects the sound of a phone on its way to this peer and back: keys of a handshake (`dtls.rs`), keys that both
//! say (`sdes.rs`), keys that the phone has with the phone at the other end (`whole.rs`), or nothing.
//!
//! The phone chooses by the profile of its description, the owner by what is offered to a phone that is called: a
//! handshake with the other phone first, then one with us, then keys, then nothing, each only where the one before was
//! refused (488).

use media::Session;
use sip::{Flow, Refused, Role};
use wire::rtp::Kind;
use wire::sdp::dtls::Fingerprint;
use wire::sdp::{Description, Media};
use wire::{Seed, Time};

use super::dtls::{self, Dtls, DtlsPolicy, HandshakeKeys, Wanted};
use super::sdes::{self, Sdes, SdesPolicy};
use super::whole::{EndToEndPolicy, WHOLE_ATTRIBUTE, Way, Whole, ZRTP_HASH};

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
    pub(crate) end_to_end: EndToEndPolicy,
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
        let Policies { sdes, dtls, fingerprint, .. } = policies;
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
    /// What is for the phone at the other end.
    pub(super) whole: Option<Whole>,
}

impl Said {
    /// Takes it out of a description, of a phone or of another peer, which then reads as one without.
    pub(super) fn take(description: &mut Description, of_peer: bool) -> Vec<Said> {
        let said = (0..description.media.len()).map(|index| {
            let crypto: Vec<String> =
                description.media[index].attributes(sdes::CRYPTO).map(str::to_owned).collect();
            let protocol = description.media[index].protocol.clone();
            let handshake = protocol.strip_prefix(HANDSHAKE).filter(|rest| ["", FEEDBACK].contains(rest));
            let plain = match (handshake, protocol.as_str()) {
                // Phones that shake hands mostly say that they give feedback, and others refuse what says so.
                (Some(_), _) | (_, "RTP/SAVP") => Some("RTP/AVP"),
                (_, "RTP/SAVPF") => Some("RTP/AVPF"),
                _ => None,
            };
            let is_plain = plain.is_none() && crypto.is_empty();
            let whole = match of_peer {
                true => Whole::of_peer(description, index),
                false => Whole::of_phone(description, index, handshake.is_some(), is_plain),
            };
            let handshake = handshake.map(|rest| dtls::Said::of(description, index, rest == FEEDBACK));
            plain.into_iter().for_each(|plain| plain.clone_into(&mut description.media[index].protocol));
            Said { crypto, demanded: plain.is_some(), handshake, whole }
        });
        let said = said.collect();
        description.remove_attributes(&sdes::ATTRIBUTES);
        description.remove_attributes(&dtls::ATTRIBUTES);
        description.remove_attributes(&[ZRTP_HASH, WHOLE_ATTRIBUTE]);
        said
    }
}

/// What a phone that is called is not offered any more, since it refused it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub(super) enum Conceded {
    /// Nothing was refused.
    #[default]
    Nothing,
    /// A handshake with the phone at the other end.
    Whole,
    /// Any handshake.
    Handshake,
    /// Keys of any kind.
    Keys,
}

/// Whether a phone agrees on keys with the phone at the other end.
#[derive(Clone, Copy, PartialEq, Eq)]
enum OfTheirOwn {
    No,
    /// It was asked to, and has said nothing to that.
    Asked(Way),
    Yes(Way),
}

/// The protection of one medium of one phone.
pub(super) struct PhoneLeg {
    dtls: Dtls,
    sdes: Sdes,
    whole: OfTheirOwn,
    conceded: Conceded,
}

impl PhoneLeg {
    pub(super) fn new(seed: Seed, conceded: Conceded) -> PhoneLeg {
        let sdes = Sdes::new(seed, conceded == Conceded::Keys);
        PhoneLeg { dtls: Dtls::new(), sdes, whole: OfTheirOwn::No, conceded }
    }

    /// `dtls` or `sdes` if all that passes is protected so, `mismatch` if nothing passes since the phone is not who it
    /// said, `end_to_end` if the two phones see to it, else `none`.
    pub(super) fn protection(&self) -> &'static str {
        match (self.dtls.is_on(), self.sdes.is_agreed()) {
            _ if matches!(self.whole, OfTheirOwn::Yes(_)) => "end_to_end",
            (true, _) => self.dtls.protection(),
            (_, true) => "sdes",
            _ => "none",
        }
    }

    /// What the phone was asked for and has said nothing to, and can be called again without.
    pub(super) fn may_concede(&self, policies: Policies) -> Option<Conceded> {
        if self.whole == OfTheirOwn::Asked(Way::Dtls) {
            return Some(Conceded::Whole);
        }
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

    /// What the phone sends is for the phone at the other end from now on, with which it agrees on keys. What it offered
    /// stands until the call is taken: another phone may answer it.
    fn leave_it_to_them(&mut self, session: &mut Session, leg: media::Leg, way: Way) -> Result<(), Refused> {
        if self.dtls.is_on() {
            self.dtls.leave(session, leg)?;
        }
        if self.sdes.is_agreed() {
            self.sdes.leave();
        }
        session.set_protected(leg, false);
        self.whole = OfTheirOwn::Yes(way);
        Ok(())
    }

    /// Takes what the phone says when it agrees on keys with the phone at the other end, or has done so before.
    pub(super) fn hear_whole(
        &mut self,
        session: &mut Session,
        leg: media::Leg,
        said: &Said,
        way: Way,
    ) -> Result<(), Refused> {
        said.handshake.iter().for_each(|handshake| self.dtls.note_feedback(handshake));
        self.leave_it_to_them(session, leg, way)
    }

    /// Says to the phone what the phone at the other end says, which agrees on keys with it.
    pub(super) fn say_whole(
        &mut self,
        session: &mut Session,
        leg: media::Leg,
        media: &mut Media,
        whole: &Whole,
    ) -> Result<(), Refused> {
        self.leave_it_to_them(session, leg, whole.way)?;
        whole.say(media);
        self.demand(media);
        Ok(())
    }

    /// Asks the phone to agree on keys with the phone at the other end, where it may; else what protects the leg is said.
    /// Whether it was asked. A handshake is asked only of a phone that is called: it can be called again without.
    pub(super) fn ask_whole(
        &mut self,
        session: &mut Session,
        leg: media::Leg,
        media: &mut Media,
        whole: &Whole,
        terms: Terms,
    ) -> Result<bool, Refused> {
        let may_refuse = leg == media::Leg::B && self.conceded == Conceded::Nothing;
        if whole.way == Way::Dtls && may_refuse && self.is_untold() {
            whole.say(media);
            self.whole = OfTheirOwn::Asked(Way::Dtls);
            self.demand(media);
            session.await_keys(leg, false);
            return Ok(true);
        }
        self.say(session, leg, media, Role::Offer, terms)?;
        let asked =
            whole.way == Way::Zrtp && media.protocol.starts_with("RTP/AVP") && !media.has(sdes::CRYPTO);
        if asked {
            whole.say(media);
            self.whole = OfTheirOwn::Asked(Way::Zrtp);
        }
        Ok(asked)
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
        let shakes = matches!(self.whole, OfTheirOwn::Asked(Way::Dtls) | OfTheirOwn::Yes(Way::Dtls));
        if shakes && role == Role::Answer {
            return Err(refused(NOT_ANSWERED));
        }
        self.whole = OfTheirOwn::No;
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
        self.whole = OfTheirOwn::No;
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
                if self.is_untold() && terms.dtls.asks(leg) && self.conceded < Conceded::Handshake {
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
        let shakes = match self.whole {
            OfTheirOwn::Asked(way) | OfTheirOwn::Yes(way) => way == Way::Dtls,
            OfTheirOwn::No => self.dtls.is_offered() || (self.dtls.is_on() && !self.sdes.is_offered()),
        };
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use wire::Profile;

    use super::*;
    use crate::networks::NetworkRules;
    use crate::plane::rig::{CALLER, Rig, of_phone, sound, tls, udp};

    const PHONE: &str = "192.0.2.9:5060";

    /// A peer whose owner wants everything encrypted that can be, and has a rule about the phone's network.
    fn rig(readable: &[&str], sealed: &[&str]) -> Rig {
        let [readable, sealed] = [readable, sealed]
            .map(|all| all.iter().map(|text| text.parse().unwrap()).collect::<Vec<sip::Prefix>>());
        let fingerprint = Some(Fingerprint::of(&[1; 40]));
        let (dtls, end_to_end) = (DtlsPolicy::Offered, EndToEndPolicy::Any);
        let policies = Policies { dtls, end_to_end, fingerprint, ..Policies::default() };
        Rig::with(Profile::Open, policies, Some(Arc::new(NetworkRules::new(&readable, &sealed))))
    }

    #[test]
    fn a_phone_where_everything_is_readable_is_asked_for_no_keys_and_refused_if_it_demands_them() {
        let offered = rig(&["192.0.2.0/24"], &[]).called(udp(PHONE), 0).unwrap();
        assert!(offered.contains("RTP/AVP 0") && !offered.contains("fingerprint"), "{offered}");
        let offered = rig(&["203.0.113.0/24"], &[]).called(udp(PHONE), 0).unwrap();
        assert!(offered.contains("UDP/TLS/RTP/SAVP"), "elsewhere it is asked: {offered}");
        let handshake = format!("a=fingerprint:{}\r\na=setup:actpass\r\n", Fingerprint::of(&[7; 40]));
        let offer = of_phone("UDP/TLS/RTP/SAVP", &handshake);
        let refused = rig(&["192.0.2.0/24"], &[]).pass(CALLER, udp(PHONE), &offer, Role::Offer);
        assert_eq!(refused.unwrap_err().status, 488);
    }

    #[test]
    fn a_phone_where_nothing_is_readable_has_keys_or_is_refused() {
        let plain = of_phone("RTP/AVP", "");
        let refused = rig(&[], &["192.0.2.0/24"]).pass(CALLER, tls(), &plain, Role::Offer);
        assert_eq!(refused.unwrap_err().status, 488);
        assert!(rig(&[], &["203.0.113.0/24"]).pass(CALLER, tls(), &plain, Role::Offer).is_ok());
    }

    #[test]
    fn a_phone_has_its_sound_in_a_network_with_the_rule_of_its_own() {
        let mut rig = rig(&["203.0.113.0/24"], &[]);
        let there = of_phone("RTP/AVP", "").replace("192.0.2.9", "203.0.113.5");
        let refused = rig.pass(CALLER, udp(PHONE), &there, Role::Offer).unwrap_err();
        assert!(refused.status == 488 && refused.why.contains("another rule"), "{refused:?}");
        rig.answer(udp(PHONE), &of_phone("RTP/AVP", "")).unwrap();
        assert!(rig.echo(&sound(1)).is_some());
        let port = crate::plane::rig::PORT;
        let from = "203.0.113.5:4000".parse().unwrap();
        assert_eq!(rig.0.pass_from_phone(Time::ZERO, port, from, &mut sound(2)), None);
        assert_eq!(rig.0.strays, 1);
    }
}
