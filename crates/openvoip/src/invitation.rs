//! What a document means for a peer before it starts: whom it asks, and what it insists on.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::PathBuf;

use node::{Charter, OverlayOptions};

use crate::home::{self, Home};
use crate::settings::Resolved;

/// Takes the document that the settings name, if they name one, and lays over the settings what the newest that this
/// peer holds says; whom that says to ask first, without this peer itself.
///
/// # Errors
/// In words, if the document, the settings and what this peer was told before do not agree.
pub fn take_document(resolved: &mut Resolved, home: &Home) -> Result<BTreeSet<SocketAddr>, String> {
    let path = PathBuf::from(&resolved.settings.overlay.document);
    let is_named = !path.as_os_str().is_empty();
    if is_named {
        home.take_documents(&home::read_documents(&path)?)?;
    }
    resolved.charter = home.charter()?;
    let Some(document) = resolved.charter.as_ref().and_then(Charter::newest).cloned() else {
        return Ok(BTreeSet::new());
    };
    let whose = if is_named { path } else { home.path().join(home::DOCUMENT) };
    let at = |why| format!("{}: {why}", whose.display());
    let options = OverlayOptions::of(&document).map_err(at)?;
    resolved.take_profile(document.profile, document.links).map_err(at)?;
    resolved.take_options(&options).map_err(at)?;
    let mut peers = document.bootstrap;
    peers.remove(&resolved.settings.listen);
    Ok(peers)
}
