//! Any operations of all who may be at a ring, of every kind of ring.
//!
//! Alone they do what the model of a queue does. With a stranger who writes into the memory at any
//! moment, everything is an answer: a value, or an error. No panic, no step without an end, and no
//! access outside of the ring, which lies between two pages that nobody may touch. (The sanitizer
//! does not see the copies, which are assembly; the pages stop them too.)
//!
//! `LINIPC_EVENTS=1` shows each call with its answer.

#![no_main]

#[path = "../../tests/ring_model/mod.rs"]
mod ring_model;

use std::ptr::NonNull;
use std::sync::OnceLock;

use libfuzzer_sys::fuzz_target;
use linipc_core::map::Access;
use linipc_core::ring::{self, Kind, items};
use linipc_core::shared::SharedBytes;
use ring_model::{Broadcast, Draw, Handles, Items, Model, Mpmc, Mpsc, Ring, Spsc, VALUE, Value};

const PAGE: usize = 4096;
/// Where the data begins.
const DATA: usize = 1408;
/// Of the header, what is read at run time: the tail and its second position, number and turn; the head
/// and the same; and of each side the bell, the first slots and generations, and whether wakes may be missed.
const FIELDS: [usize; 19] = [
    128, 136, 144, 176, 184, 256, 264, 304, 312, 384, 448, 456, 704, 832, 896, 960, 968, 1216, 1344,
];
const CAPACITIES: [u64; 4] = [64, 128, 512, 4096];

/// The bytes of an input, as numbers.
struct Input<'a>(&'a [u8]);

impl Input<'_> {
    fn word(&mut self) -> u64 {
        let mut word = [0; 8];
        for byte in &mut word {
            *byte = self.below(256) as u8;
        }
        u64::from_ne_bytes(word)
    }
}

impl Draw for Input<'_> {
    fn below(&mut self, bound: usize) -> usize {
        let (number, rest) = match self.0 {
            [] => (0, self.0),
            [one, rest @ ..] if bound <= 256 => (usize::from(*one), rest),
            [one, two, rest @ ..] => (usize::from(u16::from_le_bytes([*one, *two])), rest),
            [one] => (usize::from(*one), &[][..]),
        };
        self.0 = rest;
        number % bound
    }
}

/// Memory for a ring of so many bytes, between two pages without access.
fn memory(len: usize, at_end: bool) -> SharedBytes<'static> {
    const PAGES: usize = 2;
    static START: OnceLock<usize> = OnceLock::new();
    let start = *START.get_or_init(|| {
        let (none, private) = (libc::PROT_NONE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
        // SAFETY: A new mapping.
        let start = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                (PAGES + 2) * PAGE,
                none,
                private,
                -1,
                0,
            )
        };
        assert_ne!(start, libc::MAP_FAILED);
        let access = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: All but the first and the last page of what was just mapped.
        let done = unsafe { libc::mprotect(start.wrapping_byte_add(PAGE), PAGES * PAGE, access) };
        assert_eq!(done, 0);
        start.expose_provenance()
    });
    // Aligned to 128. Behind the longest message a ring has 64 bytes that nobody uses.
    let at = if at_end {
        (PAGES * PAGE - len) & !127
    } else {
        0
    };
    let start = std::ptr::with_exposed_provenance_mut(start + PAGE + at);
    // SAFETY: Mapped for ever, and reached through views only.
    unsafe {
        SharedBytes::from_raw(
            NonNull::new(start).unwrap(),
            len,
            Access::READ | Access::WRITE,
        )
    }
}

fn store(memory: SharedBytes<'_>, at: usize, word: u64) {
    memory.write(at, &word.to_ne_bytes()).unwrap();
}

fn load(memory: SharedBytes<'_>, at: usize) -> u64 {
    let mut word = [0; 8];
    memory.read(at, &mut word).unwrap();
    u64::from_ne_bytes(word)
}

/// Writes a word somewhere: anything, what a field of the header could be, or what could be the header
/// of a record near the head or the tail, or of all.
fn scribble(draw: &mut dyn Draw, memory: SharedBytes<'_>) {
    let mut byte = || draw.below(256) as u64;
    let capacity = (memory.len() - DATA - 64) / 3 * 2;
    let record =
        |state: u64, low: u64, high: u64, len: u64| state << 56 | high << 48 | low << 32 | len;
    match byte() % 8 {
        0 => {
            let at = (byte() << 8 | byte()) as usize % (memory.len() - 7);
            let word = (0..8).fold(0, |word, _| word << 8 | byte());
            store(memory, at, word);
        }
        1..4 => {
            let at = FIELDS[byte() as usize % FIELDS.len()];
            let change = i64::from(byte() as i8) * if byte() < 128 { 8 } else { 1 };
            store(memory, at, load(memory, at).wrapping_add_signed(change));
        }
        4..7 => {
            let position = load(memory, [128, 256, 264][byte() as usize % 3]);
            let position = position.wrapping_add(8 * byte()) as usize;
            let word = match byte() % 2 {
                0 => record(byte() % 7, 0, 0, byte() << 4),
                _ => record(byte() % 7, byte(), byte() % 4, byte() << 4),
            };
            store(memory, DATA + ((position % capacity) & !7), word);
        }
        _ => {
            let word = record(byte() % 7, 0, 0, byte());
            for at in (DATA..DATA + capacity).step_by(8) {
                store(memory, at, word);
            }
        }
    }
}

fn play<R: Ring>(input: &mut Input<'_>) {
    let capacity = CAPACITIES[input.below(CAPACITIES.len())];
    // Of items, as many as there is room for.
    let (len, capacity) = match R::KIND {
        Kind::Items => {
            let items = capacity.next_power_of_two() / VALUE.next_power_of_two() as u64;
            (items::len::<Value>(items).unwrap(), items)
        }
        _ => (ring::len(capacity).unwrap(), capacity),
    };
    let memory = memory(len, input.below(2) == 0);
    memory.write(0, &[0; 2 * PAGE][..len]).unwrap();
    let has_stranger = input.below(4) != 0;
    // Something else than a ring, now and then.
    if !has_stranger || input.below(16) != 1 {
        match R::KIND {
            Kind::Items => items::create::<Value>(memory, capacity).unwrap(),
            kind => ring::create(memory, kind, capacity).unwrap(),
        }
    }
    let mut handles = if has_stranger {
        // Whatever was there before.
        for _ in 0..input.below(16) {
            let at = input.below(len - 7);
            store(memory, at, input.word());
        }
        Handles::<R>::with_stranger(memory, scribble)
    } else {
        Handles::<R>::all(memory)
    };
    let mut model = Model::of::<R>(capacity);
    let is_shown = std::env::var_os("LINIPC_EVENTS").is_some();
    while !input.0.is_empty() {
        handles.act(input);
        for event in handles.take_log() {
            if is_shown {
                eprintln!("{event:?}");
            }
            if !has_stranger {
                model.judge(event);
            }
        }
    }
}

fuzz_target!(|input: &[u8]| {
    let mut input = Input(input);
    match input.below(5) {
        0 => play::<Spsc>(&mut input),
        1 => play::<Mpsc>(&mut input),
        2 => play::<Mpmc>(&mut input),
        3 => play::<Broadcast>(&mut input),
        _ => play::<Items>(&mut input),
    }
});
