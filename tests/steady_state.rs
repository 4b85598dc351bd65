//! steady_state
