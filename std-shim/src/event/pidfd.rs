//! pidfd_open(2).
