//! What a phone costs its peer: one registration with digest, one call, one INVITE parsed.
//!
//! `cargo bench -p openvoip-sip`

use std::cell::Cell;
use std::hint::black_box;
use std::time::Duration;

use criterion::{Criterion, criterion_group, criterion_main};
use sip::{Agent, Config, Event, Flow, Target, Unchanged};
use wire::sip::digest::Challenge;
use wire::sip::{Message, Method, parse};
use wire::{Seed, Time};

const SDP: &str = "v=0\r\no=- 1 1 IN IP4 192.0.2.4\r\ns=-\r\nc=IN IP4 192.0.2.4\r\nt=0 0\r\n\
m=audio 10024 RTP/AVP 96 9 0 8 101\r\na=rtpmap:96 opus/48000/2\r\na=fmtp:96 stereo=1\r\n\
a=rtpmap:101 telephone-event/8000\r\na=fmtp:101 0-15\r\na=rtcp:10025\r\na=rtcp-rsize\r\n\
a=sendrecv\r\na=label:1\r\na=ptime:20\r\n";

fn flow(port: u16) -> Flow {
    Flow::Udp(([192, 0, 2, 4], port).into())
}

fn request(method: Method, uri: &str, port: u16, n: u64, cseq: u64) -> Message {
    let via = format!("SIP/2.0/UDP 192.0.2.4:{port};branch=z9hG4bK{method}{n}x{cseq};rport");
    Message::request(method.clone(), uri)
        .with("Via", via)
        .with("Max-Forwards", "70")
        .with("CSeq", format!("{cseq} {method}"))
        .with("User-Agent", "a desk phone of the usual kind, version 10.4")
        .with("Allow", "INVITE, ACK, BYE, CANCEL, OPTIONS, NOTIFY, INFO, MESSAGE, REFER")
}

fn invite(n: u64) -> Message {
    request(Method::Invite, "sip:alice@192.0.2.1:5060;transport=udp", 6000, n, 1)
        .with("From", format!("\"Bob\" <sip:bob@192.0.2.1>;tag=a{n}"))
        .with("To", "<sip:alice@192.0.2.1>")
        .with("Call-ID", format!("{n}-9348fhw9f83h@192.0.2.4"))
        .with("Contact", "<sip:bob@192.0.2.4:6000>")
        .with("Supported", "gruu,replaces,norefersub")
        .with("Allow-Events", "talk,hold,conference,refer")
        .with_body("application/sdp", SDP)
}

/// An agent and the virtual time it lives in.
struct Peer {
    agent: Agent,
    now: Time,
    n: u64,
}

impl Peer {
    fn new() -> Peer {
        let address = "192.0.2.1:5060".parse().expect("an address");
        let config = Config {
            domain: "home.example".into(),
            aliases: Vec::new(),
            udp: address,
            tcp: address,
            tls: address,
            server: "openvoip".into(),
            phones_from: ["192.0.2.0/24".parse().expect("a prefix")].into(),
        };
        let mut agent = Agent::new(config, Seed::from_number(1));
        agent.add_user("alice@home.example", "secret");
        agent.add_user("bob@home.example", "secret");
        Peer { agent, now: Time::from_secs(1), n: 0 }
    }

    fn give(&mut self, port: u16, message: &Message) -> Vec<Message> {
        self.agent.handle_message(self.now, flow(port), &message.to_bytes(), &mut Unchanged);
        while let Some(event) = self.agent.poll_event() {
            if let Event::Route { request, to, .. } = event {
                self.agent.route(self.now, request, vec![Target::User(to)], &mut Unchanged);
            }
        }
        self.agent.handle_timeout(self.now, &mut Unchanged);
        let out = std::iter::from_fn(|| self.agent.poll_transmit());
        out.map(|(_, bytes)| parse(&bytes).expect("our own message")).collect()
    }

    fn register(&mut self, user: &str, port: u16) {
        self.now += Duration::from_millis(100);
        self.n += 2;
        let n = self.n;
        let plain = |cseq: u64| {
            request(Method::Register, "sip:192.0.2.1", port, n, cseq)
                .with("From", format!("<sip:{user}@192.0.2.1>;tag=a"))
                .with("To", format!("<sip:{user}@192.0.2.1>"))
                .with("Call-ID", format!("registration-of-{user}"))
                .with("Contact", format!("<sip:{user}@192.0.2.4:{port}>;+sip.instance=\"<urn:{user}>\""))
                .with("Expires", "3600")
        };
        let asked = self.give(port, &plain(n));
        let value = asked[0].header("WWW-Authenticate").expect("a challenge");
        let challenge = Challenge::parse(value).expect("a challenge");
        let answer = challenge.answer(user, "secret", "REGISTER", "sip:192.0.2.1", "c0ffee");
        let done = self.give(port, &plain(n + 1).with("Authorization", answer.to_value()));
        assert_eq!(done[0].status(), 200);
    }

    fn call(&mut self) {
        self.now += Duration::from_millis(100);
        self.n += 1;
        let find =
            |sent: Vec<Message>, method: &Method| sent.into_iter().find(|m| m.is(method)).expect("a request");
        let asked = find(self.give(6000, &invite(self.n)), &Method::Invite);
        let mut ringing = Message::reply_to(&asked, 180, "").with("Contact", "<sip:alice@192.0.2.4:6001>");
        ringing.set_to_tag("x");
        self.give(6001, &ringing);
        let ok = Message::reply_to(&asked, 200, "").with("Contact", "<sip:alice@192.0.2.4:6001>");
        let mut ok = ok.with_body("application/sdp", SDP);
        ok.set_to_tag("x");
        let sent = self.give(6001, &ok);
        let ok = sent.into_iter().find(|m| m.status() == 200).expect("an answer");
        let n = self.n;
        let within = |method: Method, cseq: u64| {
            request(method, &ok.contact().expect("a contact").uri, 6000, n, cseq)
                .with("From", ok.header("From").expect("From"))
                .with("To", ok.header("To").expect("To"))
                .with("Call-ID", ok.call_id())
        };
        self.give(6000, &within(Method::Ack, 1));
        let bye = find(self.give(6000, &within(Method::Bye, 2)), &Method::Bye);
        self.give(6001, &Message::reply_to(&bye, 200, ""));
    }
}

fn benches(c: &mut Criterion) {
    let bytes = invite(1).to_bytes();
    c.bench_function(&format!("parse an INVITE of {} bytes", bytes.len()), |b| {
        b.iter(|| parse(black_box(&bytes)));
    });
    // The phones' own share of the work is in these figures too, about a third.
    let mut peer = Peer::new();
    let turn = Cell::new(false);
    c.bench_function("REGISTER with digest, both requests", |b| {
        b.iter(|| {
            turn.set(!turn.get());
            let (user, port) = if turn.get() { ("alice", 6001) } else { ("bob", 6000) };
            peer.register(user, port);
        });
    });
    peer.register("alice", 6001);
    peer.register("bob", 6000);
    c.bench_function("a call from INVITE to BYE", |b| {
        b.iter(|| {
            if peer.n.is_multiple_of(10_000) {
                peer.register("alice", 6001);
                peer.register("bob", 6000);
            }
            peer.call();
        });
    });
}

criterion_group!(agent, benches);
criterion_main!(agent);
