//! A second process by fork(2), for a program without threads and without a C library.

use core::arch::asm;

use linipc_core::Errno;
use linipc_core::process_vm::Pid;

/// Whose child the process is, when it ends: `SIGCHLD`.
#[cfg(any(target_arch = "aarch64", target_arch = "riscv64"))]
const SIGCHLD: usize = 17;

/// The process id of the child; in the child `None`.
pub(crate) fn fork() -> Result<Option<Pid>, Errno> {
    let pid: isize;
    // SAFETY: The child has a copy of all memory that is not shared, and this program has one thread.
    #[cfg(target_arch = "x86_64")]
    unsafe {
        asm!("syscall", inlateout("rax") 57_isize => pid, lateout("rcx") _, lateout("r11") _);
    }
    // SAFETY: As above.
    #[cfg(target_arch = "x86")]
    unsafe {
        asm!("int 0x80", inlateout("eax") 2_isize => pid);
    }
    // SAFETY: As above. clone(2) without flags is fork(2).
    #[cfg(target_arch = "aarch64")]
    unsafe {
        asm!(
            "svc 0", in("x8") 220, inlateout("x0") SIGCHLD => pid,
            in("x1") 0, in("x2") 0, in("x3") 0, in("x4") 0,
        );
    }
    // SAFETY: As above. clone(2) without flags is fork(2).
    #[cfg(target_arch = "riscv64")]
    unsafe {
        asm!(
            "ecall", in("a7") 220, inlateout("a0") SIGCHLD => pid,
            in("a1") 0, in("a2") 0, in("a3") 0, in("a4") 0,
        );
    }
    // SAFETY: As above.
    #[cfg(target_arch = "arm")]
    unsafe {
        asm!(
            "mov {saved}, r7", "mov r7, #2", "svc 0", "mov r7, {saved}",
            saved = out(reg) _, lateout("r0") pid,
        );
    }
    // SAFETY: As above.
    #[cfg(target_arch = "s390x")]
    unsafe {
        asm!("svc 0", in("r1") 2, lateout("r2") pid);
    }
    match pid {
        0 => Ok(None),
        1.. => Ok(Pid::from_raw(pid as i32)),
        ..0 => Err(Errno::from_raw_os_error(-pid as i32)),
    }
}
