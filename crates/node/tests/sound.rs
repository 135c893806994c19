//! What protects the sound of a call between two peers, judged by what is heard: by phones, and by listeners.

mod world;

use std::collections::BTreeSet;
use std::time::Duration;

use node::{Config, Profile, RolePolicy};
use sip::ua::g711_sdp;
use wire::rtp;
use world::phone::{Phone, run};
use world::{World, address};

/// Eight peers of one profile, two of them with a phone, and a listener who hears everything.
fn call(profile: Profile) -> (World, [Phone; 2]) {
    let mut world = World::with(8, |_, config: &mut Config| config.profile = profile);
    world.run(Duration::from_secs(30));
    let mut phones = [Phone::new(&mut world, 2, 440.0), Phone::new(&mut world, 6, 1_000.0)];
    run(&mut world, &mut phones, Duration::from_secs(1));
    world.tap = Some(Vec::new());
    let offer = g711_sdp(phones[0].media_address());
    phones[0].ua.invite(world.now, "user6@test", offer);
    run(&mut world, &mut phones, Duration::from_secs(5));
    (world, phones)
}

/// The sound in what a listener heard.
fn sound(world: &World) -> Vec<&Vec<u8>> {
    let tap = world.tap.as_ref().expect("somebody listens");
    tap.iter().filter(|d| rtp::classify(d) == Some(rtp::Kind::Rtp)).collect()
}

fn secured(world: &mut World, n: usize) -> String {
    let now = world.now;
    world.nodes[n].calls(now).pop().expect("a call").secured
}

/// Whether the tone of one of the phones can be heard in the sound that a listener caught.
fn overheard(world: &World) -> bool {
    [440.0, 1_000.0].into_iter().any(|hertz| {
        let streams: BTreeSet<_> = sound(world).iter().filter_map(|d| rtp::sender_ssrc(d)).collect();
        streams.into_iter().any(|ssrc| {
            let of_stream = sound(world).into_iter().filter(|d| rtp::sender_ssrc(d) == Some(ssrc));
            let frames = of_stream.filter_map(|d| d.get(rtp::HEADER_LEN..rtp::HEADER_LEN + 160));
            let samples: Vec<i16> = frames.flat_map(|f| media::Law::Mu.decode_frame(f)).collect();
            media::heard(&samples, 8_000, hertz).at_least(2.0)
        })
    })
}

#[test]
fn two_phones_hear_each_other_whatever_protects_the_sound_and_calls_tells_the_truth() {
    let each = [(Profile::Open, "none"), (Profile::Signed, "signed"), (Profile::Secure, "srtp")];
    for (profile, expected) in each {
        let (mut world, phones) = call(profile);
        assert!(phones[1].heard(440.0) && phones[0].heard(1_000.0), "{profile}");
        assert_eq!([secured(&mut world, 2), secured(&mut world, 6)], [expected, expected]);
        assert!(sound(&world).len() > 400);
    }
}

#[test]
fn both_ends_of_a_protected_call_show_the_same_digits_and_say_them_to_their_phones() {
    for profile in [Profile::Signed, Profile::Secure] {
        let (mut world, mut phones) = call(profile);
        let now = world.now;
        let digits = [2, 6].map(|n| world.nodes[n].calls(now).pop().unwrap().digits.expect("digits"));
        assert_eq!(digits[0], digits[1], "{profile}");
        assert!(digits[0].len() == 5 && digits[0].bytes().all(|b| b.is_ascii_digit()), "{digits:?}");
        // The callee's phone asks on a second line, while the other says nothing.
        phones[0].sound = None;
        let offer = g711_sdp(phones[1].media_address());
        phones[1].ua.invite(now, "*55@test", offer);
        run(&mut world, &mut phones, Duration::from_secs(10));
        let spoken = media::voice::digits(&digits[1]);
        let heard = phones[1].sound.as_mut().unwrap().take_recording();
        assert!(contains(&heard, &spoken), "{profile}");
        let others: String = digits[1].chars().rev().collect();
        assert!(others == digits[1] || !contains(&heard, &media::voice::digits(&others)), "{profile}");
    }
    let (mut world, mut phones) = call(Profile::Open);
    assert_eq!(world.nodes[2].calls(world.now).pop().unwrap().digits, None, "in the open there are none");
    let offer = g711_sdp(phones[1].media_address());
    phones[1].ua.invite(world.now, "*55@test", offer);
    run(&mut world, &mut phones, Duration::from_secs(1));
    let refused =
        world.nodes[6].calls(world.now).into_iter().find(|call| call.to.starts_with("*55@")).unwrap();
    assert_eq!((refused.status, refused.failure.unwrap().cause.as_str()), (412, "no_digits"));
}

