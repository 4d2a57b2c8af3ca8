//! A peer that writes whatever it likes wherever it likes, while we push and pop in all forms.
//!
//! Every result is a value or an error: no panic, no hang, and no access outside of the ring, which
//! lies between pages that nobody may touch. What the peer writes is random, or what could be true:
//! small numbers, positions near the real ones, headers of messages. Now and then it punches holes
//! into the memory, and in between it keeps to the rules, so that there is something to break.

mod support;

use std::collections::BTreeMap;
use std::os::fd::{AsRawFd, OwnedFd};
use std::ptr::NonNull;
use std::time::{Duration, Instant};

use linipc::event::eventfd::EventFd;
use linipc_core::map::Access;
use linipc_core::memfd::{self, SealFlags};
use linipc_core::ring::spsc::{Consumer, Producer};
use linipc_core::ring::{self, AttachError, Error, Kind, Memory, Wait};
use linipc_core::shared::SharedBytes;
use std::sync::atomic::Ordering;
use support::peer;

const PAGE: usize = 4096;
/// How long each role lasts on each ring.
const TIME: Duration = Duration::from_millis(700);
const HEADER: usize = 1408;
/// Header fields that are written at run time: the head, and of each side the bell, the first slot,
/// and whether wakes may be missed.
const FIELDS: [usize; 7] = [256, 384, 448, 832, 896, 960, 1344];

/// A ring's memory between two pages without access: it begins at the one or ends at the other.
struct Guarded {
    fd: OwnedFd,
    /// What is reserved: the guards, and between them the pages of `fd`.
    start: NonNull<u8>,
    pages: usize,
    ring: usize,
    len: usize,
}

impl Guarded {
    fn new(capacity: u64, at_end: bool) -> Self {
        let len = ring::len(capacity).unwrap();
        let pages = len.div_ceil(PAGE);
        let fd = memfd::create(c"test", memfd::Flags::empty()).unwrap();
        rustix::fs::ftruncate(&fd, (pages * PAGE) as u64).unwrap();
        memfd::fcntl_add_seals(&fd, SealFlags::SHRINK | SealFlags::GROW).unwrap();
        let (none, anonymous) = (libc::PROT_NONE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
        let null = std::ptr::null_mut();
        // SAFETY: A new mapping.
        let start = unsafe { libc::mmap(null, (pages + 2) * PAGE, none, anonymous, -1, 0) };
        assert_ne!(start, libc::MAP_FAILED);
        let access = libc::PROT_READ | libc::PROT_WRITE;
        let fixed = libc::MAP_SHARED | libc::MAP_FIXED;
        let inner = start.wrapping_byte_add(PAGE);
        // SAFETY: Over the pages that were just reserved, without the first and the last one.
        let inner = unsafe { libc::mmap(inner, pages * PAGE, access, fixed, fd.as_raw_fd(), 0) };
        assert_ne!(inner, libc::MAP_FAILED);
        Self {
            fd,
            start: NonNull::new(start.cast()).unwrap(),
            pages,
            // Aligned to 128. Behind the longest message a ring has 64 bytes that nobody uses.
            ring: PAGE
                + if at_end {
                    (pages * PAGE - len) & !127
                } else {
                    0
                },
            len,
        }
    }
}

// SAFETY: The mapping stays until the value is dropped.
unsafe impl Memory for &Guarded {
    fn bytes(&self) -> SharedBytes<'_> {
        let ring = self.start.as_ptr().wrapping_add(self.ring);
        // SAFETY: Mapped so far (`new`), and reached through this view only.
        unsafe {
            SharedBytes::from_raw(
                NonNull::new(ring).unwrap(),
                self.len,
                Access::READ | Access::WRITE,
            )
        }
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        // SAFETY: The mapping is ours, and no view of it is left.
        unsafe { libc::munmap(self.start.as_ptr().cast(), (self.pages + 2) * PAGE) };
    }
}

/// Numbers without a pattern (xorshift64).
struct Random(u64);

