//! Calls and messages between Alice and Bob.

use super::*;
use sdp::Direction;

#[test]
fn a_call_rings_is_answered_and_ended_by_the_caller() {
    let mut pipe = Pipe::new(1);
    pipe.uas[A].set_display_name("Alice \"A\"");
    let a = pipe.uas[A].invite(pipe.now, "bob", sound(A));
    pipe.run_ms(50);
    let [UaEvent::Incoming { handle: b, from, to, offer, replaces }] = &pipe.told(B)[..] else { panic!() };
    assert_eq!((from.as_str(), to.as_str()), ("alice@example.org", "bob@example.org"));
    assert_eq!((offer.as_ref(), *replaces), (Some(&sound(A)), None));
    let b = *b;
    pipe.uas[B].ring(pipe.now, b);
    pipe.run_ms(50);
    assert_eq!(pipe.told(A), [UaEvent::Ringing { handle: a, status: 180, sdp: None }]);
    pipe.uas[B].answer(pipe.now, b, sound(B));
    pipe.run_ms(50);
    assert_eq!(pipe.told(A), [UaEvent::Answered { handle: a, sdp: sound(B) }]);
    pipe.run_ms(60_000);
    pipe.uas[A].hang_up(pipe.now, a);
    pipe.run_ms(50);
    assert_eq!(pipe.told(A), [ended(a, "")]);
    assert_eq!(pipe.told(B), [ended(b, "")]);
    pipe.assert_empty();
}

#[test]
fn the_callee_may_end_it_too() {
    let mut pipe = Pipe::new(2);
    let (a, b) = pipe.talk();
    pipe.uas[B].hang_up(pipe.now, b);
    pipe.run_ms(50);
    assert_eq!((pipe.told(A), pipe.told(B)), (vec![ended(a, "")], vec![ended(b, "")]));
    pipe.assert_empty();
}

#[test]
fn who_answers_and_hangs_up_at_once_waits_for_the_ack() {
    let mut pipe = Pipe::new(3);
    let (a, b) = pipe.dial();
    pipe.uas[B].answer(pipe.now, b, sound(B));
    pipe.uas[B].hang_up(pipe.now, b);
    assert_eq!(pipe.told(B), [ended(b, "")]);
    assert_eq!(pipe.sent("BYE"), 0);
    pipe.run_ms(200);
    assert_eq!(pipe.told(A), [UaEvent::Answered { handle: a, sdp: sound(B) }, ended(a, "")]);
    assert_eq!(pipe.told(B), []);
    pipe.assert_empty();
}

#[test]
fn a_call_is_cancelled_while_it_rings() {
    let mut pipe = Pipe::new(4);
    let (a, b) = pipe.dial();
    pipe.uas[B].ring(pipe.now, b);
    pipe.run_ms(50);
    pipe.told(A);
    pipe.uas[A].hang_up(pipe.now, a);
    pipe.run_ms(100);
    assert_eq!(pipe.told(A), [failed(a, 487, "Request Terminated")]);
    assert_eq!(pipe.told(B), [ended(b, "cancelled")]);
    pipe.assert_empty();
}

#[test]
fn a_cancel_that_crosses_the_answer_still_ends_the_call() {
    let mut pipe = Pipe::new(5);
    let (a, b) = pipe.dial();
    pipe.uas[B].ring(pipe.now, b);
    pipe.run_ms(50);
    pipe.told(A);
    pipe.uas[B].answer(pipe.now, b, sound(B));
    pipe.uas[A].cancel(pipe.now, a);
    pipe.run_ms(200);
    assert_eq!(pipe.told(A), [failed(a, 487, "Request Terminated")]);
    assert_eq!(pipe.told(B), [ended(b, "")]);
    assert_eq!((pipe.sent("CANCEL"), pipe.sent("ACK"), pipe.sent("BYE")), (1, 1, 1));
    pipe.assert_empty();
}

