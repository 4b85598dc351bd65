//! The tests of the core, by theme.

mod smoke;

/// One connection: its life, what it reads, what it writes, and how it ends.
mod transport {
    mod callbacks;
    mod cap;
    mod closing;
    mod credentials;
    mod detaching;
    mod detaching_code;
    mod endings;
    mod eof_deadline;
    mod failure_names;
    mod failure_reports;
    mod failures;
    mod flow;
    mod fuzz;
    mod given_back;
    mod given_back_at_eof;
    mod half_close;
    mod leftover;
    mod life;
    mod linger_limits;
    mod lingering;
    mod logger_panics;
    mod losses;
    mod losses_refused;
    mod matrix;
    mod misuse;
    mod order;
    mod random;
    mod read_hold;
    mod reading;
    mod reasons;
    mod resets;
    mod rounds;
    mod set_protocol;
    mod shared_descriptors;
    mod socket;
    mod timed;
    mod typed_callbacks;
    mod unread;
    mod user_code;
    mod waiters;
    mod wants_input;
    mod wrapped;
    mod write_forms;
    mod write_timeout;
    mod write_timeout_clock;
    mod writing;
}

/// Endpoints of datagrams.
mod datagrams {
    mod accounting;
    mod batches;
    mod broadcast;
    mod callbacks;
    mod errors;
    mod forms;
    mod life;
    mod offload;
    mod pausing;
    mod receiving;
    mod runs;
    mod sending;
    mod simulated;
    mod system_errors;
}

/// Pipes, FIFOs, terminals: connections of one direction.
mod pipes {
    mod kinds;
    mod reading;
    mod shared;
    mod terminals;
    mod writing;
}

/// Descriptors of the user's that the loop watches.
mod watches {
    mod calls;
    mod ends;
    mod heard;
    mod refusals;
}

/// Child processes, watched in both ways.
mod processes {
    mod children;
    mod life;
    mod told;
    mod within_callbacks;
}

/// The loop: its ticks, timers, callbacks from elsewhere, jobs, and its end.
mod event_loop {
    pub(crate) mod by_hand;
    mod completions;
    mod counters;
    mod driver;
    mod jobs;
    mod jobs_end;
    mod jobs_values;
    mod loop_end;
    mod loop_end_values;
    mod mailbox;
    mod mapped_completions;
    mod remote;
    mod repeating;
    mod reuse;
    mod scheduling;
    mod slow_callback;
    mod ticks;
    mod timers;
    mod write_budget;
    mod write_budget_gathered;
}

/// Servers: what they listen on, what they accept, and how they close.
mod server {
    mod accept;
    mod accepting;
    mod backlog;
    mod closing;
    mod fairness;
    mod given_sockets;
    mod handing_over;
    pub(crate) mod idle_timeout;
    mod listen;
    mod listen_names;
    mod max_connections;
    mod max_connections_per_peer;
    mod quiet_beside_flood;
    mod serving;
    mod shutdown;
    mod timeouts;
    mod unix_file;
    mod unix_path;
    mod unix_socket;
}

/// Connecting: names, attempts, options, and giving up.
mod connect {
    mod completion;
    mod connecting;
    mod given_up;
    mod happy_eyeballs;
    mod names;
    mod options;
    mod timeouts;
    mod to_itself;
    mod zones;
}

/// Layers: what stands between the socket and the protocol.
mod layers {
    mod accounting;
    mod budget;
    mod calls;
    mod drops;
    mod early;
    mod ending;
    mod half_records;
    mod idle;
    mod leaving;
    mod limits;
    mod opening;
    mod own_code;
    mod own_ends;
    mod own_output;
    mod policies;
    mod pushing;
    mod records;
    mod simulated;
    mod simulated_ends;
    mod small_buffers;
    mod stacks;
    mod unused;
}

/// A relay: two connections, each of which sends what the other receives.
mod relay {
    mod back_end;
    mod chains;
    mod clogged;
    mod connecting;
    mod endings;
    mod leaving;
    mod limits;
    mod random;
    mod relaying;
    mod splicing;
}
