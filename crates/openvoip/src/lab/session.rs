//! A laboratory to teach in: one line of text is carried out after the other while the peers live on.
//!
//! The same lines drive peers in this process and peers in namespaces ([`Bench`]), and come from a
//! person or from a file. The laboratory knows what no peer knows, who is really alive: so it can tell
//! how many entries of the tables lead to nobody, and whether a lookup named the right peer.

mod watch;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::mpsc::{Receiver, TryRecvError};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use sim::report::Percentiles;
use wire::{Rng, RngExt, Seed};

use super::bench::Bench;
use super::order::{HELP, Misunderstood, Order, Victims};
use super::peers::user;
use crate::control::{self, exit};

/// How long the peers work before it is looked whether a line has come.
const PAUSE: Duration = Duration::from_millis(20);

/// Peers that are named one by one; the rest are counted.
const NAMED: usize = 16;

/// What a line came to.
#[derive(Clone, Debug)]
pub struct Said {
    /// For a program: an answer as those of the control API.
    pub value: Value,
    /// For a person, where the fields of the answer as they stand do not read well.
    pub text: Option<String>,
}

impl From<Value> for Said {
    fn from(value: Value) -> Said {
        Said { value, text: None }
    }
}

impl From<Misunderstood> for Said {
    fn from(Misunderstood { reason, next }: Misunderstood) -> Said {
        control::failure(exit::USAGE, &reason, next).into()
    }
}

/// Who reads the answers.
pub trait Audience {
    /// The laboratory waits for a line.
    fn ready(&mut self);
    /// A line came to this.
    fn hear(&mut self, said: Said);
    /// Whether the lines come from a person, who may want `watch` to end.
    fn is_person(&self) -> bool;
}

/// How lookups went.
#[derive(Default)]
struct Tally {
    issued: usize,
    found: usize,
    times: Vec<f64>,
}

impl Tally {
    fn value(&mut self) -> Value {
        json!({ "issued": self.issued, "found": self.found, "time_ms": Percentiles::of(&mut self.times) })
    }
}

/// A laboratory and what is known of it.
pub struct Session<'a> {
    bench: &'a mut dyn Bench,
    rng: Rng,
    started: usize,
    living: BTreeSet<usize>,
    /// Node-IDs of all peers there ever were, and back.
    numbers: BTreeMap<String, usize>,
    nodes: BTreeMap<usize, String>,
    lookups: Tally,
}

