//! Talkers told as transcripts: what one says, and what the other hears.

use proptest::prelude::*;

use super::*;
use crate::tone::heard;

fn talker(source: Source, seed: u64) -> Endpoint {
    Endpoint::new(EndpointConfig::new(source, Seed::from_number(seed)), Time::ZERO)
}

/// Lets two talkers hear each other for `ms`, losing the packets that `lose` picks.
fn run(a: &mut Endpoint, b: &mut Endpoint, from: u64, ms: u64, mut lose: impl FnMut(&[u8]) -> bool) {
    for t in from..from + ms {
        let now = Time::from_millis(t);
        for e in [&mut *a, &mut *b] {
            if e.poll_timeout().is_some_and(|(at, _)| at <= now) {
                e.handle_timeout(now);
            }
        }
        for _ in 0..2 {
            while let Some(p) = a.poll_packet() {
                if !lose(&p) {
                    b.handle_packet(now, &p);
                }
            }
            while let Some(p) = b.poll_packet() {
                if !lose(&p) {
                    a.handle_packet(now, &p);
                }
            }
        }
    }
}

#[test]
fn two_talkers_hear_each_other() {
    let (mut ann, mut bob) = (talker(Source::Tone(440.0), 1), talker(Source::Tone(1_000.0), 2));
    run(&mut ann, &mut bob, 0, 3_000, |_| false);
    let (at_ann, at_bob) = (heard(ann.recording(), RATE, 1_000.0), heard(bob.recording(), RATE, 440.0));
    assert!(at_ann.at_least(2.9) && at_ann.gaps == 0, "{at_ann:?}");
    assert!(at_bob.at_least(2.8) && at_bob.gaps == 0, "{at_bob:?}");
    assert_eq!(ann.stats().sent, 150);
    assert_eq!((bob.stats().received, bob.stats().lost), (150, 0));
    assert!(bob.quality().unwrap().mos > 4.3);
    let rtt = ann.stats().rtt.expect("measured, on a wire without delay");
    assert!(rtt < Duration::from_micros(100), "{rtt:?}");
}

#[test]
fn losses_are_counted_and_heard_as_gaps() {
    let (mut ann, mut bob) = (talker(Source::Tone(440.0), 1), talker(Source::Silence, 2));
    let mut n = 0;
    run(&mut ann, &mut bob, 0, 4_000, |p| {
        n += u32::from(rtp::classify(p) == Some(Kind::Rtp) && p.len() == 172 && p[13] != 0xff);
        n % 60 == 59
    });
    let heard = heard(bob.recording(), RATE, 440.0);
    assert!(bob.stats().lost >= 3 && heard.gaps >= 2, "{:?} {heard:?}", bob.stats());
    assert!(bob.recording().len() >= 31_000, "what is lost is silence, not shortened");
}

#[test]
fn echo_returns_any_codec_packet_for_packet() {
    let mut echo = talker(Source::Echo, 3);
    let mut sent = Vec::new();
    for i in 0..10u16 {
        let header = Header {
            marker: i == 0,
            payload_type: 111,
            sequence: 500 + i,
            timestamp: 960 * u32::from(i),
            ssrc: 5,
        };
        let payload = [i as u8; 3];
        echo.handle_packet(Time::from_millis(20 * u64::from(i)), &header.packet(&payload));
        let back = echo.poll_packet().unwrap();
        let packet = Packet::parse(&back).unwrap();
        assert_eq!(packet.payload, payload);
        assert_eq!(packet.header.payload_type, 111);
        assert_eq!(packet.header.timestamp, header.timestamp);
        assert_ne!(packet.header.ssrc, 5);
        sent.push(packet.header.sequence);
    }
    assert!(sent.windows(2).all(|w| w[1] == w[0].wrapping_add(1)), "{sent:?}");
    assert_eq!((echo.poll_packet(), echo.stats().received), (None, 10));
}

#[test]
fn a_caller_hears_itself_through_echo_however_long_it_records() {
    let (mut ann, mut echo) = (talker(Source::Tone(500.0), 1), talker(Source::Echo, 2));
    run(&mut ann, &mut echo, 0, 2_000, |_| false);
    assert!(heard(ann.recording(), RATE, 500.0).at_least(1.8));
    assert!(echo.recording().is_empty(), "echo keeps nothing");
}

