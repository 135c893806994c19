//! What commands need beyond the node: the data directory, the log, the configuration.

use node::{Node, Target, canonical_aor};
use serde_json::Value;
use wire::{KeyPair, Time};

use crate::command::{Answer, Reply};
use crate::home::Home;
use crate::logging::Logs;

/// What the world around the node keeps for the owner; by default nothing.
#[derive(Default)]
pub struct Admin {
    /// The data directory; a peer without one forgets everything at its end.
    pub(crate) home: Option<Home>,
    pub(crate) logs: Option<Logs>,
    pub(crate) settings: Value,
}

impl Admin {
    /// A phone may register, now and after a restart; a user that is new here is published.
    pub(crate) fn add_phone(&self, node: &mut Node, now: Time, who: &str, password: &str) -> Answer {
        let aor = canonical_aor(who, &node.default_domain());
        if aor.starts_with('@') || password.is_empty() {
            return Answer::failed(400, "a phone needs a user and a password");
        }
        if let Some(home) = &self.home {
            let kept = home.user(&aor).and_then(|user| {
                let mut phones = home.phones();
                phones.retain(|name, _| canonical_aor(name, &node.default_domain()) != aor);
                phones.insert(aor.clone(), password.to_owned());
                home.save_phones(&phones).map(|()| user)
            });
            match kept {
                Ok(user) => node.add_user(now, user),
                Err(e) => return Answer::failed(500, e),
            }
        }
        node.add_phone(now, &aor, password);
        Answer::PhoneAdded { user: aor, server: node.status(now).sip }
    }

    /// A phone may not register any more; its user stays.
    pub(crate) fn remove_phone(&self, node: &mut Node, now: Time, who: &str) -> Answer {
        let aor = canonical_aor(who, &node.default_domain());
        if let Some(home) = &self.home {
            let mut phones = home.phones();
            let before = phones.len();
            phones.retain(|name, _| canonical_aor(name, &node.default_domain()) != aor);
            if phones.len() == before {
                return Answer::failed(404, format!("no phone may register as {aor}"));
            }
            if let Err(e) = home.save_phones(&phones) {
                return Answer::failed(500, e);
            }
        }
        node.remove_phone(now, &aor);
        Answer::PhoneRemoved { user: aor }
    }

    /// Shows the log level, or changes it first.
    pub(crate) fn log_level(&mut self, level: Option<&str>) -> Answer {
        let Some(logs) = &mut self.logs else {
            return Answer::failed(500, "this peer keeps no log");
        };
        match level.map_or(Ok(()), |level| logs.set(level)) {
            Ok(()) => Answer::LogLevel(logs.level().to_owned()),
            Err(e) => Answer::failed(400, e),
        }
    }

    /// An operator has changed the log level from afar.
    pub(crate) fn set_log(&mut self, level: &str) {
        if let Some(Err(e)) = self.logs.as_mut().map(|logs| logs.set(level)) {
            tracing::warn!("the log level stays: {e}");
        }
    }

    /// Sets a value on another peer, signed with this owner's operator key.
    pub(crate) fn configure(
        &self,
        node: &mut Node,
        now: Time,
        target: &Target,
        name: &str,
        value: Option<&str>,
    ) -> Reply {
        match self.operator() {
            Ok(operator) => Reply::Later(node.configure(now, target, name, value, &operator)),
            Err(e) => Reply::Now(Answer::failed(412, e)),
        }
    }

    fn operator(&self) -> Result<KeyPair, String> {
        let home = self.home.as_ref().ok_or("a peer without a data directory has no operator key")?;
        let missing = || format!("there is no operator key in {}", home.path().display());
        home.operator()?.ok_or_else(missing)
    }
}
