//! STUN binding requests and answers (RFC 8489), the part of it that every peer serves.
//!
//! A Binding request asks "where do you see me?", and the answer carries the address XORed with the
//! cookie, so that routers that rewrite addresses inside packets leave it alone. Written here rather
//! than adopted: it is three functions, and the crates that offer them draw their own randomness.

use std::net::{IpAddr, SocketAddr};

/// Bytes 4 to 7 of every STUN message (RFC 8489 section 5).
const COOKIE: u32 = 0x2112_A442;

const HEADER_LEN: usize = 20;
const BINDING_REQUEST: u16 = 0x0001;
const BINDING_SUCCESS: u16 = 0x0101;
const BINDING_ERROR: u16 = 0x0111;

const ERROR_CODE: u16 = 0x0009;
const UNKNOWN_ATTRIBUTES: u16 = 0x000A;
const XOR_MAPPED_ADDRESS: u16 = 0x0020;

/// Attributes below this number must be understood (RFC 8489 section 14).
const FIRST_OPTIONAL: u16 = 0x8000;

/// Attributes a Binding request may carry although they change nothing here: USERNAME,
/// MESSAGE-INTEGRITY, REALM, NONCE, MESSAGE-INTEGRITY-SHA256, PRIORITY, USE-CANDIDATE.
const HARMLESS: [u16; 7] = [0x0006, 0x0008, 0x0014, 0x0015, 0x001C, 0x0024, 0x0025];

/// A Binding request with a transaction-ID of the caller's choosing.
pub fn binding_request(transaction: [u8; 12]) -> Vec<u8> {
    message(BINDING_REQUEST, &transaction, &[])
}

/// The answer to a Binding request that came from `remote`; `None` for anything else.
pub fn answer(bytes: &[u8], remote: SocketAddr) -> Option<Vec<u8>> {
    let (kind, transaction, attributes) = split(bytes)?;
    if kind != BINDING_REQUEST {
        return None;
    }
    let mut unknown = Vec::new();
    for attribute in Attributes(attributes) {
        let (number, _) = attribute?;
        if number < FIRST_OPTIONAL && !HARMLESS.contains(&number) {
            unknown.push(number);
        }
    }
    Some(if unknown.is_empty() {
        message(BINDING_SUCCESS, transaction, &[(XOR_MAPPED_ADDRESS, xored(remote, transaction))])
    } else {
        let listed = unknown.iter().take(8).flat_map(|n| n.to_be_bytes()).collect();
        let code = vec![0, 0, 4, 20];
        message(BINDING_ERROR, transaction, &[(ERROR_CODE, code), (UNKNOWN_ATTRIBUTES, listed)])
    })
}

/// The address that a success response to `transaction` reports.
pub fn mapped_address(response: &[u8], transaction: &[u8]) -> Option<SocketAddr> {
    let (kind, id, attributes) = split(response)?;
    if kind != BINDING_SUCCESS || id != transaction {
        return None;
    }
    let value = Attributes(attributes).flatten().find(|(n, _)| *n == XOR_MAPPED_ADDRESS)?.1;
    let mask = mask(id);
    let port = u16::from_be_bytes([*value.get(2)?, *value.get(3)?]) ^ (COOKIE >> 16) as u16;
    let ip: Vec<u8> = value.get(4..)?.iter().zip(mask).map(|(a, b)| a ^ b).collect();
    let ip = match (value[1], ip.len()) {
        (1, 4) => IpAddr::from(<[u8; 4]>::try_from(ip).ok()?),
        (2, 16) => IpAddr::from(<[u8; 16]>::try_from(ip).ok()?),
        _ => return None,
    };
    Some(SocketAddr::new(ip, port))
}

/// Kind, transaction-ID and attributes of a STUN message.
fn split(bytes: &[u8]) -> Option<(u16, &[u8], &[u8])> {
    let (head, attributes) = bytes.split_at_checked(HEADER_LEN)?;
    let length = u16::from_be_bytes([head[2], head[3]]) as usize;
    let right = head[0] < 4
        && head[4..8] == COOKIE.to_be_bytes()
        && length == attributes.len()
        && length.is_multiple_of(4);
    right.then(|| (u16::from_be_bytes([head[0], head[1]]), &head[8..], attributes))
}

/// Reads attributes; `None` as an item where one is cut off.
struct Attributes<'a>(&'a [u8]);

impl<'a> Iterator for Attributes<'a> {
    type Item = Option<(u16, &'a [u8])>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let rest = std::mem::take(&mut self.0);
        Some(rest.split_first_chunk::<4>().and_then(|(head, tail)| {
            let length = u16::from_be_bytes([head[2], head[3]]) as usize;
            let value = tail.get(..length)?;
            self.0 = tail.get(length.next_multiple_of(4)..)?;
            Some((u16::from_be_bytes([head[0], head[1]]), value))
        }))
    }
}

