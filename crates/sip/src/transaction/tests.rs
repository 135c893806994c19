//! The four state machines of RFC 3261 section 17, with the mends of RFC 6026, over lossy and reliable ways.

use proptest::prelude::*;
use wire::sip::{self, Header};
use wire::{ConnectionId, Seed};

use super::*;

fn udp() -> Flow {
    Flow::Udp("192.0.2.9:5060".parse().unwrap())
}

fn tcp() -> Flow {
    Flow::Stream(ConnectionId(1), "192.0.2.9:5060".parse().unwrap())
}

fn by() -> SentBy {
    SentBy { host: "192.0.2.1".into(), port: Some(5060) }
}

fn layer(n: u64) -> Transactions {
    Transactions::new(Seed::from_number(n))
}

fn bare(method: Method, call: u32) -> Message {
    Message::request(method.clone(), "sip:b@192.0.2.9")
        .with("Max-Forwards", "70")
        .with("From", "<sip:a@x>;tag=1")
        .with("To", "<sip:b@x>")
        .with("Call-ID", format!("c{call}"))
        .with("CSeq", format!("1 {method}"))
}

/// A request as it arrives, with a Via of the sender's.
fn incoming(method: Method, via: &str) -> Message {
    let mut message = bare(method, 1);
    message.headers.insert(0, Header::new("Via", via));
    message
}

const VIA: &str = "SIP/2.0/UDP 192.0.2.9:5060;branch=z9hG4bKa;rport";

/// Moments at which something was sent from now until `end`, in milliseconds.
fn sent_at(layer: &mut Transactions, start: Time, end: Time) -> Vec<u64> {
    let mut out = Vec::new();
    let mut now = start;
    loop {
        while layer.poll_transmit().is_some() {
            out.push(now.as_millis() - start.as_millis());
        }
        match layer.poll_timeout() {
            Some((at, _)) if at <= end => now = at,
            _ => return out,
        }
        layer.handle_timeout(now);
        assert!(layer.poll_timeout().is_none_or(|(at, _)| at > now));
    }
}

fn reply(request: &[u8], status: u16) -> Message {
    let mut reply = Message::reply_to(&sip::parse(request).unwrap(), status, "");
    reply.set_to_tag("t");
    reply
}

