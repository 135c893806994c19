//! What a link costs: to make it, to send over it, and to answer strangers who ask for one.

use std::hint::black_box;
use std::net::SocketAddr;

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use link::{Endpoint, Received};
use wire::{KeyPair, Profile, Seed, Time};

const NOW: Time = Time::from_secs(10);

fn address(n: u8) -> SocketAddr {
    SocketAddr::from(([192, 0, 2, n], 7080))
}

fn endpoint(profile: Profile, n: u8) -> Endpoint {
    let keys = KeyPair::from_seed(Seed::from_number(n.into()));
    Endpoint::new(profile, &keys, Seed::from_number(u64::from(n) + 100))
}

/// Carries what two endpoints want to send until nothing moves; how many messages arrived.
fn carry(ends: &mut [Endpoint; 2]) -> usize {
    let mut heard = 0;
    loop {
        let mut moved = false;
        for (from, to) in [(0, 1), (1, 0)] {
            while let Some(sent) = ends[from].poll_transmit() {
                moved = true;
                let received = ends[to].handle_datagram(NOW, address(from as u8), &sent.bytes);
                heard += usize::from(matches!(received, Received::Sealed(..)));
            }
            ends[from].take_sent();
        }
        if !moved {
            return heard;
        }
    }
}

fn made(profile: Profile) -> [Endpoint; 2] {
    let mut ends = [endpoint(profile, 0), endpoint(profile, 1)];
    ends[0].send_to(NOW, (address(1), None), vec![0; 100], 0);
    assert_eq!(carry(&mut ends), 1);
    ends
}

fn links(c: &mut Criterion) {
    for profile in [Profile::Signed, Profile::Secure] {
        c.bench_function(&format!("{profile}: a link made, both ends, and its first message"), |b| {
            b.iter_batched(|| (), |()| made(profile), BatchSize::SmallInput);
        });
        let mut ends = made(profile);
        c.bench_function(&format!("{profile}: a message of 100 bytes sealed and opened"), |b| {
            b.iter(|| {
                ends[0].send_to(NOW, (address(1), None), black_box(vec![0; 100]), 0);
                assert_eq!(carry(&mut ends), 1);
            });
        });
        // Frames that ask, each with another key; after the first hundred of a second a cookie is all they get.
        let first = |n: u64| {
            let mut asker =
                Endpoint::new(profile, &KeyPair::from_seed(Seed::from_number(n)), Seed::from_number(n));
            asker.send_to(NOW, (address(1), None), vec![0; 100], 0);
            asker.poll_transmit().expect("a frame that asks").bytes
        };
        let asking: Vec<Vec<u8>> = (1_000..1_100).map(first).collect();
        c.bench_function(&format!("{profile}: a stranger who asks is answered"), |b| {
            let mut asked = (endpoint(profile, 1), Time::ZERO, asking.iter().cycle());
            b.iter(|| {
                // So far apart that none is one too many, and none is remembered.
                asked.1 += std::time::Duration::from_millis(60);
                let frame = asked.2.next().expect("endless");
                asked.0.handle_datagram(asked.1, address(9), frame);
                asked.0.take_sent();
                asked.0.poll_transmit()
            });
        });
        c.bench_function(&format!("{profile}: one too many who asks gets a cookie"), |b| {
            let mut asked = endpoint(profile, 1);
            asking.iter().for_each(|frame| drop(asked.handle_datagram(NOW, address(9), frame)));
            let mut ports = (1..=u16::MAX).cycle();
            while asked.poll_transmit().is_some() {}
            b.iter(|| {
                let from = SocketAddr::from(([198, 51, 100, 1], ports.next().expect("endless")));
                asked.handle_datagram(NOW, from, &asking[0]);
                asked.take_sent();
                asked.poll_transmit()
            });
        });
        c.bench_function(&format!("{profile}: junk that looks like a message is dropped"), |b| {
            let mut asked = endpoint(profile, 1);
            let mut junk = vec![if profile == Profile::Secure { 83 } else { 99 }];
            junk.extend_from_slice(&[7; 120]);
            b.iter(|| {
                asked.handle_datagram(NOW, address(9), black_box(&junk));
                asked.take_sent();
                asked.poll_transmit()
            });
        });
    }
}

/// An envelope of SIP for one peer: what its sender and its receiver take for encrypting it.
fn sealed(c: &mut Criterion) {
    let bob = KeyPair::from_seed(Seed::from_number(2));
    let envelope = [7; 1_000];
    let seal = || link::sealed::seal(&bob.public(), b"bench", Seed::from_number(3), black_box(&envelope));
    c.bench_function("1,000 bytes sealed for a peer's key", |b| b.iter(seal));
    let message = seal().expect("a good key");
    c.bench_function("and opened", |b| b.iter(|| link::sealed::open(&bob, b"bench", black_box(&message))));
}

criterion_group!(benches, links, sealed);
criterion_main!(benches);
