//! How fast are the locks, beside the cheapest possible one and beside those of the C library?
//!
//! `cargo bench --bench pshared`, with `-- --quick` for a first look, and `-- NAME` for the rows whose
//! name contains it. Batches in alternation, medians of rounds, as in `ring.rs`.
//!
//! `-- --count NAME N` is for counting instructions: one process locks and unlocks N times.
//!
//! ```sh
//! pshared=$(cargo bench --bench pshared --no-run --message-format=json |
//!     sed -n 's/.*"executable":"\([^"]*\/pshared-[^"]*\)".*/\1/p')
//! count() { valgrind --tool=callgrind --callgrind-out-file=/dev/null "$pshared" --count "$@" 2>&1 |
//!     sed -n 's/.*Collected : //p'; }
//! for name in nothing mutex glibc-robust; do
//!     echo "$name $((($(count $name 11000) - $(count $name 1000)) / 10000))"
//! done
//! ```

#[path = "pshared/c.rs"]
mod c;
#[path = "support/contest.rs"]
mod contest;
#[allow(dead_code, reason = "each bench uses its part")]
#[path = "support/machine.rs"]
mod machine;
#[path = "pshared/ours.rs"]
mod ours;

use std::env;
use std::hint::{black_box, spin_loop};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use linipc_core::shared::SharedBytes;

use contest::{Contest, Row, Settings};
use machine::{HERE, Peer, THERE, beside, pieces, ticks, ticks_per_ns};

const NS: &str = "ns";

