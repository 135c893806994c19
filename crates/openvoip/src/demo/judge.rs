//! The judge: what should be, what was, and the report of it.

use std::io::Write;

use node::report::{CallReport, LookupReport};
use serde_json::{Value, json};

use super::network::Stage;

/// Keeps what was not as it should be, and tells the story line by line.
pub(super) struct Judge {
    failures: Vec<String>,
    lines: Vec<String>,
    /// Whether lines are said at once; else at the end, so that they do not run into the picture.
    aloud: bool,
}

/// What the demonstration came to.
pub(super) struct Findings {
    pub(super) joined_ms: f64,
    pub(super) lookup: LookupReport,
    pub(super) setup_ms: f64,
    /// The call as it ended, and why it took the way it did.
    pub(super) call: CallReport,
    pub(super) reason: String,
    pub(super) heard_by_caller: bool,
    pub(super) heard_by_callee: bool,
    pub(super) delivered: bool,
    pub(super) message_ms: f64,
}

/// A line for whoever reads; a reader that went away, like `head`, is no failure of the demonstration.
fn tell(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

impl Judge {
    pub(super) fn new(aloud: bool) -> Judge {
        Judge { failures: Vec::new(), lines: Vec::new(), aloud }
    }

    /// One line of the story.
    pub(super) fn say(&mut self, line: String) {
        if self.aloud {
            tell(&format!(" {line}"));
        } else {
            self.lines.push(line);
        }
    }

    /// Notes a failure unless it is `good`.
    pub(super) fn expect(&mut self, good: bool, otherwise: &str) {
        if !good {
            self.say(format!("NOT AS IT SHOULD BE: {otherwise}"));
            self.failures.push(otherwise.to_owned());
        }
    }

    /// Says what was kept back, and the verdict; `true` if everything was as it should be.
    pub(super) fn conclude(&mut self) -> bool {
        self.aloud = true;
        for line in std::mem::take(&mut self.lines) {
            self.say(line);
        }
        let ok = self.failures.is_empty();
        tell(if ok { "everything was as it should be" } else { "something went wrong, see above" });
        ok
    }

    /// The answer of `--json`.
    pub(super) fn report(&self, stage: &Stage, findings: &Findings) -> Value {
        let elapsed = stage.started.elapsed().as_secs_f64();
        let sent = |n| stage.world.node(n).maintenance_bytes_sent() as f64 / elapsed;
        let mut rates: Vec<f64> = (0..stage.peers).map(sent).collect();
        rates.sort_by(f64::total_cmp);
        let Findings { lookup, call, .. } = findings;
        json!({
            "schema": "openvoip.demo/1",
            "ok": self.failures.is_empty(),
            "peers": stage.peers,
            "joined_ms": findings.joined_ms,
            "lookup": { "found": lookup.found, "hops": lookup.hops, "time_ms": lookup.time_ms },
            "call": {
                "setup_ms": findings.setup_ms,
                "path": call.path,
                "reason": findings.reason,
                "heard_by_caller": findings.heard_by_caller,
                "heard_by_callee": findings.heard_by_callee,
                "mos": call.mos,
            },
            "message": { "delivered": findings.delivered, "time_ms": findings.message_ms },
            // Over these few seconds, joining included: not the mean of a day.
            "maintenance_bytes_per_s": {
                "mean": rates.iter().sum::<f64>() / rates.len().max(1) as f64,
                "p99": rates[(rates.len() * 99 / 100).min(rates.len() - 1)],
            },
            "failures": self.failures,
        })
    }
}
