//! The tests of tidegate-service, by theme.

mod composed;
mod proxy;
mod throttle;
