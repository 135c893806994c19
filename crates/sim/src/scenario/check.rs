//! Which values are possible.

use super::{BadScenario, Law, MAX_IMPLICIT, MAX_NODES, MAX_SCRIPT, Scenario, Scope};

impl Scenario {
    /// Whether every value is in its range; to be asked again after a change.
    pub fn check(&self) -> Result<(), BadScenario> {
        let most = match self.model {
            Scope::Full => MAX_NODES,
            Scope::Implicit => MAX_IMPLICIT,
        };
        within("nodes", self.nodes as f64, 1.0, most as f64)?;
        within("stale", self.stale, 0.0, 0.9)?;
        if self.model == Scope::Implicit && (self.overlay != "kademlia" || self.base != 2) {
            return bad("model", "the implicit model knows Kademlia in base 2");
        }
        if self.model == Scope::Implicit && self.nodes <= usize::from(self.replicas) * 2 {
            return bad("nodes", "an implicit model needs more than twice as many peers as replicas");
        }
        within("clients", self.clients, 0.0, 1.0)?;
        within("duration_s", self.duration_s, 0.001, 1e8)?;
        within("measure_from_s", self.measure_from_s, 0.0, self.duration_s)?;
        within("joins_per_s", self.joins_per_s, 0.001, 1e6)?;
        within("users_per_node", self.users_per_node as f64, 0.0, 100.0)?;
        within("lookups_per_s", self.lookups_per_s, 0.0, 1e6)?;
        within("lookup_every_s", self.lookup_every_s, 0.0, 1e8)?;
        within("settle_s", self.settle_s, 0.0, 1e8)?;
        within("lookup_within_s", self.lookup_within_s, 0.001, 1e6)?;
        within("workload.registrations_per_s", self.workload.registrations_per_s, 0.0, 1e5)?;
        within("workload.calls_per_s", self.workload.calls_per_s, 0.0, 1e5)?;
        within("workload.messages_per_s", self.workload.messages_per_s, 0.0, 1e5)?;
        within("workload.warm_links", self.workload.warm_links as f64, 0.0, 64.0)?;
        within("replicas", f64::from(self.replicas), 1.0, 20.0)?;
        within("loss", self.loss, 0.0, 1.0)?;
        within("mtu", self.mtu as f64, 576.0, 65_507.0)?;
        within("latency.median_ms", self.latency.median_ms, 0.001, 10_000.0)?;
        within("latency.sigma", self.latency.sigma, 0.0, 3.0)?;
        within("latency.jitter_ms", self.latency.jitter_ms, 0.0, 10_000.0)?;
        within("bars.lookups", self.bars.lookups, 0.0, 1.0)?;
        within("invariants.every_s", self.invariants.every_s, 0.0, 1e8)?;
        within("invariants.sample", self.invariants.sample as f64, 0.0, 10_000.0)?;
        within("invariants.consistency", self.invariants.consistency, 0.0, 1.0)?;
        within("series_s", self.series_s, 0.1, 1e8)?;
        within("peer.refresh_interval_s", self.peer.refresh_interval_s, 1.0, 1e6)?;
        within("peer.record_lifetime_s", self.peer.record_lifetime_s, 1.0, 1e6)?;
        within("peer.lookup_timeout_s", self.peer.lookup_timeout_s, 0.01, 60.0)?;
        within("peer.lookup_paths", f64::from(self.peer.lookup_paths), 0.0, 8.0)?;
        self.check_nat()?;
        self.check_churn()?;
        self.check_events()?;
        self.check_conversations()?;
        for (n, phase) in self.phases.iter().enumerate() {
            within(format!("phases[{n}].from_s"), phase.from_s, 0.0, 1e8)?;
            within(format!("phases[{n}].to_s"), phase.to_s, phase.from_s, 1e8)?;
            within(format!("phases[{n}].lookups"), phase.lookups, 0.0, 1.0)?;
        }
        for (n, attackers) in self.attackers.iter().enumerate() {
            if attackers.share == 0.0 && attackers.count == 0 {
                return bad(format!("attackers[{n}]"), "nobody attacks: give a share or a count");
            }
            if let Some((field, problem)) = attackers.mistake(self.nodes) {
                return bad(format!("attackers[{n}].{field}"), problem);
            }
        }
        if ![2, 4, 8, 16].contains(&self.base) {
            return bad("base", "choose 2, 4, 8 or 16");
        }
        self.algorithm().and(self.hash_algorithm()).and(self.profile()).map(|_| ())
    }

