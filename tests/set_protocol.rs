//! set_protocol
