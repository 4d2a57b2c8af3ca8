//! The raw system calls: the only assembly of the crate.
//!
//! `call!` makes one system call, with its number from linux-raw-sys, and gives what the kernel
//! returned as `Result<usize, Errno>`. The expression is one unsafe operation. Its contract, which
//! every `SAFETY` comment beside a `call!` answers: each pointer argument is valid for the reads
//! and writes that the call's man page names, for as long as the kernel uses it, and the call
//! leaves no descriptor or mapping that Rust code owns in a state it does not expect.
//!
//! Everything here is inlined, so that nothing but the `syscall` instruction is left of it in its user
//! (`tests/no_libc.rs` looks).

use rustix::io::Errno;
use rustix::time::{ClockId, Timespec};

use crate::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

#[cfg(not(any(
    all(target_arch = "x86_64", target_pointer_width = "64"),
    all(target_arch = "aarch64", target_pointer_width = "64"),
    target_arch = "riscv64",
    target_arch = "x86",
    target_arch = "arm",
    target_arch = "s390x",
)))]
compile_error!("linipc-core has no system calls for this architecture");

#[cfg_attr(target_arch = "x86_64", path = "x86_64.rs")]
#[cfg_attr(target_arch = "aarch64", path = "aarch64.rs")]
#[cfg_attr(target_arch = "riscv64", path = "riscv64.rs")]
#[cfg_attr(target_arch = "x86", path = "x86.rs")]
#[cfg_attr(target_arch = "arm", path = "arm.rs")]
#[cfg_attr(target_arch = "s390x", path = "s390x.rs")]
pub(crate) mod arch;

pub mod abi;
pub(crate) mod copy;

/// Makes one system call, by the name of its number, with typed arguments (see [`Arg`]).
macro_rules! call {
    ($name:ident, $a:expr) => {
        $crate::sys::call!(@ call1, $name, $a)
    };
    ($name:ident, $a:expr, $b:expr) => {
        $crate::sys::call!(@ call2, $name, $a, $b)
    };
    ($name:ident, $a:expr, $b:expr, $c:expr) => {
        $crate::sys::call!(@ call3, $name, $a, $b, $c)
    };
    ($name:ident, $a:expr, $b:expr, $c:expr, $d:expr) => {
        $crate::sys::call!(@ call4, $name, $a, $b, $c, $d)
    };
    ($name:ident, $a:expr, $b:expr, $c:expr, $d:expr, $e:expr) => {
        $crate::sys::call!(@ call5, $name, $a, $b, $c, $d, $e)
    };
    ($name:ident, $a:expr, $b:expr, $c:expr, $d:expr, $e:expr, $f:expr) => {
        $crate::sys::call!(@ call6, $name, $a, $b, $c, $d, $e, $f)
    };
    (@ $arity:ident, $name:ident $(, $arg:expr)*) => {
        $crate::sys::decode($crate::sys::arch::$arity(
            $crate::sys::nr::$name,
            $($crate::sys::Arg::register($arg)),*
        ))
    };
}
pub(crate) use call;

/// The call numbers of linux-raw-sys. Where the 32-bit kernels have two forms of a call, the name
/// means the one with 64-bit times and offsets.
pub mod nr {
    pub use linux_raw_sys::general::*;

    #[cfg(target_pointer_width = "32")]
    pub use linux_raw_sys::general::{
        __NR_clock_gettime64 as __NR_clock_gettime, __NR_fcntl64 as __NR_fcntl,
        __NR_mq_timedreceive_time64 as __NR_mq_timedreceive,
        __NR_mq_timedsend_time64 as __NR_mq_timedsend, __NR_recvmmsg_time64 as __NR_recvmmsg,
        __NR_semtimedop_time64 as __NR_semtimedop,
    };

    /// Reserved there, so the kernel says `NOSYS`.
    #[cfg(target_arch = "arm")]
    pub const __NR_memfd_secret: u32 = 447;
}

