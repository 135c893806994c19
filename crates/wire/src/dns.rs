//! One question of DNS (RFC 1035): which texts stand at a name.
//!
//! A peer asks a resolver that does the work, so that all it needs is a question and the reading of one answer. The
//! answer is read from anybody: names may point backwards only, what belongs to another question is nothing, and
//! texts count if they stand at the name asked for, or where its aliases lead.

/// The largest answer that is taken over UDP: what passes everywhere in one piece.
pub const MAX_DATAGRAM: u16 = 1_232;

/// For so long it is remembered that there is nothing, where the answer does not say, in seconds.
pub const NEGATIVE_TTL: u32 = 60;

/// Aliases that are followed.
const MAX_ALIASES: usize = 8;

/// Longest name on the wire, and longest part of one.
const MAX_NAME: usize = 255;
const MAX_LABEL: usize = 63;

const HEADER: usize = 12;

/// Types of records.
const ALIAS: u16 = 5;
const AUTHORITY: u16 = 6;
const TEXT: u16 = 16;
const OPTIONS: u16 = 41;

/// The class of all of them.
const INTERNET: u16 = 1;

/// What an answer says.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Texts {
    /// Every text at the name, the strings of each joined.
    pub texts: Vec<Vec<u8>>,
    /// Whether the resolver says that it checked signatures (DNSSEC). Who cannot trust it cannot trust this.
    pub authentic: bool,
    /// How long it may be remembered, in seconds.
    pub ttl: u32,
}

/// Why bytes are no answer to a question.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum NoTexts {
    /// It answers something else: whoever waits goes on waiting.
    #[error("it answers another question")]
    Other,
    /// It did not fit: ask over TCP.
    #[error("it was cut off")]
    Cut,
    /// The server could not, or would not say; its code.
    #[error("the server answered with code {0}")]
    Refused(u8),
    /// It cannot be read.
    #[error("it cannot be read")]
    Garbled,
}

/// The question for the texts at a name; `None` if the name cannot stand in DNS as it is written.
pub fn question(id: u16, name: &str) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(HEADER + name.len() + 17);
    out.extend_from_slice(&id.to_be_bytes());
    // Recursion is desired, and whether signatures were checked (RFC 6840, 5.7).
    out.extend_from_slice(&[0x01, 0x20]);
    for count in [1u16, 0, 0, 1] {
        out.extend_from_slice(&count.to_be_bytes());
    }
    out.extend_from_slice(&labels(name)?);
    for field in [TEXT, INTERNET] {
        out.extend_from_slice(&field.to_be_bytes());
    }
    // How much may come in one piece (RFC 6891).
    out.push(0);
    for field in [OPTIONS, MAX_DATAGRAM, 0, 0, 0] {
        out.extend_from_slice(&field.to_be_bytes());
    }
    Some(out)
}

/// A name as it is on the wire, in small letters; `None` if it does not fit.
fn labels(name: &str) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(name.len() + 2);
    for label in name.split('.') {
        if !(1..=MAX_LABEL).contains(&label.len()) || !label.bytes().all(|b| b.is_ascii_graphic()) {
            return None;
        }
        out.push(label.len() as u8);
        out.extend(label.bytes().map(|b| b.to_ascii_lowercase()));
    }
    out.push(0);
    (out.len() <= MAX_NAME).then_some(out)
}

/// A record of an answer.
struct Entry<'a> {
    name: Vec<u8>,
    kind: u16,
    ttl: u32,
    /// Where its data begins in the message, and the data.
    at: usize,
    data: &'a [u8],
}

/// Reads the answer to the question for the texts at a name.
///
/// # Errors
/// What else it is.
pub fn read(id: u16, name: &str, bytes: &[u8]) -> Result<Texts, NoTexts> {
    let (Some(header), Some(asked)) = (bytes.first_chunk::<HEADER>(), labels(name)) else {
        return Err(NoTexts::Other);
    };
    let field = |at: usize| u16::from_be_bytes([header[at], header[at + 1]]);
    let (flags, questions) = (field(2), field(4));
    if field(0) != id || flags & 0x8000 == 0 || questions != 1 {
        return Err(NoTexts::Other);
    }
    let (question, at) = name_at(bytes, HEADER).ok_or(NoTexts::Other)?;
    let kind = [TEXT.to_be_bytes(), INTERNET.to_be_bytes()].concat();
    if question != asked || bytes.get(at..at + 4) != Some(&kind[..]) {
        return Err(NoTexts::Other);
    }
    match (flags & 0x0200 != 0, (flags & 0x000F) as u8) {
        (true, _) => return Err(NoTexts::Cut),
        // There are records, or no such name.
        (false, 0 | 3) => {}
        (false, code) => return Err(NoTexts::Refused(code)),
    }
    let mut at = at + 4;
    let answers = entries(bytes, &mut at, field(6))?;
    let mut found = Texts { authentic: flags & 0x0020 != 0, ttl: u32::MAX, ..Texts::default() };
    let mut owner = asked;
    for _ in 0..=MAX_ALIASES {
        for text in answers.iter().filter(|entry| entry.kind == TEXT && entry.name == owner) {
            found.texts.push(strings(text.data).ok_or(NoTexts::Garbled)?);
            found.ttl = found.ttl.min(text.ttl);
        }
        if !found.texts.is_empty() {
            return Ok(found);
        }
        let Some(alias) = answers.iter().find(|e| e.kind == ALIAS && e.name == owner) else { break };
        found.ttl = found.ttl.min(alias.ttl);
        owner = name_at(bytes, alias.at).ok_or(NoTexts::Garbled)?.0;
    }
    let said = entries(bytes, &mut at, field(8))?;
    let negative = said.iter().find(|entry| entry.kind == AUTHORITY).map_or(NEGATIVE_TTL, negative_ttl);
    Ok(Texts { ttl: found.ttl.min(negative), ..found })
}

