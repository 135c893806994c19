//! REFER, blind and attended, wherever the three phones are: who hears whom in the end.

use wire::sip::Method;

use super::rig::{Habit, World};

/// Who hears whom among the phones' open talks, as `name hears name`.
fn who_hears_whom(world: &World) -> Vec<String> {
    let mut pairs: Vec<String> = world
        .phones
        .iter()
        .flat_map(|p| {
            p.talks
                .iter()
                .filter(|t| !t.over)
                .map(move |t| format!("{} hears {}", p.name, t.hears.as_deref().unwrap_or("nobody")))
        })
        .collect();
    pairs.sort();
    pairs
}

/// Alice, Bob and Carol at the agents given; Alice has called Bob.
fn three(agents: [usize; 3]) -> (World, [usize; 3]) {
    let mut world = World::new(3);
    let names = ["alice", "bob", "carol"];
    let phones = [0, 1, 2].map(|n| world.registered(agents[n], names[n]));
    for phone in phones {
        world.phones[phone].habit = Habit::Answer;
    }
    world.phones[phones[0]].dial(world.now, "bob", &[]);
    world.run(1.0);
    assert_eq!(who_hears_whom(&world), ["alice hears bob", "bob hears alice"]);
    (world, phones)
}

const PLACES: [[usize; 3]; 5] = [[0, 1, 2], [0, 0, 0], [0, 0, 1], [0, 1, 0], [0, 1, 1]];

#[test]
fn a_blind_transfer_moves_the_other_phone_to_the_target() {
    for places in PLACES {
        let (mut world, [alice, ..]) = three(places);
        let target = format!("<sip:carol@192.168.{}.1>", places[0]);
        world.phones[alice].within(world.now, Method::Refer, |m| {
            m.with("Refer-To", target).with("Referred-By", "<sip:alice@192.168.0.1>")
        });
        world.run(2.0);
        assert_eq!(world.phones[alice].statuses(&Method::Refer), [202], "{places:?}");
        let notified: Vec<String> = world.phones[alice]
            .got(&Method::Notify)
            .iter()
            .map(|n| String::from_utf8_lossy(&n.body).into_owned())
            .collect();
        assert_eq!(notified, ["SIP/2.0 100 Trying", "SIP/2.0 200 OK"], "{places:?}");
        world.phones[alice].hang_up(world.now);
        world.run(1.0);
        assert_eq!(who_hears_whom(&world), ["bob hears carol", "carol hears bob"], "{places:?}");
    }
}

#[test]
fn a_target_written_without_angle_brackets_stays_so() {
    for (written, brackets) in [("sip:carol@192.168.0.1", false), ("<sip:carol@192.168.0.1>", true)] {
        let (mut world, [alice, bob, _]) = three([0, 1, 2]);
        world.phones[alice].within(world.now, Method::Refer, |m| m.with("Refer-To", written));
        world.run(2.0);
        let refer = world.phones[bob].got(&Method::Refer)[0].clone();
        assert_eq!(refer.header("Refer-To").unwrap().starts_with('<'), brackets, "{refer:?}");
        world.phones[alice].hang_up(world.now);
        world.run(1.0);
        assert_eq!(who_hears_whom(&world), ["bob hears carol", "carol hears bob"]);
    }
}

#[test]
fn an_attended_transfer_joins_the_two_the_transferor_spoke_to() {
    for places in PLACES {
        let (mut world, [alice, bob, carol]) = three(places);
        world.phones[alice].dial(world.now, "carol", &[]);
        world.run(1.0);
        // Alice names her conversation with Carol as she knows it.
        let (target, replaces) = {
            let d = &world.phones[alice].talks[1].dialog;
            let names = (d.call_id.as_str(), d.remote_tag(), d.local_tag());
            (d.target.clone(), format!("{}%3Bto-tag%3D{}%3Bfrom-tag%3D{}", names.0, names.1, names.2))
        };
        world.phones[alice].within_talk(world.now, 0, Method::Refer, |m| {
            m.with("Refer-To", format!("<{target}?Replaces={replaces}>"))
        });
        world.run(2.0);
        let invite = world.phones[carol].got(&Method::Invite).last().copied().cloned().unwrap();
        assert!(invite.header("Replaces").is_some(), "{places:?}");
        assert!(world.phones[bob].statuses(&Method::Invite).contains(&200), "{places:?}");
        assert!(world.phones[alice].talks[1].over, "replaced by Carol, {places:?}");
        world.phones[alice].hang_up(world.now);
        world.run(1.0);
        assert_eq!(who_hears_whom(&world), ["bob hears carol", "carol hears bob"], "{places:?}");
        for phone in [bob, carol] {
            if !world.phones[phone].last_talk().over {
                world.phones[phone].hang_up(world.now);
                world.run(1.0);
            }
        }
        assert!(who_hears_whom(&world).is_empty());
        world.nothing_is_left();
    }
}

#[test]
fn the_called_phone_may_transfer_too() {
    let (mut world, [_, bob, _]) = three([0, 1, 2]);
    world.phones[bob].within(world.now, Method::Refer, |m| m.with("Refer-To", "<sip:carol@192.168.1.1>"));
    world.run(2.0);
    world.phones[bob].hang_up(world.now);
    world.run(1.0);
    assert_eq!(who_hears_whom(&world), ["alice hears carol", "carol hears alice"]);
}

#[test]
fn a_transfer_to_nobody_is_reported_and_the_call_goes_on() {
    let (mut world, [alice, ..]) = three([0, 1, 2]);
    world.phones[alice].within(world.now, Method::Refer, |m| m.with("Refer-To", "<sip:nobody@192.168.0.1>"));
    world.run(2.0);
    let last = world.phones[alice].got(&Method::Notify).last().unwrap().body.clone();
    assert_eq!(last, b"SIP/2.0 404 Not Found");
    assert_eq!(who_hears_whom(&world), ["alice hears bob", "bob hears alice"]);
}
