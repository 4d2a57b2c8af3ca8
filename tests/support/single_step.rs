//! One instruction of a traced child, which has the code of this process: it was forked, and nothing more.
//!
//! ptrace(2) does it, with exceptions. Where an atomic operation is a loop of a load and a store that fails
//! if anything came between (aarch64 without LSE, arm, riscv64), a stop comes between, so that loop would
//! never end: it counts as one instruction, and the child runs through it. So does a call into the vDSO
//! there, which begins again when the clock ticks, and it ticks between two steps of an emulated machine.
//! And riscv64 has no single steps at all: the child runs to whatever may come next. It runs to breakpoints.

use crate::support::Peer;

/// Waits until the child stops; by which signal it does.
pub fn expect_stop(child: &Peer) -> libc::c_int {
    let mut status = 0;
    // SAFETY: `status` is writable.
    let pid = unsafe { libc::waitpid(child.pid(), &raw mut status, 0) };
    assert_eq!(pid, child.pid());
    assert!(libc::WIFSTOPPED(status), "the child ended: {status:#x}");
    libc::WSTOPSIG(status)
}

fn resume(child: &Peer, request: libc::c_uint) -> libc::c_int {
    // SAFETY: The call takes no pointers but null.
    let done = unsafe { libc::ptrace(request as _, child.pid(), 0, 0) };
    assert_eq!(done, 0, "{}", std::io::Error::last_os_error());
    expect_stop(child)
}

/// Lets a stopped child make one step, after which it stops by this signal.
pub fn step(child: &Peer) -> libc::c_int {
    #[cfg(any(target_arch = "aarch64", target_arch = "arm", target_arch = "riscv64"))]
    if breakpoints::step(child) {
        return libc::SIGTRAP;
    }
    resume(child, libc::PTRACE_SINGLESTEP as _)
}

#[cfg(any(target_arch = "aarch64", target_arch = "arm", target_arch = "riscv64"))]
mod breakpoints {
    use std::ops::Range;
    use std::sync::OnceLock;

    use super::{Peer, resume};

