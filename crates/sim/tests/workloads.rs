//! What people do, how peers come and go, and how it is counted.

use sim::{Report, Scenario};

fn play(text: &str) -> Report {
    sim::run(&text.parse::<Scenario>().unwrap(), &mut ())
}

#[test]
fn people_register_call_and_write() {
    let report = play(
        "nodes = 30\nduration_s = 150\nlookups_per_s = 0\nsettle_s = 10\n\
         [workload]\nregistrations_per_s = 0.2\ncalls_per_s = 0.2\nmessages_per_s = 0.3",
    );
    assert_eq!(report.violations, [""; 0]);
    let work = &report.workload;
    for (what, tally) in [("calls", &work.calls), ("messages", &work.messages)] {
        assert!(tally.issued > 8 && tally.succeeded == tally.issued, "{what}: {tally:?}");
        assert!(tally.time_ms.p50 > 50.0, "{what}: {tally:?}");
    }
    let users = &work.registrations;
    assert!(users.issued > 10 && users.succeeded + 3 >= users.issued, "{users:?}");
}

#[test]
fn clients_use_the_overlay_and_are_no_part_of_it() {
    let text = "nodes = 60\nclients = 0.6\nduration_s = 200\nlookups_per_s = 4";
    let report = play(text);
    assert_eq!(report.violations, [""; 0]);
    assert!(report.lookups.issued > 200);
    // Events can be aimed at them, and at the others.
    let clients = play(&format!("{text}\n[[events]]\nat_s = 100\nleave = 1.0\namong = 'clients'"));
    let peers =
        play(&format!("{text}\n[bars]\nlookups=0\n[[events]]\nat_s = 100\nleave = 0.5\namong = 'peers'"));
    assert!((25..46).contains(&clients.population.left), "{:?}", clients.population);
    assert!((7..18).contains(&peers.population.left), "{:?}", peers.population);
}

#[test]
fn a_trace_says_who_is_there() {
    let mut trace = String::from("peer,up,down\n");
    (0..20).for_each(|n| trace += &format!("fixed{n},{n},900\n"));
    trace += "guest,30,60\nguest,100,135\nlate,150,900\n";
    let scenario: Scenario =
        "duration_s = 200\nlookups_per_s = 2\nseries_s = 10\n[churn]\nlaw = 'trace'\ntrace = 'x.csv'\ngraceful = 0"
            .parse()
            .unwrap();
    assert_eq!(scenario.trace_file(), Some("x.csv"));
    let report = sim::run(&scenario.with_trace(&trace).unwrap(), &mut ());
    let live = |at: f64| report.series.iter().find(|row| row.at_s == at).unwrap().live;
    assert_eq!([live(50.0), live(90.0), live(120.0), live(140.0), live(180.0)], [22, 21, 22, 21, 22]);
    assert_eq!((report.population.joined, report.population.returned), (23, 1));
    assert_eq!(report.violations, [""; 0]);
}

#[test]
fn sessions_with_a_heavy_tail_keep_the_number_of_peers() {
    let report = play(
        "nodes = 40\nduration_s = 200\nlookups_per_s = 2\n[bars]\nlookups = 0.9\n\
         [churn]\nlaw = 'pareto'\nshape = 1.5\nmedian_s = 100\nfrom_s = 60",
    );
    let before = report.series.iter().filter(|row| row.at_s < 60.0).map(|row| row.gone).max();
    assert_eq!(before, Some(0));
    assert!(report.population.left > 0 && report.population.crashed > 0);
    assert!((36..=40).contains(&report.series.last().unwrap().live));
}

#[test]
fn what_comes_before_measuring_is_not_in_the_figures() {
    let text = "nodes = 40\nduration_s = 240\nlookups_per_s = 4\n";
    let (all, later) = (play(text), play(&format!("measure_from_s = 120\n{text}")));
    assert_eq!(all.log_hash, later.log_hash, "to measure changes nothing");
    assert!(later.lookups.issued < all.lookups.issued && later.lookups.issued > 300, "{:?}", later.lookups);
    let join = |report: &Report| report.bytes_per_node_per_s.by_function["join"];
    assert!(later.bytes_per_node_per_s.mean < all.bytes_per_node_per_s.mean);
    assert!(join(&all) > 5.0 && join(&later) < 1.0, "{} {}", join(&all), join(&later));
}

