//! Signals as reads: a descriptor that gives the signals which a thread has blocked.
//!
//! Mirrors signalfd(2), sigprocmask(2), signal(7) and `<linux/signalfd.h>`.
//!
//! ```
//! use linipc_core::event::pidfd::{self, Pid};
//! use linipc_core::event::signalfd::{self, Flags, Info, Signal, SignalSet};
//!
//! let set = SignalSet::EMPTY.with(Signal::USR1);
//! signalfd::block(set)?;
//! let signals = signalfd::create(set, Flags::empty())?;
//!
//! let me = Pid::from_raw(std::process::id() as i32).unwrap();
//! pidfd::send_signal(pidfd::open(me, pidfd::Flags::empty())?, Signal::USR1)?;
//!
//! let mut infos = [Info::default(); 4];
//! assert_eq!(signalfd::read(&signals, &mut infos)?, 1);
//! assert_eq!(infos[0].signal(), Some(Signal::USR1));
//! # Ok::<(), linipc_core::Errno>(())
//! ```
//!
//! # Pitfalls
//!
//! - The signals must be blocked, and in every thread, or they are delivered as ever: [`block`]
//!   before other threads start, which inherit the mask.
//! - The mask also goes over execve(2), to programs that do not expect it, std's `Command`
//!   included: put the old one back with [`set_mask`] in the child, before it executes.
//! - A read gives the signals of the thread that reads, and of its process: a descriptor that a
//!   child inherited, or another process received, gives the signals of those.
//! - Signals below 32 do not queue: several of one kind become one. Real-time signals do.
//! - `KILL` and `STOP` cannot be blocked, and are ignored in sets; signals that a fault raises
//!   (`SEGV`, `BUS`, `FPE`, `ILL`) kill the process when they are blocked.

use core::fmt;

use bitflags::bitflags;
use linux_raw_sys::general::{O_CLOEXEC, O_NONBLOCK, SIG_BLOCK, SIG_SETMASK, SIG_UNBLOCK};
use rustix::io::Errno;

pub use rustix::process::Signal;

use crate::fd::{AsFd, AsRawFd, OwnedFd};
use crate::sys::{abi, call, own};

/// `sigset_t`, the kernel's: one bit for each of 64 signals.
///
/// The signals 32, 33 and 34, which C libraries keep for themselves, are never blocked: without
/// them their threads hang.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
#[repr(transparent)]
#[doc(alias = "sigset_t")]
pub struct SignalSet(u64);

impl SignalSet {
    /// No signal.
    pub const EMPTY: Self = Self(0);
    /// Every signal.
    pub const ALL: Self = Self(u64::MAX);
    /// What glibc (32, 33) and musl (32 to 34) use between their threads.
    const LIBC: Self = Self(0b111 << 31);

    /// The set with these bits: bit 0 is signal 1.
    #[inline]
    pub const fn from_bits(bits: u64) -> Self {
        Self(bits)
    }

    /// The bits: bit 0 is signal 1.
    #[inline]
    pub const fn bits(self) -> u64 {
        self.0
    }

    /// The set and this signal.
    #[inline]
    #[must_use]
    pub const fn with(self, signal: Signal) -> Self {
        Self(self.0 | Self::bit(signal))
    }

    /// The set but for this signal.
    #[inline]
    #[must_use]
    pub const fn without(self, signal: Signal) -> Self {
        Self(self.0 & !Self::bit(signal))
    }

    /// Whether the signal is in the set.
    #[inline]
    pub const fn contains(self, signal: Signal) -> bool {
        self.0 & Self::bit(signal) != 0
    }

    /// 0 for a number that is no signal's, which only unsafe code can make.
    #[inline]
    const fn bit(signal: Signal) -> u64 {
        match signal.as_raw() {
            number @ 1..=64 => 1 << (number - 1),
            _ => 0,
        }
    }
}

impl FromIterator<Signal> for SignalSet {
    #[inline]
    fn from_iter<I: IntoIterator<Item = Signal>>(signals: I) -> Self {
        signals.into_iter().fold(Self::EMPTY, Self::with)
    }
}

