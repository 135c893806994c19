//! Keys for sound between a phone and its peer (SDES, RFC 4568): each says in `a=crypto` what it protects its own by.
//!
//! Who reads such a description has the keys. So they are said and heard only where nobody else reads: over TLS,
//! and within this machine. Elsewhere they would protect nothing, and a phone that insists on them is told so.
//!
//! A phone that asks for keys gets them in the form in which it asked: with a profile that demands them
//! (RTP/SAVP), or beside one that does not (RTP/AVP, RFC 8643). What we offer a phone over TLS demands them; if the
//! phone does not take that (488), it is asked without, unless the owner insists. After that a leg stays as it is
//! until the phone itself offers otherwise: a phone that has no keys would refuse to be held or resumed.

use media::Session;
use media::srtp::{Cipher, Keyed, Master, Receiver, Sender};
use sip::{Flow, Refused, Role};
use wire::Seed;
use wire::sdp::Media;
use wire::sdp::crypto::{Crypto, KEY_LEN, Suite};
use wire::seed::RngExt;
use zeroize::Zeroizing;

use super::phone_leg::{NOT_ANSWERED, Said, refused};

/// What else phones and the RFCs hang on keys; none of it is for who is behind this peer. The last four offer keys
/// as one of several possibilities (RFC 5939), and repeat them.
pub(super) const ATTRIBUTES: [&str; 6] = [CRYPTO, "key-mgmt", "tcap", "acap", "pcfg", "acfg"];
pub(super) const CRYPTO: &str = "crypto";

/// When sound between a phone and this peer is protected.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum SdesPolicy {
    /// Never: no key is taken from a phone.
    Never,
    /// Where a phone asks for it; and phones over TLS are asked whether they want it.
    #[default]
    Offered,
    /// Always: no phone calls or is called without.
    Always,
}

wire::choices!(SdesPolicy, "choice": Never = "never", Offered = "offered", Always = "always");

/// Why a phone is refused that demands keys, and says none that are understood.
const NO_USABLE: &str = "no a=crypto that can be used: AES_CM_128_HMAC_SHA1_80 or _32 without MKI";
/// Whether nobody else reads what is said there.
fn is_private(flow: &Flow) -> bool {
    matches!(flow, Flow::Tls(..))
        || flow.remote().is_some_and(|remote| remote.ip().to_canonical().is_loopback())
}

/// What the owner and the way to a phone allow.
#[derive(Clone, Copy)]
pub(super) struct Terms {
    policy: SdesPolicy,
    private: bool,
    /// Whether we ask for keys ourselves.
    asked: bool,
}

impl Terms {
    pub(super) fn of(policy: SdesPolicy, flow: &Flow) -> Terms {
        let private = is_private(flow);
        let asked =
            policy == SdesPolicy::Always || (policy == SdesPolicy::Offered && matches!(flow, Flow::Tls(..)));
        Terms { policy, private, asked }
    }

    /// Why there can be no keys, if so.
    fn hindrance(self) -> Option<&'static str> {
        match (self.policy, self.private) {
            (SdesPolicy::Never, _) => Some("this peer takes no keys for sound"),
            (_, false) => Some("keys for sound are taken over TLS only"),
            _ => None,
        }
    }
}

/// The lines that can be used, in the order of the phone's wishes.
fn usable(said: &Said) -> Result<Vec<Crypto>, Refused> {
    let read: Result<Vec<_>, _> = said.crypto.iter().map(|line| Crypto::parse(line)).collect();
    Ok(read.map_err(|_| refused("malformed a=crypto"))?.into_iter().flatten().collect())
}

/// How a leg is protected.
enum State {
    /// Nothing was said yet.
    Untold,
    /// It was agreed that it is not.
    Plain,
    /// By keys.
    Keys(Keys),
}

/// What was said of keys.
struct Keys {
    /// Our line: the phone's tag if it asked.
    ours: Crypto,
    /// What protects what the phone sends.
    theirs: Option<Master>,
    /// Whether the profile demands them.
    demanded: bool,
}

/// What a phone said that fits what it is allowed.
struct Wish {
    /// Its line; none to go without.
    line: Option<Crypto>,
    /// Whether the profile demands keys.
    demanded: bool,
}

/// The keys of one medium of one phone.
pub(super) struct Sdes {
    seed: Seed,
    state: State,
    /// What the phone offered, until it is answered: an offer that comes to nothing changes nothing.
    offered: Option<Wish>,
}

impl Sdes {
    /// `plain` for a phone that refused to take keys.
    pub(super) fn new(seed: Seed, plain: bool) -> Sdes {
        Sdes { seed, state: if plain { State::Plain } else { State::Untold }, offered: None }
    }

    /// Whether all that passes is protected.
    pub(super) fn is_agreed(&self) -> bool {
        matches!(&self.state, State::Keys(Keys { theirs: Some(_), .. }))
    }

    /// Whether the phone was asked to take keys, and has said nothing to that.
    pub(super) fn is_asked(&self) -> bool {
        matches!(&self.state, State::Keys(Keys { theirs: None, .. }))
    }

