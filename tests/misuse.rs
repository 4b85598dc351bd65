//! Bad use.