fn accepted(layer: &mut Transactions, now: Time, flow: Flow, message: Message) -> ServerId {
    match layer.receive(now, flow, message) {
        Incoming::Request { id, .. } => id,
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_invite_is_repeated_at_doubling_intervals_and_given_up_after_32_seconds() {
    let mut t = layer(1);
    let id = t.request(Time::ZERO, udp(), bare(Method::Invite, 1), &by());
    let times = sent_at(&mut t, Time::ZERO, Time::from_secs(100));
    assert_eq!(times, [0, 500, 1500, 3500, 7500, 15500, 31500]);
    assert_eq!(t.poll_event(), Some(TransactionEvent::NoResponse(id)));
    assert_eq!(t.poll_event(), Some(TransactionEvent::ClientEnded(id)));
    assert!(t.holds_nothing());
}

#[test]
fn other_requests_are_repeated_at_most_every_four_seconds() {
    let mut t = layer(1);
    t.request(Time::ZERO, udp(), bare(Method::Message, 1), &by());
    let times = sent_at(&mut t, Time::ZERO, Time::from_secs(100));
    assert_eq!(times, [0, 500, 1500, 3500, 7500, 11500, 15500, 19500, 23500, 27500, 31500]);
}

#[test]
fn nothing_is_repeated_where_nothing_is_lost() {
    let mut t = layer(1);
    t.request(Time::ZERO, tcp(), bare(Method::Invite, 1), &by());
    t.request(Time::ZERO, tcp(), bare(Method::Message, 2), &by());
    assert_eq!(sent_at(&mut t, Time::ZERO, Time::from_secs(100)), [0, 0]);
    assert!(t.holds_nothing());
}

#[test]
fn a_repeated_request_gets_the_last_answer_and_reaches_the_user_once() {
    let mut t = layer(1);
    let id = accepted(&mut t, Time::ZERO, udp(), incoming(Method::Invite, VIA));
    assert_eq!(t.receive(Time::ZERO, udp(), incoming(Method::Invite, VIA)), Incoming::Absorbed);
    assert_eq!(t.poll_transmit(), None);
    let ringing = Message::reply_to(&incoming(Method::Invite, VIA), 180, "");
    t.respond(Time::ZERO, id, &ringing);
    assert_eq!(t.receive(Time::ZERO, udp(), incoming(Method::Invite, VIA)), Incoming::Absorbed);
    let (first, second) = (t.poll_transmit().unwrap(), t.poll_transmit().unwrap());
    assert_eq!(first, second);
}

#[test]
fn a_refusal_is_repeated_until_its_ack_and_the_ack_ends_here() {
    let mut t = layer(1);
    let invite = incoming(Method::Invite, VIA);
    let id = accepted(&mut t, Time::ZERO, udp(), invite.clone());
    t.respond(Time::ZERO, id, &Message::reply_to(&invite, 486, ""));
    assert_eq!(sent_at(&mut t, Time::ZERO, Time::from_secs(4)), [0, 500, 1500, 3500]);
    let ack = incoming(Method::Ack, VIA);
    assert_eq!(t.receive(Time::from_secs(4), udp(), ack), Incoming::Absorbed);
    assert!(sent_at(&mut t, Time::from_secs(4), Time::from_secs(60)).is_empty());
    assert!(t.holds_nothing());
}

#[test]
fn an_answer_is_repeated_until_acknowledged_or_reported() {
    let mut t = layer(1);
    let invite = incoming(Method::Invite, VIA);
    for acknowledged in [true, false] {
        let id = accepted(&mut t, Time::ZERO, udp(), invite.clone());
        t.respond(Time::ZERO, id, &Message::reply_to(&invite, 200, ""));
        assert_eq!(sent_at(&mut t, Time::ZERO, Time::from_secs(2)), [0, 500, 1500]);
        if acknowledged {
            t.acknowledge(id);
        }
        let more = sent_at(&mut t, Time::from_secs(2), Time::from_secs(40));
        assert_eq!(more.is_empty(), acknowledged);
        let event = (!acknowledged).then_some(TransactionEvent::NotAcknowledged(id));
        assert_eq!(t.poll_event(), event);
        assert!(t.holds_nothing());
    }
}

#[test]
fn a_refusal_of_ours_is_acknowledged_at_once_and_again_if_repeated() {
    let mut t = layer(1);
    let id = t.request(Time::ZERO, udp(), bare(Method::Invite, 1), &by());
    let (_, invite) = t.poll_transmit().unwrap();
    let busy = reply(&invite, 486);
    let expected = Incoming::Response { id, message: busy.clone() };
    assert_eq!(t.receive(Time::ZERO, udp(), busy.clone()), expected);
    let (_, ack) = t.poll_transmit().unwrap();
    let ack = sip::parse(&ack).unwrap();
    assert!(ack.is(&Method::Ack));
    assert_eq!(ack.via().unwrap().branch(), sip::parse(&invite).unwrap().via().unwrap().branch());
    assert_eq!(ack.to_tag().as_deref(), Some("t"));
    assert_eq!(t.receive(Time::ZERO, udp(), busy), Incoming::Absorbed);
    assert!(t.poll_transmit().is_some());
}

#[test]
fn a_cancel_waits_until_something_was_heard() {
    let mut t = layer(1);
    let id = t.request(Time::ZERO, udp(), bare(Method::Invite, 1), &by());
    let (_, invite) = t.poll_transmit().unwrap();
    t.cancel(Time::ZERO, id, Some("SIP;cause=200"));
    assert_eq!(t.poll_transmit(), None);
    t.receive(Time::ZERO, udp(), reply(&invite, 100));
    let cancel = sip::parse(&t.poll_transmit().unwrap().1).unwrap();
    assert!(cancel.is(&Method::Cancel) && cancel.header("Reason") == Some("SIP;cause=200"));
    assert_eq!(cancel.via(), sip::parse(&invite).unwrap().via());
    // Nobody answers that either.
    sent_at(&mut t, Time::ZERO, Time::from_secs(100));
    assert_eq!(t.poll_event(), Some(TransactionEvent::NoResponse(id)));
    assert!(t.holds_nothing());
}

#[test]
fn a_cancel_is_answered_and_reported_once_and_one_of_nothing_is_481() {
    let mut t = layer(1);
    let invite = incoming(Method::Invite, VIA);
    let id = accepted(&mut t, Time::ZERO, udp(), invite);
    let cancel = incoming(Method::Cancel, VIA);
    match t.receive(Time::ZERO, udp(), cancel.clone()) {
        Incoming::Cancel { invite, .. } => assert_eq!(invite, id),
        other => panic!("{other:?}"),
    }
    assert_eq!(t.receive(Time::ZERO, udp(), cancel), Incoming::Absorbed);
    let stray = incoming(Method::Cancel, "SIP/2.0/UDP h;branch=z9hG4bKother");
    assert_eq!(t.receive(Time::ZERO, udp(), stray), Incoming::Absorbed);
    let statuses: Vec<u16> = std::iter::from_fn(|| t.poll_transmit())
        .map(|(_, bytes)| sip::parse(&bytes).unwrap().status())
        .collect();
    assert_eq!(statuses, [200, 200, 481]);
}

#[test]
fn answers_go_where_the_request_came_from_or_where_its_via_says() {
    let remote: std::net::SocketAddr = "192.0.2.9:40001".parse().unwrap();
    let cases = [
        // rport: symmetric, and the Via says what we saw.
        ("SIP/2.0/UDP 10.0.0.1:5060;branch=z9hG4bK1;rport", remote, "received=192.0.2.9"),
        // No rport and no NAT: the port of the Via.
        ("SIP/2.0/UDP 192.0.2.9:5070;branch=z9hG4bK2", "192.0.2.9:5070".parse().unwrap(), "branch"),
        // No rport behind a NAT: only the way back works.
        ("SIP/2.0/UDP 10.0.0.1:5060;branch=z9hG4bK3", remote, "received=192.0.2.9"),
    ];
    for (n, (via, expected, param)) in cases.into_iter().enumerate() {
        let mut t = layer(1);
        let mut request = incoming(Method::Options, via);
        request.set("Call-ID", n.to_string());
        let Incoming::Request { id, message } = t.receive(Time::ZERO, Flow::Udp(remote), request) else {
            panic!("not taken")
        };
        assert!(message.header("Via").unwrap().contains(param), "{via}");
        assert_eq!(via.contains("rport"), message.header("Via").unwrap().contains("rport=40001"));
        t.respond(Time::ZERO, id, &Message::reply_to(&message, 200, ""));
        assert_eq!(t.poll_transmit().unwrap().0, Flow::Udp(expected));
    }
}

#[test]
fn a_client_of_rfc_2543_is_told_apart_without_a_branch() {
    let mut t = layer(1);
    let one = incoming(Method::Options, "SIP/2.0/UDP 192.0.2.9");
    let mut two = one.clone();
    two.set("Call-ID", "another");
    accepted(&mut t, Time::ZERO, udp(), one.clone());
    accepted(&mut t, Time::ZERO, udp(), two);
    assert_eq!(t.receive(Time::ZERO, udp(), one), Incoming::Absorbed);
}

#[test]
fn what_waits_on_a_lost_flow_ends_at_once() {
    let mut t = layer(1);
    let asked = t.request(Time::ZERO, tcp(), bare(Method::Invite, 1), &by());
    let served = accepted(&mut t, Time::ZERO, tcp(), incoming(Method::Invite, VIA));
    t.flow_lost(Time::ZERO, tcp());
    let events: Vec<_> = std::iter::from_fn(|| t.poll_event()).collect();
    assert_eq!(
        events,
        [
            TransactionEvent::NoResponse(asked),
            TransactionEvent::ClientEnded(asked),
            TransactionEvent::RequesterGone(served),
        ]
    );
    assert!(t.holds_nothing());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Two layers over a network that loses, doubles and delays.
    #[test]
    fn every_request_arrives_at_most_once_and_ends(
        seed: u64,
        loss in 0u32..60,
        invite: bool,
        status in prop_oneof![Just(200u16), Just(486u16)],
    ) {
        use wire::seed::RngExt;
        let (mut a, mut b) = (layer(seed), layer(seed ^ 1));
        let mut rng = Seed::from_number(seed).rng();
        let mut queue = std::collections::BTreeMap::new();
        let (mut now, mut n, mut arrived) = (Time::ZERO, 0u64, 0);
        let method = if invite { Method::Invite } else { Method::Message };
        for call in 0..10 {
            a.request(now, udp(), bare(method.clone(), call), &by());
        }
        let (mut finals, mut silent, mut ended) = (0, 0, 0);
        loop {
            for to_b in [true, false] {
                let from = if to_b { &mut a } else { &mut b };
                while let Some((_, bytes)) = from.poll_transmit() {
                    for _ in 0..rng.random_range(1..3) {
                        if rng.random_range(0..100) >= loss {
                            n += 1;
                            let at = now + Duration::from_millis(rng.random_range(1..200));
                            queue.insert((at, n), (to_b, bytes.clone()));
                        }
                    }
                }
            }
            while let Some(event) = a.poll_event() {
                match event {
                    TransactionEvent::NoResponse(_) => silent += 1,
                    TransactionEvent::ClientEnded(_) => ended += 1,
                    _ => {}
                }
            }
            while b.poll_event().is_some() {}
            let timers = [a.poll_timeout(), b.poll_timeout()];
            let timers = timers.into_iter().flatten().map(|(at, _)| at);
            let Some(next) = timers.chain(queue.keys().next().map(|k| k.0)).min() else { break };
            prop_assert!(next >= now);
            now = next;
            while let Some(entry) = queue.first_entry().filter(|e| e.key().0 <= now) {
                let (to_b, bytes) = entry.remove();
                let message = sip::parse(&bytes).unwrap();
                let to = if to_b { &mut b } else { &mut a };
                match to.receive(now, udp(), message) {
                    Incoming::Request { id, message } => {
                        arrived += 1;
                        to.respond(now, id, &Message::reply_to(&message, status, ""));
                        to.acknowledge(id);
                    }
                    Incoming::Response { message, .. } => finals += u32::from(message.status() >= 300 || !invite),
                    _ => {}
                }
            }
            a.handle_timeout(now);
            b.handle_timeout(now);
        }
        prop_assert!(arrived <= 10);
        prop_assert_eq!(ended, 10);
        if !(invite && status == 200) {
            prop_assert_eq!(finals + silent, 10);
        }
        prop_assert!(a.holds_nothing() && b.holds_nothing());
    }
}
