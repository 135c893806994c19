//! Takes part in upkeep, so that it stays in everybody's table, and drops what it is there for.

use wire::p2pp::{Message, MessageType};

use super::Twist;

pub(super) fn twist(message: &Message<'_>) -> Twist {
    match message.header.message {
        MessageType::LookupObject
        | MessageType::Publish
        | MessageType::RemoveObject
        | MessageType::Replicate
        | MessageType::Transfer
        | MessageType::Refresh
        | MessageType::Tunnel => Twist::Dropped,
        _ if message.header.recursive => Twist::Dropped,
        _ => Twist::Heard,
    }
}
