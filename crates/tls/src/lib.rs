//! Links between peers by DTLS 1.3 over UDP and TLS 1.3 over TCP: what [`link::provider`] asks for.
//!
//! It stands outside the core, since the libraries that speak the two protocols draw randomness and want to be told
//! the time as an [`Instant`]. It does no IO and keeps no table: addresses, bounds and what waits are the core's.
//!
//! | file | holds |
//! |---|---|
//! | `certificate.rs` | the certificate of a peer, and how its identity key stands behind it |
//! | `datagrams.rs` | a session of DTLS, by dimpl |
//! | `streams.rs` | a session of TLS, by rustls; sessions that ended are taken up again |

mod certificate;
mod datagrams;
mod streams;

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use link::provider::{Carrier, Provider, Role, Session};
use wire::{KeyPair, Time};

pub use certificate::identity;

/// DTLS and TLS in the name of one identity.
pub struct Tls {
    clock: Clock,
    datagrams: datagrams::Maker,
    streams: streams::Maker,
}

/// What turns the core's time into that of the libraries: neither looks at a clock.
#[derive(Clone, Copy, Debug)]
struct Clock(Instant);

impl Clock {
    fn instant(self, now: Time) -> Instant {
        self.0 + Duration::from_micros(now.as_micros())
    }

    fn time(self, instant: Instant) -> Time {
        // Rounded up: whoever is woken then is not early.
        let since = instant.saturating_duration_since(self.0) + Duration::from_nanos(999);
        Time::from_micros(since.as_micros() as u64)
    }
}

impl Tls {
    /// Sessions in the name of these keys. A key and a certificate for the protocols are made; they are good for as long as
    /// this lives, and for nobody else.
    ///
    /// # Errors
    /// In words, if the system gives no randomness, or the libraries do not take what was made.
    pub fn new(keys: &KeyPair) -> Result<Arc<Tls>, String> {
        let own = certificate::Own::new(keys)?;
        Ok(Arc::new(Tls {
            clock: Clock(Instant::now()),
            datagrams: datagrams::Maker::new(&own)?,
            streams: streams::Maker::new(&own)?,
        }))
    }
}

impl Provider for Tls {
    fn begin(&self, now: Time, carrier: Carrier, role: Role, remote: SocketAddr) -> Box<dyn Session> {
        match carrier {
            Carrier::Datagrams => self.datagrams.begin(self.clock, now, role),
            Carrier::Stream => self.streams.begin(now, role, remote),
        }
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tls(..)")
    }
}

#[cfg(test)]
mod tests;