impl Random {
    fn new() -> Self {
        let now = std::time::UNIX_EPOCH.elapsed().unwrap().as_nanos() as u64;
        let seed = now | 1;
        println!("seed {seed:#x}");
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() >> 16) as usize % bound
    }

    /// The length of a message, mostly a possible one.
    fn len(&mut self, max: usize) -> usize {
        match self.below(20) {
            0 => max,
            1 => max + 1 + self.below(100),
            2 => usize::MAX - self.below(32),
            3..8 => self.below(max + 1),
            _ => self.below(max.min(40)),
        }
    }

    fn wait(&mut self) -> Wait {
        let wait = [Wait::SPIN, Wait::SPIN_THEN_SLEEP, Wait::SLEEP][self.below(3)];
        wait.timeout(Duration::from_micros(self.below(500) as u64))
    }
}

/// Writes one word that could do harm.
fn scribble(random: &mut Random, bytes: SharedBytes<'_>, capacity: u64) {
    let at = match random.below(8) {
        // Positions and bells: what is read again and again.
        0..3 => FIELDS[random.below(FIELDS.len())],
        3 => random.below(HEADER / 8) * 8,
        // Where records begin, near the positions.
        4 | 5 => {
            let head = bytes.atomic_u64(256).unwrap().load(Ordering::Relaxed);
            let ahead = random.below(8) as u64 * 8;
            HEADER + ((head.wrapping_add(ahead) % capacity) & !7) as usize
        }
        _ => random.below(bytes.len() / 8) * 8,
    };
    let word = bytes.atomic_u64(at).unwrap();
    let old = word.load(Ordering::Relaxed);
    let len = random.below(capacity as usize) as u64;
    word.store(
        match random.below(12) {
            0 => random.next(),
            1 => len,
            2 => 0,
            3 => 1,
            4 => u64::MAX - len,
            5 | 6 => old.wrapping_add(8 * (len % 16)),
            7 => old.wrapping_sub(8 * (len % 16)),
            8 => old ^ 1 << random.below(64),
            9 => 1 << 56 | len,
            10 => (random.next() % 8) << 56 | len,
            _ => old.wrapping_add(capacity),
        },
        Ordering::Relaxed,
    );
}

/// Gives a page of the memory back to the kernel: it is zeros from now on.
fn punch(random: &mut Random, memory: &Guarded) {
    let at = random.below(memory.pages) * PAGE;
    let mode = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE;
    // SAFETY: The call takes no pointers.
    let done = unsafe {
        libc::fallocate(
            memory.fd.as_raw_fd(),
            mode,
            at as libc::off_t,
            PAGE as libc::off_t,
        )
    };
    assert_eq!(done, 0, "{}", std::io::Error::last_os_error());
}

/// Until it is killed: makes some steps by the rules, then scribbles.
fn attack(memory: &Guarded, capacity: u64, mut step: impl FnMut()) {
    let mut random = Random::new();
    loop {
        for _ in 0..random.below(100) {
            step();
        }
        for _ in 0..random.below(20) {
            scribble(&mut random, memory.bytes(), capacity);
        }
        if random.below(200) == 0 {
            punch(&mut random, memory);
        }
    }
}

/// How often each outcome was seen.
#[derive(Default)]
struct Seen(BTreeMap<String, u64>);

impl Seen {
    fn count<T>(&mut self, outcome: Result<T, Error>) -> Option<T> {
        let name = match &outcome {
            Ok(_) => "Ok".to_owned(),
            Err(error) => {
                let text = format!("{error:?}");
                text.split([' ', '(']).next().unwrap().to_owned()
            }
        };
        *self.0.entry(name).or_default() += 1;
        outcome.ok()
    }

    fn attached<T>(&mut self, outcome: Result<T, AttachError>) -> Option<T> {
        let name = if outcome.is_ok() {
            "attached"
        } else {
            "refused"
        };
        *self.0.entry(name.to_owned()).or_default() += 1;
        outcome.ok()
    }

    /// That the peer did let us come far, and did break something.
    fn check(&self, names: &[&str]) {
        println!("{:?}", self.0);
        for name in names {
            assert!(self.0.contains_key(*name), "never {name}: {:?}", self.0);
        }
    }
}

