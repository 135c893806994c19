use media::Leg::{A, B};
use sip::{Leg, MediaPlane};
use wire::{ConnectionId, Time};

use super::*;
use crate::plane::phone_leg::{Conceded, Policies};
use crate::plane::rig::{CALL, CALLEE, CALLER, PORT, Rig, of_phone, sound, tls, udp};

const KEY: [u8; KEY_LEN] = [7; KEY_LEN];

fn line(tag: u32, suite: Suite, key: [u8; KEY_LEN]) -> Crypto {
    Crypto { tag, suite, key: Zeroizing::new(key) }
}

/// A description of a phone's, with these lines.
fn described(profile: &str, lines: &[String]) -> String {
    let lines: String = lines.iter().map(|line| format!("a=crypto:{line}\r\n")).collect();
    of_phone(profile, &lines)
}

fn offer(profile: &str) -> String {
    described(profile, &[line(3, Suite::Tag80, KEY).to_string()])
}

fn with(policy: SdesPolicy) -> Rig {
    Rig::new(Policies { sdes: policy, ..Policies::default() })
}

/// The lines that a description has for a phone.
fn keys_in(sdp: &str) -> Vec<Crypto> {
    let values = sdp.lines().filter_map(|l| l.strip_prefix("a=crypto:"));
    values.map(|value| Crypto::parse(value).unwrap().unwrap()).collect()
}

/// What the phone sends under its key.
fn sealed(by: &mut Sender, sequence: u16) -> Vec<u8> {
    let mut packet = sound(sequence);
    let tail = by.protect(&mut packet).unwrap();
    packet.extend_from_slice(&tail);
    packet
}

#[test]
fn a_phone_over_tls_that_asks_for_keys_gets_one_and_hears_itself_and_nothing_passes_in_clear() {
    for suite in Suite::ALL {
        let mut rig = with(SdesPolicy::Offered);
        let theirs = line(3, suite, KEY);
        let unknown = "1 AEAD_AES_256_GCM inline:AAAA".to_owned();
        let answer = rig.answer(tls(), &described("RTP/SAVP", &[unknown, theirs.to_string()])).unwrap();
        let [ours] = &keys_in(&answer)[..] else { panic!("{answer}") };
        assert!(answer.contains("m=audio 20000 RTP/SAVP 0"), "{answer}");
        assert_eq!((ours.tag, ours.suite), (3, suite));
        assert_ne!(ours.key, theirs.key);
        assert_eq!(rig.phone_leg(), "sdes");

        assert_eq!(rig.echo(&sound(1)), None, "clear sound is not heard");
        let mut phone = sender(&theirs);
        let mut heard = (2..9).find_map(|n| rig.echo(&sealed(&mut phone, n))).expect("the echo speaks");
        let len = receiver(ours).open(&mut heard).expect("under our key");
        assert_eq!(heard[..len][12..], [0xd5; 160]);
    }
}

#[test]
fn a_phone_that_leaves_it_open_gets_a_key_in_the_form_in_which_it_asked() {
    let answer = with(SdesPolicy::Offered).answer(tls(), &offer("RTP/AVP")).unwrap();
    assert!(answer.contains(" RTP/AVP 0") && keys_in(&answer).len() == 1, "{answer}");
}

#[test]
fn keys_that_others_can_read_are_not_taken() {
    for far in [udp("192.0.2.9:5060"), Flow::Stream(ConnectionId(1), "192.0.2.9:5060".parse().unwrap())] {
        let mut rig = with(SdesPolicy::Offered);
        let why = rig.answer(far, &offer("RTP/SAVP")).unwrap_err();
        assert_eq!(why, refused("keys for sound are taken over TLS only"));
        let answer = rig.answer(far, &offer("RTP/AVP")).unwrap();
        assert!(!answer.contains("crypto"), "{answer}");
        assert_eq!(rig.phone_leg(), "none");
    }
    let near = with(SdesPolicy::Offered).answer(udp("127.0.0.1:5060"), &offer("RTP/SAVP")).unwrap();
    assert_eq!(keys_in(&near).len(), 1, "{near}");
}

#[test]
fn what_cannot_be_agreed_on_is_refused_in_words() {
    let good = line(3, Suite::Tag80, KEY).to_string();
    for (profile, lines, why) in [
        ("RTP/SAVP", vec![format!("{good} nonsense"), "x".into()], "malformed a=crypto"),
        ("RTP/AVP", vec!["1 AES_CM_128_HMAC_SHA1_80 inline:AAAA".into()], "malformed a=crypto"),
        ("RTP/SAVP", vec![format!("{good}|2^20|1:4")], NO_USABLE),
        ("RTP/SAVP", vec![], NO_USABLE),
        ("RTP/SAVPF", vec![], NO_USABLE),
    ] {
        let mut rig = with(SdesPolicy::Offered);
        assert_eq!(rig.pass(CALLER, tls(), &described(profile, &lines), Role::Offer), Err(refused(why)));
    }
    let never = with(SdesPolicy::Never).answer(tls(), &offer("RTP/SAVP")).unwrap_err();
    assert_eq!(never, refused("this peer takes no keys for sound"));
}

