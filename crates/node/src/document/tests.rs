use super::*;

const FROM: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 7080);

fn at(n: u16) -> SocketAddr {
    SocketAddr::new(FROM.ip(), n)
}

/// Knows a founder key, and no document.
fn expecting() -> Documents {
    let founder = wire::KeyPair::from_seed(wire::Seed([7; 32])).public();
    Documents::new(Some(&Charter { founder, documents: None }.into()))
}

#[test]
fn parts_that_are_not_what_was_asked_for_end_the_fetch_and_their_sender_is_left_alone() {
    let long = vec![0; PART];
    for (already, part, pause) in [
        (0, Some((2, 10, 5, &long[..5])), LATER),
        (0, Some((2, MAX_CARRIED + 1, 0, &long[..5])), LATER),
        (0, Some((2, 4, 0, &long[..5])), LATER),
        (0, Some((2, 10, 0, &long[..0])), LATER),
        (5, Some((2, 10, usize::MAX, &long[..5])), LATER),
        // It has another by now, or none, or is busy.
        (5, Some((3, 10, 5, &long[..5])), SOON),
        (5, Some((2, 11, 5, &long[..5])), SOON),
        (0, None, SOON),
    ] {
        let mut documents = expecting();
        let now = Time::from_secs(1);
        assert!(documents.begin(now, (FROM, None), 2));
        if already > 0 {
            let first = documents.take_part(now, FROM, Some((2, 10, 0, &long[..already])));
            assert!(matches!(first, Progress::Next(_, offset) if offset == already));
        }
        assert!(matches!(documents.take_part(now, FROM, part), Progress::None), "{part:?}");
        let early = now + (pause - Duration::from_millis(1));
        assert!(!documents.begin(early, (FROM, None), 2), "{part:?}");
        assert!(documents.begin(now + pause, (FROM, None), 2));
    }
}

#[test]
fn whole_is_what_one_peer_gave_in_order_whoever_else_writes() {
    let mut documents = expecting();
    let now = Time::from_secs(1);
    assert!(documents.begin(now, (FROM, None), 2));
    assert!(matches!(documents.take_part(now, at(1), Some((2, 2, 0, b"xx"))), Progress::None));
    assert!(matches!(documents.take_part(now, FROM, Some((2, 4, 0, b"ab"))), Progress::Next(_, 2)));
    let Progress::Whole(bytes) = documents.take_part(now, FROM, Some((2, 4, 2, b"cd"))) else { panic!() };
    assert_eq!(bytes, b"abcd");
}

#[test]
fn one_is_asked_at_a_time_and_who_is_slow_loses_its_turn() {
    let mut documents = expecting();
    let mut now = Time::from_secs(1);
    assert!(documents.begin(now, (FROM, None), 2));
    now += PARTS_WITHIN - Duration::from_millis(1);
    assert!(!documents.begin(now, (at(1), None), 2));
    now += Duration::from_millis(1);
    assert!(documents.begin(now, (at(1), None), 2));
    assert!(!documents.begin(now + PARTS_WITHIN, (FROM, None), 2), "it was slow");
    // A crowd is asked one by one, and of those that gave nothing as many are remembered as are allowed.
    for n in 1..2 * MAX_FRUITLESS as u16 {
        documents.take_part(now, at(n), Some((2, 10, 5, b"x")));
        now += PAUSE;
        documents.begin(now, (at(n + 1), None), 2);
    }
    assert_eq!(documents.0.unwrap().fruitless.len(), MAX_FRUITLESS);
}

#[test]
fn later_is_whatever_lies_in_the_half_circle_ahead() {
    assert!(is_later(1, 0) && is_later(u16::MAX, 0));
    assert!(is_later(2, 1) && !is_later(1, 2) && !is_later(2, 2));
    assert!(is_later(short(65_537), short(65_535)));
    assert!(!is_later(0, 1), "who has none has none to give");
    assert_eq!((short(0), short(65_536), short(65_537)), (0, 1, 1));
}
