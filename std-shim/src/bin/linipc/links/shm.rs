//! Slots in shared memory of three kinds, handed over by futexes.

use linipc::core::map::Region;
use linipc::core::shared::SharedBytes;

use super::slots::{Memory, Slots, Words};
use super::{Link, Side};

/// The link over memory that is all zero.
pub(super) fn link(side: Side, memory: impl Memory + 'static) -> Box<dyn Link> {
    Box::new(Slots::new(side, memory, Words::four()))
}

impl Memory for Region {
    fn bytes(&self) -> SharedBytes<'_> {
        self.bytes()
    }
}

/// System V segments.
pub(crate) mod sysv {
    use std::io;

    use linipc::core::shared::SharedBytes;
    use linipc::core::sysv::shm::Id;
    use linipc::sysv::shm::{Attachment, Segment};

    use crate::links::slots::Memory;
    use crate::links::{Link, Prepared, Start, slots};

    impl Memory for Attachment {
        fn bytes(&self) -> SharedBytes<'_> {
            self.bytes()
        }
    }

    /// A private segment, found by its id. When it is removed, the kernel keeps it for those who
    /// have it attached.
    pub(crate) fn prepare() -> io::Result<Prepared> {
        let segment = Segment::private(slots::LEN)?;
        Ok(Prepared {
            arguments: vec![segment.id().number().to_string().into()],
            names: vec![Box::new(segment)],
            ..Prepared::default()
        })
    }

    /// Attaches it.
    pub(crate) fn open(start: Start) -> io::Result<Box<dyn Link>> {
        let segment = Segment::from_id(Id::new(start.argument(0)?));
        Ok(super::link(start.side, segment.attach()?))
    }
}

/// POSIX shared memory objects.
pub(crate) mod posix {
    use std::io;

    use linipc::posix::shm::{OpenOptions, SharedMemory};

    use crate::links::{Link, Prepared, Start, slots, unique_name};

    /// An object, found by its name.
    pub(crate) fn prepare() -> io::Result<Prepared> {
        let name = format!("/{}", unique_name());
        let memory = OpenOptions::new()
            .create_new(true)
            .size(slots::LEN as u64)
            .unlink_on_drop(true)
            .open(&name)?;
        Ok(Prepared {
            arguments: vec![name.into()],
            names: vec![Box::new(memory)],
            ..Prepared::default()
        })
    }

    /// Maps it.
    pub(crate) fn open(start: Start) -> io::Result<Box<dyn Link>> {
        let memory = SharedMemory::open(start.path(0)?)?;
        Ok(super::link(start.side, memory.map()?))
    }
}

/// Memory that only descriptors lead to.
pub(crate) mod memfd {
    use std::io;

    use linipc::memfd::{Memfd, MemfdOptions};

    use crate::links::{Link, Prepared, Start, slots};

    /// One of them, for both, of a length that neither can change.
    pub(crate) fn prepare() -> io::Result<Prepared> {
        let memory = MemfdOptions::new()
            .size(slots::LEN as u64)
            .seals(Memfd::FIXED_LENGTH)
            .create("linipc")?;
        Ok(Prepared {
            descriptors: [
                vec![memory.as_file().try_clone()?.into()],
                vec![memory.into()],
            ],
            ..Prepared::default()
        })
    }

    /// Maps it.
    pub(crate) fn open(start: Start) -> io::Result<Box<dyn Link>> {
        let side = start.side;
        let [memory] = start.descriptors()?;
        let memory = Memfd::from(memory).require(Memfd::FIXED_LENGTH)?;
        Ok(super::link(side, memory.map()?))
    }
}
