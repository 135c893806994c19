//! What an attack came to, and whether that is within the bars of its scenario.

use serde::Serialize;

use crate::scenario::Bars;

/// What the attack came to, in the report.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Tally {
    /// Attackers that joined, identities of a prefix included.
    pub attackers: u64,
    /// Requests dropped, and answers and requests forged.
    pub twisted: u64,
    /// Share of attackers among the entries of honest peers' tables at the end.
    pub entries_share: f64,
    /// Most requests that one lookup took.
    pub messages_max: u32,
    /// Lookups of the name under attack.
    pub victim: Lookups,
    /// All other lookups.
    pub others: Lookups,
}

impl Tally {
    /// A lookup ended.
    pub(crate) fn note(&mut self, victim: bool, found: bool, report: &node::report::LookupReport) {
        let lookups = if victim { &mut self.victim } else { &mut self.others };
        lookups.issued += 1;
        lookups.succeeded += u64::from(found);
        lookups.alarms += u64::from(report.alarm);
        self.messages_max = self.messages_max.max(report.messages);
    }
}

/// Lookups, and how many raised an alarm.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Lookups {
    /// Ended.
    pub issued: u64,
    /// Found their record.
    pub succeeded: u64,
    /// Said that the peers around the name are denser than chance.
    pub alarms: u64,
    /// Times a publisher saw that strangers crowd around its record.
    pub publisher_alarms: u64,
}

impl Tally {
    /// Which bars the attack broke, in words.
    pub(crate) fn breaches(&self, bars: &Bars) -> Vec<String> {
        let share = |part: u64, of: &Lookups| part as f64 / of.issued.max(1) as f64;
        let (victim, others) = (&self.victim, &self.others);
        let mut breaches = Vec::new();
        for (what, is, most) in [
            ("of the entries of honest tables are attackers'", self.entries_share, bars.attackers_in_tables),
            (
                "of the lookups of other names raised an alarm",
                share(others.alarms, others),
                bars.false_alarms,
            ),
            ("requests for one lookup", f64::from(self.messages_max), bars.requests),
        ] {
            if most > 0.0 && is > most {
                breaches.push(format!("{is:.4} {what}, above {most}"));
            }
        }
        for (what, is, least) in [
            ("found the name under attack", victim.succeeded, bars.victim_found),
            ("of the name under attack raised an alarm", victim.alarms, bars.victim_alarms),
        ] {
            if share(is, victim) < least {
                breaches.push(format!("{is} of {} lookups {what}, below {least}", victim.issued));
            }
        }
        breaches
    }
}
