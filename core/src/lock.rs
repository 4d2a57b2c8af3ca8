//! File locks.
