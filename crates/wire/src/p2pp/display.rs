//! Messages as text: one line for the header, one for each object.
//!
//! For logs, transcripts and the golden vectors, so every field is printed and nothing is shortened.
//! Names are those of `docs/protocol.md`; identifiers, keys and opaque bytes are hexadecimal, texts
//! are quoted, and a field that is absent is left out.

use std::fmt::{self, Display, Formatter};

use super::object::name_of;
use super::{
    AddressInfo, CandidateKind, Header, LinkState, Message, Object, P2pOptions, PeerInfo, PeerList,
    RecordRef, RequestOptions, TransportKind,
};

/// Bytes in hexadecimal.
struct Hex<'a>(&'a [u8]);

impl Display for Hex<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|b| write!(f, "{b:02x}"))
    }
}

fn yes(flag: bool) -> &'static str {
    if flag { "yes" } else { "no" }
}

impl Display for Header {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} {}", self.class, self.message.name())?;
        write!(f, " peer={} recursive={} ttl={}", yes(self.from_peer), yes(self.recursive), self.ttl)?;
        write!(f, " transaction={:?} overlay={:08x}", self.transaction, self.overlay)?;
        write!(f, " config={} code={}", self.config_sequence, self.code.0)?;
        write!(f, " deadline_ms={}", self.deadline_ms)?;
        if let Some(id) = self.source {
            write!(f, " source={id}")?;
        }
        if let Some(id) = self.responder {
            write!(f, " responder={id}")?;
        }
        Ok(())
    }
}

impl Display for Message<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.header)?;
        self.objects().try_for_each(|object| writeln!(f, "  {object}"))
    }
}

impl Display for AddressInfo {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let kind = match self.kind {
            CandidateKind::Host => "host",
            CandidateKind::ServerReflexive => "srflx",
            CandidateKind::PeerReflexive => "prflx",
            CandidateKind::Relayed => "relay",
        };
        let transport = match self.transport {
            TransportKind::Udp => "udp",
            TransportKind::Tcp => "tcp",
        };
        write!(f, "{kind} {transport} {}", self.address)?;
        write!(f, " foundation={} component={}", self.foundation, self.component)?;
        write!(f, " priority={}", self.priority)
    }
}

impl Display for PeerInfo<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str("{")?;
        if let Some(id) = self.id {
            write!(f, " id={id}")?;
        }
        for address in &self.addresses {
            write!(f, " address=({address})")?;
        }
        if let Some(uptime) = self.uptime {
            write!(f, " uptime={uptime}")?;
        }
        if let Some(key) = self.public_key {
            write!(f, " key={key}")?;
        }
        if let Some(nonce) = self.puzzle_nonce {
            write!(f, " nonce={nonce:016x}")?;
        }
        if let Some(admission) = &self.admission {
            write!(f, " admission={}", Hex(admission))?;
        }
        f.write_str(" }")
    }
}

impl Display for PeerList<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "count={}", self.iter().count())?;
        self.iter().try_for_each(|info| write!(f, " {info}"))
    }
}

impl Display for P2pOptions<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "hash={} algorithm={} base={}", self.hash, self.algorithm, self.base)?;
        write!(f, " difficulty={} replicas={}", self.difficulty, self.replicas)?;
        write!(f, " remote_settings={} name={:?}", yes(self.remote_settings), self.name)
    }
}

impl Display for RequestOptions {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let flags = [
            ('P', self.primary),
            ('R', self.routing_table),
            ('N', self.neighbor_table),
            ('A', self.partial),
            ('S', self.neighbor_join),
            ('L', self.route_log),
            ('C', self.call_back),
        ];
        f.write_str("flags=")?;
        flags.iter().filter(|(_, set)| *set).try_for_each(|(flag, _)| write!(f, "{flag}"))?;
        write!(f, " offset={}", self.offset)
    }
}

impl Display for RecordRef<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "resource={} kind={:04x}", self.resource, self.kind.0)?;
        write!(f, " tombstone={} sequence={}", yes(self.tombstone), self.sequence)?;
        write!(f, " created={} lifetime={}", self.created.0, self.lifetime)?;
        write!(f, " owner={} signature={}", self.owner, Hex(&self.signature))?;
        write!(f, " value={}", Hex(self.value))
    }
}

