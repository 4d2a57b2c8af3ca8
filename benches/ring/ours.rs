//! How fast is `linipc_core::ring`?

use std::hint::spin_loop;
use std::sync::atomic::{AtomicU64, Ordering, fence};

use linipc_core::ring::spsc::{Consumer, Producer};
use linipc_core::ring::{self, Error, Kind, Trusted, Wait, mpmc, mpsc};
use linipc_core::shared::SharedBytes;

use crate::channel::{
    Channel, ReceiveBatch, ReceiveInPlace, Receiver, SendBatch, SendInPlace, Sender,
};
use crate::hand::{self, Hand};

type Memory = SharedBytes<'static>;

/// Makes a ring with room for `slots` messages of `N` bytes.
fn create<const N: usize>(memory: Memory, kind: Kind, slots: usize) -> Memory {
    let capacity = (slots * (N + 8)).next_power_of_two() as u64;
    // As much as the others have: a power of two may be nearly twice that.
    let capacity = if slots * N <= capacity as usize / 2 {
        capacity / 2
    } else {
        capacity
    };
    ring::create(memory, kind, capacity).unwrap();
    memory
}

/// Tries until it is done.
#[inline(always)]
fn spin<T>(mut attempt: impl FnMut() -> Result<T, Error>) -> T {
    loop {
        match attempt() {
            Ok(done) => return done,
            Err(Error::Full | Error::Empty) => spin_loop(),
            Err(error) => panic!("{error}"),
        }
    }
}

// One producer, one consumer, any length; both spin. Also in batches and in place.

#[derive(Debug)]
pub(crate) struct Spsc<const N: usize>(Memory);

#[derive(Debug)]
pub(crate) struct SpscSender<const N: usize>(Producer<Trusted<Memory>>);

#[derive(Debug)]
pub(crate) struct SpscReceiver<const N: usize>(Consumer<Trusted<Memory>>);

fn trusted(memory: Memory) -> Trusted<Memory> {
    // SAFETY: Only the contestant's two ends use the memory.
    unsafe { Trusted::new(memory) }
}

impl<const N: usize> Channel for Spsc<N> {
    type Sender = SpscSender<N>;
    type Receiver = SpscReceiver<N>;

    fn create(memory: Memory, slots: usize) -> Self {
        Self(create::<N>(memory, Kind::Spsc, slots))
    }

    fn sender(&self) -> SpscSender<N> {
        SpscSender(Producer::attach(trusted(self.0)).unwrap())
    }

    fn receiver(&self) -> SpscReceiver<N> {
        SpscReceiver(Consumer::attach(trusted(self.0)).unwrap())
    }
}

impl<const N: usize> Sender for SpscSender<N> {
    #[inline]
    fn send(&mut self, message: &[u8]) {
        let message: &[u8; N] = message.try_into().unwrap();
        spin(|| self.0.try_push_value(message));
    }
}

impl<const N: usize> Receiver for SpscReceiver<N> {
    #[inline]
    fn receive(&mut self, into: &mut [u8]) -> usize {
        let into: &mut [u8; N] = into.try_into().unwrap();
        spin(|| self.0.try_pop_exact(into));
        N
    }
}

impl<const N: usize> SendBatch<N> for SpscSender<N> {
    #[inline]
    fn send_batch(&mut self, messages: &[[u8; N]]) {
        let mut sent = 0;
        while sent < messages.len() {
            let mut batch = self.0.batch();
            while let Some(message) = messages.get(sent) {
                match batch.try_push_value(message) {
                    Ok(()) => sent += 1,
                    Err(Error::Full) => break,
                    Err(error) => panic!("{error}"),
                }
            }
            batch.commit();
        }
    }
}

