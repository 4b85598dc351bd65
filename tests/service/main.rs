//! The tests of tidegate-service, by theme.

mod composed;
mod conversations;
mod proxy;
mod remote_writer;
mod throttle;
mod workers;
mod workers_ends;
mod workers_streams;
