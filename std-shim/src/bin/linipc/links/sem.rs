//! Slots in shared memory, handed over by semaphores of two families.

/// A System V set, and a segment.
pub(crate) mod sysv {
    use std::io;
    use std::rc::Rc;

    use linipc::core::shared::SharedBytes;
    use linipc::core::sysv::{sem, shm};
    use linipc::sysv::sem::{Op, Set};
    use linipc::sysv::shm::Segment;

    use crate::links::slots::{self, Semaphore, Slots};
    use crate::links::{Link, Prepared, Start};

    /// A private set and a private segment, found by their ids.
    pub(crate) fn prepare() -> io::Result<Prepared> {
        let set = Set::private(&slots::INITIAL.map(|value| value as u16))?;
        let segment = Segment::private(slots::LEN)?;
        let ids = [set.id().number(), segment.id().number()];
        Ok(Prepared {
            arguments: ids.map(|id| id.to_string().into()).into(),
            names: vec![Box::new(segment)],
            objects: vec![Box::new(set)],
            ..Prepared::default()
        })
    }

    /// The set and the segment with these ids.
    pub(crate) fn open(start: Start) -> io::Result<Box<dyn Link>> {
        let set = Rc::new(Set::from_id(sem::Id::new(start.argument(0)?)));
        let segment = Segment::from_id(shm::Id::new(start.argument(1)?));
        let semaphores = [0, 1, 2, 3].map(|number| Member {
            set: Rc::clone(&set),
            number,
        });
        let memory = segment.attach()?;
        Ok(Box::new(Slots::new(start.side, memory, semaphores)))
    }

    /// One semaphore of the set. Every operation is a system call, which orders the accesses to
    /// memory around it in both processes.
    #[derive(Debug)]
    struct Member {
        set: Rc<Set>,
        number: u16,
    }

    impl Semaphore for Member {
        fn wait(&mut self, _: SharedBytes<'_>) -> io::Result<()> {
            self.set.op(&[Op::new(self.number, -1)])
        }

        fn post(&mut self, _: SharedBytes<'_>) -> io::Result<()> {
            self.set.op(&[Op::new(self.number, 1)])
        }
    }
}

/// Named POSIX semaphores, and a shared memory object.
pub(crate) mod posix {
    use std::io;

    use linipc::core::shared::SharedBytes;
    use linipc::posix::sem;
    use linipc::posix::shm::SharedMemory;

    use crate::links::slots::{self, Semaphore, Slots};
    use crate::links::{Link, Prepared, Start, shm, unique_name};

    /// The object of `shm-posix`, and four names more.
    pub(crate) fn prepare() -> io::Result<Prepared> {
        let mut prepared = shm::posix::prepare()?;
        for value in slots::INITIAL {
            let name = format!("/{}", unique_name());
            let semaphore = sem::OpenOptions::new()
                .create_new(true)
                .value(value)
                .unlink_on_drop(true)
                .open(&name)?;
            prepared.arguments.push(name.into());
            prepared.names.push(Box::new(semaphore));
        }
        Ok(prepared)
    }

    /// All of them, by name.
    pub(crate) fn open(start: Start) -> io::Result<Box<dyn Link>> {
        let memory = SharedMemory::open(start.path(0)?)?.map()?;
        let open = |index| sem::Semaphore::open(start.path(index)?);
        let semaphores = [open(1)?, open(2)?, open(3)?, open(4)?];
        Ok(Box::new(Slots::new(start.side, memory, semaphores)))
    }

    /// A post releases and a wait acquires what was done to the slot, as sem_overview(7) promises.
    impl Semaphore for sem::Semaphore {
        fn wait(&mut self, _: SharedBytes<'_>) -> io::Result<()> {
            sem::Semaphore::wait(self)
        }

        fn post(&mut self, _: SharedBytes<'_>) -> io::Result<()> {
            sem::Semaphore::post(self)
        }
    }
}
