//! How fast are the limits, and the libraries of others?

use std::hint::spin_loop;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use linipc_core::futex::{Clock, Deadline, Futex};
use linipc_core::shared::SharedBytes;

use crate::channel::{Channel, ReceiveBatch, Receiver, SendBatch, Sender};
use crate::machine::Peer;

/// A flag and a buffer, on one line if both fit. For strict turns only: nobody waits for room.
#[derive(Debug)]
pub(crate) struct Mailbox<const N: usize>(SharedBytes<'static>);

#[derive(Debug)]
pub(crate) struct MailboxSide<const N: usize> {
    flag: &'static AtomicU64,
    buffer: *mut u8,
    turn: u64,
}

impl<const N: usize> Mailbox<N> {
    fn side(&self) -> MailboxSide<N> {
        let offset = if N <= 56 { 8 } else { 64 };
        MailboxSide {
            flag: self.0.atomic_u64(0).unwrap(),
            buffer: self.0.slice(offset, N).unwrap().as_ptr(),
            turn: 0,
        }
    }
}

impl<const N: usize> Channel for Mailbox<N> {
    type Sender = MailboxSide<N>;
    type Receiver = MailboxSide<N>;

    fn create(memory: SharedBytes<'static>, _: usize) -> Self {
        Self(memory)
    }

    fn sender(&self) -> MailboxSide<N> {
        self.side()
    }

    fn receiver(&self) -> MailboxSide<N> {
        self.side()
    }
}

impl<const N: usize> Sender for MailboxSide<N> {
    #[inline]
    fn send(&mut self, message: &[u8]) {
        assert_eq!(message.len(), N);
        // SAFETY: The buffer has `N` bytes, and it is this side's turn.
        unsafe { message.as_ptr().copy_to_nonoverlapping(self.buffer, N) };
        self.turn += 1;
        self.flag.store(self.turn, Ordering::Release);
    }
}

impl<const N: usize> Receiver for MailboxSide<N> {
    #[inline]
    fn receive(&mut self, into: &mut [u8]) -> usize {
        assert!(into.len() >= N);
        self.turn += 1;
        while self.flag.load(Ordering::Acquire) != self.turn {
            spin_loop();
        }
        // SAFETY: The buffer has `N` bytes, and it is this side's turn.
        unsafe { self.buffer.copy_to_nonoverlapping(into.as_mut_ptr(), N) };
        N
    }
}

/// A word that one side sleeps on and the other changes, with eight bytes beside it. Who is timed
/// sleeps for 50 ms at most: with that one can learn of the other's death.
#[derive(Debug)]
pub(crate) struct OnFutex<const TIMED: bool>(SharedBytes<'static>);

pub(crate) type BareFutex = OnFutex<false>;
pub(crate) type TimedFutex = OnFutex<true>;

#[derive(Debug)]
pub(crate) struct FutexSide<const TIMED: bool> {
    futex: Futex<'static>,
    value: &'static AtomicU64,
    turn: u32,
}

impl<const TIMED: bool> OnFutex<TIMED> {
    fn side(&self) -> FutexSide<TIMED> {
        FutexSide {
            futex: Futex::shared(self.0.atomic_u32(0).unwrap()),
            value: self.0.atomic_u64(8).unwrap(),
            turn: 0,
        }
    }
}

impl<const TIMED: bool> Channel for OnFutex<TIMED> {
    type Sender = FutexSide<TIMED>;
    type Receiver = FutexSide<TIMED>;

    fn create(memory: SharedBytes<'static>, _: usize) -> Self {
        Self(memory)
    }

    fn sender(&self) -> FutexSide<TIMED> {
        self.side()
    }

    fn receiver(&self) -> FutexSide<TIMED> {
        self.side()
    }
}

impl<const TIMED: bool> Sender for FutexSide<TIMED> {
    #[inline]
    fn send(&mut self, message: &[u8]) {
        let value = u64::from_ne_bytes(message.try_into().unwrap());
        self.value.store(value, Ordering::Relaxed);
        self.turn += 1;
        self.futex.word().store(self.turn, Ordering::Release);
        self.futex.wake(1).unwrap();
    }
}

impl<const TIMED: bool> Receiver for FutexSide<TIMED> {
    #[inline]
    fn receive(&mut self, into: &mut [u8]) -> usize {
        while self.futex.word().load(Ordering::Acquire) == self.turn {
            let slice = Duration::from_millis(50);
            let deadline = TIMED.then(|| Deadline::after(Clock::Monotonic, slice));
            // An error says that the word has changed.
            let _ = self.futex.wait(self.turn, deadline);
        }
        self.turn += 1;
        into.copy_from_slice(&self.value.load(Ordering::Relaxed).to_ne_bytes());
        8
    }
}

/// rtrb, whose ring lives in the heap of one process.
#[derive(Debug)]
pub(crate) struct Rtrb<const N: usize> {
    producer: Mutex<Option<rtrb::Producer<[u8; N]>>>,
    consumer: Mutex<Option<rtrb::Consumer<[u8; N]>>>,
}

#[derive(Debug)]
pub(crate) struct RtrbSender<const N: usize>(rtrb::Producer<[u8; N]>);

#[derive(Debug)]
pub(crate) struct RtrbReceiver<const N: usize>(rtrb::Consumer<[u8; N]>);

impl<const N: usize> Channel for Rtrb<N> {
    const PEER: Peer = Peer::Thread;
    type Sender = RtrbSender<N>;
    type Receiver = RtrbReceiver<N>;

    fn create(_: SharedBytes<'static>, slots: usize) -> Self {
        let (producer, consumer) = rtrb::RingBuffer::new(slots);
        Self {
            producer: Mutex::new(Some(producer)),
            consumer: Mutex::new(Some(consumer)),
        }
    }

    fn sender(&self) -> RtrbSender<N> {
        RtrbSender(self.producer.lock().unwrap().take().unwrap())
    }

    fn receiver(&self) -> RtrbReceiver<N> {
        RtrbReceiver(self.consumer.lock().unwrap().take().unwrap())
    }
}

impl<const N: usize> Sender for RtrbSender<N> {
    #[inline]
    fn send(&mut self, message: &[u8]) {
        while self.0.is_full() {
            spin_loop();
        }
        self.0.push(message.try_into().unwrap()).unwrap();
    }
}

impl<const N: usize> Receiver for RtrbReceiver<N> {
    #[inline]
    fn receive(&mut self, into: &mut [u8]) -> usize {
        loop {
            if let Ok(message) = self.0.pop() {
                into.copy_from_slice(&message);
                return N;
            }
            spin_loop();
        }
    }
}

impl<const N: usize> SendBatch<N> for RtrbSender<N> {
    #[inline]
    fn send_batch(&mut self, mut messages: &[[u8; N]]) {
        while let (sent, rest @ [_, ..]) = self.0.push_partial_slice(messages) {
            if sent.is_empty() {
                spin_loop();
            }
            messages = rest;
        }
    }
}

impl<const N: usize> ReceiveBatch<N> for RtrbReceiver<N> {
    #[inline]
    fn receive_batch(&mut self, into: &mut [[u8; N]]) -> usize {
        loop {
            let received = self.0.pop_partial_slice(into).0.len();
            if received > 0 {
                return received;
            }
            spin_loop();
        }
    }
}

/// shmem-ipc's ring, polled, its memory mapped by us.
#[derive(Debug)]
pub(crate) struct ShmemIpc<const N: usize>(SharedBytes<'static>);

pub(crate) struct ShmemIpcSender<const N: usize>(shmem_ipc::ringbuf::Sender<[u8; N]>);

pub(crate) struct ShmemIpcReceiver<const N: usize>(shmem_ipc::ringbuf::Receiver<[u8; N]>);

impl<const N: usize> Channel for ShmemIpc<N> {
    type Sender = ShmemIpcSender<N>;
    type Receiver = ShmemIpcReceiver<N>;

    fn create(memory: SharedBytes<'static>, slots: usize) -> Self {
        let len = shmem_ipc::ringbuf::channel_bufsize::<[u8; N]>(slots);
        Self(memory.slice(0, len).unwrap())
    }

    fn sender(&self) -> ShmemIpcSender<N> {
        // SAFETY: The bytes are mapped, readable and writable.
        let sender = unsafe { shmem_ipc::ringbuf::Sender::attach(self.0.as_ptr(), self.0.len()) };
        ShmemIpcSender(sender.unwrap())
    }

    fn receiver(&self) -> ShmemIpcReceiver<N> {
        let (start, len) = (self.0.as_ptr(), self.0.len());
        // SAFETY: The bytes are mapped, readable and writable.
        let receiver = unsafe { shmem_ipc::ringbuf::Receiver::attach(start, len) };
        ShmemIpcReceiver(receiver.unwrap())
    }
}

impl<const N: usize> ShmemIpcSender<N> {
    /// Sends as many of them as there is room for, and gives how many.
    #[inline]
    fn some(&mut self, messages: &[[u8; N]]) -> usize {
        let mut sent = 0;
        let copy = |to: *mut [u8; N], room: usize| {
            sent = room.min(messages.len());
            // SAFETY: There is room for `sent` messages at `to`.
            unsafe { messages.as_ptr().copy_to_nonoverlapping(to, sent) };
            sent
        };
        self.0.send(copy).unwrap();
        sent
    }
}

impl<const N: usize> ShmemIpcReceiver<N> {
    /// Receives what there is, and gives how many messages.
    #[inline]
    fn some(&mut self, into: &mut [[u8; N]]) -> usize {
        let mut received = 0;
        let copy = |from: *const [u8; N], count: usize| {
            received = count.min(into.len());
            // SAFETY: There are `received` messages at `from`.
            unsafe { from.copy_to_nonoverlapping(into.as_mut_ptr(), received) };
            received
        };
        self.0.recv(copy).unwrap();
        received
    }
}

impl<const N: usize> Sender for ShmemIpcSender<N> {
    #[inline]
    fn send(&mut self, message: &[u8]) {
        let mut sent = false;
        while !sent {
            let copy = |to: *mut [u8; N], _| {
                assert_eq!(message.len(), N);
                // SAFETY: There is room for one message at `to`.
                unsafe { message.as_ptr().copy_to_nonoverlapping(to.cast(), N) };
                sent = true;
                1
            };
            self.0.send(copy).unwrap();
            if !sent {
                spin_loop();
            }
        }
    }
}

impl<const N: usize> Receiver for ShmemIpcReceiver<N> {
    #[inline]
    fn receive(&mut self, into: &mut [u8]) -> usize {
        let mut received = false;
        while !received {
            let copy = |from: *const [u8; N], _| {
                assert!(into.len() >= N);
                // SAFETY: There is a message at `from`.
                unsafe {
                    from.cast::<u8>()
                        .copy_to_nonoverlapping(into.as_mut_ptr(), N)
                };
                received = true;
                1
            };
            self.0.recv(copy).unwrap();
            if !received {
                spin_loop();
            }
        }
        N
    }
}

impl<const N: usize> SendBatch<N> for ShmemIpcSender<N> {
    #[inline]
    fn send_batch(&mut self, mut messages: &[[u8; N]]) {
        while !messages.is_empty() {
            let sent = self.some(messages);
            if sent == 0 {
                spin_loop();
            }
            messages = &messages[sent..];
        }
    }
}

impl<const N: usize> ReceiveBatch<N> for ShmemIpcReceiver<N> {
    #[inline]
    fn receive_batch(&mut self, into: &mut [[u8; N]]) -> usize {
        loop {
            let received = self.some(into);
            if received > 0 {
                return received;
            }
            spin_loop();
        }
    }
}

/// crossbeam's queue for many senders and receivers, in the heap of one process.
#[derive(Debug)]
pub(crate) struct ArrayQueue<const N: usize>(Arc<crossbeam_queue::ArrayQueue<[u8; N]>>);

#[derive(Debug)]
pub(crate) struct ArrayQueueSide<const N: usize>(Arc<crossbeam_queue::ArrayQueue<[u8; N]>>);

impl<const N: usize> Channel for ArrayQueue<N> {
    const PEER: Peer = Peer::Thread;
    type Sender = ArrayQueueSide<N>;
    type Receiver = ArrayQueueSide<N>;

    fn create(_: SharedBytes<'static>, slots: usize) -> Self {
        Self(Arc::new(crossbeam_queue::ArrayQueue::new(slots)))
    }

    fn sender(&self) -> ArrayQueueSide<N> {
        ArrayQueueSide(Arc::clone(&self.0))
    }

    fn receiver(&self) -> ArrayQueueSide<N> {
        ArrayQueueSide(Arc::clone(&self.0))
    }
}

impl<const N: usize> Sender for ArrayQueueSide<N> {
    #[inline]
    fn send(&mut self, message: &[u8]) {
        let mut message = message.try_into().unwrap();
        while let Err(back) = self.0.push(message) {
            message = back;
            spin_loop();
        }
    }
}

impl<const N: usize> Receiver for ArrayQueueSide<N> {
    #[inline]
    fn receive(&mut self, into: &mut [u8]) -> usize {
        loop {
            if let Some(message) = self.0.pop() {
                into.copy_from_slice(&message);
                return N;
            }
            spin_loop();
        }
    }
}
