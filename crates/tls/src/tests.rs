//! Peers of the core with links by these libraries, over a wire that carries datagrams and streams.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use link::provider::Output;
use link::{Endpoint, Received, Wish};
use wire::{HashAlgorithm, LinkFamily, NodeId, Profile, PublicKey, Seed, Socket, Transmit};

use super::*;

/// Two or three peers, and what they heard.
struct Wire {
    now: Time,
    ends: BTreeMap<SocketAddr, End>,
    /// Addresses between which UDP does not get through.
    without_udp: bool,
    /// Every datagram and piece that was carried: who sent it, over what, and how long it was.
    carried: Vec<(u64, Socket, Vec<u8>)>,
    streams: BTreeSet<(SocketAddr, SocketAddr)>,
}

struct End {
    provider: Arc<Tls>,
    keys: KeyPair,
    endpoint: Endpoint,
    heard: Vec<(PublicKey, Vec<u8>)>,
}

impl End {
    fn new(n: u64) -> Self {
        let keys = KeyPair::from_seed(Seed::from_number(n));
        let provider = Tls::new(&keys).unwrap();
        let endpoint = End::endpoint(&provider, &keys);
        End { provider, keys, endpoint, heard: Vec::new() }
    }

    fn endpoint(provider: &Arc<Tls>, keys: &KeyPair) -> Endpoint {
        let family = (Profile::Secure, LinkFamily::Tls);
        let mut endpoint = Endpoint::with_links(family, Some(provider.clone()), keys, Seed::from_number(9));
        endpoint.use_streams(true);
        endpoint
    }

    fn note(&mut self, received: Received) {
        if let Received::Sealed(peer, message) = received {
            self.heard.push((peer, message));
        }
    }
}

fn address(n: u64) -> SocketAddr {
    SocketAddr::from(([192, 0, 2, n as u8], 7080))
}

fn wire() -> Wire {
    Wire {
        now: Time::from_secs(10),
        ends: (1..=3).map(|n| (address(n), End::new(n))).collect(),
        without_udp: false,
        carried: Vec::new(),
        streams: BTreeSet::new(),
    }
}

/// A message of P2PP, as far as a link looks at it.
fn message(text: &str) -> Vec<u8> {
    [&[0xC0], text.as_bytes()].concat()
}

impl Wire {
    fn end(&mut self, n: u64) -> &mut End {
        self.ends.get_mut(&address(n)).unwrap()
    }

    fn send(&mut self, from: u64, to: u64, text: &str) {
        self.send_to(from, (address(to), None), text);
    }

    fn send_to(&mut self, from: u64, to: (SocketAddr, Option<(NodeId, HashAlgorithm)>), text: &str) {
        let now = self.now;
        self.end(from).endpoint.send_to(now, to, message(text), 1);
    }

    fn heard(&mut self, n: u64) -> Vec<(PublicKey, Vec<u8>)> {
        std::mem::take(&mut self.end(n).heard)
    }

    /// What an end wants sent, and the streams it wants.
    fn take(&mut self, n: u64) -> Vec<Transmit> {
        let endpoint = &mut self.end(n).endpoint;
        let sent = std::iter::from_fn(|| endpoint.poll_transmit()).collect();
        let wishes: Vec<Wish> = std::iter::from_fn(|| endpoint.poll_stream()).collect();
        for wish in wishes {
            match wish {
                Wish::Open(to) => self.connect(address(n), to),
                Wish::Close(to) => self.disconnect(address(n), to),
            }
        }
        sent
    }

    fn connect(&mut self, from: SocketAddr, to: SocketAddr) {
        let now = self.now;
        if !self.ends.contains_key(&to) {
            return self.ends.get_mut(&from).unwrap().endpoint.handle_stream_closed(now, to);
        }
        for (a, b) in [(from, to), (to, from)] {
            if self.streams.insert((a, b)) {
                self.ends.get_mut(&a).unwrap().endpoint.handle_stream_opened(now, b);
            }
        }
    }