impl<const N: usize> ReceiveBatch<N> for SpscReceiver<N> {
    #[inline]
    fn receive_batch(&mut self, into: &mut [[u8; N]]) -> usize {
        loop {
            let mut batch = self.0.batch();
            let mut received = 0;
            for message in into.iter_mut() {
                match batch.try_next() {
                    Ok(next) => next.read(0, message).unwrap(),
                    // The sender may be done before the last batch is full.
                    Err(Error::Empty | Error::Closed) => break,
                    Err(error) => panic!("{error}"),
                }
                received += 1;
            }
            batch.release();
            if received > 0 {
                return received;
            }
            spin_loop();
        }
    }
}

impl<const N: usize> SendInPlace for SpscSender<N> {
    #[inline]
    fn send_in_place(&mut self, len: usize, fill: impl FnOnce(*mut u8)) {
        loop {
            match self.0.try_claim(len) {
                Ok(mut claim) => {
                    fill(claim.as_mut_slice().as_mut_ptr());
                    return claim.commit();
                }
                Err(Error::Full) => spin_loop(),
                Err(error) => panic!("{error}"),
            }
        }
    }
}

impl<const N: usize> ReceiveInPlace for SpscReceiver<N> {
    #[inline]
    fn receive_in_place<R>(&mut self, read: impl FnOnce(*const u8, usize) -> R) -> R {
        loop {
            match self.0.try_peek() {
                Ok(message) => {
                    let slice = message.as_slice();
                    let result = read(slice.as_ptr(), slice.len());
                    message.release();
                    return result;
                }
                Err(Error::Empty) => spin_loop(),
                Err(error) => panic!("{error}"),
            }
        }
    }
}

// The same, waiting as the call says.

#[derive(Debug)]
pub(crate) struct Waiting<const N: usize, const SLEEP: bool>(Memory);

/// Spins for longer than it takes to wake somebody, then sleeps.
pub(crate) type SpscSpinThenSleep<const N: usize> = Waiting<N, false>;
/// Sleeps at once.
pub(crate) type SpscSleep<const N: usize> = Waiting<N, true>;

#[derive(Debug)]
pub(crate) struct WaitingSender<const SLEEP: bool>(Producer<Memory>);

#[derive(Debug)]
pub(crate) struct WaitingReceiver<const SLEEP: bool>(Consumer<Memory>);

const fn how(sleep: bool) -> Wait {
    if sleep {
        Wait::SLEEP
    } else {
        Wait::SPIN_THEN_SLEEP
    }
}

impl<const N: usize, const SLEEP: bool> Channel for Waiting<N, SLEEP> {
    type Sender = WaitingSender<SLEEP>;
    type Receiver = WaitingReceiver<SLEEP>;

    fn create(memory: Memory, slots: usize) -> Self {
        Self(create::<N>(memory, Kind::Spsc, slots))
    }

    fn sender(&self) -> WaitingSender<SLEEP> {
        WaitingSender(Producer::attach(self.0).unwrap())
    }

    fn receiver(&self) -> WaitingReceiver<SLEEP> {
        WaitingReceiver(Consumer::attach(self.0).unwrap())
    }
}

impl<const SLEEP: bool> Sender for WaitingSender<SLEEP> {
    #[inline]
    fn send(&mut self, message: &[u8]) {
        self.0.push(message, how(SLEEP)).unwrap();
    }
}

impl<const SLEEP: bool> Receiver for WaitingReceiver<SLEEP> {
    #[inline]
    fn receive(&mut self, into: &mut [u8]) -> usize {
        self.0.pop(into, how(SLEEP)).unwrap()
    }
}

// One producer, one consumer, typed items of one size; one a call, and in slices.

#[derive(Debug)]
pub(crate) struct Items<const N: usize>(Hand<N>);

#[derive(Debug)]
pub(crate) struct ItemsSender<const N: usize>(hand::Sender<N>);

#[derive(Debug)]
pub(crate) struct ItemsReceiver<const N: usize>(hand::Receiver<N>);

impl<const N: usize> Channel for Items<N> {
    type Sender = ItemsSender<N>;
    type Receiver = ItemsReceiver<N>;

    fn create(memory: SharedBytes<'static>, slots: usize) -> Self {
        Self(Hand::create(memory, slots))
    }

