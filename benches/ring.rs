//! How fast is the ring, beside what the machine can do and beside the rings of others?
//!
//! `cargo bench --bench ring`, with `-- --quick` for a first look, and `-- NAME` for the rows whose
//! name contains it. Two processes on two CPUs (two threads where a library knows only those), the
//! contestants' batches in alternation, in rounds. Printed are the medians of the rounds, the
//! middle half, and the median of the ratios to the first contestant in the same round. Every batch
//! lies between two bounces of a bare cache line. A batch does not count if a bounce shows that the
//! machine was not as usual, or if others took the CPUs far more often than in that contestant's
//! calmest one.
//! Nothing else should run meanwhile: the number of such interruptions says whether something did.
//!
//! `-- --count NAME N` is for counting instructions: see `ring/count.rs`.

#[path = "ring/broadcast.rs"]
mod broadcast;
#[path = "ring/channel.rs"]
mod channel;
#[path = "support/contest.rs"]
mod contest;
#[path = "ring/count.rs"]
mod count;
#[path = "ring/hand.rs"]
mod hand;
#[path = "ring/limits.rs"]
mod limits;
#[path = "support/machine.rs"]
mod machine;
#[path = "ring/ours.rs"]
mod ours;
#[path = "ring/peers.rs"]
mod peers;

use std::env;
use std::time::Instant;

use broadcast::Lines;
use channel::{Load, batches, in_place, large, one_way, round_trip, to_a_sleeper};
use contest::{Contest, Row, Settings};
use hand::Hand;
use machine::HERE;
use peers::{ArrayQueue, BareFutex, Mailbox, Rtrb, ShmemIpc, TimedFutex};

const KIB: usize = 1 << 10;
const MIB: usize = 1 << 20;
const NS: &str = "ns";
const MILLIONS: &str = "M/s";
const GIB: &str = "GiB/s";

const ROWS: [Row; 10] = [
    ("round-trip", |settings| {
        round_trips::<8>(settings);
        round_trips::<64>(settings);
    }),
    ("asleep", asleep),
    ("sleeper", sleeper),
    ("one-cpu", one_cpu),
    ("in-place", places),
    ("one-way", |settings| {
        one_ways::<8>(4 * KIB, 1_000_000, settings);
        one_ways::<64>(4 * KIB, 400_000, settings);
        one_ways::<KIB>(KIB, 100_000, settings);
    }),
    ("batches", |settings| {
        in_batches::<8>(4 * KIB, 4_000_000, settings);
        in_batches::<64>(4 * KIB, 1_000_000, settings);
        in_batches::<KIB>(KIB, 100_000, settings);
    }),
    ("large", |settings| {
        copies::<{ 64 * KIB }>(64, 2_000, settings);
        copies::<MIB>(4, 200, settings);
    }),
    ("many", many),
    ("broadcast", broadcasts),
];

fn main() {
    machine::guard();
    let start = Instant::now();
    let arguments: Vec<String> = env::args().skip(1).filter(|a| a != "--bench").collect();
    if let [option, name, pairs] = &arguments[..]
        && option == "--count"
    {
        return count::count(name, pairs.parse().expect("a number of pairs"));
    }
    contest::run(&ROWS, &arguments);
    eprintln!("{} s", start.elapsed().as_secs());
}

fn round_trips<const N: usize>(settings: Settings) {
    let load = Load::new(4 * KIB, 40_000 / settings.hurry);
    Contest::new(format!("round trip, spinning, {N} B"), NS)
        .add("limit: mailbox", round_trip::<N, Mailbox<N>>(load))
        .add("the same lines both ways", limits::same_lines::<N>(load))
        .add("hand-made index ring", round_trip::<N, Hand<N>>(load))
        .add("rtrb (threads)", round_trip::<N, Rtrb<N>>(load))
        .add("shmem-ipc, polled", round_trip::<N, ShmemIpc<N>>(load))
        .add("ours", round_trip::<N, ours::Spsc<N>>(load))
        .add(
            "ours, spin then sleep",
            round_trip::<N, ours::SpscSpinThenSleep<N>>(load),
        )
        .add("ours, items", round_trip::<N, ours::Items<N>>(load))
        .run(settings);
}

fn asleep(settings: Settings) {
    let load = Load::new(64, 500 / settings.hurry);
    Contest::new("round trip, both asleep, 8 B", NS)
        .add("limit: futex", round_trip::<8, BareFutex>(load))
        .add("limit: futex, timed", round_trip::<8, TimedFutex>(load))
        .add("ours, sleep", round_trip::<8, ours::SpscSleep<8>>(load))
        .run(settings);
}

fn sleeper(settings: Settings) {
    const PAUSE_NS: f64 = 200_000.0;
    let load = Load::new(8, 100 / settings.hurry);
    Contest::new("one way to a sleeper, 8 B", NS)
        .add("limit: futex", to_a_sleeper::<BareFutex>(PAUSE_NS, load))
        .add(
            "limit: futex, timed",
            to_a_sleeper::<TimedFutex>(PAUSE_NS, load),
        )
        .add(
            "ours, sleep",
            to_a_sleeper::<ours::SpscSleep<8>>(PAUSE_NS, load),
        )
        .run(settings);
}

fn one_cpu(settings: Settings) {
    let mut load = Load::new(64, 2_000 / settings.hurry);
    load.cpu = HERE;
    let mut few = load;
    few.count /= 10;
    Contest::new("round trip, both on one CPU, 8 B", NS)
        .add("limit: futex", round_trip::<8, BareFutex>(load))
        .add("limit: futex, timed", round_trip::<8, TimedFutex>(load))
        .add("ours, sleep", round_trip::<8, ours::SpscSleep<8>>(load))
        .add(
            "ours, spin then sleep",
            round_trip::<8, ours::SpscSpinThenSleep<8>>(few),
        )
        .run(settings);
}

