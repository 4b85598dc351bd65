//! The tests of tidegate-service, by theme.

mod composed;
mod conversations;
mod proxy;
mod throttle;
mod workers;
