//! lingering