fn message(kind: u16, transaction: &[u8], attributes: &[(u16, Vec<u8>)]) -> Vec<u8> {
    let mut out = Vec::with_capacity(48);
    out.extend_from_slice(&kind.to_be_bytes());
    out.extend_from_slice(&[0, 0]);
    out.extend_from_slice(&COOKIE.to_be_bytes());
    out.extend_from_slice(transaction);
    for (number, value) in attributes {
        out.extend_from_slice(&number.to_be_bytes());
        out.extend_from_slice(&(value.len() as u16).to_be_bytes());
        out.extend_from_slice(value);
        out.resize(out.len().next_multiple_of(4), 0);
    }
    let length = (out.len() - HEADER_LEN) as u16;
    out[2..4].copy_from_slice(&length.to_be_bytes());
    out
}

/// Cookie and transaction-ID, with which addresses are XORed.
fn mask(transaction: &[u8]) -> Vec<u8> {
    [&COOKIE.to_be_bytes()[..], transaction].concat()
}

fn xored(address: SocketAddr, transaction: &[u8]) -> Vec<u8> {
    let (family, ip) = match address.ip() {
        IpAddr::V4(ip) => (1, ip.octets().to_vec()),
        IpAddr::V6(ip) => (2, ip.octets().to_vec()),
    };
    let port = address.port() ^ (COOKIE >> 16) as u16;
    let mut value = vec![0, family];
    value.extend_from_slice(&port.to_be_bytes());
    value.extend(ip.iter().zip(mask(transaction)).map(|(a, b)| a ^ b));
    value
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ID: [u8; 12] = [0xb7, 0xe7, 0xa7, 0x01, 0xbc, 0x34, 0xd6, 0x86, 0xfa, 0x87, 0xdf, 0xae];

    /// XOR-MAPPED-ADDRESS values of RFC 5769 sections 2.2 and 2.3, for the transaction-ID above.
    #[test]
    fn the_addresses_of_rfc_5769_are_written_and_read() {
        let v4: SocketAddr = "192.0.2.1:32853".parse().unwrap();
        assert_eq!(xored(v4, &ID), [0x00, 0x01, 0xa1, 0x47, 0xe1, 0x12, 0xa6, 0x43]);
        let v6: SocketAddr = "[2001:db8:1234:5678:11:2233:4455:6677]:32853".parse().unwrap();
        let expected = [
            0x00, 0x02, 0xa1, 0x47, 0x01, 0x13, 0xa9, 0xfa, 0xa5, 0xd3, 0xf1, 0x79, 0xbc, 0x25, 0xf4, 0xb5,
            0xbe, 0xd2, 0xb9, 0xd9,
        ];
        assert_eq!(xored(v6, &ID), expected);
        for address in [v4, v6] {
            let response = answer(&binding_request(ID), address).unwrap();
            assert_eq!(mapped_address(&response, &ID), Some(address));
            assert_eq!(mapped_address(&response, &[0; 12]), None);
        }
    }

    #[test]
    fn an_unknown_mandatory_attribute_is_refused_and_named() {
        let request = message(BINDING_REQUEST, &ID, &[(0x7777, vec![1, 2, 3])]);
        let refusal = answer(&request, "192.0.2.1:1".parse().unwrap()).unwrap();
        assert_eq!(refusal[..2], BINDING_ERROR.to_be_bytes());
        assert!(refusal.windows(2).any(|w| w == [0x77, 0x77]));
        let optional = message(BINDING_REQUEST, &ID, &[(0x8022, b"phone".to_vec())]);
        assert_eq!(answer(&optional, "192.0.2.1:1".parse().unwrap()).unwrap()[..2], [1, 1]);
    }

    #[test]
    fn only_binding_requests_are_answered() {
        let remote = "192.0.2.1:1".parse().unwrap();
        let response = answer(&binding_request(ID), remote).unwrap();
        assert_eq!(answer(&response, remote), None);
        assert_eq!(answer(&binding_request(ID)[..19], remote), None);
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            answer(&bytes, "192.0.2.1:1".parse().unwrap());
            mapped_address(&bytes, &ID);
            let mut stun = binding_request(ID);
            stun.extend_from_slice(&bytes);
            let length = (bytes.len() as u16).to_be_bytes();
            stun[2..4].copy_from_slice(&length);
            answer(&stun, "192.0.2.1:1".parse().unwrap());
        }
    }
}
