//! Every kind of fault acts: one test each, named after it; the last test says which of them is missing.
//!
//! Each runs a small network twice, without the fault and with it, or looks at what the wire carried.

use std::collections::BTreeMap;

use sim::scenario::fault;
use sim::{Observer, Report, Scenario, Sent};
use wire::p2pp::{Class, Message, MessageType};

/// Thirty peers that look each other up; they have settled after a minute.
const BASE: &str = "nodes = 30\nduration_s = 150\njoins_per_s = 10\nlookups_per_s = 5\nsettle_s = 20\n\
                    bars = { lookups = 0.0 }\nphases = [{ name = 'before', from_s = 40, to_s = 59 },\
                    { name = 'during', from_s = 61, to_s = 85 }, { name = 'after', from_s = 110, to_s = 145 }]\n";

fn play(more: &str) -> Report {
    watched(more, &mut ())
}

fn watched(more: &str, observer: &mut dyn Observer) -> Report {
    sim::run(&format!("{BASE}{more}").parse::<Scenario>().unwrap(), observer)
}

/// The base with one event that lasts from the first minute to the middle of the second.
fn event(fields: &str) -> Report {
    play(&format!("[[events]]\nat_s = 60\nfor_s = 30\n{fields}"))
}

/// The share of lookups that succeed in a phase.
fn share(report: &Report, phase: &str) -> f64 {
    let phase = report.phases.iter().find(|p| p.name == phase).unwrap();
    assert!(phase.issued > 20, "{phase:?}");
    phase.succeeded as f64 / phase.issued as f64
}

fn median(report: &Report, phase: &str) -> f64 {
    report.phases.iter().find(|p| p.name == phase).unwrap().time_ms.p50
}

fn lost_by(report: &Report, why: &str) -> u64 {
    report.datagrams.lost_by.get(why).copied().unwrap_or(0)
}

fn acted(report: &Report, kind: &str) -> u64 {
    report.faults.get(kind).copied().unwrap_or(0)
}

/// Counts what went over the wire while an event lasted.
#[derive(Default)]
struct Tap {
    sent: u64,
    arrived: BTreeMap<(std::net::SocketAddr, std::net::SocketAddr), u64>,
    unparsed: u64,
    bootstraps: BTreeMap<std::net::SocketAddr, u64>,
    lost_in_a_row: Vec<u64>,
    run: BTreeMap<std::net::SocketAddr, u64>,
}

impl Observer for Tap {
    fn sent(&mut self, sent: &Sent<'_>) {
        if !(60_000..90_000).contains(&sent.at.as_millis()) {
            return;
        }
        self.sent += 1;
        if sent.arrives {
            *self.arrived.entry((sent.from, sent.to)).or_default() += 1;
        }
        match Message::parse(sent.bytes) {
            Ok(Message { header, .. })
                if (header.message, header.class) == (MessageType::Bootstrap, Class::Request) =>
            {
                *self.bootstraps.entry(sent.to).or_default() += 1;
            }
            Ok(_) => {}
            Err(_) => self.unparsed += 1,
        }
        let run = self.run.entry(sent.to).or_default();
        match sent.arrives {
            false => *run += 1,
            true if *run > 0 => self.lost_in_a_row.push(std::mem::take(run)),
            true => {}
        }
    }
}

fn tapped(fields: &str) -> (Tap, Report) {
    let mut tap = Tap::default();
    let report = watched(&format!("[[events]]\nat_s = 60\nfor_s = 30\n{fields}"), &mut tap);
    (tap, report)
}

// ---- peers --------------------------------------------------------------------------------------

#[test]
fn kill() {
    let report = event("kill = 0.2");
    assert_eq!((report.population.crashed, acted(&report, "kill")), (6, 6));
    assert_eq!(report.series.last().unwrap().live, 24);
    assert_eq!((report.recoveries.len(), share(&report, "after")), (1, 1.0));
}

