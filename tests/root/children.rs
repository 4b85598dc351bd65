//! Children that the loop cannot kill: those of another user, once the right to signal them is given up.

use log::LevelFilter;
use rustix::process::{Pid, WaitOptions, waitpid};
use rustix::thread::{CapabilitySet, capabilities, set_capabilities};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use support::logs::{keep_log, logged};
use tidegate::EventLoop;

const NOBODY: u32 = 65534;
/// For each of them a second would be too long for all.
const CHILDREN: usize = 10;

#[test]
fn the_end_of_the_loop_waits_one_second_for_all_that_it_cannot_kill_and_says_so() {
    keep_log(LevelFilter::Warn);
    let event_loop = EventLoop::new().unwrap();
    let (inputs, children): (Vec<_>, Vec<_>) = (0..CHILDREN)
        .map(|_| {
            let mut command = Command::new("cat");
            command
                .uid(NOBODY)
                .stdin(Stdio::piped())
                .stdout(Stdio::null());
            let mut child = command.spawn().unwrap();
            let input = child.stdin.take().unwrap();
            (input, event_loop.handle().watch_child(child).unwrap())
        })
        .unzip();
    let usual = capabilities(None).unwrap();
    let mut fewer = usual;
    fewer.effective.remove(CapabilitySet::KILL);
    set_capabilities(None, fewer).unwrap();
    let refused = children[0].kill().unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::PermissionDenied);

    let begun = Instant::now();
    drop(event_loop);
    let took = begun.elapsed();
    set_capabilities(None, usual).unwrap();
    assert!(took > Duration::from_millis(900), "{took:?}");
    assert!(took < Duration::from_secs(CHILDREN as u64 / 2), "{took:?}");
    let lines = logged();
    assert_eq!(lines.len(), CHILDREN, "{lines:?}");
    assert!(lines.iter().all(|line| line.text.contains("has not ended")));
    drop(inputs);
    for child in children {
        assert!(child.status().is_none());
        let ended = waitpid(Pid::from_raw(child.pid() as i32), WaitOptions::empty());
        assert_eq!(ended.unwrap().unwrap().1.exit_status(), Some(0));
    }
}