impl Display for LinkState<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "neighbor={} fresh={}", yes(self.neighbor), yes(self.fresh))?;
        write!(f, " degree={} capacity={} tokens={}", self.degree, self.capacity, self.tokens)?;
        write!(f, " spent={} known={:08x}", self.spent, self.known)?;
        let Some(index) = self.index else { return Ok(()) };
        f.write_str(" index=")?;
        index
            .iter()
            .enumerate()
            .try_for_each(|(i, digest)| write!(f, "{}{digest:08x}", if i == 0 { "" } else { "," }))
    }
}

impl Display for Object<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{} ", name_of(self.number()).unwrap_or("unknown"))?;
        match self {
            Object::PeerInfo(info) => write!(f, "{info}"),
            Object::PeerId(id) => write!(f, "{id}"),
            Object::AddressInfo(address) => write!(f, "{address}"),
            Object::UnhashedId(name) => write!(f, "{name:?}"),
            Object::P2pOptions(options) => write!(f, "{options}"),
            Object::RequestOptions(options) => write!(f, "{options}"),
            Object::RoutingTable(list) | Object::NeighborTable(list) => write!(f, "{list}"),
            Object::PLookup(l) => write!(f, "count={} exact={} key={}", l.count, yes(l.exact), l.key),
            Object::ResourceId(id) => write!(f, "{id}"),
            Object::RLookup(lookup) => {
                write!(f, "kind={:04x} resource={}", lookup.kind.0, lookup.resource)?;
                lookup.owner.map_or(Ok(()), |owner| write!(f, " owner={owner}"))
            }
            Object::Resource(record) => write!(f, "{record}"),
            Object::Uptime(n) | Object::Expires(n) | Object::TimeWindow(n) => write!(f, "seconds={n}"),
            Object::AsNumber(n) => write!(f, "{n}"),
            Object::DiagnosticOptions(n) | Object::PuzzleNonce(n) => write!(f, "{n:016x}"),
            Object::Owner(key) | Object::PublicKey(key) => write!(f, "{key}"),
            Object::Signature { key, signature } => write!(f, "key={key} signature={}", Hex(signature)),
            Object::Connections(c) => {
                write!(f, "neighbors={} routing={} clients={}", c.neighbors, c.routing, c.clients)
            }
            Object::Utilization(u) => {
                write!(f, "bandwidth_kbps={} cpu_percent={}", u.bandwidth_kbps, u.cpu_percent)?;
                write!(f, " bandwidth_percent={}", u.bandwidth_percent)
            }
            Object::MessagesReceived(counts) => {
                f.write_str("counts=")?;
                counts.iter().enumerate().try_for_each(|(i, (message, count))| {
                    write!(f, "{}{message}:{count}", if i == 0 { "" } else { "," })
                })
            }
            Object::Error { code, detail, reason } => {
                write!(f, "code={} detail={detail} reason={reason:?}", code.0)
            }
            Object::RecordSummary(s) => {
                write!(f, "kind={:04x} sequence={}", s.kind.0, s.sequence)?;
                write!(f, " digest={:016x} resource={}", s.digest, s.resource)
            }
            Object::Payload { content, bytes } => write!(f, "content={content} bytes={}", Hex(bytes)),
            Object::RouteHop(hop) => {
                write!(f, "decision={} rtt_micros={}", hop.decision, hop.rtt_micros)?;
                write!(f, " id={} address={}", hop.id, hop.address)
            }
            Object::Diagnostic(d) | Object::Setting(d) => write!(f, "name={:?} value={:?}", d.name, d.value),
            Object::Cookie(cookie) => write!(f, "{}", Hex(cookie)),
            Object::ObservedAddress(address) => write!(f, "{address}"),
            Object::LinkState(link) => write!(f, "{link}"),
            Object::Density(density) => write!(f, "fourth={} eighth={}", density.0[0], density.0[1]),
            Object::DocumentPart { sequence, length, offset, bytes } => {
                write!(f, "sequence={sequence} length={length} offset={offset} bytes={}", Hex(bytes))
            }
            Object::SigningRequest(bytes)
            | Object::Certificate(bytes)
            | Object::ResourceList(bytes)
            | Object::Admission(bytes)
            | Object::Candidates(bytes)
            | Object::Padding(bytes)
            | Object::Known(bytes)
            | Object::Holders(bytes)
            | Object::Missing(bytes) => write!(f, "{}", Hex(bytes)),
        }
    }
}
