//! Attackers in small networks; the bars are in `scenarios/`.

use sim::{Report, Scenario};

fn play(text: &str) -> Report {
    sim::run(&text.parse::<Scenario>().unwrap(), &mut ())
}

fn share(report: &Report) -> f64 {
    report.lookups.succeeded as f64 / report.lookups.issued.max(1) as f64
}

/// A hundred peers, a fifth of whom attack.
fn fifth(kind: &str) -> Report {
    play(&format!(
        "nodes = 100\nduration_s = 240\nmeasure_from_s = 120\nlookups_per_s = 5\n\
         [[attackers]]\nkind = '{kind}'\nshare = 0.2\n[bars]\nlookups = 0.0"
    ))
}

#[test]
fn a_fifth_of_the_peers_attacks_in_vain() {
    for kind in ["dropper", "liar", "colluder", "poisoner"] {
        let report = fifth(kind);
        let attack = report.attack.clone().unwrap();
        assert!(attack.attackers >= 10 && attack.twisted > 100, "{kind}: {attack:?}");
        assert!(report.lookups.issued > 300, "{kind}: {:?}", report.lookups);
        assert!(share(&report) >= 0.97, "{kind}: {:?}", report.lookups);
        assert!(attack.messages_max <= 32, "{kind}: {attack:?}");
    }
}

/// Peers that drop questions look as if they had gone: whoever joins is told of a storm, has its records kept
/// for minutes only, and soon sees that nobody goes.
#[test]
fn records_kept_for_a_short_time_are_refreshed_before_it_is_over_though_sessions_are_long() {
    let report = play(
        "nodes = 120\nduration_s = 600\nmeasure_from_s = 180\njoins_per_s = 10\nlookups_per_s = 5\n\
         signatures = 'stand-in'\n[[attackers]]\nkind = 'dropper'\nshare = 0.2\n[bars]\nlookups = 0.0",
    );
    let held_by_nobody = report.lookups.failures.iter().filter(|f| f.contains("held by 0 peers"));
    assert_eq!(held_by_nobody.count(), 0, "{:?}", report.lookups);
    assert!(share(&report) >= 0.995, "{:?}", report.lookups);
}

#[test]
fn nobody_enters_a_table_who_was_only_mentioned() {
    let text = "nodes = 40\nduration_s = 120\nlookups_per_s = 1\n[[attackers]]\nkind = 'poisoner'\nshare = 0.2\n\
                [bars]\nlookups = 0.0";
    let (report, honest) = (play(text), play("nodes = 40\nduration_s = 120"));
    assert!(report.datagrams.to_nobody > 0 && honest.datagrams.to_nobody == 0);
    // Poisoners themselves are in tables, and rightly: they answer. Those they invent are not.
    let attack = report.attack.unwrap();
    let own = attack.attackers as f64 / 40.0;
    assert!(attack.entries_share < own + 0.1, "{attack:?}");
}

#[test]
fn sybils_beside_a_name_raise_an_alarm_and_do_not_hide_it() {
    let report = play(
        "nodes = 150\nduration_s = 300\nmeasure_from_s = 150\nlookups_per_s = 4\n\
         [[attackers]]\nkind = 'sybil'\ncount = 16\nat_s = 2\nagainst = 140\nsought = 0.5\n[bars]\nlookups = 0.0",
    );
    let attack = report.attack.unwrap();
    assert!(attack.victim.issued > 100, "{attack:?}");
    assert!(attack.victim.succeeded as f64 >= 0.95 * attack.victim.issued as f64, "{attack:?}");
    assert!(attack.victim.publisher_alarms > 0, "{attack:?}");
    assert!(attack.others.alarms as f64 <= 0.01 * attack.others.issued as f64, "{attack:?}");
}

/// The Sybils fill everybody's table of that part of the space, and answer with each other for eight names in a
/// thousand that are not their victim's.
#[test]
fn names_beside_an_eclipsed_one_are_published_and_found() {
    let report = play(
        "nodes = 1000\nseed = 2\nduration_s = 200\nmeasure_from_s = 80\njoins_per_s = 100\nlookups_per_s = 20\n\
         signatures = 'stand-in'\n[[attackers]]\nkind = 'sybil'\ncount = 100\nat_s = 2\nagainst = 400\n\
         sought = 0.3",
    );
    assert_eq!(report.violations, Vec::<String>::new());
    let attack = report.attack.unwrap();
    assert_eq!(attack.others.succeeded, attack.others.issued);
}

/// In a table of forty entries four places would be a tenth: the overlay must not be too small.
#[test]
fn a_prefix_gets_few_places_in_tables() {
    let report = play(
        "nodes = 1000\nduration_s = 200\njoins_per_s = 20\nlatency = { model = 'asn' }\n\
         [[attackers]]\nkind = 'prefix'\ncount = 3000\nat_s = 5\nper_s = 100\n[bars]\nlookups = 0.0",
    );
    let attack = report.attack.unwrap();
    assert!(attack.twisted > 10_000 && attack.attackers == 3_000, "{attack:?}");
    assert!((0.0..=0.08).contains(&attack.entries_share), "{attack:?}");
}

/// Identities that were chosen, or made by the thousand, cost a hundred times as much where the puzzle asks
/// for eight bits. Nobody pays it here: sixteen Sybils would need four million draws each.
#[test]
fn attackers_who_did_not_pay_for_their_identities_stay_outside() {
    let report = play(
        "nodes = 100\nduration_s = 150\nmeasure_from_s = 60\nlookups_per_s = 4\ndifficulty = 8\n\
         [[attackers]]\nkind = 'sybil'\ncount = 16\nat_s = 2\nagainst = 50\nsought = 0.5\n\
         [[attackers]]\nkind = 'prefix'\ncount = 2000\nat_s = 5\nper_s = 50\n[bars]\nlookups = 0.0",
    );
    let attack = report.attack.clone().unwrap();
    assert!(attack.attackers >= 2_000 && attack.twisted > 1_000, "{attack:?}");
    assert!(attack.victim.issued > 100, "{attack:?}");
    assert_eq!(report.lookups.succeeded, report.lookups.issued, "{:?}", report.lookups);
    assert_eq!((attack.victim.alarms, attack.victim.publisher_alarms), (0, 0), "{attack:?}");
    // One in 256 of the prefix fulfils it by chance.
    assert!(attack.entries_share <= 0.02, "{attack:?}");
}
