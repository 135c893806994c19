//! DTLS, TLS, and the certificates that peers show in both.

use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};

use link::{Endpoint, Received};
use node::{LinkFamily, Profile};
use tls::Tls;
use wire::{KeyPair, Seed, Time};

/// A stranger's datagrams and a stranger's stream are nobody's word; to an address that is not proven no more is sent
/// than came from there.
pub fn tls(bytes: &[u8]) {
    static PROVIDER: OnceLock<Arc<Tls>> = OnceLock::new();
    let keys = KeyPair::from_seed(Seed::from_number(1));
    let provider = PROVIDER.get_or_init(|| Tls::new(&keys).expect("the system gives randomness"));
    let endpoint = || {
        let family = (Profile::Secure, LinkFamily::Tls);
        let mut endpoint = Endpoint::with_links(family, Some(provider.clone()), &keys, Seed::from_number(2));
        endpoint.use_streams(true);
        endpoint
    };
    let remote = SocketAddr::from(([192, 0, 2, 1], 7080));
    let (size, bytes) =
        bytes.split_first().map_or((1, bytes), |(size, rest)| (8 * (1 + usize::from(*size)), rest));

    let (mut by_udp, mut now, mut came, mut went) = (endpoint(), Time::from_secs(10), 0, 0);
    for datagram in bytes.chunks(size) {
        let received = by_udp.handle_datagram(now, remote, datagram);
        assert!(!matches!(received, Received::Sealed(..) | Received::P2pp), "nobody has a link");
        assert_eq!(by_udp.poll_received(), None);
        came += datagram.len();
        now += std::time::Duration::from_millis(200);
        by_udp.handle_timeout(now);
        went += std::iter::from_fn(|| by_udp.poll_transmit()).map(|sent| sent.bytes.len()).sum::<usize>();
        assert!(went <= came, "{went} bytes for {came}");
    }

    let mut by_stream = endpoint();
    by_stream.handle_stream_opened(now, remote);
    for mut piece in bytes.chunks(size) {
        while let Some((received, _)) = by_stream.handle_piece(now, remote, &mut piece) {
            assert!(!matches!(received, Received::Sealed(..) | Received::P2pp), "nobody has a link");
        }
        assert!(piece.is_empty());
    }
    assert_eq!(by_stream.count_links(), 0);
}

/// A certificate says whose it is, or nothing.
pub fn link_certificate(bytes: &[u8]) {
    let _ = ::tls::identity(bytes);
}
