//! A talker without a phone: plays, echoes, records and dials digits.
//!
//! The `echo` buddy, the scripted caller and the phones of the demonstration are this machine. It
//! sends a frame of G.711 every 20 ms from its [`Source`], lays what it hears on a [`Tape`], counts
//! losses and jitter, and reports them by RTCP. As [`Source::Echo`] it sends back every packet it
//! receives, payload and payload type untouched, under its own SSRC and sequence numbers, so any
//! codec can be echoed.

use std::collections::VecDeque;
use std::time::Duration;

use wire::rtp::rtcp::{self, Compound};
use wire::rtp::{self, Header, Kind, Packet};
use wire::seed::RngExt;
use wire::{Seed, Time};

use crate::dtmf::{self, EventPayload, Presses};
use crate::g711::Law;
use crate::reception::Reception;
use crate::report::{Reports, Sent};
use crate::tape::Tape;
use crate::tone::Sine;
use crate::{PayloadTypes, Quality};

/// Samples per second of G.711.
pub const RATE: u32 = 8_000;
/// Samples of one frame.
const FRAME: usize = 160;
/// Length of one frame.
const FRAME_TIME: Duration = Duration::from_millis(20);
/// Peak of a tone that is played: a quarter of full scale, a comfortable -12 dB.
const TONE_AMPLITUDE: f64 = 8_192.0;
/// Frames made up for after the driver slept; what is older is skipped, as a sound card would.
const CATCH_UP: u64 = 5;
/// Packets waiting to be sent: more than a second of echo, and of catching up.
const PACKETS_MAX: usize = 64;
/// Events waiting to be read; the oldest goes first.
const EVENTS_MAX: usize = 64;
/// Digits waiting to be dialled: longer than any number.
const DIGITS_MAX: usize = 64;
/// Longest recording: ten minutes, 9.6 MB.
pub const RECORD_MAX: Duration = Duration::from_secs(600);
/// Pause between two digits, in frames.
const DIGIT_PAUSE: u32 = 3;
/// How often the end of an event is said (RFC 4733 section 2.5.1.4).
const END_PACKETS: u32 = 3;
/// Level of a digit, dB below 0 dBm0.
const DIGIT_VOLUME: u8 = 10;

/// What a talker says.
#[derive(Debug, Clone)]
pub enum Source {
    /// Frames of silence; the stream flows.
    Silence,
    /// A sine of this many hertz.
    Tone(f64),
    /// Samples at [`RATE`]; after the end silence, or the beginning again.
    Samples {
        /// What to play.
        samples: Vec<i16>,
        /// Whether to begin again at the end.
        repeat: bool,
    },
    /// What it hears, packet for packet.
    Echo,
}

/// What a talker needs to know.
#[derive(Debug, Clone)]
pub struct EndpointConfig {
    /// The law it speaks.
    pub law: Law,
    /// The payload type negotiated for that law.
    pub payload_type: u8,
    /// The payload type negotiated for telephone events, if any.
    pub event_payload_type: Option<u8>,
    /// What it says.
    pub source: Source,
    /// How much it records, at most [`RECORD_MAX`].
    pub record_for: Duration,
    /// Its name in RTCP.
    pub cname: String,
    /// Its chance: SSRC, first sequence number and timestamp, report times.
    pub seed: Seed,
}

impl EndpointConfig {
    /// A talker of plain PCMU that says `source`, hears 101 as events and records what it may.
    pub fn new(source: Source, seed: Seed) -> EndpointConfig {
        let echo = matches!(source, Source::Echo);
        EndpointConfig {
            law: Law::Mu,
            payload_type: Law::Mu.payload_type(),
            event_payload_type: Some(101),
            source,
            record_for: if echo { Duration::ZERO } else { RECORD_MAX },
            cname: String::from("openvoip"),
            seed,
        }
    }
}

/// What happened to a talker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EndpointEvent {
    /// The first packet arrived.
    Hearing,
    /// Someone pressed this key.
    Digit(char),
    /// The samples were played to their end.
    Played,
}

/// Why a talker wants to be woken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum EndpointReason {
    /// A frame is due.
    Frame,
    /// A report is due.
    Report,
}

