//! What must a contestant be able to do, and how long does it take for that?
//!
//! Every end is opened on the side that uses it. Before a batch is timed it goes once round the
//! whole ring, so that both sides have touched all pages. Messages are checked where they arrive:
//! in the warm-up in full, then the first and the last word, of a batch those of two messages.

use std::hint::black_box;
use std::time::Instant;

use linipc_core::shared::SharedBytes;

use crate::contest::quantile;
use crate::machine::{self, Peer, Private, THERE, beside, pieces, ticks, ticks_per_ns};

/// How many messages a call of the batches takes.
pub(crate) const BATCH: usize = 64;

/// One direction, one sender and one receiver.
pub(crate) trait Channel: Sync {
    const PEER: Peer = Peer::Process;
    type Sender: Sender;
    type Receiver: Receiver;

    /// Makes a channel in `memory`, of which the first page is zeroed: `slots` messages of the
    /// contestant's size fit in twice, with 16 bytes for each, beside 64 KiB.
    fn create(memory: SharedBytes<'static>, slots: usize) -> Self;
    /// Opens the sender, once, on the side that uses it.
    fn sender(&self) -> Self::Sender;
    /// Opens the receiver, once, on the side that uses it.
    fn receiver(&self) -> Self::Receiver;
}

pub(crate) trait Sender {
    /// Waits for room.
    fn send(&mut self, message: &[u8]);
}

pub(crate) trait Receiver {
    /// Waits for a message and gives its length.
    fn receive(&mut self, into: &mut [u8]) -> usize;
}

pub(crate) trait SendBatch<const N: usize> {
    /// Sends all of them, with as few changes of shared state as it can.
    fn send_batch(&mut self, messages: &[[u8; N]]);
}

pub(crate) trait ReceiveBatch<const N: usize> {
    /// Waits for a message and gives how many there were.
    fn receive_batch(&mut self, into: &mut [[u8; N]]) -> usize;
}

pub(crate) trait SendInPlace {
    /// Waits for room for `len` bytes and sends what `fill` leaves there.
    fn send_in_place(&mut self, len: usize, fill: impl FnOnce(*mut u8));
}

pub(crate) trait ReceiveInPlace {
    /// Waits for a message, and frees its place after `read`.
    fn receive_in_place<R>(&mut self, read: impl FnOnce(*const u8, usize) -> R) -> R;
}

/// How much a batch does.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Load {
    pub(crate) slots: usize,
    /// Messages or round trips that are timed.
    pub(crate) count: usize,
    /// Where the other side runs.
    pub(crate) cpu: usize,
}

impl Load {
    pub(crate) const fn new(slots: usize, count: usize) -> Self {
        let cpu = THERE;
        Self { slots, count, cpu }
    }

    fn channels<C: Channel, const K: usize>(self, message: usize) -> [C; K] {
        let len = self.slots * (message + 16) * 2 + (64 << 10);
        pieces(len).map(|memory| C::create(memory, black_box(self.slots)))
    }
}

/// Word `at` of message `k`.
#[inline]
fn word(k: usize, at: usize) -> u64 {
    (k as u64).wrapping_add((at as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15))
}

/// Message `k`.
pub(crate) fn fill(k: usize, message: &mut [u8]) {
    for (at, bytes) in message.chunks_exact_mut(8).enumerate() {
        bytes.copy_from_slice(&word(k, at).to_le_bytes());
    }
}

/// Makes a filled message number `k`, as far as [`check`] looks.
#[inline]
pub(crate) fn stamp(k: usize, message: &mut [u8]) {
    let last = message.len() / 8 - 1;
    *message.last_chunk_mut().unwrap() = word(k, last).to_le_bytes();
    *message.first_chunk_mut().unwrap() = word(k, 0).to_le_bytes();
}

/// Panics if the first or the last word is not that of message `k`.
#[inline]
pub(crate) fn check(k: usize, message: &[u8]) {
    let first = u64::from_le_bytes(*message.first_chunk().unwrap());
    let last = u64::from_le_bytes(*message.last_chunk().unwrap());
    let good = first == word(k, 0) && last == word(k, message.len() / 8 - 1);
    assert!(good, "not message {k}");
}

/// Panics if it is not message `k`, but for the stamp `stamped`.
pub(crate) fn check_all(k: usize, stamped: usize, message: &[u8]) {
    check(stamped, message);
    let words = message.len() / 8;
    for (at, bytes) in message.chunks_exact(8).enumerate().take(words - 1).skip(1) {
        assert_eq!(bytes, word(k, at).to_le_bytes(), "message {k}, word {at}");
    }
}

