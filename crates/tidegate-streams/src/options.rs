//! Options of a stream, from its start.

/// The default limit of a reader, in bytes. A reader stops reading at twice its limit, and resumes at it.
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
    /// Returns the defaults.
    pub fn new() -> Self {
        Self {
            limit: DEFAULT_LIMIT,
        }
    }

    /// Sets the reader's limit in bytes: see [`StreamReader`](crate::StreamReader). 64 KiB unless set;
    /// 0 counts as 1.
    pub fn limit(mut self, bytes: usize) -> Self {
        self.limit = bytes.max(1);
        self
    }
}
