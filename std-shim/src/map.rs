//! Mappings: memory that several processes have.
//!
//! The types of [`linipc_core::map`], whose errors become [`std::io::Error`] with `?`.
//!
//! ```
//! use linipc::map::{Access, Region, reserve};
//!
//! # let path = std::env::temp_dir().join(format!("linipc-doc-map-{}", std::process::id()));
//! let file = std::fs::File::options().read(true).write(true).create_new(true).open(&path)?;
//! reserve(&file, 4096)?;
//! let region = Region::shared(&file, 0, 4096, Access::READ | Access::WRITE)?;
//! region.bytes().write(0, b"for every process that maps the file")?;
//! # std::fs::remove_file(&path)?;
//! # Ok::<(), std::io::Error>(())
//! ```

use std::io;
use std::os::fd::AsFd;

use linipc_core::io::retry_on_intr;
use linipc_core::map as core;

pub use linipc_core::map::{Access, Advice, MapFlags, MlockFlags, MsyncFlags, Region};
pub use linipc_core::shared::SharedBytes;

/// Makes a file at least `len` bytes long, with room in the file system for all of them, so that no
/// touch of a mapping finds none and raises `SIGBUS`.
///
/// # Errors
///
/// - `NOSPC`: the file system is full, or its quota is.
/// - `FBIG`: longer than a file may be. `PERM`: a seal forbids it. `BADF`: not open for writing.
/// - `NODEV`, `OPNOTSUPP`: not a file of a file system that can reserve. `INVAL`: `len` is 0.
pub fn reserve(file: impl AsFd, len: u64) -> io::Result<()> {
    Ok(retry_on_intr(|| core::reserve(&file, len))?)
}