/// Counts of a talker.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct EndpointStats {
    /// RTP packets sent.
    pub sent: u64,
    /// RTP packets received.
    pub received: u64,
    /// Packets that never came.
    pub lost: u64,
    /// Interarrival jitter.
    pub jitter_ms: f64,
    /// Round trip to the party that answers our reports.
    pub rtt: Option<Duration>,
    /// Packets that were neither RTP nor RTCP, or of a codec that is not recorded.
    pub unreadable: u64,
}

/// A digit being dialled.
#[derive(Debug, Clone, Copy)]
struct Dialling {
    event: u8,
    begun: u32,
    frames: u32,
    /// Frames sent of this event, ends included.
    at: u32,
}

/// A talker.
#[derive(Debug)]
pub struct Endpoint {
    config: EndpointConfig,
    sine: Sine,
    played: usize,
    sending: bool,
    ended: bool,
    next_frame: Time,
    header: Header,
    /// The next frame begins a talk spurt.
    fresh: bool,
    digits: VecDeque<(u8, u32)>,
    dialling: Option<Dialling>,
    pause: u32,
    packets: VecDeque<Vec<u8>>,
    events: VecDeque<EndpointEvent>,
    presses: Presses,
    reception: Reception,
    types: PayloadTypes,
    tape: Tape,
    sent: Sent,
    reports: Reports,
    echoed: Option<u32>,
    unreadable: u64,
}

impl Endpoint {
    /// A talker that begins at once.
    pub fn new(config: EndpointConfig, now: Time) -> Endpoint {
        let mut rng = config.seed.rng();
        let header = Header {
            ssrc: rng.random(),
            sequence: rng.random(),
            timestamp: rng.random(),
            payload_type: config.payload_type,
            marker: false,
        };
        let mut types = PayloadTypes::default();
        types.set(config.payload_type, config.law.name(), RATE);
        if let Some(events) = config.event_payload_type {
            types.set(events, "telephone-event", RATE);
        }
        let seconds = config.record_for.min(RECORD_MAX).as_secs_f64();
        let mut endpoint = Endpoint {
            sine: Sine::new(0.0, RATE, TONE_AMPLITUDE),
            played: 0,
            sending: true,
            ended: false,
            next_frame: now,
            header,
            fresh: true,
            digits: VecDeque::new(),
            dialling: None,
            pause: 0,
            packets: VecDeque::new(),
            events: VecDeque::new(),
            presses: Presses::default(),
            reception: Reception::default(),
            types,
            tape: Tape::new((seconds * f64::from(RATE)) as usize),
            sent: Sent::default(),
            reports: Reports::new(now, Seed::child_of(&mut rng)),
            echoed: None,
            unreadable: 0,
            config,
        };
        endpoint.rewind();
        endpoint
    }

    fn rewind(&mut self) {
        self.played = 0;
        if let Source::Tone(hz) = self.config.source {
            self.sine = Sine::new(hz, RATE, TONE_AMPLITUDE);
        }
    }

    /// Says something else from the next frame on.
    pub fn set_source(&mut self, now: Time, source: Source) {
        if matches!(self.config.source, Source::Echo) {
            self.restart(now);
        }
        self.config.source = source;
        self.rewind();
    }

    /// Stops or resumes sending, as hold and resume ask. What is heard is recorded all the same.
    pub fn set_sending(&mut self, now: Time, sending: bool) {
        if sending && !self.sending {
            self.restart(now);
        }
        self.sending = sending;
    }

    /// Frames begin again now; the stream's clock did not stand still.
    fn restart(&mut self, now: Time) {
        self.header.timestamp =
            self.header.timestamp.wrapping_add(self.frames_late(now).wrapping_mul(FRAME as u32));
        self.next_frame = self.next_frame.max(now);
        self.fresh = true;
    }

    fn frames_late(&self, now: Time) -> u32 {
        (now.since(self.next_frame).as_micros() / FRAME_TIME.as_micros()) as u32
    }

    /// The negotiated codec changed (re-INVITE).
    pub fn set_law(&mut self, law: Law, payload_type: u8) {
        self.config.law = law;
        self.config.payload_type = payload_type;
        self.types.set(payload_type, law.name(), RATE);
    }

    /// Presses a key for some time (at least 40 ms); `false` if it is no key, events were not
    /// negotiated, or 64 digits already wait.
    pub fn dial(&mut self, digit: char, press: Duration) -> bool {
        let frames = (press.as_millis() / FRAME_TIME.as_millis()).clamp(2, 300) as u32;
        match dtmf::event_of(digit) {
            Some(event) if self.config.event_payload_type.is_some() && self.digits.len() < DIGITS_MAX => {
                self.digits.push_back((event, frames));
                true
            }
            _ => false,
        }
    }

