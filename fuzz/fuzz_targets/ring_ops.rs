//! Any initial memory, any operations of both sides of a ring, and any words written between them.
//!
//! Everything is an answer: a value, or an error. No panic, no step without an end, and no access
//! outside of the ring, which lies between two pages that nobody may touch. (The sanitizer does not
//! see the copies, which are assembly; the pages stop them too.)

#![no_main]

use std::ptr::NonNull;
use std::sync::OnceLock;
use std::time::Duration;

use libfuzzer_sys::arbitrary::{self, Arbitrary};
use libfuzzer_sys::fuzz_target;
use linipc_core::map::Access;
use linipc_core::ring::spsc::{Consumer, Producer};
use linipc_core::ring::{self, Error, Kind, Wait};
use linipc_core::shared::SharedBytes;

const PAGE: usize = 4096;
/// Where the data begins.
const DATA: usize = 1408;
/// Of the header, what is read at run time: the head, and of each side the bell, the first slot and
/// whether wakes may be missed.
const FIELDS: [usize; 7] = [256, 384, 448, 832, 896, 960, 1344];
const CAPACITIES: [u64; 4] = [64, 128, 512, 4096];
/// Longer than any message of these.
const LONGEST: usize = 2100;

#[derive(Arbitrary, Debug)]
struct Input {
    /// An index into the capacities.
    capacity: u8,
    /// Whether the ring ends where nobody may touch, or begins there.
    at_end: bool,
    /// Whether the memory is a new ring first. Then the header and the data are written over.
    is_ring: bool,
    header: Vec<u8>,
    data: Vec<u64>,
    steps: Vec<Step>,
}

#[derive(Arbitrary, Debug)]
enum Step {
    Push(u16),
    PushValue([u64; 3]),
    Claim {
        len: u16,
        offset: u16,
        bytes: u16,
        end: u16,
        commit: bool,
    },
    /// Of each message the length, and by how much the head is changed before it.
    PushBatch {
        messages: Vec<(u8, i8)>,
        commit: bool,
    },
    Pop(u16),
    PopValue,
    Peek {
        offset: u16,
        bytes: u16,
        release: bool,
    },
    PopBatch {
        messages: u8,
        release: bool,
    },
    /// Push, or pop, with a deadline in the past.
    WaitForRoom {
        len: u16,
        sleep: bool,
    },
    WaitForMessage {
        sleep: bool,
    },
    ArmProducer(u16),
    ArmConsumer,
    Look,
    /// Leave, and attach again.
    AttachProducer,
    AttachConsumer,
    /// Write a word anywhere.
    Scribble {
        at: u16,
        word: u64,
    },
    /// Write what a header field could be.
    Field {
        field: u8,
        change: i8,
    },
    /// Write what could be a record's header, so many words behind the head.
    Record {
        ahead: u8,
        state: u8,
        len: u16,
    },
    /// Write it everywhere.
    Records {
        state: u8,
        len: u8,
    },
}

/// Memory for a ring of one of the capacities, between two pages without access.
fn memory(capacity: u64, at_end: bool) -> SharedBytes<'static> {
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
    let len = ring::len(capacity).unwrap();
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

/// What a message of so many bytes says.
fn text(len: impl Into<usize>) -> &'static [u8] {
    &[0xa5; LONGEST][..len.into() % LONGEST]
}

fn add(memory: SharedBytes<'_>, at: usize, change: i64) {
    store(memory, at, load(memory, at).wrapping_add_signed(change));
}

fn expired(sleep: bool) -> Wait {
    let wait = if sleep { Wait::SLEEP } else { Wait::SPIN };
    wait.timeout(Duration::ZERO)
}

type Memory = SharedBytes<'static>;

fn produce(producer: &mut Producer<Memory>, memory: Memory, step: &Step) -> Result<(), Error> {
    let (max, room) = (producer.max_message(), producer.capacity() - 8);
    match step {
        Step::Push(len) => producer.try_push(text(*len)),
        Step::PushValue(value) => producer.try_push_value(value),
        Step::Claim {
            len,
            offset,
            bytes: written,
            end,
            commit,
        } => {
            let mut claim = producer.try_claim((*len).into())?;
            assert!(claim.len() <= max);
            let _ = claim.write((*offset).into(), text(*written));
            let _ = claim.truncate((*end).into());
            if *commit {
                claim.commit();
            }
            Ok(())
        }
        Step::PushBatch { messages, commit } => {
            let mut batch = producer.batch();
            let mut used = 0;
            for (len, change) in messages {
                add(memory, FIELDS[0], 8 * i64::from(*change));
                if batch.try_push(text(*len)).is_ok() {
                    used += 8 + text(*len).len();
                }
            }
            assert!(used <= room, "more than there can be room for");
            if *commit {
                batch.commit();
            }
            Ok(())
        }
        Step::WaitForRoom { len, sleep } => producer.push(text(*len), expired(*sleep)),
        Step::ArmProducer(len) => producer.arm((*len).into()).map(drop),
        Step::Look => {
            let (_, _) = (producer.peers(), producer.counters());
            assert!(producer.free()? <= room);
            Ok(())
        }
        _ => Ok(()),
    }
}

