//! shmget(2), semget(2), msgget(2) and what goes with them; ftok(3).

use std::ffi::{c_char, c_int, c_long, c_void};
use std::mem::zeroed;
use std::ptr::{self, NonNull};

use linipc_core::Errno;
use linipc_core::sys::abi;
use linipc_core::sysv::msg::{self, Message, Receive, Select, Send};
use linipc_core::sysv::sem::{self, Op};
use linipc_core::sysv::shm::{self, Attach, Memory, Pages};
use linipc_core::sysv::{self, Create, Key, Mode, Owner, Permissions, Visibility};

use crate::memory::{get, put, slice, slice_mut, string, timespec};
use crate::{cancellation_point, export};

export! {
    /// ftok(3)
    fn ftok(path: *const c_char, id: c_int) -> c_int {
        sysv::ftok(string(path)?, id as u8).map(Key::number)
    }

    /// shmget(2)
    fn shmget(key: c_int, size: usize, flags: c_int) -> c_int {
        let pages = match (flags & libc::SHM_HUGETLB, flags >> libc::MAP_HUGE_SHIFT & 0x3f) {
            (0, _) => Pages::Usual,
            (_, 0) => Pages::Huge,
            (_, log2) => Pages::HugeOf { log2: log2 as u8 },
        };
        let no_reserve = flags & abi::SHM_NORESERVE != 0;
        let memory = Memory { pages, no_reserve };
        shm::get(Key::new(key), size, create(key, flags), memory).map(shm::Id::number)
    }

    /// shmop(2)
    fn shmat(id: c_int, address: *mut c_void, flags: c_int) -> *mut c_void {
        let (id, at) = (shm::Id::new(id), NonNull::new(address.cast()));
        let attach = Attach::from_bits_truncate(flags);
        let attachment = match at {
            Some(at) if flags & libc::SHM_REMAP != 0 => shm::attach_over(id, at, attach),
            None if flags & libc::SHM_REMAP != 0 => Err(Errno::INVAL),
            at => shm::attach(id, at, attach),
        };
        Ok(attachment?.into_raw().as_ptr().cast::<c_void>())
    }

    /// shmop(2)
    fn shmdt(address: *const c_void) -> c_int {
        let start = NonNull::new(address.cast_mut().cast()).ok_or(Errno::INVAL)?;
        shm::detach(start)
    }

    /// shmctl(2)
    fn shmctl(id: c_int, command: c_int, to: *mut c_void) -> c_int {
        let shm = shm::Id::new(id);
        match command {
            libc::IPC_STAT => put(to.cast(), shm_stat(shm::stat(shm)?)).map(|()| 0),
            libc::IPC_SET => {
                let perm = get(to.cast::<libc::shmid_ds>())?.shm_perm;
                shm::set(shm, owner(perm)).map(|()| 0)
            }
            libc::IPC_RMID => shm::remove(shm).map(|()| 0),
            libc::SHM_LOCK => shm::lock(shm).map(|()| 0),
            libc::SHM_UNLOCK => shm::unlock(shm).map(|()| 0),
            abi::SHM_STAT | abi::SHM_STAT_ANY => {
                let (found, stat) = shm::stat_index(index(id)?, visibility(command, abi::SHM_STAT))?;
                put(to.cast(), shm_stat(stat))?;
                Ok(found.number())
            }
            libc::IPC_INFO => {
                let limits = shm::limits()?;
                let info = abi::shminfo64 {
                    shmmax: limits.segment_bytes as _,
                    shmmin: 1,
                    shmmni: limits.segments as _,
                    shmseg: limits.segments as _,
                    shmall: limits.pages as _,
                    ..Default::default()
                };
                put(to.cast(), info)?;
                Ok(shm::usage()?.highest_index as c_int)
            }
            abi::SHM_INFO => {
                let usage = shm::usage()?;
                let info = abi::shm_info {
                    used_ids: usage.segments as _,
                    shm_tot: usage.pages as _,
                    shm_rss: usage.resident_pages as _,
                    shm_swp: usage.swapped_pages as _,
                    ..Default::default()
                };
                put(to.cast(), info)?;
                Ok(usage.highest_index as c_int)
            }
            _ => Err(Errno::INVAL),
        }
    }

    /// semget(2)
    fn semget(key: c_int, count: c_int, flags: c_int) -> c_int {
        let count = usize::try_from(count).map_err(|_| Errno::INVAL)?;
        sem::get(Key::new(key), count, create(key, flags)).map(sem::Id::number)
    }

    /// semop(2). The kernel wakes it, but no cancellation.
    fn semop(id: c_int, ops: *const Op, count: usize) -> c_int {
        sem::op(sem::Id::new(id), slice(ops, count)?)
    }

    /// semop(2)
    fn semtimedop(
        id: c_int,
        ops: *const Op,
        count: usize,
        timeout: *const libc::timespec,
    ) -> c_int {
        let (id, ops) = (sem::Id::new(id), slice(ops, count)?);
        match timeout.is_null() {
            true => sem::op(id, ops),
            false => sem::timedop(id, ops, &timespec(get(timeout)?)),
        }
    }

    /// semctl(2). C's fourth argument is variable: a union of an integer and pointers.
    fn semctl(id: c_int, number: c_int, command: c_int, argument: usize) -> c_int {
        let (set, to) = (sem::Id::new(id), argument as *mut c_void);
        let num = u16::try_from(number).map_err(|_| Errno::INVAL);
        match command {
            libc::GETVAL => sem::getval(set, num?).map(c_int::from),
            libc::GETPID => sem::getpid(set, num?),
            libc::GETNCNT => sem::getncnt(set, num?).map(|count| count as c_int),
            libc::GETZCNT => sem::getzcnt(set, num?).map(|count| count as c_int),
            libc::SETVAL => {
                let value = u16::try_from(argument as c_int).map_err(|_| Errno::RANGE)?;
                sem::setval(set, num?, value).map(|()| 0)
            }
            libc::GETALL => {
                sem::getall(set, slice_mut(to.cast(), sem::stat(set)?.semaphores)?).map(|()| 0)
            }
            libc::SETALL => {
                sem::setall(set, slice(to.cast(), semaphores(set)?)?).map(|()| 0)
            }
            libc::IPC_STAT => put(to.cast(), sem_stat(sem::stat(set)?)).map(|()| 0),
            libc::IPC_SET => {
                let perm = get(to.cast::<libc::semid_ds>())?.sem_perm;
                sem::set(set, owner(perm)).map(|()| 0)
            }
            libc::IPC_RMID => sem::remove(set).map(|()| 0),
            libc::SEM_STAT | abi::SEM_STAT_ANY => {
                let (found, stat) = sem::stat_index(index(id)?, visibility(command, libc::SEM_STAT))?;
                put(to.cast(), sem_stat(stat))?;
                Ok(found.number())
            }
            libc::IPC_INFO | libc::SEM_INFO => {
                let (limits, usage) = (sem::limits()?, sem::usage()?);
                // What the kernel has no limits of, it makes up so.
                let mut info = abi::seminfo {
                    semmap: limits.semaphores as _,
                    semmni: limits.sets as _,
                    semmns: limits.semaphores as _,
                    semmnu: limits.semaphores as _,
                    semmsl: limits.set_semaphores as _,
                    semopm: limits.ops as _,
                    semume: limits.ops as _,
                    semusz: 20,
                    semvmx: sem::VALUE_MAX.into(),
                    semaem: sem::VALUE_MAX.into(),
                };
                if command == libc::SEM_INFO {
                    info.semusz = usage.sets as _;
                    info.semaem = usage.semaphores as _;
                }
                put(to.cast(), info)?;
                Ok(usage.highest_index as c_int)
            }
            _ => Err(Errno::INVAL),
        }
    }

    /// msgget(2)
    fn msgget(key: c_int, flags: c_int) -> c_int {
        msg::get(Key::new(key), create(key, flags)).map(msg::Id::number)
    }

    /// msgop(2)
    fn msgsnd(id: c_int, message: *const c_void, len: usize, flags: c_int) -> c_int {
        cancellation_point();
        let message = &*message_of(message.cast_mut(), len)?;
        msg::send(msg::Id::new(id), message, Send::from_bits_retain(flags))
    }

    /// msgop(2)
    fn msgrcv(id: c_int, message: *mut c_void, len: usize, kind: c_long, flags: c_int) -> isize {
        cancellation_point();
        let (id, message) = (msg::Id::new(id), &mut *message_of(message, len)?);
        let receive = Receive::from_bits_truncate(flags);
        if flags & libc::MSG_COPY != 0 {
            if flags & libc::MSG_EXCEPT != 0 || flags & libc::IPC_NOWAIT == 0 {
                return Err(Errno::INVAL);
            }
            let index = usize::try_from(kind).map_err(|_| Errno::NOMSG)?;
            return msg::peek(id, message, index, receive);
        }
        let select = match kind {
            0 => Select::First,
            ..0 => Select::UpTo(kind.checked_neg().unwrap_or(c_long::MAX)),
            _ if flags & libc::MSG_EXCEPT != 0 => Select::Except(kind),
            _ => Select::Type(kind),
        };
        msg::receive(id, message, select, receive)
    }

    /// msgctl(2)
    fn msgctl(id: c_int, command: c_int, to: *mut c_void) -> c_int {
        let queue = msg::Id::new(id);
        match command {
            libc::IPC_STAT => put(to.cast(), msg_stat(msg::stat(queue)?)).map(|()| 0),
            libc::IPC_SET => {
                let ds = get(to.cast::<libc::msqid_ds>())?;
                msg::set(queue, owner(ds.msg_perm), ds.msg_qbytes as usize).map(|()| 0)
            }
            libc::IPC_RMID => msg::remove(queue).map(|()| 0),
            libc::MSG_STAT | abi::MSG_STAT_ANY => {
                let (found, stat) = msg::stat_index(index(id)?, visibility(command, libc::MSG_STAT))?;
                put(to.cast(), msg_stat(stat))?;
                Ok(found.number())
            }
            libc::IPC_INFO | libc::MSG_INFO => {
                let (limits, usage) = (msg::limits()?, msg::usage()?);
                // What the kernel has no limits of, it makes up so.
                let mut info = abi::msginfo {
                    msgpool: 32000 * 16384 / 1024,
                    msgmap: 16384,
                    msgmax: limits.message_bytes as _,
                    msgmnb: limits.queue_bytes as _,
                    msgmni: limits.queues as _,
                    msgssz: 16,
                    msgtql: 16384,
                    msgseg: 0xffff,
                };
                if command == libc::MSG_INFO {
                    info.msgpool = usage.queues as _;
                    info.msgmap = usage.messages as _;
                    info.msgtql = usage.bytes as _;
                }
                put(to.cast(), info)?;
                Ok(usage.highest_index as c_int)
            }
            _ => Err(Errno::INVAL),
        }
    }
}

