//! Datagrams through tshark with the dissector, and its words back as values.

use std::io::ErrorKind;
use std::path::PathBuf;
use std::process::Command;

/// The port at which peers listen.
pub(crate) const PORT: u16 = 7080;

/// Bytes of an IPv4 header, and the numbers of what may stand behind it.
const IP: usize = 20;
const TCP: u32 = 6;
const UDP: u32 = 17;

/// Bytes of IPv4 and UDP before a datagram.
const HEADERS: usize = IP + 8;

/// Raw IPv4 packets (LINKTYPE_IPV4) in a classic pcap file, one for each datagram, to this port.
fn pcap(datagrams: &[Vec<u8>], port: u16) -> Vec<u8> {
    let udp = |datagram: &Vec<u8>| {
        let header = [port, port, datagram.len() as u16 + 8, 0].map(u16::to_be_bytes).concat();
        (UDP, [header, datagram.clone()].concat())
    };
    packets(datagrams.iter().map(udp))
}

/// The same for the segments of one stream.
fn pcap_of_stream(segments: &[Vec<u8>], port: u16) -> Vec<u8> {
    let mut sequence = 1u32;
    let tcp = segments.iter().map(|segment| {
        // Ports; sequence number, acknowledgement; header length, ACK and PSH, window; no checksum.
        let ports = u32::from(port) << 16 | u32::from(port);
        let header = [ports, sequence, 1, 0x5018_ffff, 0].map(u32::to_be_bytes).concat();
        sequence += segment.len() as u32;
        (TCP, [&header[..], segment].concat())
    });
    packets(tcp)
}

fn packets(payloads: impl Iterator<Item = (u32, Vec<u8>)>) -> Vec<u8> {
    let mut file: Vec<u8> = [0xa1b2_c3d4_u32, 0x0002_0004, 0, 0, 65_535, 228].map(u32::to_be_bytes).concat();
    for (second, (protocol, payload)) in payloads.enumerate() {
        let length = (IP + payload.len()) as u32;
        file.extend([second as u32, 0, length, length].map(u32::to_be_bytes).concat());
        // Version and header length, total length; no fragment; TTL 64, protocol, no checksum; addresses.
        let ip = [0x4500_0000 | length, 0, 0x4000_0000 | protocol << 16, 0xc000_0201, 0xc000_0202];
        file.extend(ip.map(u32::to_be_bytes).concat());
        file.extend(payload);
    }
    file
}

/// The errors of docs/protocol.md, section 11.
const ERRORS: [&str; 10] = [
    "Truncated",
    "NotP2pp",
    "Version",
    "Class",
    "UnknownMessage",
    "IdLength",
    "BodyLength",
    "TooMany",
    "UnknownObject",
    "Malformed",
];

/// What tshark prints of these datagrams; `None`, said aloud, where there is no tshark.
///
/// # Panics
/// If it stumbles, or the dissector does.
pub(crate) fn tshark(name: &str, datagrams: &[Vec<u8>], port: u16, arguments: &[&str]) -> Option<String> {
    of_file(name, &pcap(datagrams, port), arguments)
}

/// What it prints of a capture file.
fn of_file(name: &str, capture: &[u8], arguments: &[&str]) -> Option<String> {
    let home = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
    let file = home.join(format!("dissector-{name}.pcap"));
    std::fs::write(&file, capture).expect("the test's own directory");
    let script = concat!("lua_script:", env!("CARGO_MANIFEST_DIR"), "/../../tools/wireshark/p2pp.lua");
    let run = Command::new("tshark")
        .args(["-X", script, "-r"])
        .arg(&file)
        .args(arguments)
        // Nobody's preferences, and nobody's copy of the dissector.
        .env("HOME", &home)
        .output();
    let run = match run {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            eprintln!("skipped, for there is no tshark here (Debian: apt install tshark)");
            return None;
        }
        run => run.expect("tshark runs"),
    };
    let (words, complaints) = (String::from_utf8_lossy(&run.stdout), String::from_utf8_lossy(&run.stderr));
    assert!(run.status.success() && !complaints.contains("Lua"), "{complaints}");
    let stumbles = words.lines().find(|line| line.contains("Lua Error"));
    assert_eq!(stumbles, None, "the dissector stumbles");
    Some(words.into_owned())
}

/// Protocol and Info column of each datagram.
pub(crate) fn columns(name: &str, datagrams: &[Vec<u8>], port: u16) -> Option<Vec<(String, String)>> {
    Some(two_columns(&tshark(name, datagrams, port, &COLUMNS)?))
}

/// The same of the segments of one stream.
pub(crate) fn columns_of_stream(name: &str, segments: &[Vec<u8>]) -> Option<Vec<(String, String)>> {
    Some(two_columns(&of_file(name, &pcap_of_stream(segments, PORT), &COLUMNS)?))
}

