//! Notification: waiting for events, many at a time, as descriptors.

pub mod epoll;
pub mod eventfd;
pub mod pidfd;
pub mod poll;
pub mod signalfd;
pub mod timerfd;
