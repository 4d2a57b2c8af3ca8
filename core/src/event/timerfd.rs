//! timerfd_create(2).