    fn sender(&self) -> ItemsSender<N> {
        ItemsSender(self.0.sender())
    }

    fn receiver(&self) -> ItemsReceiver<N> {
        ItemsReceiver(self.0.receiver())
    }
}

impl<const N: usize> Sender for ItemsSender<N> {
    #[inline]
    fn send(&mut self, message: &[u8]) {
        let item: &[u8; N] = message.try_into().unwrap();
        self.0.send(item);
    }
}

impl<const N: usize> Receiver for ItemsReceiver<N> {
    #[inline]
    fn receive(&mut self, into: &mut [u8]) -> usize {
        let item: &mut [u8; N] = into.try_into().unwrap();
        self.0.receive(item)
    }
}

impl<const N: usize> SendBatch<N> for ItemsSender<N> {
    #[inline]
    fn send_batch(&mut self, messages: &[[u8; N]]) {
        self.0.send_batch(messages);
    }
}

impl<const N: usize> ReceiveBatch<N> for ItemsReceiver<N> {
    #[inline]
    fn receive_batch(&mut self, into: &mut [[u8; N]]) -> usize {
        self.0.receive_batch(into)
    }
}

// Many producers, one consumer.

#[derive(Debug)]
pub(crate) struct Mpsc<const N: usize>(Memory);

#[derive(Debug)]
pub(crate) struct MpscSender<const N: usize>(mpsc::Producer<Trusted<Memory>>);

#[derive(Debug)]
pub(crate) struct MpscReceiver<const N: usize>(mpsc::Consumer<Trusted<Memory>>);

impl<const N: usize> Channel for Mpsc<N> {
    type Sender = MpscSender<N>;
    type Receiver = MpscReceiver<N>;

    fn create(memory: Memory, slots: usize) -> Self {
        Self(create::<N>(memory, Kind::Mpsc, slots))
    }

    fn sender(&self) -> MpscSender<N> {
        MpscSender(mpsc::Producer::attach(trusted(self.0)).unwrap())
    }

    fn receiver(&self) -> MpscReceiver<N> {
        MpscReceiver(mpsc::Consumer::attach(trusted(self.0)).unwrap())
    }
}

impl<const N: usize> Sender for MpscSender<N> {
    #[inline]
    fn send(&mut self, message: &[u8]) {
        let message: &[u8; N] = message.try_into().unwrap();
        spin(|| self.0.try_push_value(message));
    }
}

impl<const N: usize> Receiver for MpscReceiver<N> {
    #[inline]
    fn receive(&mut self, into: &mut [u8]) -> usize {
        let into: &mut [u8; N] = into.try_into().unwrap();
        spin(|| self.0.try_pop_exact(into));
        N
    }
}

// Many producers, many consumers.

#[derive(Debug)]
pub(crate) struct Mpmc<const N: usize>(Memory);

#[derive(Debug)]
pub(crate) struct MpmcSender<const N: usize>(mpsc::Producer<Trusted<Memory>>);

#[derive(Debug)]
pub(crate) struct MpmcReceiver<const N: usize>(mpmc::Consumer<Trusted<Memory>>);

impl<const N: usize> Channel for Mpmc<N> {
    type Sender = MpmcSender<N>;
    type Receiver = MpmcReceiver<N>;

    fn create(memory: Memory, slots: usize) -> Self {
        Self(create::<N>(memory, Kind::Mpmc, slots))
    }

    fn sender(&self) -> MpmcSender<N> {
        MpmcSender(mpsc::Producer::attach(trusted(self.0)).unwrap())
    }

    fn receiver(&self) -> MpmcReceiver<N> {
        MpmcReceiver(mpmc::Consumer::attach(trusted(self.0)).unwrap())
    }
}

impl<const N: usize> Sender for MpmcSender<N> {
    #[inline]
    fn send(&mut self, message: &[u8]) {
        let message: &[u8; N] = message.try_into().unwrap();
        spin(|| self.0.try_push_value(message));
    }
}

