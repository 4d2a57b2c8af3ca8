//! poll(2).