#[test]
fn a_call_given_up_before_anything_was_heard_ends_when_it_is_answered() {
    let mut pipe = Pipe::new(6);
    let (a, b) = pipe.dial();
    pipe.uas[A].cancel(pipe.now, a);
    pipe.uas[B].answer(pipe.now, b, sound(B));
    pipe.run_ms(200);
    assert_eq!(pipe.told(A), [failed(a, 487, "Request Terminated")]);
    assert_eq!(pipe.told(B), [ended(b, "")]);
    assert_eq!(pipe.sent("CANCEL"), 0);
    pipe.assert_empty();
}

#[test]
fn a_refusal_reaches_the_caller_with_its_words() {
    for (status, reason, heard) in [(486, "", "Busy Here"), (603, "Not now", "Not now")] {
        let mut pipe = Pipe::new(7);
        let (a, b) = pipe.dial();
        pipe.uas[B].reject(pipe.now, b, status, reason);
        pipe.run_ms(100);
        assert_eq!(pipe.told(A), [failed(a, status, heard)]);
        assert_eq!(pipe.told(B), []);
        pipe.assert_empty();
    }
}

#[test]
fn a_phone_whose_lines_are_all_taken_is_busy() {
    let mut pipe = Pipe::new(8);
    for _ in 0..MAX_DIALOGS {
        pipe.dial();
    }
    let one_more = pipe.uas[A].invite(pipe.now, "bob", sound(A));
    assert_eq!(pipe.told(A), [failed(one_more, 503, "Too many calls")]);
    pipe.uas[A] = UserAgent::new(config(A), Seed::from_number(99));
    let refused = pipe.uas[A].invite(pipe.now, "bob", sound(A));
    pipe.run_ms(100);
    assert_eq!(pipe.told(A), [failed(refused, 486, "Busy Here")]);
}

#[test]
fn a_caller_hears_of_a_phone_that_takes_its_time() {
    let mut pipe = Pipe::new(22);
    let (a, b) = pipe.dial();
    pipe.run(Duration::from_secs(40));
    assert_eq!((pipe.sent("INVITE"), pipe.sent("100 Trying")), (1, 1));
    pipe.uas[B].answer(pipe.now, b, sound(B));
    pipe.run_ms(100);
    assert_eq!(pipe.told(A), [UaEvent::Answered { handle: a, sdp: sound(B) }]);
    pipe.uas[A].hang_up(pipe.now, a);
    pipe.assert_empty();
}

#[test]
fn a_call_nobody_takes_stops_ringing() {
    let mut pipe = Pipe::new(9);
    let (a, b) = pipe.dial();
    pipe.uas[B].ring(pipe.now, b);
    // Timer C of the caller comes first.
    pipe.run(RING_TIMEOUT + Duration::from_secs(5));
    assert!(pipe.told(A).contains(&failed(a, 408, "No answer")));
    assert_eq!(pipe.told(B), [ended(b, "cancelled")]);
    // A caller that vanished cannot cancel.
    let (_, b) = pipe.dial();
    pipe.lose = Some(("", usize::MAX));
    pipe.run(RING_TIMEOUT + Duration::from_secs(5));
    assert_eq!(pipe.told(B), [ended(b, "nobody answered")]);
    pipe.assert_empty();
}

#[test]
fn a_hold_and_a_resume_are_answered_by_themselves() {
    let mut pipe = Pipe::new(10);
    let (a, b) = pipe.talk();
    for (held, theirs) in [(true, Direction::RecvOnly), (false, Direction::SendRecv)] {
        assert!(pipe.uas[A].hold(pipe.now, a, held));
        assert!(!pipe.uas[A].hold(pipe.now, a, held), "one change at a time");
        pipe.run_ms(100);
        let [UaEvent::Reanswered { handle, sdp }] = &pipe.told(A)[..] else { panic!() };
        assert_eq!((*handle, sdp::direction(sdp)), (a, theirs));
        let [UaEvent::Reoffer { handle, sdp: Some(offer) }] = &pipe.told(B)[..] else { panic!() };
        let ours = if held { Direction::SendOnly } else { Direction::SendRecv };
        assert_eq!((*handle, sdp::direction(offer)), (b, ours));
    }
    pipe.uas[B].hang_up(pipe.now, b);
    pipe.assert_empty();
}

