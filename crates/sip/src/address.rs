//! Who is meant by a URI, and how we are to be reached ourselves.
//!
//! A phone spells its domain as the IP address or host name it was configured with; inside, a user
//! is always `user@domain` in lower case with the domain of the household. Towards a phone a user of
//! another domain is written `user%40domain@our-address`, so that the phone's next request for it
//! comes to us and not to the name service.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use wire::sip::{Uri, percent_encode_user};

use crate::agent::Config;
use crate::flow::Flow;
use crate::transaction::SentBy;

/// Remote addresses for which we remember by which of our addresses they reach us: a household's.
const MAX_REACHED: usize = 4096;

/// Our names and addresses.
#[derive(Debug)]
pub(crate) struct Addresses {
    domain: String,
    aliases: Vec<String>,
    udp: SocketAddr,
    tcp: SocketAddr,
    tls: SocketAddr,
    /// Our address as a phone wrote it in a Request-URI, by the phone's.
    reached: BTreeMap<IpAddr, IpAddr>,
}

/// `user` and `domain` of an address of record.
pub(crate) fn split(aor: &str) -> (&str, &str) {
    aor.rsplit_once('@').unwrap_or((aor, ""))
}

fn ip_of(host: &str) -> Option<IpAddr> {
    host.trim_matches(['[', ']']).parse().ok()
}

impl Addresses {
    pub(crate) fn new(config: &Config) -> Self {
        Addresses {
            domain: config.domain.to_ascii_lowercase(),
            aliases: config.aliases.iter().map(|a| a.to_ascii_lowercase()).collect(),
            udp: config.udp,
            tcp: config.tcp,
            tls: config.tls,
            reached: BTreeMap::new(),
        }
    }

    pub(crate) fn domain(&self) -> &str {
        &self.domain
    }

    pub(crate) fn set_domain(&mut self, domain: &str) {
        self.domain = domain.to_ascii_lowercase();
    }

    pub(crate) fn set_sockets(&mut self, udp: SocketAddr, tcp: SocketAddr) {
        (self.udp, self.tcp) = (udp, tcp);
    }

    fn is_ours(&self, host: &str) -> bool {
        let host = host.to_ascii_lowercase();
        host == self.domain
            || host == "localhost"
            || host.ends_with(".local")
            || ip_of(&host).is_some()
            || self.aliases.contains(&host)
    }

    /// The address of record that a URI means.
    pub(crate) fn aor(&self, uri: &str) -> Option<String> {
        let uri = Uri::parse(uri).ok()?;
        let mut user = uri.user_decoded().to_ascii_lowercase();
        if uri.scheme == "tel" {
            // Visual separators mean nothing (RFC 3966 section 5.1.1).
            user.retain(|c| c == '+' || c == '*' || c == '#' || c.is_ascii_alphanumeric());
        }
        if user.is_empty() {
            return None;
        }
        if uri.host.is_empty() || self.is_ours(&uri.host) {
            return Some(match user.rsplit_once('@') {
                Some((name, domain)) if !name.is_empty() && !domain.is_empty() => {
                    if self.is_ours(domain) {
                        format!("{name}@{}", self.domain)
                    } else {
                        user
                    }
                }
                _ => format!("{user}@{}", self.domain),
            });
        }
        Some(format!("{user}@{}", uri.host.to_ascii_lowercase()))
    }

    /// Remembers that the phone at `flow` reaches us by the address in `uri`.
    pub(crate) fn learn(&mut self, flow: &Flow, uri: &str) {
        let Some(remote) = flow.remote() else { return };
        let Some(ip) = Uri::parse(uri).ok().and_then(|u| ip_of(&u.host)) else {
            return;
        };
        let room = self.reached.len() < MAX_REACHED || self.reached.contains_key(&remote.ip());
        if room && !ip.is_unspecified() && ip.is_ipv4() == remote.is_ipv4() {
            self.reached.insert(remote.ip(), ip);
        }
    }

    /// Our own address as the neighbour at `flow` should see it.
    pub(crate) fn local(&self, flow: &Flow) -> Option<SocketAddr> {
        let remote = flow.remote()?;
        let bound = match flow {
            Flow::Udp(_) => self.udp,
            Flow::Tls(..) => self.tls,
            Flow::Stream(..) | Flow::Peer(_) | Flow::Local(_) => self.tcp,
        };
        let ip = if !bound.ip().is_unspecified() {
            bound.ip()
        } else if remote.ip().is_loopback() {
            if remote.is_ipv4() { Ipv4Addr::LOCALHOST.into() } else { Ipv6Addr::LOCALHOST.into() }
        } else {
            self.reached.get(&remote.ip()).copied().unwrap_or(bound.ip())
        };
        Some(SocketAddr::new(ip, bound.port()))
    }

    /// Our part of a Via towards `flow`.
    pub(crate) fn sent_by(&self, flow: &Flow) -> SentBy {
        match self.local(flow) {
            Some(local) => SentBy { host: host_of(local), port: Some(local.port()) },
            None => SentBy { host: self.domain.clone(), port: None },
        }
    }

