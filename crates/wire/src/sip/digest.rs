//! Digest authentication (RFC 2617, RFC 7616 syntax), MD5 alone: phones in the field fail to
//! register when SHA-256 is offered beside it.

use zeroize::Zeroizing;

use crate::HashAlgorithm;

use super::field::{split_list, unquote};

/// What a server asks: the value of WWW-Authenticate or Proxy-Authenticate.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Challenge {
    /// The protection domain, for people.
    pub realm: String,
    /// The server's nonce.
    pub nonce: String,
    /// Opaque data to be returned.
    pub opaque: Option<String>,
    /// Whether the nonce, not the password, was what the last attempt lacked.
    pub stale: bool,
    /// Whether `qop=auth` is offered.
    pub qop_auth: bool,
    /// The algorithm if named; MD5 where `None`.
    pub algorithm: Option<String>,
}

impl Challenge {
    /// Reads a challenge; `None` if the scheme is not Digest or nonce or realm is missing.
    pub fn parse(value: &str) -> Option<Challenge> {
        let mut challenge = Challenge::default();
        let (mut realm, mut nonce) = (None, None);
        for (name, value) in pairs(value)? {
            match name.as_str() {
                "realm" => realm = Some(value),
                "nonce" => nonce = Some(value),
                "opaque" => challenge.opaque = Some(value),
                "stale" => challenge.stale = value.eq_ignore_ascii_case("true"),
                "qop" => {
                    challenge.qop_auth = value.split(',').any(|q| q.trim().eq_ignore_ascii_case("auth"));
                }
                "algorithm" => challenge.algorithm = Some(value),
                _ => {}
            }
        }
        Some(Challenge { realm: realm?, nonce: nonce?, ..challenge })
    }

    /// Whether we can answer it.
    pub fn is_md5(&self) -> bool {
        self.algorithm.as_ref().is_none_or(|a| a.eq_ignore_ascii_case("MD5"))
    }

    /// The header's value.
    pub fn to_value(&self) -> String {
        let mut out = format!("Digest realm=\"{}\", nonce=\"{}\"", self.realm, self.nonce);
        if let Some(opaque) = &self.opaque {
            out.push_str(&format!(", opaque=\"{opaque}\""));
        }
        if self.stale {
            out.push_str(", stale=true");
        }
        out.push_str(", algorithm=MD5");
        if self.qop_auth {
            out.push_str(", qop=\"auth\"");
        }
        out
    }

    /// The credentials that answer this challenge.
    pub fn answer(
        &self,
        username: &str,
        password: &str,
        method: &str,
        uri: &str,
        cnonce: &str,
    ) -> Credentials {
        let mut credentials = Credentials {
            username: username.into(),
            realm: self.realm.clone(),
            nonce: self.nonce.clone(),
            uri: uri.into(),
            opaque: self.opaque.clone(),
            ..Credentials::default()
        };
        if self.qop_auth {
            credentials.qop = Some("auth".into());
            credentials.nc = Some("00000001".into());
            credentials.cnonce = Some(cnonce.into());
        }
        credentials.response = credentials.expected(password, method);
        credentials
    }
}

/// What a client answers: the value of Authorization or Proxy-Authorization.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Credentials {
    /// Who it says it is: `bob` or `bob@domain`.
    pub username: String,
    /// The realm as the client repeats it.
    pub realm: String,
    /// The nonce as the client repeats it.
    pub nonce: String,
    /// The URI the digest was made over.
    pub uri: String,
    /// The digest, 32 hexadecimal digits.
    pub response: String,
    /// Opaque data returned.
    pub opaque: Option<String>,
    /// The algorithm if named.
    pub algorithm: Option<String>,
    /// `auth` where the client uses it.
    pub qop: Option<String>,
    /// The nonce count, eight hexadecimal digits.
    pub nc: Option<String>,
    /// The client's nonce.
    pub cnonce: Option<String>,
}

impl Credentials {
    /// Reads credentials; `None` if the scheme is not Digest or something essential is missing.
    pub fn parse(value: &str) -> Option<Credentials> {
        let mut c = Credentials::default();
        for (name, value) in pairs(value)? {
            match name.as_str() {
                "username" => c.username = value,
                "realm" => c.realm = value,
                "nonce" => c.nonce = value,
                "uri" => c.uri = value,
                "response" => c.response = value.to_ascii_lowercase(),
                "opaque" => c.opaque = Some(value),
                "algorithm" => c.algorithm = Some(value),
                "qop" => c.qop = Some(value),
                "nc" => c.nc = Some(value),
                "cnonce" => c.cnonce = Some(value),
                _ => {}
            }
        }
        let whole = !c.username.is_empty() && !c.nonce.is_empty() && c.response.len() == 32;
        whole.then_some(c)
    }

