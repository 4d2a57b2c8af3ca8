//! The kernel structures that linux-raw-sys lacks, in the kernel's own names and field order.
//!
//! Mirrors `include/uapi/asm-generic/{ipcbuf,msgbuf,sembuf,shmbuf}.h` and
//! `include/uapi/linux/{msg,sem,shm,signalfd,futex}.h` with the deviations of each architecture. The sizes are
//! asserted below; `tests/abi.rs` compares every offset with the installed headers.

use core::ffi::{c_int, c_long, c_uint, c_ulong, c_ushort};
use core::sync::atomic::AtomicUsize;

use static_assertions::const_assert_eq;

/// `__kernel_mode_t`: 16 bits wide on the old 32-bit architectures.
#[cfg(any(target_arch = "x86", target_arch = "arm"))]
pub type mode_t = c_ushort;
/// `__kernel_mode_t`.
#[cfg(not(any(target_arch = "x86", target_arch = "arm")))]
pub type mode_t = c_uint;

// `<linux/ipc.h>`
pub const IPC_CREAT: c_int = 0o1000;
pub const IPC_EXCL: c_int = 0o2000;
pub const IPC_NOWAIT: c_int = 0o4000;
pub const IPC_RMID: c_int = 0;
pub const IPC_SET: c_int = 1;
pub const IPC_STAT: c_int = 2;
pub const IPC_INFO: c_int = 3;
pub const IPC_64: c_int = 0x100;

// `<linux/msg.h>`
pub const MSG_STAT: c_int = 11;
pub const MSG_INFO: c_int = 12;
pub const MSG_STAT_ANY: c_int = 13;
pub const MSG_NOERROR: c_int = 0o10000;
pub const MSG_EXCEPT: c_int = 0o20000;
pub const MSG_COPY: c_int = 0o40000;

// `<linux/sem.h>`
pub const SEM_UNDO: c_int = 0x1000;
pub const GETPID: c_int = 11;
pub const GETVAL: c_int = 12;
pub const GETALL: c_int = 13;
pub const GETNCNT: c_int = 14;
pub const GETZCNT: c_int = 15;
pub const SETVAL: c_int = 16;
pub const SETALL: c_int = 17;
pub const SEM_STAT: c_int = 18;
pub const SEM_INFO: c_int = 19;
pub const SEM_STAT_ANY: c_int = 20;

// `<linux/shm.h>`
pub const SHM_RDONLY: c_int = 0o10000;
pub const SHM_RND: c_int = 0o20000;
pub const SHM_REMAP: c_int = 0o40000;
pub const SHM_EXEC: c_int = 0o100000;
pub const SHM_HUGETLB: c_int = 0o4000;
pub const SHM_NORESERVE: c_int = 0o10000;
pub const SHM_LOCK: c_int = 11;
pub const SHM_UNLOCK: c_int = 12;
pub const SHM_STAT: c_int = 13;
pub const SHM_INFO: c_int = 14;
pub const SHM_STAT_ANY: c_int = 15;
// The mode bits that shmctl(2) describes; they are in no header that programs see.
pub const SHM_DEST: mode_t = 0o1000;
pub const SHM_LOCKED: mode_t = 0o2000;

// `<linux/socket.h>`, `<linux/udp.h>`, `<linux/errqueue.h>`, `<linux/vm_sockets.h>`
pub const SCM_PIDFD: c_uint = 4;
pub const MSG_ZEROCOPY: c_uint = 0x400_0000;
pub const UDP_SEGMENT: c_uint = 103;
pub const UDP_GRO: c_uint = 104;
pub const SO_EE_ORIGIN_ZEROCOPY: u8 = 5;
pub const SO_EE_CODE_ZEROCOPY_COPIED: u8 = 1;
pub const SOL_VSOCK: c_uint = 287;
pub const VSOCK_RECVERR: c_uint = 1;
pub const VMADDR_FLAG_TO_HOST: u8 = 1;
pub const IOCTL_VM_SOCKETS_GET_LOCAL_CID: c_uint = 0x7b9;

