//! Whole networks, each small enough for `cargo test`; the large ones are in `scenarios/`.

use sim::{Observer, Report, Scenario, Sent};

fn play(text: &str) -> Report {
    sim::run(&text.parse::<Scenario>().unwrap(), &mut ())
}

fn share(report: &Report) -> f64 {
    report.lookups.succeeded as f64 / report.lookups.issued.max(1) as f64
}

#[test]
fn the_same_seed_gives_the_same_log_and_another_seed_another() {
    let text = "nodes = 40\nduration_s = 120\nloss = 0.05\nlookups_per_s = 2.0\nusers_per_node = 2\n\
                [churn]\nlaw = 'weibull'\nmean_s = 300";
    let (one, two) = (play(text), play(text));
    assert_eq!(serde_json::to_string(&one).unwrap(), serde_json::to_string(&two).unwrap());
    assert_ne!(one.log_hash, play(&format!("seed = 2\n{text}")).log_hash);
    assert!(one.population.left > 0 && one.population.crashed > 0 && one.datagrams.lost > 0);
}

#[test]
fn watching_changes_nothing() {
    #[derive(Default)]
    struct Count(u64, u64);
    impl Observer for Count {
        fn sent(&mut self, sent: &Sent<'_>) {
            self.0 += 1;
            self.1 += u64::from(!sent.arrives);
        }
    }
    let text = "nodes = 20\nduration_s = 60\nloss = 0.1";
    let mut count = Count::default();
    let watched = sim::run(&text.parse().unwrap(), &mut count);
    assert_eq!((count.0, count.1), (watched.datagrams.sent, watched.datagrams.lost));
    assert_eq!(watched.log_hash, play(text).log_hash);
}

#[test]
fn two_hundred_peers_find_everybody_while_they_join() {
    let report = play("nodes = 200\nduration_s = 120\njoins_per_s = 10\nlookups_per_s = 10");
    assert_eq!(report.violations, [""; 0]);
    assert_eq!(report.population.joined, 200);
}

#[test]
fn fifty_peers_find_everybody_once_they_have_joined() {
    for seed in 1..5 {
        let report = play(&format!("seed = {seed}\nnodes = 50\nduration_s = 180\nlookups_per_s = 5"));
        assert_eq!(report.violations, [""; 0]);
    }
}

#[test]
fn survivors_are_found_after_a_quarter_of_the_peers_fell_silent() {
    let report = play(
        "nodes = 60\nduration_s = 240\nlookups_per_s = 5\n[[events]]\nat_s = 120\nkill = 0.25\n\
         [bars]\nlookups = 0.95",
    );
    assert_eq!(report.population.crashed, 15);
    assert!(report.lookups.issued > 500, "{:?}", report.lookups);
    assert!(share(&report) >= 0.95, "{:?}", report.lookups);
}

#[test]
fn the_two_sides_of_a_cut_network_lose_each_other() {
    let text = "nodes = 40\nreplicas = 1\nduration_s = 130\nlookups_per_s = 10\n[bars]\nlookups = 0.0\n\
                [[events]]\nat_s = 70\npartition = 0.5";
    let report = play(text);
    assert!(share(&report) < 0.9 && report.datagrams.lost > 0, "{:?}", report.lookups);
}

#[test]
fn the_two_sides_of_a_cut_network_find_each_other_again() {
    /// Lookups that ended during the break, and a minute and more after it: found, and all.
    #[derive(Default)]
    struct Judge([(u32, u32); 2]);
    impl Observer for Judge {
        fn told(&mut self, at: wire::Time, _: usize, event: &node::Event) {
            let node::Event::Done { outcome: node::Outcome::Lookup(report), .. } = event else { return };
            let half = match at.as_millis() / 1_000 {
                250..420 => 0,
                480.. => 1,
                _ => return,
            };
            self.0[half].0 += u32::from(report.found);
            self.0[half].1 += 1;
        }
    }
    // One holder for each record, so that a side without it does not find it.
    let text = "nodes = 100\nreplicas = 1\nduration_s = 600\nlookups_per_s = 10\n[bars]\nlookups = 0.0\n\
                [[events]]\nat_s = 120\npartition = 0.5\nfor_s = 300";
    let mut judge = Judge::default();
    let report = sim::run(&text.parse::<Scenario>().unwrap(), &mut judge);
    let [(during, asked), (after, all)] = judge.0;
    assert!(report.datagrams.lost > 0 && during * 10 < asked * 9, "{during} of {asked} during the break");
    assert!(all > 900 && after * 100 >= all * 99, "{after} of {all} after it");
}

#[test]
fn a_bar_that_is_not_met_is_a_violation() {
    let report = play("nodes = 20\nduration_s = 100\n[bars]\nmaintenance_bytes_per_s = 1");
    assert!(report.violations[0].contains("maintenance"), "{:?}", report.violations);
    let report = play("nodes = 60\nduration_s = 100\nmtu = 576\nlookups_per_s = 0");
    assert!(report.violations[0].contains("longer than the path carries"), "{:?}", report.violations);
}

