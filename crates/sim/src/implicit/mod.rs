//! A model of ten million peers: their lookups, without the peers.
//!
//! The full simulation holds every peer; at ten million that is more than a machine has. What decides
//! how quick a lookup is are the tables that peers have come to, the rule by which requests go on, and the
//! wire. The rule is `node`'s and the wire is the simulator's own; the tables are derived and not grown
//! (`tables.rs`), with a given share of entries that lead to nobody. So the model says nothing about
//! joining, upkeep or loss; those the full simulation shows. Where both can run they are compared, in
//! `docs/benchmarks.md`.

mod lookup;
mod tables;

use std::time::Duration;

use node::storage::Devices;
use wire::p2pp::{Builder, Code, Header, Kind, MessageType, Object, Record, TransactionId};
use wire::{HashAlgorithm, KeyPair, ResourceId, RngExt, Seed, UnixTime};

use self::lookup::{Ground, Outcome};
use self::tables::Tables;
use crate::chance::{Use, mix, stream};
use crate::net::{HEADERS, Net};
use crate::report::{Bytes, LogHash, Percentiles, Report, mean_ms, percentile};
use crate::{Observer, Progress, Scenario};

/// Lookups between two words to the observer.
const ROUND: u64 = 100_000;

/// Payloads in bytes, as `wire` encodes them.
struct Sizes {
    /// An answer with one record of one device; a question that is answered straight to its originator is
    /// padded to the same length.
    answer: u64,
    /// An acknowledgement, or a ping.
    small: u64,
}

impl Sizes {
    fn measured() -> Self {
        let pair = KeyPair::from_seed(Seed([0; 32]));
        let id = pair.public().node_id(HashAlgorithm::Sha256);
        let question = Header::request(MessageType::LookupObject, TransactionId(0), id);
        let devices = Devices(vec![pair.public()]).to_bytes();
        let record = Record::sign(&pair, ResourceId(id.0), Kind::USER, 1, UnixTime(0), 1, devices);
        let answer = Builder::new(&question.answer(Code::OK, id))
            .with(&Object::Resource(record.as_ref()))
            .with(&Object::Expires(1))
            .finish();
        let small = Builder::new(&question.acknowledgement(id)).finish();
        Sizes { answer: answer.len() as u64, small: small.len() as u64 }
    }
}

/// Plays a scenario of implicit tables: `lookups_per_s` for `duration_s`, asked by peers and for keys
/// drawn at random.
pub(crate) fn run(scenario: &Scenario, observer: &mut dyn Observer) -> Report {
    let before = observer.memory();
    let tables = Tables::new(scenario.nodes, scenario.seed, scenario.stale);
    let net = Net::new(scenario);
    let ground = Ground {
        tables: &tables,
        net: &net,
        typical: Duration::from_secs_f64(scenario.latency.median_ms * 2.0 / 1e3),
        replicas: scenario.replicas.into(),
    };
    let mut rng = stream(scenario.seed, Use::Lookups);
    let count = (scenario.lookups_per_s * scenario.duration_s).round() as u64;
    let mut report = Report { events: 0, ..Report::default() };
    let mut hash = LogHash::default();
    let mut served = vec![0u32; tables.len()];
    let mut times: Vec<f64> = Vec::with_capacity(count as usize);
    let mut sum = Outcome::default();
    for n in 0..count {
        let key = mix(rng.random());
        let holders = tables.nearest(key, ground.replicas);
        // Who holds the record need not look it up.
        let mut asker = rng.random_range(0..tables.len() as u64);
        while holders.contains(&asker) {
            asker = rng.random_range(0..tables.len() as u64);
        }
        let outcome = ground.recursive(asker, key, &holders, &mut |peer| served[peer as usize] += 1);
        hash.number(outcome.took.as_micros() as u64 * 2 + u64::from(outcome.found));
        hash.number(outcome.messages());
        sum.requests += outcome.requests;
        sum.small += outcome.small;
        sum.answers += outcome.answers;
        report.events += outcome.messages();
        let lookups = &mut report.lookups;
        lookups.issued += 1;
        let mode = if outcome.iterative { "iterative" } else { "recursive" };
        match lookups.modes.get_mut(mode) {
            Some(count) => *count += 1,
            None => {
                lookups.modes.insert(mode.into(), 1);
            }
        }
        if outcome.found {
            lookups.succeeded += 1;
            times.push(outcome.took.as_secs_f64() * 1e3);
            sum.hops += outcome.hops;
            sum.asked += outcome.asked;
        }
        if n % ROUND == ROUND - 1 {
            let at = wire::Time::ZERO + Duration::from_secs_f64((n + 1) as f64 / scenario.lookups_per_s);
            let lookups = (report.lookups.issued, report.lookups.succeeded);
            observer.progress(Progress { at, live: tables.len(), events: report.events, lookups });
        }
    }
    let found = report.lookups.succeeded.max(1) as f64;
    report.lookups.hops_mean = f64::from(sum.hops) / found;
    report.lookups.messages_mean = sum.asked as f64 / found;
    report.lookups.all_messages_mean = Some(sum.messages() as f64 / count.max(1) as f64);
    report.lookups.time_mean_ms = mean_ms(&times, report.lookups.issued);
    report.lookups.time_ms = Percentiles::of(&mut times);
    report.bytes_per_node_per_s = load(scenario, &sum, served);
    let after = before.and(observer.memory());
    report.bytes_per_node_memory =
        after.zip(before).map(|(after, before)| after.saturating_sub(before) / tables.len() as u64);
    report.datagrams.sent = sum.messages();
    judge(scenario, &mut report);
    report.schema = "openvoip.sim/1";
    report.scenario = scenario.name.clone();
    report.seed = scenario.seed;
    report.nodes = tables.len();
    report.overlay = scenario.overlay.clone();
    report.virtual_s = scenario.duration_s;
    report.log_hash = hash.text();
    report
}

/// What lookups cost a peer, sent and with headers: the mean, and the busiest in a hundred.
fn load(scenario: &Scenario, sum: &Outcome, served: Vec<u32>) -> Bytes {
    let (peers, seconds) = (served.len() as f64, scenario.duration_s);
    let sizes = Sizes::measured();
    let bytes = (sum.requests + sum.answers) * (sizes.answer + HEADERS) + sum.small * (sizes.small + HEADERS);
    let mean = bytes as f64 / peers / seconds;
    let visits: u64 = served.iter().map(|n| u64::from(*n)).sum();
    let mut served: Vec<f64> = served.into_iter().map(f64::from).collect();
    served.sort_by(f64::total_cmp);
    let each = bytes as f64 / visits.max(1) as f64 / seconds;
    let by_function = [("lookup".to_owned(), mean)].into();
    Bytes { mean, p99: percentile(&served, 0.99) * each, by_function }
}

fn judge(scenario: &Scenario, report: &mut Report) {
    let (bars, lookups) = (scenario.bars, &report.lookups);
    let share = lookups.succeeded as f64 / lookups.issued.max(1) as f64;
    if share < bars.lookups {
        let what = format!("{} of {} lookups succeeded", lookups.succeeded, lookups.issued);
        report.violations.push(format!("{what}, below {} %", bars.lookups * 100.0));
    }
    if bars.lookup_p95_ms > 0.0 && lookups.time_ms.p95 > bars.lookup_p95_ms {
        let (p95, bar) = (lookups.time_ms.p95, bars.lookup_p95_ms);
        report.violations.push(format!("the 95th percentile of lookups is {p95:.0} ms, above {bar} ms"));
    }
}
