//! Needs a process without root's rights, which it starts when it has them itself.
//!
//! Rights to files of Unix sockets that a server does not have.

use rustix::process::geteuid;
use std::fs::{self, File, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::path::Path;
use support::child::{Child, part, say};
use support::{Recorder, TempDir};
use tidegate::{Address, EventLoop, ListenOptions};

const TEST: &str = "a_socket_file_that_a_server_has_no_right_to_is_not_permitted";
const NOBODY: u32 = 65534;

fn allow(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

/// The kind and the text of the error of listening there, with a file that is given to root.
fn refusal(path: &Path) -> String {
    let event_loop = EventLoop::new().unwrap();
    let options = ListenOptions::new(Address::Unix(path.into())).unix_owner(Some(0), None);
    let factory = || -> Recorder { panic!("no server") };
    let created = event_loop.handle().create_server(options, factory);
    let error = created.unwrap_err();
    format!("{:?} {error}", error.kind())
}

#[test]
fn a_socket_file_that_a_server_has_no_right_to_is_not_permitted() {
    if let Some(path) = part() {
        return say(refusal(path.as_ref()));
    }
    let root = geteuid().is_root();
    let dir = TempDir::new();
    let stale = |name: &str, mode| {
        drop(UnixListener::bind(dir.path(name)).unwrap());
        allow(&dir.path(name), mode);
    };
    allow(&dir.path(""), 0o777);
    stale("closed", 0o000);
    File::create(dir.path("locked.lock")).unwrap();
    allow(&dir.path("locked.lock"), 0o000);
    fs::create_dir(dir.path("folder")).unwrap();
    allow(&dir.path("folder"), 0o555);
    let mut cases = vec![
        ("closed", "connect to the socket file"),
        ("locked", "lock"),
        ("folder/s", "create"),
        ("free", "set its owner to 0"),
    ];
    if root {
        fs::create_dir(dir.path("sticky")).unwrap();
        allow(&dir.path("sticky"), 0o1777);
        stale("sticky/s", 0o777);
        cases.push(("sticky/s", "remove the socket file"));
    }
    for (name, reason) in cases {
        let path = dir.path(name);
        let existed = path.exists();
        let refusal = if root {
            Child::start_as(NOBODY, &dir, TEST, path.to_str().unwrap()).line()
        } else {
            refusal(&path)
        };
        assert!(refusal.starts_with("PermissionDenied "), "{refusal}");
        let text = path.display().to_string();
        assert!(refusal.contains(&text), "{refusal}");
        assert!(
            refusal.contains("not permitted to") && refusal.contains(reason),
            "{refusal}"
        );
        assert_eq!(path.exists(), existed, "{name}");
    }
}
