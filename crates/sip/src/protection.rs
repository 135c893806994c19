//! What protected a text message between two peers, noted on it for whoever reads it here.
//!
//! The driver says it beside the bytes of what comes from a peer. What says so in the bytes is not believed, whoever wrote it.

use wire::sip::{Message, Method};

const PROTECTED: &str = "X-OpenVoIP-Protected";

/// Notes it, if it is a text message, in the place of what its writer said.
pub(crate) fn note(message: &mut Message, protection: Option<&str>) {
    message.remove(PROTECTED);
    if let Some(protection) = protection.filter(|_| message.is(&Method::Message)) {
        message.push(PROTECTED, protection);
    }
}

/// What was noted.
pub(crate) fn noted(message: &Message) -> Option<String> {
    message.header(PROTECTED).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use wire::sip::parse;

    use super::*;

    /// Its header, however CSeq and the note are written.
    fn said(method: &str, cseq: &str) -> Message {
        let said = format!(
            "{method} sip:bob@test SIP/2.0\r\nX-OpenVoIP-Protected : ratchet\r\n{cseq}\r\n\
             x-openvoip-protected: ratchet\r\nVia: SIP/2.0/UDP a;branch=z9hG4bK1\r\nFrom: <sip:a@test>;tag=1\r\n\
             To: <sip:bob@test>\r\nCall-ID: 1\r\nMax-Forwards: 70\r\nContent-Length: 5\r\n\r\nhello"
        );
        parse(said.as_bytes()).unwrap()
    }

    #[test]
    fn what_is_noted_takes_the_place_of_what_its_writer_said_however_that_is_written() {
        for cseq in ["CSeq: 1 MESSAGE", "CSeq : 1 MESSAGE", "CSeq\t:\t1 MESSAGE", "CSeq:\r\n 1\r\n MESSAGE"] {
            let mut message = said("MESSAGE", cseq);
            note(&mut message, Some("encrypted"));
            assert_eq!(message.headers_named(PROTECTED).collect::<Vec<_>>(), ["encrypted"], "{cseq}");
            assert_eq!(&message.body[..], b"hello");
            note(&mut message, None);
            assert_eq!(noted(&message), None, "of a phone nothing is believed");
        }
        let mut call = said("INVITE", "CSeq: 1 INVITE");
        note(&mut call, Some("encrypted"));
        assert_eq!(noted(&call), None, "a call is no text message");
    }
}