/// Runs a role on rings of some capacities, at both guards.
fn on_all_rings(mut role: impl FnMut(&Guarded, u64, &mut Seen)) -> Seen {
    let mut seen = Seen::default();
    for capacity in [64, 128, 4096] {
        for at_end in [false, true] {
            role(&Guarded::new(capacity, at_end), capacity, &mut seen);
        }
    }
    seen
}

#[test]
fn a_producer_survives_whatever_its_consumer_writes() {
    isolated!(|| {
        let seen = on_all_rings(|memory, capacity, seen| {
            ring::create(memory, Kind::Spsc, capacity).unwrap();
            let hostile = peer(|| {
                let mut consumer = None;
                attack(memory, capacity, || {
                    if consumer.is_none() {
                        consumer = Consumer::attach(memory).ok();
                    }
                    let done = consumer
                        .as_mut()
                        .map(|consumer| consumer.try_pop(&mut [0; 4096]));
                    if matches!(done, Some(Err(Error::Corrupt))) {
                        consumer = None;
                    }
                });
            });
            let mut random = Random::new();
            let end = Instant::now() + TIME;
            while Instant::now() < end {
                ring::create(memory, Kind::Spsc, capacity).unwrap();
                if let Some(mut producer) = seen.attached(Producer::attach(memory)) {
                    producer.set_event(OwnedFd::from(EventFd::new(0).unwrap()));
                    for _ in 0..100 {
                        produce(&mut producer, &mut random, seen);
                    }
                }
            }
            hostile.kill();
        });
        seen.check(&["attached", "Ok", "Full", "TooLong", "TimedOut", "Corrupt"]);
    });
}

/// One of all the things that a producer can do.
fn produce(producer: &mut Producer<&Guarded>, random: &mut Random, seen: &mut Seen) {
    let (max, capacity) = (producer.max_message(), producer.capacity());
    let bytes = [0xa5; 8192];
    let len = random.len(max);
    let message = &bytes[..len.min(bytes.len())];
    match random.below(128) {
        0 => drop(seen.count(producer.push(message, random.wait()))),
        1 => drop(seen.count(producer.wait(len, random.wait()))),
        2 => drop(seen.count(producer.arm(len))),
        3 => {
            let _ = (producer.peers(), producer.counters());
        }
        4..8 => {
            if let Some(free) = seen.count(producer.free()) {
                assert!(free <= capacity - 8);
            }
        }
        8..16 => drop(seen.count(producer.try_push_value(&[7_u64; 3]))),
        16..32 => {
            let Some(mut claim) = seen.count(producer.try_claim(len)) else {
                return;
            };
            assert_eq!(claim.len(), len);
            let offset = random.len(max);
            let _ = seen.count(claim.write(offset, &bytes[..random.below(max + 1)]));
            let _ = seen.count(claim.truncate(random.len(max)));
            if random.below(4) > 0 {
                claim.commit();
            }
        }
        32..48 => {
            let mut batch = producer.batch();
            let mut pushed = 0;
            for _ in 0..random.below(20) {
                let len = random.len(max).min(bytes.len());
                if seen.count(batch.try_push(&bytes[..len])).is_some() {
                    pushed += 8 + len;
                }
            }
            assert!(pushed <= capacity - 8, "more than there can be room for");
            if random.below(4) > 0 {
                batch.commit();
            }
        }
        _ => drop(seen.count(producer.try_push(message))),
    }
}