#[test]
fn a_new_offer_may_be_answered_or_refused_by_hand() {
    let mut pipe = Pipe::new(11);
    let (a, b) = pipe.talk();
    pipe.uas[B].set_manual_reoffers(true);
    let moved = g711_sdp(SocketAddr::new(address(B).ip(), 9_000));
    pipe.uas[A].hold(pipe.now, a, true);
    pipe.run_ms(100);
    pipe.uas[B].accept_reoffer(pipe.now, b, moved);
    pipe.run_ms(100);
    let [UaEvent::Reanswered { sdp, .. }] = &pipe.told(A)[..] else { panic!() };
    assert_eq!(sdp::remote_audio(sdp).unwrap().address.port(), 9_000);
    pipe.uas[A].hold(pipe.now, a, false);
    pipe.run_ms(100);
    pipe.uas[B].reject(pipe.now, b, 488, "");
    pipe.run_ms(100);
    let refused = UaEvent::ReofferFailed { handle: a, status: 488, reason: "Not Acceptable Here".into() };
    assert_eq!(pipe.told(A), [refused]);
    assert_eq!((pipe.uas[A].calls(), pipe.uas[B].calls()), (1, 1), "the call goes on");
    pipe.uas[A].hang_up(pipe.now, a);
    pipe.assert_empty();
}

#[test]
fn two_offers_at_once_are_both_refused_and_the_call_goes_on() {
    let mut pipe = Pipe::new(12);
    let (a, b) = pipe.talk();
    pipe.uas[A].hold(pipe.now, a, true);
    pipe.uas[B].hold(pipe.now, b, true);
    pipe.run_ms(200);
    for (who, handle) in [(A, a), (B, b)] {
        let refused = UaEvent::ReofferFailed { handle, status: 491, reason: "Request Pending".into() };
        assert_eq!(pipe.told(who), [refused]);
    }
    pipe.uas[A].hang_up(pipe.now, a);
    pipe.assert_empty();
}

#[test]
fn a_call_without_an_offer_gets_one_and_answers_it_in_the_ack() {
    let mut pipe = Pipe::new(13);
    let a = pipe.uas[A].invite(pipe.now, "bob", None::<Vec<u8>>);
    pipe.run_ms(100);
    let [UaEvent::Incoming { handle: b, offer: None, .. }] = pipe.told(B)[..] else { panic!() };
    pipe.uas[B].answer(pipe.now, b, sound(B));
    // Bob repeats his answer while Alice thinks.
    pipe.run_ms(3_000);
    assert_eq!(pipe.told(A), [UaEvent::LateOffer { handle: a, sdp: sound(B) }]);
    pipe.uas[A].answer(pipe.now, a, sound(A));
    pipe.run_ms(100);
    assert_eq!(pipe.told(B), [UaEvent::Answered { handle: b, sdp: sound(A) }]);
    pipe.uas[A].hang_up(pipe.now, a);
    pipe.assert_empty();
    assert_eq!(pipe.told(B), [ended(b, "")]);
}

#[test]
fn an_answer_nobody_acknowledges_ends_the_call() {
    let mut pipe = Pipe::new(14);
    let (_, b) = pipe.dial();
    pipe.lose = Some(("ACK", usize::MAX));
    pipe.uas[B].answer(pipe.now, b, sound(B));
    pipe.run(Duration::from_secs(40));
    assert_eq!(pipe.told(B), [ended(b, "not acknowledged")]);
    pipe.assert_empty();
}

