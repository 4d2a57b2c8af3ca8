//! What does a reader cost the producer of a broadcast?

use std::hint::{black_box, spin_loop};
use std::sync::atomic::{AtomicU64, Ordering, fence};
use std::time::Instant;

use linipc_core::shared::SharedBytes;

use crate::channel::{Load, check, fill, stamp};
use crate::contest::quantile;
use crate::machine::{self, pieces, process, ticks, ticks_per_ns};

pub(crate) const N: usize = 64;
/// A message is stamped as many messages before it is sent.
const AHEAD: usize = 64;

/// What carries messages of [`N`] bytes from one producer that never waits to readers that may lose some.
pub(crate) trait Broadcast {
    type Publisher: Publisher;
    type Subscriber: Subscriber;

    /// How many bytes it needs for so many messages.
    fn len(slots: usize) -> usize;
    fn create(memory: SharedBytes<'static>, slots: usize) -> Self;
    fn publisher(&self) -> Self::Publisher;
    fn subscriber(&self) -> Self::Subscriber;
}

pub(crate) trait Publisher {
    fn publish(&mut self, message: &[u8; N]);
}

pub(crate) trait Subscriber {
    /// Whether there was a message.
    fn poll(&mut self, into: &mut [u8; N]) -> bool;
}

/// A number, and the message behind it, over and over: what the lines themselves cost, whatever a ring does.
#[derive(Debug)]
pub(crate) struct Lines {
    memory: SharedBytes<'static>,
    slots: usize,
}

#[derive(Debug)]
pub(crate) struct Line {
    memory: SharedBytes<'static>,
    slots: usize,
    next: usize,
}

const STRIDE: usize = 8 + N;

impl Line {
    fn number(&self) -> &AtomicU64 {
        self.memory
            .atomic_u64(self.next % self.slots * STRIDE)
            .unwrap()
    }

    fn message(&self) -> *mut [u8; N] {
        let at = self.next % self.slots * STRIDE + 8;
        self.memory.slice(at, N).unwrap().as_ptr().cast()
    }
}

impl Broadcast for Lines {
    type Publisher = Line;
    type Subscriber = Line;

    fn len(slots: usize) -> usize {
        slots * STRIDE
    }

    fn create(memory: SharedBytes<'static>, slots: usize) -> Self {
        for slot in 0..slots {
            let number = memory.atomic_u64(slot * STRIDE).unwrap();
            number.store(0, Ordering::Relaxed);
        }
        Self { memory, slots }
    }

    fn publisher(&self) -> Line {
        Line {
            memory: self.memory,
            slots: self.slots,
            next: 0,
        }
    }

    fn subscriber(&self) -> Line {
        self.publisher()
    }
}

impl Publisher for Line {
    #[inline]
    fn publish(&mut self, message: &[u8; N]) {
        self.number().store(0, Ordering::Relaxed);
        fence(Ordering::Release);
        // SAFETY: The memory has so many bytes; readers look at the number before and after.
        unsafe { self.message().write_volatile(*message) };
        self.number().store(self.next as u64 + 1, Ordering::Release);
        self.next += 1;
    }
}

impl Subscriber for Line {
    #[inline]
    fn poll(&mut self, into: &mut [u8; N]) -> bool {
        loop {
            let seen = self.number().load(Ordering::Acquire);
            if seen <= self.next as u64 {
                return false;
            }
            self.next = seen as usize - 1;
            // SAFETY: The memory has so many bytes, and what is torn is dropped.
            *into = unsafe { self.message().read_volatile() };
            fence(Ordering::Acquire);
            if self.number().load(Ordering::Relaxed) == seen {
                self.next += 1;
                return true;
            }
        }
    }
}

/// Numbered messages.
struct Messages(Box<[[u8; N]; AHEAD]>);

impl Messages {
    fn new() -> Self {
        let mut messages = Box::new([[0; N]; AHEAD]);
        for (k, message) in messages.iter_mut().enumerate() {
            fill(k, message);
        }
        Self(black_box(messages))
    }

    #[inline]
    fn get(&self, k: usize) -> &[u8; N] {
        &self.0[k % AHEAD]
    }

    #[inline]
    fn done(&mut self, k: usize) {
        stamp(k + AHEAD, &mut self.0[k % AHEAD]);
    }
}

/// The time of a message, in ns, when one follows the other at once.
pub(crate) fn flat_out<B: Broadcast>(readers: usize, load: Load) -> impl FnMut() -> f64 {
    move || {
        broadcast::<B>(readers, load, |publisher, messages| {
            let start = Instant::now();
            for k in load.slots..load.slots + load.count {
                publisher.publish(messages.get(k));
                messages.done(k);
            }
            start.elapsed().as_nanos() as f64 / load.count as f64
        })
    }
}

/// The median time of a message, in ns, when there is one every `every` ns.
pub(crate) fn paced<B: Broadcast>(readers: usize, every: f64, load: Load) -> impl FnMut() -> f64 {
    move || {
        let pause = (every * ticks_per_ns()) as u64;
        let timed = |body: &mut dyn FnMut()| {
            let start = ticks();
            body();
            ticks() - start
        };
        let nothing = (0..load.count).map(|_| timed(&mut || ()) as f64).collect();
        let overhead = quantile(nothing, 0.5);
        broadcast::<B>(readers, load, |publisher, messages| {
            let mut next = ticks();
            let times = (load.slots..load.slots + load.count).map(|k| {
                next += pause;
                machine::until(next);
                let time = timed(&mut || publisher.publish(messages.get(k)));
                messages.done(k);
                time as f64 - overhead
            });
            quantile(times.collect(), 0.5) / ticks_per_ns()
        })
    }
}

/// Runs `produce` after a lap of the ring, while `readers` processes read on the other CPU.
fn broadcast<B: Broadcast>(
    readers: usize,
    load: Load,
    produce: impl FnOnce(&mut B::Publisher, &mut Messages) -> f64,
) -> f64 {
    let [memory, control] = pieces(B::len(load.slots));
    let (ready, last) = (
        control.atomic_u64(0).unwrap(),
        control.atomic_u64(128).unwrap(),
    );
    let channel = B::create(memory, load.slots);
    let read = || {
        let mut subscriber = channel.subscriber();
        let mut into = [0; N];
        ready.fetch_add(1, Ordering::Release);
        let (mut received, mut next) = (0, 0);
        loop {
            if subscriber.poll(&mut into) {
                let k = u64::from_le_bytes(*into.first_chunk().unwrap());
                assert!(k >= next, "message {k} again");
                check(k as usize, &into);
                (received, next) = (received + 1, k + 1);
            } else if last.load(Ordering::Acquire) == next && next > 0 {
                break;
            } else {
                spin_loop();
            }
        }
        assert!(received > 0);
    };
    let children = (0..readers)
        .map(|_| process(load.cpu, read))
        .collect::<Vec<_>>();
    while ready.load(Ordering::Acquire) < readers as u64 {
        spin_loop();
    }

    let (mut publisher, mut messages) = (channel.publisher(), Messages::new());
    for k in 0..load.slots {
        publisher.publish(messages.get(k));
        messages.done(k);
    }
    let result = produce(&mut publisher, &mut messages);
    last.store((load.slots + load.count) as u64, Ordering::Release);
    for child in children {
        child.join();
    }
    result
}
