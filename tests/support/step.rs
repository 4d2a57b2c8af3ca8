//! Stops a child right before an operation on a ring or a lock, steps it through some of the
//! operation's instructions, and kills it there.

#[path = "single_step.rs"]
mod single_step;

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::atomic::{AtomicU32, Ordering};

use linipc_core::map::{Access, Region};
use rustix::process::Pid;
use rustix::thread::{CpuSet, sched_getcpu, sched_setaffinity};

use crate::support::{Peer, SLOWNESS, skip_rest};
use single_step::{expect_stop, step};

/// How many steps the children of a test may make together, about.
const STEPS: usize = 150_000 / SLOWNESS.pow(2);

/// When another one comes to the side of the child that is killed: until then the child is alone.
#[allow(dead_code, reason = "of tests with sides")]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Comes {
    Before,
    /// While the child is stopped in its operation.
    Meanwhile,
    After,
}

/// How far the operation of a child is: not begun, begun, done.
pub struct Stage(Region);

impl Stage {
    pub fn new() -> Self {
        let region = Region::anonymous(4096, Access::READ | Access::WRITE).unwrap();
        // A process asks once what the processor can copy with. The children inherit the answer, so
        // that each takes the same steps.
        region.bytes().write(0, &[0; 256]).unwrap();
        Self(region)
    }

    pub fn word(&self) -> &AtomicU32 {
        self.0.bytes().atomic_u32(0).unwrap()
    }

    /// Where a child copies what it reads.
    #[allow(dead_code, reason = "of tests of consumers")]
    #[allow(clippy::mut_from_ref, reason = "the memory is shared with a child")]
    pub fn buffer(&self) -> &mut [u8] {
        let start = self.0.as_ptr().wrapping_add(64);
        // SAFETY: The memory is mapped, and what follows the word is the child's until it is dead.
        unsafe { std::slice::from_raw_parts_mut(start, 128) }
    }

    pub fn is(&self) -> u32 {
        self.word().load(Ordering::SeqCst)
    }

    /// Stops this process, to be stepped by its parent from here on.
    pub fn begin(&self) {
        let word = self.word();
        // SAFETY: The call takes no pointers.
        let traced = unsafe { libc::ptrace(libc::PTRACE_TRACEME, 0, 0, 0) };
        assert_eq!(traced, 0, "{}", std::io::Error::last_os_error());
        // SAFETY: The call takes no pointers.
        unsafe { libc::raise(libc::SIGSTOP) };
        word.store(1, Ordering::SeqCst);
    }

    pub fn end(&self) {
        self.word().store(2, Ordering::SeqCst);
        unreachable!("it is killed at the end");
    }

    /// Waits until a child is at the beginning of its operation.
    pub fn expect_begin(&self, child: &Peer) {
        // On one processor the two wake each other much faster.
        let mut one = CpuSet::new();
        one.set(sched_getcpu());
        for process in [None, Pid::from_raw(child.pid())] {
            sched_setaffinity(process, &one).unwrap();
        }
        expect_stop(child);
        while self.is() == 0 {
            // qemu 7.2 goes past the branches of s390x, to where nothing makes sense.
            if step(child) != libc::SIGTRAP && cfg!(target_arch = "s390x") {
                skip_rest("this machine makes no single steps along branches");
            }
        }
    }

    /// Lets the child make so many steps of its operation; whether it is done.
    pub fn steps(&self, child: &Peer, steps: usize) -> bool {
        for _ in 0..steps {
            step(child);
            if self.is() == 2 {
                return true;
            }
        }
        false
    }

    /// At which steps to kill: found by one run to the end of the operation. Some are left out, but
    /// none around one that changed the memory: between two of those a death leaves the same.
    #[allow(dead_code, reason = "of tests that have no need of the next")]
    pub fn plan(&self, shared: &Region, child: &Peer) -> Vec<usize> {
        self.plan_but_for(&[], shared, child)
    }

    /// The same, but for changes in these parts of the memory.
    pub fn plan_but_for(
        &self,
        parts: &[Range<usize>],
        shared: &Region,
        child: &Peer,
    ) -> Vec<usize> {
        let memory = || {
            let mut bytes = vec![0; shared.len()];
            shared.bytes().read(0, &mut bytes).unwrap();
            for part in parts {
                bytes[part.clone()].fill(0);
            }
            bytes
        };
        let (mut before, mut changes, mut len) = (memory(), BTreeSet::new(), 0_usize);
        loop {
            let done = self.steps(child, 1);
            len += 1;
            let after = memory();
            if after != before {
                changes.insert(len);
            }
            before = after;
            if done {
                break;
            }
        }
        assert!(!changes.is_empty(), "the operation writes there");
        let stride = len.saturating_mul(len).div_ceil(2 * STEPS);
        (0..=len)
            .filter(|step| step % stride == 0 || *step == len)
            .chain(changes.iter().flat_map(|step| [step - 1, *step]))
            .collect::<BTreeSet<usize>>()
            .into_iter()
            .collect()
    }
}
