//! The golden vectors, both ways: encoding the values gives the bytes of the file, and reading the
//! bytes of the file gives the values.

use std::collections::BTreeSet;

use wire::p2pp::{Code, MessageType, object};

use super::cases::{Case, cases, read, render, render_reading};

const FILE: &str = include_str!("../../../../docs/p2pp-vectors.txt");

const RECORD_AGAIN: &str = "cargo run -p openvoip-wire --example p2pp_vectors > docs/p2pp-vectors.txt";

/// A vector as the file has it.
#[derive(Default)]
struct Entry {
    name: String,
    bytes: Vec<u8>,
    /// Every line after the bytes.
    reading: String,
}

/// Reads the file without help from what wrote it.
fn entries() -> Vec<Entry> {
    let mut entries: Vec<Entry> = Vec::new();
    for line in FILE.lines().filter(|l| !l.starts_with('#') && !l.is_empty()) {
        if let Some(name) = line.strip_prefix('[').and_then(|l| l.strip_suffix(']')) {
            entries.push(Entry { name: name.to_owned(), ..Entry::default() });
            continue;
        }
        let entry = entries.last_mut().expect("a name comes first");
        if let Some(hex) = line.strip_prefix("hex:").or_else(|| line.strip_prefix(' ')) {
            entry.bytes.extend(data_encoding::HEXLOWER.decode(hex.trim().as_bytes()).expect("hexadecimal"));
        } else if !line.starts_with("about:") {
            entry.reading += &format!("{line}\n");
        }
    }
    entries
}

fn both() -> impl Iterator<Item = (Case, Entry)> {
    let (cases, entries) = (cases(), entries());
    let names = |names: Vec<&String>| names.into_iter().cloned().collect::<Vec<_>>();
    assert_eq!(
        names(cases.iter().map(|c| &c.name).collect()),
        names(entries.iter().map(|e| &e.name).collect()),
        "the file lacks vectors or has others; if that is meant: {RECORD_AGAIN}"
    );
    cases.into_iter().zip(entries)
}

#[test]
fn encoding_gives_the_recorded_bytes() {
    for (case, entry) in both() {
        assert_eq!(case.bytes, entry.bytes, "{}; if that is meant: {RECORD_AGAIN}", case.name);
    }
}

#[test]
fn reading_the_recorded_bytes_gives_the_recorded_values() {
    for (case, entry) in both() {
        let reading = render_reading(&read(&entry.name, &entry.bytes));
        assert_eq!(reading, entry.reading, "{}", entry.name);
        assert_eq!(reading, render_reading(&case.reads), "{}", entry.name);
    }
}

#[test]
fn recording_again_would_change_nothing() {
    assert_eq!(render(&cases()), FILE, "if that is meant: {RECORD_AGAIN}");
}

#[test]
fn names_are_unique() {
    let names: Vec<String> = entries().into_iter().map(|e| e.name).collect();
    let unique: BTreeSet<&String> = names.iter().collect();
    assert_eq!(unique.len(), names.len());
}

#[test]
fn every_message_and_every_object_has_its_bytes() {
    let entries = entries();
    for message in MessageType::ALL {
        let has = |e: &Entry| e.reading.starts_with("header:") && e.bytes[2] == *message as u8;
        assert!(entries.iter().any(has), "{message:?}");
    }
    for (number, name) in object::NAMES {
        let own = format!("object/{name}");
        let has = |e: &Entry| e.name == own && e.bytes[0] == *number;
        assert!(entries.iter().any(has), "{name}");
    }
}

#[test]
fn the_specification_lists_every_message_object_and_code() {
    let page = include_str!("../../../../docs/protocol.md");
    let has_row =
        |row: String| assert!(page.lines().any(|l| l.starts_with(&row)), "docs/protocol.md lacks: {row}");
    for message in MessageType::ALL {
        has_row(format!("| {} | {} |", *message as u8, message.name()));
    }
    for code in Code::ALL {
        has_row(format!("| {} |", code.0));
    }
    for (number, name) in object::NAMES {
        let own = format!("object/{name}");
        let entry = entries().into_iter().find(|e| e.name == own).expect("tested above");
        let rule = if entry.bytes[1] & wire::p2pp::tlv::IGNORABLE != 0 { "I" } else { "M" };
        has_row(format!("| {number} | {name} | {rule} |"));
    }
}