impl fmt::Debug for SignalSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let numbers = (1..=64_u32).filter(|number| self.0 >> (number - 1) & 1 == 1);
        f.debug_set().entries(numbers).finish()
    }
}

/// The real-time signal with this number, from 35 to 64: such signals queue.
///
/// `SIGRTMIN` of C is 34 in glibc and 35 in musl, so two programs agree on numbers.
#[inline]
#[doc(alias = "SIGRTMIN")]
pub const fn realtime(number: i32) -> Option<Signal> {
    match number {
        // SAFETY: A signal of the kernel, and none that a C library keeps for itself.
        35..=64 => Some(unsafe { Signal::from_raw_unchecked(number) }),
        _ => None,
    }
}

bitflags! {
    /// How to make a descriptor.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub struct Flags: u32 {
        /// `SFD_NONBLOCK`: reading fails with `AGAIN` if no signal is pending.
        const NONBLOCK = O_NONBLOCK;
    }
}

/// `struct signalfd_siginfo`: one signal, with who sent it and why. The default is all zero, to be
/// read into.
#[derive(Clone, Copy, Default)]
#[repr(transparent)]
#[doc(alias = "signalfd_siginfo")]
pub struct Info(abi::signalfd_siginfo);

impl Info {
    /// `ssi_signo`: the signal's number.
    #[inline]
    pub const fn number(&self) -> i32 {
        self.0.ssi_signo as i32
    }

    /// The signal, but those that C libraries keep for themselves.
    #[inline]
    pub const fn signal(&self) -> Option<Signal> {
        match Signal::from_named_raw(self.number()) {
            None => realtime(self.number()),
            named => named,
        }
    }

    /// `ssi_code`: why; 0 (`SI_USER`) from kill(2), -1 (`SI_QUEUE`) from sigqueue(3), above 0 from
    /// the kernel.
    #[inline]
    pub const fn code(&self) -> i32 {
        self.0.ssi_code
    }

    /// `ssi_pid`: the sender, or the child that changed.
    #[inline]
    pub const fn pid(&self) -> i32 {
        self.0.ssi_pid as i32
    }

    /// `ssi_uid`: the sender's real user id.
    #[inline]
    pub const fn uid(&self) -> u32 {
        self.0.ssi_uid
    }

    /// `ssi_status`: of `CHILD`, the exit status or the signal.
    #[inline]
    pub const fn status(&self) -> i32 {
        self.0.ssi_status
    }

    /// `ssi_int`: the number that sigqueue(3) sent.
    #[inline]
    pub const fn value(&self) -> i32 {
        self.0.ssi_int
    }

    /// `ssi_ptr`: the pointer that sigqueue(3) sent, as a number.
    #[inline]
    pub const fn pointer(&self) -> u64 {
        self.0.ssi_ptr
    }

    /// `ssi_fd`: of `IO`, the descriptor.
    #[inline]
    pub const fn fd(&self) -> i32 {
        self.0.ssi_fd
    }
}

impl fmt::Debug for Info {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Info")
            .field("number", &self.number())
            .field("code", &self.code())
            .field("pid", &self.pid())
            .field("uid", &self.uid())
            .finish_non_exhaustive()
    }
}

/// `int sigprocmask(SIG_BLOCK, const sigset_t *set, sigset_t *oldset)`: blocks these signals too in
/// the calling thread; gives what was blocked before.
///
/// # Errors
///
/// None in practice.
///
/// # References
///
/// - [sigprocmask(2)](https://man7.org/linux/man-pages/man2/sigprocmask.2.html)
#[inline]
#[doc(alias = "sigprocmask")]
#[doc(alias = "SIG_BLOCK")]
pub fn block(set: SignalSet) -> Result<SignalSet, Errno> {
    sigprocmask(SIG_BLOCK, set)
}

/// `int sigprocmask(SIG_UNBLOCK, const sigset_t *set, sigset_t *oldset)`: lets these signals be
/// delivered in the calling thread, the pending ones at once; gives what was blocked before.
///
/// # Errors
///
/// None in practice.
///
/// # References
///
/// - [sigprocmask(2)](https://man7.org/linux/man-pages/man2/sigprocmask.2.html)
#[inline]
#[doc(alias = "SIG_UNBLOCK")]
pub fn unblock(set: SignalSet) -> Result<SignalSet, Errno> {
    sigprocmask(SIG_UNBLOCK, set)
}

