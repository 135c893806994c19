//! Handshakes of phones on the path of their sound (DTLS-SRTP, RFC 5764), driven by hand like TLS (`tls.rs`).
//!
//! The node says at which media port one is to be made, who begins it, and which datagrams belong to it: only those that
//! come from the phone of a call that agreed on one. What it is given back is the certificate that the phone showed and the keys.
//! Whether that is the certificate the phone named is for the node to judge.
//!
//! Who begins is answered by a cookie first (RFC 6347, section 4.2.1), which is shorter than what it sent.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use media::srtp::MASTER_LEN;
use node::{Event, Handshake, Shaken};
use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair};
use rtc_dtls::config::{ClientAuthType, ConfigBuilder, HandshakeConfig};
use rtc_dtls::crypto::{Certificate, CryptoPrivateKey};
use rtc_dtls::crypto_provider::default_provider;
use rtc_dtls::endpoint::{Endpoint, EndpointEvent};
use rtc_dtls::extension::extension_use_srtp::SrtpProtectionProfile;
use rtc_dtls::state::State;
use wire::sdp::dtls::Fingerprint;
use wire::{Socket, Time};
use zeroize::Zeroizing;

use super::{Bound, World};

/// How long one may take, from its first datagram on.
const WITHIN: Duration = Duration::from_secs(20);

/// Bytes of a phone that one may take: its certificate is two kilobytes at most, and a few may be lost.
const MAX_HEARD: usize = 32 * 1024;

/// How often one is begun anew that came to nothing: anybody who can send from the phone's address can disturb it.
const MAX_ATTEMPTS: u8 = 4;

/// Handshakes of one peer that have begun and not come to their end.
const MAX_AT_ONCE: usize = 64;

/// What keys are drawn under (RFC 5764, section 4.2).
const LABEL: &str = "EXTRACTOR-dtls_srtp";
const KEY_LEN: usize = 16;

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
}

impl Handshakes {
    pub(super) fn of(identity: Option<Identity>) -> Handshakes {
        Handshakes { identity, running: BTreeMap::new() }
    }
}

/// One that is to be made, is being made, or was made.
#[derive(Default)]
struct Running {
    /// Where to begin it; else the phone does.
    to: Option<SocketAddr>,
    machine: Option<Machine>,
    attempts: u8,
    heard: usize,
    /// Until when, once it has begun.
    until: Option<Time>,
    is_over: bool,
    wakes: Option<Time>,
}

/// One handshake with one address, without a socket and without a clock.
pub struct Machine {
    endpoint: Endpoint,
    remote: SocketAddr,
}

impl Machine {
    /// One that begins itself, or waits until the other side does.
    ///
    /// # Errors
    /// In words, if there is no randomness.
    pub fn new(identity: &Identity, begins: bool, remote: SocketAddr) -> Result<Machine, String> {
        let here = SocketAddr::from(([0, 0, 0, 0], 0));
        let [server, client] = &identity.configs;
        let mut endpoint = Endpoint::new(here, Default::default(), Some(server.clone()));
        if begins {
            endpoint.connect(Instant::now(), remote, client.clone(), None).map_err(|e| e.to_string())?;
        }
        Ok(Machine { endpoint, remote })
    }

    /// The next datagram to send.
    pub fn poll_transmit(&mut self) -> Option<Vec<u8>> {
        self.endpoint.poll_transmit().map(|datagram| datagram.message.to_vec())
    }

    /// Takes a datagram; what the handshake came to, if that was its end.
    ///
    /// # Errors
    /// In words, if the handshake has failed.
    pub fn take(&mut self, bytes: &[u8]) -> Result<Option<Shaken>, String> {
        let events = self.endpoint.read(Instant::now(), self.remote, None, bytes.into());
        let events = events.map_err(|e| e.to_string())?;
        let is_made = events.iter().any(|event| matches!(event, EndpointEvent::HandshakeComplete));
        if !is_made {
            return Ok(None);
        }
        self.endpoint.get_connection_state(self.remote).ok_or("it is gone")?.shaken().map(Some)
    }
}

trait Outcome {
    fn shaken(&self) -> Result<Shaken, String>;
}

impl Outcome for State {
    /// The certificate and the keys (RFC 5764, section 4.2): both keys, then both salts, the client's first.
    fn shaken(&self) -> Result<Shaken, String> {
        if self.srtp_protection_profile() != SrtpProtectionProfile::Srtp_Aes128_Cm_Hmac_Sha1_80 {
            return Err("the phone agreed on no SRTP".into());
        }
        let certificate = self.peer_certificates.first().ok_or("the phone showed no certificate")?.clone();
        let drawn = self.export_keying_material(LABEL, &[], 2 * MASTER_LEN).map_err(|e| e.to_string())?;
        let drawn: &[u8] = drawn.as_ref();
        let (keys, salts) = drawn.split_at_checked(2 * KEY_LEN).ok_or("too few keys")?;
        let [client, server] = [0, 1].map(|n| {
            let mut master = Zeroizing::new([0; MASTER_LEN]);
            let (key, salt) = master.split_at_mut(KEY_LEN);
            key.copy_from_slice(&keys[n * key.len()..][..key.len()]);
            salt.copy_from_slice(&salts[n * salt.len()..][..salt.len()]);
            master
        });
        let (ours, theirs) = if self.is_client() { (client, server) } else { (server, client) };
        Ok(Shaken { certificate, ours, theirs })
    }
}

