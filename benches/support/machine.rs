//! Where do the two sides run, what do they share, and what time is it?

use std::cell::Cell;
use std::fs;
use std::hint::spin_loop;
use std::io;
use std::panic;
use std::process;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicI32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use linipc_core::map::{Access, Region};
use linipc_core::shared::SharedBytes;
use rustix::process::{Pid, Signal};
use rustix::thread::CpuSet;

/// This side's CPU.
pub(crate) const HERE: usize = 0;
/// The other side's CPU, unless a row says otherwise.
pub(crate) const THERE: usize = 1;

/// No batch takes as long, in seconds: one that does hangs.
const PATIENCE: u32 = 60;
const ARENA: usize = 32 << 20;
const PAGE: usize = 4096;

/// What the other side of a contestant is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Peer {
    Process,
    Thread,
}

/// The process to tell about a panic: 0 in the first one.
static PARENT: AtomicI32 = AtomicI32::new(0);

/// Makes every failure the end of all processes: after a panic the other side would spin for ever.
pub(crate) fn guard() {
    let usual = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        usual(info);
        if let Some(parent) = Pid::from_raw(PARENT.load(Ordering::Relaxed)) {
            let _ = rustix::process::kill_process(parent, Signal::TERM);
        }
        exit(101);
    }));
    pin(HERE);
    watch();
}

/// What figures are worth nothing without.
pub(crate) fn describe() -> String {
    let read = |path| fs::read_to_string(path).unwrap_or_default();
    let (cpus, kernel) = (read("/proc/cpuinfo"), read("/proc/sys/kernel/osrelease"));
    let model = cpus
        .lines()
        .find_map(|line| line.strip_prefix("model name"));
    let model = model
        .unwrap_or("unknown CPU")
        .trim_matches(['\t', ' ', ':']);
    format!("{model}, Linux {}", kernel.trim())
}

/// Gives the batch that begins now its time: then `SIGALRM` ends this process, whose children die
/// with it.
pub(crate) fn watch() {
    // SAFETY: alarm(2) takes no pointers.
    unsafe { libc::alarm(PATIENCE) };
}

fn exit(status: i32) -> ! {
    // SAFETY: Ends the process at once; nothing is to be flushed.
    unsafe { libc::_exit(status) }
}

fn pin(cpu: usize) {
    let mut set = CpuSet::new();
    set.set(cpu);
    rustix::thread::sched_setaffinity(None, &set).expect("two CPUs are needed");
}

/// A second process.
#[derive(Debug)]
pub(crate) struct Child(i32);

/// Forks a process on `cpu` that runs `body` and dies with this one.
pub(crate) fn process(cpu: usize, body: impl FnOnce()) -> Child {
    let parent = process::id();
    // SAFETY: The process has one thread whenever this is called, so the child may do anything.
    match unsafe { libc::fork() } {
        -1 => panic!("fork: {}", io::Error::last_os_error()),
        0 => {
            PARENT.store(parent.cast_signed(), Ordering::Relaxed);
            rustix::process::set_parent_process_death_signal(Some(Signal::KILL)).unwrap();
            if std::os::unix::process::parent_id() != parent {
                exit(0);
            }
            pin(cpu);
            body();
            exit(0)
        }
        pid => Child(pid),
    }
}

impl Child {
    /// Waits for its end, which must be a good one.
    pub(crate) fn join(self) {
        let mut status = 0;
        // SAFETY: `status` is writable.
        let pid = unsafe { libc::waitpid(self.0, &raw mut status, 0) };
        assert_eq!((pid, status), (self.0, 0), "the other side failed");
    }
}

/// Runs `this` here, beside `other` on `cpu`, and gives the result of `this` when both are done.
pub(crate) fn beside<R>(
    peer: Peer,
    cpu: usize,
    other: impl FnOnce() + Send,
    this: impl FnOnce() -> R,
) -> R {
    match peer {
        Peer::Process => {
            let child = process(cpu, other);
            let result = this();
            child.join();
            result
        }
        Peer::Thread => thread::scope(|scope| {
            let thread = scope.spawn(move || {
                pin(cpu);
                other();
            });
            let result = this();
            thread.join().unwrap();
            result
        }),
    }
}

