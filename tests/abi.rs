//! Our kernel structures and constants against the installed kernel headers.
//!
//! A C program prints the size of each structure, the offset of each field and each constant as
//! the headers have them; they must be ours.

mod support;

use std::collections::BTreeMap;
use std::fmt::Write;
use std::mem::{offset_of, size_of};

use linipc_core::sys::abi;
use linipc_core::sysv::sem;

/// What is compared: a C expression, and our value for it.
type Expected = BTreeMap<String, i128>;

/// Enters the size of a structure and the offsets of its fields, which have the C names.
macro_rules! structure {
    ($expected:ident, $c:literal = $rust:ty { $($field:ident),* $(,)? }) => {
        $expected.insert(format!("sizeof(struct {})", $c), size_of::<$rust>() as i128);
        $($expected.insert(
            format!("offsetof(struct {}, {})", $c, stringify!($field)),
            offset_of!($rust, $field) as i128,
        );)*
    };
}

/// Enters constants, which have the C names.
macro_rules! constants {
    ($expected:ident, $($name:ident),* $(,)?) => {
        $($expected.insert(stringify!($name).to_owned(), abi::$name as i128);)*
    };
}

/// Constants that older headers lack: compared where they are.
const RECENT: [&str; 3] = ["SCM_PIDFD", "SOL_VSOCK", "VSOCK_RECVERR"];

/// Compiles a program that prints the value of each expression, and compares.
fn compare(name: &str, headers: &[&str], expected: &Expected) {
    let mut source = String::from("#define _GNU_SOURCE\n#include <stdio.h>\n#include <stddef.h>\n");
    for header in headers {
        writeln!(source, "#include <{header}>").unwrap();
    }
    source.push_str("int main(void) {\n");
    for (expression, ours) in expected {
        if RECENT.contains(&expression.as_str()) {
            writeln!(
                source,
                "#ifndef {expression}\n#define {expression} {ours}\n#endif"
            )
            .unwrap();
        }
        writeln!(
            source,
            "    printf(\"%lld\\n\", (long long)({expression}));"
        )
        .unwrap();
    }
    source.push_str("    return 0;\n}\n");
    let program = support::compile_c(name, &source);
    let printed = support::run(&mut program.command());
    let printed: Vec<i128> = printed.lines().map(|line| line.parse().unwrap()).collect();
    assert_eq!(printed.len(), expected.len());
    let differ: Vec<String> = expected
        .iter()
        .zip(printed)
        .filter(|((_, ours), theirs)| **ours != *theirs)
        .map(|((expression, ours), theirs)| format!("{expression}: {theirs}, here {ours}"))
        .collect();
    assert!(differ.is_empty(), "{differ:#?}");
}

#[test]
#[cfg_attr(not(has_gcc), ignore = "gcc is missing")]
fn system_v_structures_and_constants() {
    let mut expected = Expected::new();
    structure!(
        expected,
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
    structure!(
        expected,
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
    structure!(
        expected,
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
        expected,
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
    structure!(
        expected,
        "shminfo64" = abi::shminfo64 {
            shmmax,
            shmmin,
            shmmni,
            shmseg,
            shmall
        }
    );
    structure!(
        expected,
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
        expected,
        "semid64_ds" = abi::semid64_ds {
            sem_perm,
            sem_otime,
            sem_ctime,
            sem_nsems,
        }
    );
    structure!(
        expected,
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
    for (c, ours) in [
        ("sizeof(struct sembuf)", size_of::<sem::Op>()),
        ("offsetof(struct sembuf, sem_num)", offset_of!(sem::Op, num)),
        ("offsetof(struct sembuf, sem_op)", offset_of!(sem::Op, op)),
        (
            "offsetof(struct sembuf, sem_flg)",
            offset_of!(sem::Op, flags),
        ),
        ("SEMVMX", sem::VALUE_MAX.into()),
    ] {
        expected.insert(c.to_owned(), ours as i128);
    }
    constants!(
        expected,
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
    compare(
        "abi-sysv",
        &["linux/ipc.h", "linux/msg.h", "linux/sem.h", "linux/shm.h"],
        &expected,
    );
}

#[test]
#[cfg_attr(not(has_gcc), ignore = "gcc is missing")]
fn posix_queue_structures() {
    let mut expected = Expected::new();
    structure!(
        expected,
        "mq_attr" = abi::mq_attr {
            mq_flags,
            mq_maxmsg,
            mq_msgsize,
            mq_curmsgs
        }
    );
    compare("abi-mq", &["linux/mqueue.h"], &expected);
}

#[test]
#[cfg_attr(not(has_gcc), ignore = "gcc is missing")]
fn socket_structures_and_constants() {
    use linipc_core::socket::vsock::{Cid, FAMILY, PORT_ANY};
    let mut expected = Expected::new();
    structure!(
        expected,
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
        expected,
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
    for (name, ours) in [
        ("AF_VSOCK", u32::from(FAMILY.as_raw())),
        ("VMADDR_PORT_ANY", PORT_ANY),
        ("VMADDR_CID_ANY", Cid::ANY.number()),
        ("VMADDR_CID_HYPERVISOR", Cid::HYPERVISOR.number()),
        ("VMADDR_CID_LOCAL", Cid::LOCAL.number()),
        ("VMADDR_CID_HOST", Cid::HOST.number()),
    ] {
        expected.insert(name.to_owned(), ours.into());
    }
    constants!(
        expected,
        SCM_PIDFD,
        MSG_ZEROCOPY,
        UDP_SEGMENT,
        UDP_GRO,
        SO_EE_ORIGIN_ZEROCOPY,
        SO_EE_CODE_ZEROCOPY_COPIED,
        SOL_VSOCK,
        VSOCK_RECVERR,
        VMADDR_FLAG_TO_HOST,
        IOCTL_VM_SOCKETS_GET_LOCAL_CID,
    );
    let headers = [
        "sys/ioctl.h",
        "sys/socket.h",
        "linux/udp.h",
        "linux/errqueue.h",
        "linux/vm_sockets.h",
    ];
    compare("abi-sockets", &headers, &expected);
}

#[test]
#[cfg_attr(not(has_gcc), ignore = "gcc is missing")]
fn notification_structures_and_constants() {
    use linipc_core::event::{eventfd, signalfd, timerfd};
    let mut expected = Expected::new();
    structure!(
        expected,
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
    for (name, ours) in [
        ("SFD_NONBLOCK", signalfd::Flags::NONBLOCK.bits()),
        ("EFD_NONBLOCK", eventfd::Flags::NONBLOCK.bits()),
        ("EFD_SEMAPHORE", eventfd::Flags::SEMAPHORE.bits()),
        ("TFD_NONBLOCK", timerfd::Flags::NONBLOCK.bits()),
        ("FUTEX_WAITV_MAX", linipc_core::futex::WAITV_MAX as u32),
    ] {
        expected.insert(name.to_owned(), ours.into());
    }
    let headers = [
        "linux/types.h",
        "linux/signalfd.h",
        "sys/eventfd.h",
        "sys/timerfd.h",
        "linux/futex.h",
    ];
    compare("abi-event", &headers, &expected);
}