/// Without `IPC_CREAT`, the permissions in `flags` are those that an existing object must grant.
fn create(key: c_int, flags: c_int) -> Create {
    let mode = Mode::from_bits_retain(flags as u32 & 0o777);
    match (flags & libc::IPC_CREAT, flags & libc::IPC_EXCL) {
        (0, _) if key != libc::IPC_PRIVATE => Create::Granting(mode),
        (0, _) | (_, 0) => Create::Open(mode),
        _ => Create::Exclusive(mode),
    }
}

/// How many there are, also of a set that may only be written.
fn semaphores(set: sem::Id) -> Result<usize, Errno> {
    let stat = sem::stat(set);
    if stat != Err(Errno::ACCESS) {
        return Ok(stat?.semaphores);
    }
    // The kernel finds an id at its index: which bits that is, only the kernel knows (`ipcmni_extend`).
    match sem::stat_index(index(set.number())?, Visibility::Any)? {
        (found, stat) if found == set => Ok(stat.semaphores),
        _ => Err(Errno::ACCESS),
    }
}

unsafe fn message_of(start: *mut c_void, len: usize) -> Result<*mut Message, Errno> {
    match start.is_null() {
        _ if len > isize::MAX as usize => Err(Errno::INVAL),
        true => Err(Errno::FAULT),
        false => Ok(ptr::slice_from_raw_parts_mut(start.cast::<c_long>(), len) as *mut Message),
    }
}

