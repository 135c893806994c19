//! A phone's side of a handshake on the path of its sound, by the same library without ours around it.

use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::{Duration, Instant};

use media::srtp::{MASTER_LEN, Master};
use rtc_dtls::config::{ClientAuthType, ConfigBuilder, HandshakeConfig};
use rtc_dtls::crypto::Certificate;
use rtc_dtls::crypto_provider::default_provider;
use rtc_dtls::endpoint::{Endpoint, EndpointEvent};
use rtc_dtls::extension::extension_use_srtp::SrtpProtectionProfile;
use wire::sdp::dtls::Fingerprint;

/// What a phone offers that demands a handshake, with RTCP on the same port.
pub fn shaking(at: SocketAddr, named: Fingerprint, setup: &str) -> Vec<u8> {
    let (ip, port) = (at.ip(), at.port());
    format!(
        "v=0\r\no=- 1 1 IN IP4 {ip}\r\ns=-\r\nc=IN IP4 {ip}\r\nt=0 0\r\nm=audio {port} UDP/TLS/RTP/SAVP 0\r\n\
         a=rtcp-mux\r\na=fingerprint:{named}\r\na=setup:{setup}\r\n"
    )
    .into_bytes()
}

pub struct Shaker {
    pub socket: UdpSocket,
    pub fingerprint: Fingerprint,
    configs: [Arc<HandshakeConfig>; 2],
    endpoint: Endpoint,
}

impl Shaker {
    pub fn new() -> Shaker {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
        let provider = default_provider().unwrap();
        let shown = Certificate::generate_self_signed(["phone".to_owned()], provider.crypto()).unwrap();
        let fingerprint = Fingerprint::of(&shown.certificate[0]);
        let configs = [false, true].map(|is_client| {
            let config = ConfigBuilder::default()
                .with_crypto_provider(provider.clone())
                .with_certificates(vec![shown.clone()])
                .with_srtp_protection_profiles(vec![SrtpProtectionProfile::Srtp_Aes128_Cm_Hmac_Sha1_80])
                .with_client_auth(ClientAuthType::RequireAnyClientCert)
                .with_insecure_skip_verify(true)
                .with_server_name("peer".into());
            Arc::new(config.build(is_client, None).unwrap())
        });
        let here = socket.local_addr().unwrap();
        let endpoint = Endpoint::new(here, Default::default(), Some(configs[0].clone()));
        Shaker { socket, fingerprint, configs, endpoint }
    }

    /// Sends the first message.
    pub fn begin(&mut self, to: SocketAddr) {
        self.endpoint.connect(Instant::now(), to, self.configs[1].clone(), None).unwrap();
    }

    /// Goes on until the handshake is made: the certificate of the other side, and the keys: ours, and theirs.
    pub fn shaken(&mut self, within: Duration) -> Option<(Fingerprint, [Master; 2])> {
        let end = Instant::now() + within;
        let mut buffer = [0; 2_048];
        while Instant::now() < end {
            while let Some(sent) = self.endpoint.poll_transmit() {
                self.socket.send_to(&sent.message, sent.transport.peer_addr).unwrap();
            }
            let Ok((len, from)) = self.socket.recv_from(&mut buffer) else {
                let all: Vec<SocketAddr> = self.endpoint.get_connections_keys().copied().collect();
                all.into_iter().for_each(|of| self.endpoint.handle_timeout(of, Instant::now()).unwrap());
                continue;
            };
            if !matches!(buffer[0], 20..=63) {
                continue;
            }
            let events = self.endpoint.read(Instant::now(), from, None, buffer[..len].into()).unwrap();
            if events.iter().any(|event| matches!(event, EndpointEvent::HandshakeComplete)) {
                while let Some(sent) = self.endpoint.poll_transmit() {
                    self.socket.send_to(&sent.message, from).unwrap();
                }
                let state = self.endpoint.get_connection_state(from).unwrap();
                let drawn = state.export_keying_material("EXTRACTOR-dtls_srtp", &[], 2 * MASTER_LEN).unwrap();
                let drawn: &[u8] = drawn.as_ref();
                // Both keys, then both salts, the client's first.
                let of = |n: usize| {
                    let parts = [&drawn[16 * n..][..16], &drawn[32 + 14 * n..][..14]];
                    Master::new(parts.concat().try_into().unwrap())
                };
                let ours = usize::from(!state.is_client());
                let shown = Fingerprint::of(&state.peer_certificates[0]);
                return Some((shown, [of(ours), of(1 - ours)]));
            }
        }
        None
    }
}
