//! A session of DTLS 1.3, by dimpl.
//!
//! Only 1.3: its hello is padded to more than all that answers it, so that no cookie is needed and the first message
//! leaves after one round trip; and who the two are is hidden from all who only listen.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use dimpl::{Config, Dtls, DtlsCertificate, Error, NamedGroup, SecurityError};
use link::provider::{Output, Role, Session};
use wire::{PublicKey, Time};
use zeroize::Zeroize;

use crate::Clock;
use crate::certificate::{self, Own};

/// Longest datagram of a handshake, to which hellos are padded: with a cookie before it, and the heads of UDP and IPv6,
/// it is as long as every path of IPv6 carries. Those of messages are as long as their messages make them.
const MTU: usize = 1_280 - 48 - 17;

/// Pause before a flight is sent again, doubled each time, and how often: three flights within three seconds, when
/// requests end too.
const RETRY: Duration = Duration::from_millis(400);
const RETRIES: usize = 2;
const GIVEN_UP: Duration = Duration::from_secs(5);

/// Datagrams kept that came too early.
const MAX_EARLY: usize = 20;

/// A session that has nothing to do for so long has nothing to do at all.
const NEVER: Duration = Duration::from_secs(24 * 3_600);

/// Makes sessions of one peer.
pub(crate) struct Maker {
    config: Arc<Config>,
    certificate: DtlsCertificate,
}

impl Maker {
    pub(crate) fn new(own: &Own) -> Result<Maker, String> {
        let config = Config::builder()
            .mtu(MTU)
            .max_queue_rx(MAX_EARLY)
            .use_server_cookie(false)
            .flight_start_rto(RETRY)
            .flight_retries(RETRIES)
            .handshake_timeout(GIVEN_UP)
            .dtls12_cipher_suites(&[])
            .kx_groups(&[NamedGroup::X25519])
            .build();
        let (certificate, private_key) = (own.certificate.clone(), own.key.to_vec());
        Ok(Maker {
            config: Arc::new(config.map_err(|e| format!("DTLS cannot be used: {e}"))?),
            certificate: DtlsCertificate { certificate, private_key },
        })
    }

    pub(crate) fn begin(&self, clock: Clock, now: Time, role: Role) -> Box<dyn Session> {
        let mut dtls = Dtls::new_13(self.config.clone(), self.certificate.clone(), clock.instant(now));
        dtls.set_active(role == Role::Asks);
        let mut session = Datagrams {
            dtls: Some(dtls),
            clock,
            peer: None,
            stands: false,
            given: VecDeque::new(),
            wake: None,
        };
        session.handle_timeout(now);
        Box::new(session)
    }
}

impl Drop for Maker {
    fn drop(&mut self) {
        self.certificate.private_key.zeroize();
    }
}

struct Datagrams {
    /// Nothing when it is over.
    dtls: Option<Dtls>,
    clock: Clock,
    /// Whose certificate was shown.
    peer: Option<PublicKey>,
    stands: bool,
    given: VecDeque<Output>,
    wake: Option<Time>,
}

impl Datagrams {
    /// Lets the library do something, and takes what it has to give.
    fn step(&mut self, now: Time, act: impl FnOnce(&mut Dtls) -> Result<(), Error>) {
        let Some(dtls) = &mut self.dtls else { return };
        // Its clock is told first, whatever happens. What is due by then leaves by itself: of a datagram that begins with
        // a flight heard before the library reads nothing more.
        let mut done = dtls.handle_timeout(self.clock.instant(now));
        self.take(now);
        if let (Ok(()), Some(dtls)) = (&done, &mut self.dtls) {
            done = act(dtls);
            self.take(now);
        }
        if done.is_err() {
            self.end();
        }
    }

    fn take(&mut self, now: Time) {
        let mut buffer = vec![0; MTU];
        while let Some(dtls) = &mut self.dtls {
            match dtls.poll_output(&mut buffer) {
                dimpl::Output::Packet(packet) => self.given.push_back(Output::Bytes(packet.to_vec())),
                dimpl::Output::BufferTooSmall { needed } => buffer.resize(needed, 0),
                dimpl::Output::PeerCert(der) => {
                    self.peer = certificate::identity(der);
                    if self.peer.is_none() {
                        return self.end();
                    }
                }
                dimpl::Output::Connected => match self.peer {
                    Some(peer) => {
                        self.stands = true;
                        self.given.push_back(Output::Stands(peer));
                    }
                    None => return self.end(),
                },
                dimpl::Output::ApplicationData(message) if self.stands => {
                    self.given.push_back(Output::Message(message.to_vec()));
                }
                dimpl::Output::CloseNotify => return self.end(),
                dimpl::Output::Timeout(at) => {
                    let at = self.clock.time(at).max(now + Duration::from_millis(1));
                    self.wake = Some(at).filter(|at| at.since(now) < NEVER);
                    return;
                }
                _ => {}
            }
        }
    }

    fn end(&mut self) {
        (self.dtls, self.wake) = (None, None);
        self.given.push_back(Output::Over);
    }
}

impl Session for Datagrams {
    fn handle(&mut self, now: Time, bytes: &[u8]) {
        let stands = self.stands;
        self.step(now, |dtls| match dtls.handle_packet(bytes) {
            // Once it stands nothing ends it but the word of the other side.
            Err(error) if stands && !is_said(&error) => Ok(()),
            done => done,
        });
    }

    fn seal(&mut self, now: Time, message: &[u8]) {
        self.step(now, |dtls| dtls.send_application_data(message).map(|_| ()));
    }

    fn poll(&mut self) -> Option<Output> {
        self.given.pop_front()
    }

    fn poll_timeout(&self) -> Option<Time> {
        self.wake
    }

    fn handle_timeout(&mut self, now: Time) {
        self.step(now, |_| Ok(()));
    }
}

/// Whether the other side has said that this is the end.
fn is_said(error: &Error) -> bool {
    matches!(error, Error::SecurityError(SecurityError::FatalAlert { .. }) | Error::ConnectionClosed)
}

impl fmt::Debug for Datagrams {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Datagrams({:?})", self.peer)
    }
}
