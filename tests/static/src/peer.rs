//! Waiting for somebody who may have gone.

use linipc_core::event::poll::{PollFd, PollFlags, Timespec, poll};
use linipc_core::fd::AsFd;

use crate::report::Failure;

/// Waits while nobody is there, but no longer than somebody has the other end of `fd`, a pipe or a socket.
///
/// # Errors
///
/// Nobody has it any more, or those of poll(2).
pub fn wait(fd: impl AsFd, mut is_nobody: impl FnMut() -> bool) -> Result<(), Failure> {
    let a_while = Timespec {
        tv_sec: 0,
        tv_nsec: 10_000_000,
    };
    while is_nobody() {
        let mut end = [PollFd::new(&fd, PollFlags::empty())];
        // Who came and closed its end at once is there all the same.
        if poll(&mut end, Some(&a_while))? > 0 && is_nobody() {
            return Err(Failure::Because("nobody has come"));
        }
    }
    Ok(())
}