/// What two processes have in turns.
trait Lock {
    /// Makes it in memory of a page, free.
    fn init(memory: SharedBytes<'static>);
    /// A process's side of it.
    fn attach(memory: SharedBytes<'static>) -> Self;
    /// Does something while nobody else does.
    fn with<R>(&mut self, body: impl FnOnce() -> R) -> R;
}

/// No lock at all.
struct Nothing;

impl Lock for Nothing {
    fn init(_: SharedBytes<'static>) {}

    fn attach(_: SharedBytes<'static>) -> Self {
        Self
    }

    #[inline(always)]
    fn with<R>(&mut self, body: impl FnOnce() -> R) -> R {
        body()
    }
}

/// The cheapest lock: an exchange, and a store. Or the cheapest one that finds out whether somebody
/// sleeps: two exchanges. Who waits spins.
struct Cheapest<const EXCHANGES: usize>(&'static AtomicU64);

impl<const EXCHANGES: usize> Lock for Cheapest<EXCHANGES> {
    fn init(_: SharedBytes<'static>) {}

    fn attach(memory: SharedBytes<'static>) -> Self {
        Self(memory.atomic_u64(0).unwrap())
    }

    #[inline(always)]
    fn with<R>(&mut self, body: impl FnOnce() -> R) -> R {
        while self
            .0
            .compare_exchange_weak(0, 1, Ordering::Acquire, Ordering::Relaxed)
            .is_err()
        {
            spin_loop();
        }
        let result = body();
        match EXCHANGES {
            1 => self.0.store(0, Ordering::Release),
            _ => assert_eq!(self.0.swap(0, Ordering::Release), 1),
        }
        result
    }
}

/// A lock and, on lines of their own, what it guards.
fn made<L: Lock>() -> (SharedBytes<'static>, &'static AtomicU64) {
    let [lock, guarded] = pieces(4096);
    L::init(lock);
    (lock, guarded.atomic_u64(0).unwrap())
}

fn times<L: Lock>(lock: &mut L, count: usize) {
    for i in 0..count {
        lock.with(|| black_box(i));
    }
}

/// The time of a lock and an unlock, in ns, when nobody else is there.
fn uncontended<L: Lock>(count: usize) -> impl FnMut() -> f64 {
    move || {
        let mut lock = L::attach(made::<L>().0);
        times(&mut lock, count / 10);
        let start = Instant::now();
        times(&mut lock, count);
        start.elapsed().as_nanos() as f64 / count as f64
    }
}

/// The time of a turn, in ns, of two processes that both do nothing but take turns as often as they can.
fn hammering<L: Lock>(count: usize) -> impl FnMut() -> f64 {
    move || {
        let (memory, guarded) = made::<L>();
        let work = || {
            let mut lock = L::attach(memory);
            let mut end = 0;
            while end < 2 * count as u64 {
                end = lock.with(|| {
                    let value = guarded.load(Ordering::Relaxed) + 1;
                    guarded.store(value, Ordering::Relaxed);
                    value
                });
            }
        };
        let start = Instant::now();
        beside(Peer::Process, THERE, work, work);
        start.elapsed().as_nanos() as f64 / (2 * count) as f64
    }
}

/// The time of a turn, in ns, where each has to wait for the other one's.
fn strict_turns<L: Lock>(count: usize) -> impl FnMut() -> f64 {
    move || {
        let (memory, guarded) = made::<L>();
        let work = |own: u64| {
            let mut lock = L::attach(memory);
            let mut done = 0;
            while done < count {
                done += lock.with(|| {
                    let turn = guarded.load(Ordering::Relaxed);
                    if turn % 2 != own {
                        return 0;
                    }
                    guarded.store(turn + 1, Ordering::Relaxed);
                    1
                });
            }
        };
        let start = Instant::now();
        beside(Peer::Process, THERE, || work(1), || work(0));
        start.elapsed().as_nanos() as f64 / (2 * count) as f64
    }
}

/// The median time, in ns, from an unlock to the moment when one who slept has locked.
fn to_a_sleeper<L: Lock>(count: usize) -> impl FnMut() -> f64 {
    move || {
        let (memory, guarded) = made::<L>();
        let pause = (200_000.0 * ticks_per_ns()) as u64;
        // The round that begins, and when the lock was given back.
        let round = guarded;
        let given = memory.atomic_u64(2048).unwrap();
        let mut waited = Vec::new();
        let waited = &mut waited;
        beside(
            Peer::Process,
            THERE,
            move || {
                let mut lock = L::attach(memory);
                for i in 0..count as u64 {
                    while round.load(Ordering::Acquire) != 2 * i {
                        spin_loop();
                    }
                    lock.with(|| {
                        round.store(2 * i + 1, Ordering::Release);
                        machine::until(ticks() + pause);
                        given.store(ticks(), Ordering::Relaxed);
                    });
                }
            },
            || {
                let mut lock = L::attach(memory);
                for i in 0..count as u64 {
                    while round.load(Ordering::Acquire) != 2 * i + 1 {
                        spin_loop();
                    }
                    let woken = lock.with(|| ticks().wrapping_sub(given.load(Ordering::Relaxed)));
                    waited.push(woken as f64);
                    round.store(2 * i + 2, Ordering::Release);
                }
            },
        );
        contest::quantile(std::mem::take(waited), 0.5) / ticks_per_ns()
    }
}

/// A contestant's name, and its batches in all rows.
macro_rules! contestants {
    ($($name:literal: $lock:ty),* $(,)?) => {
        fn uncontended_row(settings: Settings) {
            let count = 1_000_000 / settings.hurry;
            let contest = Contest::new("lock and unlock, nobody else there", NS);
            $(let contest = contest.add($name, uncontended::<$lock>(count));)*
            contest.run(settings);
        }

        fn count(name: &str, n: usize) {
            match name {
                "nothing" => times(&mut Nothing, n),
                $($name => times(&mut <$lock>::attach(made::<$lock>().0), n),)*
                _ => panic!("{name} is none of {:?}", [$($name),*]),
            }
        }
    };
}

contestants! {
    "limit: cheapest": Cheapest<1>,
    "limit: two exchanges": Cheapest<2>,
    "glibc-mutex": c::Mutex<false>,
    "glibc-robust": c::Mutex<true>,
    "mutex": ours::Mutex<false>,
    "mutex-pthread": ours::Mutex<true>,
    "spin": ours::Spin,
    "glibc-sem": c::Semaphore,
    "semaphore": ours::Semaphore,
    "glibc-rwlock-read": c::RwLock<false>,
    "rwlock-read": ours::RwLock<false>,
    "glibc-rwlock-write": c::RwLock<true>,
    "rwlock-write": ours::RwLock<true>,
}

const ROWS: [Row; 4] = [
    ("uncontended", uncontended_row),
    ("hammering", |settings| {
        let count = 200_000 / settings.hurry;
        Contest::new("a turn of two who hammer", NS)
            .add("limit: cheapest", hammering::<Cheapest<1>>(count))
            .add("glibc-mutex", hammering::<c::Mutex<false>>(count))
            .add("glibc-robust", hammering::<c::Mutex<true>>(count))
            .add("mutex", hammering::<ours::Mutex<false>>(count))
            .add("mutex-pthread", hammering::<ours::Mutex<true>>(count))
            .add("spin", hammering::<ours::Spin>(count))
            .add("glibc-sem", hammering::<c::Semaphore>(count))
            .add("semaphore", hammering::<ours::Semaphore>(count))
            .run(settings);
    }),
    ("hand-over", |settings| {
        let count = 20_000 / settings.hurry;
        Contest::new("a strict turn", NS)
            .add("limit: cheapest", strict_turns::<Cheapest<1>>(count))
            .add("glibc-mutex", strict_turns::<c::Mutex<false>>(count))
            .add("glibc-robust", strict_turns::<c::Mutex<true>>(count))
            .add("mutex", strict_turns::<ours::Mutex<false>>(count))
            .add("mutex-pthread", strict_turns::<ours::Mutex<true>>(count))
            .add("spin", strict_turns::<ours::Spin>(count))
            .add("glibc-sem", strict_turns::<c::Semaphore>(count))
            .add("semaphore", strict_turns::<ours::Semaphore>(count))
            .run(settings);
    }),
    ("sleeper", |settings| {
        let count = 100 / settings.hurry;
        Contest::new("from an unlock to a sleeper's lock", NS)
            .add("limit: futex", to_a_sleeper::<c::BareFutex>(count))
            .add("glibc-robust", to_a_sleeper::<c::Mutex<true>>(count))
            .add("mutex", to_a_sleeper::<ours::Mutex<false>>(count))
            .add("mutex-pthread", to_a_sleeper::<ours::Mutex<true>>(count))
            .add("semaphore", to_a_sleeper::<ours::Semaphore>(count))
            .run(settings);
    }),
];

fn main() {
    machine::guard();
    assert_eq!(HERE, 0);
    let arguments: Vec<String> = env::args().skip(1).filter(|a| a != "--bench").collect();
    if let [option, name, n] = &arguments[..]
        && option == "--count"
    {
        return count(name, n.parse().expect("a number"));
    }
    contest::run(&ROWS, &arguments);
}