impl World {
    /// Does what a node wants of a handshake.
    pub(super) fn serve_handshake(&mut self, index: usize, wanted: Handshake) {
        match wanted {
            Handshake::Begin { port, to } => {
                self.forget_handshake(index, port);
                let running = Running { to, ..Running::default() };
                self.hosted[index].handshakes.running.insert(port, running);
                if let Some(to) = to {
                    self.attempt(index, port, to, None);
                }
            }
            Handshake::Heard { port, remote, bytes } => self.attempt(index, port, remote, Some(&bytes)),
            Handshake::End { port } => self.forget_handshake(index, port),
        }
    }

    fn forget_handshake(&mut self, index: usize, port: u16) {
        let wakes = self.hosted[index].handshakes.running.remove(&port).and_then(|running| running.wakes);
        if let Some(at) = wakes {
            self.shakes.remove(&(at, index, port));
        }
    }

    /// Goes on with a handshake: begins it if there is none, gives it what was heard, and sends what it has to say.
    fn attempt(&mut self, index: usize, port: u16, remote: SocketAddr, heard: Option<&[u8]>) {
        let now = self.now();
        let Handshakes { identity, running } = &mut self.hosted[index].handshakes;
        let at_once = running.values().filter(|r| r.machine.is_some() && !r.is_over).count();
        let (Some(identity), Some(running)) = (identity, running.get_mut(&port)) else { return };
        running.heard += heard.map_or(0, <[u8]>::len);
        if running.heard > MAX_HEARD {
            return;
        }
        if running.machine.is_none() {
            if running.is_over || at_once >= MAX_AT_ONCE {
                return;
            }
            running.attempts += 1;
            running.until.get_or_insert(now + WITHIN);
            running.machine = Machine::new(identity, running.to.is_some(), remote).ok();
        }
        let Some(machine) = &mut running.machine else { return };
        // One handshake is made with one address.
        let outcome = match heard.filter(|_| machine.remote == remote) {
            Some(bytes) => machine.take(bytes),
            None => Ok(None),
        };
        self.flush_handshake(index, port);
        match outcome {
            Ok(None) => {}
            Ok(Some(shaken)) => self.end_handshake(index, port, Ok(shaken)),
            Err(why) => self.handshake_failed(index, port, why),
        }
    }

    /// A handshake came to nothing: it is begun anew, or given up.
    fn handshake_failed(&mut self, index: usize, port: u16, why: String) {
        let now = self.now();
        let Some(running) = self.hosted[index].handshakes.running.get_mut(&port) else { return };
        running.machine = None;
        if running.is_over {
            return;
        }
        if running.attempts >= MAX_ATTEMPTS || running.until.is_some_and(|until| until <= now) {
            return self.end_handshake(index, port, Err(why));
        }
        if let Some(to) = running.to {
            self.attempt(index, port, to, None);
        }
    }

    fn end_handshake(&mut self, index: usize, port: u16, outcome: Result<Shaken, String>) {
        let now = self.now();
        if let Some(running) = self.hosted[index].handshakes.running.get_mut(&port) {
            // What was made says its last word again if that was lost.
            running.is_over = true;
        }
        self.wake_handshake(index, port);
        self.hosted[index].node.handle_handshake(now, port, outcome);
    }

    /// Sends what a handshake has to say, and notes when it has to be asked again.
    fn flush_handshake(&mut self, index: usize, port: u16) {
        let hosted = &mut self.hosted[index];
        let Some(running) = hosted.handshakes.running.get_mut(&port) else { return };
        if let (Some(machine), Some((socket, _))) =
            (&mut running.machine, hosted.udp.get(&Socket::Media(port)))
        {
            while let Some(datagram) = machine.poll_transmit() {
                crate::icmp::send(socket, &datagram, machine.remote);
            }
        }
        self.wake_handshake(index, port);
    }

    fn wake_handshake(&mut self, index: usize, port: u16) {
        let origin = self.origin;
        let Some(running) = self.hosted[index].handshakes.running.get_mut(&port) else { return };
        let again = running.machine.as_ref().and_then(|m| m.endpoint.poll_timeout(&m.remote));
        let again = again.map(|at| Time::ZERO + at.saturating_duration_since(origin));
        let wakes = again.into_iter().chain(running.until).min().filter(|_| !running.is_over);
        if running.wakes != wakes {
            if let Some(at) = std::mem::replace(&mut running.wakes, wakes) {
                self.shakes.remove(&(at, index, port));
            }
            self.shakes.extend(wakes.map(|at| (at, index, port)));
        }
    }

    /// Repeats what was lost, and ends what takes too long.
    pub(super) fn run_handshakes(&mut self, tell: &mut dyn FnMut(usize, Event)) {
        let now = self.now();
        let due: Vec<_> = self.shakes.iter().take_while(|(at, ..)| *at <= now).copied().collect();
        for (_, index, port) in due {
            let Some(running) = self.hosted[index].handshakes.running.get_mut(&port) else { continue };
            let repeated = match &mut running.machine {
                Some(Machine { endpoint, remote }) => endpoint.handle_timeout(*remote, Instant::now()),
                None => Ok(()),
            };
            let late = running.until.is_some_and(|until| until <= now);
            self.flush_handshake(index, port);
            match repeated {
                _ if late => self.end_handshake(index, port, Err("it took too long".into())),
                Err(e) => self.handshake_failed(index, port, e.to_string()),
                Ok(()) => {}
            }
            self.drain(index, tell);
        }
    }
}

#[cfg(test)]
mod tests;