    fn disconnect(&mut self, from: SocketAddr, to: SocketAddr) {
        let now = self.now;
        for (a, b) in [(from, to), (to, from)] {
            if self.streams.remove(&(a, b)) {
                self.ends.get_mut(&a).unwrap().endpoint.handle_stream_closed(now, b);
            }
        }
    }

    fn hand(&mut self, from: SocketAddr, transmit: &Transmit) {
        let now = self.now;
        let Some(end) = self.ends.get_mut(&transmit.remote) else { return };
        match transmit.socket {
            Socket::PeerStream if self.streams.contains(&(from, transmit.remote)) => {
                let mut piece = &transmit.bytes[..];
                while let Some((received, _)) = end.endpoint.handle_piece(now, from, &mut piece) {
                    end.note(received);
                }
            }
            Socket::Peer if !self.without_udp => {
                let received = end.endpoint.handle_datagram(now, from, &transmit.bytes);
                end.note(received);
                while let Some((_, more)) = end.endpoint.poll_received() {
                    end.note(more);
                }
            }
            _ => {}
        }
    }

    fn carry(&mut self) {
        self.carry_but(|_, _| false);
    }

    /// Carries everything until nothing moves, but what is lost.
    fn carry_but(&mut self, mut is_lost: impl FnMut(u64, &[u8]) -> bool) {
        for _ in 0..50 {
            let mut sent = VecDeque::new();
            for n in 1..=3 {
                sent.extend(self.take(n).into_iter().map(|transmit| (n, transmit)));
            }
            if sent.is_empty() {
                return;
            }
            for (n, transmit) in sent {
                self.carried.push((n, transmit.socket, transmit.bytes.clone()));
                if !is_lost(n, &transmit.bytes) {
                    self.hand(address(n), &transmit);
                }
            }
        }
        panic!("it never ends");
    }

    fn wait(&mut self, pause: Duration) {
        let until = self.now + pause;
        loop {
            let due = self.ends.values().filter_map(|end| end.endpoint.poll_timeout()).min();
            self.now = due.filter(|at| *at < until).map_or(until, |at| at.max(self.now));
            let now = self.now;
            self.ends.values_mut().for_each(|end| end.endpoint.handle_timeout(now));
            self.carry();
            if self.now >= until {
                return;
            }
        }
    }

    fn lengths(&self, from: u64) -> Vec<usize> {
        self.carried.iter().filter(|(n, ..)| *n == from).map(|(.., bytes)| bytes.len()).collect()
    }

    fn drops(&mut self, n: u64) -> BTreeMap<&'static str, u64> {
        self.end(n).endpoint.drops()
    }
}

fn id(n: u64) -> Option<(NodeId, HashAlgorithm)> {
    let hash = HashAlgorithm::Sha256;
    Some((KeyPair::from_seed(Seed::from_number(n)).public().node_id(hash), hash))
}

fn key(n: u64) -> PublicKey {
    KeyPair::from_seed(Seed::from_number(n)).public()
}

const HELLO: &str = "hello";

#[test]
fn the_first_message_arrives_after_one_round_trip_and_says_who_sent_it() {
    let mut wire = wire();
    wire.send(1, 2, HELLO);
    wire.carry();
    assert_eq!(wire.heard(2), [(key(1), message(HELLO))]);
    // Hello; flight; flight and message; and that the flight has come.
    let who: Vec<u64> = wire.carried.iter().map(|(n, ..)| *n).collect();
    assert_eq!(who, [1, 2, 1, 1, 2]);
    wire.send(2, 1, "back");
    wire.carry();
    assert_eq!(wire.heard(1), [(key(2), message("back"))]);
    assert_eq!(wire.carried.last().unwrap().2.len(), message("back").len() + 22);
}

