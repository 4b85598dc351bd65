//! half_close
