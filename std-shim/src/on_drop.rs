//! Removal on drop: chosen when a handle is made, and done by that handle only, in that process
//! only.

use std::io;
use std::process;

/// Removes an object on drop, if that was chosen.
///
/// A child after fork(2) has a copy, which does nothing: the object is its parent's.
#[derive(Debug)]
pub(crate) struct RemoveOnDrop<T>(Option<Chosen<T>>);

#[derive(Debug)]
struct Chosen<T> {
    object: T,
    remove: fn(&T) -> io::Result<()>,
    /// The process that chose.
    process: u32,
}

impl<T> RemoveOnDrop<T> {
    /// The object stays.
    pub(crate) const NEVER: Self = Self(None);

    /// Calls `remove` with the object, if there is one.
    pub(crate) fn new(object: Option<T>, remove: fn(&T) -> io::Result<()>) -> Self {
        Self(object.map(|object| Chosen {
            object,
            remove,
            process: process::id(),
        }))
    }

    /// Lets the object stay after all.
    pub(crate) fn persist(&mut self) {
        self.0 = None;
    }
}

impl<T> Drop for RemoveOnDrop<T> {
    fn drop(&mut self) {
        if let Some(chosen) = &self.0
            && chosen.process == process::id()
        {
            // It may be gone already, which is what was wanted.
            let _ = (chosen.remove)(&chosen.object);
        }
    }
}
