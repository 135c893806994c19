//! What the operating system says about this process, and lets it have.

use std::path::Path;
use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Memory in use, in bytes; 0 where the system does not say.
pub fn rss_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok());
    kib.unwrap_or(0) * 1_024
}

/// Memory that this process may still take, in bytes: what is free or can be freed at once, within the
/// limit of its control group. `None` where the system does not say.
pub fn available_bytes() -> Option<u64> {
    let memory = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = memory.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let free = line.trim().trim_end_matches(" kB").parse::<u64>().ok()? * 1_024;
    let number = |name: &str| {
        let text = std::fs::read_to_string(Path::new("/sys/fs/cgroup").join(name)).ok()?;
        text.trim().parse::<u64>().ok()
    };
    let limit = number("memory.max").zip(number("memory.current"));
    Some(limit.map_or(free, |(most, used)| free.min(most.saturating_sub(used))))
}

/// Processor time used by all threads of this process since it started.
pub fn cpu_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec.try_into().unwrap_or(0), time.tv_nsec.try_into().unwrap_or(0))
}

/// Bytes of IP packets sent in this network namespace since it exists, headers included: `OutOctets` of
/// `IpExt` in `/proc/net/netstat`. Every process of the namespace counts. `None` where the system does
/// not say.
pub fn ip_bytes_sent() -> Option<u64> {
    counter(&std::fs::read_to_string("/proc/net/netstat").ok()?, "IpExt:", "OutOctets")
}

/// A counter of a table in which a line of names stands over a line of values.
fn counter(table: &str, section: &str, name: &str) -> Option<u64> {
    let mut lines = table.lines().filter(|line| line.starts_with(section));
    let (names, values) = (lines.next()?, lines.next()?);
    let at = names.split(' ').position(|n| n == name)?;
    values.split(' ').nth(at)?.parse().ok()
}

/// Sees to it that this process may have so many files and sockets open.
///
/// # Errors
/// In words, if the system allows fewer.
pub fn allow_open_files(wanted: u64) -> Result<(), String> {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current.is_none_or(|current| current >= wanted) {
        return Ok(());
    }
    let refused = |allowed: u64| {
        format!(
            "{wanted} open files are needed and this process may have {allowed}: raise the limit with \
             `ulimit -Hn {wanted}` as root, or use fewer peers"
        )
    };
    if let Some(maximum) = maximum.filter(|maximum| *maximum < wanted) {
        return Err(refused(maximum));
    }
    let limit = Rlimit { current: Some(wanted), maximum };
    setrlimit(Resource::Nofile, limit).map_err(|_| refused(current.unwrap_or(0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_counter_stands_under_its_name() {
        let table = "TcpExt: A B\nTcpExt: 1 2\nIpExt: InOctets OutOctets\nIpExt: 30 40\n";
        assert_eq!(counter(table, "IpExt:", "OutOctets"), Some(40));
        assert_eq!(counter(table, "IpExt:", "Nothing"), None);
        assert_eq!(counter("IpExt: A", "IpExt:", "A"), None);
    }

    #[test]
    fn this_process_has_memory_and_uses_time() {
        assert!(rss_bytes() > 100_000);
        assert!(cpu_time() > Duration::ZERO);
    }

    #[test]
    fn nobody_may_open_everything() {
        allow_open_files(10).unwrap();
        if getrlimit(Resource::Nofile).maximum.is_some() {
            assert!(allow_open_files(u64::MAX - 1).unwrap_err().contains("ulimit"));
        }
    }
}
