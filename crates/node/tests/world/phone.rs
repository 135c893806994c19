//! Scripted phones, judged by what they hear.

use std::net::SocketAddr;
use std::time::Duration;

use media::{Endpoint, EndpointConfig, Source};
use sip::Flow;
use sip::transaction::SentBy;
use sip::ua::{UaConfig, UaEvent, UserAgent, g711_sdp};
use wire::sdp::Description;
use wire::{Seed, Socket};

use super::{World, sip_address};

/// A scripted phone at one peer: registers, answers, plays a tone, keeps what it hears.
pub struct Phone {
    at: usize,
    address: SocketAddr,
    pub ua: UserAgent,
    pub sound: Option<Endpoint>,
    send_to: Option<SocketAddr>,
    hertz: f64,
    pub ended: bool,
    /// How a transfer that this phone asked for went: the statuses it was told.
    pub transfer: Vec<u16>,
    pub texts: Vec<String>,
}

impl Phone {
    pub fn new(world: &mut World, at: usize, hertz: f64) -> Phone {
        Phone::of(world, at, format!("user{at}"), hertz)
    }

    pub fn of(world: &mut World, at: usize, user: String, hertz: f64) -> Phone {
        world.nodes[at].add_phone(world.now, &format!("{user}@test"), "secret");
        world.collect(at);
        let address = SocketAddr::from(([10, 9, 0, at as u8], 5060));
        let config = UaConfig {
            user,
            domain: "test".into(),
            password: Some("secret".into()),
            flow: Flow::Udp(sip_address(at)),
            sent_by: SentBy { host: address.ip().to_string(), port: Some(5060) },
            expires: 600,
        };
        let mut ua = UserAgent::new(config, Seed::from_number(at as u64 + 50));
        ua.register(world.now);
        let (transfer, texts) = (Vec::new(), Vec::new());
        Phone { at, address, ua, sound: None, send_to: None, hertz, ended: false, transfer, texts }
    }

    pub fn media_address(&self) -> SocketAddr {
        SocketAddr::new(self.address.ip(), 30_000)
    }

    fn talk(&mut self, world: &World, sdp: &[u8]) {
        let config = EndpointConfig::new(Source::Tone(self.hertz), Seed::from_number(7));
        self.sound = Some(Endpoint::new(config, world.now));
        self.send_to = Description::parse(sdp).unwrap().destination(0);
    }

    /// Takes what came, says what is due.
    pub fn act(&mut self, world: &mut World) {
        let mut rest = Vec::new();
        for (n, t) in std::mem::take(&mut world.to_phones) {
            match t.socket {
                Socket::Sip if t.remote == self.address => {
                    self.ua.handle_message(world.now, Flow::Udp(sip_address(n)), &t.bytes);
                }
                Socket::Media(_) if t.remote == self.media_address() => {
                    if let Some(sound) = &mut self.sound {
                        sound.handle_packet(world.now, &t.bytes);
                    }
                }
                _ => rest.push((n, t)),
            }
        }
        world.to_phones = rest;
        if self.ua.poll_timeout().is_some_and(|(at, _)| at <= world.now) {
            self.ua.handle_timeout(world.now);
        }
        while let Some(event) = self.ua.poll_event() {
            match event {
                UaEvent::Incoming { handle, offer, .. } => {
                    self.ua.ring(world.now, handle);
                    self.talk(world, &offer.expect("an offer"));
                    self.ua.answer(world.now, handle, g711_sdp(self.media_address()));
                }
                UaEvent::Answered { sdp, .. } => self.talk(world, &sdp),
                UaEvent::Ended { .. } => self.ended = true,
                UaEvent::Transfer { status, .. } => self.transfer.push(status),
                UaEvent::MessageReceived { body, .. } => {
                    self.texts.push(String::from_utf8(body).unwrap());
                }
                _ => {}
            }
        }
        while let Some((_, bytes)) = self.ua.poll_transmit() {
            world.phone_says(self.at, Socket::Sip, self.address, &bytes);
        }
        let Some(sound) = &mut self.sound else { return };
        if sound.poll_timeout().is_some_and(|(at, _)| at <= world.now) {
            sound.handle_timeout(world.now);
        }
        while let Some(packet) = sound.poll_packet() {
            let to = self.send_to.unwrap();
            let offset = u16::from(matches!(wire::rtp::classify(&packet), Some(wire::rtp::Kind::Rtcp)));
            let socket = Socket::Media(to.port() + offset);
            let from = SocketAddr::new(self.address.ip(), 30_000 + offset);
            world.phone_says(self.at, socket, from, &packet);
        }
    }

    pub fn heard(&self, hertz: f64) -> bool {
        let recording = self.sound.as_ref().map(|s| s.recording().to_vec()).unwrap_or_default();
        media::heard(&recording, 8_000, hertz).at_least(2.0)
    }
}

pub fn run(world: &mut World, phones: &mut [Phone], d: Duration) {
    let until = world.now + d;
    while world.now < until {
        phones.iter_mut().for_each(|p| p.act(world));
        world.run(Duration::from_millis(2));
    }
}
