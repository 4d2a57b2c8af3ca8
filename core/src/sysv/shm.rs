//! System V shared memory.