#[test]
fn nobody_who_listens_reads_a_message_or_learns_who_speaks() {
    let mut wire = wire();
    wire.send(1, 2, "CQ CQ CQ de IN3FQQ");
    wire.carry();
    for secret in [&message("CQ CQ CQ de IN3FQQ")[..], &key(1).0, &key(2).0] {
        let is_seen = wire.carried.iter().any(|(.., bytes)| bytes.windows(secret.len()).any(|w| w == secret));
        assert!(!is_seen);
    }
}

#[test]
fn who_has_not_shown_that_it_hears_us_gets_no_more_bytes_than_it_sent() {
    let mut wire = wire();
    wire.send(1, 2, HELLO);
    let hello = wire.take(1);
    // Nothing that the other side sends comes back: it goes on trying for a while.
    let mut received = 0;
    for repetitions in [1, 0, 0, 2, 0] {
        for _ in 0..repetitions {
            received += hello[0].bytes.len();
            wire.hand(address(1), &hello[0]);
        }
        wire.wait_alone(2, Duration::from_secs(1));
        let sent: usize = wire.lengths(2).iter().sum();
        assert!(sent > 0 && sent <= received, "{sent} for {received}");
    }
}

impl Wire {
    /// One end does what it has to, and nothing of it arrives.
    fn wait_alone(&mut self, n: u64, pause: Duration) {
        self.now += pause;
        let now = self.now;
        for transmit in self.take(n) {
            self.carried.push((n, transmit.socket, transmit.bytes));
        }
        self.end(n).endpoint.handle_timeout(now);
        for transmit in self.take(n) {
            self.carried.push((n, transmit.socket, transmit.bytes));
        }
    }
}

#[test]
fn hellos_without_end_are_answered_with_a_cookie_and_who_repeats_it_gets_a_link() {
    let mut wire = wire();
    let now = wire.now;
    // A flood: the hello of one, from anywhere.
    wire.send(1, 2, HELLO);
    let mut hello = wire.take(1)[0].bytes.clone();
    let (mut received, mut sent) = (0, 0);
    for n in 0..2_000u32 {
        let from = SocketAddr::from(([198, 51, (n >> 8) as u8, n as u8], 7080));
        hello[27..31].copy_from_slice(&n.to_be_bytes());
        received += hello.len();
        wire.end(2).endpoint.handle_datagram(now, from, &hello);
        sent += wire.take(2).iter().map(|transmit| transmit.bytes.len()).sum::<usize>();
    }
    assert!(sent < received / 20, "{sent} for {received}");
    assert_eq!(wire.drops(2)["link cookie"], 2_000 - 25);
    wire.send(3, 2, HELLO);
    wire.carry();
    assert_eq!(wire.heard(2), [(key(3), message(HELLO))]);
}

#[test]
fn what_is_lost_is_sent_again_and_who_never_answers_is_given_up_after_three_seconds() {
    for lost in 0..4 {
        let mut wire = wire();
        wire.send(1, 2, HELLO);
        let mut n = 0;
        wire.carry_but(|_, _| {
            n += 1;
            n - 1 == lost
        });
        wire.wait(Duration::from_secs(2));
        let heard = wire.heard(2);
        // The message itself is nobody's to send again here.
        let expected = if lost == 3 { vec![] } else { vec![(key(1), message(HELLO))] };
        assert_eq!(heard, expected, "datagram {lost} was lost");
    }
    let mut wire = wire();
    wire.send_to(1, (address(99), None), HELLO);
    wire.carry();
    wire.wait(Duration::from_secs(4));
    assert!(wire.drops(1)["link unanswered"] == 1);
    assert!((2..=3).contains(&wire.lengths(1).len()), "{:?}", wire.lengths(1));
}