    /// The URI by which the neighbour at `flow` asks us for `aor`.
    pub(crate) fn uri_for(&self, flow: &Flow, aor: &str) -> String {
        let (user, domain) = split(aor);
        let Some(local) = self.local(flow) else {
            return format!("sip:{}", written(aor));
        };
        let user = if domain == self.domain { user } else { aor };
        let transport = match flow {
            Flow::Tls(..) => ";transport=tls",
            _ if flow.is_reliable() => ";transport=tcp",
            _ => "",
        };
        format!("sip:{}@{}:{}{transport}", percent_encode_user(user), host_of(local), local.port())
    }

    /// The same as a Contact: where `asked` is a sips URI, so is this one (RFC 3261 section 12.1.1).
    pub(crate) fn contact(&self, flow: &Flow, aor: &str, asked: &str) -> String {
        let uri = self.uri_for(flow, aor);
        let asked_safely = asked.get(..5).is_some_and(|scheme| scheme.eq_ignore_ascii_case("sips:"));
        match uri.strip_suffix(";transport=tls").and_then(|uri| uri.strip_prefix("sip:")) {
            Some(rest) if asked_safely => format!("<sips:{rest}>"),
            _ => format!("<{uri}>"),
        }
    }
}

/// An address of record as it stands in a URI.
pub(crate) fn written(aor: &str) -> String {
    let (user, domain) = split(aor);
    format!("{}@{domain}", percent_encode_user(user))
}

fn host_of(address: SocketAddr) -> String {
    match address.ip() {
        IpAddr::V4(ip) => ip.to_string(),
        IpAddr::V6(ip) => format!("[{ip}]"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ours() -> Addresses {
        let any = "0.0.0.0:5060".parse().unwrap();
        Addresses::new(&Config {
            domain: "home.example".into(),
            aliases: vec!["pi.lan".into()],
            udp: any,
            tcp: any,
            tls: "0.0.0.0:5061".parse().unwrap(),
            server: String::new(),
            phones_from: crate::Prefix::at_home(),
        })
    }

    #[test]
    fn every_spelling_of_our_domain_is_our_domain() {
        for host in ["home.example", "HOME.example", "192.168.1.5:5062", "[::1]", "pi.lan", "a.local"] {
            let aor = ours().aor(&format!("sip:Bob@{host};transport=udp"));
            assert_eq!(aor.as_deref(), Some("bob@home.example"), "{host}");
        }
        assert_eq!(ours().aor("sip:bob@far.example").as_deref(), Some("bob@far.example"));
        assert_eq!(ours().aor("tel:+1-555-1234").as_deref(), Some("+15551234@home.example"));
        assert_eq!(ours().aor("sip:home.example"), None);
    }

    #[test]
    fn a_user_of_another_domain_comes_back_through_a_phone() {
        let flow = Flow::Udp("192.168.1.20:5060".parse().unwrap());
        let mut ours = ours();
        ours.learn(&flow, "sip:192.168.1.5");
        for aor in ["carol@far.example", "bob@home.example", "a b@home.example"] {
            let uri = ours.uri_for(&flow, aor);
            assert!(uri.contains("@192.168.1.5:5060"), "{uri}");
            assert_eq!(ours.aor(&uri).as_deref(), Some(aor));
        }
    }

    #[test]
    fn a_phone_over_tls_is_told_the_port_and_the_transport_of_tls() {
        let phone = "192.168.1.20:40000".parse().unwrap();
        let uri = |flow: Flow| {
            let mut ours = ours();
            ours.learn(&flow, "sip:192.168.1.5");
            ours.uri_for(&flow, "bob@home.example")
        };
        let connection = wire::ConnectionId(1);
        assert_eq!(uri(Flow::Tls(connection, phone)), "sip:bob@192.168.1.5:5061;transport=tls");
        assert_eq!(uri(Flow::Stream(connection, phone)), "sip:bob@192.168.1.5:5060;transport=tcp");
        assert_eq!(uri(Flow::Udp(phone)), "sip:bob@192.168.1.5:5060");
    }

    #[test]
    fn a_sips_address_names_the_same_user_and_is_answered_by_one() {
        let mut ours = ours();
        assert_eq!(ours.aor("sips:Bob@home.example"), ours.aor("sip:bob@home.example"));
        let flow = Flow::Tls(wire::ConnectionId(1), "192.168.1.20:40000".parse().unwrap());
        ours.learn(&flow, "sips:192.168.1.5");
        let contact = |asked| ours.contact(&flow, "bob@home.example", asked);
        assert_eq!(contact("SIPS:bob@home.example"), "<sips:bob@192.168.1.5:5061>");
        assert_eq!(contact("sip:bob@home.example"), "<sip:bob@192.168.1.5:5061;transport=tls>");
    }
}
