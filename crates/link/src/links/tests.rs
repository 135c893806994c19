//! Two and more peers on a wire that loses, repeats and mixes up what it carries.

use std::collections::BTreeMap;

use std::net::IpAddr;

use super::*;
use crate::waiting::MAX_WAITING;
use wire::HashAlgorithm;
use wire::signatures::StandIn;

/// A few peers, and what is on its way between them.
struct Wire {
    now: Time,
    ends: BTreeMap<SocketAddr, End>,
}

struct End {
    keys: KeyPair,
    links: Links,
    proofs: Proofs,
    out: Outbox,
    heard: Vec<(PublicKey, Vec<u8>)>,
    dropped: Vec<&'static str>,
}

impl End {
    fn new(profile: Profile, n: u64) -> Self {
        let keys = KeyPair::from_seed(Seed::from_number(n));
        let links = Links::new(profile, &keys, Seed::from_number(n + 100)).expect("a profile with links");
        let proofs = Proofs::new(Seed::from_number(n + 200));
        End { keys, links, proofs, out: Outbox::default(), heard: Vec::new(), dropped: Vec::new() }
    }
}

fn open_to_all(bytes: &[u8]) -> Message {
    Message { bytes: bytes.to_vec(), label: 1, meant: None }
}

fn address(n: u64) -> SocketAddr {
    SocketAddr::from(([192, 0, 2, n as u8], 7080))
}

fn wire(profile: Profile) -> Wire {
    Wire { now: Time::from_secs(10), ends: (1..=3).map(|n| (address(n), End::new(profile, n))).collect() }
}

impl Wire {
    fn end(&mut self, n: u64) -> &mut End {
        self.ends.get_mut(&address(n)).expect("an end of the wire")
    }

    fn send(&mut self, from: u64, to: u64, message: &[u8]) {
        let now = self.now;
        let end = self.end(from);
        end.links.send(now, address(to), open_to_all(message), &mut end.out);
    }

    /// Takes what one end wants to send.
    fn take(&mut self, from: u64) -> Vec<(SocketAddr, Vec<u8>)> {
        let end = self.end(from);
        std::iter::from_fn(|| end.out.pop()).map(|t| (t.remote, t.bytes)).collect()
    }

    fn hand(&mut self, from: u64, to: SocketAddr, bytes: &[u8]) {
        let now = self.now;
        let Some(end) = self.ends.get_mut(&to) else { return };
        match end.links.handle(now, address(from), bytes, &mut end.proofs, &mut end.out) {
            Opened::Message(peer, message) => end.heard.push((peer, message)),
            Opened::Handled => {}
            Opened::Dropped(why) => end.dropped.push(why),
        }
    }

    /// Carries everything until nothing moves; `lose` decides what is lost.
    fn carry(&mut self, mut lose: impl FnMut(u64, &[u8]) -> bool) -> Vec<usize> {
        let mut lengths = Vec::new();
        for _ in 0..100 {
            let mut moved = false;
            for from in 1..=3 {
                for (to, bytes) in self.take(from) {
                    moved = true;
                    lengths.push(bytes.len());
                    if !lose(from, &bytes) {
                        self.hand(from, to, &bytes);
                    }
                }
            }
            if !moved {
                break;
            }
        }
        lengths
    }

    fn wait(&mut self, pause: Duration) {
        self.now += pause;
        let now = self.now;
        for end in self.ends.values_mut() {
            end.links.handle_timeout(now, &mut end.out);
        }
    }

    fn heard(&mut self, n: u64) -> Vec<Vec<u8>> {
        std::mem::take(&mut self.end(n).heard).into_iter().map(|(_, message)| message).collect()
    }
}

const BOTH: [Profile; 2] = [Profile::Signed, Profile::Secure];

fn kind(bytes: &[u8]) -> u8 {
    bytes[0] % 16
}

#[test]
fn the_first_message_arrives_after_one_round_trip_and_says_who_sent_it() {
    for profile in BOTH {
        let mut wire = wire(profile);
        wire.send(1, 2, b"hello");
        let lengths = wire.carry(|_, _| false);
        let sender = wire.end(1).keys.public();
        assert_eq!(wire.end(2).heard, [(sender, b"hello".to_vec())], "{profile}");
        // First, second, third, and the message; the first as long as the second.
        assert_eq!(lengths.len(), 4, "{profile}: {lengths:?}");
        assert_eq!(lengths[0], lengths[1], "{profile}: {lengths:?}");
        wire.send(2, 1, b"hello yourself");
        assert_eq!(wire.carry(|_, _| false), [b"hello yourself".len() + OVERHEAD], "{profile}");
        assert_eq!(wire.heard(1), [b"hello yourself"], "{profile}");
        let now = wire.now;
        for (a, b) in [(1, 2), (2, 1)] {
            assert!(wire.end(a).proofs.is_proven(now, address(b)), "{profile}");
        }
    }
}

