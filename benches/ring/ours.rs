//! How fast is `linipc_core::ring`?

use std::hint::spin_loop;

use linipc_core::ring::spsc::{Consumer, Producer};
use linipc_core::ring::{self, Error, Kind, Trusted, Wait, broadcast, items, mpmc, mpsc};
use linipc_core::shared::SharedBytes;

use crate::broadcast::N;
use crate::channel::{
    Channel, ReceiveBatch, ReceiveInPlace, Receiver, SendBatch, SendInPlace, Sender,
};

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
        spin(|| self.0.try_pop_to(into));
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
pub(crate) struct Items<const N: usize>(Memory);

#[derive(Debug)]
pub(crate) struct ItemsSender<const N: usize>(items::Producer<[u8; N], Memory>);

#[derive(Debug)]
pub(crate) struct ItemsReceiver<const N: usize>(items::Consumer<[u8; N], Memory>);

impl<const N: usize> Channel for Items<N> {
    type Sender = ItemsSender<N>;
    type Receiver = ItemsReceiver<N>;

    fn create(memory: Memory, slots: usize) -> Self {
        items::create::<[u8; N]>(memory, slots as u64).unwrap();
        Self(memory)
    }

    fn sender(&self) -> ItemsSender<N> {
        ItemsSender(items::Producer::attach(self.0).unwrap())
    }

    fn receiver(&self) -> ItemsReceiver<N> {
        ItemsReceiver(items::Consumer::attach(self.0).unwrap())
    }
}

impl<const N: usize> Sender for ItemsSender<N> {
    #[inline]
    fn send(&mut self, message: &[u8]) {
        let item: &[u8; N] = message.try_into().unwrap();
        spin(|| self.0.try_push(item));
    }
}

impl<const N: usize> Receiver for ItemsReceiver<N> {
    #[inline]
    fn receive(&mut self, into: &mut [u8]) -> usize {
        let item: &mut [u8; N] = into.try_into().unwrap();
        spin(|| self.0.try_pop_to(item));
        N
    }
}

impl<const N: usize> SendBatch<N> for ItemsSender<N> {
    #[inline]
    fn send_batch(&mut self, mut messages: &[[u8; N]]) {
        while !messages.is_empty() {
            let sent = spin(|| self.0.try_push_slice(messages));
            messages = messages.split_at(sent).1;
        }
    }
}

impl<const N: usize> ReceiveBatch<N> for ItemsReceiver<N> {
    #[inline]
    fn receive_batch(&mut self, into: &mut [[u8; N]]) -> usize {
        spin(|| self.0.try_pop_slice(into))
    }
}

// Many producers, one consumer; and many of both.

/// Defines a contestant over a module of the ring with the shape of `spsc`.
macro_rules! many {
    ($channel:ident, $sender:ident, $receiver:ident, $module:ident, $kind:ident) => {
        #[derive(Debug)]
        pub(crate) struct $channel<const N: usize>(Memory);

        #[derive(Debug)]
        pub(crate) struct $sender<const N: usize>($module::Producer<Memory>);

        #[derive(Debug)]
        pub(crate) struct $receiver<const N: usize>($module::Consumer<Memory>);

        impl<const N: usize> Channel for $channel<N> {
            type Sender = $sender<N>;
            type Receiver = $receiver<N>;

            fn create(memory: Memory, slots: usize) -> Self {
                Self(create::<N>(memory, Kind::$kind, slots))
            }

            fn sender(&self) -> $sender<N> {
                $sender($module::Producer::attach(self.0).unwrap())
            }

            fn receiver(&self) -> $receiver<N> {
                $receiver($module::Consumer::attach(self.0).unwrap())
            }
        }

        impl<const N: usize> Sender for $sender<N> {
            #[inline]
            fn send(&mut self, message: &[u8]) {
                let message: &[u8; N] = message.try_into().unwrap();
                spin(|| self.0.try_push_value(message));
            }
        }

        impl<const N: usize> Receiver for $receiver<N> {
            #[inline]
            fn receive(&mut self, into: &mut [u8]) -> usize {
                let into: &mut [u8; N] = into.try_into().unwrap();
                spin(|| self.0.try_pop_to(into));
                N
            }
        }
    };
}

many!(Mpsc, MpscSender, MpscReceiver, mpsc, Mpsc);
many!(Mpmc, MpmcSender, MpmcReceiver, mpmc, Mpmc);

// One producer that never waits, and any number of readers that may lose messages.

#[derive(Debug)]
pub(crate) struct Broadcast(Memory);

#[derive(Debug)]
pub(crate) struct Publisher(broadcast::Producer<Memory>);

#[derive(Debug)]
pub(crate) struct Subscriber(broadcast::Consumer<Memory>);

impl Broadcast {
    fn capacity(slots: usize) -> u64 {
        (slots * N).next_power_of_two() as u64
    }
}

impl crate::broadcast::Broadcast for Broadcast {
    type Publisher = Publisher;
    type Subscriber = Subscriber;

    fn len(slots: usize) -> usize {
        ring::len(Self::capacity(slots)).unwrap()
    }

    fn create(memory: Memory, slots: usize) -> Self {
        ring::create(memory, Kind::Broadcast, Self::capacity(slots)).unwrap();
        Self(memory)
    }

    fn publisher(&self) -> Publisher {
        Publisher(broadcast::Producer::attach(self.0).unwrap())
    }

    fn subscriber(&self) -> Subscriber {
        Subscriber(broadcast::Consumer::attach(self.0).unwrap())
    }
}

impl crate::broadcast::Publisher for Publisher {
    #[inline]
    fn publish(&mut self, message: &[u8; N]) {
        self.0.try_push_value(message).unwrap();
    }
}

impl crate::broadcast::Subscriber for Subscriber {
    #[inline]
    fn poll(&mut self, into: &mut [u8; N]) -> bool {
        loop {
            match self.0.try_pop(into) {
                Ok(_) => return true,
                Err(Error::Missed { .. } | Error::Busy) => {}
                Err(Error::Empty | Error::Closed) => return false,
                Err(error) => panic!("{error}"),
            }
        }
    }
}
