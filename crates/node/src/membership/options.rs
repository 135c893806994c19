//! The overlay's options as P2P-Options carries them.

use wire::HashAlgorithm;
use wire::p2pp::P2pOptions;

use crate::config::OverlayOptions;

/// Low 32 bits of the SHA-256 of the overlay's name; never zero, which means "not known yet".
pub(super) fn tag_of(name: &str) -> u32 {
    let key = HashAlgorithm::Sha256.digest(name.as_bytes());
    let low = key.as_bytes()[28..].try_into().expect("the last 4 of 32 bytes");
    u32::from_be_bytes(low).max(1)
}

pub(super) fn options_to_wire(options: &OverlayOptions) -> P2pOptions<'_> {
    P2pOptions {
        hash: options.hash,
        algorithm: options.algorithm.number(),
        base: options.base,
        difficulty: options.difficulty,
        replicas: options.replicas,
        remote_settings: options.remote_settings,
        name: &options.name,
    }
}

pub(super) fn options_from_wire(options: &P2pOptions<'_>) -> Result<OverlayOptions, String> {
    let Some(algorithm) = overlay::Algorithm::from_number(options.algorithm) else {
        return Err(format!(
            "the overlay '{}' uses algorithm {}, which this version does not have; update openvoip",
            options.name, options.algorithm
        ));
    };
    Ok(OverlayOptions {
        name: options.name.to_owned(),
        algorithm,
        hash: options.hash,
        base: options.base,
        replicas: options.replicas.clamp(1, 16),
        difficulty: options.difficulty,
        remote_settings: options.remote_settings,
    })
}
