//! waiters_allocate