#[test]
fn leave() {
    let report = event("leave = 0.2\nspread_s = 10");
    assert_eq!((report.population.left, report.population.crashed), (6, 0));
    let live = |at: f64| report.series.iter().find(|row| row.at_s == at).unwrap().live;
    assert_eq!(live(50.0), 30);
    assert!((24..30).contains(&live(70.0)) && live(80.0) == 24, "they go one after the other");
}

#[test]
fn join() {
    let report = event("join = 12");
    assert_eq!((report.population.joined, report.series.last().unwrap().live), (42, 42));
}

#[test]
fn restart() {
    let (tap, report) = returns("restart");
    assert_eq!((report.population.crashed, report.population.returned), (0, 6));
    assert_eq!(share(&report, "after"), 1.0, "with their keys they are found where they were");
    assert!(tap.bootstraps.len() > 1, "they ask the peers they remember: {:?}", tap.bootstraps);
}

/// Peers go and come back while the tap listens.
fn returns(kind: &str) -> (Tap, Report) {
    let mut tap = Tap::default();
    let report = watched(&format!("[[events]]\nat_s = 60\nfor_s = 10\n{kind} = 0.2"), &mut tap);
    (tap, report)
}

#[test]
fn torn_state() {
    let (tap, report) = returns("torn_state");
    assert_eq!((report.population.returned, share(&report, "after")), (6, 1.0));
    assert_eq!(tap.bootstraps.len(), 1, "they remember nobody but the bootstrap peer");
}

#[test]
fn disk_full() {
    let report = event("disk_full = 0.2");
    let during = report.series.iter().find(|row| row.at_s == 80.0).unwrap();
    assert_eq!((during.live, report.population.returned), (30, 6), "they go on until they restart");
    assert_eq!(share(&report, "after"), 1.0);
}

#[test]
fn freeze() {
    let (tap, report) = tapped("freeze = 0.3");
    let frozen = acted(&report, "freeze");
    assert!((4..15).contains(&frozen), "{:?}", report.faults);
    let speak: std::collections::BTreeSet<_> = tap.arrived.keys().map(|(from, _)| from).collect();
    assert_eq!((report.population.crashed, speak.len() as u64), (0, 30 - frozen));
    assert_eq!(share(&report, "after"), 1.0, "{:?}", report.lookups.failures);
}

#[test]
fn slow() {
    let report = event("slow = 50");
    assert!(median(&report, "during") > median(&report, "before") + 50.0, "{:?}", report.phases);
}

#[test]
fn clock_skew() {
    let (fast, usual) = (tapped("clock_skew = 200000"), tapped("clock_skew = 0"));
    assert!(fast.0.sent as f64 > 1.05 * usual.0.sent as f64, "{} {}", fast.0.sent, usual.0.sent);
    assert_eq!(fast.1.violations, [""; 0]);
}

#[test]
fn clock_jump() {
    let report = event("clock_jump = 5000");
    assert_eq!(acted(&report, "clock_jump"), 30);
    // Every record was too old at once, and was renewed at once.
    assert_eq!((share(&report, "during"), share(&report, "after")), (1.0, 1.0));
    let (jumped, usual) = (tapped("clock_jump = 5000"), tapped("clock_jump = 0"));
    assert!(jumped.0.sent as f64 > 1.05 * usual.0.sent as f64, "{} {}", jumped.0.sent, usual.0.sent);
}

#[test]
fn calendar() {
    let late = "[[events]]\nat_s = 60\nfor_s = 30\ncalendar = -90000000\n[[events]]\nat_s = 65\nfor_s = 5\nrestart = 0.2";
    let report = play(late);
    assert_eq!((acted(&report, "calendar"), report.population.returned), (6, 6));
    let usual = play("[[events]]\nat_s = 65\nfor_s = 5\nrestart = 0.2");
    assert_ne!(report.log_hash, usual.log_hash);
}

#[test]
fn nat_reboot() {
    let nat = "nat = { port_restricted = 0.5 }\n";
    let rebooted = play(&format!("{nat}[[events]]\nat_s = 60\nnat_reboot = 1.0"));
    let usual = play(nat);
    assert!(acted(&rebooted, "nat_reboot") > 5);
    assert!(lost_by(&rebooted, "nat") > lost_by(&usual, "nat"), "{rebooted:?}");
}

