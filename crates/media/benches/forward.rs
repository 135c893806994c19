//! What a carried packet costs a peer besides its two system calls.

#![allow(missing_docs, reason = "criterion's macro makes an undocumented function")]

use std::hint::black_box;
use std::net::SocketAddr;

use criterion::{Criterion, criterion_group, criterion_main};
use media::{Face, Leg, PeerFace, PhoneFace, Session, SessionConfig};
use wire::rtp::Header;
use wire::{Seed, Time};

fn forward(c: &mut Criterion) {
    let phone: SocketAddr = ([192, 0, 2, 1], 4_000).into();
    let remote: SocketAddr = ([198, 51, 100, 2], 7_000).into();
    let ann = PhoneFace { announced: Some(phone), ..PhoneFace::new(20_000) };
    let peer = PeerFace { remote: Some(remote), send_id: Some(2), receive_id: 4 };
    let config = SessionConfig::new(Face::Phone(ann), Face::Peer(peer), Seed::from_number(1));
    let mut session = Session::new(config, Time::ZERO);
    let mut n = 0u32;
    let mut step = |leg, from, ssrc| {
        n = n.wrapping_add(1);
        let now = Time::from_millis(u64::from(n) * 20);
        let header = Header { sequence: n as u16, timestamp: n.wrapping_mul(160), ssrc, ..Header::default() };
        // A fresh packet in a stack buffer, as a socket would leave it.
        let mut packet = [0u8; 172];
        packet[0] = 0x80;
        packet[2..4].copy_from_slice(&header.sequence.to_be_bytes());
        packet[4..8].copy_from_slice(&header.timestamp.to_be_bytes());
        packet[8..12].copy_from_slice(&header.ssrc.to_be_bytes());
        session.handle_rtp(now, leg, from, black_box(&mut packet))
    };
    c.bench_function("phone to peer, one packet", |b| b.iter(|| step(Leg::A, phone, 1)));
    c.bench_function("peer to phone, one packet", |b| b.iter(|| step(Leg::B, remote, 4)));
}

criterion_group!(benches, forward);
criterion_main!(benches);
