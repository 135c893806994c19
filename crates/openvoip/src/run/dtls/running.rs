//! The handshake at one media port, from the first datagram to the end.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use node::HandshakeKeys;
use wire::Time;

use super::Identity;
use super::machine::{Machine, is_client_hello};

/// How long one may take, from when the phone has shown that it hears us, or we begin.
pub(super) const WITHIN: Duration = Duration::from_secs(20);

/// How long what was made is kept, to say its last word again if that was lost.
const KEPT: Duration = Duration::from_secs(30);

/// How soon one is tried again for which there was no room.
const AGAIN: Duration = Duration::from_secs(1);

/// How often one is begun anew that came to nothing: anybody who can send from the phone's address can disturb it.
const MAX_ATTEMPTS: u8 = 4;

/// Addresses that may have begun one at the same time, and not shown that they hear us.
const MAX_UNPROVEN: usize = 4;

/// A datagram of a handshake.
pub(super) struct Heard<'a> {
    pub(super) remote: SocketAddr,
    /// Whether it comes from where the phone's sound is sent.
    pub(super) likely: bool,
    pub(super) bytes: &'a [u8],
}

/// What it takes to begin one.
#[derive(Clone, Copy)]
pub(super) struct Means<'a> {
    pub(super) identity: &'a Identity,
    /// Whether there are not too many others.
    pub(super) room: bool,
}

/// One that began, by somebody who has not shown to hear us.
struct Unproven {
    likely: bool,
    machine: Machine,
}

/// One that is to be made, is being made, or was made.
#[derive(Default)]
pub(super) struct Running {
    /// Where to begin it; else the phone does.
    to: Option<SocketAddr>,
    machine: Option<Machine>,
    /// Before there is one, the oldest first: anybody can send in the name of the phone's host, so nobody is taken for the
    /// phone before the cookie has come back.
    unproven: Vec<Unproven>,
    attempts: u8,
    /// Until when it has to be made; then until when it is kept.
    until: Option<Time>,
    is_over: bool,
}

impl Running {
    pub(super) fn new(to: Option<SocketAddr>) -> Running {
        Running { to, ..Running::default() }
    }

    /// Whether it counts among those that are being made.
    pub(super) fn is_busy(&self) -> bool {
        self.machine.is_some() && !self.is_over
    }

    /// Goes on, by a datagram or since time has passed; what it came to, if that was its end.
    pub(super) fn go_on(
        &mut self,
        now: Time,
        means: Means<'_>,
        heard: Option<Heard<'_>>,
    ) -> Option<Result<HandshakeKeys, String>> {
        let outcome = match heard {
            Some(heard) => self.hear(now, means, heard),
            None => self.repeat(),
        };
        let late = self.until.is_some_and(|until| until <= now);
        match outcome {
            Ok(Some(shaken)) => {
                (self.is_over, self.until) = (true, Some(now + KEPT));
                return Some(Ok(shaken));
            }
            Err(why) => {
                self.machine = None;
                if !self.is_over && (late || self.attempts >= MAX_ATTEMPTS) {
                    return self.fail(why);
                }
            }
            Ok(None) if late && self.is_over => (self.machine, self.until) = (None, None),
            Ok(None) if late && self.attempts == 0 => {
                return self.fail("too many others are being made".into());
            }
            Ok(None) if late => return self.fail("it took too long".into()),
            Ok(None) => {}
        }
        self.begin(now, means).err().and_then(|why| self.fail(why))
    }

    fn fail(&mut self, why: String) -> Option<Result<HandshakeKeys, String>> {
        (self.machine, self.until, self.is_over) = (None, None, true);
        self.unproven.clear();
        Some(Err(why))
    }

    /// Begins, if that is ours to do.
    fn begin(&mut self, now: Time, means: Means<'_>) -> Result<(), String> {
        let Some(to) = self.to.filter(|_| self.machine.is_none() && !self.is_over) else { return Ok(()) };
        self.until.get_or_insert(now + WITHIN);
        if means.room {
            self.attempts += 1;
            self.machine = Some(Machine::new(means.identity, true, to)?);
        }
        Ok(())
    }

    fn hear(
        &mut self,
        now: Time,
        means: Means<'_>,
        heard: Heard<'_>,
    ) -> Result<Option<HandshakeKeys>, String> {
        if let Some(machine) = &mut self.machine {
            return if machine.remote == heard.remote { machine.take(heard.bytes) } else { Ok(None) };
        }
        // Where there is no room the phone says it again.
        if self.is_over || self.to.is_some() || !means.room {
            return Ok(None);
        }
        let known = self.unproven.iter().position(|one| one.machine.remote == heard.remote);
        let at = match known {
            Some(at) => at,
            None if is_client_hello(heard.bytes) && self.make_room(heard.likely) => {
                let machine = Machine::new(means.identity, false, heard.remote)?;
                self.unproven.push(Unproven { likely: heard.likely, machine });
                self.unproven.len() - 1
            }
            None => return Ok(None),
        };
        let machine = &mut self.unproven[at].machine;
        if machine.take(heard.bytes).is_err() {
            // Whoever that was: the phone begins anew.
            self.unproven.remove(at);
        } else if machine.is_proven() {
            self.machine = Some(self.unproven.swap_remove(at).machine);
            self.unproven.clear();
            self.attempts += 1;
            self.until.get_or_insert(now + WITHIN);
        }
        Ok(None)
    }

    /// Makes room for one more who is unproven; who speaks from where the phone is expected is put out by nobody else.
    fn make_room(&mut self, likely: bool) -> bool {
        if self.unproven.len() < MAX_UNPROVEN {
            return true;
        }
        let oldest = self.unproven.iter().position(|one| likely || !one.likely);
        oldest.map(|at| self.unproven.remove(at)).is_some()
    }

    fn repeat(&mut self) -> Result<Option<HandshakeKeys>, String> {
        match self.machine.as_mut().filter(|_| !self.is_over) {
            Some(machine) => machine.handle_timeout(Instant::now()).map(|()| None),
            None => Ok(None),
        }
    }

    /// The next datagram to send, and where to.
    pub(super) fn poll_transmit(&mut self) -> Option<(SocketAddr, Vec<u8>)> {
        let unproven = self.unproven.iter_mut().map(|one| &mut one.machine);
        let mut all = self.machine.iter_mut().chain(unproven);
        all.find_map(|machine| Some((machine.remote, machine.poll_transmit()?)))
    }

    /// When it has to go on, although nothing was heard; `origin` is when time began.
    pub(super) fn poll_timeout(&self, now: Time, origin: Instant) -> Option<Time> {
        let again = self.machine.as_ref().filter(|_| !self.is_over).and_then(Machine::poll_timeout);
        let again = again.map(|at| Time::ZERO + at.saturating_duration_since(origin));
        let waits = self.to.is_some() && self.machine.is_none() && !self.is_over;
        again.into_iter().chain(self.until).chain(waits.then(|| now + AGAIN)).min()
    }
}