#[test]
fn boxes_of_every_kind_stand_before_peers() {
    let lost = |kind: &str| lost_by(&play(&format!("nat = {{ {kind} = 1.0 }}")), "nat");
    let (open, closed) = (lost("full_cone"), lost("port_restricted"));
    assert!(closed > 10 * open.max(1), "{open} {closed}");
    assert!(lost("restricted") > 0 && lost("symmetric") >= closed / 2);
}

// ---- datagrams ----------------------------------------------------------------------------------

/// The share of the datagrams sent during the event that a fault took.
fn taken(kind: &str, fields: &str) -> f64 {
    let (tap, report) = tapped(fields);
    assert_eq!(acted(&report, kind), lost_by(&report, kind));
    lost_by(&report, kind) as f64 / tap.sent as f64
}

#[test]
fn loss() {
    assert!((0.17..0.23).contains(&taken("loss", "loss = 0.2")));
}

#[test]
fn loss_in() {
    let (tap, report) = tapped("loss_in = 1.0\npeers = 0.2");
    let deaf = |peer| !tap.arrived.keys().any(|(_, to)| to == peer);
    let silent: Vec<_> = tap.arrived.keys().map(|(from, _)| from).filter(|from| deaf(*from)).collect();
    assert!(!silent.is_empty() && lost_by(&report, "loss_in") > 0, "somebody is heard who hears nothing");
}

#[test]
fn loss_out() {
    let (tap, report) = tapped("loss_out = 1.0\npeers = 0.2");
    let mute = |peer| !tap.arrived.keys().any(|(from, _)| from == peer);
    assert!(tap.arrived.keys().any(|(_, to)| mute(to)) && lost_by(&report, "loss_out") > 0);
}

#[test]
fn burst_loss() {
    let mean = |fields: &str| {
        let (tap, _) = tapped(fields);
        tap.lost_in_a_row.iter().sum::<u64>() as f64 / tap.lost_in_a_row.len().max(1) as f64
    };
    let taken = taken("burst_loss", "burst_loss = 0.2\nburst_ms = 1000");
    // Above a fifth: what is lost in a burst is sent again within it.
    assert!((0.15..0.4).contains(&taken), "{taken}");
    assert!(mean("burst_loss = 0.2\nburst_ms = 1000") > 1.3 * mean("loss = 0.2"));
}

#[test]
fn reorder() {
    let report = event("reorder = 0.5");
    assert!(acted(&report, "reorder") > 100);
    assert!(median(&report, "during") > 1.2 * median(&report, "before"));
    assert_eq!(share(&report, "during"), 1.0);
}

#[test]
fn duplicate() {
    let report = event("duplicate = 1.0");
    let usual = event("duplicate = 0.0");
    assert!(acted(&report, "duplicate") > 100 && report.events > usual.events + 100);
    assert_eq!(share(&report, "during"), 1.0);
}

#[test]
fn corrupt() {
    let (tap, report) = tapped("corrupt = 0.3");
    assert!(acted(&report, "corrupt") > tap.sent / 4 && tap.unparsed > 0);
}

#[test]
fn truncate() {
    let (tap, report) = tapped("truncate = 0.2");
    assert!(tap.unparsed as f64 > 0.9 * acted(&report, "truncate") as f64);
    assert!(tap.unparsed > tap.sent / 8);
}

#[test]
fn partition() {
    let report = play("replicas = 1\n[[events]]\nat_s = 60\nfor_s = 30\npartition = 0.4");
    assert!(share(&report, "during") < 0.95 && lost_by(&report, "partition") > 0);
    assert_eq!(share(&report, "after"), 1.0, "it heals: {:?}", report.lookups.failures);
}

#[test]
fn islands() {
    let (two, ten) = (event("islands = 2"), event("islands = 10"));
    assert!(share(&ten, "during") < share(&two, "during") && lost_by(&two, "islands") > 0);
}

