//! Who speaks to Alice's peer with its own words: Bob's peer with Bob's key, the owners at their control
//! sockets, and Alice's phone within its calls.

use openvoip::admin::Admin;
use openvoip::command::Reply;
use openvoip::control;
use serde_json::Value;
use wire::p2pp::{Builder, Class, Code, Header, Message, MessageType, Object, TransactionId};
use wire::sip::{self, Method};
use wire::{NodeId, Socket};

use super::{ALICE, BOB, World, peer_port, phone, sip_port};

impl World {
    // ---- Bob, with his own key ------------------------------------------------------------------

    /// A message of Bob's with these objects; unsigned if they are not objects.
    fn message(&self, header: &Header, objects: &[u8], sign: bool) -> Vec<u8> {
        let mut bytes = Builder::new(header).finish();
        bytes.extend_from_slice(objects);
        bytes[28..32].copy_from_slice(&(objects.len() as u32).to_be_bytes());
        match Message::parse(&bytes) {
            Ok(message) if sign => Builder::resume(&message).sign(&self.bob_keys),
            _ => bytes,
        }
    }

    pub(super) fn forge_request(&mut self, bytes: &[u8]) {
        let (Some([kind, flags]), Some(source)) = (bytes.first_chunk(), self.bob.node_id()) else { return };
        let kind = MessageType::ALL[usize::from(*kind) % MessageType::ALL.len()];
        self.transactions += 1;
        let mut header = Header::request(kind, TransactionId(self.transactions), source);
        (header.overlay, header.deadline_ms, header.ttl) = (self.overlay, 3_000, flags >> 2);
        header.recursive = flags & 2 != 0;
        let message = self.message(&header, &bytes[2..], flags & 1 == 0);
        self.deliver(Socket::Peer, peer_port(BOB), &message);
    }

    pub(super) fn forge_answer(&mut self, bytes: &[u8]) {
        let (Some([which, high, low, flags]), Some(id)) = (bytes.first_chunk(), self.bob.node_id()) else {
            return;
        };
        let Some(asked) = self.asked.get(usize::from(*which) % self.asked.len().max(1)) else { return };
        let mut header = asked.answer(Code(u16::from_be_bytes([*high, *low])), id);
        if flags & 2 != 0 {
            header.class = Class::Response;
        }
        let message = self.message(&header, &bytes[4..], flags & 1 != 0);
        self.deliver(Socket::Peer, peer_port(BOB), &message);
    }

    /// SIP in a signed envelope for Alice's peer, in one piece (see `node::tunnel`).
    pub(super) fn tunnel(&mut self, sip: &[u8]) {
        let (Some(NodeId(to)), Some(source)) = (self.alice.node_id(), self.bob.node_id()) else { return };
        self.transactions += 1;
        // A run for each, so that none is taken for another one again.
        let body = [&self.transactions.to_be_bytes()[..], &[0; 4], sip].concat();
        let covered = [b"openvoip envelope 1\0".as_slice(), to.as_bytes(), &body].concat();
        let signature = self.bob_keys.sign(&covered);
        let envelope = [&[1], &self.bob_keys.public().0[..], &signature[..], &body].concat();
        let mut header = Header::request(MessageType::Tunnel, TransactionId(self.transactions), source);
        (header.overlay, header.deadline_ms) = (self.overlay, 3_000);
        let message = Builder::new(&header)
            .with(&Object::PeerId(NodeId(to)))
            .with(&Object::Payload { content: 0, bytes: &envelope })
            .finish();
        self.deliver(Socket::Peer, peer_port(BOB), &message);
    }

    // ---- commands -------------------------------------------------------------------------------

    pub(super) fn command_line(&mut self, at_alice: bool, line: &[u8]) {
        let node = if at_alice { &mut self.alice } else { &mut self.bob };
        let command = match control::read(line) {
            Ok(command) => command,
            Err(refusal) => return is_an_answer(&refusal),
        };
        let thing = command.thing();
        match command.execute(node, self.now, &mut Admin::default()) {
            Reply::Now(answer) => is_an_answer(&control::render(thing, answer)),
            Reply::Later(op) if at_alice => {
                self.waiting.insert(op, thing);
            }
            Reply::Later(..) | Reply::Watch(..) => {}
            Reply::Leave => node.leave(self.now),
        }
        self.collect();
    }

    /// A command to Alice's peer.
    pub(crate) fn command(&mut self, line: &[u8]) {
        self.command_line(true, line);
    }

    // ---- Alice's phone --------------------------------------------------------------------------

    pub(super) fn phone_answers(&mut self, bytes: &[u8]) {
        let (Some([high, low]), Some(request)) = (bytes.first_chunk(), self.request.clone()) else { return };
        let status = u16::from_be_bytes([*high, *low]).clamp(100, 699);
        let mut reply = sip::Message::reply_to(&request, status, "");
        reply.set_to_tag("phone");
        reply.push("Contact", format!("<sip:alice@{}>", phone()));
        if let (Some(to), Some(from)) = (reply.header("To"), reply.header("From")) {
            self.talk = Some((request.call_id().to_owned(), to.to_owned(), from.to_owned(), 0));
        }
        if bytes.len() > 2 {
            reply = reply.with_body("application/sdp", &bytes[2..]);
        }
        self.deliver(Socket::Sip, phone(), &reply.to_bytes());
    }

    /// Method, then header lines and a body as they shall stand in the message.
    pub(super) fn phone_asks(&mut self, bytes: &[u8]) {
        let (Some((method, rest)), Some((call_id, own, other, invite))) =
            (bytes.split_first(), self.talk.clone())
        else {
            return;
        };
        let method = &Method::KNOWN[usize::from(*method) % Method::KNOWN.len()];
        self.cseq += 1;
        let number = if *method == Method::Ack { invite } else { self.cseq + 100 };
        let head = format!(
            "{method} sip:bob@{} SIP/2.0\r\nVia: SIP/2.0/UDP {};branch=z9hG4bKp{}\r\nMax-Forwards: 70\r\n\
             From: {own}\r\nTo: {other}\r\nCall-ID: {call_id}\r\nCSeq: {number} {method}\r\n",
            sip_port(ALICE),
            phone(),
            self.cseq,
        );
        self.deliver(Socket::Sip, phone(), &[head.as_bytes(), rest].concat());
    }
}

/// Every answer of the control protocol names its schema and its exit code.
pub(super) fn is_an_answer(value: &Value) {
    assert!(value["exit"].is_i64() && value["schema"].is_string(), "{value}");
}
