//! Which way datagrams take, when streams are asked for, and when they end.

use super::*;

fn peer(n: u8) -> SocketAddr {
    SocketAddr::from(([192, 0, 2, n], 7080))
}

fn host(n: u16) -> SocketAddr {
    SocketAddr::from(([198, 51, (n >> 8) as u8, n as u8], 7080))
}

fn at(millis: u64) -> Time {
    Time::from_millis(100_000 + millis)
}

/// Streams, and what was asked of the world.
struct End {
    streams: Streams,
}

impl End {
    fn new(udp: bool) -> Self {
        End { streams: Streams::new(udp) }
    }

    fn send(&mut self, now: Time, to: SocketAddr, bytes: &[u8]) -> Way {
        let transmit = Transmit { socket: Socket::Peer, remote: to, bytes: bytes.to_vec() };
        self.streams.send(now, transmit, false)
    }

    fn wishes(&mut self) -> Vec<Wish> {
        std::iter::from_fn(|| self.streams.poll_wish()).collect()
    }

    /// Gives it bytes of a stream; the datagrams in them, or why it is closed.
    fn hear(&mut self, now: Time, from: SocketAddr, mut piece: &[u8]) -> Result<Vec<Vec<u8>>, &'static str> {
        let mut heard = Vec::new();
        while let Some(datagram) = self.streams.handle_piece(now, from, &mut piece)? {
            self.streams.confirm(from);
            heard.push(datagram);
        }
        Ok(heard)
    }

    /// Lets time pass until then.
    fn wait(&mut self, until: Time) {
        while let Some(due) = self.streams.poll_timeout().filter(|due| *due <= until) {
            self.streams.handle_timeout(due);
            assert!(self.streams.poll_timeout().is_none_or(|next| next > due));
        }
    }

    fn is_bounded(&self) -> bool {
        let streams = &self.streams;
        streams.count() <= MAX_OPEN
            && streams.count_of(|s| matches!(s, State::Opening { .. })) <= MAX_OPENING
            && streams.lapses.len() <= MAX_REMEMBERED
            && streams.wakes.len() + streams.lapses.len() == streams.paths.len()
    }
}

fn datagram(way: Way) -> Transmit {
    match way {
        Way::Found(transmit) => transmit,
        other => panic!("{other:?}"),
    }
}

const MESSAGE: &[u8] = &[0xC0, 1, 2, 3];

#[test]
fn a_silent_address_is_tried_by_tcp_with_the_second_message_and_what_waited_goes_there() {
    let mut end = End::new(true);
    for millis in [0, 100] {
        assert_eq!(datagram(end.send(at(millis), peer(1), MESSAGE)).socket, Socket::Peer);
        assert_eq!(end.wishes(), []);
    }
    assert_eq!(datagram(end.send(at(500), peer(1), MESSAGE)).socket, Socket::Peer, "by UDP besides");
    assert_eq!(end.wishes(), [Wish::Open(peer(1))]);
    end.send(at(510), peer(1), MESSAGE);
    end.send(at(520), peer(1), b"another");
    let waited = end.streams.handle_opened(at(600), peer(1));
    assert_eq!(waited, Some(vec![MESSAGE.to_vec(), b"another".to_vec()]));
    let sent = datagram(end.send(at(610), peer(1), MESSAGE));
    assert_eq!((sent.socket, sent.bytes), (Socket::PeerStream, frame(MESSAGE)));
}

#[test]
fn who_is_heard_by_udp_gets_no_stream_and_one_under_way_is_given_up() {
    let mut end = End::new(true);
    end.send(at(0), peer(1), MESSAGE);
    end.streams.heard(at(10), peer(1));
    end.send(at(2_000), peer(1), MESSAGE);
    assert_eq!(end.wishes(), []);
    end.send(at(4_000), peer(1), MESSAGE);
    end.streams.heard(at(4_100), peer(1));
    assert_eq!(end.wishes(), [Wish::Open(peer(1)), Wish::Close(peer(1))]);
    assert!(end.streams.paths.is_empty() && end.is_bounded());
}

#[test]
fn who_was_proven_by_udp_is_not_tried_by_tcp_when_it_falls_silent() {
    let mut end = End::new(true);
    for millis in [0, 500, 1_500, 3_500] {
        let transmit = Transmit { socket: Socket::Peer, remote: peer(1), bytes: MESSAGE.to_vec() };
        assert_eq!(datagram(end.streams.send(at(millis), transmit, true)).socket, Socket::Peer);
    }
    assert_eq!(end.wishes(), []);
}