/// How long a zone wants it remembered that there is nothing (RFC 2308).
fn negative_ttl(zone: &Entry<'_>) -> u32 {
    let minimum = zone.data.last_chunk().map_or(NEGATIVE_TTL, |bytes| u32::from_be_bytes(*bytes));
    minimum.min(zone.ttl)
}

/// So many records, from there.
fn entries<'a>(bytes: &'a [u8], at: &mut usize, count: u16) -> Result<Vec<Entry<'a>>, NoTexts> {
    (0..count).map(|_| entry(bytes, at).ok_or(NoTexts::Garbled)).collect()
}

fn entry<'a>(bytes: &'a [u8], at: &mut usize) -> Option<Entry<'a>> {
    let (name, fields) = name_at(bytes, *at)?;
    let head: &[u8; 10] = bytes.get(fields..)?.first_chunk()?;
    let data = fields + head.len();
    let end = data + usize::from(u16::from_be_bytes([head[8], head[9]]));
    *at = end;
    Some(Entry {
        name,
        kind: u16::from_be_bytes([head[0], head[1]]),
        ttl: u32::from_be_bytes([head[4], head[5], head[6], head[7]]),
        at: data,
        data: bytes.get(data..end)?,
    })
}

/// The strings of a text, joined.
fn strings(mut data: &[u8]) -> Option<Vec<u8>> {
    let mut text = Vec::with_capacity(data.len());
    while let Some((length, rest)) = data.split_first() {
        let (string, rest) = rest.split_at_checked(usize::from(*length))?;
        text.extend_from_slice(string);
        data = rest;
    }
    Some(text)
}

