//! The two phones: SIP user agents with sockets of their own, as any phone on the desk has.
//!
//! A phone plays a tone and keeps every sample it decoded, so that what was heard can be measured.

use std::io::ErrorKind;
use std::net::{SocketAddr, UdpSocket};
use std::time::Instant;

use media::{Endpoint, EndpointConfig, Source};
use sip::Flow;
use sip::transaction::SentBy;
use sip::ua::{Handle, UaConfig, UaEvent, UserAgent, g711_sdp};
use wire::sdp::Description;
use wire::{Seed, Time};

/// Samples per second that a phone decodes.
pub(super) const RATE: u32 = 8_000;

/// A phone: a user agent, a talker, and their two sockets.
pub(super) struct Phone {
    /// Its user, at `demo.test`.
    pub(super) name: &'static str,
    /// The tone it plays.
    pub(super) hertz: f64,
    /// Its peer has accepted its registration.
    pub(super) registered: bool,
    /// When the call was answered.
    pub(super) answered: Option<Instant>,
    /// The call is over.
    pub(super) ended: bool,
    /// The text message that came.
    pub(super) text: Option<String>,
    ua: UserAgent,
    peer: SocketAddr,
    signalling: UdpSocket,
    sound: UdpSocket,
    talker: Option<Endpoint>,
    send_to: Option<SocketAddr>,
    seed: u64,
}

impl Phone {
    /// A phone of `name` whose peer is at `peer`.
    pub(super) fn new(name: &'static str, peer: SocketAddr, hertz: f64, seed: u64) -> std::io::Result<Phone> {
        let signalling = UdpSocket::bind("127.0.0.1:0")?;
        let sound = UdpSocket::bind("127.0.0.1:0")?;
        signalling.set_nonblocking(true)?;
        sound.set_nonblocking(true)?;
        let port = signalling.local_addr()?.port();
        let config = UaConfig {
            user: name.into(),
            domain: "demo.test".into(),
            password: Some("demo".into()),
            flow: Flow::Udp(peer),
            sent_by: SentBy { host: "127.0.0.1".into(), port: Some(port) },
            expires: 600,
        };
        Ok(Phone {
            name,
            hertz,
            registered: false,
            answered: None,
            ended: false,
            text: None,
            ua: UserAgent::new(config, Seed::from_number(seed)),
            peer,
            signalling,
            sound,
            talker: None,
            send_to: None,
            seed,
        })
    }

    pub(super) fn register(&mut self, now: Time) {
        self.ua.register(now);
    }

    /// Dials `to`.
    pub(super) fn dial(&mut self, now: Time, to: &str) -> std::io::Result<Handle> {
        let offer = g711_sdp(self.sound.local_addr()?);
        Ok(self.ua.invite(now, to, offer))
    }

    pub(super) fn hang_up(&mut self, now: Time, call: Handle) {
        self.ua.hang_up(now, call);
    }

    pub(super) fn write(&mut self, now: Time, to: &str, text: &str) {
        self.ua.message(now, to, "text/plain", text.as_bytes());
    }

    /// Takes what came and says what is due.
    pub(super) fn act(&mut self, now: Time) -> std::io::Result<()> {
        let mut buffer = [0; 65_536];
        while let Some((len, from)) = received(&self.signalling, &mut buffer)? {
            self.ua.handle_message(now, Flow::Udp(from), &buffer[..len]);
        }
        if self.ua.poll_timeout().is_some_and(|(at, _)| at <= now) {
            self.ua.handle_timeout(now);
        }
        while let Some(event) = self.ua.poll_event() {
            self.handle_event(now, event)?;
        }
        while let Some((_, bytes)) = self.ua.poll_transmit() {
            self.signalling.send_to(&bytes, self.peer)?;
        }
        let Some(talker) = &mut self.talker else { return Ok(()) };
        while let Some((len, _)) = received(&self.sound, &mut buffer)? {
            talker.handle_packet(now, &buffer[..len]);
        }
        if talker.poll_timeout().is_some_and(|(at, _)| at <= now) {
            talker.handle_timeout(now);
        }
        while let (Some(packet), Some(to)) = (talker.poll_packet(), self.send_to) {
            // RTCP would go to a port of its own, which this phone does without.
            if matches!(wire::rtp::classify(&packet), Some(wire::rtp::Kind::Rtp)) {
                self.sound.send_to(&packet, to)?;
            }
        }
        Ok(())
    }

    fn handle_event(&mut self, now: Time, event: UaEvent) -> std::io::Result<()> {
        match event {
            UaEvent::Registered => self.registered = true,
            UaEvent::Incoming { handle, offer: Some(offer), .. } => {
                self.ua.ring(now, handle);
                self.talk(now, &offer);
                let answer = g711_sdp(self.sound.local_addr()?);
                self.ua.answer(now, handle, answer);
            }
            UaEvent::Answered { sdp, .. } => self.talk(now, &sdp),
            UaEvent::Ended { .. } | UaEvent::Failed { .. } => {
                self.ended = true;
                self.send_to = None;
            }
            UaEvent::MessageReceived { body, .. } => {
                self.text = Some(String::from_utf8_lossy(&body).into_owned());
            }
            _ => {}
        }
        Ok(())
    }

    fn talk(&mut self, now: Time, sdp: &[u8]) {
        let config = EndpointConfig::new(Source::Tone(self.hertz), Seed::from_number(self.seed + 1));
        self.talker = Some(Endpoint::new(config, now));
        self.send_to = Description::parse(sdp).ok().and_then(|d| d.destination(0));
        self.answered = Some(Instant::now());
    }

    // ---- what it hears -------------------------------------------------------------------------

    /// Every sample decoded in the call, 16 bits at [`RATE`].
    pub(super) fn samples(&self) -> &[i16] {
        self.talker.as_ref().map_or(&[], |talker| talker.recording())
    }

    /// For how long a tone of `hertz` was heard, in seconds.
    pub(super) fn heard(&self, hertz: f64) -> f64 {
        media::heard(self.samples(), RATE, hertz).seconds
    }

    /// Whether a tone of `hertz` is what it heard last, for half a second.
    pub(super) fn hears_now(&self, hertz: f64) -> bool {
        let samples = self.samples();
        let last = &samples[samples.len().saturating_sub(RATE as usize / 2)..];
        !self.ended && media::heard(last, RATE, hertz).seconds > 0.3
    }

    /// Level of the last tenth of a second in dB below full scale; `None` when silent.
    pub(super) fn level(&self) -> Option<f64> {
        let samples = self.samples();
        let last = &samples[samples.len().saturating_sub(RATE as usize / 10)..];
        let power = last.iter().map(|s| f64::from(*s).powi(2)).sum::<f64>() / last.len().max(1) as f64;
        let full_scale = f64::from(i16::MAX).powi(2);
        (power > 0.0).then(|| 10.0 * (power / full_scale).log10())
    }

    /// Estimated quality of what it hears, 1 to 5, and packets lost on the way to it.
    pub(super) fn quality(&self) -> Option<(f64, u64)> {
        let talker = self.talker.as_ref()?;
        Some((talker.quality()?.mos, talker.stats().lost))
    }
}

fn received(socket: &UdpSocket, buffer: &mut [u8]) -> std::io::Result<Option<(usize, SocketAddr)>> {
    match socket.recv_from(buffer) {
        Ok(got) => Ok(Some(got)),
        Err(e) if e.kind() == ErrorKind::WouldBlock || e.kind() == ErrorKind::ConnectionRefused => Ok(None),
        Err(e) => Err(e),
    }
}