#[test]
fn a_lost_ack_is_sent_again_with_every_repeated_answer() {
    let mut pipe = Pipe::new(15);
    let (_, b) = pipe.dial();
    pipe.lose = Some(("ACK", 3));
    pipe.uas[B].answer(pipe.now, b, sound(B));
    pipe.run(Duration::from_secs(20));
    assert_eq!((pipe.sent("ACK"), pipe.sent("200 OK")), (4, 4));
    assert_eq!(pipe.told(A).len(), 1, "answered once");
    pipe.uas[B].hang_up(pipe.now, b);
    pipe.assert_empty();
}

#[test]
fn messages_go_both_ways_and_may_be_answered_by_hand() {
    let mut pipe = Pipe::new(16);
    pipe.uas[A].set_manual_messages(true);
    let sent = pipe.uas[A].message(pipe.now, "bob@example.org", "text/plain", b"hello");
    pipe.run_ms(100);
    let ok = |handle, status, reason: &str| UaEvent::MessageResult { handle, status, reason: reason.into() };
    assert_eq!(pipe.told(A), [ok(sent, 200, "OK")]);
    let [UaEvent::MessageReceived { from, to, content_type, body, .. }] = &pipe.told(B)[..] else { panic!() };
    assert_eq!((from.as_str(), to.as_str()), ("alice@example.org", "bob@example.org"));
    assert_eq!((content_type.as_str(), &body[..]), ("text/plain", &b"hello"[..]));
    let sent = pipe.uas[B].message(pipe.now, "sip:alice@example.org", "text/plain", b"hi");
    pipe.run_ms(100);
    let [UaEvent::MessageReceived { handle, .. }] = pipe.told(A)[..] else { panic!() };
    pipe.uas[A].answer_message(pipe.now, handle, 480, "");
    pipe.run_ms(100);
    assert_eq!(pipe.told(B), [ok(sent, 480, "Temporarily Unavailable")]);
    pipe.assert_empty();
}

#[test]
fn a_message_to_nobody_is_reported_after_32_seconds() {
    let mut pipe = Pipe::lossy(17, 100);
    let handle = pipe.uas[A].message(pipe.now, "bob", "text/plain", b"hello");
    pipe.run(Duration::from_secs(33));
    assert_eq!(pipe.told(A), [UaEvent::MessageResult { handle, status: 408, reason: "No answer".into() }]);
    pipe.assert_empty();
}

#[test]
fn keys_pressed_arrive_in_order() {
    let mut pipe = Pipe::new(18);
    let (a, b) = pipe.talk();
    for key in ['4', '#'] {
        pipe.uas[A].press(pipe.now, a, key);
        pipe.run_ms(100);
        let body = format!("Signal={key}\r\nDuration=160\r\n").into_bytes();
        let expected = UaEvent::Info { handle: b, content_type: "application/dtmf-relay".into(), body };
        assert_eq!(pipe.told(B), [expected]);
        assert_eq!(pipe.told(A), [UaEvent::InfoResult { handle: a, status: 200 }]);
    }
    pipe.uas[A].hang_up(pipe.now, a);
    pipe.assert_empty();
}

#[test]
fn a_blind_transfer_is_accepted_and_its_progress_reported() {
    let mut pipe = Pipe::new(19);
    let (a, b) = pipe.talk();
    pipe.uas[A].refer(pipe.now, a, "carol@example.org");
    pipe.run_ms(100);
    let expected = UaEvent::Referred {
        handle: b,
        refer_to: "sip:carol@example.org".into(),
        referred_by: "alice@example.org".into(),
    };
    assert_eq!(pipe.told(B), [expected]);
    pipe.uas[B].refer_progress(pipe.now, b, 200, "");
    pipe.uas[B].refer_progress(pipe.now, b, 200, "");
    pipe.run_ms(100);
    let told = pipe.told(A);
    let statuses: Vec<u16> =
        told.iter().map(|e| if let UaEvent::Transfer { status, .. } = e { *status } else { 0 }).collect();
    assert_eq!(statuses, [202, 100, 200]);
    pipe.uas[A].hang_up(pipe.now, a);
    pipe.assert_empty();
}

