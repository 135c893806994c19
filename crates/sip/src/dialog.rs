//! Dialogs (RFC 3261 section 12): what two neighbours have agreed to call their conversation.

use wire::sip::{Message, Method, NameAddr};

use crate::flow::Flow;
use crate::transaction::ServerId;

/// What names a dialog: Call-ID, our tag, theirs.
pub(crate) type DialogKey = (String, String, String);

/// A 2xx to an INVITE of ours, and the ACK sent for it.
#[derive(Clone, Debug)]
pub(crate) struct Answered {
    /// The INVITE's number.
    pub(crate) cseq: u32,
    /// The ACK, once there was one to send; sent again for every repeated 2xx.
    pub(crate) ack: Option<Vec<u8>>,
}

/// One of the two dialogs that a bridged call is made of.
#[derive(Clone, Debug)]
pub(crate) struct Dialog {
    pub(crate) flow: Flow,
    pub(crate) call_id: String,
    pub(crate) local: NameAddr,
    pub(crate) remote: NameAddr,
    /// The remote target: where requests are addressed.
    pub(crate) target: String,
    /// Routes to put into requests, in order.
    pub(crate) routes: Vec<String>,
    pub(crate) local_cseq: u32,
    pub(crate) remote_cseq: Option<u32>,
    /// Number of the INVITE that made this dialog, on this leg (for RAck).
    pub(crate) invite_cseq: u32,
    /// Our Contact on this leg.
    pub(crate) contact: String,
    /// The 2xx we sent here and whose ACK is awaited.
    pub(crate) unacknowledged: Option<(u32, ServerId)>,
    /// The 2xx we got here.
    pub(crate) answered: Option<Answered>,
    /// Who is at the other end, for the driver and for transfers.
    pub(crate) peer: String,
}

impl Dialog {
    pub(crate) fn key(&self) -> DialogKey {
        (self.call_id.clone(), self.local_tag().to_owned(), self.remote_tag().to_owned())
    }

    pub(crate) fn local_tag(&self) -> &str {
        self.local.tag().unwrap_or("")
    }

    pub(crate) fn remote_tag(&self) -> &str {
        self.remote.tag().unwrap_or("")
    }

    /// Takes the remote target from a message of the other side (RFC 3261 section 12.2).
    pub(crate) fn refresh_target(&mut self, message: &Message) {
        if let Some(contact) = message.contact() {
            self.target = contact.uri;
        }
    }

    /// A request within this dialog with the next number.
    pub(crate) fn request(&mut self, method: Method) -> Message {
        self.local_cseq += 1;
        let number = self.local_cseq;
        self.request_numbered(method, number)
    }

    /// A request within this dialog (RFC 3261 section 12.2.1.1).
    pub(crate) fn request_numbered(&self, method: Method, number: u32) -> Message {
        // A first route without `lr` is a strict router: it takes the Request-URI's place.
        let strict = self.routes.first().filter(|r| {
            NameAddr::parse(r)
                .and_then(|r| wire::sip::Uri::parse(&r.uri).ok())
                .is_some_and(|u| !u.params.has("lr"))
        });
        let (uri, routes) = match strict {
            Some(first) => {
                let first = NameAddr::parse(first).map_or_else(String::new, |r| r.uri);
                let mut routes = self.routes[1..].to_vec();
                routes.push(format!("<{}>", self.target));
                (first, routes)
            }
            None => (self.target.clone(), self.routes.clone()),
        };
        let mut request = Message::request(method.clone(), uri);
        for route in routes {
            request.push("Route", route);
        }
        request.push("Max-Forwards", "70");
        request.push("From", self.local.to_string());
        request.push("To", self.remote.to_string());
        request.push("Call-ID", &self.call_id);
        request.push("CSeq", format!("{number} {method}"));
        let refreshes = matches!(method, Method::Invite | Method::Update | Method::Refer | Method::Notify);
        if refreshes {
            request.push("Contact", &self.contact);
        }
        request
    }
}
