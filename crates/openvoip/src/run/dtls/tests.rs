use std::net::SocketAddr;
use std::time::{Duration, Instant};

use rtc_dtls::endpoint::Endpoint;

use super::running::WITHIN;
use super::*;

/// Machines of two peers, the second of which begins.
fn pair() -> [Machine; 2] {
    let address = |n| SocketAddr::from(([192, 0, 2, n], 4_000));
    [(false, address(2)), (true, address(1))]
        .map(|(begins, remote)| Machine::new(&Identity::fresh().unwrap(), begins, remote).unwrap())
}

/// Lets both hear each other, but for what is `lost`, until nobody has anything to say; what they came to.
fn shake(machines: &mut [Machine; 2], mut lost: impl FnMut() -> bool) -> [Option<HandshakeKeys>; 2] {
    let mut made = [None, None];
    let mut now = Instant::now();
    for _ in 0..40 {
        let mut quiet = true;
        for from in [1, 0] {
            while let Some(datagram) = machines[from].poll_transmit() {
                quiet = false;
                if !lost() {
                    let shaken = machines[1 - from].take(&datagram).unwrap();
                    made[1 - from] = made[1 - from].take().or(shaken);
                }
            }
        }
        if quiet {
            now += Duration::from_secs(2);
            machines.iter_mut().for_each(|machine| drop(machine.handle_timeout(now)));
        }
    }
    made
}

#[test]
fn both_ends_have_the_same_keys_crossed_and_each_the_certificate_of_the_other() {
    let identities = [0; 2].map(|_| Identity::fresh().unwrap());
    let address = |n| SocketAddr::from(([192, 0, 2, n], 4_000));
    let server = Machine::new(&identities[0], false, address(2)).unwrap();
    let client = Machine::new(&identities[1], true, address(1)).unwrap();
    let made = shake(&mut [server, client], || false).map(Option::unwrap);
    assert_eq!((&made[0].ours, &made[0].theirs), (&made[1].theirs, &made[1].ours));
    assert_ne!(made[0].ours, made[0].theirs);
    let shown = made.map(|shaken| Fingerprint::of(&shaken.certificate));
    assert_eq!(shown, [identities[1].fingerprint, identities[0].fingerprint]);
}

#[test]
fn a_handshake_of_which_any_one_datagram_is_lost_comes_to_its_end() {
    for gone in 1..=6 {
        let mut sent = 0;
        let made = shake(&mut pair(), || {
            sent += 1;
            sent == gone
        });
        assert!(made.iter().all(Option::is_some) && sent > 6, "without the datagram {gone} of {sent}");
    }
}

#[test]
fn who_begins_is_answered_with_fewer_bytes_than_came() {
    let [mut server, mut client] = pair();
    let hello = client.poll_transmit().unwrap();
    assert!(server.take(&hello).unwrap().is_none());
    let answered: usize = std::iter::from_fn(|| server.poll_transmit()).map(|sent| sent.len()).sum();
    assert!((1..hello.len()).contains(&answered), "{answered} for {}", hello.len());
}

/// A record that carries the head of a message and nothing of it.
fn short(number: u8, message: u8) -> Vec<u8> {
    let mut record = vec![22, 254, 253, 0, 0, 0, 0, 0, 0, 0, number, 0, 12];
    record.extend([message, 0, 0, 0, 0, number, 0, 0, 0, 0, 0, 0]);
    record
}

#[test]
fn who_has_not_shown_the_cookie_is_never_sent_more_than_came_whatever_they_send() {
    let [mut server, mut client] = pair();
    let hello = client.poll_transmit().unwrap();
    let (mut heard, mut said) = (0, 0);
    for bytes in std::iter::once(hello).chain((10..60).map(|n| short(n, n % 24))) {
        heard += bytes.len();
        let _ = server.take(&bytes);
        said += std::iter::from_fn(|| server.poll_transmit()).map(|sent| sent.len()).sum::<usize>();
        assert!(said <= heard, "{said} for {heard}");
    }
    assert!(said > 0);
}

#[test]
fn what_was_closed_makes_no_other_handshake_and_what_was_made_neither() {
    let close_notify = [21, 254, 253, 0, 0, 0, 0, 0, 0, 0, 99, 0, 2, 1, 0];
    for begins in [false, true] {
        let mut machines = pair();
        let hello = machines[1].poll_transmit().unwrap();
        machines[0].take(&hello).unwrap();
        assert!(machines[usize::from(begins)].take(&close_notify).is_err(), "the phone closed it");
        let of_another = pair()[1].poll_transmit().unwrap();
        assert!(machines[usize::from(begins)].take(&of_another).is_err(), "it is over");
    }
    let mut machines = pair();
    assert!(shake(&mut machines, || false).iter().all(Option::is_some));
    let [mut server, _] = machines;
    let [_, mut another] = pair();
    for _ in 0..10 {
        let Some(bytes) = another.poll_transmit() else { break };
        assert!(!matches!(server.take(&bytes), Ok(Some(_))));
        std::iter::from_fn(|| server.poll_transmit()).for_each(|sent| drop(another.take(&sent)));
    }
}