    /// What an instruction is, as far as it matters here.
    enum Instruction {
        LoadExclusive,
        /// It says in this register whether it has failed.
        StoreExclusive(usize),
        /// It goes there, or on.
        Branch(usize),
        #[cfg_attr(
            not(target_arch = "riscv64"),
            allow(dead_code, reason = "single steps")
        )]
        Jump(usize),
        Other,
    }
    use Instruction::{Branch, Jump, LoadExclusive, Other, StoreExclusive};

    /// The general registers in the kernel's order.
    type Registers = [usize; 34];

    /// Which of them is the program counter.
    const PC: usize = match () {
        () if cfg!(target_arch = "aarch64") => 32,
        () if cfg!(target_arch = "arm") => 15,
        () => 0,
    };

    /// Which of them says where a function returns to.
    const LINK: usize = match () {
        () if cfg!(target_arch = "aarch64") => 30,
        () if cfg!(target_arch = "arm") => 14,
        () => 1,
    };

    /// Where the code is that the kernel gives to each process, if there is any.
    fn vdso() -> Range<usize> {
        static VDSO: OnceLock<Range<usize>> = OnceLock::new();
        let find = || {
            let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
            let line = maps.lines().find(|line| line.ends_with("[vdso]"))?;
            let (start, end) = line.split_once(' ')?.0.split_once('-')?;
            let address = |text| usize::from_str_radix(text, 16).unwrap();
            Some(address(start)..address(end))
        };
        VDSO.get_or_init(|| find().unwrap_or_default()).clone()
    }

    /// Makes the step, unless the kernel can.
    pub(super) fn step(child: &Peer) -> bool {
        let mut registers = registers(child);
        let pc = counter(&registers);
        if vdso().contains(&pc) {
            run_to(child, &[registers[LINK]]);
            return true;
        }
        let (instruction, next) = decode(pc, &registers);
        match instruction {
            LoadExclusive => {
                if let Some((store, failed, mut ends)) = exclusive(next, &registers) {
                    ends.push(store);
                    loop {
                        run_to(child, &ends);
                        let now = self::registers(child);
                        if counter(&now) != store || now[failed] == 0 {
                            return true;
                        }
                        // As often as it takes, so that the number of steps is always the same; with the
                        // registers as they were, some of which may have changed in between.
                        set_registers(child, &mut registers);
                    }
                }
            }
            _ if cfg!(not(target_arch = "riscv64")) => return false,
            _ => {}
        }
        match instruction {
            Jump(to) => run_to(child, &[to]),
            Branch(to) if to != next => run_to(child, &[next, to]),
            _ => run_to(child, &[next]),
        }
        true
    }

    /// What follows a load behind which is `at`: the end of its store, which register says that it has
    /// failed, and where branches lead to.
    fn exclusive(mut at: usize, registers: &Registers) -> Option<(usize, usize, Vec<usize>)> {
        let mut ends = Vec::new();
        for _ in 0..16 {
            let (instruction, next) = decode(at, registers);
            match instruction {
                StoreExclusive(failed) => return Some((next, failed, ends)),
                Branch(to) => ends.push(to),
                LoadExclusive | Jump(_) => return None,
                Other => {}
            }
            at = next;
        }
        None
    }

    /// Continues the child until it is at one of these. As for a branch, an odd address is of Thumb code.
    fn run_to(child: &Peer, ends: &[usize]) {
        let poke = |end: usize, is_set: bool| {
            let at = end & !(size_of::<usize>() - 1);
            // SAFETY: The child's code is this process's.
            let mut word = unsafe { *(at as *const [u8; size_of::<usize>()]) };
            let here = at..at + word.len();
            for end in ends.iter().filter(|end| is_set && here.contains(end)) {
                let start = (end & !1) - at;
                let breakpoint = breakpoint(*end);
                word[start..start + breakpoint.len()].copy_from_slice(breakpoint);
            }
            let word = usize::from_ne_bytes(word);
            // SAFETY: The call writes to the child's memory only.
            let done = unsafe { libc::ptrace(libc::PTRACE_POKETEXT, child.pid(), at, word) };
            assert_eq!(done, 0, "{}", std::io::Error::last_os_error());
        };
        ends.iter().for_each(|end| poke(*end, true));
        resume(child, libc::PTRACE_CONT as _);
        ends.iter().for_each(|end| poke(*end, false));
        let pc = counter(&registers(child));
        assert!(ends.contains(&pc), "{pc:#x}, not {ends:#x?}");
    }

    /// The program counter; of Thumb code it is odd.
    fn counter(registers: &Registers) -> usize {
        let is_thumb = cfg!(target_arch = "arm") && registers[16] & 0x20 != 0;
        registers[PC] | usize::from(is_thumb)
    }

    fn registers(child: &Peer) -> Registers {
        let mut registers = [0; 34];
        transfer(child, libc::PTRACE_GETREGSET as _, &mut registers);
        registers
    }

    fn set_registers(child: &Peer, registers: &mut Registers) {
        transfer(child, libc::PTRACE_SETREGSET as _, registers);
    }

    fn transfer(child: &Peer, request: libc::c_uint, registers: &mut Registers) {
        let len = match () {
            () if cfg!(target_arch = "aarch64") => 34,
            () if cfg!(target_arch = "arm") => 18,
            () => 32,
        };
        let mut all = libc::iovec {
            iov_base: registers.as_mut_ptr().cast(),
            iov_len: len * size_of::<usize>(),
        };
        // SAFETY: The call reads or writes the registers.
        let done =
            unsafe { libc::ptrace(request as _, child.pid(), libc::NT_PRSTATUS, &raw mut all) };
        assert_eq!(done, 0, "{}", std::io::Error::last_os_error());
    }

    /// So many bits of the instruction from `low` on, with the uppermost as a sign.
    fn signed(instruction: u32, low: u32, bits: u32) -> usize {
        ((instruction << (32 - bits - low)) as i32 >> (32 - bits)) as usize
    }

    #[cfg(target_arch = "aarch64")]
    fn breakpoint(_: usize) -> &'static [u8] {
        &[0x00, 0x00, 0x20, 0xd4] // brk #0
    }

    /// Instructions that are not defined, which the kernel takes for breakpoints.
    #[cfg(target_arch = "arm")]
    fn breakpoint(at: usize) -> &'static [u8] {
        if at & 1 == 1 {
            &[0x01, 0xde]
        } else {
            &[0xf0, 0x01, 0xf0, 0xe7]
        }
    }

    #[cfg(target_arch = "riscv64")]
    fn breakpoint(_: usize) -> &'static [u8] {
        &[0x02, 0x90] // c.ebreak
    }

    /// The instruction there, and where the next one is.
    #[cfg(target_arch = "aarch64")]
    fn decode(at: usize, _: &Registers) -> (Instruction, usize) {
        // SAFETY: The child's code is this process's.
        let code = unsafe { *(at as *const u32) };
        let to = |low, bits| Branch(at.wrapping_add(signed(code, low, bits) << 2));
        let instruction = if code & 0x3fc0_0000 == 0x0840_0000 {
            LoadExclusive
        } else if code & 0x3fc0_0000 == 0x0800_0000 {
            StoreExclusive((code >> 16 & 31) as usize)
        } else if code & 0xff00_0010 == 0x5400_0000 || code & 0x7e00_0000 == 0x3400_0000 {
            to(5, 19) // b.cond, cbz, cbnz
        } else if code & 0x7e00_0000 == 0x3600_0000 {
            to(5, 14) // tbz, tbnz
        } else {
            Other
        };
        (instruction, at + 4)
    }

    #[cfg(target_arch = "arm")]
    fn decode(at: usize, _: &Registers) -> (Instruction, usize) {
        if at & 1 == 1 {
            return decode_thumb(at);
        }
        // SAFETY: The child's code is this process's.
        let code = unsafe { *(at as *const u32) };
        let instruction = if code & 0x0f90_0fff == 0x0190_0f9f {
            LoadExclusive
        } else if code & 0x0f90_0ff0 == 0x0180_0f90 {
            StoreExclusive((code >> 12 & 15) as usize)
        } else if code & 0x0f00_0000 == 0x0a00_0000 {
            Branch(at.wrapping_add(8).wrapping_add(signed(code, 0, 24) << 2))
        } else {
            Other
        };
        (instruction, at + 4)
    }

    /// The same of Thumb code, which the C library's is.
    #[cfg(target_arch = "arm")]
    fn decode_thumb(at: usize) -> (Instruction, usize) {
        let code = (at & !1) as *const u16;
        // SAFETY: The child's code is this process's.
        let first = unsafe { *code };
        let branch = |offset: usize| Branch(at.wrapping_add(4).wrapping_add(offset));
        if first < 0xe800 {
            let code = u32::from(first);
            let instruction = if first & 0xf000 == 0xd000 && first < 0xde00 {
                branch(signed(code, 0, 8) << 1) // b<cond>
            } else if first & 0xf800 == 0xe000 {
                branch(signed(code, 0, 11) << 1) // b
            } else if first & 0xf500 == 0xb100 {
                branch(usize::from(first >> 3 & 0x40 | first >> 2 & 0x3e)) // cbz, cbnz
            } else {
                Other
            };
            return (instruction, at + 2);
        }
        // SAFETY: As above, for an instruction of two halfwords.
        let second = unsafe { *code.wrapping_add(1) };
        let register = |from: u16| usize::from(second >> from & 15);
        let instruction = match (first >> 4, second >> 4 & 0xff) {
            (0xe85, _) if second & 0xf00 == 0xf00 => LoadExclusive,
            (0xe84, _) => StoreExclusive(register(8)),
            (0xe8d, 0xf4 | 0xf5) => LoadExclusive, // of a byte, of a halfword
            (0xe8c, 0xf4 | 0xf5) => StoreExclusive(register(0)),
            (0xe8d, kind) if kind & 0xf == 7 => LoadExclusive, // of two words
            (0xe8c, kind) if kind & 0xf == 7 => StoreExclusive(register(0)),
            _ => Other,
        };
        (instruction, at + 4)
    }

    #[cfg(target_arch = "riscv64")]
    fn decode(at: usize, registers: &Registers) -> (Instruction, usize) {
        // SAFETY: The child's code is this process's.
        let code = unsafe { (at as *const u32).read_unaligned() };
        // Bits from `from` on, so many, put to `to`.
        let field = |from: u32, bits: u32, to: u32| (code >> from & ((1 << bits) - 1)) << to;
        let to = |offset: u32, bits: u32| at.wrapping_add(signed(offset, 0, bits));
        let register = |number: u32| match number {
            0 => 0,
            number => registers[number as usize],
        };
        if code & 3 != 3 {
            let instruction = match (code & 3, code >> 13 & 7, code >> 2 & 31, code >> 7 & 31) {
                (1, 5, ..) => {
                    let near = field(3, 3, 1) | field(11, 1, 4) | field(2, 1, 5) | field(7, 1, 6);
                    let far = field(6, 1, 7) | field(9, 2, 8) | field(8, 1, 10) | field(12, 1, 11);
                    Jump(to(near | far, 12))
                }
                (1, 6 | 7, ..) => {
                    let near = field(3, 2, 1) | field(10, 2, 3) | field(2, 1, 5);
                    Branch(to(near | field(5, 2, 6) | field(12, 1, 8), 9))
                }
                (2, 4, 0, number) if number != 0 => Jump(register(number) & !1),
                _ => Other,
            };
            return (instruction, at + 2);
        }
        let instruction = match (code & 0x7f, code >> 27) {
            (0x2f, 2) => LoadExclusive,
            (0x2f, 3) => StoreExclusive(field(7, 5, 0) as usize),
            (0x63, _) => {
                let near = field(8, 4, 1) | field(25, 6, 5);
                Branch(to(near | field(7, 1, 11) | field(31, 1, 12), 13))
            }
            (0x6f, _) => {
                let near = field(21, 10, 1) | field(20, 1, 11);
                Jump(to(near | field(12, 8, 12) | field(31, 1, 20), 21))
            }
            (0x67, _) => Jump(register(field(15, 5, 0)).wrapping_add(signed(code, 20, 12)) & !1),
            _ => Other,
        };
        (instruction, at + 4)
    }
}