#[test]
fn two_that_ask_at_once_have_one_link() {
    let mut wire = wire();
    wire.send(1, 2, "from one");
    wire.send(2, 1, "from two");
    wire.carry();
    assert_eq!(wire.heard(1), [(key(2), message("from two"))]);
    assert_eq!(wire.heard(2), [(key(1), message("from one"))]);
    for n in 1..=2 {
        assert_eq!(wire.end(n).endpoint.count_links(), 1);
        wire.send(n, 3 - n, "again");
    }
    wire.carry();
    assert_eq!((wire.heard(1).len(), wire.heard(2).len()), (1, 1));
}

#[test]
fn a_peer_that_starts_again_is_reached_and_reaches_at_once() {
    for first in [1, 2] {
        let mut wire = wire();
        wire.send(1, 2, HELLO);
        wire.carry();
        let end = wire.end(2);
        end.endpoint = End::endpoint(&end.provider, &end.keys);
        end.heard.clear();
        wire.send(first, 3 - first, "still there?");
        wire.carry();
        wire.send(first, 3 - first, "now?");
        wire.carry();
        let heard = wire.heard(3 - first);
        assert_eq!(heard.last(), Some(&(key(first), message("now?"))), "{first}");
    }
}

#[test]
fn only_who_saw_a_record_can_say_that_its_link_is_lost() {
    let mut wire = wire();
    wire.send(1, 2, HELLO);
    wire.carry();
    let now = wire.now;
    for tail in [[0; 8], [7; 8]] {
        let lost = [&[121][..], &tail].concat();
        wire.end(1).endpoint.handle_datagram(now, address(2), &lost);
        assert_eq!(wire.end(1).endpoint.count_links(), 1);
    }
    let record = wire.carried.iter().rev().find(|(n, ..)| *n == 1).unwrap().2.clone();
    let lost = [&[121][..], &record[record.len() - 8..]].concat();
    wire.end(1).endpoint.handle_datagram(now, address(2), &lost);
    assert_eq!(wire.end(1).endpoint.count_links(), 0);
}

#[test]
fn a_message_for_another_than_answers_there_does_not_leave() {
    let mut wire = wire();
    wire.send_to(1, (address(2), id(3)), "for three");
    wire.carry();
    assert_eq!(wire.heard(2), []);
    assert_eq!(wire.drops(1)["link of another"], 1);
    wire.send_to(1, (address(2), id(2)), "for two");
    wire.carry();
    assert_eq!(wire.heard(2), [(key(1), message("for two"))]);
}

#[test]
fn whoever_stands_between_two_and_answers_in_its_own_name_is_not_taken_for_the_other() {
    // All that goes to two goes to three, which answers from the address of two.
    let mut wire = wire();
    let now = wire.now;
    wire.send_to(1, (address(2), id(2)), "for two");
    for _ in 0..5 {
        for transmit in wire.take(1) {
            wire.end(3).endpoint.handle_datagram(now, address(1), &transmit.bytes);
        }
        for transmit in wire.take(3) {
            wire.end(1).endpoint.handle_datagram(now, address(2), &transmit.bytes);
        }
    }
    assert_eq!(wire.heard(3), []);
    assert_eq!(wire.drops(1)["link of another"], 1);
}

#[test]
fn a_changed_byte_of_a_handshake_makes_no_link_with_anybody_else() {
    // Every seventh byte of each of the three flights; a byte of padding may change, a key may not.
    for flight in 0..3 {
        for at in (0..600).step_by(41) {
            let mut wire = wire();
            wire.send(1, 2, HELLO);
            let mut n = 0;
            for _ in 0..6 {
                for from in [1, 2] {
                    for mut transmit in wire.take(from) {
                        if n == flight && at < transmit.bytes.len() {
                            transmit.bytes[at] ^= 1;
                        }
                        n += 1;
                        wire.hand(address(from), &transmit);
                    }
                }
            }
            let heard = wire.heard(2);
            assert!(heard.iter().all(|heard| *heard == (key(1), message(HELLO))), "{flight} {at}: {heard:?}");
        }
    }
}

