//! How fast is a plain ring of slots of one size, with nothing that a library would need?
//!
//! Two indices, each on its own line, and each side's copy of the other's. The slots start 256
//! bytes into a page.

use std::hint::spin_loop;
use std::sync::atomic::{AtomicU64, Ordering};

use linipc_core::shared::SharedBytes;

use crate::channel::{Channel, ReceiveBatch, ReceiveInPlace, SendBatch, SendInPlace};

const TAIL: usize = 0;
const HEAD: usize = 128;
const DATA: usize = 256;

#[derive(Debug)]
pub(crate) struct Hand<const N: usize> {
    memory: SharedBytes<'static>,
    slots: usize,
}

/// One side: its own index, and where it last saw the other's.
#[derive(Debug)]
struct Side<const N: usize> {
    own: &'static AtomicU64,
    other: &'static AtomicU64,
    data: *mut u8,
    slots: u64,
    next: u64,
    seen: u64,
}

#[derive(Debug)]
pub(crate) struct Sender<const N: usize>(Side<N>);

#[derive(Debug)]
pub(crate) struct Receiver<const N: usize>(Side<N>);

impl<const N: usize> Hand<N> {
    fn side(&self, own: usize, other: usize) -> Side<N> {
        let slots = self.memory.slice(DATA, self.slots * N).unwrap();
        Side {
            own: self.memory.atomic_u64(own).unwrap(),
            other: self.memory.atomic_u64(other).unwrap(),
            data: slots.as_ptr(),
            slots: self.slots as u64,
            next: 0,
            seen: 0,
        }
    }
}

impl<const N: usize> Channel for Hand<N> {
    type Sender = Sender<N>;
    type Receiver = Receiver<N>;

    fn create(memory: SharedBytes<'static>, slots: usize) -> Self {
        assert!(slots.is_power_of_two());
        Self { memory, slots }
    }

    fn sender(&self) -> Sender<N> {
        Sender(self.side(TAIL, HEAD))
    }

    fn receiver(&self) -> Receiver<N> {
        Receiver(self.side(HEAD, TAIL))
    }
}

impl<const N: usize> Side<N> {
    #[inline]
    fn slot(&self) -> *mut u8 {
        let slot = (self.next & (self.slots - 1)) as usize;
        self.data.wrapping_add(slot * N)
    }

    /// Looks at the other's index again if there were less than `want`, and gives what there is
    /// before the end of the memory.
    #[inline]
    fn available(&mut self, want: usize, count: impl Fn(&Self) -> u64) -> usize {
        if count(self) < want as u64 {
            self.seen = self.other.load(Ordering::Acquire);
        }
        let to_the_end = self.slots - (self.next & (self.slots - 1));
        count(self).min(to_the_end).min(want as u64) as usize
    }

    #[inline]
    fn advance(&mut self, count: usize) {
        self.next += count as u64;
        self.own.store(self.next, Ordering::Release);
    }
}

impl<const N: usize> Sender<N> {
    #[inline]
    fn room(&mut self, want: usize) -> usize {
        let room = |side: &Side<N>| side.slots - (side.next - side.seen);
        self.0.available(want, room)
    }

    #[inline]
    fn wait(&mut self) {
        while self.room(1) == 0 {
            spin_loop();
        }
    }
}

impl<const N: usize> Receiver<N> {
    /// How many of `want` messages there are, in one piece.
    #[inline]
    pub(crate) fn ready(&mut self, want: usize) -> usize {
        self.0.available(want, |side| side.seen - side.next)
    }

    #[inline]
    fn wait(&mut self) {
        while self.ready(1) == 0 {
            spin_loop();
        }
    }
}

impl<const N: usize> crate::channel::Sender for Sender<N> {
    #[inline]
    fn send(&mut self, message: &[u8]) {
        assert_eq!(message.len(), N);
        self.wait();
        let (from, to) = (message.as_ptr(), self.0.slot());
        // SAFETY: The slot has `N` bytes, which are this side's until the index moves.
        unsafe { from.copy_to_nonoverlapping(to, N) };
        self.0.advance(1);
    }
}

impl<const N: usize> crate::channel::Receiver for Receiver<N> {
    #[inline]
    fn receive(&mut self, into: &mut [u8]) -> usize {
        assert!(into.len() >= N);
        self.wait();
        let (from, to) = (self.0.slot(), into.as_mut_ptr());
        // SAFETY: The slot has `N` bytes, which are this side's until the index moves.
        unsafe { from.copy_to_nonoverlapping(to, N) };
        self.0.advance(1);
        N
    }
}

impl<const N: usize> SendBatch<N> for Sender<N> {
    #[inline]
    fn send_batch(&mut self, mut messages: &[[u8; N]]) {
        while !messages.is_empty() {
            let count = self.room(messages.len());
            if count == 0 {
                spin_loop();
                continue;
            }
            let (from, to) = (messages.as_ptr(), self.0.slot().cast());
            // SAFETY: `count` slots are in one piece, and this side's until the index moves.
            unsafe { from.copy_to_nonoverlapping(to, count) };
            self.0.advance(count);
            messages = &messages[count..];
        }
    }
}

impl<const N: usize> ReceiveBatch<N> for Receiver<N> {
    #[inline]
    fn receive_batch(&mut self, into: &mut [[u8; N]]) -> usize {
        loop {
            let count = self.ready(into.len());
            if count == 0 {
                spin_loop();
                continue;
            }
            let (from, to) = (self.0.slot().cast(), into.as_mut_ptr());
            // SAFETY: `count` slots are in one piece, and this side's until the index moves.
            unsafe { std::ptr::copy_nonoverlapping(from, to, count) };
            self.0.advance(count);
            return count;
        }
    }
}

impl<const N: usize> SendInPlace for Sender<N> {
    #[inline]
    fn send_in_place(&mut self, len: usize, fill: impl FnOnce(*mut u8)) {
        assert_eq!(len, N);
        self.wait();
        fill(self.0.slot());
        self.0.advance(1);
    }
}

impl<const N: usize> ReceiveInPlace for Receiver<N> {
    #[inline]
    fn receive_in_place<R>(&mut self, read: impl FnOnce(*const u8, usize) -> R) -> R {
        self.wait();
        let result = read(self.0.slot(), N);
        self.0.advance(1);
        result
    }
}