fn address(host: u8, port: u16) -> SocketAddr {
    SocketAddr::from(([192, 0, 2, host], port))
}

fn hears(running: &mut Running, ours: &Identity, remote: SocketAddr, likely: bool, bytes: &[u8]) -> bool {
    let means = Means { identity: ours, room: true };
    let made = running.go_on(Time::ZERO, means, Some(Heard { remote, likely, bytes }));
    made.is_some_and(|made| made.is_ok())
}

#[test]
fn whoever_sends_in_the_name_of_the_phones_host_does_not_keep_the_phone_out() {
    let (ours, theirs) = (Identity::fresh().unwrap(), Identity::fresh().unwrap());
    let phone = address(9, 4_000);
    for (likely, spoofed) in [(true, 40), (false, 3)] {
        let mut running = Running::new(None);
        let mut client = Machine::new(&theirs, true, address(1, 9)).unwrap();
        let spoof = |running: &mut Running| {
            for port in 0..spoofed {
                let hello = pair()[1].poll_transmit().unwrap();
                hears(running, &ours, address(9, 5_000 + port), false, &hello);
                hears(running, &ours, address(9, 6_000 + port), false, &[22]);
            }
        };
        spoof(&mut running);
        let mut made = false;
        for _ in 0..10 {
            while let Some(sent) = client.poll_transmit() {
                made |= hears(&mut running, &ours, phone, likely, &sent);
                if !made && likely {
                    spoof(&mut running);
                }
            }
            while let Some((to, sent)) = running.poll_transmit() {
                if to == phone {
                    client.take(&sent).unwrap();
                }
            }
        }
        assert!(made, "likely {likely}");
    }
}

#[test]
fn what_was_sent_in_another_name_does_not_let_the_time_of_the_phone_run_out() {
    let ours = Identity::fresh().unwrap();
    let mut running = Running::new(None);
    hears(&mut running, &ours, address(9, 5_000), false, &pair()[1].poll_transmit().unwrap());
    assert_eq!(running.poll_timeout(Time::ZERO, Instant::now()), None);
}

#[test]
fn one_for_which_there_is_no_room_is_tried_again_and_fails_in_words_if_there_never_is() {
    let ours = Identity::fresh().unwrap();
    let means = |room| Means { identity: &ours, room };
    let mut running = Running::new(Some(address(9, 4_000)));
    assert!(running.go_on(Time::ZERO, means(false), None).is_none());
    assert!(running.poll_transmit().is_none());
    let again = running.poll_timeout(Time::ZERO, Instant::now()).expect("it is tried again");
    assert!(running.go_on(again, means(true), None).is_none());
    assert!(running.poll_transmit().is_some());
    let mut running = Running::new(Some(address(9, 4_000)));
    assert!(running.go_on(Time::ZERO, means(false), None).is_none());
    let Some(Err(why)) = running.go_on(Time::ZERO + WITHIN, means(false), None) else {
        unreachable!("it has come to its end")
    };
    assert!(why.contains("too many"), "{why}");
}

#[test]
fn a_phone_without_a_suite_that_notices_every_change_or_without_the_extended_master_secret_is_refused() {
    use CipherSuiteId::{
        Tls_Ecdhe_Ecdsa_With_Aes_128_Gcm_Sha256 as GCM, Tls_Ecdhe_Ecdsa_With_Aes_256_Cbc_Sha as CBC,
    };
    use ExtendedMasterSecretType::{Disable, Require};
    let there = address(1, 9);
    for (suite, extended, is_taken) in [(GCM, Require, true), (CBC, Require, false), (GCM, Disable, false)] {
        let config = ConfigBuilder::default()
            .with_crypto_provider(default_provider().unwrap())
            .with_cipher_suites(vec![suite])
            .with_extended_master_secret(extended)
            .with_srtp_protection_profiles(vec![SrtpProtectionProfile::Srtp_Aes128_Cm_Hmac_Sha1_80])
            .with_insecure_skip_verify(true)
            .with_server_name("peer".into());
        let mut phone = Endpoint::new(address(9, 4_000), Default::default(), None);
        phone.connect(Instant::now(), there, Arc::new(config.build(true, None).unwrap()), None).unwrap();
        let hello = phone.poll_transmit().unwrap().message;
        let [mut server, _] = pair();
        assert_eq!(server.take(&hello).is_ok(), is_taken, "{suite:?} {extended:?}");
    }
}