    /// Says goodbye by RTCP and sends nothing more.
    pub fn bye(&mut self, now: Time) {
        self.report(now);
        if let Some(report) = self.packets.back_mut() {
            rtcp::write_goodbye(self.header.ssrc, report);
        }
        self.ended = true;
    }

    /// Takes an RTP or RTCP packet addressed to this talker.
    pub fn handle_packet(&mut self, now: Time, bytes: &[u8]) {
        match rtp::classify(bytes) {
            Some(Kind::Rtp) => self.handle_rtp(now, bytes),
            Some(Kind::Rtcp) => match Compound::parse(bytes) {
                Ok(compound) => self.reports.hear(now, compound, self.header.ssrc),
                Err(_) => self.unreadable += 1,
            },
            None => self.unreadable += 1,
        }
    }

    fn handle_rtp(&mut self, now: Time, bytes: &[u8]) {
        let Ok(packet) = Packet::parse(bytes) else {
            self.unreadable += 1;
            return;
        };
        if self.reception.ssrc().is_none() {
            self.tell(EndpointEvent::Hearing);
        }
        let header = packet.header;
        let kind = self.types.get(header.payload_type);
        self.reception.count(now, &header, kind.timed.then_some(kind.clock));
        if matches!(self.config.source, Source::Echo) && self.sending && !self.ended {
            self.echo(&header, packet.payload);
        }
        if Some(header.payload_type) == self.config.event_payload_type {
            if let Some(digit) = self.presses.digit(header.timestamp, packet.payload) {
                self.tell(EndpointEvent::Digit(digit));
            }
        } else if let Some(law) = self.law_of(header.payload_type) {
            self.tape.lay(&header, &law.decode_frame(packet.payload));
        } else if !matches!(self.config.source, Source::Echo) {
            self.unreadable += 1;
        }
    }

    fn law_of(&self, payload_type: u8) -> Option<Law> {
        if payload_type == self.config.payload_type {
            Some(self.config.law)
        } else {
            Law::of_payload_type(payload_type)
        }
    }

    fn echo(&mut self, heard: &Header, payload: &[u8]) {
        let marker = heard.marker || self.echoed != Some(heard.ssrc);
        self.echoed = Some(heard.ssrc);
        self.header.timestamp = heard.timestamp;
        let header = Header { marker, payload_type: heard.payload_type, ..self.header };
        self.send(header, payload);
    }

    /// Does what is due: frames, a report.
    pub fn handle_timeout(&mut self, now: Time) {
        if self.talks() {
            let late = u64::from(self.frames_late(now));
            if late > CATCH_UP {
                let skipped = late - CATCH_UP;
                self.next_frame += FRAME_TIME * skipped as u32;
                self.header.timestamp =
                    self.header.timestamp.wrapping_add((skipped as u32).wrapping_mul(FRAME as u32));
                self.fresh = true;
            }
            while self.next_frame <= now {
                self.frame();
                self.next_frame += FRAME_TIME;
            }
        }
        if !self.ended && self.reports.next() <= now {
            self.report(now);
        }
    }

    /// Whether frames are sent by the clock.
    fn talks(&self) -> bool {
        self.sending && !self.ended && !matches!(self.config.source, Source::Echo)
    }

    fn frame(&mut self) {
        let samples = self.next_samples();
        if !self.dialled_frame() {
            let payload = self.config.law.encode_frame(&samples);
            let header = Header {
                marker: std::mem::take(&mut self.fresh),
                payload_type: self.config.payload_type,
                ..self.header
            };
            self.send(header, &payload);
        }
        self.header.timestamp = self.header.timestamp.wrapping_add(FRAME as u32);
    }

    fn next_samples(&mut self) -> [i16; FRAME] {
        let mut frame = [0; FRAME];
        match &self.config.source {
            Source::Tone(_) => frame.iter_mut().zip(&mut self.sine).for_each(|(f, s)| *f = s),
            Source::Samples { samples, repeat } if self.played < samples.len() => {
                let rest = &samples[self.played..];
                let count = rest.len().min(FRAME);
                frame[..count].copy_from_slice(&rest[..count]);
                self.played += count;
                if self.played == samples.len() {
                    self.played = if *repeat { 0 } else { self.played };
                    self.tell(EndpointEvent::Played);
                }
            }
            Source::Samples { .. } | Source::Silence | Source::Echo => {}
        }
        frame
    }