/// `int sigprocmask(SIG_SETMASK, const sigset_t *set, sigset_t *oldset)`: blocks exactly these
/// signals in the calling thread; gives what was blocked before.
///
/// # Errors
///
/// None in practice.
///
/// # References
///
/// - [sigprocmask(2)](https://man7.org/linux/man-pages/man2/sigprocmask.2.html)
#[inline]
#[doc(alias = "SIG_SETMASK")]
pub fn set_mask(set: SignalSet) -> Result<SignalSet, Errno> {
    sigprocmask(SIG_SETMASK, set)
}

#[inline]
fn sigprocmask(how: u32, set: SignalSet) -> Result<SignalSet, Errno> {
    let set = SignalSet(set.0 & !SignalSet::LIBC.0);
    let mut old = SignalSet::EMPTY;
    // SAFETY: The call reads and writes a set of the size that is given. That signals wait is
    // memory-safe; those on which a C library relies are not among them.
    unsafe {
        call!(
            __NR_rt_sigprocmask,
            how,
            &raw const set,
            &raw mut old,
            size_of::<SignalSet>()
        )
    }?;
    Ok(old)
}

/// `int signalfd(-1, const sigset_t *mask, int flags)` with `SFD_CLOEXEC`: makes a descriptor that
/// gives these signals, which must be blocked: see [`block`].
///
/// # Errors
///
/// - `MFILE`, `NFILE`: no descriptor is free in the process, or in the system.
/// - `NOMEM`: the kernel is out of memory.
///
/// # References
///
/// - [signalfd(2)](https://man7.org/linux/man-pages/man2/signalfd.2.html)
#[inline]
#[doc(alias = "signalfd")]
pub fn create(set: SignalSet, flags: Flags) -> Result<OwnedFd, Errno> {
    let fd = signalfd4(-1, set, flags.bits() | O_CLOEXEC)?;
    // SAFETY: The call made this descriptor, and nobody else knows of it.
    unsafe { own(fd) }
}

/// `int signalfd(int fd, const sigset_t *mask, 0)`: changes which signals a descriptor gives.
///
/// # Errors
///
/// `INVAL`: not a signalfd.
///
/// # References
///
/// - [signalfd(2)](https://man7.org/linux/man-pages/man2/signalfd.2.html)
#[inline]
pub fn set(fd: impl AsFd, set: SignalSet) -> Result<(), Errno> {
    signalfd4(fd.as_fd().as_raw_fd(), set, 0)?;
    Ok(())
}

#[inline]
fn signalfd4(fd: i32, set: SignalSet, flags: u32) -> Result<usize, Errno> {
    let size = size_of::<SignalSet>();
    // SAFETY: The call reads a set of the size that is given.
    unsafe { call!(__NR_signalfd4, fd, &raw const set, size, flags) }
}

/// `ssize_t read(int fd, void *buf, size_t count)`: takes as many pending signals as there are and
/// fit, at least one; gives how many. Waits until there is one.
///
/// # Errors
///
/// - `AGAIN`: none is pending, and [`Flags::NONBLOCK`].
/// - `INTR`: another signal was caught while the call waited.
/// - `INVAL`: no room for one, or not a signalfd.
///
/// # References
///
/// - [signalfd(2)](https://man7.org/linux/man-pages/man2/signalfd.2.html)
#[inline]
pub fn read(fd: impl AsFd, infos: &mut [Info]) -> Result<usize, Errno> {
    if infos.is_empty() {
        return Err(Errno::INVAL);
    }
    let len = size_of_val(infos);
    // SAFETY: The same borrowed memory; `Info` has no padding, and any bytes are an `Info`.
    let bytes = unsafe { core::slice::from_raw_parts_mut(infos.as_mut_ptr().cast::<u8>(), len) };
    let read = rustix::io::read(fd, bytes)?;
    if read % size_of::<Info>() != 0 {
        return Err(Errno::INVAL);
    }
    Ok(read / size_of::<Info>())
}