#[test]
fn messages_of_peers_without_a_provider_stay_where_they_are() {
    let keys = KeyPair::from_seed(Seed::from_number(1));
    let family = (Profile::Secure, LinkFamily::Tls);
    let mut endpoint = Endpoint::with_links(family, None, &keys, Seed::from_number(2));
    endpoint.send_to(Time::ZERO, (address(2), None), message(HELLO), 1);
    assert_eq!(endpoint.poll_transmit(), None);
    let received = endpoint.handle_datagram(Time::ZERO, address(2), &message(HELLO));
    assert_eq!(received, Received::Dropped("p2pp in the clear"));
}

#[test]
fn where_udp_does_not_get_through_messages_go_over_tls() {
    let mut wire = wire();
    wire.without_udp = true;
    for text in ["one", "two", "three"] {
        wire.send(1, 2, text);
        wire.carry();
        wire.wait(Duration::from_millis(400));
    }
    let heard = wire.heard(2);
    assert_eq!(heard.len(), 3, "{heard:?}");
    assert!(heard.iter().all(|(peer, _)| *peer == key(1)));
    wire.send_to(2, (address(1), id(1)), "back");
    wire.send_to(2, (address(1), id(3)), "for three");
    wire.carry();
    assert_eq!(wire.heard(1), [(key(2), message("back"))]);
    assert_eq!(wire.drops(2)["link of another"], 1);
    for secret in [&message("three")[..], &message("back"), &key(1).0] {
        let is_seen = wire.carried.iter().any(|(.., bytes)| bytes.windows(secret.len()).any(|w| w == secret));
        assert!(!is_seen);
    }
}

impl Wire {
    /// Opens a stream of which both ends say that they asked for it, if it is so.
    fn join(&mut self, who_asked: &[u64]) {
        let now = self.now;
        self.without_udp = true;
        for n in who_asked {
            for _ in 0..5 {
                self.now += Duration::from_millis(400);
                self.send(*n, 3 - *n, &format!("from {n}"));
                let now = self.now;
                let endpoint = &mut self.end(*n).endpoint;
                while endpoint.poll_transmit().is_some() {}
                endpoint.handle_timeout(now);
            }
            let endpoint = &mut self.end(*n).endpoint;
            assert_eq!(endpoint.poll_stream(), Some(Wish::Open(address(3 - n))), "from {now:?}");
        }
        self.connect(address(1), address(2));
    }
}

#[test]
fn two_that_connect_to_each_other_at_once_share_one_session() {
    for who in [&[1][..], &[2], &[1, 2]] {
        let mut wire = wire();
        wire.join(who);
        wire.carry();
        for n in who {
            assert_eq!(wire.heard(3 - n), [(key(*n), message(&format!("from {n}")))], "{who:?}");
        }
        assert_eq!([1, 2].map(|n| wire.end(n).endpoint.count_links()), [1, 1], "{who:?}");
    }
}

/// How many bytes a stream takes to say something, and how many when it is opened again after so long, by saying so
/// much.
fn full_and_again(pause: Duration, texts: &[&str]) -> [usize; 2] {
    let mut wire = wire();
    wire.join(&[1]);
    wire.carry();
    assert_eq!(wire.heard(2).len(), 1);
    let full: usize = wire.carried.drain(..).map(|(.., bytes)| bytes.len()).sum();
    wire.disconnect(address(1), address(2));
    wire.now += pause;
    for text in texts {
        wire.send(1, 2, text);
        wire.carry();
        wire.wait(Duration::from_millis(400));
    }
    assert_eq!(wire.heard(2).len(), texts.len());
    let over_stream = wire.carried.iter().filter(|(_, socket, _)| *socket == Socket::PeerStream);
    [full, over_stream.map(|(.., bytes)| bytes.len()).sum()]
}

#[test]
fn a_session_that_ended_is_taken_up_again_with_a_third_of_the_bytes() {
    let [full, again] = full_and_again(Duration::ZERO, &["again"]);
    assert!(again * 2 < full, "{again} after {full}");
}

