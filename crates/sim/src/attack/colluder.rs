//! Knows all other colluders and names nobody else. Its answers look like those of a peer at the end
//! of a search: the nearest to the key, all alive; only that better ones are left out. It keeps what
//! it is given, says so, and never returns it.

use wire::p2pp::{Code, Message, MessageType};
use wire::{Contact, NodeId};

use super::{NAMED, Twist, answer, nearest, sought};

pub(super) fn twist(message: &Message<'_>, own: NodeId, gang: &[Contact]) -> Twist {
    let key = match message.header.message {
        MessageType::LookupPeer | MessageType::LookupObject => sought(message),
        MessageType::Join | MessageType::ExchangeTable => message.header.source.map(|id| id.0),
        _ => None,
    };
    let Some(key) = key else { return Twist::Heard };
    let code = match message.header.message {
        MessageType::LookupObject => Code::NOT_FOUND,
        _ => Code::OK,
    };
    Twist::Forged(answer(message, own, code, &nearest(gang, &key, NAMED)))
}
