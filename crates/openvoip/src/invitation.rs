//! What a document means for a peer before it starts: whom it asks, and what it insists on.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::PathBuf;

use node::{Algorithm, NameRules, OverlayOptions};
use wire::document::{KindRule, OverlayDocument};

use crate::home::{self, Home};
use crate::settings::{BASES, Resolved};

/// The options of an overlay, as its document says them.
///
/// # Errors
/// In words, if this version cannot take part in such an overlay.
pub fn options(document: &OverlayDocument) -> Result<OverlayOptions, String> {
    let Some(algorithm) = Algorithm::from_number(document.algorithm) else {
        return Err(format!(
            "it asks for algorithm {}, which this version does not have",
            document.algorithm
        ));
    };
    if !BASES.contains(&document.base) {
        return Err(format!("it asks for base {}, and this version has 2, 4, 8 and 16", document.base));
    }
    if document.kinds != KindRule::today() {
        return Err("it describes kinds of records that this version does not keep like that".into());
    }
    Ok(OverlayOptions {
        name: document.name.clone(),
        algorithm,
        hash: document.hash,
        base: document.base,
        replicas: document.replicas,
        difficulty: document.difficulty,
        remote_settings: document.remote_settings,
    })
}

/// Takes the options of an overlay from the document that the settings name, if they name one, and keeps it;
/// whom it says to ask first, without this peer itself.
///
/// # Errors
/// In words, if the document, the settings and what this peer was told before do not agree.
pub fn take_document(resolved: &mut Resolved, home: &Home) -> Result<BTreeSet<SocketAddr>, String> {
    let path = PathBuf::from(&resolved.settings.overlay.document);
    if path.as_os_str().is_empty() {
        return Ok(BTreeSet::new());
    }
    let chain = home::read_documents(&path)?;
    let document = &chain.newest().document;
    let options = options(document).map_err(|why| format!("{}: {why}", path.display()))?;
    resolved.take_profile(document.profile, document.links)?;
    resolved.take_options(&options)?;
    home.take_documents(&chain)?;
    resolved.names = NameRules::of(document);
    let mut peers = document.bootstrap.clone();
    peers.remove(&resolved.settings.listen);
    Ok(peers)
}
