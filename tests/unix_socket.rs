//! unix_socket
