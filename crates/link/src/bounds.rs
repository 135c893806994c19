//! What holds for links, whoever makes them.

use std::time::Duration;

/// Most links at once; beyond it the one that was silent longest is forgotten. A peer speaks to a few hundred.
pub(crate) const MAX_LINKS: usize = 1_024;

/// A host with more links than this is a crowd: when room is needed, its links go first.
pub(crate) const CROWD: usize = MAX_LINKS / 8;

/// A link that has served for so long is made anew: what was recorded until then stays closed if keys are stolen
/// later.
pub(crate) const LIFE: Duration = Duration::from_secs(24 * 3_600);

/// How long frames of the link before are still opened, once there is another.
pub(crate) const OVERLAP: Duration = Duration::from_secs(10);

/// Messages sent lately whose beginnings are kept, should the network say that nobody listens where they went; of
/// records of DTLS those opened lately too, should they come twice.
pub(crate) const RECENT: usize = 4;

/// A link is made anew at most so often because it is said to be lost, or because a message is for somebody else than
/// who answers there: each costs a handshake.
pub(crate) const RENEW: Duration = Duration::from_secs(1);
