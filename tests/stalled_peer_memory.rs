//! stalled_peer_memory
