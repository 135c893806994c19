//! Names peers that do not exist: in every answer, more than were asked for, and in answers to
//! questions that nobody asked. If mention were enough, tables would fill with nothing.

use std::net::SocketAddr;

use wire::NodeId;
use wire::p2pp::{Builder, Class, Code, Message, MessageType, Object, PeerList, TransactionId};

use super::{Twist, answer, invented, sought};
use crate::chance::mix;

/// Contacts of one forged answer: what a datagram of 1,200 bytes carries.
const CROWD: u64 = 18;

pub(super) fn twist(message: &Message<'_>, own: NodeId, remote: SocketAddr) -> Twist {
    let mark = mix(u64::from(remote.port()) ^ message.bytes().iter().map(|b| u64::from(*b)).sum::<u64>());
    let source = message.header.source.map(|id| id.0);
    let Some(key) = sought(message).or(source) else { return Twist::Heard };
    let crowd: Vec<_> = (0..CROWD).map(|n| invented(&key, mark.wrapping_add(n))).collect();
    match message.header.message {
        MessageType::LookupPeer | MessageType::LookupObject => {
            Twist::Forged(answer(message, own, Code::NEXT_HOP, &crowd))
        }
        _ => {
            // An answer to a question that nobody asked.
            let mut header = message.header.answer(Code::OK, own);
            (header.class, header.message) = (Class::Response, MessageType::LookupPeer);
            header.transaction = TransactionId(mark);
            let list = Object::RoutingTable(PeerList::Contacts(&crowd));
            Twist::Beside(Builder::new(&header).with(&list).finish())
        }
    }
}