/// `struct ipc64_perm`, the head of every System V object.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub struct ipc64_perm {
    pub key: c_int,
    pub uid: c_uint,
    pub gid: c_uint,
    pub cuid: c_uint,
    pub cgid: c_uint,
    pub mode: mode_t,
    #[cfg(any(target_arch = "x86", target_arch = "arm", target_arch = "s390x"))]
    pub pad1: c_ushort,
    pub seq: c_ushort,
    #[cfg(not(target_arch = "s390x"))]
    pub pad2: c_ushort,
    pub unused: [c_ulong; 2],
}

/// A time in seconds: one word on 64-bit architectures, two on 32-bit ones.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub struct Time {
    low: c_ulong,
    #[cfg(target_pointer_width = "32")]
    high: c_ulong,
}

impl Time {
    /// Seconds since the epoch, or `None` for the 0 that means never.
    pub(crate) fn seconds(self) -> Option<i64> {
        #[cfg(target_pointer_width = "32")]
        let seconds = (u64::from(self.high) << 32 | u64::from(self.low)) as i64;
        #[cfg(target_pointer_width = "64")]
        let seconds = self.low as i64;
        (seconds != 0).then_some(seconds)
    }
}

/// `struct msqid64_ds`.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub struct msqid64_ds {
    pub msg_perm: ipc64_perm,
    pub msg_stime: Time,
    pub msg_rtime: Time,
    pub msg_ctime: Time,
    pub msg_cbytes: c_ulong,
    pub msg_qnum: c_ulong,
    pub msg_qbytes: c_ulong,
    pub msg_lspid: c_int,
    pub msg_lrpid: c_int,
    pub unused: [c_ulong; 2],
}

/// `struct msginfo`.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub struct msginfo {
    pub msgpool: c_int,
    pub msgmap: c_int,
    pub msgmax: c_int,
    pub msgmnb: c_int,
    pub msgmni: c_int,
    pub msgssz: c_int,
    pub msgtql: c_int,
    pub msgseg: c_ushort,
}

/// `struct shmid64_ds`.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub struct shmid64_ds {
    pub shm_perm: ipc64_perm,
    pub shm_segsz: usize,
    pub shm_atime: Time,
    pub shm_dtime: Time,
    pub shm_ctime: Time,
    pub shm_cpid: c_int,
    pub shm_lpid: c_int,
    pub shm_nattch: c_ulong,
    pub unused: [c_ulong; 2],
}

/// `struct shminfo64`.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub struct shminfo64 {
    pub shmmax: c_ulong,
    pub shmmin: c_ulong,
    pub shmmni: c_ulong,
    pub shmseg: c_ulong,
    pub shmall: c_ulong,
    pub unused: [c_ulong; 4],
}

/// `struct shm_info`.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub struct shm_info {
    pub used_ids: c_int,
    pub shm_tot: c_ulong,
    pub shm_rss: c_ulong,
    pub shm_swp: c_ulong,
    pub swap_attempts: c_ulong,
    pub swap_successes: c_ulong,
}

/// A time of `struct semid64_ds`: x86_64 pads each with a second word.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub struct SemTime {
    pub time: Time,
    #[cfg(target_arch = "x86_64")]
    pub unused: c_ulong,
}

/// `struct semid64_ds`.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub struct semid64_ds {
    pub sem_perm: ipc64_perm,
    pub sem_otime: SemTime,
    pub sem_ctime: SemTime,
    pub sem_nsems: c_ulong,
    pub unused: [c_ulong; 2],
}

/// `struct seminfo`.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub struct seminfo {
    pub semmap: c_int,
    pub semmni: c_int,
    pub semmns: c_int,
    pub semmnu: c_int,
    pub semmsl: c_int,
    pub semopm: c_int,
    pub semume: c_int,
    pub semusz: c_int,
    pub semvmx: c_int,
    pub semaem: c_int,
}

