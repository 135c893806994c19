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

    fn attributes(self) -> &'static [&'static str] {
        match self {
            Way::Zrtp => &[ZRTP_HASH],
            Way::Dtls => &dtls::ATTRIBUTES,
        }
    }
}

wire::choices!(Way, "way": Zrtp = "zrtp", Dtls = "dtls");

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
        let way = description.media[index].attribute(WHOLE_ATTRIBUTE)?.parse().ok()?;
        Whole::read(way, description, index)
    }

    fn read(way: Way, description: &Description, index: usize) -> Option<Whole> {
        let of = |name: &'static str| {
            description.attributes(index, name).take(MAX_LINES).map(move |value| (name, value.to_owned()))
        };
        let lines: Vec<_> = way.attributes().iter().flat_map(|name| of(name)).collect();
        // The first is what the phone will be known by.
        lines.first().is_some_and(|(name, _)| *name == way.attributes()[0]).then_some(Whole { way, lines })
    }

    /// Whether the phone begins, whatever the other does: so it is reached also where it did not say that it is.
    pub(super) fn begins(&self) -> bool {
        self.way == Way::Zrtp || self.lines.contains(&("setup", "active".into()))
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
    /// Whether the call was taken: until then another phone may answer for the one that rang first.
    taken: bool,
}

impl Passing {
    /// Whether the two phones agreed.
    pub(super) fn is_agreed(&self) -> bool {
        self.agreed.is_some()
    }

    /// Whether the two phones agree by what a description says; to be followed by [`Passing::settle`].
    pub(super) fn judge(&self, role: Role, way: Option<Way>) -> Result<bool, Refused> {
        let agrees = match role {
            Role::Offer => self.agreed.is_some() && self.agreed == way,
            Role::Answer => way.is_some() && self.offered == way,
        };
        let stands = self.agreed.is_some() && (self.taken || role == Role::Offer);
        if stands && !agrees { Err(refused(KEYS_OF_THEIR_OWN)) } else { Ok(agrees) }
    }

    /// A description was taken: what it says holds.
    pub(super) fn settle(&mut self, role: Role, way: Option<Way>, agrees: bool) {
        match role {
            Role::Offer => self.offered = way,
            Role::Answer => self.agreed = way.filter(|_| agrees),
        }
    }

    /// The call was taken by the phone that agreed, or did not.
    pub(super) fn take(&mut self) {
        self.taken = true;
    }
}

#[cfg(test)]
mod tests;
