//! Messages outside calls (RFC 3428).

use wire::Time;
use wire::sip::{Message, Method, NameAddr};

use super::{Asked, Handle, MAX_MESSAGES, UaEvent, UserAgent, aor, to_uri};
use crate::protection;
use crate::transaction::ServerId;

impl UserAgent {
    /// Sends a message; what becomes of it comes as [`UaEvent::MessageResult`].
    pub fn message(&mut self, now: Time, to: &str, content_type: &str, body: &[u8]) -> Handle {
        let handle = self.new_handle();
        if !self.has_room() {
            let reason = "Too many messages".to_owned();
            self.tell(UaEvent::MessageResult { handle, status: 503, reason });
            return handle;
        }
        let uri = to_uri(to, &self.config.domain);
        let tag = self.transactions.token();
        let request = Message::request(Method::Message, &uri)
            .with("Max-Forwards", "70")
            .with("From", self.own_address().with_tag(&tag).to_string())
            .with("To", NameAddr::new(uri).to_string())
            .with("Call-ID", self.transactions.token())
            .with("CSeq", "1 MESSAGE")
            .with_body(content_type, body);
        self.ask(now, Asked::Message(handle), request);
        handle
    }

    /// Answers a message, where messages are answered by hand.
    pub fn answer_message(&mut self, now: Time, handle: Handle, status: u16, reason: &str) {
        if let Some((id, message)) = self.texts.remove(&handle) {
            self.respond(now, id, Message::reply_to(&message, status, reason));
        }
    }

    pub(super) fn handle_text(&mut self, now: Time, id: ServerId, message: Message) {
        // What was not answered in time is forgotten by its transaction as well.
        let transactions = &self.transactions;
        self.texts.retain(|_, (id, _)| transactions.is_unanswered(*id));
        if self.texts.len() >= MAX_MESSAGES {
            return self.refuse(now, id, &message, 503);
        }
        let handle = self.new_handle();
        let body = message.body.clone();
        self.tell(UaEvent::MessageReceived {
            handle,
            from: aor(message.from()),
            display: message.from().map(|from| from.display).unwrap_or_default(),
            to: aor(message.to()),
            id: message.call_id().to_owned(),
            protected: protection::noted(&message),
            content_type: message.content_type(),
            body,
        });
        self.texts.insert(handle, (id, Message { body: Vec::new(), ..message }));
        if !self.manual_messages {
            self.answer_message(now, handle, 200, "");
        }
    }
}
