//! default_server_memory