#[test]
fn digits_are_dialled_and_understood_even_when_most_packets_are_lost() {
    let (mut ann, mut bob) = (talker(Source::Silence, 1), talker(Source::Silence, 2));
    for digit in "12#2".chars() {
        assert!(ann.dial(digit, Duration::from_millis(100)));
    }
    assert!(!ann.dial('x', Duration::from_millis(100)));
    let mut n = 0;
    run(&mut ann, &mut bob, 0, 2_000, |p| {
        let event = p.get(1).is_some_and(|b| b & 0x7f == 101);
        n += u32::from(event);
        event && n % 3 == 1
    });
    let digits: Vec<_> = std::iter::from_fn(|| bob.poll_event()).collect();
    let pressed = "12#2".chars().map(EndpointEvent::Digit);
    let expected: Vec<_> = [EndpointEvent::Hearing].into_iter().chain(pressed).collect();
    assert_eq!(digits, expected);
}

#[test]
fn samples_end_and_say_so() {
    let samples = vec![1_000; 400];
    let mut ann = talker(Source::Samples { samples, repeat: false }, 1);
    (0..5).for_each(|i| ann.handle_timeout(Time::from_millis(20 * i)));
    assert_eq!(ann.poll_event(), Some(EndpointEvent::Played));
    let payloads: Vec<Vec<u8>> = std::iter::from_fn(|| ann.poll_packet())
        .map(|p| Packet::parse(&p).unwrap().payload.to_vec())
        .collect();
    let code = Law::Mu.encode(1_000);
    assert_eq!(payloads.concat()[..400], [code; 400]);
    assert_eq!(payloads.concat()[400..], [0xff; 400]);
}

#[test]
fn hold_stops_the_frames_and_resume_goes_on_in_time() {
    let mut ann = talker(Source::Tone(440.0), 1);
    ann.handle_timeout(Time::ZERO);
    let first = Packet::parse(&ann.poll_packet().unwrap()).unwrap().header;
    assert!(first.marker);
    ann.set_sending(Time::ZERO, false);
    ann.handle_timeout(Time::from_millis(400));
    assert_eq!(ann.poll_packet(), None);
    ann.set_sending(Time::from_millis(420), true);
    ann.handle_timeout(Time::from_millis(420));
    let next = Packet::parse(&ann.poll_packet().unwrap()).unwrap().header;
    assert!(next.marker);
    assert_eq!(next.sequence, first.sequence.wrapping_add(1));
    assert_eq!(next.timestamp, first.timestamp.wrapping_add(21 * 160));
}

#[test]
fn a_driver_that_slept_is_not_answered_with_a_burst() {
    let mut ann = talker(Source::Tone(440.0), 1);
    ann.handle_timeout(Time::from_secs(3));
    let rtp =
        std::iter::from_fn(|| ann.poll_packet()).filter(|p| rtp::classify(p) == Some(Kind::Rtp)).count();
    assert_eq!(rtp as u64, CATCH_UP + 1);
}

#[test]
fn goodbye_is_said_once_and_talk_ends() {
    let mut ann = talker(Source::Silence, 1);
    ann.bye(Time::ZERO);
    let bytes = ann.poll_packet().unwrap();
    let compound = Compound::parse(&bytes).unwrap();
    assert_eq!(compound.packets().last().unwrap().leaving().count(), 1);
    ann.handle_timeout(Time::from_secs(100));
    assert_eq!((ann.poll_packet(), ann.poll_timeout()), (None, None));
}

proptest! {
    #[test]
    fn any_packets_at_any_times_leave_it_sound(
        steps in prop::collection::vec(
            (0u64..100_000, prop::collection::vec(any::<u8>(), 0..60), any::<bool>()), 0..60),
        kind in 0..3,
    ) {
        let source = match kind {
            0 => Source::Echo,
            1 => Source::Samples { samples: vec![1; 1_000], repeat: true },
            _ => Source::Tone(440.0),
        };
        let mut e = talker(source, 9);
        let mut now = Time::ZERO;
        for (ms, mut bytes, rtp) in steps {
            now += Duration::from_millis(ms);
            if rtp && let Some(first) = bytes.first_mut() {
                *first = 0x80;
            }
            e.handle_packet(now, &bytes);
            if e.poll_timeout().is_some_and(|(at, _)| at <= now) {
                e.handle_timeout(now);
                prop_assert!(e.poll_timeout().is_none_or(|(at, _)| at > now));
            }
            while e.poll_packet().is_some() {}
        }
    }
}