#[test]
fn where_others_are_heard_by_udp_who_is_silent_is_given_more_time_and_few_are_tried() {
    let mut end = End::new(true);
    end.streams.heard(at(0), peer(9));
    for millis in [0, 500] {
        end.send(at(millis), peer(1), MESSAGE);
    }
    assert_eq!(end.wishes(), []);
    end.send(at(1_500), peer(1), MESSAGE);
    assert_eq!(end.wishes(), [Wish::Open(peer(1))]);
    let mut asked = 0;
    for millis in (2_000..60_000).step_by(100) {
        end.streams.heard(at(millis), peer(9));
        (0..20).for_each(|n| drop(end.send(at(millis), host(n), MESSAGE)));
        end.wait(at(millis));
        asked += end.wishes().iter().filter(|wish| matches!(wish, Wish::Open(_))).count();
    }
    assert!((1..=8).contains(&asked), "{asked}");
}

#[test]
fn a_closed_udp_port_is_not_waited_for() {
    let mut end = End::new(true);
    end.send(at(0), peer(1), MESSAGE);
    end.streams.handle_unreachable(peer(1));
    end.send(at(1), peer(1), MESSAGE);
    assert_eq!(end.wishes(), [Wish::Open(peer(1))]);
}

#[test]
fn without_udp_the_first_message_asks_and_without_a_way_nothing_leaves() {
    let mut end = End::new(false);
    assert_eq!(end.send(at(0), peer(1), MESSAGE), Way::Later);
    assert_eq!(end.wishes(), [Wish::Open(peer(1))]);
    end.streams.handle_closed(at(10), peer(1));
    assert_eq!(end.send(at(20), peer(1), MESSAGE), Way::None);
    // Half a minute later it may be there.
    end.wait(at(31_000));
    assert_eq!(end.send(at(31_000), peer(1), MESSAGE), Way::Later);
    assert_eq!(end.wishes(), [Wish::Open(peer(1))]);
}

#[test]
fn who_does_not_answer_is_given_up_after_three_seconds() {
    let mut end = End::new(false);
    end.send(at(0), peer(1), MESSAGE);
    end.wait(at(2_999));
    assert_eq!(end.wishes(), [Wish::Open(peer(1))]);
    end.wait(at(3_000));
    assert_eq!(end.wishes(), [Wish::Close(peer(1))]);
}

#[test]
fn a_stream_that_broke_is_opened_again_by_the_next_message_and_half_a_datagram_is_forgotten() {
    let mut end = End::new(true);
    end.streams.handle_opened(at(0), peer(1));
    let whole = frame(MESSAGE);
    assert_eq!(end.hear(at(1), peer(1), &whole).unwrap(), [MESSAGE]);
    assert_eq!(end.hear(at(2), peer(1), &whole[..3]).unwrap(), [] as [Vec<u8>; 0]);
    end.streams.handle_closed(at(3), peer(1));
    end.send(at(4), peer(1), MESSAGE);
    assert_eq!(end.wishes(), [Wish::Open(peer(1))]);
    assert_eq!(end.streams.handle_opened(at(5), peer(1)), Some(vec![MESSAGE.to_vec()]));
    assert_eq!(end.hear(at(6), peer(1), &whole).unwrap(), [MESSAGE]);
}

#[test]
fn a_stream_must_bring_a_whole_datagram_soon_and_finish_each_that_it_begins() {
    let mut end = End::new(true);
    let whole = frame(MESSAGE);
    // One byte each second, and nothing at all.
    end.streams.handle_opened(at(0), peer(1));
    end.streams.handle_opened(at(0), peer(2));
    for (n, byte) in whole.iter().take(4).enumerate() {
        end.hear(at(1_000 * (n as u64 + 1)), peer(1), &[*byte]).unwrap();
    }
    end.wait(at(4_999));
    assert_eq!(end.streams.count(), 2);
    end.wait(at(5_000));
    assert_eq!(end.wishes(), [Wish::Close(peer(1)), Wish::Close(peer(2))]);
    // A peer that was of use, and then stops within a datagram.
    end.streams.handle_opened(at(6_000), peer(3));
    end.hear(at(6_000), peer(3), &[&whole[..], &whole[..3]].concat()).unwrap();
    end.hear(at(12_000), peer(3), &whole[3..4]).unwrap();
    end.wait(at(15_999));
    assert_eq!(end.wishes(), []);
    end.wait(at(16_000));
    assert_eq!(end.wishes(), [Wish::Close(peer(3))]);
}

#[test]
fn a_stream_that_is_not_used_is_closed_after_a_quarter_of_an_hour() {
    let mut end = End::new(true);
    end.streams.handle_opened(at(0), peer(1));
    end.hear(at(0), peer(1), &frame(MESSAGE)).unwrap();
    let used = at(600_000);
    end.wait(used);
    end.send(used, peer(1), MESSAGE);
    end.wait((used + IDLE).saturating_sub(Duration::from_millis(1)));
    assert!(end.streams.is_open(&peer(1)));
    end.wait(used + IDLE);
    assert_eq!(end.wishes(), [Wish::Close(peer(1))]);
    end.send(used + IDLE, peer(1), MESSAGE);
    assert_eq!(end.wishes(), [Wish::Open(peer(1))], "it is known what way leads there");
}