#[test]
fn one_way() {
    let (tap, _) = tapped("one_way = 0.5");
    let both = |(from, to): &(_, _)| tap.arrived.contains_key(&(*to, *from));
    let one = tap.arrived.keys().filter(|pair| !both(pair)).count();
    assert!(one > tap.arrived.len() / 10, "{one} of {}", tap.arrived.len());
}

#[test]
fn no_path() {
    let (tap, report) = tapped("no_path = 0.3");
    assert!(lost_by(&report, "no_path") > tap.sent / 10);
    // Not transitive: a hears b and b hears c, while a and c hear nothing of each other.
    let pairs = |a, b| tap.arrived.contains_key(&(a, b));
    let peers: Vec<_> = tap.arrived.keys().map(|(from, _)| *from).collect();
    assert!(peers.iter().any(|a| {
        tap.arrived.keys().filter(|(from, _)| from == a).any(|(_, b)| {
            tap.arrived.keys().any(|(from, c)| from == b && c != a && !pairs(*a, *c) && !pairs(*c, *a))
        })
    }));
}

#[test]
fn blackhole() {
    let (tap, report) = tapped("blackhole = 0.2");
    let deaf = |peer| !tap.arrived.keys().any(|(_, to)| to == peer);
    assert!(tap.arrived.keys().any(|(from, _)| deaf(from)) && lost_by(&report, "blackhole") > 0);
}

#[test]
fn path_mtu() {
    let report = event("path_mtu = 150");
    assert!(lost_by(&report, "path_mtu") > 100 && share(&report, "during") < 0.5, "{:?}", report.phases);
    assert_eq!(share(&report, "after"), 1.0);
}

#[test]
fn flap() {
    let report = event("flap = 0.5\nperiod_s = 4");
    assert!(lost_by(&report, "flap") > 0 && acted(&report, "flap") == lost_by(&report, "flap"));
    assert!(share(&report, "during") < 1.0 || median(&report, "during") > median(&report, "before"));
}

#[test]
fn bandwidth() {
    let narrow = event("bandwidth = 2");
    let wide = event("bandwidth = 1000");
    assert!(lost_by(&narrow, "bandwidth") > 0 && lost_by(&wide, "bandwidth") == 0);
    assert!(median(&narrow, "during") > 1.3 * median(&wide, "during"));
}

#[test]
fn delay() {
    let report = event("delay = 200");
    assert!(median(&report, "during") > median(&report, "before") + 350.0);
}

#[test]
fn jitter() {
    let report = event("jitter = 400");
    assert!(median(&report, "during") > median(&report, "before") + 200.0 && acted(&report, "jitter") > 100);
}

#[test]
fn unknown_objects() {
    let report = event("unknown_objects = 1.0");
    assert!(acted(&report, "unknown_objects") > 100);
    assert_eq!((share(&report, "during"), share(&report, "after")), (1.0, 1.0));
}

#[test]
fn foreign_version() {
    let (tap, report) = tapped("foreign_version = 0.5");
    assert_eq!(acted(&report, "foreign_version"), tap.unparsed);
    assert!(share(&report, "during") < 0.9 && share(&report, "after") > share(&report, "during"));
}

#[test]
fn load() {
    let (busy, usual) = (event("load = 5"), event("load = 1"));
    let during = |report: &Report| report.phases[1].issued;
    assert!(during(&busy) > 4 * during(&usual), "{} {}", during(&busy), during(&usual));
}

// ---- and all of them ----------------------------------------------------------------------------

#[test]
fn every_kind_has_a_test_and_a_line_in_the_documentation() {
    let (tests, docs) = (include_str!("faults.rs"), include_str!("../../../docs/simulator.md"));
    assert!(fault::ALL.len() >= 25);
    for kind in fault::ALL {
        assert!(tests.contains(&format!("#[test]\nfn {}()", kind.name)), "{} is not tested", kind.name);
        assert!(docs.contains(&format!("| `{}` |", kind.name)), "{} is not explained", kind.name);
    }
}
