//! What a document means for a peer before it starts: whom it asks, and what it insists on.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::PathBuf;

use node::OverlayOptions;

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
    let charter = match is_named {
        true => Some(home.charter_with(&home::read_documents(&path)?)?),
        false => home.charter()?,
    };
    resolved.charter = charter.clone();
    let Some(charter) = charter else { return Ok(BTreeSet::new()) };
    let Some(document) = charter.newest().cloned() else { return Ok(BTreeSet::new()) };
    let whose = if is_named { path } else { home.path().join(home::DOCUMENT) };
    let at = |why| format!("{}: {why}", whose.display());
    let options = OverlayOptions::of(&document).map_err(at)?;
    resolved.take_profile(document.profile, document.links).map_err(at)?;
    resolved.take_options(&options).map_err(at)?;
    // Not before it is known that this peer can live by it.
    home.keep_charter(&charter)?;
    let mut peers = document.bootstrap;
    peers.remove(&resolved.settings.listen);
    Ok(peers)
}