/// `K` pieces of `len` bytes of the memory that all processes share, page-aligned, each with its
/// first page zeroed. Every batch gets the same ones.
pub(crate) fn pieces<const K: usize>(len: usize) -> [SharedBytes<'static>; K] {
    static MEMORY: OnceLock<Region> = OnceLock::new();
    let len = len.next_multiple_of(PAGE);
    let memory = MEMORY
        .get_or_init(|| {
            let memory = Region::anonymous(ARENA, Access::READ | Access::WRITE).unwrap();
            for page in (0..ARENA).step_by(PAGE) {
                memory.bytes().write(page, &[0]).unwrap();
            }
            memory
        })
        .bytes();
    std::array::from_fn(|i| {
        let piece = memory.slice(i * len, len).expect("a larger ARENA");
        piece.write(0, &[0; PAGE]).unwrap();
        piece
    })
}

/// Private bytes that start `offset` bytes past the start of a page, all of them written to.
#[derive(Debug)]
pub(crate) struct Private {
    bytes: Vec<u8>,
    start: usize,
    len: usize,
}

impl Private {
    pub(crate) fn new(len: usize, offset: usize) -> Self {
        let bytes = vec![1; len + offset + PAGE];
        let start = bytes.as_ptr().align_offset(PAGE) + offset;
        Self { bytes, start, len }
    }

    pub(crate) fn bytes(&mut self) -> &mut [u8] {
        &mut self.bytes[self.start..][..self.len]
    }
}

/// The cycle counter, read when all before it is done and before all after it begins.
#[cfg(target_arch = "x86_64")]
#[inline]
pub(crate) fn ticks() -> u64 {
    use core::arch::x86_64::{_mm_lfence, _rdtsc};
    // SAFETY: SSE2 is part of the architecture.
    unsafe { _mm_lfence() };
    // SAFETY: User space may read the counter, or nothing here could be measured.
    let ticks = unsafe { _rdtsc() };
    // SAFETY: As above.
    unsafe { _mm_lfence() };
    ticks
}

/// Nanoseconds, where there is no counter that is read as cheaply.
#[cfg(not(target_arch = "x86_64"))]
#[inline]
pub(crate) fn ticks() -> u64 {
    static START: OnceLock<Instant> = OnceLock::new();
    START.get_or_init(Instant::now).elapsed().as_nanos() as u64
}

/// How often others took a CPU from this process and its children that ended, until now.
pub(crate) fn interruptions() -> libc::c_long {
    let count = |who| {
        // SAFETY: All zeros are a valid `rusage`.
        let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
        // SAFETY: `usage` is writable.
        let done = unsafe { libc::getrusage(who, &raw mut usage) };
        assert_eq!(done, 0, "getrusage: {}", io::Error::last_os_error());
        usage.ru_nivcsw
    };
    count(libc::RUSAGE_SELF) + count(libc::RUSAGE_CHILDREN)
}

/// How many ticks are a nanosecond.
pub(crate) fn ticks_per_ns() -> f64 {
    static RATE: OnceLock<f64> = OnceLock::new();
    *RATE.get_or_init(|| {
        let (start, first) = (Instant::now(), ticks());
        while start.elapsed() < Duration::from_millis(20) {
            spin_loop();
        }
        (ticks() - first) as f64 / start.elapsed().as_nanos() as f64
    })
}

/// Spins until `ticks()` has reached `end`.
#[inline]
pub(crate) fn until(end: u64) {
    while ticks() < end {
        spin_loop();
    }
}

/// The round trip of a bare cache line between the two CPUs now, in ns.
pub(crate) fn bounce() -> f64 {
    const WARM: u64 = 2_000;
    const TRIPS: u64 = 4_000;
    watch();
    let [memory] = pieces(PAGE);
    let line = memory.atomic_u64(0).unwrap();
    let turn = |own: u64| {
        while line.load(Ordering::Acquire) != own {
            spin_loop();
        }
        line.store(own + 1, Ordering::Release);
    };
    let start = Cell::new(Instant::now());
    let end = 2 * (WARM + TRIPS);
    beside(
        Peer::Process,
        THERE,
        || (1..end).step_by(2).for_each(turn),
        || {
            for own in (0..end).step_by(2) {
                if own == 2 * WARM {
                    start.set(Instant::now());
                }
                turn(own);
            }
            while line.load(Ordering::Acquire) != end {
                spin_loop();
            }
            start.get().elapsed().as_nanos() as f64 / TRIPS as f64
        },
    )
}
