//! The common parts of the tests of layers: two ends of a line in memory, layers, and an engine that keeps the
//! rules of the transport.

pub(super) mod checked;
pub(super) mod dice;
pub(super) mod engine;
pub(super) mod layers;
pub(super) mod line;
