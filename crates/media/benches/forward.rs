//! What a carried packet costs a peer besides its two system calls.

#![allow(missing_docs, reason = "criterion's macro makes an undocumented function")]

use std::net::SocketAddr;

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use media::srtp::{Cipher, Keyed, MASTER_LEN, Master, Receiver, Sender};
use media::{Face, Leg, PeerFace, PhoneFace, Session, SessionConfig};
use wire::rtp::Header;
use wire::{Seed, Time};

/// A session of a phone and a peer; what it costs to carry one packet either way.
fn forward(c: &mut Criterion) {
    for (name, cipher) in [("open", None), ("signed", Some(Cipher::Null)), ("secure", Some(Cipher::Aes))] {
        let phone: SocketAddr = ([192, 0, 2, 1], 4_000).into();
        let remote: SocketAddr = ([198, 51, 100, 2], 7_000).into();
        let ann = PhoneFace { announced: Some(phone), ..PhoneFace::new(20_000) };
        let protected = cipher.is_some();
        let peer = PeerFace { remote: Some(remote), send_id: Some(2), receive_id: 4, protected };
        let config = SessionConfig::new(Face::Phone(ann), Face::Peer(peer), Seed::from_number(1));
        let mut session = Session::new(config, Time::ZERO);
        let key = Master::new([7; MASTER_LEN]);
        let mut far = cipher.map(|cipher| {
            let (sender, receiver) = (Sender::new(cipher, &key), Receiver::new(cipher, &key));
            session.set_keys(Leg::B, Keyed { sender, receiver });
            Sender::new(cipher, &key)
        });
        let mut n = 0u32;
        let mut next = |ssrc| {
            n = n.wrapping_add(1);
            let header =
                Header { sequence: n as u16, timestamp: n.wrapping_mul(160), ssrc, ..Header::default() };
            (Time::from_millis(u64::from(n) * 20), header.packet(&[0x55; 160]))
        };
        c.bench_function(&format!("phone to peer, one packet, {name}"), |b| {
            let packet = || next(1);
            b.iter_batched(packet, |(now, mut p)| session.handle_rtp(now, Leg::A, phone, &mut p), BATCH);
        });
        c.bench_function(&format!("peer to phone, one packet, {name}"), |b| {
            let packet = || {
                let (now, mut packet) = next(4);
                let tail = far.as_mut().and_then(|far| far.protect(&mut packet)).unwrap_or_default();
                packet.extend_from_slice(&tail);
                (now, packet)
            };
            b.iter_batched(packet, |(now, mut p)| session.handle_rtp(now, Leg::B, remote, &mut p), BATCH);
        });
    }
}

/// Packets are made outside of what is measured, one at a time.
const BATCH: BatchSize = BatchSize::SmallInput;

criterion_group!(benches, forward);
criterion_main!(benches);
