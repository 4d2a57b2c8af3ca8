//! Locks that C programs have too, in the C library's own layout.