#[test]
fn a_ticket_is_as_old_as_the_core_says() {
    let [full, again] = full_and_again(Duration::from_secs(30 * 24 * 3_600), &["one", "two", "three"]);
    assert!(again * 10 > full * 9, "{again} after {full}");
}

#[test]
fn a_stream_that_says_nothing_of_tls_is_closed() {
    let mut wire = wire();
    let now = wire.now;
    wire.streams.insert((address(3), address(2)));
    wire.end(2).endpoint.handle_stream_opened(now, address(3));
    wire.hand(
        address(3),
        &Transmit { socket: Socket::PeerStream, remote: address(2), bytes: vec![0, 4, 1, 2, 3, 4] },
    );
    let endpoint = &mut wire.end(2).endpoint;
    assert_eq!(endpoint.poll_stream(), Some(Wish::Close(address(3))));
    assert_eq!(endpoint.drops()["stream garbage"], 1);
}

/// What anybody can say in the clear: a record of this kind and content.
fn clear(kind: u8, content: &[u8]) -> Vec<u8> {
    let mut record = vec![kind, 254, 253, 0, 0, 0, 0, 0, 0, 0, 5];
    record.extend((content.len() as u16).to_be_bytes());
    record.extend(content);
    record
}

/// A message of a handshake, of which this stands in the record.
fn part(kind: u8, seq: u8, len: u8, content: &[u8]) -> Vec<u8> {
    let head = [kind, 0, 0, len, 0, seq, 0, 0, 0, 0, 0, content.len() as u8];
    clear(22, &[&head[..], content].concat())
}

/// What a forger that sees nothing tries with a handshake.
fn forgeries() -> Vec<Vec<u8>> {
    let fragments = (1..=20).map(|seq| part(11, seq, 99, &[0; 9]));
    let cookies = (0..3).map(|n| [&[120][..], &[n; 24]].concat());
    let bare_cookies = (0..3).map(|n| [&[120][..], &[n; 16]].concat());
    let said = [clear(21, &[2, 40]), part(2, 0, 40, &[3; 40])];
    let answers = said.iter().map(|said| [&[123][..], &[7; 8], said].concat());
    let sealed = (0..30).map(|n| [&[0x2E, 0, n, 0, 40][..], &[n; 40]].concat());
    let mut all = vec![clear(21, &[2, 40]), clear(26, &[0, 0]), part(2, 0, 40, &[3; 40])];
    all.extend(fragments.chain(cookies).chain(bare_cookies).chain(answers).chain(sealed));
    all
}

#[test]
fn whatever_is_forged_in_the_clear_a_link_that_stands_goes_on() {
    let mut wire = wire();
    wire.send(1, 2, HELLO);
    wire.carry();
    let finished = part(20, 0, 0, &[]).repeat(11);
    let behind_a_record = [&[0x2F, 0, 1, 0, 20][..], &[7; 20], &finished].concat();
    for forged in [finished, behind_a_record].into_iter().chain(forgeries()) {
        for (n, from) in [(1, 2), (2, 1)] {
            let now = wire.now;
            wire.end(n).endpoint.handle_datagram(now, address(from), &forged);
        }
    }
    let handshakes = wire.carried.len();
    wire.heard(2);
    wire.send(1, 2, "on");
    wire.send(2, 1, "and on");
    wire.carry();
    assert_eq!(wire.heard(1), [(key(2), message("and on"))]);
    assert_eq!(wire.heard(2), [(key(1), message("on"))]);
    assert_eq!(wire.carried.len(), handshakes + 2, "nothing is resent, and no link made anew");
}

/// Carries what one session has to say to another.
fn pump(now: Time, from: &mut dyn Session, to: &mut dyn Session) {
    while let Some(given) = from.poll() {
        if let Output::Bytes(bytes) = given {
            to.handle(now, &bytes);
        }
    }
}

