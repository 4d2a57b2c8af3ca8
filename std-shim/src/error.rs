//! Errors: `Errno` as [`io::Error`], and errors that name the limit that was hit.
//!
//! The calls of this crate return [`io::Error`]. What is re-exported from core as it is (its types,
//! such as [`Region`](crate::map::Region), and plain questions to the kernel, such as `limits`,
//! `usage` and [`ftok`](crate::sysv::ftok)) returns [`Errno`], which becomes an [`io::Error`] with
//! `?`. [`errno`] gives the kernel's error number back, also of an error that carries a [`Limit`],
//! for which [`io::Error::raw_os_error`] has none.

use std::fmt;
use std::io;

use linipc_core::Errno;

/// A limit of the system that made a call fail.
///
/// It is the inner error of an [`io::Error`]: `error.get_ref()?.downcast_ref::<Limit>()`.
///
/// ```
/// use linipc::error::{Limit, errno};
/// use linipc::sysv::msg::Queue;
///
/// let queue = Queue::private()?;
/// let error = queue.send(1, &[0; 1 << 20]).unwrap_err();
/// let limit = error.get_ref().unwrap().downcast_ref::<Limit>().unwrap();
/// assert_eq!(limit.setting, "kernel.msgmax");
/// assert_eq!(errno(&error), Some(linipc::Errno::INVAL));
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limit {
    /// What the kernel said.
    pub errno: Errno,
    /// What is limited, in words: "bytes in a message".
    pub what: &'static str,
    /// The most that is allowed now.
    pub value: u64,
    /// The sysctl or resource limit that sets it: "kernel.msgmax", "RLIMIT_MSGQUEUE".
    pub setting: &'static str,
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            errno,
            what,
            value,
            setting,
        } = self;
        write!(
            f,
            "{}: at most {value} {what} ({setting})",
            io::Error::from(*errno)
        )
    }
}

impl std::error::Error for Limit {}

impl From<Limit> for io::Error {
    fn from(limit: Limit) -> Self {
        Self::new(Self::from(limit.errno).kind(), limit)
    }
}

/// The kernel's error number of an error from this crate or from std.
///
/// ```
/// use linipc::error::errno;
///
/// let error = std::fs::File::open("/nowhere").unwrap_err();
/// assert_eq!(errno(&error), Some(linipc::Errno::NOENT));
/// assert_eq!(errno(&std::io::Error::other("no number")), None);
/// assert_eq!(errno(&std::io::Error::from_raw_os_error(0)), None);
/// ```
pub fn errno(error: &io::Error) -> Option<Errno> {
    match error.raw_os_error() {
        Some(raw @ 1..=4095) => Some(Errno::from_raw_os_error(raw)),
        Some(_) => None,
        None => error
            .get_ref()?
            .downcast_ref::<Limit>()
            .map(|limit| limit.errno),
    }
}