#[test]
fn phones_hear_each_other_and_read_what_the_other_wrote() {
    let report = play(
        "nodes = 16\nduration_s = 60\nlookups_per_s = 0\n\
         [[calls]]\nat_s = 20\nfrom = 3\nto = 9\nduration_s = 8\n\
         [[messages]]\nat_s = 30\nfrom = 9\nto = 3\ntext = 'hello'",
    );
    assert_eq!(report.violations, [""; 0]);
    assert!(report.calls[0].heard_by_caller_s > 7.0 && report.calls[0].heard_by_callee_s > 7.0);
    assert_eq!(report.calls[0].path, "direct");
    assert!(report.messages[0].shown);
}

#[test]
fn a_phone_whose_peer_is_cut_off_is_not_heard() {
    let report = play(
        "nodes = 16\nduration_s = 60\nlookups_per_s = 0\n\
         [[events]]\nat_s = 25\nloss = 1.0\n\
         [[calls]]\nat_s = 20\nfrom = 3\nto = 9\nduration_s = 20",
    );
    assert!(!report.violations.is_empty());
}

#[test]
fn signatures_that_stand_in_are_said_to_and_change_no_outcome() {
    let text = "nodes = 60\nduration_s = 120\nlookups_per_s = 2.0\n";
    let (real, stand_in) = (play(text), play(&format!("{text}signatures = 'stand-in'")));
    let said = |report: &Report| serde_json::to_value(report).unwrap()["signatures"].clone();
    assert_eq!((said(&real), said(&stand_in)), ("real".into(), "stand-in".into()));
    assert_eq!((share(&real), share(&stand_in)), (1.0, 1.0));
    assert!(stand_in.violations.is_empty(), "{:?}", stand_in.violations);
    assert_ne!(real.log_hash, stand_in.log_hash);
    // As long as the real ones: chance moves the mean datagram by half a hundredth, and signatures of 64 bytes
    // that were left out would by several.
    let mean = |report: &Report| report.bytes_per_node_per_s.mean / report.datagrams.sent as f64;
    let ratio = mean(&real) / mean(&stand_in);
    assert!((0.98..1.02).contains(&ratio), "{ratio}");
}

#[test]
fn numbers_that_stand_in_are_said_to_and_are_the_same_in_a_second_run() {
    let text = "nodes = 20\nduration_s = 120\nlookups_per_s = 2.0\n";
    let numbered = || play(&format!("{text}[peer]\nnumbers = 'stand-in'"));
    let (none, first, second) = (play(text), numbered(), numbered());
    let said = |report: &Report| serde_json::to_value(report).unwrap()["numbers"].clone();
    assert_eq!((said(&none), said(&first)), ("none".into(), "stand-in".into()));
    assert_eq!(first.violations, [""; 0]);
    assert_eq!((share(&first), &first.log_hash), (1.0, &second.log_hash));
    assert_ne!(first.log_hash, none.log_hash, "numbers are published");
}

#[test]
fn a_model_of_implicit_tables_finds_everybody_and_feels_what_is_stale() {
    let model = |stale: f64| {
        play(&format!(
            "model = 'implicit'\nnodes = 200_000\nduration_s = 20\nlookups_per_s = 100.0\nstale = {stale}"
        ))
    };
    let (fresh, stale) = (model(0.0), model(0.3));
    assert_eq!((fresh.lookups.issued, share(&fresh)), (2_000, 1.0));
    // Where every third entry leads to nobody, a few run out of the three seconds that a person waits.
    assert!(share(&stale) > 0.99, "{:?}", stale.lookups);
    assert_eq!(fresh.log_hash, model(0.0).log_hash);
    assert!(fresh.lookups.time_ms.p95 < stale.lookups.time_ms.p95);
    let mean = fresh.lookups.time_mean_ms;
    assert!((fresh.lookups.time_ms.p50 / 2.0..fresh.lookups.time_ms.p95).contains(&mean), "{mean}");
    // Two hundred thousand peers, five holders, buckets of eight: between three and seven hops.
    assert!((3.0..7.0).contains(&fresh.lookups.hops_mean), "{}", fresh.lookups.hops_mean);
}

#[test]
fn peers_that_may_hardly_send_put_their_upkeep_off_and_find_everybody() {
    let text = "nodes = 60\nduration_s = 900\nlookups_per_s = 5\nmeasure_from_s = 300\n\
                [peer]\nrole = 'peer'\nbudget_burst_bytes = 15000\nbudget_bytes_per_s = ";
    let poor = play(&format!("{text}25"));
    assert_eq!(poor.violations, [""; 0]);
    assert_eq!(share(&poor), 1.0);
    assert!(poor.shed["upkeep"] > 100 && poor.shed["replication"] > 0, "{:?}", poor.shed);
    let upkeep = poor.maintenance_bytes_per_node_per_s.mean;
    assert!(upkeep < 25.0, "{upkeep}");
    let usual = play(&format!("{text}500"));
    assert!(!usual.shed.contains_key("upkeep") && share(&usual) == 1.0, "{:?}", usual.shed);
}
