//! Mappings: memory that several processes have. The types of [`linipc_core::map`], whose errors
//! become [`std::io::Error`] with `?`.
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

pub use linipc_core::map::{Access, Advice, MapFlags, MlockFlags, MsyncFlags, Region, reserve};
pub use linipc_core::shared::SharedBytes;
