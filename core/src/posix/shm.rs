//! POSIX shared memory.
