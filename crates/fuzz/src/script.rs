//! A script in bytes: steps of one head byte, a length and a payload, as a fuzzer can mutate them.

/// One step of a script.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Step<'a> {
    /// What to do: the low five bits of the head.
    pub(crate) kind: u8,
    /// How long to wait before: the high three bits of the head.
    pub(crate) wait: u8,
    /// With which bytes.
    pub(crate) payload: &'a [u8],
}

/// The steps of a script, at most `most`; the last payload may be cut short.
///
/// ```text
/// | wait (3), kind (5) | length (16) | payload |
/// ```
pub(crate) fn steps(mut bytes: &[u8], most: usize) -> impl Iterator<Item = Step<'_>> {
    std::iter::from_fn(move || {
        let (head, rest) = bytes.split_first_chunk::<3>()?;
        let length = usize::from(u16::from_be_bytes([head[1], head[2]])).min(rest.len());
        let (payload, rest) = rest.split_at(length);
        bytes = rest;
        Some(Step { kind: head[0] & 0x1f, wait: head[0] >> 5, payload })
    })
    .take(most)
}

/// Appends a step to a script.
pub(crate) fn push(script: &mut Vec<u8>, wait: u8, kind: u8, payload: &[u8]) {
    script.push(wait << 5 | kind & 0x1f);
    script.extend_from_slice(&(payload.len() as u16).to_be_bytes());
    script.extend_from_slice(payload);
}