fn consume(consumer: &mut Consumer<Memory>, step: &Step) -> Result<(), Error> {
    let (max, capacity) = (consumer.max_message(), consumer.capacity());
    let mut bytes = [0; LONGEST];
    match step {
        Step::Pop(len) => {
            let len = usize::from(*len) % LONGEST;
            assert!(consumer.try_pop(&mut bytes[..len])? <= len.min(max));
            Ok(())
        }
        Step::PopValue => consumer.try_pop_value::<[u64; 3]>().map(drop),
        Step::Peek {
            offset,
            bytes: read,
            release,
        } => {
            let message = consumer.try_peek()?;
            assert!(message.len() <= max);
            let _ = message.read((*offset).into(), &mut bytes[..usize::from(*read) % LONGEST]);
            if *release {
                message.release();
            }
            Ok(())
        }
        Step::PopBatch { messages, release } => {
            let mut batch = consumer.batch();
            let mut read = 0;
            while read < usize::from(*messages)
                && let Ok(message) = batch.try_next()
            {
                assert!(message.len() <= max);
                message.read(0, &mut bytes[..message.len()])?;
                read += 1;
            }
            assert!(read <= capacity / 8, "more than there can be");
            if *release {
                batch.release();
            }
            Ok(())
        }
        Step::WaitForMessage { sleep } => {
            consumer.pop(&mut bytes[..max], expired(*sleep)).map(drop)
        }
        Step::ArmConsumer => consumer.arm().map(drop),
        Step::Look => {
            let (_, _) = (consumer.peers(), consumer.counters());
            Ok(())
        }
        _ => Ok(()),
    }
}

fuzz_target!(|input: Input| {
    let capacity = CAPACITIES[usize::from(input.capacity) % CAPACITIES.len()];
    let memory = memory(capacity, input.at_end);
    memory.write(0, &[0; 2 * PAGE][..memory.len()]).unwrap();
    if input.is_ring {
        ring::create(memory, Kind::Spsc, capacity).unwrap();
    }
    let header = &input.header[..input.header.len().min(DATA)];
    memory
        .write(if input.is_ring { 128 } else { 0 }, header)
        .unwrap();
    for (at, word) in (DATA..memory.len() - 7).step_by(8).zip(&input.data) {
        store(memory, at, *word);
    }

    let mut producer = Producer::attach(memory).ok();
    let mut consumer = Consumer::attach(memory).ok();
    for step in &input.steps {
        match step {
            Step::AttachProducer => {
                drop(producer.take());
                producer = Producer::attach(memory).ok();
            }
            Step::AttachConsumer => {
                drop(consumer.take());
                consumer = Consumer::attach(memory).ok();
            }
            Step::Scribble { at, word } => {
                store(memory, usize::from(*at) % (memory.len() - 7), *word);
            }
            Step::Field { field, change } => {
                let at = FIELDS[usize::from(*field) % FIELDS.len()];
                let change = i64::from(*change) * if *field < 128 { 8 } else { 1 };
                add(memory, at, change);
            }
            Step::Record { ahead, state, len } => {
                let position = load(memory, FIELDS[0]).wrapping_add(8 * u64::from(*ahead));
                let at = DATA + ((position % capacity) & !7) as usize;
                store(memory, at, u64::from(*state) << 56 | u64::from(*len));
            }
            Step::Records { state, len } => {
                for at in (DATA..DATA + capacity as usize).step_by(8) {
                    store(memory, at, u64::from(*state) << 56 | u64::from(*len));
                }
            }
            _ => {}
        }
        let _ = producer
            .as_mut()
            .map(|producer| produce(producer, memory, step));
        let _ = consumer.as_mut().map(|consumer| consume(consumer, step));
    }
});
