//! What may go over which network: nothing encrypted over the air, as radio law asks, or nothing readable over a line
//! that others share.
//!
//! The overlay's profile says what protects what goes between peers, and a network may forbid that. Then nothing goes to
//! its addresses, and what comes from there is not heard: a rule that gave way would be none. The sound of a phone
//! goes by the rule of the network that the phone stands in.

use std::net::IpAddr;

use sip::Prefix;
use wire::{Profile, Socket};

use crate::plane::{DtlsPolicy, EndToEndPolicy, Policies, SdesPolicy};

/// Under which name is counted what an owner's rule keeps from a network.
pub(crate) const NETWORK: &str = "network";

/// What may go over a network.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Carries {
    /// Anything.
    #[default]
    Anything,
    /// Nothing encrypted.
    Readable,
    /// Nothing but what is encrypted.
    Sealed,
}

impl Carries {
    /// What the owner lets phones have there.
    pub(crate) fn restrict(self, policies: Policies) -> Policies {
        match self {
            Carries::Anything => policies,
            Carries::Readable => Policies {
                sdes: SdesPolicy::Never,
                dtls: DtlsPolicy::Never,
                end_to_end: EndToEndPolicy::Never,
                ..policies
            },
            Carries::Sealed => Policies { sdes: SdesPolicy::Always, ..policies },
        }
    }
}

/// Networks with a rule of their own.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct NetworkRules(Vec<(Prefix, Carries)>);

impl NetworkRules {
    /// Networks over which nothing encrypted goes, and others over which nothing else goes. Of two that hold an address
    /// the smaller counts.
    pub fn new(readable: &[Prefix], sealed: &[Prefix]) -> NetworkRules {
        let readable = readable.iter().map(|prefix| (*prefix, Carries::Readable));
        let mut all: Vec<_> =
            readable.chain(sealed.iter().map(|prefix| (*prefix, Carries::Sealed))).collect();
        all.sort_by_key(|(prefix, _)| std::cmp::Reverse(prefix.shared_bits()));
        NetworkRules(all)
    }

    /// Whether no network has a rule.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What may go to this address.
    pub fn carries(&self, ip: IpAddr) -> Carries {
        let of = self.0.iter().find(|(prefix, _)| prefix.contains(ip));
        of.map_or(Carries::Anything, |(_, carries)| *carries)
    }

    /// Why nothing goes to this address or comes from there, in an overlay of this profile, if so.
    pub fn forbids(&self, profile: Profile, ip: IpAddr) -> Option<&'static str> {
        match (self.carries(ip), profile) {
            (Carries::Readable, Profile::Secure) => Some("nothing encrypted may go there"),
            (Carries::Sealed, Profile::Signed | Profile::Open) => Some("nothing readable may go there"),
            _ => None,
        }
    }

    /// Whether bytes may go there from this socket, or come from there. What passes between a phone and its media
    /// port was agreed on as the phone's network has it.
    pub(crate) fn let_pass(&self, profile: Profile, socket: Socket, ip: IpAddr) -> bool {
        match socket {
            Socket::Peer | Socket::PeerStream => self.forbids(profile, ip).is_none(),
            Socket::Sip | Socket::SipStream(_) => self.lets_phones(ip, false),
            Socket::SipTls(_) => self.lets_phones(ip, true),
            Socket::Media(_) => true,
        }
    }

    /// Whether phones may speak to this peer from there, over TLS or without.
    pub(crate) fn lets_phones(&self, ip: IpAddr, over_tls: bool) -> bool {
        self.carries(ip) != if over_tls { Carries::Readable } else { Carries::Sealed }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn networks(readable: &[&str], sealed: &[&str]) -> NetworkRules {
        let [readable, sealed] = [readable, sealed]
            .map(|all| all.iter().map(|text| text.parse().unwrap()).collect::<Vec<Prefix>>());
        NetworkRules::new(&readable, &sealed)
    }

    #[test]
    fn of_two_networks_that_hold_an_address_the_smaller_counts_whatever_their_order() {
        let networks = networks(&["44.0.0.0/8", "10.7.1.0/24"], &["0.0.0.0/0", "10.7.0.0/16"]);
        let carries = |ip: &str| networks.carries(ip.parse().unwrap());
        assert_eq!(carries("44.1.2.3"), Carries::Readable);
        assert_eq!(carries("::ffff:44.1.2.3"), Carries::Readable, "also as IPv6 writes it");
        assert_eq!((carries("10.7.1.9"), carries("10.7.2.9")), (Carries::Readable, Carries::Sealed));
        assert_eq!((carries("192.0.2.1"), carries("2001:db8::1")), (Carries::Sealed, Carries::Anything));
    }

    #[test]
    fn an_overlay_is_spoken_where_its_profile_is_allowed_and_nowhere_else() {
        let networks = networks(&["44.0.0.0/8"], &["192.0.2.0/24"]);
        let passes = |profile, ip: &str| networks.let_pass(profile, Socket::Peer, ip.parse().unwrap());
        for profile in [Profile::Open, Profile::Signed, Profile::Secure] {
            assert_eq!(passes(profile, "44.0.0.1"), profile != Profile::Secure);
            assert_eq!(passes(profile, "192.0.2.1"), profile == Profile::Secure);
            assert!(passes(profile, "198.51.100.1"));
        }
    }

    #[test]
    fn phones_speak_tls_where_nothing_is_readable_and_never_where_everything_is() {
        let networks = networks(&["44.0.0.0/8"], &["192.0.2.0/24"]);
        let passes = |socket, ip: &str| networks.let_pass(Profile::Secure, socket, ip.parse().unwrap());
        let tls = Socket::SipTls(wire::ConnectionId(1));
        assert!(passes(Socket::Sip, "44.0.0.1") && !passes(tls, "44.0.0.1"));
        assert!(passes(tls, "192.0.2.1") && !passes(Socket::Sip, "192.0.2.1"));
        let stream = Socket::SipStream(wire::ConnectionId(1));
        assert!(passes(stream, "44.0.0.1") && !passes(stream, "192.0.2.1"));
    }
}
