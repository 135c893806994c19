//! Who goes where there is no room for another.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

/// The first to go among these, each with its rank: the lowest, of the host with most of them if those are more
/// than a `crowd`.
pub(crate) fn first_to_go<R: Ord>(all: Vec<(SocketAddr, R)>, crowd: usize) -> Option<SocketAddr> {
    let mut of_host: BTreeMap<IpAddr, usize> = BTreeMap::new();
    all.iter().for_each(|(at, _)| *of_host.entry(at.ip()).or_default() += 1);
    let crowd = of_host.into_iter().filter(|(_, n)| *n > crowd).max_by_key(|(_, n)| *n);
    let candidates = all.into_iter().filter(|(at, _)| crowd.is_none_or(|(host, _)| at.ip() == host));
    candidates.min_by(|(_, a), (_, b)| a.cmp(b)).map(|(at, _)| at)
}
