//! unix(7).
