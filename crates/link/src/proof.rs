//! Which addresses are proven.
//!
//! A UDP source address can be forged. Until the owner of an address has shown that it receives what
//! is sent there, it is answered with at most as many bytes as it sent. It shows so by answering a
//! random transaction-ID of ours, or by repeating a cookie: a keyed hash of its address and the
//! current epoch, which costs us no memory.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use wire::{HashAlgorithm, RngExt, Seed, Time};

use crate::book::{AddressBook, Tenths};

/// How long a proof lasts without traffic: longer than the longest quiet spell of a live table entry.
const LIFETIME: Duration = Duration::from_secs(7_200);

/// A cookie is good for this epoch and the one before.
const EPOCH: Duration = Duration::from_secs(60);

/// Most addresses remembered as proven; beyond it the longest silent one is forgotten.
const CAPACITY: usize = 4_096;

/// The proven addresses, and the secret that makes cookies.
#[derive(Debug)]
pub struct Proofs {
    secret: [u8; 16],
    proven: AddressBook<Tenths>,
}

impl Proofs {
    /// Nobody is proven yet.
    pub fn new(seed: Seed) -> Self {
        Proofs { secret: seed.rng().random(), proven: AddressBook::default() }
    }

    /// Whether `address` has shown lately that it is its sender's.
    pub fn is_proven(&self, now: Time, address: SocketAddr) -> bool {
        self.proven.get(&address).is_some_and(|at| at.age(now) < LIFETIME)
    }

    /// Notes that `address` answered something only its owner can have seen.
    pub fn prove(&mut self, now: Time, address: SocketAddr) {
        let fresh = |at: &Tenths| at.age(now) < LIFETIME;
        self.proven.insert(address, Tenths::of(now), fresh);
        if self.proven.len() > CAPACITY {
            self.proven.retain(fresh);
            if self.proven.len() > CAPACITY {
                let oldest = self.proven.iter().min_by_key(|(_, at)| **at).map(|(a, _)| a);
                oldest.into_iter().for_each(|a| self.proven.remove(&a));
            }
        }
    }

    /// An address is proven no more.
    pub(crate) fn withdraw(&mut self, address: &SocketAddr) {
        self.proven.remove(address);
    }

    /// The cookie that proves `address` when repeated.
    pub fn cookie(&self, now: Time, address: SocketAddr) -> [u8; 16] {
        self.cookie_of_epoch(epoch(now), address)
    }

    /// Accepts a repeated cookie; the address counts as proven from then on.
    pub fn accept(&mut self, now: Time, address: SocketAddr, cookie: &[u8; 16]) -> bool {
        let current = epoch(now);
        let good = *cookie == self.cookie_of_epoch(current, address)
            || *cookie == self.cookie_of_epoch(current.wrapping_sub(1), address);
        if good {
            self.prove(now, address);
        }
        good
    }

    fn cookie_of_epoch(&self, epoch: u64, address: SocketAddr) -> [u8; 16] {
        let mut input = Vec::with_capacity(48);
        input.extend_from_slice(&self.secret);
        input.extend_from_slice(&epoch.to_be_bytes());
        input.extend_from_slice(&address.port().to_be_bytes());
        match address.ip() {
            IpAddr::V4(ip) => input.extend_from_slice(&ip.octets()),
            IpAddr::V6(ip) => input.extend_from_slice(&ip.octets()),
        }
        // Two rounds with the secret at both ends, so that no longer input extends a known digest.
        let inner = HashAlgorithm::Sha256.digest(&input);
        let outer = [&self.secret[..], inner.as_bytes()].concat();
        let key = HashAlgorithm::Sha256.digest(&outer);
        key.as_bytes()[..16].try_into().expect("16 of 32 bytes")
    }
}

fn epoch(now: Time) -> u64 {
    now.as_micros() / EPOCH.as_micros() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(port: u16) -> SocketAddr {
        SocketAddr::from(([192, 0, 2, 1], port))
    }

    #[test]
    fn a_cookie_proves_its_own_address_for_about_a_minute() {
        let mut proofs = Proofs::new(Seed::from_number(1));
        let now = Time::from_secs(1_000);
        let cookie = proofs.cookie(now, address(7080));
        assert!(!proofs.accept(now, address(7081), &cookie));
        assert!(!proofs.is_proven(now, address(7080)));
        assert!(proofs.accept(now + EPOCH, address(7080), &cookie));
        assert!(proofs.is_proven(now + EPOCH, address(7080)));
        assert!(!proofs.accept(now + EPOCH * 3, address(7080), &cookie));
    }

    #[test]
    fn a_proof_ends_with_silence() {
        let mut proofs = Proofs::new(Seed::from_number(1));
        proofs.prove(Time::ZERO, address(1));
        assert!(proofs.is_proven((Time::ZERO + LIFETIME).saturating_sub(Duration::from_secs(1)), address(1)));
        assert!(!proofs.is_proven(Time::ZERO + LIFETIME, address(1)));
    }

    #[test]
    fn memory_stays_bounded() {
        let mut proofs = Proofs::new(Seed::from_number(1));
        for port in 0..6_000u64 {
            proofs.prove(Time::from_millis(port), address(port as u16));
        }
        assert!(proofs.proven.len() <= CAPACITY);
        assert!(proofs.is_proven(Time::from_secs(7), address(5_999)));
    }
}
