//! What does a call cost, made by us and made by the C library, beside the cheapest call there is?
//!
//! `cargo bench --bench calls`. Each pair runs in alternation, in rounds; the median of the rounds
//! is printed, with the ratio to the C library in the same run. Nothing else should run meanwhile.

use std::hint::black_box;
use std::time::Instant;

use linipc_core::sysv::msg::{self, Message, Receive, Select, Send};
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
    println!("| {what} | {ours:.0} | {libc:.0} | {:.2} |", ours / libc);
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
}
