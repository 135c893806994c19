//! Handshakes of phones on the path of their sound (DTLS-SRTP, RFC 5764), driven by hand like TLS (`tls.rs`).
//!
//! The node says at which media port one is to be made, who begins it, and which datagrams belong to it: only those that
//! come from the phone of a call that agreed on one. What it is given back is the certificate that the phone showed and the keys.
//! Whether that is the certificate the phone named is for the node to judge.
//!
//! Who begins is answered by a cookie first (RFC 6347, section 4.2.1), which is shorter than what it sent, and is not taken
//! for the phone before that has come back.

mod machine;
mod running;

use std::collections::BTreeMap;
use std::sync::Arc;

use node::{Event, Handshake, HandshakeKeys};
use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair};
use rtc_dtls::cipher_suite::CipherSuiteId;
use rtc_dtls::config::{ClientAuthType, ConfigBuilder, ExtendedMasterSecretType, HandshakeConfig};
use rtc_dtls::crypto::{Certificate, CryptoPrivateKey};
use rtc_dtls::crypto_provider::default_provider;
use rtc_dtls::extension::extension_use_srtp::SrtpProtectionProfile;
use wire::sdp::dtls::Fingerprint;
use wire::{Socket, Time};

use super::{Bound, World};
pub use machine::Machine;
use running::{Heard, Means, Running};

/// What protects a handshake: all of these notice a change.
const SUITES: [CipherSuiteId; 4] = [
    CipherSuiteId::Tls_Ecdhe_Ecdsa_With_Aes_128_Gcm_Sha256,
    CipherSuiteId::Tls_Ecdhe_Rsa_With_Aes_128_Gcm_Sha256,
    CipherSuiteId::Tls_Ecdhe_Ecdsa_With_ChaCha20_Poly1305_Sha256,
    CipherSuiteId::Tls_Ecdhe_Rsa_With_ChaCha20_Poly1305_Sha256,
];

/// Handshakes of one peer that have begun and not come to their end.
const MAX_AT_ONCE: usize = 64;

/// The certificate that phones are shown, and what is spoken with it.
pub struct Identity {
    /// What descriptions say of it.
    pub fingerprint: Fingerprint,
    /// Where the phone begins, and where we do.
    configs: [Arc<HandshakeConfig>; 2],
}

impl Identity {
    /// A new one, which lives as long as the peer: descriptions say which it is, so nobody has to know it before.
    ///
    /// # Errors
    /// In words, if there is no randomness.
    pub fn fresh() -> Result<Identity, String> {
        let cannot = |e: &dyn std::fmt::Display| format!("cannot make a certificate for sound: {e}");
        let provider = default_provider().map_err(|e| cannot(&e))?;
        let key = KeyPair::generate().map_err(|e| cannot(&e))?;
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, "openvoip");
        let certificate = params.self_signed(&key).map_err(|e| cannot(&e))?.der().clone();
        let fingerprint = Fingerprint::of(&certificate);
        let private_key = CryptoPrivateKey::from_key_pair(&key, provider.crypto()).map_err(|e| cannot(&e))?;
        let shown = Certificate { certificate: vec![certificate], private_key };
        let config = |is_client: bool| {
            let config = ConfigBuilder::default()
                .with_crypto_provider(provider.clone())
                .with_certificates(vec![shown.clone()])
                .with_cipher_suites(SUITES.to_vec())
                // Keys come of all that was said (RFC 7627): the library does not compare the client's last word.
                .with_extended_master_secret(ExtendedMasterSecretType::Require)
                .with_srtp_protection_profiles(vec![SrtpProtectionProfile::Srtp_Aes128_Cm_Hmac_Sha1_80])
                .with_server_name("phone".into())
                // Nobody vouches for it: the node compares it with what the phone said.
                .with_client_auth(ClientAuthType::RequireAnyClientCert)
                .with_insecure_skip_verify(true);
            config.build(is_client, None).map(Arc::new).map_err(|e| cannot(&e))
        };
        Ok(Identity { fingerprint, configs: [config(false)?, config(true)?] })
    }
}

impl Bound {
    /// Lets handshakes be made with phones, in which they are shown this certificate.
    pub fn with_dtls(mut self, identity: Identity) -> Bound {
        self.dtls = Some(identity);
        self
    }
}

/// The handshakes of one peer, by media port.
#[derive(Default)]
pub(super) struct Handshakes {
    identity: Option<Identity>,
    running: BTreeMap<u16, Running>,
    /// When they have to go on.
    wakes: BTreeMap<u16, Time>,
}

impl Handshakes {
    pub(super) fn of(identity: Option<Identity>) -> Handshakes {
        Handshakes { identity, ..Handshakes::default() }
    }

    /// Lets the one at a port go on; what it came to, if that was its end.
    fn go_on(
        &mut self,
        now: Time,
        port: u16,
        heard: Option<Heard<'_>>,
    ) -> Option<Result<HandshakeKeys, String>> {
        let room = self.running.values().filter(|running| running.is_busy()).count() < MAX_AT_ONCE;
        let means = Means { identity: self.identity.as_ref()?, room };
        self.running.get_mut(&port)?.go_on(now, means, heard)
    }
}

impl World {
    /// Does what a node wants of a handshake.
    pub(super) fn serve_handshake(&mut self, index: usize, wanted: Handshake) {
        match wanted {
            Handshake::Begin { port, to } => {
                self.forget_handshake(index, port);
                self.hosted[index].handshakes.running.insert(port, Running::new(to));
                self.advance_handshake(index, port, None);
            }
            Handshake::Heard { port, remote, likely, bytes } => {
                self.advance_handshake(index, port, Some(Heard { remote, likely, bytes: &bytes }));
            }
            Handshake::End { port } => self.forget_handshake(index, port),
        }
    }

    pub(super) fn forget_handshake(&mut self, index: usize, port: u16) {
        let handshakes = &mut self.hosted[index].handshakes;
        handshakes.running.remove(&port);
        if let Some(at) = handshakes.wakes.remove(&port) {
            self.dtls_wakes.remove(&(at, index, port));
        }
    }

    /// Goes on with a handshake, sends what it has to say, and notes when it has to be asked again.
    fn advance_handshake(&mut self, index: usize, port: u16, heard: Option<Heard<'_>>) {
        let (now, origin) = (self.now(), self.origin);
        let hosted = &mut self.hosted[index];
        let outcome = hosted.handshakes.go_on(now, port, heard);
        let Some(running) = hosted.handshakes.running.get_mut(&port) else { return };
        while let Some((remote, datagram)) = running.poll_transmit() {
            if let Some((socket, _)) = hosted.udp.get(&Socket::Media(port)) {
                crate::icmp::send(socket, &datagram, remote);
            }
        }
        let wakes = running.poll_timeout(now, origin);
        if let Some(at) = hosted.handshakes.wakes.remove(&port) {
            self.dtls_wakes.remove(&(at, index, port));
        }
        if let Some(at) = wakes {
            hosted.handshakes.wakes.insert(port, at);
            self.dtls_wakes.insert((at, index, port));
        }
        if let Some(outcome) = outcome {
            hosted.node.handle_handshake(now, port, outcome);
        }
    }

    /// Repeats what was lost, and ends what takes too long.
    pub(super) fn run_handshakes(&mut self, tell: &mut dyn FnMut(usize, Event)) {
        let now = self.now();
        let due: Vec<_> = self.dtls_wakes.iter().take_while(|(at, ..)| *at <= now).copied().collect();
        for (_, index, port) in due {
            self.advance_handshake(index, port, None);
            self.drain(index, tell);
        }
    }
}

#[cfg(test)]
mod tests;
