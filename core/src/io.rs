//! Reading, writing and the flags of descriptors, as rustix has them.
//!
//! Mirrors read(2), write(2), readv(2), dup(2), close(2) and fcntl(2).
//!
//! ```
//! use linipc_core::io;
//!
//! let (reader, writer) = linipc_core::pipe::pipe()?;
//! io::write(&writer, b"ping")?;
//! let mut buf = [0; 4];
//! assert_eq!(io::retry_on_intr(|| io::read(&reader, &mut buf))?, 4);
//! # Ok::<(), linipc_core::Errno>(())
//! ```

pub use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
pub use rustix::io::{
    DupFlags, FdFlags, IoSlice, IoSliceMut, ReadWriteFlags, dup, dup2, dup3, fcntl_dupfd_cloexec,
    fcntl_getfd, fcntl_setfd, ioctl_fionbio, pread, preadv, pwrite, pwritev, read, readv,
    retry_on_intr, write, writev,
};
