use super::*;

/// Machines of two peers, the second of which begins.
fn pair() -> [Machine; 2] {
    let address = |n| SocketAddr::from(([192, 0, 2, n], 4_000));
    [(false, address(2)), (true, address(1))]
        .map(|(begins, remote)| Machine::new(&Identity::fresh().unwrap(), begins, remote).unwrap())
}

/// Lets both hear each other, but for what is `lost`, until nobody has anything to say; what they came to.
fn shake(machines: &mut [Machine; 2], mut lost: impl FnMut() -> bool) -> [Option<Shaken>; 2] {
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
            for Machine { endpoint, remote } in machines.iter_mut() {
                let _ = endpoint.handle_timeout(*remote, now);
            }
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