/// The name that stands somewhere, in small letters, and where it ends.
fn name_at(bytes: &[u8], mut at: usize) -> Option<(Vec<u8>, usize)> {
    let (mut name, mut end, mut earliest) = (Vec::new(), None, at);
    loop {
        let length = *bytes.get(at)?;
        match length >> 6 {
            0 => {
                let label = bytes.get(at..=at + usize::from(length))?;
                name.extend(label.iter().map(u8::to_ascii_lowercase));
                at += label.len();
                if name.len() > MAX_NAME {
                    return None;
                }
                if length == 0 {
                    return Some((name, end.unwrap_or(at)));
                }
            }
            // Only what stands before counts, so that nothing leads in a circle.
            3 => {
                end = end.or(Some(at + 2));
                at = usize::from(length & 0x3F) << 8 | usize::from(*bytes.get(at + 1)?);
                if at >= earliest {
                    return None;
                }
                earliest = at;
            }
            _ => return None,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NAME: &str = "alice._openvoip.kids.example";

    fn record(name: &[u8], kind: u16, ttl: u32, data: &[u8]) -> Vec<u8> {
        let mut out = name.to_vec();
        out.extend_from_slice(&kind.to_be_bytes());
        out.extend_from_slice(&INTERNET.to_be_bytes());
        out.extend_from_slice(&ttl.to_be_bytes());
        out.extend_from_slice(&(data.len() as u16).to_be_bytes());
        out.extend_from_slice(data);
        out
    }

    /// The name asked for, as answers write it: where it stands in the question.
    const ASKED: [u8; 2] = [0xC0, HEADER as u8];

    fn answer(flags: u16, answers: &[Vec<u8>], zones: &[Vec<u8>]) -> Vec<u8> {
        let mut out =
            [7u16, flags, 1, answers.len() as u16, zones.len() as u16, 0].map(u16::to_be_bytes).concat();
        out.extend_from_slice(&labels(NAME).unwrap());
        out.extend_from_slice(&[TEXT, INTERNET].map(u16::to_be_bytes).concat());
        out.extend(answers.concat());
        out.extend(zones.concat());
        out
    }

    fn text(name: &[u8], strings: &[&str]) -> Vec<u8> {
        let data: Vec<u8> = strings.iter().flat_map(|s| [&[s.len() as u8], s.as_bytes()].concat()).collect();
        record(name, TEXT, 300, &data)
    }

    fn texts(answers: &[Vec<u8>]) -> Vec<Vec<u8>> {
        read(7, NAME, &answer(0x8180, answers, &[])).unwrap().texts
    }

    #[test]
    fn a_question_reads_as_the_protocol_has_it() {
        let bytes = question(0x1234, "Bob.camp").unwrap();
        let head = [0x12, 0x34, 0x01, 0x20, 0, 1, 0, 0, 0, 0, 0, 1];
        assert_eq!(bytes, [&head[..], b"\x03bob\x04camp\0\0\x10\0\x01\0\0\x29\x04\xd0\0\0\0\0\0\0"].concat());
        for bad in
            ["", "a..b", ".a", "a.", "älice.camp", "two words.camp", &"x".repeat(64), &"a.".repeat(127)]
        {
            assert_eq!(question(1, bad), None, "{bad}");
        }
    }

    #[test]
    fn the_strings_of_a_text_are_joined_and_every_text_at_the_name_counts() {
        let found = texts(&[text(&ASKED, &["v=open", "voip1; ", "key=1"]), text(&ASKED, &["spf"])]);
        assert_eq!(found, [b"v=openvoip1; key=1".to_vec(), b"spf".to_vec()]);
        assert_eq!(texts(&[text(&labels("ALICE._openvoip.Kids.example").unwrap(), &["x"])]), [b"x"]);
    }

    #[test]
    fn a_text_at_another_name_counts_only_where_aliases_lead() {
        let [other, third] = ["a.host.example", "b.host.example"].map(|name| labels(name).unwrap());
        let there = text(&other, &["moved"]);
        assert!(texts(std::slice::from_ref(&there)).is_empty());
        let alias = |from: &[u8], to: &[u8]| record(from, ALIAS, 30, to);
        assert_eq!(texts(&[alias(&ASKED, &other), there.clone()]), [b"moved"]);
        assert_eq!(texts(&[alias(&third, &other), there, alias(&ASKED, &third)]), [b"moved"]);
        let circle = [alias(&ASKED, &other), alias(&other, &third), alias(&third, &other)];
        assert!(texts(&circle).is_empty());
    }

    #[test]
    fn what_answers_another_question_is_no_answer() {
        let good = answer(0x8180, &[text(&ASKED, &["x"])], &[]);
        assert!(read(7, NAME, &good).is_ok());
        assert_eq!(read(8, NAME, &good), Err(NoTexts::Other), "another number");
        assert_eq!(read(7, "bob._openvoip.kids.example", &good), Err(NoTexts::Other), "another name");
        assert_eq!(read(7, NAME, &answer(0x0180, &[], &[])), Err(NoTexts::Other), "a question");
        let mut other_kind = good.clone();
        other_kind[HEADER + labels(NAME).unwrap().len() + 1] = 1;
        assert_eq!(read(7, NAME, &other_kind), Err(NoTexts::Other), "of addresses");
    }

    #[test]
    fn an_answer_says_whether_it_was_cut_refused_checked_or_empty() {
        let zone = record(&ASKED, AUTHORITY, 900, &[&[0; 18][..], &120u32.to_be_bytes()].concat());
        let said = |flags| read(7, NAME, &answer(flags, &[], std::slice::from_ref(&zone)));
        assert_eq!(said(0x8380), Err(NoTexts::Cut));
        assert_eq!(said(0x8182), Err(NoTexts::Refused(2)));
        assert_eq!(said(0x81A3), Ok(Texts { texts: vec![], authentic: true, ttl: 120 }));
        let nothing = read(7, NAME, &answer(0x8180, &[], &[]));
        assert_eq!(nothing, Ok(Texts { texts: vec![], authentic: false, ttl: NEGATIVE_TTL }));
    }

    #[test]
    fn a_name_that_leads_in_a_circle_or_beyond_the_end_is_garbled() {
        for to in [HEADER as u8 + 60, 250] {
            let bytes = answer(0x8180, &[record(&[0xC0, to], TEXT, 1, b"\x01x")], &[]);
            assert_eq!(read(7, NAME, &bytes), Err(NoTexts::Garbled), "{to}");
        }
        let short = answer(0x8180, &[record(&ASKED, TEXT, 1, b"\x09x")], &[]);
        assert_eq!(read(7, NAME, &short), Err(NoTexts::Garbled), "a string longer than its record");
    }

    proptest! {
        #[test]
        fn whatever_texts_stand_there_are_read(
            found in prop::collection::vec(prop::collection::vec("[ -~]{0,255}", 1..4), 0..20)
        ) {
            let records: Vec<_> =
                found.iter().map(|strings| text(&ASKED, &strings.iter().map(String::as_str).collect::<Vec<_>>())).collect();
            let joined: Vec<Vec<u8>> = found.iter().map(|strings| strings.concat().into_bytes()).collect();
            prop_assert_eq!(texts(&records), joined);
        }

        #[test]
        fn no_bytes_are_too_wild(mut bytes in prop::collection::vec(any::<u8>(), 0..300), good in any::<bool>()) {
            if good {
                bytes = [answer(0x8180, &[], &[]), bytes].concat();
                bytes[7] = 3;
            }
            let _ = read(7, NAME, &bytes);
        }
    }
}
