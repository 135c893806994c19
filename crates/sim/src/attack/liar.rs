//! Answers at once, and wrongly: peers far from the key, "not found", and "stored" for what it does
//! not keep.

use wire::p2pp::{Builder, Code, Message, MessageType, Object};
use wire::{Contact, NodeId};

use super::{NAMED, Twist, answer, sought};
use crate::chance::mix;

/// For how long it says it keeps a record, in seconds.
const GRANTED: u32 = 2_400;

pub(super) fn twist(message: &Message<'_>, own: NodeId, gang: &[Contact]) -> Twist {
    match message.header.message {
        MessageType::LookupPeer | MessageType::LookupObject => {
            let lookup = message.header.message == MessageType::LookupObject;
            let code = if lookup { Code::NOT_FOUND } else { Code::OK };
            Twist::Forged(answer(message, own, code, &any(gang, message)))
        }
        MessageType::Publish | MessageType::Replicate | MessageType::Transfer | MessageType::Refresh => {
            let mut builder = Builder::new(&message.header.answer(Code::OK, own));
            builder.push(&Object::Expires(GRANTED));
            Twist::Forged(builder.finish())
        }
        _ => Twist::Heard,
    }
}

/// Some of the gang, wherever they stand.
fn any(gang: &[Contact], message: &Message<'_>) -> Vec<Contact> {
    let key = sought(message).map_or(0, |key| u64::from(key.as_bytes()[0]));
    let start = mix(key ^ message.bytes().len() as u64 ^ u64::from(message.bytes()[15])) as usize;
    gang.iter().cycle().skip(start % gang.len().max(1)).take(NAMED.min(gang.len())).copied().collect()
}