fn index(id: c_int) -> Result<usize, Errno> {
    usize::try_from(id).map_err(|_| Errno::INVAL)
}

fn visibility(command: c_int, readable: c_int) -> Visibility {
    match command == readable {
        true => Visibility::Readable,
        false => Visibility::Any,
    }
}

fn owner(perm: libc::ipc_perm) -> Owner {
    Owner {
        uid: perm.uid,
        gid: perm.gid,
        mode: Mode::from_bits_retain(u32::from(perm.mode) & 0o777),
    }
}

/// Core does not tell of the sequence number, which is 0 here.
unsafe fn permissions(from: Permissions) -> libc::ipc_perm {
    let mut to: libc::ipc_perm = zeroed();
    to.__key = from.key.number();
    to.uid = from.uid;
    to.gid = from.gid;
    to.cuid = from.creator_uid;
    to.cgid = from.creator_gid;
    to.mode = from.mode.bits() as _;
    to
}

unsafe fn shm_stat(from: shm::Stat) -> libc::shmid_ds {
    let mut shm_perm = permissions(from.permissions);
    if from.removed {
        shm_perm.mode |= abi::SHM_DEST as libc::c_ushort;
    }
    if from.locked {
        shm_perm.mode |= abi::SHM_LOCKED as libc::c_ushort;
    }
    let mut to: libc::shmid_ds = zeroed();
    to.shm_perm = shm_perm;
    to.shm_segsz = from.size;
    to.shm_atime = from.last_attach.unwrap_or(0);
    to.shm_dtime = from.last_detach.unwrap_or(0);
    to.shm_ctime = from.last_change.unwrap_or(0);
    to.shm_cpid = from.creator;
    to.shm_lpid = from.last_user;
    to.shm_nattch = from.attachments as _;
    to
}

unsafe fn sem_stat(from: sem::Stat) -> libc::semid_ds {
    let mut to: libc::semid_ds = zeroed();
    to.sem_perm = permissions(from.permissions);
    to.sem_otime = from.last_op.unwrap_or(0);
    to.sem_ctime = from.last_change.unwrap_or(0);
    to.sem_nsems = from.semaphores as _;
    to
}

unsafe fn msg_stat(from: msg::Stat) -> libc::msqid_ds {
    let mut to: libc::msqid_ds = zeroed();
    to.msg_perm = permissions(from.permissions);
    to.msg_stime = from.last_send.unwrap_or(0);
    to.msg_rtime = from.last_receive.unwrap_or(0);
    to.msg_ctime = from.last_change.unwrap_or(0);
    to.__msg_cbytes = from.bytes as _;
    to.msg_qnum = from.messages as _;
    to.msg_qbytes = from.max_bytes as _;
    to.msg_lspid = from.last_sender;
    to.msg_lrpid = from.last_receiver;
    to
}
