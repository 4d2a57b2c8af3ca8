//! Stops a child right before an operation on a ring or a lock, steps it through some of the
//! operation's instructions, and kills it there.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU32, Ordering};

use linipc_core::map::{Access, Region};

use crate::support::Peer;

/// How many steps the children of a test may make together, about.
const STEPS: usize = 150_000;

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

    fn word(&self) -> &AtomicU32 {
        self.0.bytes().atomic_u32(0).unwrap()
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
        expect_stop(child);
        while self.word().load(Ordering::SeqCst) == 0 {
            step(child);
        }
    }

    /// Lets the child make so many steps of its operation; whether it is done.
    pub fn steps(&self, child: &Peer, steps: usize) -> bool {
        for _ in 0..steps {
            step(child);
            if self.word().load(Ordering::SeqCst) == 2 {
                return true;
            }
        }
        false
    }

    /// At which steps to kill: found by one run to the end of the operation. Some are left out, but
    /// none around one that changed the memory: between two of those a death leaves the same.
    pub fn plan(&self, shared: &Region, child: &Peer) -> Vec<usize> {
        let memory = || {
            let mut bytes = vec![0; shared.len()];
            shared.bytes().read(0, &mut bytes).unwrap();
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
        let stride = (len * len).div_ceil(2 * STEPS);
        (0..=len)
            .filter(|step| step % stride == 0 || *step == len)
            .chain(changes.iter().flat_map(|step| [step - 1, *step]))
            .collect::<BTreeSet<usize>>()
            .into_iter()
            .collect()
    }
}

fn expect_stop(child: &Peer) {
    let mut status = 0;
    // SAFETY: `status` is writable.
    let pid = unsafe { libc::waitpid(child.pid(), &raw mut status, 0) };
    assert_eq!(pid, child.pid());
    assert!(libc::WIFSTOPPED(status), "the child ended: {status:#x}");
}

fn step(child: &Peer) {
    // SAFETY: The call takes no pointers but null.
    let stepped = unsafe { libc::ptrace(libc::PTRACE_SINGLESTEP, child.pid(), 0, 0) };
    assert_eq!(stepped, 0, "{}", std::io::Error::last_os_error());
    expect_stop(child);
}
