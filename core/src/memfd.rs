//! x
pub use rustix::fs::{MemfdFlags as Flags, memfd_create as create};