/// `struct mq_attr`.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub struct mq_attr {
    pub mq_flags: c_long,
    pub mq_maxmsg: c_long,
    pub mq_msgsize: c_long,
    pub mq_curmsgs: c_long,
    pub reserved: [c_long; 4],
}

/// `struct signalfd_siginfo`, the same on every architecture.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub struct signalfd_siginfo {
    pub ssi_signo: u32,
    pub ssi_errno: i32,
    pub ssi_code: i32,
    pub ssi_pid: u32,
    pub ssi_uid: u32,
    pub ssi_fd: i32,
    pub ssi_tid: u32,
    pub ssi_band: u32,
    pub ssi_overrun: u32,
    pub ssi_trapno: u32,
    pub ssi_status: i32,
    pub ssi_int: i32,
    pub ssi_ptr: u64,
    pub ssi_utime: u64,
    pub ssi_stime: u64,
    pub ssi_addr: u64,
    pub ssi_addr_lsb: u16,
    pub pad2: u16,
    pub ssi_syscall: i32,
    pub ssi_call_addr: u64,
    pub ssi_arch: u32,
    pub pad: [u8; 28],
}

const_assert_eq!(size_of::<signalfd_siginfo>(), 128);
const_assert_eq!(size_of::<mq_attr>(), size_of::<[c_long; 8]>());
const_assert_eq!(size_of::<msginfo>(), 32);
const_assert_eq!(size_of::<seminfo>(), 40);
const_assert_eq!(size_of::<shminfo64>(), size_of::<[c_ulong; 9]>());
const_assert_eq!(size_of::<shm_info>(), size_of::<[c_ulong; 6]>());

#[cfg(target_pointer_width = "64")]
mod sizes {
    use super::*;
    const_assert_eq!(size_of::<ipc64_perm>(), 48);
    const_assert_eq!(size_of::<msqid64_ds>(), 120);
    const_assert_eq!(size_of::<shmid64_ds>(), 112);
    #[cfg(target_arch = "x86_64")]
    const_assert_eq!(size_of::<semid64_ds>(), 104);
    #[cfg(not(target_arch = "x86_64"))]
    const_assert_eq!(size_of::<semid64_ds>(), 88);
}

#[cfg(target_pointer_width = "32")]
mod sizes {
    use super::*;
    const_assert_eq!(size_of::<ipc64_perm>(), 36);
    const_assert_eq!(size_of::<msqid64_ds>(), 88);
    const_assert_eq!(size_of::<shmid64_ds>(), 84);
    const_assert_eq!(size_of::<semid64_ds>(), 64);
}

/// `struct robust_list_head`: addresses and a distance, which the kernel reads when the thread ends.
#[repr(C)]
#[derive(Debug)]
pub struct robust_list_head {
    /// The first lock's link, or this.
    pub list: AtomicUsize,
    /// From a link to its lock word.
    pub futex_offset: AtomicUsize,
    /// The link of a lock that is being taken or given back.
    pub list_op_pending: AtomicUsize,
}

/// `struct sockaddr_vm`. That of linux-raw-sys has 128 bytes, because its `struct sockaddr` has.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub struct sockaddr_vm {
    pub svm_family: c_ushort,
    pub svm_reserved1: c_ushort,
    pub svm_port: c_uint,
    pub svm_cid: c_uint,
    pub svm_flags: u8,
    pub svm_zero: [u8; 3],
}

/// `struct sock_extended_err`, an entry of a socket's error queue.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub struct sock_extended_err {
    pub ee_errno: u32,
    pub ee_origin: u8,
    pub ee_type: u8,
    pub ee_code: u8,
    pub ee_pad: u8,
    pub ee_info: u32,
    pub ee_data: u32,
}

const_assert_eq!(size_of::<sockaddr_vm>(), 16);
const_assert_eq!(size_of::<sock_extended_err>(), 16);
