//! Changes the folder of the process.
//!
//! A daemon that listens on a relative path, and then goes to another folder.

use std::fs;
use support::{Served, TempDir};
use tidegate::{Address, EventLoop};

#[test]
fn the_files_of_a_relative_path_are_removed_from_the_folder_of_the_start() {
    let dir = TempDir::new();
    fs::create_dir(dir.path("start")).unwrap();
    std::env::set_current_dir(dir.path("start")).unwrap();
    let event_loop = EventLoop::new().unwrap();
    let served = Served::echo(event_loop.handle(), "unix:s");
    assert_eq!(served.address(), Address::Unix("s".into()));
    assert_eq!(fs::read_dir(dir.path("start")).unwrap().count(), 2);
    std::env::set_current_dir("/").unwrap();
    served.server.close();
    assert_eq!(fs::read_dir(dir.path("start")).unwrap().count(), 0);
}
