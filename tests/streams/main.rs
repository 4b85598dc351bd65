//! The tests of the streams.

mod closing;
mod failures;
mod feed;
mod hyper;
mod hyper_upgrade;
mod limits;
mod losses;
mod open;
mod random;
mod reader;
mod reader_cancel;
mod reader_endings;
mod reader_peek;
mod relay;
mod runner;
mod server;
mod server_accepting;
mod tasks;
mod tasks_drops;
mod time;
mod traits;
mod wakes;
mod write_all;
mod write_forms;
mod writer;
mod writer_cancel;