#[test]
fn a_phone_that_is_called_over_tls_is_asked_for_keys_and_called_without_if_it_has_none() {
    let mut rig = with(SdesPolicy::Offered);
    let offered = rig.called(tls(), 0).unwrap();
    let [ours] = &keys_in(&offered)[..] else { panic!("{offered}") };
    assert!(offered.contains("RTP/SAVP") && rig.phone_leg() == "none", "{offered}");
    let answer = described("RTP/SAVP", &[line(ours.tag, ours.suite, KEY).to_string()]);
    rig.answered(tls(), &answer).unwrap();
    assert_eq!(rig.phone_leg(), "sdes");

    let mut rig = with(SdesPolicy::Offered);
    rig.called(tls(), 0).unwrap();
    let leg = Leg { side: CALLEE, fork: 0, flow: tls() };
    assert!(rig.0.concede(CALL, leg, 1) && rig.0.stock.len() == 8);
    assert!(!rig.called(tls(), 1).unwrap().contains("SAVP"));
    assert!(!rig.0.concede(CALL, Leg { fork: 1, ..leg }, 2), "there is nothing less to offer");
    rig.0.close(Time::ZERO, CALL);
    assert!(rig.0.conceded.is_empty());
}

#[test]
fn a_phone_elsewhere_is_not_asked() {
    for phone in [udp("192.0.2.9:5060"), udp("127.0.0.1:5060")] {
        let offered = with(SdesPolicy::Offered).called(phone, 0).unwrap();
        assert!(!offered.contains("crypto") && !offered.contains("SAVP"), "{offered}");
    }
    assert!(!with(SdesPolicy::Never).called(tls(), 0).unwrap().contains("crypto"));
}

#[test]
fn where_the_owner_insists_nobody_calls_or_is_called_without_keys() {
    let mut rig = with(SdesPolicy::Always);
    assert!(rig.pass(CALLER, tls(), &described("RTP/AVP", &[]), Role::Offer).is_err());
    let far = udp("192.0.2.9:5060");
    assert_eq!(rig.called(far, 0), Err(refused("keys for sound are taken over TLS only")));

    let mut rig = with(SdesPolicy::Always);
    rig.called(tls(), 0).unwrap();
    assert!(!rig.0.concede(CALL, Leg { side: CALLEE, fork: 0, flow: tls() }, 1));
    assert!(rig.answered(tls(), &described("RTP/AVP", &[])).is_err());
}

#[test]
fn a_phone_that_answers_with_another_key_than_it_was_asked_for_is_refused() {
    let mut rig = with(SdesPolicy::Offered);
    rig.called(tls(), 0).unwrap();
    for wrong in [line(9, Suite::Tag80, KEY), line(1, Suite::Tag32, KEY)] {
        assert!(rig.answered(tls(), &described("RTP/SAVP", &[wrong.to_string()])).is_err(), "{wrong:?}");
    }
    assert_eq!(rig.answered(tls(), &described("RTP/SAVP", &[])), Err(refused(NOT_ANSWERED)));
    assert_eq!(rig.phone_leg(), "none");
    assert!(rig.answered(tls(), &described("RTP/AVP", &[])).is_ok(), "an old phone answers as it can");
    assert_eq!(rig.phone_leg(), "none");
}

#[test]
fn what_one_phone_says_of_keys_reaches_nobody_behind_this_peer() {
    let said = offer("RTP/SAVP").replace(
        "t=0 0\r\n",
        "t=0 0\r\na=acap:1 crypto:1 AES_CM_128_HMAC_SHA1_80 inline:AAAA\r\na=tcap:1 RTP/SAVP\r\n",
    ) + "a=pcfg:1 t=1 a=1\r\n";
    let passed = with(SdesPolicy::Offered).pass(CALLER, tls(), &said, Role::Offer).unwrap();
    for word in ["crypto", "SAVP", "inline", "tcap", "pcfg"] {
        assert!(!passed.contains(word), "{passed}");
    }
}

#[test]
fn our_key_stays_and_counts_on_when_the_phone_offers_anew_and_another_suite_has_another_key() {
    let mut rig = with(SdesPolicy::Offered);
    let first = keys_in(&rig.answer(tls(), &offer("RTP/SAVP")).unwrap()).remove(0);
    let mut phone = sender(&line(3, Suite::Tag80, KEY));
    let mut hears = receiver(&first);
    let mut before = (1..9).find_map(|n| rig.echo(&sealed(&mut phone, n))).unwrap();
    assert!(hears.open(&mut before).is_some());

    let other = line(4, Suite::Tag80, [8; KEY_LEN]);
    let again = rig.answer(tls(), &described("RTP/SAVP", &[other.to_string()])).unwrap();
    assert_eq!(keys_in(&again), [line(4, Suite::Tag80, *first.key)]);
    assert_eq!(rig.echo(&sealed(&mut phone, 20)), None, "the old key of the phone is gone");
    let mut phone = sender(&other);
    let mut after = (21..40).find_map(|n| rig.echo(&sealed(&mut phone, n))).unwrap();
    assert!(hears.open(&mut after).is_some(), "one stream under one key, no number twice");

    let short = described("RTP/SAVP", &[line(5, Suite::Tag32, KEY).to_string()]);
    assert_ne!(keys_in(&rig.answer(tls(), &short).unwrap())[0].key, first.key);
}

