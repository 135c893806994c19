//! Ranges of addresses, as people write them: `192.168.0.0/16`, or one address.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;
use std::sync::{Arc, LazyLock};

/// All addresses that begin with the same bits.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Prefix {
    base: IpAddr,
    len: u32,
}

impl Prefix {
    /// Where phones stand that are at home: this machine, its link, and the ranges that nobody owns (RFC 1918,
    /// RFC 4193), from which nothing comes through the Internet.
    pub fn at_home() -> Arc<[Prefix]> {
        const AT_HOME: [&str; 8] = [
            "127.0.0.0/8",
            "10.0.0.0/8",
            "172.16.0.0/12",
            "192.168.0.0/16",
            "169.254.0.0/16",
            "::1/128",
            "fc00::/7",
            "fe80::/10",
        ];
        // Thousands of peers in one process share one list.
        static LIST: LazyLock<Arc<[Prefix]>> =
            LazyLock::new(|| AT_HOME.iter().map(|text| text.parse().expect("written above")).collect());
        Arc::clone(&LIST)
    }

    /// The network that a host probably stands in: a /24, or a /64.
    pub fn around(host: IpAddr) -> Prefix {
        let base = host.to_canonical();
        Prefix { base, len: if base.is_ipv4() { 24 } else { 64 } }
    }

    /// How many bits they share.
    pub fn len(&self) -> u32 {
        self.len
    }

    /// Whether an address is in it.
    pub fn contains(&self, ip: IpAddr) -> bool {
        let width = |ip: IpAddr| if ip.is_ipv4() { 32 } else { 128 };
        let ip = ip.to_canonical();
        let rest = width(self.base) - self.len;
        let first = |ip: IpAddr| bits(ip).checked_shr(rest).unwrap_or(0);
        self.base.is_ipv4() == ip.is_ipv4() && first(self.base) == first(ip)
    }
}

fn bits(ip: IpAddr) -> u128 {
    match ip {
        IpAddr::V4(ip) => ip.to_bits().into(),
        IpAddr::V6(ip) => ip.to_bits(),
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.base, self.len)
    }
}

impl FromStr for Prefix {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("'{text}' is not a range of addresses like 192.168.0.0/16");
        let (base, len) = text.split_once('/').map_or((text, None), |(base, len)| (base, Some(len)));
        let base: IpAddr = base.parse().map_err(|_| wrong())?;
        let width = if base.is_ipv4() { 32 } else { 128 };
        let len = len.map_or(Ok(width), str::parse).map_err(|_| wrong())?;
        if len > width { Err(wrong()) } else { Ok(Prefix { base, len }) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_holds_what_begins_with_its_bits() {
        let holds = |prefix: &str, ip: &str| prefix.parse::<Prefix>().unwrap().contains(ip.parse().unwrap());
        assert!(holds("192.168.0.0/16", "192.168.255.1") && !holds("192.168.0.0/16", "192.169.0.1"));
        assert!(holds("172.16.0.0/12", "172.31.0.1") && !holds("172.16.0.0/12", "172.32.0.1"));
        assert!(holds("192.0.2.7", "192.0.2.7") && !holds("192.0.2.7", "192.0.2.6"));
        assert!(holds("0.0.0.0/0", "203.0.113.9") && !holds("0.0.0.0/0", "2001:db8::1"));
        assert!(holds("::/0", "2001:db8::1") && holds("fc00::/7", "fd12::1"));
        assert!(holds("10.0.0.0/8", "::ffff:10.1.2.3"), "an IPv4 address that arrived at an IPv6 socket");
    }

    #[test]
    fn the_network_around_a_host_holds_its_neighbours_and_nobody_else() {
        let around =
            |host: &str, ip: &str| Prefix::around(host.parse().unwrap()).contains(ip.parse().unwrap());
        assert!(around("192.0.2.1", "192.0.2.200") && !around("192.0.2.1", "192.0.3.1"));
        assert!(around("2001:db8::1", "2001:db8::2:3") && !around("2001:db8::1", "2001:db8:0:1::1"));
    }

    #[test]
    fn what_is_no_prefix_is_refused() {
        for text in ["", "10.0.0.0/33", "10.0.0.0/", "ten", "::/129", "10.0.0.0/-1"] {
            assert!(text.parse::<Prefix>().is_err(), "{text}");
        }
    }
}
