//! How peers are and which way requests went: Connections, Utilization, Messages-Received,
//! Diagnostic, Route-Hop.

use std::net::SocketAddr;

use super::ParseError;
use super::field::{Cursor, Field, clip};
use crate::NodeId;

/// Numbers of connections (draft: Connections).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Connections {
    /// Entries of the neighbour table.
    pub neighbors: u16,
    /// Entries of the routing table.
    pub routing: u16,
    /// Attached clients.
    pub clients: u16,
}

impl Field<'_> for Connections {
    fn read(cursor: &mut Cursor<'_>) -> Result<Self, ParseError> {
        Ok(Connections { neighbors: cursor.read()?, routing: cursor.read()?, clients: cursor.read()? })
    }

    fn write(&self, out: &mut Vec<u8>) {
        [self.neighbors, self.routing, self.clients].iter().for_each(|n| n.write(out));
    }
}

/// CPU and bandwidth in use (draft: Node-Resource-Utilization).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Utilization {
    /// Bandwidth of the node in kilobits per second.
    pub bandwidth_kbps: u32,
    /// CPU in use, percent.
    pub cpu_percent: u8,
    /// Bandwidth in use, percent.
    pub bandwidth_percent: u8,
}

impl Field<'_> for Utilization {
    fn read(cursor: &mut Cursor<'_>) -> Result<Self, ParseError> {
        Ok(Utilization {
            bandwidth_kbps: cursor.read()?,
            cpu_percent: cursor.read()?,
            bandwidth_percent: cursor.read()?,
        })
    }

    fn write(&self, out: &mut Vec<u8>) {
        self.bandwidth_kbps.write(out);
        out.extend_from_slice(&[self.cpu_percent, self.bandwidth_percent]);
    }
}

/// How often each message was received (draft: Messages-Received), as it stands on the wire.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MessageCounts<'a>(&'a [u8]);

impl<'a> MessageCounts<'a> {
    /// In place of a message type: responses of any message.
    pub const RESPONSES: u8 = 254;
    /// In place of a message type: acknowledgements.
    pub const ACKNOWLEDGEMENTS: u8 = 255;

    /// Reads entries of a message type (8 bits) and a count (24 bits); `None` if the last is cut.
    pub fn new(entries: &'a [u8]) -> Option<Self> {
        entries.len().is_multiple_of(4).then_some(MessageCounts(entries))
    }

    /// Message types and counts.
    pub fn iter(&self) -> impl Iterator<Item = (u8, u32)> + use<'a> {
        self.0.chunks_exact(4).map(|e| (e[0], u32::from_be_bytes([0, e[1], e[2], e[3]])))
    }
}

impl<'a> Field<'a> for MessageCounts<'a> {
    fn read(cursor: &mut Cursor<'a>) -> Result<Self, ParseError> {
        MessageCounts::new(cursor.take_rest()).ok_or(cursor.malformed())
    }

    fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.0);
    }
}

/// One diagnostic value: a short dotted name and a text.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Diagnostic<'a> {
    /// For example `uptime_ms`.
    pub name: &'a str,
    /// For example `86400000`.
    pub value: &'a str,
}

impl<'a> Field<'a> for Diagnostic<'a> {
    fn read(cursor: &mut Cursor<'a>) -> Result<Self, ParseError> {
        let len: u8 = cursor.read()?;
        Ok(Diagnostic { name: cursor.read_sized(len.into())?, value: cursor.read()? })
    }

    fn write(&self, out: &mut Vec<u8>) {
        let name = clip(self.name);
        out.push(name.len() as u8);
        name.write(out);
        self.value.write(out);
    }
}

/// One hop of a route log: who passed a request on, and how far the next hop was.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RouteHop {
    /// The hop.
    pub id: NodeId,
    /// The address it announces.
    pub address: SocketAddr,
    /// Round trip to the next hop as this hop knows it, in microseconds; 0 if unknown.
    pub rtt_micros: u32,
    /// Why it went on as it did: 0 forwarded, 1 answered, 2 rerouted round a dead hop.
    pub decision: u8,
}

impl Field<'_> for RouteHop {
    fn read(cursor: &mut Cursor<'_>) -> Result<Self, ParseError> {
        let decision = cursor.read()?;
        let rtt_micros = cursor.read()?;
        let len: u8 = cursor.read()?;
        let id = cursor.read_sized(len.into())?;
        Ok(RouteHop { id, address: cursor.read()?, rtt_micros, decision })
    }

    fn write(&self, out: &mut Vec<u8>) {
        out.push(self.decision);
        self.rtt_micros.write(out);
        out.push(self.id.key().as_bytes().len() as u8);
        self.id.write(out);
        self.address.write(out);
    }
}