    fn check_nat(&self) -> Result<(), BadScenario> {
        let nat = &self.nat;
        within("nat.full_cone", nat.full_cone, 0.0, 1.0)?;
        within("nat.restricted", nat.restricted, 0.0, 1.0)?;
        within("nat.port_restricted", nat.port_restricted, 0.0, 1.0)?;
        within("nat.symmetric", nat.symmetric, 0.0, 1.0)?;
        within("nat.timeout_s", nat.timeout_s, 1.0, 1e6)?;
        let sum = nat.full_cone + nat.restricted + nat.port_restricted + nat.symmetric;
        if sum > 1.0 + 1e-9 {
            return bad("nat", format!("the shares add up to {sum}, more than 1"));
        }
        Ok(())
    }

    fn check_churn(&self) -> Result<(), BadScenario> {
        let Some(churn) = &self.churn else { return Ok(()) };
        within("churn.mean_s", churn.mean_s, 1.0, 1e8)?;
        within("churn.median_s", churn.median_s.unwrap_or(1.0), 1.0, 1e8)?;
        within("churn.graceful", churn.graceful, 0.0, 1.0)?;
        within("churn.from_s", churn.from_s, 0.0, 1e8)?;
        match churn.law {
            // Without a mean there is nothing to scale by.
            Law::Pareto => within("churn.shape", churn.shape, 1.05, 10.0),
            Law::Trace if churn.trace.is_none() => {
                bad("churn", "the law 'trace' needs a file: trace = '...'")
            }
            _ => within("churn.shape", churn.shape, 0.2, 10.0),
        }
    }

    fn check_events(&self) -> Result<(), BadScenario> {
        for (n, event) in self.events.iter().enumerate() {
            let at = |field: &str| format!("events[{n}].{field}");
            within(at("at_s"), event.at_s, 0.0, 1e8)?;
            within(at("for_s"), event.for_s, 0.0, 1e8)?;
            within(at("spread_s"), event.spread_s, 0.0, 1e8)?;
            within(at("peers"), event.peers.unwrap_or(1.0), 0.0, 1.0)?;
            within(at("burst_ms"), event.burst_ms, 0.0, 1e6)?;
            within(at("period_s"), event.period_s, 0.0, 1e6)?;
            within(at("queue_ms"), event.queue_ms, 0.0, 1e6)?;
            for (kind, number) in event.kinds() {
                within(at(kind.name), number, *kind.range.start(), *kind.range.end())?;
            }
            if event.kinds().next().is_none() {
                return bad(format!("events[{n}]"), "nothing happens: name a fault");
            }
        }
        Ok(())
    }

    fn check_conversations(&self) -> Result<(), BadScenario> {
        let calls = self.calls.iter().map(|c| (c.from, c.to, c.at_s)).enumerate();
        let messages = self.messages.iter().map(|m| (m.from, m.to, m.at_s)).enumerate();
        let all = calls.map(|(n, c)| ("calls", n, c)).chain(messages.map(|(n, m)| ("messages", n, m)));
        for (what, n, (from, to, at_s)) in all {
            within(format!("{what}[{n}].at_s"), at_s, 0.0, 1e8)?;
            within(format!("{what}[{n}].from"), from as f64, 0.0, self.nodes as f64 - 1.0)?;
            within(format!("{what}[{n}].to"), to as f64, 0.0, self.nodes as f64 - 1.0)?;
            if from == to {
                return bad(format!("{what}[{n}].to"), "from and to are the same peer");
            }
        }
        for call in &self.calls {
            within("calls", call.duration_s, 0.0, 1e6)?;
        }
        for (what, count) in
            [("events", self.events.len()), ("calls", self.calls.len()), ("messages", self.messages.len())]
        {
            if count > MAX_SCRIPT {
                return bad(what, format!("at most {MAX_SCRIPT}"));
            }
        }
        let wanted = self.workload.calls_per_s + self.workload.messages_per_s > 0.0;
        let talk = wanted || !self.calls.is_empty() || !self.messages.is_empty();
        if talk && self.users_per_node == 0 {
            return bad("users_per_node", "who talks needs a user");
        }
        Ok(())
    }
}

fn within(field: impl Into<String>, value: f64, low: f64, high: f64) -> Result<(), BadScenario> {
    if (low..=high).contains(&value) {
        return Ok(());
    }
    bad(field, format!("{value} is not between {low} and {high}"))
}

pub(super) fn bad<T>(field: impl Into<String>, problem: impl Into<String>) -> Result<T, BadScenario> {
    Err(BadScenario::Value { field: field.into(), problem: problem.into(), place: None })
}