impl<const N: usize> Receiver for MpmcReceiver<N> {
    #[inline]
    fn receive(&mut self, into: &mut [u8]) -> usize {
        let into: &mut [u8; N] = into.try_into().unwrap();
        spin(|| self.0.try_pop_exact(into));
        N
    }
}

// One producer that never waits, and any number of readers that may lose messages.

const WORDS: usize = 8;
const STRIDE: usize = 128;
const FIRST: usize = 256;

#[derive(Debug)]
pub(crate) struct Broadcast {
    memory: SharedBytes<'static>,
    slots: u64,
}

#[derive(Debug)]
pub(crate) struct Publisher {
    ring: Slots,
    next: u64,
}

#[derive(Debug)]
pub(crate) struct Subscriber {
    ring: Slots,
    next: u64,
}

#[derive(Debug)]
struct Slots {
    published: &'static AtomicU64,
    first: *const Slot,
    slots: u64,
}

#[derive(Debug)]
#[repr(C, align(128))]
struct Slot {
    turn: AtomicU64,
    words: [AtomicU64; WORDS],
}

impl Broadcast {
    pub(crate) const MESSAGE: usize = WORDS * 8;

    pub(crate) fn len(slots: usize) -> usize {
        FIRST + slots * STRIDE
    }

    pub(crate) fn create(memory: SharedBytes<'static>, slots: usize) -> Self {
        assert!(slots.is_power_of_two());
        for slot in 0..slots {
            let at = FIRST + slot * STRIDE;
            memory.write(at, &[0; STRIDE]).unwrap();
        }
        let slots = slots as u64;
        Self { memory, slots }
    }

    fn slots(&self) -> Slots {
        let slots = self.memory.slice(FIRST, self.slots as usize * STRIDE);
        Slots {
            published: self.memory.atomic_u64(0).unwrap(),
            first: slots.unwrap().as_ptr().cast_const().cast(),
            slots: self.slots,
        }
    }

    pub(crate) fn publisher(&self) -> Publisher {
        let ring = self.slots();
        Publisher { ring, next: 0 }
    }

    pub(crate) fn subscriber(&self) -> Subscriber {
        let ring = self.slots();
        Subscriber { ring, next: 0 }
    }
}

impl Slots {
    #[inline]
    fn slot(&self, number: u64) -> &Slot {
        let slot = self
            .first
            .wrapping_add((number & (self.slots - 1)) as usize);
        // SAFETY: The memory has that many slots, of atomic integers, and is never unmapped.
        unsafe { &*slot }
    }
}

impl Publisher {
    #[inline]
    pub(crate) fn publish(&mut self, message: &[u8]) {
        let slot = self.ring.slot(self.next);
        slot.turn.store(2 * self.next + 1, Ordering::Relaxed);
        fence(Ordering::Release);
        for (word, bytes) in slot.words.iter().zip(message.as_chunks().0) {
            word.store(u64::from_ne_bytes(*bytes), Ordering::Relaxed);
        }
        self.next += 1;
        slot.turn.store(2 * self.next, Ordering::Release);
        self.ring.published.store(self.next, Ordering::Release);
    }
}

impl Subscriber {
    /// Whether there was a message.
    #[inline]
    pub(crate) fn poll(&mut self, into: &mut [u8]) -> bool {
        let published = self.ring.published.load(Ordering::Acquire);
        if published == self.next {
            return false;
        }
        if published - self.next >= self.ring.slots {
            self.next = published - self.ring.slots / 2;
        }
        let slot = self.ring.slot(self.next);
        let turn = 2 * (self.next + 1);
        let before = slot.turn.load(Ordering::Acquire);
        for (word, bytes) in slot.words.iter().zip(into.as_chunks_mut().0) {
            *bytes = word.load(Ordering::Relaxed).to_ne_bytes();
        }
        fence(Ordering::Acquire);
        let good = before == turn && slot.turn.load(Ordering::Relaxed) == turn;
        self.next += u64::from(good);
        good
    }
}
