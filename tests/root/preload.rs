//! The example server with a C library that moves a few bytes at a time and fails every third
//! call, as a kernel may; see shim/short_io.c.

use std::ffi::OsString;
use std::fs;
use std::path::PathBuf;
use support::root::{Mode, Server, Traffic, output_of};
use support::{Kind, TempDir, each_kind};

/// The counters of the shim, in the order of its file.
const COUNTERS: [&str; 9] = [
    "recv",
    "send",
    "sendmsg",
    "accept4",
    "epoll_wait",
    "short reads",
    "short writes",
    "EINTR",
    "ECONNABORTED",
];

const SMALL: Traffic = Traffic {
    clients: 12,
    messages: 4,
    most: 16 * 1024,
    late: false,
};

/// With more to send than fits into one buffer.
const LARGE: Traffic = Traffic {
    clients: 8,
    messages: 3,
    most: 512 * 1024,
    late: false,
};

struct Shim {
    dir: TempDir,
}

impl Shim {
    fn compile() -> Self {
        let dir = TempDir::new();
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/root/shim/short_io.c");
        let mut arguments: Vec<OsString> = ["-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-o"]
            .map(OsString::from)
            .into();
        arguments.push(dir.path("short_io.so").into());
        arguments.push(source.into());
        arguments.push("-ldl".into());
        output_of("gcc", &arguments);
        Self { dir }
    }

    fn counts_file(&self) -> PathBuf {
        self.dir.path("counts")
    }

    /// Starts a server with it, which counts from zero.
    #[track_caller]
    fn server(&self, kind: Kind, mode: Mode, settings: &[(&str, usize)]) -> Server {
        fs::write(self.counts_file(), [0; 8 * COUNTERS.len()]).unwrap();
        let mut variables: Vec<(&str, OsString)> = vec![
            ("LD_PRELOAD", self.dir.path("short_io.so").into()),
            ("SHIM_COUNTS", self.counts_file().into()),
        ];
        for (name, value) in settings {
            variables.push((name, value.to_string().into()));
        }
        Server::with_environment(kind, mode, &variables)
    }

    fn count(&self, name: &str) -> u64 {
        let counts = fs::read(self.counts_file()).unwrap();
        let at = COUNTERS.iter().position(|&counter| counter == name);
        let bytes = counts.chunks_exact(8).nth(at.expect("a counter"));
        u64::from_ne_bytes(bytes.unwrap().try_into().unwrap())
    }

    #[track_caller]
    fn assert_counted(&self, names: &[&str]) {
        for name in names {
            assert!(self.count(name) > 0, "no {name}");
        }
    }
}

/// Runs the traffic in both modes.
#[track_caller]
fn survives(kind: Kind, traffic: Traffic, settings: &[(&str, usize)], counted: &[&str]) {
    let shim = Shim::compile();
    for mode in Mode::ALL {
        let server = shim.server(kind, mode, settings);
        let bytes = traffic.verify(&server);
        server.assert_is_well();
        server.assert_lines(0);
        let counts: Vec<_> = COUNTERS.map(|name| (name, shim.count(name))).into();
        println!("{kind:?}, {mode:?}, {settings:?}: {bytes} bytes, {counts:?}");
        shim.assert_counted(counted);
    }
}

each_kind!(bytes_that_come_seven_at_a_time_are_all_echoed);
fn bytes_that_come_seven_at_a_time_are_all_echoed(kind: Kind) {
    survives(kind, SMALL, &[("SHIM_READ", 7)], &["short reads"]);
}

each_kind!(bytes_that_the_kernel_takes_seven_at_a_time_all_arrive);
fn bytes_that_the_kernel_takes_seven_at_a_time_all_arrive(kind: Kind) {
    survives(kind, SMALL, &[("SHIM_WRITE", 7)], &["short writes"]);
}

each_kind!(with_every_transfer_short_and_every_third_call_failing_nothing_is_lost);
fn with_every_transfer_short_and_every_third_call_failing_nothing_is_lost(kind: Kind) {
    let settings = [
        ("SHIM_READ", 7),
        ("SHIM_WRITE", 5),
        ("SHIM_EINTR", 3),
        ("SHIM_ABORT", 3),
    ];
    let counted = ["short reads", "short writes", "EINTR", "ECONNABORTED"];
    survives(kind, SMALL, &settings, &counted);
}

each_kind!(a_queue_is_sent_in_pieces_that_cross_from_one_buffer_to_the_next);
fn a_queue_is_sent_in_pieces_that_cross_from_one_buffer_to_the_next(kind: Kind) {
    let settings = [("SHIM_WRITE", 1007), ("SHIM_EINTR", 3)];
    survives(
        kind,
        LARGE,
        &settings,
        &["short writes", "sendmsg", "EINTR"],
    );
}