#[test]
fn any_one_lost_frame_delays_the_message_and_loses_nothing_else() {
    for profile in BOTH {
        for lost in 0..3 {
            let mut wire = wire(profile);
            wire.send(1, 2, b"hello");
            let mut gone = false;
            let mut lose = |_: u64, bytes: &[u8]| kind(bytes) == lost && !std::mem::replace(&mut gone, true);
            wire.carry(&mut lose);
            wire.wait(RETRY);
            wire.carry(&mut lose);
            // Whoever asks sends its message again if it hears nothing, as for any lost datagram.
            wire.send(1, 2, b"hello again");
            wire.carry(&mut lose);
            let heard = wire.heard(2);
            assert!(heard.contains(&b"hello again".to_vec()), "{profile} {lost}: {heard:?}");
        }
    }
}

#[test]
fn both_may_ask_at_once() {
    for profile in BOTH {
        let mut wire = wire(profile);
        wire.send(1, 2, b"one");
        wire.send(2, 1, b"two");
        wire.carry(|_, _| false);
        assert_eq!(
            (wire.heard(1), wire.heard(2)),
            (vec![b"two".to_vec()], vec![b"one".to_vec()]),
            "{profile}"
        );
        assert_eq!([1, 2].map(|n| wire.end(n).links.indices.len()), [1, 1], "{profile}: one link");
    }
}

#[test]
fn nobody_answers_and_what_waits_is_given_up_in_three_seconds() {
    let mut wire = wire(Profile::Secure);
    let nobody = SocketAddr::from(([192, 0, 2, 99], 7080));
    let now = wire.now;
    let end = wire.end(1);
    end.links.send(now, nobody, open_to_all(b"hello"), &mut end.out);
    let mut sent = wire.carry(|_, _| false).len();
    for _ in 0..60 {
        wire.wait(Duration::from_millis(50));
        sent += wire.carry(|_, _| false).len();
    }
    assert_eq!(sent, usize::from(SENDS));
    let links = &wire.end(1).links;
    assert!(links.links.is_empty() && links.indices.is_empty() && links.wakes.is_empty(), "{links:?}");
}

#[test]
fn a_frame_repeated_cut_or_changed_is_heard_once_or_never() {
    for profile in BOTH {
        let mut wire = wire(profile);
        wire.send(1, 2, b"hello");
        wire.carry(|_, _| false);
        wire.heard(2);
        wire.send(1, 2, b"pay me");
        let [(to, frame)] = wire.take(1).try_into().expect("one frame");
        for at in 0..frame.len() {
            let mut changed = frame.clone();
            changed[at] ^= 1;
            wire.hand(1, to, &changed);
            wire.hand(1, to, &frame[..at]);
        }
        assert_eq!(wire.heard(2), Vec::<Vec<u8>>::new(), "{profile}");
        wire.hand(1, to, &frame);
        wire.hand(1, to, &frame);
        assert_eq!(wire.heard(2), [b"pay me"], "{profile}");
        assert!(wire.end(2).dropped.contains(&"link replay"), "{profile}");
    }
}

/// Whoever answers at the address of another, or has taken its place since, reads nothing that is not for it.
#[test]
fn a_message_for_one_is_not_sealed_for_another_who_answers_in_its_place() {
    for profile in BOTH {
        let mut wire = wire(profile);
        let hash = HashAlgorithm::Sha256;
        let [friend, eve] = [2, 9].map(|n| End::new(profile, n).keys.public().node_id(hash));
        let send = |wire: &mut Wire, bytes: &[u8], id| {
            let now = wire.now;
            let message = Message { bytes: bytes.to_vec(), label: 1, meant: Some((id, hash)) };
            let end = wire.end(1);
            end.links.send(now, address(2), message, &mut end.out);
            wire.carry(|_, _| false);
        };
        send(&mut wire, b"to a friend", friend);
        assert_eq!(wire.heard(2), [b"to a friend"], "{profile}");
        *wire.end(2) = End::new(profile, 9);
        for secret in [b"secret 1", b"secret 2", b"secret 3"] {
            send(&mut wire, secret, friend);
            wire.wait(RENEW);
        }
        assert_eq!(wire.heard(2), Vec::<Vec<u8>>::new(), "{profile}");
        send(&mut wire, b"to eve", eve);
        assert_eq!(wire.heard(2), [b"to eve"], "{profile}");
        // The friend is back, and so is its link.
        *wire.end(2) = End::new(profile, 2);
        for n in 0..3u8 {
            wire.wait(RENEW);
            send(&mut wire, &[n], friend);
        }
        assert!(wire.heard(2).contains(&vec![2]), "{profile}");
    }
}

