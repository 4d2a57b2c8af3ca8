//! What linipc-core says about the kernel's interface on this architecture, as a C program that does not
//! compile if the kernel's headers say something else.
//!
//! `tests/abi.rs` compiles it with this machine's headers. On every other architecture the program of
//! the same name in `tests/static` prints it, and `tests/cross` compiles that with its headers.

use core::ffi::c_ulong;
use core::mem::{offset_of, size_of};

use linipc_core::event::{eventfd, signalfd, timerfd};
use linipc_core::socket::vsock::{Cid, FAMILY, PORT_ANY};
use linipc_core::sys::{abi, nr};
use linipc_core::sysv::sem;
use linipc_core::{futex, process_vm};

const HEADERS: &str = "\
#include <stddef.h>
#include <time.h>
#include <sys/socket.h>
#include <asm/unistd.h>
#include <linux/errqueue.h>
#include <linux/futex.h>
#include <linux/ipc.h>
#include <linux/mqueue.h>
#include <linux/msg.h>
#include <linux/sem.h>
#include <linux/shm.h>
#include <linux/signalfd.h>
#include <linux/udp.h>
#include <linux/vm_sockets.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/timerfd.h>
#include <sys/uio.h>
#define SAYS(expression, ours) _Static_assert((expression) == (ours), #expression)
";

