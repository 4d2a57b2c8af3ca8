//! The memory of another process, read and written in place.
//!
//! Built on [`linipc_core::process_vm`], which has the pitfalls, and says who may do this.
//!
//! ```
//! use linipc::process_vm::Memory;
//!
//! let words = *b"some words elsewhere";
//! let memory = Memory::of(std::process::id())?;
//! let mut copy = [0; 10];
//! memory.read_exact_at(&mut copy, words.as_ptr() as usize)?;
//! assert_eq!(&copy, b"some words");
//! # Ok::<(), std::io::Error>(())
//! ```

use std::io::{self, IoSlice, IoSliceMut};
use std::process::Child;

use linipc_core::Errno;
use linipc_core::process_vm as core;

pub use linipc_core::process_vm::{IOV_MAX, Pid, Remote};

/// The memory of a process, by its id: nothing is checked before it is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Memory {
    pid: Pid,
}

impl Memory {
    /// The memory of the process with this id, as [`std::process::id`] and [`Child::id`] give it.
    ///
    /// # Errors
    ///
    /// `INVAL`: no process has such an id.
    pub fn of(pid: u32) -> io::Result<Self> {
        let raw = i32::try_from(pid).map_err(|_| Errno::INVAL)?;
        let pid = Pid::from_raw(raw).ok_or(Errno::INVAL)?;
        Ok(Self { pid })
    }

    /// The process.
    pub const fn pid(self) -> Pid {
        self.pid
    }

    /// Reads from `address` into `buffer`; gives how many bytes, fewer if an inaccessible page
    /// follows.
    ///
    /// # Errors
    ///
    /// - `PERM`: the caller may not trace the process. `SRCH`: there is no such process.
    /// - `FAULT`: nothing is accessible at `address`.
    #[inline]
    pub fn read_at(self, buffer: &mut [u8], address: usize) -> io::Result<usize> {
        Ok(core::read(self.pid, address, buffer)?)
    }

    /// Reads all of `buffer` from `address`.
    ///
    /// # Errors
    ///
    /// Those of [`Memory::read_at`], and `FAULT` also if only a part is accessible.
    #[inline]
    pub fn read_exact_at(self, buffer: &mut [u8], address: usize) -> io::Result<()> {
        whole(buffer.len(), |done| {
            core::read(self.pid, address.wrapping_add(done), &mut buffer[done..])
        })
    }

    /// Reads the ranges of `remote`, in order, into the buffers of `local`; gives how many bytes.
    ///
    /// # Errors
    ///
    /// Those of [`Memory::read_at`]; `INVAL`: more than [`IOV_MAX`] of either.
    pub fn read_vectored(
        self,
        local: &mut [IoSliceMut<'_>],
        remote: &[Remote],
    ) -> io::Result<usize> {
        Ok(core::readv(self.pid, local, remote)?)
    }

    /// Writes `buffer` to `address`; gives how many bytes, fewer if an inaccessible page follows.
    ///
    /// # Errors
    ///
    /// Those of [`Memory::read_at`].
    ///
    /// # Safety
    ///
    /// The program in the process must expect that these bytes change, now and to these values: see
    /// [`linipc_core::process_vm::writev`].
    pub unsafe fn write_at(self, buffer: &[u8], address: usize) -> io::Result<usize> {
        // SAFETY: The caller's promise.
        Ok(unsafe { core::write(self.pid, address, buffer) }?)
    }

    /// Writes all of `buffer` to `address`.
    ///
    /// # Errors
    ///
    /// Those of [`Memory::read_at`], and `FAULT` also if only a part is accessible; that part is
    /// written.
    ///
    /// # Safety
    ///
    /// That of [`Memory::write_at`].
    pub unsafe fn write_all_at(self, buffer: &[u8], address: usize) -> io::Result<()> {
        whole(buffer.len(), |done| {
            // SAFETY: The caller's promise.
            unsafe { core::write(self.pid, address.wrapping_add(done), &buffer[done..]) }
        })
    }

    /// Writes the buffers of `local`, in order, to the ranges of `remote`; gives how many bytes.
    ///
    /// # Errors
    ///
    /// Those of [`Memory::read_vectored`].
    ///
    /// # Safety
    ///
    /// That of [`Memory::write_at`].
    pub unsafe fn write_vectored(
        self,
        local: &[IoSlice<'_>],
        remote: &[Remote],
    ) -> io::Result<usize> {
        // SAFETY: The caller's promise.
        Ok(unsafe { core::writev(self.pid, local, remote) }?)
    }
}

impl TryFrom<&Child> for Memory {
    type Error = io::Error;

    /// While the [`Child`] is not waited for, its id belongs to it.
    fn try_from(child: &Child) -> io::Result<Self> {
        Self::of(child.id())
    }
}

/// Transfers from how many bytes are done until all of `len` are.
fn whole(len: usize, mut transfer: impl FnMut(usize) -> Result<usize, Errno>) -> io::Result<()> {
    let mut done = 0;
    while done < len {
        match transfer(done)? {
            0 => return Err(Errno::FAULT.into()),
            moved => done += moved,
        }
    }
    Ok(())
}
