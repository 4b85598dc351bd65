//! What is set for a stream from its start.

/// How much a reader takes in before it stops reading is twice this; it goes on at this.
const DEFAULT_LIMIT: usize = 64 * 1024;

/// Options of a stream; see [`open_connection_with`](crate::open_connection_with) and
/// [`start_server_with`](crate::start_server_with). Addresses, time limits and write limits are
/// options of the connection: [`ConnectOptions`](tidegate::ConnectOptions) and
/// [`ListenOptions`](tidegate::ListenOptions).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub struct StreamOptions {
    pub(crate) limit: usize,
}

impl Default for StreamOptions {
    fn default() -> Self {
        Self::new()
    }
}

impl StreamOptions {
    /// The defaults.
    pub fn new() -> Self {
        Self {
            limit: DEFAULT_LIMIT,
        }
    }

    /// The reader's limit in bytes; 64 KiB unless set, 0 counts as 1. See
    /// [`StreamReader`](crate::StreamReader).
    pub fn limit(mut self, bytes: usize) -> Self {
        self.limit = bytes.max(1);
        self
    }
}
