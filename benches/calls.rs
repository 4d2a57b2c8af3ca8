//! What does a call cost, made by us and made by the C library, beside the cheapest call there is?
//!
//! `cargo bench --bench calls`. Each pair runs in alternation, in rounds; the median of the rounds
//! is printed, with the ratio to the C library in the same run. Nothing else should run meanwhile.

use std::hint::black_box;
use std::time::Instant;

use linipc_core::lock::{self, Kind, Owner};
use linipc_core::map::{Access, Region};
use linipc_core::posix::sem::{Format, Semaphore, Sharing};
use linipc_core::sysv::msg::{self, Message, Receive, Select, Send};
use linipc_core::sysv::sem::{self, Op};
use linipc_core::sysv::{Create, Key, Mode};
use rustix::fs::FlockOperation;

const ROUNDS: usize = 31;
const CALLS: u32 = 20_000;

/// The median over the rounds of the time of one call, in ns, for each contender.
fn medians<const N: usize>(mut contenders: [&mut dyn FnMut(); N]) -> [f64; N] {
    let mut times = [const { Vec::new() }; N];
    for _ in 0..ROUNDS {
        for (contender, times) in contenders.iter_mut().zip(&mut times) {
            let start = Instant::now();
            // One dynamic call a batch, so that the calls inside are inlined.
            contender();
            times.push(start.elapsed().as_nanos() as f64 / f64::from(CALLS));
        }
    }
    times.map(|mut times| {
        times.sort_by(f64::total_cmp);
        times[ROUNDS / 2]
    })
}

/// Prints one line: what, ours, the C library's, and the ratio.
fn row(what: &str, mut ours: impl FnMut(), mut libc: impl FnMut()) {
    let [ours, libc] = medians([&mut || (0..CALLS).for_each(|_| ours()), &mut || {
        (0..CALLS).for_each(|_| libc())
    }]);
    println!("| {what} | {ours:.1} | {libc:.1} | {:.2} |", ours / libc);
}

fn main() {
    println!("| calls | linipc, ns | C library, ns | ratio |");
    println!("|---|--:|--:|--:|");

    row(
        "getppid (the limit)",
        || _ = black_box(rustix::process::getppid()),
        // SAFETY: getppid(2) takes nothing.
        || _ = black_box(unsafe { libc::getppid() }),
    );

    let file = std::fs::File::open("/proc/self/exe").unwrap();
    let fd = std::os::fd::AsRawFd::as_raw_fd(&file);
    row(
        "flock + unlock",
        || {
            rustix::fs::flock(&file, FlockOperation::LockExclusive).unwrap();
            rustix::fs::flock(&file, FlockOperation::Unlock).unwrap();
        },
        || {
            // SAFETY: flock(2) takes no pointers.
            assert_eq!(unsafe { libc::flock(fd, libc::LOCK_EX) }, 0);
            // SAFETY: As above.
            assert_eq!(unsafe { libc::flock(fd, libc::LOCK_UN) }, 0);
        },
    );

    let queue = msg::get(Key::PRIVATE, Create::Exclusive(Mode::RUSR | Mode::WUSR)).unwrap();
    let (out, mut into) = (Message::new(1, [7; 64]), Message::new(0, [0; 64]));
    let (raw_out, mut raw_into) = ([1_u64; 9], [0_u64; 9]);
    row(
        "msgsnd + msgrcv, 64 bytes",
        || {
            msg::send(queue, &out, Send::empty()).unwrap();
            msg::receive(queue, &mut into, Select::First, Receive::empty()).unwrap();
        },
        || {
            // SAFETY: The buffer holds a type and 64 bytes.
            let sent = unsafe { libc::msgsnd(queue.number(), raw_out.as_ptr().cast(), 64, 0) };
            assert_eq!(sent, 0);
            let into = raw_into.as_mut_ptr().cast();
            // SAFETY: The buffer has room for a type and 64 bytes.
            assert_eq!(unsafe { libc::msgrcv(queue.number(), into, 64, 0, 0) }, 64);
        },
    );
    msg::remove(queue).unwrap();

    let range = lock::Range::new(0, 1);
    let mut raw = libc::flock {
        l_type: libc::F_RDLCK as _,
        l_whence: 0,
        l_start: 0,
        l_len: 1,
        l_pid: 0,
    };
    row(
        "OFD lock + unlock",
        || {
            lock::acquire(&file, Owner::Description, range, Kind::Shared).unwrap();
            lock::release(&file, Owner::Description, range).unwrap();
        },
        || {
            for kind in [libc::F_RDLCK, libc::F_UNLCK] {
                raw.l_type = kind as _;
                // SAFETY: The call reads one `flock`.
                assert_eq!(
                    unsafe { libc::fcntl(fd, libc::F_OFD_SETLKW, &raw const raw) },
                    0
                );
            }
        },
    );

    let set = sem::get(Key::PRIVATE, 1, Create::Exclusive(Mode::RUSR | Mode::WUSR)).unwrap();
    let raw_op = |change| libc::sembuf {
        sem_num: 0,
        sem_op: change,
        sem_flg: 0,
    };
    row(
        "semop, twice",
        || {
            sem::op(set, &[Op::new(0, 1)]).unwrap();
            sem::op(set, &[Op::new(0, -1)]).unwrap();
        },
        || {
            for change in [1, -1] {
                // SAFETY: The call reads one `sembuf`.
                assert_eq!(
                    unsafe { libc::semop(set.number(), &mut raw_op(change), 1) },
                    0
                );
            }
        },
    );
    sem::remove(set).unwrap();

    let region = Region::anonymous(4096, Access::READ | Access::WRITE).unwrap();
    let ours = Semaphore::init(region.bytes(), Format::NATIVE, Sharing::Shared, 1).unwrap();
    let theirs = region.as_ptr().wrapping_add(64).cast();
    // SAFETY: `theirs` is aligned, has room, and nobody else uses it.
    assert_eq!(unsafe { libc::sem_init(theirs, 1, 1) }, 0);
    row(
        "sem_wait + sem_post, nobody else",
        || {
            ours.wait().unwrap();
            ours.post().unwrap();
        },
        || {
            // SAFETY: It was initialised above.
            unsafe { libc::sem_wait(theirs) };
            // SAFETY: As above.
            unsafe { libc::sem_post(theirs) };
        },
    );
}