/// Decodes what the kernel returned: values from -4095 to -1 are negated error numbers
/// (syscall(2)).
///
/// Not `inline(always)`: so it is one place where the compiler looks into `from_raw_os_error`, and sees that
/// the panic there is none of these numbers'. It would not look in many places on s390x.
#[inline]
pub(crate) fn decode(ret: usize) -> Result<usize, Errno> {
    match ret.wrapping_neg() {
        error @ 1..=4095 => Err(Errno::from_raw_os_error(error as i32)),
        _ => Ok(ret),
    }
}

/// The descriptor that a call has opened.
///
/// # Errors
///
/// `BADF`: not the number of one, which no call gives. The compiler does not know that, and would keep
/// the panic of std's `from_raw_fd`, as it does in rustix's calls that open descriptors: so all of these are ours.
///
/// # Safety
///
/// If it is a descriptor, nobody else may own it.
#[inline(always)]
pub(crate) unsafe fn own(number: usize) -> Result<OwnedFd, Errno> {
    if number > i32::MAX as usize {
        return Err(Errno::BADF);
    }
    // SAFETY: The caller's promise.
    Ok(unsafe { OwnedFd::from_raw_fd(number as i32) })
}

/// The two descriptors that a call has opened.
///
/// # Errors
///
/// As of [`own`].
///
/// # Safety
///
/// As for [`own`].
#[inline(always)]
pub(crate) unsafe fn own_pair([first, second]: [u32; 2]) -> Result<(OwnedFd, OwnedFd), Errno> {
    // SAFETY: The caller's promise.
    let first = unsafe { own(first as usize) }?;
    // SAFETY: The caller's promise.
    let second = unsafe { own(second as usize) }?;
    Ok((first, second))
}

/// The time with 64-bit fields on every architecture, as the calls of [`nr`] take it.
#[inline]
pub(crate) fn timespec(time: Timespec) -> nr::__kernel_timespec {
    #[allow(
        clippy::useless_conversion,
        reason = "a C long in rustix's libc backend"
    )]
    nr::__kernel_timespec {
        tv_sec: time.tv_sec.into(),
        tv_nsec: time.tv_nsec.into(),
    }
}

/// The time of a clock. With std it is read from memory that the kernel keeps mapped (vdso(7)). What finds
/// that memory is larger than most static programs, so without std the kernel is asked.
///
/// The kernel knows all clocks of the type, so only a filter (seccomp(2)) can refuse. Then the clock is at
/// its end: whoever compares a deadline with it finds that it has passed, and does not wait for ever.
#[inline]
pub(crate) fn clock_gettime(clock: ClockId) -> Timespec {
    #[cfg(feature = "std")]
    return rustix::time::clock_gettime(clock);
    #[cfg(not(feature = "std"))]
    {
        let mut time = nr::__kernel_timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        // SAFETY: The call writes one time.
        let read = unsafe { call!(__NR_clock_gettime, clock as u32, &raw mut time) };
        match read {
            Ok(_) => Timespec {
                tv_sec: time.tv_sec,
                tv_nsec: time.tv_nsec,
            },
            Err(_) => Timespec {
                tv_sec: i64::MAX,
                tv_nsec: 0,
            },
        }
    }
}

/// A value that fits the register of one system call argument.
pub(crate) trait Arg {
    /// The register's contents.
    fn register(self) -> usize;
}

impl Arg for usize {
    #[inline(always)]
    fn register(self) -> usize {
        self
    }
}

impl Arg for isize {
    #[inline(always)]
    fn register(self) -> usize {
        self as usize
    }
}

impl Arg for i32 {
    #[inline(always)]
    fn register(self) -> usize {
        self as isize as usize
    }
}

impl Arg for u32 {
    #[inline(always)]
    fn register(self) -> usize {
        self as usize
    }
}

impl<T> Arg for *const T {
    #[inline(always)]
    fn register(self) -> usize {
        self as usize
    }
}

impl<T> Arg for *mut T {
    #[inline(always)]
    fn register(self) -> usize {
        self as usize
    }
}

impl Arg for BorrowedFd<'_> {
    #[inline(always)]
    fn register(self) -> usize {
        self.as_raw_fd() as isize as usize
    }
}