#[test]
fn a_consumer_survives_whatever_its_producer_writes() {
    isolated!(|| {
        let seen = on_all_rings(|memory, capacity, seen| {
            ring::create(memory, Kind::Spsc, capacity).unwrap();
            let hostile = peer(|| {
                let mut producer = None;
                attack(memory, capacity, || {
                    if producer.is_none() {
                        producer = Producer::attach(memory).ok();
                    }
                    let done = producer
                        .as_mut()
                        .map(|producer| producer.try_push(&[1; 20]));
                    if matches!(done, Some(Err(Error::Corrupt))) {
                        producer = None;
                    }
                });
            });
            let mut random = Random::new();
            let end = Instant::now() + TIME;
            while Instant::now() < end {
                ring::create(memory, Kind::Spsc, capacity).unwrap();
                if let Some(mut consumer) = seen.attached(Consumer::attach(memory)) {
                    consumer.set_event(OwnedFd::from(EventFd::new(0).unwrap()));
                    for _ in 0..100 {
                        consume(&mut consumer, &mut random, seen);
                    }
                }
            }
            hostile.kill();
        });
        seen.check(&[
            "attached",
            "Ok",
            "Empty",
            "BufferLen",
            "TimedOut",
            "Corrupt",
        ]);
    });
}

/// One of all the things that a consumer can do.
fn consume(consumer: &mut Consumer<&Guarded>, random: &mut Random, seen: &mut Seen) {
    let (max, capacity) = (consumer.max_message(), consumer.capacity());
    let mut bytes = [0; 8192];
    let len = random.len(max).min(bytes.len());
    let buf = &mut bytes[..len];
    let popped = match random.below(128) {
        0 => seen.count(consumer.pop(buf, random.wait())),
        1 => {
            let _ = seen.count(consumer.wait(random.wait()));
            None
        }
        2 => {
            let _ = seen.count(consumer.arm());
            None
        }
        3 => {
            let _ = (consumer.peers(), consumer.counters());
            None
        }
        4..12 => {
            let _ = seen.count(consumer.try_pop_value::<[u32; 5]>());
            let _ = seen.count(consumer.try_pop_to(&mut [0_u8; 20]));
            None
        }
        12..32 => {
            let Some(message) = seen.count(consumer.try_peek()) else {
                return;
            };
            assert!(message.len() <= max);
            let _ = seen.count(message.read(random.len(max), buf));
            if random.below(4) > 0 {
                message.release();
            }
            None
        }
        32..44 => {
            let mut batch = consumer.batch();
            let mut messages = 0;
            while let Some(message) = seen.count(batch.try_next()) {
                assert!(message.len() <= max);
                let _ = seen.count(message.read(random.len(max), buf));
                messages += 1;
                assert!(messages <= capacity / 8, "more than there can be");
            }
            if random.below(4) > 0 {
                batch.release();
            }
            None
        }
        _ => seen.count(consumer.try_pop(buf)),
    };
    assert!(popped.unwrap_or(0) <= len.min(max));
}

#[test]
fn whatever_is_in_the_memory_attaching_is_an_answer() {
    isolated!(|| {
        let seen = on_all_rings(|memory, capacity, seen| {
            // The kind, the version and the capacity are attacked too, and the identities.
            let hostile = peer(|| attack(memory, capacity, || ()));
            let mut random = Random::new();
            let end = Instant::now() + TIME / 2;
            while Instant::now() < end {
                if random.below(4) == 0 {
                    ring::create(memory, Kind::Spsc, capacity).unwrap();
                }
                drop(seen.attached(Producer::attach(memory)));
                drop(seen.attached(Consumer::attach(memory)));
            }
            hostile.kill();
        });
        seen.check(&["attached", "refused"]);
    });
}

#[test]
fn an_access_outside_of_the_ring_would_be_noticed() {
    isolated!(|| {
        for at_end in [false, true] {
            let memory = Guarded::new(128, at_end);
            let outside = match at_end {
                false => memory.ring - 1,
                true => memory.ring + memory.len,
            };
            let outside = memory.start.as_ptr().wrapping_add(outside);
            let faults = peer(|| {
                // SAFETY: None: the page cannot be read, and the process ends.
                unsafe { outside.read_volatile() };
            });
            support::eventually("it is killed", || {
                let stat = format!("/proc/{}/stat", faults.pid());
                let stat = std::fs::read_to_string(stat).unwrap();
                // The exit code is the last field: that of SIGSEGV.
                stat.contains(") Z ") && stat.trim_end().ends_with(&format!(" {}", libc::SIGSEGV))
            });
        }
    });
}