/// Whether what was heard has all of these samples in it, in a row.
fn contains(heard: &[i16], spoken: &[i16]) -> bool {
    heard.windows(spoken.len()).any(|w| w == spoken)
}

#[test]
fn under_secure_a_listener_hears_nothing_and_under_signed_everything() {
    for profile in Profile::ALL {
        let (world, _) = call(profile);
        assert_eq!(overheard(&world), profile != Profile::Secure, "{profile}");
    }
}

#[test]
fn what_a_stranger_puts_into_a_protected_call_is_not_heard() {
    for profile in [Profile::Signed, Profile::Secure] {
        let (mut world, mut phones) = call(profile);
        let heard = world.nodes[6].calls(world.now).pop().unwrap().rtp.received;
        // Every packet of the call again, as it was and changed, from its sender's address and another.
        let caught: Vec<Vec<u8>> = sound(&world).into_iter().cloned().collect();
        for (from, change) in [(2, 0), (2, 1), (5, 0), (5, 1)] {
            for packet in &caught {
                let mut packet = packet.clone();
                *packet.last_mut().unwrap() ^= change;
                for to in [2, 6] {
                    let now = world.now;
                    let passed =
                        world.nodes[to].handle_datagram(now, wire::Socket::Peer, address(from), &mut packet);
                    assert!(passed.is_none(), "{profile}");
                }
            }
        }
        assert_eq!(world.nodes[6].calls(world.now).pop().unwrap().rtp.received, heard, "{profile}");
        phones.iter_mut().for_each(|p| drop(p.sound.as_mut().unwrap().take_recording()));
        run(&mut world, &mut phones, Duration::from_secs(3));
        assert!(phones[1].heard(440.0) && phones[0].heard(1_000.0), "{profile}: the call goes on");
    }
}

#[test]
fn who_is_reached_through_others_only_is_called_under_protection_too() {
    for profile in [Profile::Signed, Profile::Secure] {
        let mut world = World::with(8, |n, config: &mut Config| {
            config.profile = profile;
            config.role = if n == 6 { RolePolicy::Client } else { config.role };
        });
        world.run(Duration::from_secs(60));
        let mut phones = [Phone::new(&mut world, 2, 440.0), Phone::new(&mut world, 6, 1_000.0)];
        run(&mut world, &mut phones, Duration::from_secs(1));
        let offer = g711_sdp(phones[0].media_address());
        phones[0].ua.invite(world.now, "user6@test", offer);
        run(&mut world, &mut phones, Duration::from_secs(5));
        let name = if profile == Profile::Signed { "signed" } else { "srtp" };
        for n in [2, 6] {
            let call = world.nodes[n].calls(world.now).pop().expect("a call");
            assert_eq!((call.state.as_str(), call.secured.as_str()), ("established", name), "{call:?}");
        }
        assert!(phones[1].heard(440.0), "{profile}");
    }
}

#[test]
fn every_call_has_keys_of_its_own() {
    // Where everything can be read, so can the public halves, one of each side.
    let (mut world, mut phones) = call(Profile::Signed);
    let mut keys = keys_said(&world);
    for calls in 2..5 {
        let offer = g711_sdp(phones[0].media_address());
        let call = phones[0].ua.invite(world.now, "user6@test", offer);
        world.tap = Some(Vec::new());
        run(&mut world, &mut phones, Duration::from_secs(2));
        phones[0].ua.hang_up(world.now, call);
        run(&mut world, &mut phones, Duration::from_secs(1));
        let said = keys_said(&world);
        assert_eq!(said.len(), 2);
        keys.extend(said);
        assert_eq!(keys.len(), 2 * calls);
    }
}

/// The keys in the session descriptions that a listener heard.
fn keys_said(world: &World) -> BTreeSet<Vec<u8>> {
    let key = b"a=x-openvoip-key:";
    let tap = world.tap.as_ref().expect("somebody listens");
    let places =
        tap.iter().flat_map(|d| (0..d.len()).filter(|at| d[*at..].starts_with(key)).map(move |at| &d[at..]));
    places.map(|line| line[key.len()..].iter().take_while(|b| **b != b'\r').copied().collect()).collect()
}
