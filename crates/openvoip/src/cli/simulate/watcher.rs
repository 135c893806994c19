//! How far a run is, on standard error, and the log of it, in a file.

use std::fs::File;
use std::io::{BufWriter, IsTerminal, Write};
use std::path::Path;
use std::time::Instant;

use node::Event;
use openvoip::system;
use sim::Scenario;
use wire::Time;
use wire::p2pp::Message;

/// Virtual time between two lines where standard error is no terminal, in milliseconds.
const LINE_EVERY_MS: u64 = 60_000;
/// Characters of the bar.
const BAR: usize = 24;

/// Shows how far a simulation is, and writes down what happens in it.
pub(super) struct Watcher {
    log: Option<BufWriter<File>>,
    failed: Option<std::io::Error>,
    show: bool,
    bar: bool,
    drawn: bool,
    end_s: f64,
    start: Instant,
}

impl Watcher {
    pub(super) fn new(scenario: &Scenario, log: Option<&Path>, show: bool) -> Result<Self, String> {
        let open = |path: &Path| {
            File::create(path)
                .map(BufWriter::new)
                .map_err(|e| format!("cannot write {}: {e}", path.display()))
        };
        Ok(Watcher {
            log: log.map(open).transpose()?,
            failed: None,
            show,
            bar: std::io::stderr().is_terminal(),
            drawn: false,
            end_s: scenario.duration_s,
            start: Instant::now(),
        })
    }

    /// Takes the bar away, and sees whether the log could be written.
    pub(super) fn finish(mut self) -> Result<(), String> {
        if self.drawn {
            eprint!("\r\x1b[K");
        }
        let flushed = self.log.take().map_or(Ok(()), |mut log| log.flush());
        let written = self.failed.map_or(flushed, Err);
        written.map_err(|e| format!("cannot write the log: {e}"))
    }

    fn write(&mut self, line: std::fmt::Arguments<'_>) {
        let Some(log) = &mut self.log else { return };
        if let Err(e) = log.write_fmt(line) {
            self.failed = Some(e);
            self.log = None;
        }
    }
}

impl sim::Observer for Watcher {
    fn memory(&mut self) -> Option<u64> {
        Some(system::rss_bytes()).filter(|bytes| *bytes > 0)
    }

    fn sent(&mut self, sent: &sim::Sent<'_>) {
        if self.log.is_none() {
            return;
        }
        let seconds = sent.at.as_micros() as f64 / 1e6;
        let fate = if sent.arrives { "" } else { " lost" };
        let (from, to, len) = (sent.from, sent.to, sent.bytes.len());
        match Message::parse(sent.bytes) {
            Ok(Message { header: h, .. }) => {
                self.write(format_args!(
                    "{seconds:.6} {from} > {to} {:?} {:?} {len}{fate}\n",
                    h.message, h.class
                ));
            }
            Err(_) => self.write(format_args!("{seconds:.6} {from} > {to} other {len}{fate}\n")),
        }
    }

    fn told(&mut self, at: Time, peer: usize, event: &Event) {
        self.write(format_args!("{:.6} peer {peer}: {event:?}\n", at.as_micros() as f64 / 1e6));
    }

    fn progress(&mut self, p: sim::Progress) {
        let seconds = p.at.as_micros() as f64 / 1e6;
        let wall = self.start.elapsed().as_secs_f64();
        let (ended, found) = p.lookups;
        if self.show && self.bar {
            let done = (seconds / self.end_s).clamp(0.0, 1.0);
            let full = (done * BAR as f64) as usize;
            let left = if done > 0.0 { wall / done - wall } else { 0.0 };
            self.drawn = true;
            eprint!(
                "\r[{}{}] {:3.0} %  {seconds:.0} s  {} peers  {found} of {ended} lookups  {:.2} M events/s  \
                 {left:.0} s left\x1b[K",
                "=".repeat(full),
                " ".repeat(BAR - full),
                done * 100.0,
                p.live,
                p.events as f64 / wall.max(1e-3) / 1e6,
            );
        } else if self.show && p.at.as_millis().is_multiple_of(LINE_EVERY_MS) {
            eprintln!("{seconds:.0} s: {} peers, {} events, {found} of {ended} lookups", p.live, p.events);
        }
    }
}