/// Writes the program, piece by piece.
pub fn source(write: &mut dyn FnMut(&str)) {
    /// The size of a structure and the offsets of its fields, which have the C names.
    macro_rules! structure {
        ($c:literal = $rust:ty { $($field:ident),* $(,)? }) => {
            says(write, concat!("sizeof(struct ", $c, ")"), size_of::<$rust>() as i64);
            $(says(
                write,
                concat!("offsetof(struct ", $c, ", ", stringify!($field), ")"),
                offset_of!($rust, $field) as i64,
            );)*
        };
    }
    /// The second words of times, on 32-bit architectures.
    macro_rules! high_words {
        ($c:literal = $rust:ty { $($field:ident),* $(,)? }) => {
            $(if cfg!(target_pointer_width = "32") {
                says(
                    write,
                    concat!("offsetof(struct ", $c, ", ", stringify!($field), "_high)"),
                    (offset_of!($rust, $field) + size_of::<c_ulong>()) as i64,
                );
            })*
        };
    }
    /// Constants of `abi`, which have the C names.
    macro_rules! constants {
        ($($name:ident),* $(,)?) => {
            $(says(write, stringify!($name), i64::from(abi::$name));)*
        };
    }
    /// Constants that older headers lack: compared where they are.
    macro_rules! recent {
        ($($name:ident),* $(,)?) => {
            $(write(concat!("#ifdef ", stringify!($name), "\n"));
            says(write, stringify!($name), i64::from(abi::$name));
            write("#endif\n");)*
        };
    }
    /// The numbers of calls that core makes by itself.
    macro_rules! numbers {
        ($($name:ident),* $(,)?) => {
            $(says(write, stringify!($name), i64::from(nr::$name));)*
        };
    }
    /// The same where the headers of 32-bit architectures have another name.
    macro_rules! numbers_of_64_bit_forms {
        ($($name:ident = $there:ident),* $(,)?) => {
            $(says(
                write,
                if cfg!(target_pointer_width = "32") { stringify!($there) } else { stringify!($name) },
                i64::from(nr::$name),
            );)*
        };
    }

    write(HEADERS);
    structure!(
        "ipc64_perm" = abi::ipc64_perm {
            key,
            uid,
            gid,
            cuid,
            cgid,
            mode,
            seq
        }
    );
    says(
        write,
        "sizeof(__kernel_mode_t)",
        size_of::<abi::mode_t>() as i64,
    );
    structure!(
        "robust_list_head" = abi::robust_list_head {
            list,
            futex_offset,
            list_op_pending
        }
    );
    structure!(
        "msqid64_ds" = abi::msqid64_ds {
            msg_perm,
            msg_stime,
            msg_rtime,
            msg_ctime,
            msg_cbytes,
            msg_qnum,
            msg_qbytes,
            msg_lspid,
            msg_lrpid,
        }
    );
    high_words!(
        "msqid64_ds" = abi::msqid64_ds {
            msg_stime,
            msg_rtime,
            msg_ctime
        }
    );
    structure!(
        "msginfo" = abi::msginfo {
            msgpool,
            msgmap,
            msgmax,
            msgmnb,
            msgmni,
            msgssz,
            msgtql,
            msgseg,
        }
    );
    structure!(
        "shmid64_ds" = abi::shmid64_ds {
            shm_perm,
            shm_segsz,
            shm_atime,
            shm_dtime,
            shm_ctime,
            shm_cpid,
            shm_lpid,
            shm_nattch,
        }
    );
    high_words!(
        "shmid64_ds" = abi::shmid64_ds {
            shm_atime,
            shm_dtime,
            shm_ctime
        }
    );
    structure!(
        "shminfo64" = abi::shminfo64 {
            shmmax,
            shmmin,
            shmmni,
            shmseg,
            shmall
        }
    );
    structure!(
        "shm_info" = abi::shm_info {
            used_ids,
            shm_tot,
            shm_rss,
            shm_swp,
            swap_attempts,
            swap_successes,
        }
    );
    structure!(
        "semid64_ds" = abi::semid64_ds {
            sem_perm,
            sem_otime,
            sem_ctime,
            sem_nsems
        }
    );
    high_words!(
        "semid64_ds" = abi::semid64_ds {
            sem_otime,
            sem_ctime
        }
    );
    structure!(
        "seminfo" = abi::seminfo {
            semmap,
            semmni,
            semmns,
            semmnu,
            semmsl,
            semopm,
            semume,
            semusz,
            semvmx,
            semaem,
        }
    );
    says(write, "sizeof(struct sembuf)", size_of::<sem::Op>() as i64);
    for (field, offset) in [
        ("offsetof(struct sembuf, sem_num)", offset_of!(sem::Op, num)),
        ("offsetof(struct sembuf, sem_op)", offset_of!(sem::Op, op)),
        (
            "offsetof(struct sembuf, sem_flg)",
            offset_of!(sem::Op, flags),
        ),
    ] {
        says(write, field, offset as i64);
    }
    says(write, "SEMVMX", sem::VALUE_MAX.into());
    constants!(
        IPC_CREAT,
        IPC_EXCL,
        IPC_NOWAIT,
        IPC_RMID,
        IPC_SET,
        IPC_STAT,
        IPC_INFO,
        IPC_64,
        MSG_STAT,
        MSG_INFO,
        MSG_STAT_ANY,
        MSG_NOERROR,
        MSG_EXCEPT,
        MSG_COPY,
        SEM_UNDO,
        GETPID,
        GETVAL,
        GETALL,
        GETNCNT,
        GETZCNT,
        SETVAL,
        SETALL,
        SEM_STAT,
        SEM_INFO,
        SEM_STAT_ANY,
        SHM_RDONLY,
        SHM_RND,
        SHM_REMAP,
        SHM_EXEC,
        SHM_HUGETLB,
        SHM_NORESERVE,
        SHM_LOCK,
        SHM_UNLOCK,
        SHM_STAT,
        SHM_INFO,
        SHM_STAT_ANY,
    );

    structure!(
        "mq_attr" = abi::mq_attr {
            mq_flags,
            mq_maxmsg,
            mq_msgsize,
            mq_curmsgs
        }
    );

    structure!(
        "sockaddr_vm" = abi::sockaddr_vm {
            svm_family,
            svm_reserved1,
            svm_port,
            svm_cid,
            svm_flags,
            svm_zero,
        }
    );
    structure!(
        "sock_extended_err" = abi::sock_extended_err {
            ee_errno,
            ee_origin,
            ee_type,
            ee_code,
            ee_pad,
            ee_info,
            ee_data,
        }
    );
    constants!(
        MSG_ZEROCOPY,
        UDP_SEGMENT,
        UDP_GRO,
        SO_EE_ORIGIN_ZEROCOPY,
        SO_EE_CODE_ZEROCOPY_COPIED,
        VMADDR_FLAG_TO_HOST,
        IOCTL_VM_SOCKETS_GET_LOCAL_CID,
    );
    recent!(SCM_PIDFD, SOL_VSOCK, VSOCK_RECVERR);
    for (name, ours) in [
        ("AF_VSOCK", FAMILY.as_raw().into()),
        ("VMADDR_PORT_ANY", PORT_ANY),
        ("VMADDR_CID_ANY", Cid::ANY.number()),
        ("VMADDR_CID_HYPERVISOR", Cid::HYPERVISOR.number()),
        ("VMADDR_CID_LOCAL", Cid::LOCAL.number()),
        ("VMADDR_CID_HOST", Cid::HOST.number()),
        ("SFD_NONBLOCK", signalfd::Flags::NONBLOCK.bits()),
        ("EFD_NONBLOCK", eventfd::Flags::NONBLOCK.bits()),
        ("EFD_SEMAPHORE", eventfd::Flags::SEMAPHORE.bits()),
        ("TFD_NONBLOCK", timerfd::Flags::NONBLOCK.bits()),
        ("FUTEX_WAITV_MAX", futex::WAITV_MAX as u32),
        ("FUTEX_OWNER_DIED", futex::OWNER_DIED),
    ] {
        says(write, name, ours.into());
    }

    structure!(
        "signalfd_siginfo" = abi::signalfd_siginfo {
            ssi_signo,
            ssi_errno,
            ssi_code,
            ssi_pid,
            ssi_uid,
            ssi_fd,
            ssi_tid,
            ssi_band,
            ssi_overrun,
            ssi_trapno,
            ssi_status,
            ssi_int,
            ssi_ptr,
            ssi_utime,
            ssi_stime,
            ssi_addr,
            ssi_addr_lsb,
            ssi_syscall,
            ssi_call_addr,
            ssi_arch,
        }
    );
    says(
        write,
        "sizeof(struct iovec)",
        size_of::<process_vm::Remote>() as i64,
    );

    numbers!(
        __NR_accept4,
        __NR_dup,
        __NR_dup3,
        __NR_epoll_create1,
        __NR_eventfd2,
        __NR_get_robust_list,
        __NR_getsockopt,
        __NR_ioctl,
        __NR_memfd_create,
        __NR_mq_getsetattr,
        __NR_mq_notify,
        __NR_mq_open,
        __NR_mq_unlink,
        __NR_msgctl,
        __NR_msgget,
        __NR_msgrcv,
        __NR_msgsnd,
        __NR_openat,
        __NR_pidfd_getfd,
        __NR_pidfd_open,
        __NR_pipe2,
        __NR_process_vm_readv,
        __NR_process_vm_writev,
        __NR_recvmsg,
        __NR_rt_sigprocmask,
        __NR_semctl,
        __NR_semget,
        __NR_sendmmsg,
        __NR_sendmsg,
        __NR_set_robust_list,
        __NR_setsockopt,
        __NR_shmat,
        __NR_shmctl,
        __NR_shmdt,
        __NR_shmget,
        __NR_signalfd4,
        __NR_socket,
        __NR_socketpair,
        __NR_tgkill,
        __NR_timerfd_create,
        __NR_tkill,
    );
    numbers_of_64_bit_forms!(
        __NR_clock_gettime = __NR_clock_gettime64,
        __NR_fcntl = __NR_fcntl64,
        __NR_mq_timedreceive = __NR_mq_timedreceive_time64,
        __NR_mq_timedsend = __NR_mq_timedsend_time64,
        __NR_recvmmsg = __NR_recvmmsg_time64,
        __NR_semtimedop = __NR_semtimedop_time64,
    );
    // Where the headers have none, no other call has the number.
    write("#ifndef __NR_memfd_secret\n#define __NR_memfd_secret 447\n#endif\n");
    numbers!(__NR_memfd_secret);
}

/// One line: the C expression has our value.
fn says(write: &mut dyn FnMut(&str), expression: &str, ours: i64) {
    let mut digits = [0; 20];
    write("SAYS(");
    write(expression);
    write(if ours < 0 { ", -" } else { ", " });
    write(decimal(ours.unsigned_abs(), &mut digits));
    write(");\n");
}

/// As text, without core's formatting, which would put panics into the static program.
fn decimal(mut number: u64, digits: &mut [u8; 20]) -> &str {
    let mut at = digits.len();
    for digit in digits.iter_mut().rev() {
        *digit = b'0' + (number % 10) as u8;
        number /= 10;
        at -= 1;
        if number == 0 {
            break;
        }
    }
    let text = digits.get(at..).unwrap_or_default();
    core::str::from_utf8(text).unwrap_or_default()
}
