//! Watching: once a second, what all living peers say about themselves, summed up.

use std::collections::BTreeMap;
use std::sync::mpsc::{Receiver, TryRecvError};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::{Audience, PAUSE, Said, Session, Tally};
use crate::control::{self, exit};
use crate::lab::peers::user;

/// Time between two lines.
const ROW: Duration = Duration::from_secs(1);

/// What all living peers say about themselves, summed up.
#[derive(Default)]
pub(super) struct Sums {
    pub(super) online: usize,
    pub(super) entries: usize,
    /// Entries whose peer is gone.
    pub(super) to_nobody: usize,
    /// Those of them that failed to answer whoever has them.
    pub(super) suspected: usize,
    pub(super) records: u64,
    /// Bytes sent since their start, by function.
    pub(super) sent: BTreeMap<String, f64>,
}

impl Session<'_> {
    /// A line a second, and the whole of it as the answer.
    pub(super) fn watch(
        &mut self,
        time: Duration,
        lookups_per_s: u32,
        lines: &Receiver<String>,
        audience: &mut dyn Audience,
    ) -> Result<Said, String> {
        let start = Instant::now();
        let (mut all, mut row) = (Tally::default(), Tally::default());
        let (mut before, mut row_start) = (self.sums(), start);
        let mut next_lookup = start;
        while start.elapsed() < time {
            if audience.is_person() && !matches!(lines.try_recv(), Err(TryRecvError::Empty)) {
                break;
            }
            let now = Instant::now();
            if lookups_per_s > 0 && now >= next_lookup {
                next_lookup += Duration::from_secs(1) / lookups_per_s;
                self.look_up_anybody(&mut row);
            }
            let pause = match lookups_per_s {
                0 => PAUSE,
                _ => PAUSE.min(next_lookup.saturating_duration_since(Instant::now())),
            };
            self.bench.pass(pause)?;
            let passed = row_start.elapsed();
            if passed >= ROW || start.elapsed() >= time {
                let sums = self.sums();
                audience.hear(self.row(start.elapsed(), passed, &before, &sums, &mut row));
                all.issued += row.issued;
                all.found += row.found;
                all.times.append(&mut row.times);
                row = Tally::default();
                (before, row_start) = (sums, Instant::now());
            }
        }
        let text = match all.issued {
            0 => "the end of watching".into(),
            issued => format!("{} of {issued} lookups found the right peer", all.found),
        };
        let body = json!({ "watched_s": start.elapsed().as_secs_f64(), "lookups": all.value() });
        Ok(Said { value: control::answer("lab-watched", exit::OK, body), text: Some(text) })
    }

    fn row(&self, at: Duration, passed: Duration, before: &Sums, now: &Sums, row: &mut Tally) -> Said {
        let peers = self.living.len();
        let rate = |sent: f64| sent / passed.as_secs_f64() / peers.max(1) as f64;
        let grown = |(name, sent): (&String, &f64)| {
            let earlier = before.sent.get(name).copied().unwrap_or(0.0);
            (name.clone(), rate((sent - earlier).max(0.0)))
        };
        let rates: BTreeMap<String, f64> = now.sent.iter().map(grown).collect();
        let sum: f64 = rates.values().sum();
        let mut text = format!(
            "{:>5.1} s  {peers} peers, {} online  {} entries, {} to nobody ({} suspected)  {sum:.0} B/s:",
            at.as_secs_f64(),
            now.online,
            now.entries,
            now.to_nobody,
            now.suspected
        );
        for (name, rate) in rates.iter().filter(|(_, rate)| **rate >= 0.5) {
            text += &format!(" {name} {rate:.0}");
        }
        let lookups = row.value();
        if row.issued > 0 {
            let slowest = row.times.iter().copied().fold(0.0, f64::max);
            text += &format!("  {} of {} found, slowest {slowest:.1} ms", row.found, row.issued);
        }
        let body = json!({
            "at_s": at.as_secs_f64(), "living": peers, "online": now.online, "entries": now.entries,
            "entries_to_nobody": now.to_nobody, "suspected": now.suspected, "lookups": lookups,
            "bytes_per_peer_per_s": { "sum": sum, "by_function": rates },
        });
        Said { value: control::answer("lab-watch", exit::OK, body), text: Some(text) }
    }

    /// Somebody looks somebody else up.
    fn look_up_anybody(&mut self, tally: &mut Tally) {
        if self.living.len() < 2 {
            return;
        }
        let Ok(sought) = self.someone(None) else { return };
        let Ok(from) = self.somebody_but(Some(sought)) else { return };
        let answer = self.look_up(from, &user(sought));
        tally.issued += 1;
        let home = json!(self.nodes.get(&sought));
        if answer["record"]["nodes"].as_array().is_some_and(|nodes| nodes.contains(&home)) {
            tally.found += 1;
            tally.times.push(answer["time_ms"].as_f64().unwrap_or_default());
        }
    }

    pub(super) fn sums(&mut self) -> Sums {
        let mut sums = Sums::default();
        for peer in self.living.clone() {
            let status = self.ask(peer, json!({ "command": "status" }));
            sums.online += usize::from(status["online"] == true);
            sums.records += status["objects"].as_u64().unwrap_or(0);
            for (function, bytes) in status["ledger"].as_object().into_iter().flatten() {
                *sums.sent.entry(function.clone()).or_default() += bytes["out"].as_f64().unwrap_or(0.0);
            }
            let routes = self.ask(peer, json!({ "command": "routes" }));
            let rows = routes["routes"].as_array().map(Vec::as_slice).unwrap_or_default();
            sums.entries += rows.len();
            let is_gone = |row: &&Value| {
                let number = row["node"].as_str().and_then(|node| self.numbers.get(node));
                number.is_some_and(|number| !self.living.contains(number))
            };
            sums.to_nobody += rows.iter().filter(is_gone).count();
            let suspects = rows.iter().filter(|row| row["state"] == "suspect");
            sums.suspected += suspects.filter(is_gone).count();
        }
        sums
    }
}
