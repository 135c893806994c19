//! One handshake with one address, without a socket and without a clock.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Instant;

use media::srtp::MASTER_LEN;
use node::HandshakeKeys;
use rtc_dtls::endpoint::{Endpoint, EndpointEvent};
use rtc_dtls::extension::extension_use_srtp::SrtpProtectionProfile;
use rtc_dtls::state::State;
use zeroize::Zeroizing;

use super::Identity;

/// Bytes of a phone that one may take: its certificate is two kilobytes at most, and a few may be lost.
const MAX_HEARD: usize = 32 * 1024;

/// What keys are drawn under (RFC 5764, section 4.2).
const LABEL: &str = "EXTRACTOR-dtls_srtp";
const KEY_LEN: usize = 16;

/// Where a record says what it carries, and the first message of a handshake in it which one it is.
const RECORD_KIND: usize = 0;
const MESSAGE_KIND: usize = 13;
const HANDSHAKE: u8 = 22;
const CLIENT_HELLO: u8 = 1;
const SERVER_HELLO: u8 = 2;

fn begins_with(bytes: &[u8], message: u8) -> bool {
    bytes.get(RECORD_KIND) == Some(&HANDSHAKE) && bytes.get(MESSAGE_KIND) == Some(&message)
}

/// Whether it begins a handshake.
pub(super) fn is_client_hello(bytes: &[u8]) -> bool {
    begins_with(bytes, CLIENT_HELLO)
}

/// One handshake with one address.
pub struct Machine {
    endpoint: Endpoint,
    pub(super) remote: SocketAddr,
    /// Whether the cookie has come back from there, or we begin: who sends in another's name never hears it.
    is_proven: bool,
    heard: usize,
    said: usize,
    to_send: VecDeque<Vec<u8>>,
}

impl Machine {
    /// One that begins itself, or waits until the other side does.
    ///
    /// # Errors
    /// In words, if there is no randomness.
    pub fn new(identity: &Identity, begins: bool, remote: SocketAddr) -> Result<Machine, String> {
        let here = SocketAddr::from(([0, 0, 0, 0], 0));
        let [server, client] = &identity.configs;
        let waits = (!begins).then(|| server.clone());
        let mut endpoint = Endpoint::new(here, Default::default(), waits);
        if begins {
            endpoint.connect(Instant::now(), remote, client.clone(), None).map_err(|e| e.to_string())?;
        }
        let (is_proven, to_send) = (begins, VecDeque::new());
        Ok(Machine { endpoint, remote, is_proven, heard: 0, said: 0, to_send })
    }

    /// Whether who is there hears what is sent there.
    pub(super) fn is_proven(&self) -> bool {
        self.is_proven
    }

    /// The next datagram to send.
    pub fn poll_transmit(&mut self) -> Option<Vec<u8>> {
        self.collect();
        self.to_send.pop_front()
    }

    /// Takes over what there is to send: not more than came, until the cookie has come back. The library says it again
    /// for every record, however short.
    fn collect(&mut self) {
        while let Some(datagram) = self.endpoint.poll_transmit() {
            let bytes = datagram.message;
            // Which it says only to who has sent the cookie.
            self.is_proven |= begins_with(&bytes, SERVER_HELLO);
            if self.is_proven || self.said + bytes.len() <= self.heard {
                self.said += bytes.len();
                self.to_send.push_back(bytes.to_vec());
            }
        }
    }

    /// Takes a datagram; what the handshake came to, if that was its end. After that the last word is said again to a phone
    /// that missed it, and nothing else.
    ///
    /// # Errors
    /// In words, if the handshake has failed, or is closed.
    pub fn take(&mut self, bytes: &[u8]) -> Result<Option<HandshakeKeys>, String> {
        self.heard += bytes.len();
        if self.heard > MAX_HEARD {
            return Err("the phone says too much".into());
        }
        let events = self.endpoint.read(Instant::now(), self.remote, None, bytes.into());
        // It would make another with whoever speaks after this one was closed.
        self.endpoint.set_server_config(None);
        self.collect();
        let events = events.map_err(|e| e.to_string())?;
        let has = |wanted: fn(&EndpointEvent) -> bool| events.iter().any(wanted);
        if has(|event| matches!(event, EndpointEvent::PeerClosed)) {
            return Err("the phone closed it".into());
        }
        if !has(|event| matches!(event, EndpointEvent::HandshakeComplete)) {
            return Ok(None);
        }
        let state = self.endpoint.get_connection_state(self.remote).ok_or("it is gone")?;
        state.shaken(self.remote).map(Some)
    }

    /// When to ask it again.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.endpoint.poll_timeout(&self.remote)
    }

    /// Repeats what was lost.
    pub(super) fn handle_timeout(&mut self, now: Instant) -> Result<(), String> {
        self.endpoint.handle_timeout(self.remote, now).map_err(|e| e.to_string())
    }
}

trait Outcome {
    fn shaken(&self, remote: SocketAddr) -> Result<HandshakeKeys, String>;
}

impl Outcome for State {
    /// The certificate and the keys (RFC 5764, section 4.2): both keys, then both salts, the client's first.
    fn shaken(&self, remote: SocketAddr) -> Result<HandshakeKeys, String> {
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
        Ok(HandshakeKeys { remote, certificate, ours, theirs })
    }
}
