//! Large pages for large worlds.
//!
//! Every event of a world of many thousand peers touches another peer, and much of the waiting for memory is
//! for the addresses of its pages. The GNU allocator asks Linux for pages of 2 MiB if its environment says so
//! at the start of a process (glibc manual, "Memory Allocation Tunables", `glibc.malloc.hugetlb`), so this
//! process starts itself once more. That saves an eighth to a fifth of the processor time of 20,000 peers;
//! where it cannot be, nothing is lost but that.

/// Peers from which on it is worth it: fewer fit the caches.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const FROM_PEERS: usize = 5_000;

/// The variable that the allocator reads.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const TUNABLES: &str = "GLIBC_TUNABLES";

/// Starts this program anew with large pages, if the world is large and nobody has set the variable. Returns
/// if that is not so, or cannot be done.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
pub(super) fn enlarge(peers: usize) {
    use std::env;
    use std::os::unix::process::CommandExt;
    use std::process::Command;
    if peers < FROM_PEERS || env::var_os(TUNABLES).is_some() {
        return;
    }
    let Ok(program) = env::current_exe() else { return };
    // Returns only if it fails.
    let _ = Command::new(program).args(env::args_os().skip(1)).env(TUNABLES, "glibc.malloc.hugetlb=1").exec();
}

/// Other allocators are not asked.
#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
pub(super) fn enlarge(_peers: usize) {}