impl<'a> Session<'a> {
    /// A laboratory without peers. Whom chance takes follows from the seed.
    pub fn new(bench: &'a mut dyn Bench, seed: u64) -> Session<'a> {
        Session {
            bench,
            rng: Seed::from_number(seed).rng(),
            started: 0,
            living: BTreeSet::new(),
            numbers: BTreeMap::new(),
            nodes: BTreeMap::new(),
            lookups: Tally::default(),
        }
    }

    /// Carries out what is typed until `quit` or the end; gives the exit code of the first line that
    /// failed.
    ///
    /// # Errors
    /// In words, if the laboratory itself breaks.
    pub fn run(&mut self, lines: &Receiver<String>, audience: &mut dyn Audience) -> Result<i32, String> {
        let mut code = exit::OK;
        loop {
            audience.ready();
            let Some(line) = self.wait(lines)? else { return Ok(code) };
            let said = match Order::read(&line) {
                Ok(None) => continue,
                Ok(Some(Order::Quit)) => return Ok(code),
                Ok(Some(Order::Watch { time, lookups_per_s })) => {
                    self.watch(time, lookups_per_s, lines, audience)?
                }
                Ok(Some(order)) => self.carry_out(order),
                Err(misunderstood) => misunderstood.into(),
            };
            let failed = said.value["exit"].as_i64().unwrap_or(i64::from(exit::FAILED)) as i32;
            if code == exit::OK {
                code = failed;
            }
            audience.hear(said);
        }
    }

    /// Carries out one order.
    fn carry_out(&mut self, order: Order) -> Said {
        let done = match order {
            Order::Add(count) => self.add(count),
            Order::Kill { who, silently } => self.kill(who, silently),
            Order::Leave(peers) => self.leave(&peers),
            Order::List => Ok(self.list()),
            Order::Table(peer) => self.table(peer),
            Order::Lookup { who, from } => self.lookup(&who, from),
            Order::Put { key, value, from } => self
                .someone(from)
                .map(|peer| self.ask(peer, json!({ "command": "put", "key": key, "value": value })).into()),
            Order::Get { key, from } => {
                self.someone(from).map(|peer| self.ask(peer, json!({ "command": "get", "key": key })).into())
            }
            Order::Status(Some(peer)) => {
                self.someone(Some(peer)).map(|peer| self.ask(peer, json!({ "command": "status" })).into())
            }
            Order::Status(None) => Ok(self.status()),
            // These two end or interrupt the session, which `run` does.
            Order::Help | Order::Watch { .. } | Order::Quit => {
                let value = control::answer("lab-help", exit::OK, json!({ "help": HELP }));
                Ok(Said { value, text: Some(HELP.into()) })
            }
        };
        done.unwrap_or_else(|failure| failure.into())
    }

    /// Starts more peers; the answer to `add`.
    ///
    /// # Errors
    /// A failure in the form of the control API.
    pub fn add(&mut self, count: usize) -> Result<Said, Value> {
        let most = self.bench.most();
        if self.started + count > most {
            let reason =
                format!("{count} more are too many: {} of {most} peers were started already", self.started);
            return Err(control::failure(exit::UNMET, &reason, "quit, and begin anew"));
        }
        let start = Instant::now();
        let added = self.started..self.started + count;
        let late = self
            .bench
            .add(count)
            .map_err(|e| control::failure(exit::FAILED, &e, "add fewer, or openvoip lab --help"))?;
        let joined_ms = start.elapsed().as_secs_f64() * 1e3;
        self.started += count;
        for peer in added.clone() {
            self.living.insert(peer);
            if let Some(node) = self.ask(peer, json!({ "command": "status" }))["node_id"].as_str() {
                self.numbers.insert(node.to_owned(), peer);
                self.nodes.insert(peer, node.to_owned());
            }
        }
        let peers: Vec<usize> = added.clone().collect();
        let late: Vec<usize> = late.into_iter().collect();
        let mut text = format!(
            "{count} joined in {joined_ms:.0} ms: peer {} to {}; {} live",
            added.start,
            added.end.saturating_sub(1),
            self.living.len()
        );
        if !late.is_empty() {
            text += &format!("; not in the overlay yet: {late:?}");
        }
        let code = if late.is_empty() { exit::OK } else { exit::TIMEOUT };
        let body =
            json!({ "peers": peers, "late": late, "joined_ms": joined_ms, "living": self.living.len() });
        Ok(Said { value: control::answer("lab-add", code, body), text: Some(text) })
    }

    fn kill(&mut self, who: Victims, silently: bool) -> Result<Said, Value> {
        let victims = match who {
            Victims::These(peers) => peers,
            Victims::Random(count) => {
                let mut living: Vec<usize> = self.living.iter().copied().collect();
                let draw = |_| living.swap_remove(self.rng.random_range(0..living.len()));
                (0..count.min(self.living.len())).map(draw).collect()
            }
        };
        victims.iter().try_for_each(|peer| self.someone(Some(*peer)).map(drop))?;
        for peer in &victims {
            self.bench
                .kill(*peer, silently)
                .map_err(|e| control::failure(exit::FAILED, &e, "list, to see who lives"))?;
            self.living.remove(peer);
        }
        Ok(self.ended("lab-kill", victims, if silently { "fell silent" } else { "were killed" }, silently))
    }

    fn leave(&mut self, peers: &[usize]) -> Result<Said, Value> {
        for peer in peers {
            self.someone(Some(*peer))?;
            self.bench
                .leave(*peer)
                .map_err(|e| control::failure(exit::TIMEOUT, &e, "kill it without a goodbye"))?;
            self.living.remove(peer);
        }
        Ok(self.ended("lab-leave", peers.to_vec(), "said goodbye", false))
    }

    fn ended(&self, thing: &str, peers: Vec<usize>, how: &str, silently: bool) -> Said {
        let living = self.living.len();
        let mut names: Vec<String> = peers.iter().take(NAMED).map(ToString::to_string).collect();
        if peers.len() > NAMED {
            names.push(format!("and {} more", peers.len() - NAMED));
        }
        let text = format!("peers that {how}: {}; {living} live", names.join(", "));
        let body = json!({ "peers": peers, "silent": silently, "living": living });
        Said { value: control::answer(thing, exit::OK, body), text: Some(text) }
    }

    fn list(&mut self) -> Said {
        let mut rows = Vec::new();
        for peer in self.living.clone() {
            let status = self.ask(peer, json!({ "command": "status" }));
            rows.push(json!({
                "peer": peer, "node": status["node_id"], "address": status["listen"],
                "online": status["online"], "user": status["users"][0]["aor"],
                "state": status["users"][0]["state"], "entries": status["routing_entries"],
                "neighbors": status["neighbors"], "records": status["objects"],
            }));
        }
        let columns = ["peer", "node", "address", "user", "state", "entries", "neighbors", "records"];
        let text = table(&columns, &rows);
        Said { value: control::answer("lab-list", exit::OK, json!({ "peers": rows })), text: Some(text) }
    }

    fn table(&mut self, peer: usize) -> Result<Said, Value> {
        let peer = self.someone(Some(peer))?;
        let mut answer = self.ask(peer, json!({ "command": "routes" }));
        let Some(rows) = answer["routes"].as_array_mut() else { return Err(answer) };
        for row in rows.iter_mut() {
            row["peer"] = json!(self.called(row["node"].as_str().unwrap_or_default()));
        }
        let text = table(&["row", "peer", "node", "address", "rtt_ms", "state"], rows);
        Ok(Said { value: answer, text: Some(text) })
    }

    fn lookup(&mut self, who: &str, from: Option<usize>) -> Result<Said, Value> {
        let sought: Option<usize> = who.parse().ok();
        let who = sought.map_or_else(|| who.to_owned(), user);
        let from = match from {
            None if self.living.len() > 1 => self.somebody_but(sought)?,
            from => self.someone(from)?,
        };
        let mut answer = self.look_up(from, &who);
        if answer["found"].is_null() {
            return Err(answer);
        }
        let (time, hops) = (answer["time_ms"].as_f64().unwrap_or_default(), answer["hops"].clone());
        let homes = answer["record"]["nodes"].as_array().cloned().unwrap_or_default();
        let homes: Vec<String> = homes.iter().filter_map(Value::as_str).map(|n| self.called(n)).collect();
        let mut text = match answer["found"] == true {
            true => format!("found at peer {}", homes.join(", ")),
            false => "not found".into(),
        };
        text += &format!(": {hops} hops, {time:.2} ms, asked by peer {from}");
        if let Some(hops) = answer["path"].as_array_mut() {
            for hop in hops.iter_mut() {
                hop["peer"] = json!(self.called(hop["node"].as_str().unwrap_or_default()));
            }
            if !hops.is_empty() {
                text += &format!("\n{}", table(&["peer", "node", "address", "rtt_ms", "decision"], hops));
            }
        }
        answer["from"] = json!(from);
        answer["peers"] = json!(homes);
        Ok(Said { value: answer, text: Some(text) })
    }

    fn status(&mut self) -> Said {
        let sums = self.sums();
        let body = json!({
            "living": self.living.len(), "ended": self.started - self.living.len(), "online": sums.online,
            "entries": sums.entries, "entries_to_nobody": sums.to_nobody, "suspected": sums.suspected, "records": sums.records,
            "lookups": self.lookups.value(), "sent_bytes": sums.sent,
        });
        control::answer("lab-state", exit::OK, body).into()
    }

    /// A lookup that no copy at the asker answers.
    fn look_up(&mut self, from: usize, who: &str) -> Value {
        let request = json!({ "command": "lookup", "who": who, "trace": true, "fresh": true });
        let answer = self.ask(from, request);
        self.lookups.issued += 1;
        if answer["found"] == true {
            self.lookups.found += 1;
            self.lookups.times.push(answer["time_ms"].as_f64().unwrap_or_default());
        }
        answer
    }

    fn ask(&mut self, peer: usize, request: Value) -> Value {
        self.bench.ask(peer, &request)
    }

    /// This peer if it lives; anybody if none is named.
    fn someone(&mut self, peer: Option<usize>) -> Result<usize, Value> {
        let living = self.living.len();
        let unmet = |reason: &str, next| Err(control::failure(exit::NOT_FOUND, reason, next));
        match peer {
            _ if living == 0 => unmet("no peer lives", "add 8"),
            Some(peer) if self.living.contains(&peer) => Ok(peer),
            Some(peer) if peer < self.started => {
                unmet(&format!("peer {peer} is gone"), "list, to see who lives")
            }
            Some(peer) => unmet(&format!("there is no peer {peer}"), "list, to see who lives"),
            None => {
                let at = self.rng.random_range(0..living);
                self.living.iter().nth(at).copied().ok_or(Value::Null)
            }
        }
    }

    /// Anybody but this peer, where more than one live.
    fn somebody_but(&mut self, peer: Option<usize>) -> Result<usize, Value> {
        loop {
            let drawn = self.someone(None)?;
            if Some(drawn) != peer {
                return Ok(drawn);
            }
        }
    }

    /// The number of a peer, and whether it is gone.
    fn called(&self, node: &str) -> String {
        match self.numbers.get(node) {
            Some(number) if self.living.contains(number) => number.to_string(),
            Some(number) => format!("{number} (gone)"),
            None => "?".into(),
        }
    }

    /// Lets the peers live until a line comes; `None` at the end of the lines.
    fn wait(&mut self, lines: &Receiver<String>) -> Result<Option<String>, String> {
        loop {
            match lines.try_recv() {
                Ok(line) => return Ok(Some(line)),
                Err(TryRecvError::Disconnected) => return Ok(None),
                Err(TryRecvError::Empty) => self.bench.pass(PAUSE)?,
            }
        }
    }
}

/// Some fields of things, one thing a line; Node-IDs are cut.
fn table(columns: &[&str], things: &[Value]) -> String {
    let cell = |thing: &Value, column: &&str| match &thing[*column] {
        Value::String(node) if *column == "node" => node.chars().take(8).collect(),
        Value::String(text) => text.clone(),
        Value::Null => "-".into(),
        Value::Number(number) if number.is_f64() => format!("{:.2}", number.as_f64().unwrap_or_default()),
        value => value.to_string(),
    };
    let head = columns.iter().map(ToString::to_string).collect();
    let cells = things.iter().map(|thing| columns.iter().map(|column| cell(thing, column)).collect());
    let rows: Vec<Vec<String>> = std::iter::once(head).chain(cells).collect();
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns.len()).map(width).collect();
    let line = |row: &Vec<String>| {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    rows.iter().map(line).collect::<Vec<_>>().join("\n")
}