#[test]
fn papers_count_fewer_bytes_than_the_wire() {
    let report = play("nodes = 40\nduration_s = 120\nmodel_bytes = true");
    let (model, wire) = (report.model_bytes_per_node_per_s.unwrap(), report.bytes_per_node_per_s);
    assert!(model.mean < 0.6 * wire.mean && model.mean > 0.1 * wire.mean, "{} {}", model.mean, wire.mean);
    assert_eq!(play("nodes = 5\nduration_s = 9").model_bytes_per_node_per_s.map(|b| b.mean), None);
}

#[test]
fn an_answer_that_comes_too_late_is_no_success() {
    let report = play("nodes = 30\nduration_s = 150\nlookup_within_s = 0.15\n[bars]\nlookups = 0.99");
    let lookups = &report.lookups;
    assert!(lookups.succeeded > 0 && lookups.succeeded < lookups.issued, "{lookups:?}");
    assert!(lookups.failures[0].contains("found too late"), "{lookups:?}");
    assert!(report.violations[0].contains("lookups succeeded, below 99 %"), "{:?}", report.violations);
}

#[test]
fn every_peer_looks_up_as_often_as_is_said() {
    let report =
        play("nodes = 50\nduration_s = 260\nlookups_per_s = 0\nlookup_every_s = 20\nmeasure_from_s = 100");
    assert!((330..470).contains(&report.lookups.issued), "50 peers, 160 s: {}", report.lookups.issued);
}

#[test]
fn phases_recoveries_and_rows_tell_the_course_of_a_run() {
    let report = play(
        "nodes = 60\nduration_s = 240\nlookups_per_s = 10\n[bars]\nlookups = 0\n\
         [[events]]\nat_s = 120\nkill = 0.5\n\
         [[phases]]\nname = 'early'\nfrom_s = 80\nto_s = 120\nlookups = 1.0\n\
         [[phases]]\nname = 'shock'\nfrom_s = 120\nto_s = 130\nlookups = 1.0",
    );
    let [early, shock] = &report.phases[..] else { panic!("{:?}", report.phases) };
    assert!(early.issued > 300 && early.succeeded == early.issued);
    assert!(shock.time_ms.p95 > early.time_ms.p95, "{early:?} {shock:?}");
    let recovery = report.recoveries[0];
    assert_eq!(recovery.at_s, 120.0);
    assert!(recovery.to_999_s.is_some_and(|s| s < 110.0), "{recovery:?}");
    assert_eq!(report.series.len(), 24);
    assert!(report.series[20].bytes_per_s["lookup"] > 0.0);
    assert_eq!(report.consistency, Some(1.0));
}

#[test]
fn records_that_are_not_where_they_belong_are_seen() {
    let report = play(
        "nodes = 60\nreplicas = 1\nduration_s = 200\nlookups_per_s = 0\n[invariants]\nconsistency = 1.0\n\
         [[events]]\nat_s = 120\nkill = 0.5",
    );
    assert!(report.consistency.is_some_and(|share| share > 0.5 && share < 1.0), "{:?}", report.consistency);
    assert!(report.violations.iter().any(|v| v.contains("are where they belong")), "{:?}", report.violations);
}

#[test]
fn every_model_of_latency_carries_a_network() {
    for model in ["coordinates", "matrix-90", "matrix-king", "asn", "mesh"] {
        let report = play(&format!(
            "nodes = 30\nduration_s = 150\nlookups_per_s = 3\n[latency]\nmodel = '{model}'\n[bars]\nlookups = 0.99"
        ));
        assert_eq!(report.violations, [""; 0], "{model}");
        assert!(
            report.lookups.issued > 150 && report.lookups.time_ms.p50 > 1.0,
            "{model}: {:?}",
            report.lookups
        );
        assert_eq!(report.datagrams.lost > 0, model == "mesh", "{model}: {:?}", report.datagrams);
    }
}

#[test]
fn every_committed_scenario_can_be_played_with_all_its_cells() {
    let files = std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/../../scenarios")).unwrap();
    let mut count = 0;
    for path in
        files.map(|file| file.unwrap().path()).filter(|path| path.extension().is_some_and(|e| e == "toml"))
    {
        let text = std::fs::read_to_string(&path).unwrap();
        let cells = sim::sweep::cells(&text, &sim::sweep::Overrides::default(), 1..=1);
        let cells = cells.unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        let stem = path.file_stem().unwrap().to_str().unwrap();
        assert_eq!(cells[0].scenario.name, stem, "a scenario is called like its file");
        count += 1;
    }
    assert!(count >= 13, "{count}");
}