const COLUMNS: [&str; 6] = ["-T", "fields", "-e", "_ws.col.Protocol", "-e", "_ws.col.Info"];

fn two_columns(words: &str) -> Vec<(String, String)> {
    let line = |line: &str| line.split_once('\t').map(|(a, b)| (a.to_owned(), b.to_owned()));
    words.lines().map(|l| line(l).expect("two columns")).collect()
}

/// Of each datagram the errors with which it is marked, in the order of their places.
pub(crate) fn errors(name: &str, datagrams: &[Vec<u8>]) -> Option<Vec<Vec<String>>> {
    let arguments = ["-T", "fields", "-E", "aggregator=|", "-e", "frame.number", "-e", "_ws.expert.message"];
    let words = tshark(name, datagrams, PORT, &arguments)?;
    let line = |line: &str| {
        let (_, messages) = line.split_once('\t').expect("two fields");
        let names = messages.split('|').filter_map(|m| m.split_once(": ")).map(|(name, _)| name);
        // Not a warning, and not the word of another dissector.
        let errors = names.filter(|n| ERRORS.contains(&n.split('(').next().unwrap_or(n)));
        errors.map(str::to_owned).collect()
    };
    Some(words.lines().map(line).collect())
}

/// A field of P2PP as tshark shows it.
#[derive(Debug)]
pub(crate) struct Field {
    pub(crate) name: String,
    /// As a person reads it, with the name of a number.
    pub(crate) label: String,
    /// As a program reads it.
    pub(crate) show: String,
    /// The bytes, in hexadecimal, of what is not a part of a byte.
    pub(crate) value: String,
    /// Which bits of the datagram it shows.
    pub(crate) bits: Vec<usize>,
    /// How many fields it stands inside.
    pub(crate) depth: usize,
    /// Whether fields stand inside it.
    pub(crate) is_tree: bool,
}

/// Of each datagram the fields of P2PP, from tshark's PDML.
pub(crate) fn fields(name: &str, datagrams: &[Vec<u8>]) -> Option<Vec<Vec<Field>>> {
    let words = tshark(name, datagrams, PORT, &["-T", "pdml"])?;
    Some(words.split("<packet>").skip(1).map(fields_of).collect())
}

fn fields_of(packet: &str) -> Vec<Field> {
    let mut fields: Vec<Field> = Vec::new();
    let mut depth = 0;
    // An attribute may have a line's end in it, but no angle bracket.
    let elements = packet.split('<').map(str::trim_end).skip_while(|e| !e.starts_with("proto name=\"p2pp\""));
    for element in elements.skip(1).take_while(|e| *e != "/proto>") {
        if element == "/field>" {
            depth -= 1;
            continue;
        }
        let name = attribute(element, "name");
        // A mark makes no tree of a field; what Lua calls a text is a tree without a field.
        let is_mark = name.starts_with("p2pp.mark.") || name.starts_with("_ws.") && name != "_ws.lua.text";
        if !is_mark {
            if let Some(before) = fields.last_mut() {
                before.is_tree = before.depth < depth;
            }
            fields.push(Field {
                name,
                bits: bits_of(element),
                label: attribute(element, "showname"),
                show: attribute(element, "show"),
                value: attribute(element, "value"),
                depth,
                is_tree: false,
            });
        }
        depth += usize::from(!element.ends_with("/>"));
    }
    fields
}

/// The bits that a field shows. Where they are not whole bytes its label begins with a picture: `..11 0... = `.
fn bits_of(element: &str) -> Vec<usize> {
    let number = |name| attribute(element, name).parse().unwrap_or(0);
    let (at, size): (usize, usize) = (number("pos"), number("size"));
    let first = 8 * at.saturating_sub(HEADERS);
    let label = attribute(element, "showname");
    match label.split_once(" = ") {
        Some((picture, _)) if element.contains(" unmaskedvalue=") => {
            let bits = picture.chars().filter(|c| *c != ' ').enumerate();
            bits.filter(|(_, c)| *c != '.').map(|(i, _)| first + i).collect()
        }
        _ => (first..first + 8 * size).collect(),
    }
}

/// An attribute of an XML element; empty if it is absent.
fn attribute(element: &str, name: &str) -> String {
    let value = element.split_once(&format!(" {name}=\"")).and_then(|(_, rest)| rest.split_once('"'));
    let value = value.map_or("", |(value, _)| value);
    [("&lt;", "<"), ("&gt;", ">"), ("&quot;", "\""), ("&amp;", "&")]
        .iter()
        .fold(value.to_owned(), |text, (escape, character)| text.replace(escape, character))
}