/// The messages to send, in turn, so that none is written just before it is sent.
pub(crate) struct Messages<const N: usize>(Box<[[u8; N]; BATCH]>);

impl<const N: usize> Messages<N> {
    /// They fit into the first cache.
    const DIFFERENT: usize = if N > 256 { BATCH / 4 } else { BATCH };

    pub(crate) fn new() -> Self {
        let mut messages = Box::new([[0; N]; BATCH]);
        for (k, message) in messages.iter_mut().enumerate() {
            fill(k, message);
        }
        Self(black_box(messages))
    }

    #[inline]
    pub(crate) fn get(&self, i: usize) -> &[u8; N] {
        &self.0[i % Self::DIFFERENT]
    }

    #[inline]
    pub(crate) fn check(i: usize, message: &[u8; N]) {
        // An array, whose length stays known.
        let message: &[u8; N] = black_box(message);
        check(i % Self::DIFFERENT, message);
    }

    fn check_all(i: usize, message: &[u8; N]) {
        let k = i % Self::DIFFERENT;
        check_all(k, k, message);
    }
}

pub(crate) fn ns_each(start: Instant, count: usize) -> f64 {
    start.elapsed().as_nanos() as f64 / count as f64
}

/// The time of a round trip, copied in and out both ways, in ns.
pub(crate) fn round_trip<const N: usize, C: Channel>(load: Load) -> impl FnMut() -> f64 {
    move || {
        let [there, back]: [C; 2] = load.channels(N);
        beside(
            C::PEER,
            load.cpu,
            || {
                let (mut receiver, mut sender) = (there.receiver(), back.sender());
                let mut message = [0; N];
                for i in 0..load.slots + load.count {
                    assert_eq!(receiver.receive(&mut message), N);
                    Messages::check(i, &message);
                    sender.send(&message);
                }
            },
            || {
                let (mut sender, mut receiver) = (there.sender(), back.receiver());
                let messages = Messages::<N>::new();
                let mut into = [0; N];
                let mut trip = |i| {
                    sender.send(messages.get(i));
                    assert_eq!(receiver.receive(&mut into), N);
                    Messages::check(i, &into);
                    into
                };
                (0..load.slots).for_each(|i| Messages::check_all(i, &trip(i)));
                let start = Instant::now();
                (load.slots..load.slots + load.count).for_each(|i| _ = trip(i));
                ns_each(start, load.count)
            },
        )
    }
}

/// How many million messages a second go one way, one a call.
pub(crate) fn one_way<const N: usize, C: Channel>(load: Load) -> impl FnMut() -> f64 {
    move || {
        let [channel]: [C; 1] = load.channels(N);
        beside(
            C::PEER,
            load.cpu,
            || {
                let mut sender = channel.sender();
                let messages = Messages::<N>::new();
                (0..load.slots + load.count).for_each(|i| sender.send(messages.get(i)));
            },
            || {
                let mut receiver = channel.receiver();
                let mut into = [0; N];
                for i in 0..load.slots {
                    assert_eq!(receiver.receive(&mut into), N);
                    Messages::check_all(i, &into);
                }
                let start = Instant::now();
                for i in load.slots..load.slots + load.count {
                    assert_eq!(receiver.receive(&mut into), N);
                    Messages::check(i, &into);
                }
                1e3 / ns_each(start, load.count)
            },
        )
    }
}

/// How many million messages a second go one way, [`BATCH`] a call.
pub(crate) fn batches<const N: usize, C>(load: Load) -> impl FnMut() -> f64
where
    C: Channel<Sender: SendBatch<N>, Receiver: ReceiveBatch<N>>,
{
    move || {
        let [channel]: [C; 1] = load.channels(N);
        let calls = (load.slots + load.count).div_ceil(BATCH);
        beside(
            C::PEER,
            load.cpu,
            || {
                let mut sender = channel.sender();
                let messages = Messages::<N>::new();
                (0..calls).for_each(|_| sender.send_batch(&messages.0[..]));
            },
            || {
                let mut receiver = channel.receiver();
                let mut into = Box::new([[0; N]; BATCH]);
                let mut receive = |done: usize, warm: bool| {
                    let got = receiver.receive_batch(&mut into[..]);
                    let got = &black_box(&into)[..got];
                    let k = |i: usize| (done + i) % BATCH;
                    check(k(0), &got[0]);
                    check(k(got.len() - 1), &got[got.len() - 1]);
                    if warm {
                        let messages = got.iter().enumerate();
                        messages.for_each(|(i, message)| check_all(k(i), k(i), message));
                    }
                    got.len()
                };
                let mut done = 0;
                while done < load.slots {
                    done += receive(done, true);
                }
                let (start, first) = (Instant::now(), done);
                while done < calls * BATCH {
                    done += receive(done, false);
                }
                1e3 / ns_each(start, done - first)
            },
        )
    }
}

