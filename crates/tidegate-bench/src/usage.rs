//! The resources that a process has used, from `/proc`.

use std::fs;
use std::io;
use std::time::Duration;

/// Processor time of all threads of a process, in user code and in the kernel.
///
/// # Errors
///
/// Those of reading `/proc`: the process may be gone.
pub fn cpu_time(pid: u32) -> io::Result<Duration> {
    let mut nanoseconds = 0;
    for thread in fs::read_dir(format!("/proc/{pid}/task"))? {
        // To the nanosecond; the times in `stat` are multiples of a tick of 10 ms.
        let Ok(text) = fs::read_to_string(thread?.path().join("schedstat")) else {
            continue; // A thread that has just ended.
        };
        let first = text.split_whitespace().next();
        nanoseconds += first
            .and_then(|text| text.parse::<u64>().ok())
            .ok_or_else(|| io::Error::other("schedstat without a number"))?;
    }
    Ok(Duration::from_nanos(nanoseconds))
}

/// Bytes of memory that are resident for a process.
///
/// # Errors
///
/// Those of reading `/proc`.
pub fn resident(pid: u32) -> io::Result<u64> {
    memory(pid, "Rss:")
}

/// Bytes of resident memory that no file backs: heap and stacks, without the program itself,
/// whose pages come in as its code is first run.
///
/// # Errors
///
/// Those of reading `/proc`.
pub fn anonymous(pid: u32) -> io::Result<u64> {
    memory(pid, "Anonymous:")
}

/// `smaps_rollup` counts pages; `status` and `statm` are behind by some pages for each processor.
fn memory(pid: u32, field: &str) -> io::Result<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
    let line = text.lines().find_map(|line| line.strip_prefix(field));
    let kib = line.and_then(|line| line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok());
    let none = || io::Error::other(format!("smaps_rollup without {field}"));
    Ok(kib.ok_or_else(none)? * 1024)
}

/// Raises the limit of descriptors of this process, which its children inherit, as far as it may
/// be raised, and says what it is now.
pub fn raise_descriptor_limit() -> u64 {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    // Where it may not be raised, what is allowed is still enough for most.
    let _ = setrlimit(Resource::Nofile, limit);
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process;

    #[test]
    fn a_process_can_be_asked_what_it_uses() {
        let pid = process::id();
        assert!(resident(pid).unwrap() > 100 << 10);
        assert!(anonymous(pid).unwrap() <= resident(pid).unwrap());
        let before = cpu_time(pid).unwrap();
        let mut sum = 0_u64;
        while cpu_time(pid).unwrap() < before + Duration::from_millis(2) {
            sum = std::hint::black_box(sum + 1);
        }
    }
}