#[test]
fn nothing_but_an_alert_of_the_other_side_ends_a_session_that_stands() {
    let now = Time::from_secs(10);
    let provider = |n| Tls::new(&KeyPair::from_seed(Seed::from_number(n))).unwrap();
    let begin = |n, role| provider(n).begin(now, Carrier::Datagrams, role, address(n));
    let (mut asks, mut asked) = (begin(1, Role::Asks), begin(2, Role::Asked));
    for _ in 0..4 {
        pump(now, &mut *asks, &mut *asked);
        pump(now, &mut *asked, &mut *asks);
    }
    for session in [&mut asks, &mut asked] {
        session.handle(now, &part(20, 0, 0, &[]).repeat(11));
        session.handle(now, &[0x2F, 0, 1, 0, 99, 1]);
        let given: Vec<_> = std::iter::from_fn(|| session.poll()).collect();
        assert!(!given.contains(&Output::Over), "{given:?}");
    }
}

#[test]
fn who_sees_nothing_keeps_no_link_from_being_made() {
    for victim in [1, 2] {
        let mut wire = wire();
        let now = wire.now;
        wire.send(1, 2, HELLO);
        let hello = wire.take(1).remove(0);
        if victim == 2 {
            wire.hand(address(1), &hello);
        }
        for forged in forgeries() {
            wire.end(victim).endpoint.handle_datagram(now, address(3 - victim), &forged);
        }
        if victim == 1 {
            assert_eq!(wire.take(1), [], "nothing of it is believed");
            wire.hand(address(1), &hello);
        }
        wire.carry();
        assert_eq!(wire.heard(2), [(key(1), message(HELLO))], "{victim}");
    }
}

/// Two that asked at once, of whom each has the session that the other asked for before its own.
fn crossed() -> Wire {
    loop {
        let mut wire = wire();
        wire.send(1, 2, "from one");
        wire.send(2, 1, "from two");
        let [first, second] = [1, 2].map(|n| wire.take(n).remove(0));
        wire.hand(address(1), &first);
        let answer = wire.take(2);
        let [answer] = &answer[..] else { continue }; // The other hello is the greater.
        wire.hand(address(2), answer);
        let flight = wire.take(1);
        wire.hand(address(2), &second);
        for _ in 0..2 {
            for from in [1, 2] {
                for transmit in wire.take(from) {
                    wire.hand(address(from), &transmit);
                }
            }
        }
        for transmit in flight {
            wire.hand(address(1), &transmit);
        }
        wire.carry();
        return wire;
    }
}

#[test]
fn two_ends_with_different_sessions_lose_nothing_and_notice_it() {
    let mut wire = crossed();
    assert_eq!(wire.heard(1), [(key(2), message("from two"))]);
    assert_eq!(wire.heard(2), [(key(1), message("from one"))]);
    for pause in [1, 6, 11, 2] {
        wire.wait(Duration::from_secs(pause));
        for n in [1, 2] {
            wire.send(n, 3 - n, &format!("after {pause}"));
            wire.carry();
        }
        let heard = [1, 2].map(|n| wire.heard(n).len());
        if pause != 11 {
            assert_eq!(heard, [1, 1], "after {pause}");
        }
    }
}

#[test]
fn a_record_that_comes_twice_is_not_taken_for_one_of_a_lost_link() {
    let mut wire = wire();
    for n in [1, 2] {
        wire.send(n, 3 - n, HELLO);
        wire.carry();
    }
    wire.wait(Duration::from_secs(5));
    wire.send(1, 2, "once");
    let record = wire.take(1).remove(0);
    wire.hand(address(1), &record);
    wire.hand(address(1), &record);
    assert_eq!((wire.take(2), wire.heard(2).len()), (vec![], 2));
    let stranger = [&[0x2F, 0, 9, 0, 40][..], &[7; 40]].concat();
    let now = wire.now;
    wire.end(2).endpoint.handle_datagram(now, address(1), &stranger);
    assert_eq!(wire.take(2)[0].bytes, [&[121][..], &[7; 8]].concat());
}

