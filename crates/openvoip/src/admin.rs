//! Requests that need more than the node: the data directory, the log, the configuration.

use node::{Node, Target, canonical_aor};
use serde_json::{Value, json};
use wire::Time;

use crate::control::{Reply, answer, exit, failure, text};
use crate::home::Home;
use crate::logging::Logs;

/// What the world around the node keeps for the owner.
pub(crate) struct Admin {
    pub(crate) home: Home,
    pub(crate) logs: Option<Logs>,
    pub(crate) settings: Value,
}

impl Admin {
    /// Carries a request out; `None` if the node alone can do it.
    pub(crate) fn handle(&mut self, node: &mut Node, now: Time, request: &Value) -> Option<Reply> {
        let remote = !text(request, "node").is_empty();
        Some(match text(request, "command") {
            "phone add" => Reply::Now(self.add_phone(node, now, request)),
            "phone rm" => Reply::Now(self.remove_phone(node, now, text(request, "who"))),
            "config" => Reply::Now(answer("config", exit::OK, self.settings.clone())),
            "log level" if remote => self.configure(node, now, request, "log"),
            "log level" => Reply::Now(self.log_level(request["value"].as_str())),
            "set" if remote => self.configure(node, now, request, text(request, "name")),
            _ => return None,
        })
    }

    /// A phone may register, now and after a restart; a user that is new here is published.
    fn add_phone(&mut self, node: &mut Node, now: Time, request: &Value) -> Value {
        let aor = canonical_aor(text(request, "who"), &node.default_domain());
        let password = text(request, "password");
        let next = "openvoip phone add NAME --password PASSWORD";
        if aor.starts_with('@') || password.is_empty() {
            return failure(exit::FAILED, "a phone needs a user and a password", next);
        }
        let kept = self.home.user(&aor).and_then(|user| {
            let mut phones = self.home.phones();
            phones.retain(|name, _| canonical_aor(name, &node.default_domain()) != aor);
            phones.insert(aor.clone(), password.to_owned());
            self.home.save_phones(&phones).map(|()| user)
        });
        match kept {
            Ok(user) => {
                node.add_user(now, user);
                node.add_phone(now, &aor, password);
                answer("phone", exit::OK, json!({ "user": aor, "server": node.status(now).sip }))
            }
            Err(e) => failure(exit::FAILED, &e, next),
        }
    }

    /// A phone may not register any more; its user stays.
    fn remove_phone(&mut self, node: &mut Node, now: Time, who: &str) -> Value {
        let aor = canonical_aor(who, &node.default_domain());
        let mut phones = self.home.phones();
        let before = phones.len();
        phones.retain(|name, _| canonical_aor(name, &node.default_domain()) != aor);
        if phones.len() == before {
            return failure(
                exit::NOT_FOUND,
                &format!("no phone may register as {aor}"),
                "openvoip phone list",
            );
        }
        if let Err(e) = self.home.save_phones(&phones) {
            return failure(exit::FAILED, &e, "openvoip status");
        }
        node.remove_phone(now, &aor);
        answer("phone", exit::OK, json!({ "user": aor, "removed": true }))
    }

    /// Shows the log level, or changes it first.
    fn log_level(&mut self, level: Option<&str>) -> Value {
        let Some(logs) = &mut self.logs else {
            return failure(exit::FAILED, "this peer keeps no log", "openvoip up");
        };
        match level.map_or(Ok(()), |level| logs.set(level)) {
            Ok(()) => answer("log", exit::OK, json!({ "level": logs.level() })),
            Err(e) => failure(exit::FAILED, &e, "openvoip log level info"),
        }
    }

    /// An operator has changed the log level from afar.
    pub(crate) fn set_log(&mut self, level: &str) {
        if let Some(Err(e)) = self.logs.as_mut().map(|logs| logs.set(level)) {
            tracing::warn!("the log level stays: {e}");
        }
    }

    /// Sets a value on another peer, signed with this owner's operator key.
    fn configure(&self, node: &mut Node, now: Time, request: &Value, name: &str) -> Reply {
        let operator = match self.home.operator() {
            Ok(Some(operator)) => operator,
            Ok(None) => {
                let reason = format!("there is no operator key in {}", self.home.path().display());
                return Reply::Now(failure(exit::FAILED, &reason, "openvoip operator key"));
            }
            Err(e) => return Reply::Now(failure(exit::FAILED, &e, "openvoip operator key")),
        };
        let Ok(target) = text(request, "node").parse::<Target>();
        let value = request["value"].as_str();
        Reply::Later(node.configure(now, &target, name, value, &operator), "configure")
    }
}
