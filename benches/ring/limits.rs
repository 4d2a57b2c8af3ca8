//! What can the machine do, whatever a library does?

use std::hint::{black_box, spin_loop};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use crate::channel::{Load, Messages, check, check_all, fill, gib_a_second, ns_each};
use crate::contest::quantile;
use crate::machine::{Peer, Private, beside, pieces, ticks, ticks_per_ns};

#[inline]
fn wait(turn: &AtomicU64, own: usize) {
    while turn.load(Ordering::Acquire) != own as u64 {
        spin_loop();
    }
}

/// The time of a round trip, in ns, where the same flag and buffer serve both ways: what two sides
/// can do that speak only in turn.
pub(crate) fn same_lines<const N: usize>(load: Load) -> impl FnMut() -> f64 {
    move || {
        let [memory] = pieces(4096);
        let turn = memory.atomic_u64(0).unwrap();
        let offset = if N <= 56 { 8 } else { 64 };
        let buffer = memory.slice(offset, N).unwrap();
        let put = |message: &[u8; N], next: usize| {
            let to = buffer.as_ptr();
            // SAFETY: The buffer has `N` bytes, and it is this side's turn.
            unsafe { message.as_ptr().copy_to_nonoverlapping(to, N) };
            turn.store(next as u64, Ordering::Release);
        };
        let get = |into: &mut [u8; N], own: usize| {
            wait(turn, own);
            // SAFETY: The buffer has `N` bytes, and it is this side's turn.
            unsafe { buffer.as_ptr().copy_to_nonoverlapping(into.as_mut_ptr(), N) };
        };
        let all = load.slots + load.count;
        beside(
            Peer::Process,
            load.cpu,
            || {
                let mut message = [0; N];
                for i in 0..all {
                    get(&mut message, 2 * i + 1);
                    Messages::check(i, &message);
                    put(&message, 2 * i + 2);
                }
            },
            || {
                let messages = Messages::<N>::new();
                let mut into = [0; N];
                let mut trip = |i: usize| {
                    put(messages.get(i), 2 * i + 1);
                    get(&mut into, 2 * i + 2);
                    Messages::check(i, &into);
                };
                (0..load.slots).for_each(&mut trip);
                let start = Instant::now();
                (load.slots..all).for_each(&mut trip);
                ns_each(start, load.count)
            },
        )
    }
}

/// How many GiB a second a plain copy moves out of the other CPU's cache, by the copies' own time.
pub(crate) fn hot_copy(len: usize, load: Load) -> impl FnMut() -> f64 {
    move || {
        let [memory, turn] = pieces(len.max(4096));
        let turn = turn.atomic_u64(0).unwrap();
        beside(
            Peer::Process,
            load.cpu,
            || {
                let shared = memory.as_ptr();
                for i in 0..load.count {
                    wait(turn, 2 * i);
                    // SAFETY: The piece has `len` bytes, and it is this side's turn.
                    let shared = unsafe { std::slice::from_raw_parts_mut(shared, len) };
                    fill(i, shared);
                    turn.store(2 * i as u64 + 1, Ordering::Release);
                }
            },
            || {
                let mut into = Private::new(len, 0);
                let mut times = Vec::new();
                for i in 0..load.count {
                    wait(turn, 2 * i + 1);
                    let (from, to) = (memory.as_ptr(), into.bytes().as_mut_ptr());
                    let start = ticks();
                    // SAFETY: Both have `len` bytes, and it is this side's turn.
                    unsafe { std::ptr::copy_nonoverlapping(from, to, len) };
                    times.push((ticks() - start) as f64);
                    turn.store(2 * i as u64 + 2, Ordering::Release);
                    check(i, black_box(into.bytes()));
                }
                check_all(load.count - 1, load.count - 1, into.bytes());
                gib_a_second(len, quantile(times, 0.5) / ticks_per_ns())
            },
        )
    }
}
