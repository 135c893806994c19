//! Keys that two phones agree on with each other, and no peer has: ZRTP (RFC 6189), or DTLS-SRTP from phone to phone.
//!
//! What a phone says of them in its description is passed on to the phone at the other end. If that one says the same
//! in its answer, both peers carry whatever the phones send as it is ([`media::Session::set_whole`]); else each peer
//! protects the sound of its own phone as it does otherwise. So an offer promises nothing that its peer could not
//! keep by itself, and the answer decides.
//!
//! Not where everything must be readable: what phones encrypt would go over the air.

use sip::{Refused, Role};
use wire::Profile;
use wire::sdp::{Description, Media};

use super::dtls;
use super::phone_leg::refused;

/// The attribute between peers that says which keys the phone that wrote the description wants to agree on.
pub(super) const WHOLE_ATTRIBUTE: &str = "x-openvoip-whole";

/// What stands in descriptions for ZRTP: what the first message of each phone will be (RFC 6189, section 8.1).
pub(super) const ZRTP_HASH: &str = "zrtp-hash";

/// Lines that a phone may say: fingerprints, versions of ZRTP.
const MAX_LINES: usize = 8;

/// Why a description is refused.
pub(super) const KEYS_OF_THEIR_OWN: &str =
    "the two phones protect this call by keys of their own, and one of them left them out";

/// Which keys of their own phones are let agree on.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum EndToEndPolicy {
    /// None.
    Never,
    /// Those of ZRTP: phones that have it say so, and lose nothing where the other has not.
    #[default]
    Zrtp,
    /// And those of DTLS-SRTP: a phone that is called by one that demands a handshake is asked for one with that phone first.
    Any,
}

impl EndToEndPolicy {
    /// What of it an overlay's profile allows.
    pub(super) fn under(self, profile: Profile) -> EndToEndPolicy {
        if profile == Profile::Signed { EndToEndPolicy::Never } else { self }
    }
}

wire::choices!(EndToEndPolicy, "choice": Never = "never", Zrtp = "zrtp", Any = "any");

/// By what two phones agree.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Way {
    /// By a handshake in packets beside the sound.
    Zrtp,
    /// By a handshake that the profile of the description demands.
    Dtls,
}

impl Way {
    pub(super) fn is_allowed(self, policy: EndToEndPolicy) -> bool {
        match self {
            Way::Zrtp => policy != EndToEndPolicy::Never,
            Way::Dtls => policy == EndToEndPolicy::Any,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Way::Zrtp => "zrtp",
            Way::Dtls => "dtls",
        }
    }

    fn attributes(self) -> &'static [&'static str] {
        match self {
            Way::Zrtp => &[ZRTP_HASH],
            Way::Dtls => &dtls::ATTRIBUTES,
        }
    }
}

/// What a phone says for the phone at the other end.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Whole {
    pub(super) way: Way,
    /// Attributes, as the phone wrote them.
    lines: Vec<(&'static str, String)>,
}

impl Whole {
    /// Reads it out of a description of a phone; `shakes` if its profile demands a handshake, `plain` if it demands no keys.
    pub(super) fn of_phone(
        description: &Description,
        index: usize,
        shakes: bool,
        plain: bool,
    ) -> Option<Whole> {
        let way = match (shakes, plain) {
            (true, _) => Way::Dtls,
            (_, true) => Way::Zrtp,
            _ => return None,
        };
        Whole::read(way, description, index)
    }

    /// Reads it out of a description of another peer.
    pub(super) fn of_peer(description: &Description, index: usize) -> Option<Whole> {
        let said = description.media[index].attribute(WHOLE_ATTRIBUTE)?;
        let way = [Way::Zrtp, Way::Dtls].into_iter().find(|way| way.name() == said)?;
        Whole::read(way, description, index)
    }

    fn read(way: Way, description: &Description, index: usize) -> Option<Whole> {
        let all = way
            .attributes()
            .iter()
            .flat_map(|name| description.attributes(index, name).map(|v| (*name, v.to_owned())));
        let lines: Vec<_> = all.take(MAX_LINES).collect();
        (!lines.is_empty()).then_some(Whole { way, lines })
    }

    /// Says it to a phone.
    pub(super) fn say(&self, media: &mut Media) {
        self.lines.iter().for_each(|(name, value)| media.add_attribute(name, value));
    }

    /// Says it to the peer of a phone.
    pub(super) fn say_to_peer(&self, media: &mut Media) {
        media.set_attribute(WHOLE_ATTRIBUTE, self.way.name());
        self.say(media);
    }
}

/// What became of that in one medium of a call.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Passing {
    /// By what the phone that spoke last wants to agree.
    offered: Option<Way>,
    agreed: Option<Way>,
}

impl Passing {
    /// Takes what a description says; whether the two phones have keys of their own by it.
    pub(super) fn hear(&mut self, role: Role, way: Option<Way>) -> Result<bool, Refused> {
        let agrees = match role {
            Role::Offer => {
                self.offered = way;
                self.agreed.is_some() && self.agreed == way
            }
            Role::Answer => way.is_some() && self.offered == way,
        };
        match (self.agreed, agrees) {
            (Some(_), false) => return Err(refused(KEYS_OF_THEIR_OWN)),
            (None, true) => self.agreed = way,
            _ => {}
        }
        Ok(agrees)
    }

    /// What was offered was not said to the phone that is called.
    pub(super) fn keep_back(&mut self) {
        self.offered = None;
    }
}

#[cfg(test)]
mod tests;
