//! A phone on UDP at a peer of the real program: it registers, takes messages, and answers no calls.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use sip::Flow;
use sip::transaction::SentBy;
use sip::ua::{UaConfig, UaEvent, UserAgent};
use wire::{Seed, Time};

pub struct Phone {
    socket: UdpSocket,
    registrar: SocketAddr,
    ua: UserAgent,
    started: Instant,
    /// Texts received.
    pub texts: Vec<String>,
}

impl Phone {
    /// A phone of a user of demo.test, at this address of the machine; not registered yet.
    pub fn new(at: &str, registrar: SocketAddr, user: &str, password: &str) -> Phone {
        let socket = UdpSocket::bind((at.parse::<IpAddr>().unwrap(), 0)).unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
        let here = socket.local_addr().unwrap();
        let config = UaConfig {
            user: user.into(),
            domain: "demo.test".into(),
            password: Some(password.into()),
            flow: Flow::Udp(registrar),
            sent_by: SentBy { host: here.ip().to_string(), port: Some(here.port()) },
            expires: 600,
        };
        let ua = UserAgent::new(config, Seed::from_number(here.port().into()));
        Phone { socket, registrar, ua, started: Instant::now(), texts: Vec::new() }
    }

    /// Registers; says whether it worked within a second.
    pub fn register(&mut self) -> bool {
        self.ua.register(self.now());
        let end = Instant::now() + Duration::from_secs(1);
        while Instant::now() < end {
            match self.turn() {
                Some(UaEvent::Registered) => return true,
                Some(UaEvent::RegisterFailed { .. }) => return false,
                _ => {}
            }
        }
        false
    }

    /// Sends what is due, takes what came.
    pub fn turn(&mut self) -> Option<UaEvent> {
        let mut buffer = [0; 4_096];
        self.ua.handle_timeout(self.now());
        while let Some((_, bytes)) = self.ua.poll_transmit() {
            self.socket.send_to(&bytes, self.registrar).unwrap();
        }
        if let Ok((len, _)) = self.socket.recv_from(&mut buffer) {
            self.ua.handle_message(self.now(), Flow::Udp(self.registrar), &buffer[..len]);
        }
        let event = self.ua.poll_event();
        if let Some(UaEvent::MessageReceived { body, .. }) = &event {
            self.texts.push(String::from_utf8_lossy(body).into_owned());
        }
        event
    }

    fn now(&self) -> Time {
        Time::ZERO + self.started.elapsed()
    }
}