#[test]
fn frames_that_overtake_each_other_are_all_heard() {
    let mut wire = wire(Profile::Secure);
    wire.send(1, 2, b"hello");
    wire.carry(|_, _| false);
    wire.heard(2);
    (0..20u8).for_each(|n| wire.send(1, 2, &[n]));
    for (to, frame) in wire.take(1).into_iter().rev() {
        wire.hand(1, to, &frame);
    }
    assert_eq!(wire.heard(2).len(), 20);
}

#[test]
fn whoever_lost_its_links_says_so_and_gets_a_new_one() {
    for profile in BOTH {
        let mut wire = wire(profile);
        wire.send(1, 2, b"hello");
        wire.carry(|_, _| false);
        let keys = wire.end(2).keys.clone();
        let fresh = Links::new(profile, &keys, Seed::from_number(999)).unwrap();
        wire.end(2).links = fresh;
        wire.heard(2);
        wire.wait(Duration::from_secs(60));
        wire.send(1, 2, b"are you there?");
        wire.carry(|_, _| false);
        wire.send(1, 2, b"are you there?");
        wire.carry(|_, _| false);
        assert_eq!(wire.heard(2), [b"are you there?"], "{profile}");
    }
}

#[test]
fn a_link_is_not_lost_by_the_word_of_others() {
    let mut wire = wire(Profile::Secure);
    wire.send(1, 2, b"hello");
    wire.carry(|_, _| false);
    let theirs = wire.end(1).links.links[&address(2)].session.as_ref().unwrap().theirs;
    let suite = wire.end(1).links.suite;
    let forged = Frame::Lost { to: theirs, tail: [0; 8] }.to_bytes(suite);
    wire.hand(2, address(1), &forged);
    assert_eq!(wire.take(1), []);
    wire.send(1, 2, b"still here");
    wire.carry(|_, _| false);
    assert!(wire.heard(2).contains(&b"still here".to_vec()));
}

#[test]
fn a_link_is_made_anew_after_a_day_and_nothing_is_lost_meanwhile() {
    let mut wire = wire(Profile::Secure);
    wire.send(1, 2, b"hello");
    wire.carry(|_, _| false);
    let index = |wire: &mut Wire| wire.end(1).links.links[&address(2)].session.as_ref().unwrap().index;
    let old = index(&mut wire);
    wire.wait(LIFE + Duration::from_secs(1));
    wire.heard(2);
    wire.send(1, 2, b"a day later");
    wire.carry(|_, _| false);
    assert_eq!(wire.heard(2), [b"a day later"]);
    assert_ne!(index(&mut wire), old);
    wire.wait(OVERLAP * 2);
    wire.send(1, 2, b"and on");
    wire.carry(|_, _| false);
    assert_eq!(wire.heard(2), [b"and on"]);
    assert_eq!(wire.end(1).links.indices.len(), 1, "the old keys are gone");
}

#[test]
fn who_is_asked_by_too_many_answers_with_cookies_no_longer_than_the_question() {
    for profile in BOTH {
        let mut wire = wire(profile);
        let mut asker = End::new(profile, 50);
        let now = wire.now;
        let (mut seconds, mut cookies) = (0, 0);
        for n in 0..3 * ANSWERS_PER_S[0] {
            let from = SocketAddr::from(([198, 51, 100, 1], n as u16 + 1));
            asker.links.forget(address(2));
            asker.links.send(now, address(2), open_to_all(&[1]), &mut asker.out);
            let first = asker.out.pop().unwrap().bytes;
            let end = wire.end(2);
            end.links.handle(now, from, &first, &mut end.proofs, &mut end.out);
            let answer = end.out.pop().unwrap().bytes;
            assert!(answer.len() <= first.len(), "{profile}");
            match kind(&answer) {
                1 => seconds += 1,
                4 => cookies += 1,
                other => panic!("{other}"),
            }
        }
        assert_eq!((seconds, cookies), (ANSWERS_PER_S[0], 2 * ANSWERS_PER_S[0]), "{profile}");
        assert!(wire.end(2).links.half_open.len() <= MAX_HALF_OPEN);
        // Whoever really is where it says it is gets its link all the same.
        wire.send(1, 2, b"let me in");
        wire.carry(|_, _| false);
        assert_eq!(wire.heard(2), [b"let me in"], "{profile}");
    }
}