/// How many GiB a second go one way from and to buffers that start `offset` bytes into a page.
pub(crate) fn large<C: Channel>(len: usize, offset: usize, load: Load) -> impl FnMut() -> f64 {
    move || {
        let [channel]: [C; 1] = load.channels(len);
        let all = load.slots + load.count;
        beside(
            C::PEER,
            load.cpu,
            || {
                let mut sender = channel.sender();
                let mut message = Private::new(len, offset);
                fill(0, message.bytes());
                for i in 0..all {
                    stamp(i, message.bytes());
                    sender.send(message.bytes());
                }
            },
            || {
                let mut receiver = channel.receiver();
                let mut into = Private::new(len, offset);
                let mut receive = |i, check: fn(usize, usize, &[u8])| {
                    assert_eq!(receiver.receive(into.bytes()), len);
                    check(0, i, black_box(into.bytes()));
                };
                (0..load.slots).for_each(|i| receive(i, check_all));
                let start = Instant::now();
                (load.slots..all).for_each(|i| receive(i, |_, i, message| check(i, message)));
                gib_a_second(len, ns_each(start, load.count))
            },
        )
    }
}

pub(crate) fn gib_a_second(len: usize, ns: f64) -> f64 {
    len as f64 / ns * 1e9 / f64::from(1 << 30)
}

/// The time of a round trip of `len` bytes of which only the first eight are touched, in ns.
pub(crate) fn in_place<C>(len: usize, load: Load) -> impl FnMut() -> f64
where
    C: Channel<Sender: SendInPlace, Receiver: ReceiveInPlace>,
{
    move || {
        let [there, back]: [C; 2] = load.channels(len);
        let all = load.slots + load.count;
        let send = |sender: &mut C::Sender, value: u64| {
            sender.send_in_place(len, |at| {
                // SAFETY: There are `len` bytes, which are this side's until they are sent.
                unsafe { at.cast::<u64>().write_unaligned(value) };
            });
        };
        let receive = |receiver: &mut C::Receiver| {
            receiver.receive_in_place(|at, got| {
                assert_eq!(got, len);
                // SAFETY: There are `len` bytes, which are this side's until the closure ends.
                unsafe { at.cast::<u64>().read_unaligned() }
            })
        };
        beside(
            C::PEER,
            load.cpu,
            || {
                let (mut receiver, mut sender) = (there.receiver(), back.sender());
                for _ in 0..all {
                    let value = receive(&mut receiver);
                    send(&mut sender, !value);
                }
            },
            || {
                let (mut sender, mut receiver) = (there.sender(), back.receiver());
                let mut trip = |i: usize| {
                    send(&mut sender, i as u64);
                    assert_eq!(receive(&mut receiver), !(i as u64));
                };
                (0..load.slots).for_each(&mut trip);
                let start = Instant::now();
                (load.slots..all).for_each(&mut trip);
                ns_each(start, load.count)
            },
        )
    }
}

/// The time from the call that sends to the return of a receiver that has slept for `pause` before,
/// in ns.
pub(crate) fn to_a_sleeper<C: Channel>(pause_ns: f64, load: Load) -> impl FnMut() -> f64 {
    move || {
        let [channel]: [C; 1] = load.channels(8);
        let pause = (pause_ns * ticks_per_ns()) as u64;
        beside(
            C::PEER,
            load.cpu,
            || {
                let mut sender = channel.sender();
                for _ in 0..load.slots + load.count {
                    machine::until(ticks() + pause);
                    sender.send(&ticks().to_le_bytes());
                }
            },
            || {
                let mut receiver = channel.receiver();
                let mut receive = || {
                    let mut sent = [0; 8];
                    assert_eq!(receiver.receive(&mut sent), 8);
                    ticks().saturating_sub(u64::from_le_bytes(sent)) as f64
                };
                (0..load.slots).for_each(|_| _ = receive());
                let times = (0..load.count).map(|_| receive()).collect();
                quantile(times, 0.5) / ticks_per_ns()
            },
        )
    }
}
