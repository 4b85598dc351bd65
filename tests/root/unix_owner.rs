//! Unix sockets for other users: only root gives files away.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::path::Path;
use support::child::{Child, part, say};
use support::{Served, TempDir};
use tidegate::{Address, EventLoop, ListenOptions};

const TEST: &str = "a_socket_file_that_is_given_to_a_user_lets_that_user_in_and_no_other";

/// Two that own nothing.
const USERS: [u32; 2] = [65533, 65534];

fn connect_as(user: u32, dir: &TempDir, path: &Path) -> String {
    Child::start_as(user, dir, TEST, path.to_str().unwrap()).line()
}

#[test]
fn a_socket_file_that_is_given_to_a_user_lets_that_user_in_and_no_other() {
    if let Some(path) = part() {
        return match UnixStream::connect(path) {
            Ok(_) => say("connected"),
            Err(error) => say(format_args!("{:?}", error.kind())),
        };
    }
    let event_loop = EventLoop::new().unwrap();
    let dir = TempDir::new();
    fs::set_permissions(dir.path(""), Permissions::from_mode(0o755)).unwrap();
    let path = dir.path("s");
    let [one, other] = USERS;
    for (user, group, mode) in [
        (Some(one), None, 0o600),
        (None, Some(one), 0o660),
        (Some(one), Some(other), 0o700),
    ] {
        let options = ListenOptions::new(Address::Unix(path.clone()))
            .unix_owner(user, group)
            .unix_mode(mode);
        let served = Served::echo(event_loop.handle(), options);
        let meta = fs::metadata(&path).unwrap();
        let owner = (user.unwrap_or(0), group.unwrap_or(0));
        assert_eq!((meta.uid(), meta.gid()), owner);
        assert_eq!(meta.mode() & 0o7777, mode);
        assert_eq!(connect_as(one, &dir, &path), "connected");
        assert_eq!(connect_as(other, &dir, &path), "PermissionDenied");
        served.server.close();
        assert!(!path.exists());
    }
}