    /// Sends a packet of the digit being dialled instead of sound; `false` if there is none.
    fn dialled_frame(&mut self) -> bool {
        let Some(payload_type) = self.config.event_payload_type else {
            return false;
        };
        if self.dialling.is_none() {
            if self.pause > 0 {
                self.pause -= 1;
                return false;
            }
            let Some((event, frames)) = self.digits.pop_front() else {
                return false;
            };
            self.dialling = Some(Dialling { event, begun: self.header.timestamp, frames, at: 0 });
        }
        let Some(mut dialling) = self.dialling.take() else {
            return false;
        };
        dialling.at += 1;
        let end = dialling.at >= dialling.frames;
        let payload = EventPayload {
            event: dialling.event,
            end,
            volume: DIGIT_VOLUME,
            duration: (dialling.at.min(dialling.frames) * FRAME as u32) as u16,
        };
        let header =
            Header { marker: dialling.at == 1, payload_type, timestamp: dialling.begun, ..self.header };
        self.send(header, &payload.to_bytes());
        if dialling.at + 1 < dialling.frames + END_PACKETS {
            self.dialling = Some(dialling);
        } else {
            (self.pause, self.fresh) = (DIGIT_PAUSE, true);
        }
        true
    }

    fn send(&mut self, header: Header, payload: &[u8]) {
        let bytes = header.packet(payload);
        if push(&mut self.packets, bytes, PACKETS_MAX) {
            self.header.sequence = self.header.sequence.wrapping_add(1);
            self.sent.packets += 1;
            self.sent.bytes += payload.len() as u64;
        }
    }

    fn report(&mut self, now: Time) {
        let heard = self.reception.ssrc().and_then(|ssrc| self.reception.report(ssrc));
        self.sent.timestamp = self.header.timestamp;
        let report = self.reports.compose(now, self.header.ssrc, &self.config.cname, self.sent, heard);
        push(&mut self.packets, report, PACKETS_MAX);
    }

    fn tell(&mut self, event: EndpointEvent) {
        if self.events.len() >= EVENTS_MAX {
            self.events.pop_front();
        }
        self.events.push_back(event);
    }

    /// The next packet to send, RTP or RTCP ([`rtp::classify`] says which).
    pub fn poll_packet(&mut self) -> Option<Vec<u8>> {
        self.packets.pop_front()
    }

    /// What happened.
    pub fn poll_event(&mut self) -> Option<EndpointEvent> {
        self.events.pop_front()
    }

    /// When to call [`Endpoint::handle_timeout`], and why.
    pub fn poll_timeout(&self) -> Option<(Time, EndpointReason)> {
        let report = (!self.ended).then_some((self.reports.next(), EndpointReason::Report));
        let frame = self.talks().then_some((self.next_frame, EndpointReason::Frame));
        frame.into_iter().chain(report).min()
    }

    /// What was heard, decoded, at [`RATE`].
    pub fn recording(&self) -> &[i16] {
        self.tape.samples()
    }

    /// Takes the recording and starts an empty one.
    pub fn take_recording(&mut self) -> Vec<i16> {
        self.tape.take()
    }

    /// Its counts.
    pub fn stats(&self) -> EndpointStats {
        EndpointStats {
            sent: self.sent.packets,
            received: self.reception.received(),
            lost: self.reception.lost(),
            jitter_ms: self.reception.jitter_ms(),
            rtt: self.reports.rtt(),
            unreadable: self.unreadable,
        }
    }

    /// How what it hears sounds, estimated; `None` before anything came.
    pub fn quality(&self) -> Option<Quality> {
        self.reception.ssrc()?;
        let codec = self.types.get(self.config.payload_type).codec;
        let rtt = self.reports.rtt().unwrap_or_default();
        Some(Quality::of_stream(codec, &self.reception, rtt))
    }
}

fn push(queue: &mut VecDeque<Vec<u8>>, bytes: Vec<u8>, max: usize) -> bool {
    let room = queue.len() < max;
    if room {
        queue.push_back(bytes);
    }
    room
}

#[cfg(test)]
mod tests;
