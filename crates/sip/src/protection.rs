//! What protected a text message between two peers, noted on it for whoever reads it here.
//!
//! The driver notes it on what comes from a peer; what says so and comes from anywhere else is not believed.

use wire::sip::{Message, parse};

const PROTECTED: &str = "X-OpenVoIP-Protected";

/// Notes it, in the place of what was noted; nothing if that is not SIP.
pub fn note_protection(sip: &[u8], protection: &str) -> Option<Vec<u8>> {
    let mut message = parse(sip).ok()?;
    message.remove(PROTECTED);
    message.push(PROTECTED, protection);
    Some(message.to_bytes())
}

/// What was noted.
pub(crate) fn noted(message: &Message) -> Option<String> {
    message.header(PROTECTED).map(str::to_owned)
}

/// Takes away what somebody noted whose word it is not.
pub(crate) fn disbelieve(message: &mut Message) {
    message.remove(PROTECTED);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_noted_takes_the_place_of_what_its_writer_said() {
        let said = b"MESSAGE sip:bob@test SIP/2.0\r\nX-OpenVoIP-Protected: ratchet\r\nCSeq: 1 MESSAGE\r\n\
                     x-openvoip-protected: ratchet\r\nVia: SIP/2.0/UDP a;branch=z9hG4bK1\r\nFrom: <sip:a@test>;tag=1\r\n\
                     To: <sip:bob@test>\r\nCall-ID: 1\r\nMax-Forwards: 70\r\nContent-Length: 5\r\n\r\nhello";
        let mut message = parse(&note_protection(said, "encrypted").unwrap()).unwrap();
        assert_eq!(message.headers_named(PROTECTED).collect::<Vec<_>>(), ["encrypted"]);
        assert_eq!((noted(&message).as_deref(), &message.body[..]), (Some("encrypted"), &b"hello"[..]));
        disbelieve(&mut message);
        assert_eq!(noted(&message), None);
    }
}