#[test]
fn a_phone_without_keys_is_held_and_resumed_without() {
    let mut rig = with(SdesPolicy::Offered);
    rig.answer(tls(), &described("RTP/AVP", &[])).unwrap();
    let reoffered = rig.pass(CALLEE, tls(), &described("RTP/AVP", &[]), Role::Offer).unwrap();
    assert!(!reoffered.contains("crypto"), "{reoffered}");
}

#[test]
fn a_medium_that_is_turned_down_is_so_in_the_profile_in_which_it_was_offered() {
    let mut rig = with(SdesPolicy::Offered);
    rig.pass(CALLER, tls(), &offer("RTP/SAVP"), Role::Offer).unwrap();
    let answer = described("RTP/AVP", &[]).replace("audio 4000", "audio 0");
    assert!(rig.pass(CALLEE, tls(), &answer, Role::Answer).unwrap().contains("m=audio 0 RTP/SAVP 0"));
}

#[test]
fn each_side_of_a_session_has_keys_of_its_own() {
    let mut rig = with(SdesPolicy::Offered);
    rig.answer(tls(), &offer("RTP/SAVP")).unwrap();
    let entry = rig.0.sessions.values().next().unwrap();
    let has = |leg: media::Leg| entry.phones[leg as usize].is_some();
    assert_eq!((has(A), has(B)), (true, false), "the built-in user has none");
}

#[test]
fn an_offer_that_comes_to_nothing_changes_nothing() {
    let mut rig = with(SdesPolicy::Offered);
    rig.answer(tls(), &offer("RTP/SAVP")).unwrap();
    let mut phone = sender(&line(3, Suite::Tag80, KEY));
    assert!((1..9).any(|n| rig.echo(&sealed(&mut phone, n)).is_some()));
    let other = line(4, Suite::Tag32, [8; KEY_LEN]);
    rig.pass(CALLER, tls(), &described("RTP/SAVP", &[other.to_string()]), Role::Offer).unwrap();
    rig.pass(CALLER, tls(), &described("RTP/AVP", &[]), Role::Offer).unwrap();
    assert!((10..19).any(|n| rig.echo(&sealed(&mut phone, n)).is_some()), "nobody answered");
    assert_eq!((rig.phone_leg(), rig.echo(&sound(30))), ("sdes", None));
}

#[test]
fn before_a_phone_that_asked_for_keys_is_answered_nothing_passes_in_clear() {
    let mut rig = with(SdesPolicy::Offered);
    rig.pass(CALLER, tls(), &offer("RTP/SAVP"), Role::Offer).unwrap();
    assert!((1..9).all(|n| rig.echo(&sound(n)).is_none()));
}

#[test]
fn a_callee_that_takes_no_keys_leaves_the_caller_its_own() {
    let mut rig = with(SdesPolicy::Offered);
    rig.0.conceded.insert((CALL, 1), Conceded::Keys);
    let caller = Leg { side: CALLER, fork: 0, flow: tls() };
    let other = Flow::Tls(ConnectionId(2), "192.0.2.8:40000".parse().unwrap());
    let callee = Leg { side: CALLEE, fork: 1, flow: other };
    let offer = offer("RTP/SAVP");
    let there = rig.0.rewrite(Time::ZERO, CALL, caller, callee, offer.as_bytes(), Role::Offer).unwrap();
    assert!(!String::from_utf8(there).unwrap().contains("crypto"));
    // The callee speaks before its answer has passed.
    let mut early = sound(1);
    let passed = rig.0.pass_from_phone(Time::ZERO, PORT + 2, "192.0.2.8:4000".parse().unwrap(), &mut early);
    assert!(passed.is_none(), "nothing goes to the caller in clear");
    let answer = described("RTP/AVP", &[]);
    let back = rig.0.rewrite(Time::ZERO, CALL, callee, caller, answer.as_bytes(), Role::Answer).unwrap();
    assert!(String::from_utf8(back).unwrap().contains("RTP/SAVP"));
}

#[test]
fn a_phone_that_called_without_an_offer_may_answer_with_a_key_or_without() {
    for (line_of_phone, leg) in [(Some(line(1, Suite::Tag80, KEY)), "sdes"), (None, "none")] {
        let mut rig = with(SdesPolicy::Offered);
        let offered = rig.pass(CALLEE, tls(), &described("RTP/AVP", &[]), Role::Offer).unwrap();
        assert!(offered.contains(" RTP/AVP 0") && keys_in(&offered).len() == 1, "{offered}");
        let lines: Vec<String> = line_of_phone.iter().map(Crypto::to_string).collect();
        rig.pass(CALLER, tls(), &described("RTP/AVP", &lines), Role::Answer).unwrap();
        assert_eq!(rig.phone_leg(), leg);
    }
}