fn places(settings: Settings) {
    let count = 20_000 / settings.hurry;
    Contest::new("round trip in place, the first bytes touched", NS)
        .add(
            "ours, 8 B copied",
            round_trip::<8, ours::Spsc<8>>(Load::new(4 * KIB, count)),
        )
        .add(
            "ours, 8 B in place",
            in_place::<ours::Spsc<8>>(8, Load::new(4 * KIB, count)),
        )
        .add(
            "ours, 64 KiB in place",
            in_place::<ours::Spsc<{ 64 * KIB }>>(64 * KIB, Load::new(64, count)),
        )
        .add(
            "ours, 1 MiB in place",
            in_place::<ours::Spsc<MIB>>(MIB, Load::new(4, count)),
        )
        .run(settings);
}

fn one_ways<const N: usize>(slots: usize, count: usize, settings: Settings) {
    let load = Load::new(slots, count / settings.hurry);
    Contest::new(format!("one way, one a call, {N} B"), MILLIONS)
        .add("rtrb (threads)", one_way::<N, Rtrb<N>>(load))
        .add("hand-made index ring", one_way::<N, Hand<N>>(load))
        .add("shmem-ipc, polled", one_way::<N, ShmemIpc<N>>(load))
        .add("ours", one_way::<N, ours::Spsc<N>>(load))
        .add("ours, items", one_way::<N, ours::Items<N>>(load))
        .run(settings);
}

fn in_batches<const N: usize>(slots: usize, count: usize, settings: Settings) {
    let load = Load::new(slots, count / settings.hurry);
    Contest::new(format!("one way, 64 a call, {N} B"), MILLIONS)
        .add("rtrb (threads)", batches::<N, Rtrb<N>>(load))
        .add("hand-made index ring", batches::<N, Hand<N>>(load))
        .add("shmem-ipc, polled", batches::<N, ShmemIpc<N>>(load))
        .add("ours", batches::<N, ours::Spsc<N>>(load))
        .add("ours, items", batches::<N, ours::Items<N>>(load))
        .run(settings);
}

fn copies<const N: usize>(slots: usize, count: usize, settings: Settings) {
    const OFFSETS: [usize; 6] = [0, 8, 16, 24, 40, 63];
    let load = Load::new(slots, count / settings.hurry);
    let mut contest = Contest::new(format!("one way, copied in and out, {} KiB", N / KIB), GIB)
        .add(
            "limit: copy out of the other's cache",
            limits::hot_copy(N, load),
        )
        .add("shmem-ipc, polled", large::<ShmemIpc<N>>(N, 0, load));
    for offset in OFFSETS {
        contest = contest.add(
            format!("offset {offset}"),
            large::<ours::Spsc<N>>(N, offset, load),
        );
    }
    let mut results = contest.measure(settings);
    let mut own = results.lines.split_off(2);
    own.sort_by(|a, b| b.median.total_cmp(&a.median));
    for (mut line, which) in [own.remove(0), own.pop().unwrap()]
        .into_iter()
        .zip(["best", "worst"])
    {
        line.name = format!("ours, {which} of six alignments: {}", line.name);
        results.lines.push(line);
    }
    results.print();
}

fn many(settings: Settings) {
    const N: usize = 64;
    let load = Load::new(4 * KIB, 400_000 / settings.hurry);
    Contest::new("one way, one to one, 64 B", MILLIONS)
        .add(
            "crossbeam ArrayQueue (threads)",
            one_way::<N, ArrayQueue<N>>(load),
        )
        .add("ours, spsc", one_way::<N, ours::Spsc<N>>(load))
        .add("ours, mpsc", one_way::<N, ours::Mpsc<N>>(load))
        .add("ours, mpmc", one_way::<N, ours::Mpmc<N>>(load))
        .run(settings);
    let load = Load::new(4 * KIB, 20_000 / settings.hurry);
    Contest::new("round trip, one to one, 64 B", NS)
        .add(
            "crossbeam ArrayQueue (threads)",
            round_trip::<N, ArrayQueue<N>>(load),
        )
        .add("ours, spsc", round_trip::<N, ours::Spsc<N>>(load))
        .add("ours, mpsc", round_trip::<N, ours::Mpsc<N>>(load))
        .add("ours, mpmc", round_trip::<N, ours::Mpmc<N>>(load))
        .run(settings);
}

fn broadcasts(settings: Settings) {
    const EVERY_NS: f64 = 2_000.0;
    let load = Load::new(KIB, 500_000 / settings.hurry);
    let mut flat_out = Contest::new("broadcast, 64 B, flat out: the producer's time", NS);
    for readers in 0..=3 {
        flat_out = flat_out
            .add(
                format!("limit: lines, {}", named(readers)),
                broadcast::flat_out::<Lines>(readers, load),
            )
            .add(
                format!("ours, {}", named(readers)),
                broadcast::flat_out::<ours::Broadcast>(readers, load),
            );
    }
    flat_out.run(settings);
    let load = Load::new(KIB, 10_000 / settings.hurry);
    let mut paced = Contest::new("broadcast, 64 B, one every 2 µs: the producer's time", NS);
    for readers in 0..=3 {
        paced = paced.add(
            named(readers),
            broadcast::paced::<ours::Broadcast>(readers, EVERY_NS, load),
        );
    }
    paced.run(settings);
}

fn named(readers: usize) -> String {
    match readers {
        1 => "1 reader".to_owned(),
        _ => format!("{readers} readers"),
    }
}