    /// Whether nothing was said yet.
    pub(super) fn is_untold(&self) -> bool {
        matches!(self.state, State::Untold)
    }

    /// Whether the phone offered something, and waits for its answer.
    pub(super) fn is_offered(&self) -> bool {
        self.offered.is_some()
    }

    /// What the phone offered has come to nothing.
    pub(super) fn forget_offer(&mut self) {
        self.offered = None;
    }

    /// There are no keys any more: something else protects the leg.
    pub(super) fn leave(&mut self) {
        self.state = State::Plain;
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
        let demanded = said.demanded || terms.policy == SdesPolicy::Always;
        let usable = match terms.hindrance() {
            Some(why) if demanded => return Err(refused(why)),
            Some(_) => Vec::new(),
            None => usable(said)?,
        };
        let chosen = match role {
            Role::Offer => usable.into_iter().next(),
            Role::Answer => usable.into_iter().find(|line| self.is_answered_by(line)),
        };
        let missing = chosen.is_none() && demanded;
        let wish = Wish { line: chosen, demanded: said.demanded };
        match role {
            Role::Offer if missing => return Err(refused(NO_USABLE)),
            Role::Answer if missing => return Err(refused(NOT_ANSWERED)),
            Role::Answer => self.settle(session, leg, wish, role),
            Role::Offer => {
                if wish.line.is_some() && matches!(self.state, State::Untold) {
                    // The other side may speak before its answer is here.
                    session.set_protected(leg, true);
                }
                self.offered = Some(wish);
            }
        }
        Ok(())
    }

    fn is_answered_by(&self, line: &Crypto) -> bool {
        matches!(&self.state, State::Keys(keys) if keys.ours.tag == line.tag && keys.ours.suite == line.suite)
    }

    /// Lets hold from now on what the phone wants. Our key stays while its suite does, and counts on: begun anew it
    /// would number two packets alike.
    fn settle(&mut self, session: &mut Session, leg: media::Leg, wish: Wish, role: Role) {
        let Wish { line: Some(line), demanded } = wish else {
            self.state = State::Plain;
            return session.set_protected(leg, false);
        };
        let before = match std::mem::replace(&mut self.state, State::Plain) {
            State::Keys(keys) if keys.ours.suite == line.suite => Some(keys),
            _ => None,
        };
        let (mut ours, before) = match before {
            Some(Keys { ours, theirs, .. }) => (ours, theirs),
            None => (self.new_line(line.suite), None),
        };
        if role == Role::Offer {
            ours.tag = line.tag;
        }
        session.set_protected(leg, true);
        match before {
            None => drop(session.set_keys(leg, Keyed { sender: sender(&ours), receiver: receiver(&line) })),
            Some(before) if before != line.key => session.set_receiver(leg, receiver(&line)),
            Some(_) => {}
        }
        self.state = State::Keys(Keys { ours, theirs: Some(line.key), demanded });
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
        if role == Role::Answer
            && let Some(wish) = self.offered.take()
        {
            self.settle(session, leg, wish, Role::Offer);
        }
        if role == Role::Offer && matches!(self.state, State::Untold) && terms.asked {
            if let Some(why) = terms.hindrance() {
                return Err(refused(why));
            }
            let ours = self.new_line(Suite::default());
            // Who called without an offer can only answer, and not refuse one.
            let demanded = leg == media::Leg::B || terms.policy == SdesPolicy::Always;
            self.state = State::Keys(Keys { ours, theirs: None, demanded });
            session.set_protected(leg, true);
        }
        let State::Keys(keys) = &self.state else { return Ok(()) };
        media.set_attribute(CRYPTO, &Zeroizing::new(keys.ours.to_string()));
        self.demand(media);
        Ok(())
    }

    /// Names the profile in which the phone spoke, or is asked, also of a medium that is turned down.
    pub(super) fn demand(&self, media: &mut Media) {
        let demanded = match (&self.offered, &self.state) {
            (Some(wish), _) => wish.demanded,
            (None, State::Keys(keys)) => keys.demanded,
            (None, State::Untold | State::Plain) => false,
        };
        if let Some(rest) = media.protocol.strip_prefix("RTP/AVP").filter(|_| demanded) {
            media.protocol = format!("RTP/SAVP{rest}");
        }
    }

    fn new_line(&mut self, suite: Suite) -> Crypto {
        let mut rng = self.seed.rng();
        self.seed = Seed::child_of(&mut rng);
        Crypto { tag: 1, suite, key: Zeroizing::new(rng.random::<[u8; KEY_LEN]>()) }
    }
}

fn sender(line: &Crypto) -> Sender {
    let sender = Sender::new(Cipher::Aes, &line.key);
    if line.suite == Suite::Tag32 { sender.with_short_tags() } else { sender }
}

fn receiver(line: &Crypto) -> Receiver {
    let receiver = Receiver::new(Cipher::Aes, &line.key);
    if line.suite == Suite::Tag32 { receiver.with_short_tags() } else { receiver }
}

#[cfg(test)]
mod tests;
