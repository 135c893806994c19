//! What a link by DTLS or TLS costs: bytes and round trips, printed first, and processor time.

use std::net::SocketAddr;
use std::sync::Arc;

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use link::provider::{Carrier, Output, Provider, Role, Session};
use tls::Tls;
use wire::{KeyPair, Seed, Time};

const NOW: Time = Time::from_secs(10);

/// IP and UDP, and IP and TCP with timestamps, before each datagram or segment.
const HEADERS: [usize; 2] = [28, 52];

/// What went to and fro.
#[derive(Debug, Default)]
struct Cost {
    carried: usize,
    bytes: usize,
    /// Flights until the first message had arrived.
    flights: usize,
}

/// Makes a session of both libraries, with a message of who asked.
fn made(ends: &[Arc<Tls>; 2], carrier: Carrier) -> ([Box<dyn Session>; 2], Cost) {
    let remote = SocketAddr::from(([192, 0, 2, 1], 7080));
    let mut sessions =
        [(0, Role::Asks), (1, Role::Asked)].map(|(n, role)| ends[n].begin(NOW, carrier, role, remote));
    let mut cost = Cost::default();
    let mut has_arrived = false;
    let mut from = 0;
    loop {
        let mut sent = Vec::new();
        let mut stands = false;
        while let Some(given) = sessions[from].poll() {
            match given {
                Output::Bytes(bytes) => sent.push(bytes),
                Output::Stands(_) => stands = true,
                Output::Message(_) => has_arrived = true,
                Output::Over => panic!("over"),
            }
        }
        if from == 0 && stands {
            sessions[0].seal(NOW, &[0; 100]);
            sent.extend(std::iter::from_fn(|| sessions[0].poll()).filter_map(|given| match given {
                Output::Bytes(bytes) => Some(bytes),
                _ => None,
            }));
        }
        if sent.is_empty() && has_arrived {
            return (sessions, cost);
        }
        cost.flights += usize::from(!has_arrived && !sent.is_empty());
        cost.carried += sent.len();
        cost.bytes += sent.iter().map(Vec::len).sum::<usize>();
        from = 1 - from;
        sent.iter().for_each(|bytes| sessions[from].handle(NOW, bytes));
    }
}

fn handshakes(c: &mut Criterion) {
    let ends = || [1, 2].map(|n| Tls::new(&KeyPair::from_seed(Seed::from_number(n))).unwrap());
    let known = ends();
    let told = |what: &str, carrier: Carrier, cost: &Cost| {
        let headers = HEADERS[usize::from(carrier == Carrier::Stream)];
        println!(
            "{what}: {} pieces, {} bytes, with headers {}, message there after {} flights",
            cost.carried,
            cost.bytes,
            cost.bytes + cost.carried * headers,
            cost.flights
        );
    };
    told("DTLS", Carrier::Datagrams, &made(&known, Carrier::Datagrams).1);
    told("TLS", Carrier::Stream, &made(&known, Carrier::Stream).1);
    told("TLS taken up again", Carrier::Stream, &made(&known, Carrier::Stream).1);
    c.bench_function("DTLS: a link made, both ends, and its first message", |b| {
        b.iter(|| made(&known, Carrier::Datagrams));
    });
    c.bench_function("TLS: a link made, both ends, and its first message", |b| {
        b.iter_batched(ends, |fresh| made(&fresh, Carrier::Stream), BatchSize::SmallInput);
    });
    c.bench_function("TLS: a link taken up again, both ends, and its first message", |b| {
        b.iter(|| made(&known, Carrier::Stream));
    });
    for carrier in [Carrier::Datagrams, Carrier::Stream] {
        let (mut sessions, _) = made(&known, carrier);
        c.bench_function(&format!("{carrier:?}: a message of 100 bytes sealed and opened"), |b| {
            b.iter(|| {
                sessions[0].seal(NOW, &[0; 100]);
                while let Some(Output::Bytes(bytes)) = sessions[0].poll() {
                    sessions[1].handle(NOW, &bytes);
                }
                while sessions[1].poll().is_some() {}
            });
        });
    }
}

criterion_group!(benches, handshakes);
criterion_main!(benches);