#[test]
fn who_proves_its_address_and_asks_without_end_costs_a_bounded_time() {
    let mut wire = wire(Profile::Secure);
    let asker = End::new(Profile::Secure, 50);
    let (now, from) = (wire.now, SocketAddr::from(([198, 51, 100, 1], 7080)));
    let end = wire.end(2);
    let cookie = end.proofs.cookie(now, from);
    let mut answered = 0;
    for n in 0..3 * ANSWERS_PER_S[1] {
        let (_, mut body) = asker.links.suite.initiate(&asker.keys, Seed::from_number(n.into()));
        body.resize(asker.links.suite.padded_first(), 0);
        let first = Frame::First { from: n, cookie, body: &body }.to_bytes(asker.links.suite);
        end.links.handle(now, from, &first, &mut end.proofs, &mut end.out);
        answered += std::iter::from_fn(|| end.out.pop()).filter(|t| kind(&t.bytes) == 1).count();
    }
    assert_eq!(answered, ANSWERS_PER_S[1] as usize);
}

#[test]
fn one_host_with_many_links_does_not_push_out_those_of_others() {
    let mut wire = wire(Profile::Secure);
    let now = wire.now;
    let end = wire.end(1);
    for n in 0..MAX_LINKS / 2 {
        let peer = SocketAddr::from(([10, 0, (n / 256) as u8, n as u8], 7080));
        end.links.send(now, peer, open_to_all(&[1]), &mut end.out);
    }
    for port in 1..2 * MAX_LINKS as u16 {
        let crowd = SocketAddr::from(([198, 51, 100, 1], port));
        end.links.send(now + Duration::from_secs(1), crowd, open_to_all(&[1]), &mut end.out);
    }
    let others = end.links.links.keys().filter(|at| at.ip() != IpAddr::from([198, 51, 100, 1])).count();
    assert_eq!((end.links.links.len(), others), (MAX_LINKS, MAX_LINKS / 2));
}

#[test]
fn links_messages_and_halves_are_bounded() {
    let mut wire = wire(Profile::Secure);
    let now = wire.now;
    let end = wire.end(1);
    for n in 0..2 * MAX_LINKS {
        let to = SocketAddr::from(([10, 0, (n / 256) as u8, n as u8], 7080));
        (0..MAX_WAITING.0 as u8 + 5)
            .for_each(|m| end.links.send(now, to, open_to_all(&[m; 100]), &mut end.out));
    }
    assert_eq!(end.links.links.len(), MAX_LINKS);
    assert_eq!(end.links.indices.len(), MAX_LINKS);
    assert_eq!(end.links.wakes.len(), MAX_LINKS);
    assert!(end.links.links.values().all(|l| l.waiting.len() <= MAX_WAITING.0));
}

#[test]
fn another_profile_is_not_spoken_to_nor_down_to() {
    let mut wire = wire(Profile::Secure);
    *wire.end(2) = End::new(Profile::Signed, 2);
    wire.send(1, 2, b"hello");
    wire.send(2, 1, b"hello");
    wire.carry(|_, _| false);
    assert_eq!((wire.heard(1), wire.heard(2)), (vec![], vec![]));
    assert!(wire.end(1).dropped.contains(&"link frame"));
}

#[test]
fn a_stand_in_costs_as_many_bytes_as_noise_and_is_refused_by_the_real_world() {
    let of = |keys: KeyPair| {
        let mut wire = wire(Profile::Secure);
        let links = Links::new(Profile::Secure, &keys, Seed::from_number(7)).unwrap();
        wire.end(1).links = links;
        wire
    };
    #[expect(clippy::disallowed_methods, reason = "a simulated world, for once")]
    let stand_in = |n| KeyPair::stand_in(Seed::from_number(n), StandIn::in_a_simulation());
    let mut mixed = of(stand_in(1));
    mixed.send(1, 2, b"hello");
    mixed.carry(|_, _| false);
    assert_eq!(mixed.heard(2), Vec::<Vec<u8>>::new());
    let mut alike = of(stand_in(1));
    alike.end(2).links = Links::new(Profile::Secure, &stand_in(2), Seed::from_number(8)).unwrap();
    alike.send(1, 2, b"hello");
    let cheap = alike.carry(|_, _| false);
    assert_eq!(alike.heard(2), [b"hello"]);
    let mut real = wire(Profile::Secure);
    real.send(1, 2, b"hello");
    assert_eq!(real.carry(|_, _| false), cheap);
}

#[test]
fn on_a_wire_that_loses_a_third_everything_repeated_often_enough_arrives() {
    for profile in BOTH {
        for seed in 0..10 {
            let mut wire = wire(profile);
            let mut rng = Seed::from_number(seed).rng();
            let mut lose = |_: u64, _: &[u8]| rng.random_range(0..3) == 0;
            for _ in 0..40 {
                wire.send(1, 2, b"ping");
                wire.send(2, 1, b"pong");
                wire.carry(&mut lose);
                wire.wait(Duration::from_millis(500));
                wire.carry(&mut lose);
            }
            assert!(wire.heard(1).contains(&b"pong".to_vec()), "{profile} {seed}");
            assert!(wire.heard(2).contains(&b"ping".to_vec()), "{profile} {seed}");
        }
    }
}
