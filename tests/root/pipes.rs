//! Pipes that the process has no right to open once more: those of another user.

use socket2::SockRef;
use std::fs::{self, Permissions};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt;
use support::child::{Child, part, say};
use support::{Log, Recorder, TempDir, drive};
use tidegate::EventLoop;

const TEST: &str = "the_flag_of_a_pipe_of_another_user_is_set_and_taken_back_with_its_last_end";
const NOBODY: u32 = 65534;

fn stdin_blocks() -> bool {
    let stdin = io::stdin();
    let fd = stdin.as_fd();
    !SockRef::from(&fd).nonblocking().unwrap()
}

#[test]
fn the_flag_of_a_pipe_of_another_user_is_set_and_taken_back_with_its_last_end() {
    if part().is_none() {
        let dir = TempDir::new();
        fs::set_permissions(dir.path(""), Permissions::from_mode(0o755)).unwrap();
        let mut child = Child::start_as(NOBODY, &dir, TEST, "reader");
        assert_eq!(child.line(), "before: true");
        assert_eq!(child.line(), "two ends: false");
        assert_eq!(child.ask("to the child"), "one end, which has read: false");
        assert_eq!(child.line(), "none: true");
        return;
    }
    say(format_args!("before: {}", stdin_blocks()));
    let mut event_loop = EventLoop::new().unwrap();
    let handle = event_loop.handle().clone();
    let [(first, idle), (second, log)] = [(); 2].map(|()| {
        let log = Log::new();
        let end = io::stdin().as_fd().try_clone_to_owned().unwrap();
        let transport = handle.connect_read_pipe(end, Recorder::new(&log));
        (transport.unwrap(), log)
    });
    say(format_args!("two ends: {}", stdin_blocks()));
    first.close();
    drive(&mut event_loop, "the first end", || idle.is_lost());
    drive(&mut event_loop, "the line", || {
        log.data() == b"to the child\n"
    });
    say(format_args!("one end, which has read: {}", stdin_blocks()));
    second.close();
    drive(&mut event_loop, "the second end", || log.is_lost());
    say(format_args!("none: {}", stdin_blocks()));
}