#[test]
fn a_call_with_replaces_takes_the_place_of_another() {
    let mut pipe = Pipe::new(20);
    let (a, b) = pipe.talk();
    let target = pipe.uas[A].replacement(a).unwrap();
    let second = pipe.uas[A].invite(pipe.now, &target, sound(A));
    pipe.run_ms(100);
    let [UaEvent::Incoming { handle, replaces, .. }] = pipe.told(B)[..] else { panic!() };
    assert_eq!(replaces, Some(b));
    pipe.uas[B].answer(pipe.now, handle, sound(B));
    pipe.run_ms(100);
    let told = pipe.told(A);
    assert!(told.contains(&ended(a, "")), "{told:?}");
    assert!(told.contains(&UaEvent::Answered { handle: second, sdp: sound(B) }), "{told:?}");
    assert_eq!(pipe.told(B), [ended(b, "replaced by another call")]);
    let stale = pipe.uas[A].invite(pipe.now, &target, sound(A));
    pipe.run_ms(100);
    assert_eq!(pipe.told(A), [failed(stale, 481, "Call/Transaction Does Not Exist")]);
    pipe.uas[A].hang_up(pipe.now, second);
    pipe.assert_empty();
}

#[test]
fn a_call_the_other_side_forgot_ends_with_the_next_request() {
    let mut pipe = Pipe::new(21);
    let (a, _) = pipe.talk();
    pipe.uas[B] = UserAgent::new(config(B), Seed::from_number(77));
    pipe.uas[A].hold(pipe.now, a, true);
    pipe.run_ms(100);
    let told = pipe.told(A);
    assert!(matches!(told[0], UaEvent::ReofferFailed { status: 481, .. }), "{told:?}");
    assert_eq!(told[1], ended(a, "the call is gone at the other side"));
    pipe.assert_empty();
}

#[test]
fn calls_and_messages_survive_the_loss_of_every_seventh_datagram() {
    for seed in 0..60 {
        let mut pipe = Pipe::lossy(seed, 14);
        let a = pipe.uas[A].invite(pipe.now, "bob", sound(A));
        pipe.run(Duration::from_secs(31));
        let told = pipe.told(B);
        let [UaEvent::Incoming { handle: b, .. }] = told[..] else { panic!("seed {seed}: {told:?}") };
        pipe.uas[B].ring(pipe.now, b);
        pipe.uas[B].answer(pipe.now, b, sound(B));
        let letter = pipe.uas[B].message(pipe.now, "alice", "text/plain", b"still there?");
        pipe.run(Duration::from_secs(31));
        let told = pipe.told(A);
        assert!(told.contains(&UaEvent::Answered { handle: a, sdp: sound(B) }), "seed {seed}: {told:?}");
        let received = told.iter().filter(|e| matches!(e, UaEvent::MessageReceived { .. })).count();
        assert_eq!(received, 1, "seed {seed}");
        let delivered = UaEvent::MessageResult { handle: letter, status: 200, reason: "OK".into() };
        assert!(pipe.told(B).contains(&delivered), "seed {seed}");
        pipe.uas[A].hold(pipe.now, a, true);
        pipe.run(Duration::from_secs(31));
        assert!(pipe.told(A).iter().any(|e| matches!(e, UaEvent::Reanswered { .. })), "seed {seed}");
        pipe.told(B);
        let (who, ours, theirs) = if seed % 2 == 0 { (A, a, b) } else { (B, b, a) };
        pipe.uas[who].hang_up(pipe.now, ours);
        pipe.run(Duration::from_secs(31));
        assert_eq!(pipe.told(1 - who), [ended(theirs, "")], "seed {seed}");
        pipe.assert_empty();
    }
}