#[test]
fn what_no_peer_says_ends_a_stream_at_once() {
    for garbage in [&[0u8, 0][..], &[0xff, 0xff, 1], &frame(&[22, 3, 1]), &frame(b"@turn"), &frame(&[9])] {
        let mut end = End::new(true);
        end.streams.handle_opened(at(0), peer(1));
        end.hear(at(0), peer(1), &frame(MESSAGE)).unwrap();
        assert_eq!(end.hear(at(1), peer(1), garbage), Err("stream garbage"), "{garbage:?}");
        assert_eq!(end.wishes(), [Wish::Close(peer(1))]);
        assert!(end.streams.paths.is_empty() && end.is_bounded());
    }
}

#[test]
fn the_silent_make_room_for_newcomers_and_of_a_crowd_first() {
    let mut end = End::new(true);
    for n in 0..200 {
        end.streams.handle_opened(at(n.into()), host(n));
        end.hear(at(n.into()), host(n), &frame(MESSAGE)).unwrap();
    }
    let of_crowd = |n: u16| SocketAddr::from(([203, 0, 113, 1], 1_000 + n));
    for n in 0..1_000u16 {
        end.streams.handle_opened(at(1_000 + u64::from(n)), of_crowd(n));
        end.hear(at(1_000 + u64::from(n)), of_crowd(n), &frame(MESSAGE)).unwrap();
        assert!(end.is_bounded());
    }
    assert!((0..200).all(|n| end.streams.is_open(&host(n))), "nobody else lost one");
    assert!(end.streams.is_open(&of_crowd(999)) && !end.streams.is_open(&of_crowd(0)));
}

#[test]
fn a_thousand_silent_addresses_cost_a_bounded_number_of_attempts_and_places() {
    for (udp, most) in [(true, 60 + 16), (false, MAX_OPENING * 60 / 3)] {
        let (mut end, mut asked) = (End::new(udp), 0);
        for millis in (0..60_000u64).step_by(20) {
            end.wait(at(millis));
            for n in [millis / 20 % 1_000, millis / 7 % 1_000] {
                end.send(at(millis), host(n as u16), MESSAGE);
            }
            asked += end.wishes().iter().filter(|wish| matches!(wish, Wish::Open(_))).count();
            assert!(end.is_bounded());
        }
        assert!((1..=most).contains(&asked), "udp {udp}: {asked}");
    }
}

#[test]
fn who_was_reached_over_a_stream_once_is_tried_again_after_a_refusal_and_after_it_made_room() {
    for udp in [true, false] {
        let mut end = End::new(udp);
        end.streams.handle_opened(at(0), peer(1));
        end.hear(at(0), peer(1), &frame(MESSAGE)).unwrap();
        end.streams.handle_closed(at(10), peer(1));
        end.send(at(20), peer(1), MESSAGE);
        assert_eq!(end.wishes(), [Wish::Open(peer(1))]);
        end.streams.handle_closed(at(30), peer(1));
        end.send(at(1_000), peer(1), MESSAGE);
        assert_eq!(end.wishes(), [], "the pause");
        end.send(at(40_000), peer(1), MESSAGE);
        assert_eq!(end.wishes(), [Wish::Open(peer(1))]);
        end.streams.handle_opened(at(40_100), peer(1));
        end.hear(at(40_100), peer(1), &frame(MESSAGE)).unwrap();
        for n in 0..MAX_OPEN as u16 {
            end.streams.handle_opened(at(41_000), host(n));
            end.hear(at(41_000), host(n), &frame(MESSAGE)).unwrap();
        }
        assert_eq!(end.wishes(), [Wish::Close(peer(1))]);
        end.send(at(42_000), peer(1), MESSAGE);
        assert_eq!(end.wishes(), [Wish::Open(peer(1))], "udp: {udp}");
        assert!(end.is_bounded());
    }
}

#[test]
fn what_is_longer_than_a_stream_carries_has_no_way_there() {
    let mut end = End::new(true);
    end.streams.handle_opened(at(0), peer(1));
    assert_eq!(end.send(at(0), peer(1), &[0xC0; MAX_FRAME + 1]), Way::None);
    assert_eq!(datagram(end.send(at(0), peer(1), &[0xC0; MAX_FRAME])).bytes.len(), MAX_FRAME + 2);
}

#[test]
fn a_closed_udp_port_takes_nothing_from_a_stream_that_stands_or_is_on_its_way() {
    let mut end = End::new(true);
    assert!(!end.streams.handle_unreachable(peer(1)), "nobody was asked");
    end.send(at(0), peer(1), MESSAGE);
    assert!(!end.streams.handle_unreachable(peer(1)), "what went by UDP is lost");
    end.send(at(1), peer(1), MESSAGE);
    assert!(end.streams.handle_unreachable(peer(1)), "what waits is not");
    assert_eq!(end.streams.handle_opened(at(2), peer(1)), Some(vec![MESSAGE.to_vec()]));
    assert!(end.streams.handle_unreachable(peer(1)));
}