#[test]
fn several_hellos_of_one_address_get_no_more_than_came_with_all_of_them() {
    let mut wire = wire();
    let mut received = 0;
    for _ in 0..2 {
        let end = wire.end(1);
        end.endpoint = End::endpoint(&end.provider, &end.keys);
        wire.send(1, 2, HELLO);
        let hello = wire.take(1).remove(0);
        received += hello.bytes.len();
        wire.hand(address(1), &hello);
    }
    let junk = [&[0x2E, 0, 1, 2, 88][..], &[7; 600]].concat();
    received += junk.len();
    let now = wire.now;
    wire.end(2).endpoint.handle_datagram(now, address(1), &junk);
    for _ in 0..5 {
        wire.wait_alone(2, Duration::from_secs(1));
    }
    let sent: usize = wire.lengths(2).iter().sum();
    assert!(sent > 0 && sent <= received, "{sent} for {received}");
}

#[test]
fn a_message_that_leaves_when_a_flight_is_due_arrives() {
    let mut wire = wire();
    wire.send(1, 2, HELLO);
    // That the flight has come is never heard of.
    let mut n = 0;
    wire.carry_but(|_, _| {
        n += 1;
        n == 5
    });
    assert_eq!(wire.heard(2).len(), 1);
    wire.now += Duration::from_millis(500);
    wire.send(1, 2, "on time");
    wire.carry();
    assert_eq!(wire.heard(2), [(key(1), message("on time"))]);
}

#[test]
fn the_last_words_of_a_stream_are_heard_and_who_says_them_is_a_peer_still() {
    let mut wire = wire();
    wire.join(&[1]);
    wire.carry();
    wire.heard(2);
    wire.send(1, 2, "farewell");
    let record = wire.take(1).remove(0);
    // With it comes what ends the session.
    let bytes = [&record.bytes[..], &[23, 3, 3, 0, 40], &[7; 40]].concat();
    wire.hand(address(1), &Transmit { bytes, ..record });
    assert_eq!(wire.heard(2), [(key(1), message("farewell"))]);
    let endpoint = &mut wire.end(2).endpoint;
    assert_eq!(endpoint.poll_stream(), Some(Wish::Close(address(1))));
    assert_eq!((endpoint.drops().get("stream garbage"), endpoint.count_links()), (None, 0));
}

#[test]
fn what_a_handshake_over_a_stream_costs_is_told_to_whoever_keeps_the_books() {
    let mut wire = wire();
    wire.join(&[1]);
    let (mut sent, mut booked) = (0, 0);
    let hello = wire.take(1);
    for piece in hello {
        sent += piece.bytes.len();
        let now = wire.now;
        let mut rest = &piece.bytes[..];
        while let Some((received, bytes)) = wire.end(2).endpoint.handle_piece(now, address(1), &mut rest) {
            assert_eq!(received, Received::Link);
            booked += bytes.len();
        }
    }
    assert!(sent > 0 && booked == sent, "{booked} of {sent}");
}

#[test]
fn no_datagram_of_a_handshake_is_longer_than_every_path_carries() {
    let mut wire = wire();
    // So many that a cookie is asked for.
    let now = wire.now;
    wire.send(3, 2, HELLO);
    let mut hello = wire.take(3)[0].bytes.clone();
    for n in 0..30 {
        hello[27] = n;
        wire.end(2).endpoint.handle_datagram(now, address(3), &hello);
    }
    wire.take(2);
    wire.send(1, 2, HELLO);
    wire.carry();
    assert_eq!(wire.heard(2).len(), 1);
    let longest = wire.carried.iter().map(|(.., bytes)| bytes.len()).max();
    assert_eq!(longest, Some(1_280 - 40 - 8));
}