    /// The digest that the right password gives (RFC 2617 section 3.2.2).
    pub fn expected(&self, password: &str, method: &str) -> String {
        let ha1 = Zeroizing::new(md5(&[&self.username, &self.realm, password]));
        let ha2 = md5(&[method, &self.uri]);
        match (&self.qop, &self.nc, &self.cnonce) {
            (Some(qop), Some(nc), Some(cnonce)) => md5(&[&ha1, &self.nonce, nc, cnonce, qop, &ha2]),
            _ => md5(&[&ha1, &self.nonce, &ha2]),
        }
    }

    /// Whether these credentials were made with `password` for a request with that method.
    pub fn proves(&self, password: &str, method: &str) -> bool {
        let md5_named = self.algorithm.as_ref().is_none_or(|a| a.eq_ignore_ascii_case("MD5"));
        let qop_known = self.qop.as_ref().is_none_or(|q| q.eq_ignore_ascii_case("auth"));
        // Without an early exit, so that the time taken tells nothing about the digest.
        let expected = self.expected(password, method);
        let differ = expected.bytes().zip(self.response.bytes()).fold(0, |d, (a, b)| d | (a ^ b));
        md5_named && qop_known && differ == 0 && self.response.len() == expected.len()
    }

    /// The header's value.
    pub fn to_value(&self) -> String {
        let mut out = format!(
            "Digest username=\"{}\", realm=\"{}\", nonce=\"{}\", uri=\"{}\", response=\"{}\", \
             algorithm=MD5",
            self.username, self.realm, self.nonce, self.uri, self.response
        );
        if let Some(opaque) = &self.opaque {
            out.push_str(&format!(", opaque=\"{opaque}\""));
        }
        if let (Some(qop), Some(nc), Some(cnonce)) = (&self.qop, &self.nc, &self.cnonce) {
            out.push_str(&format!(", qop={qop}, nc={nc}, cnonce=\"{cnonce}\""));
        }
        out
    }
}

fn md5(parts: &[&str]) -> String {
    let text = Zeroizing::new(parts.join(":"));
    HashAlgorithm::Md5.digest(text.as_bytes()).to_string()
}

/// The `name=value` pairs after the word Digest, names in lower case, quotes undone.
fn pairs(value: &str) -> Option<Vec<(String, String)>> {
    let value = value.trim();
    let (scheme, rest) = value.split_once(|c: char| c.is_whitespace())?;
    if !scheme.eq_ignore_ascii_case("Digest") {
        return None;
    }
    let pair = |p: &str| {
        let (name, value) = p.split_once('=')?;
        Some((name.trim().to_ascii_lowercase(), unquote(value)))
    };
    Some(split_list(rest).filter_map(pair).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_of_rfc_2617_verifies() {
        let c = Credentials {
            username: "Mufasa".into(),
            realm: "testrealm@host.com".into(),
            nonce: "dcd98b7102dd2f0e8b11d0f600bfb0c093".into(),
            uri: "/dir/index.html".into(),
            qop: Some("auth".into()),
            nc: Some("00000001".into()),
            cnonce: Some("0a4f113b".into()),
            response: "6629fae49393a05397450978507c4ef1".into(),
            ..Credentials::default()
        };
        assert!(c.proves("Circle Of Life", "GET"));
        assert!(!c.proves("Circle of Life", "GET"));
        assert_eq!(Credentials::parse(&c.to_value()).unwrap().response, c.response);
    }

    #[test]
    fn an_answered_challenge_proves_the_password() {
        for qop_auth in [true, false] {
            let challenge = Challenge {
                realm: "home".into(),
                nonce: "abc".into(),
                stale: true,
                qop_auth,
                ..Challenge::default()
            };
            let read = Challenge::parse(&challenge.to_value()).unwrap();
            assert!(read.stale && read.is_md5() && read.qop_auth == qop_auth);
            let value = read.answer("bob", "pw", "REGISTER", "sip:home", "c0ffee").to_value();
            let credentials = Credentials::parse(&value).unwrap();
            assert!(credentials.proves("pw", "REGISTER"));
            assert!(!credentials.proves("pw", "INVITE"));
        }
    }

    #[test]
    fn other_schemes_are_not_digest() {
        assert_eq!(Credentials::parse("Basic dXNlcjpwYXNz"), None);
        assert_eq!(Challenge::parse("Digest realm=\"x\""), None);
    }
}
