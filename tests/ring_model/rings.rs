//! The rings, each with the calls that it has.

use std::mem::forget;

use linipc_core::ring::{Counters, Error, Kind, MAX_ENDS, Wait};
use linipc_core::ring::{broadcast, items, mpmc, mpsc, spsc};
use linipc_core::shared::SharedBytes;

use super::{Draw, End, LONGEST, VALUE, Value};

pub trait Ring {
    type Producer<'m>: Produce<'m>;
    type Consumer<'m>: Consume<'m>;
    const KIND: Kind;
    /// How many producers and consumers may attach.
    const ENDS: (usize, usize);
    const IS_FIXED: bool = false;
    const MAX: usize = LONGEST - 16;

    /// What a batch is begun with.
    fn room(draw: &mut dyn Draw, max: usize) -> usize {
        draw.below(max + 16)
    }

    fn max(producer: &Self::Producer<'_>) -> usize;
}

pub trait Produce<'m>: Sized {
    fn attach(memory: SharedBytes<'m>) -> Option<Self>;
    fn push(&mut self, message: &[u8]) -> Result<(), Error>;
    fn push_late(&mut self, message: &[u8], wait: Wait) -> Result<(), Error>;
    fn push_value(&mut self, value: &Value) -> Result<(), Error>;
    fn push_all(&mut self, _messages: &[&[u8]]) -> Option<Result<usize, Error>> {
        None
    }
    fn claim(&mut self, len: usize, fill: impl FnOnce(&mut dyn Claim) -> End) -> Result<(), Error>;
    fn batch(&mut self, room: usize, fill: impl FnOnce(&mut dyn Batch) -> End)
    -> Result<(), Error>;
    fn free(&mut self) -> Option<Result<usize, Error>> {
        None
    }
    /// What gives no answer that is known before.
    fn look(&mut self, _len: usize) {}
    fn counters(&mut self) -> Counters;
}

pub trait Claim {
    fn write(&mut self, offset: usize, bytes: &[u8]) -> Result<(), Error>;
    fn truncate(&mut self, len: usize) -> Result<(), Error>;
}

pub trait Batch {
    fn push(&mut self, message: &[u8]) -> Result<(), Error>;
}

pub trait Consume<'m>: Sized {
    fn attach(memory: SharedBytes<'m>) -> Option<Self>;
    fn pop(&mut self, buf: &mut [u8]) -> Result<usize, Error>;
    fn pop_late(&mut self, buf: &mut [u8], wait: Wait) -> Result<usize, Error>;
    fn pop_value(&mut self) -> Result<Value, Error>;
    fn pop_all(&mut self, _buf: &mut [u8], _lens: &mut [usize]) -> Option<Result<usize, Error>> {
        None
    }
    /// Whether it is released, says `read`.
    fn peek(&mut self, read: impl FnOnce(&mut dyn Peek) -> bool) -> Result<(), Error>;
    /// Whether all are released, says `read`.
    fn messages(
        &mut self,
        _most: usize,
        _read: impl FnOnce(&mut dyn Messages) -> bool,
    ) -> Option<Result<(), Error>> {
        None
    }
    fn look(&mut self);
    fn counters(&mut self) -> Counters;
}

pub trait Peek {
    fn len(&self) -> usize;
    fn read(&mut self, offset: usize, to: &mut [u8]) -> Result<(), Error>;
}

pub trait Messages {
    fn next(&mut self, buf: &mut [u8]) -> Result<usize, Error>;
}

/// A ring of messages, and how many may attach.
macro_rules! ring {
    ($Ring:ident: $producer:ident, $consumer:ident, $ends:expr) => {
        pub struct $Ring;

        impl Ring for $Ring {
            type Producer<'m> = $producer::Producer<SharedBytes<'m>>;
            type Consumer<'m> = $consumer::Consumer<SharedBytes<'m>>;
            const KIND: Kind = Kind::$Ring;
            const ENDS: (usize, usize) = $ends;

            fn max(producer: &Self::Producer<'_>) -> usize {
                producer.max_message()
            }
        }
    };
}

ring!(Spsc: spsc, spsc, (1, 1));
ring!(Mpsc: mpsc, mpsc, (MAX_ENDS, 1));
ring!(Mpmc: mpsc, mpmc, (MAX_ENDS, MAX_ENDS));
ring!(Broadcast: broadcast, broadcast, (1, MAX_ENDS));

/// The producers of messages, with the calls that not all have in the same way.
macro_rules! produce {
    ($ring:ident { $($own:item)* }) => {
        #[allow(clippy::forget_non_drop, reason = "where others can claim, it does")]
        impl<'m> Produce<'m> for $ring::Producer<SharedBytes<'m>> {
            fn attach(memory: SharedBytes<'m>) -> Option<Self> {
                Self::attach(memory).ok()
            }

            fn push(&mut self, message: &[u8]) -> Result<(), Error> {
                self.try_push(message)
            }

            fn push_value(&mut self, value: &Value) -> Result<(), Error> {
                self.try_push_value(value)
            }

            fn claim(
                &mut self,
                len: usize,
                fill: impl FnOnce(&mut dyn Claim) -> End,
            ) -> Result<(), Error> {
                let mut claim = self.try_claim(len)?;
                assert_eq!(claim.len(), len);
                match fill(&mut claim) {
                    End::Commit => claim.commit(),
                    End::Abort => claim.abort(),
                    End::Forget => forget(claim),
                }
                Ok(())
            }

            fn batch(
                &mut self,
                room: usize,
                fill: impl FnOnce(&mut dyn Batch) -> End,
            ) -> Result<(), Error> {
                let mut batch = self.begin(room)?;
                match fill(&mut batch) {
                    End::Commit => batch.commit(),
                    End::Abort => batch.abort(),
                    End::Forget => forget(batch),
                }
                Ok(())
            }

            fn counters(&mut self) -> Counters {
                self.counters()
            }

            $($own)*
        }

        impl Claim for $ring::Claim<'_, SharedBytes<'_>> {
            fn write(&mut self, offset: usize, bytes: &[u8]) -> Result<(), Error> {
                self.write(offset, bytes)
            }

            fn truncate(&mut self, len: usize) -> Result<(), Error> {
                self.truncate(len)
            }
        }

        impl Batch for $ring::Batch<'_, SharedBytes<'_>> {
            fn push(&mut self, message: &[u8]) -> Result<(), Error> {
                match <&Value>::try_from(message) {
                    Ok(value) => self.try_push_value(value),
                    Err(_) => self.try_push(message),
                }
            }
        }
    };
}

/// How a batch begins: with room that is claimed, or not.
trait Begin {
    type Batch<'b>
    where
        Self: 'b;
    fn begin(&mut self, room: usize) -> Result<Self::Batch<'_>, Error>;
}

macro_rules! begin {
    ($ring:ident, |$producer:ident, $room:ident| $batch:expr) => {
        impl<'m> Begin for $ring::Producer<SharedBytes<'m>> {
            type Batch<'b>
                = $ring::Batch<'b, SharedBytes<'m>>
            where
                Self: 'b;

            fn begin(&mut self, $room: usize) -> Result<Self::Batch<'_>, Error> {
                let $producer = self;
                $batch
            }
        }
    };
}

begin!(spsc, |producer, _room| Ok(producer.batch()));
begin!(mpsc, |producer, room| producer.try_batch(room));
begin!(broadcast, |producer, _room| Ok(producer.batch()));

produce! {
    spsc {
        fn push_late(&mut self, message: &[u8], wait: Wait) -> Result<(), Error> {
            self.push(message, wait)
        }

        fn free(&mut self) -> Option<Result<usize, Error>> {
            Some(self.free().inspect(|free| assert!(*free <= self.capacity() - 8)))
        }

        fn look(&mut self, len: usize) {
            let _ = (self.arm(len), self.peers(), self.counters());
        }
    }
}

produce! {
    mpsc {
        fn push_late(&mut self, message: &[u8], wait: Wait) -> Result<(), Error> {
            self.push(message, wait)
        }

        fn push_all(&mut self, messages: &[&[u8]]) -> Option<Result<usize, Error>> {
            Some(self.try_push_all(messages))
        }

        fn free(&mut self) -> Option<Result<usize, Error>> {
            Some(self.free().inspect(|free| assert!(*free <= self.capacity() - 8)))
        }

        fn look(&mut self, len: usize) {
            let _ = (self.arm(len), self.peers(), self.counters());
        }
    }
}

produce! {
    broadcast {
        fn push_late(&mut self, message: &[u8], _: Wait) -> Result<(), Error> {
            self.try_push(message)
        }
    }
}

/// The consumers of messages, with the calls that not all have in the same way.
macro_rules! consume {
    ($ring:ident { $($own:item)* }) => {
        impl<'m> Consume<'m> for $ring::Consumer<SharedBytes<'m>> {
            fn attach(memory: SharedBytes<'m>) -> Option<Self> {
                Self::attach(memory).ok()
            }

            fn pop(&mut self, buf: &mut [u8]) -> Result<usize, Error> {
                self.try_pop(buf)
            }

            fn pop_late(&mut self, buf: &mut [u8], wait: Wait) -> Result<usize, Error> {
                self.pop(buf, wait)
            }

            fn pop_value(&mut self) -> Result<Value, Error> {
                self.try_pop_value()
            }

            fn peek(&mut self, read: impl FnOnce(&mut dyn Peek) -> bool) -> Result<(), Error> {
                let mut peek = self.try_peek()?;
                if read(&mut peek) {
                    peek.release();
                }
                Ok(())
            }

            fn look(&mut self) {
                let _ = (self.arm(), self.peers(), self.counters());
            }

            fn counters(&mut self) -> Counters {
                self.counters()
            }

            $($own)*
        }

        impl Peek for $ring::Peek<'_, SharedBytes<'_>> {
            fn len(&self) -> usize {
                self.len()
            }

            fn read(&mut self, offset: usize, to: &mut [u8]) -> Result<(), Error> {
                // Some take `&self`.
                Self::read(self, offset, to)
            }
        }
    };
}

/// The same with batches, which lend the messages.
macro_rules! consume_batches {
    ($ring:ident, |$consumer:ident, $most:ident| $batch:expr) => {
        consume! {
            $ring {
                fn messages(
                    &mut self,
                    $most: usize,
                    read: impl FnOnce(&mut dyn Messages) -> bool,
                ) -> Option<Result<(), Error>> {
                    let $consumer = self;
                    Some($batch.map(|mut messages| {
                        if read(&mut messages) {
                            messages.release();
                        }
                    }))
                }
            }
        }

        impl Messages for $ring::Messages<'_, SharedBytes<'_>> {
            fn next(&mut self, buf: &mut [u8]) -> Result<usize, Error> {
                let message = self.try_next()?;
                message.read(0, &mut buf[..message.len()])?;
                Ok(message.len())
            }
        }
    };
}

consume_batches!(spsc, |consumer, _most| Ok(consumer.batch()));
consume_batches!(mpsc, |consumer, _most| Ok(consumer.batch()));
consume_batches!(mpmc, |consumer, most| consumer.try_batch(most));

consume! {
    broadcast {
        fn pop_all(&mut self, buf: &mut [u8], lens: &mut [usize]) -> Option<Result<usize, Error>> {
            Some(self.try_pop_all(buf, lens))
        }
    }
}

/// Every message is an item.
pub struct Items;

impl Ring for Items {
    type Producer<'m> = items::Producer<Value, SharedBytes<'m>>;
    type Consumer<'m> = items::Consumer<Value, SharedBytes<'m>>;
    const KIND: Kind = Kind::Items;
    const ENDS: (usize, usize) = (1, 1);
    const IS_FIXED: bool = true;
    const MAX: usize = VALUE;

    fn room(draw: &mut dyn Draw, _: usize) -> usize {
        1 + draw.below(8)
    }

    fn max(_: &Self::Producer<'_>) -> usize {
        VALUE
    }
}

fn items_of(messages: &[&[u8]]) -> Vec<Value> {
    messages.iter().map(|message| item(message)).collect()
}

fn item(message: &[u8]) -> Value {
    message.try_into().unwrap()
}

impl<'m> Produce<'m> for items::Producer<Value, SharedBytes<'m>> {
    fn attach(memory: SharedBytes<'m>) -> Option<Self> {
        Self::attach(memory).ok()
    }

    fn push(&mut self, message: &[u8]) -> Result<(), Error> {
        self.try_push(&item(message))
    }

    fn push_late(&mut self, message: &[u8], wait: Wait) -> Result<(), Error> {
        self.push(&item(message), wait)
    }

    fn push_value(&mut self, value: &Value) -> Result<(), Error> {
        self.try_push(value)
    }

    fn push_all(&mut self, messages: &[&[u8]]) -> Option<Result<usize, Error>> {
        Some(self.try_push_slice(&items_of(messages)))
    }

    fn claim(&mut self, _: usize, fill: impl FnOnce(&mut dyn Claim) -> End) -> Result<(), Error> {
        let mut claim = InPlace {
            claim: self.try_claim(1)?,
            item: [0; VALUE],
        };
        assert_eq!(claim.claim.len(), 1);
        match fill(&mut claim) {
            End::Commit => claim.claim.commit(1),
            End::Abort | End::Forget => {
                claim.claim.abort();
                Ok(())
            }
        }
    }

    fn batch(
        &mut self,
        room: usize,
        fill: impl FnOnce(&mut dyn Batch) -> End,
    ) -> Result<(), Error> {
        let mut slice = Slice {
            claim: self.try_claim(room)?,
            used: 0,
        };
        assert!((1..=room).contains(&slice.claim.len()));
        match fill(&mut slice) {
            End::Commit => slice.claim.commit(slice.used),
            End::Abort | End::Forget => {
                slice.claim.abort();
                Ok(())
            }
        }
    }

    fn free(&mut self) -> Option<Result<usize, Error>> {
        Some(
            self.free()
                .inspect(|free| assert!(*free <= self.capacity())),
        )
    }

    fn look(&mut self, len: usize) {
        let _ = (self.arm(len), self.peers(), self.counters());
    }

    fn counters(&mut self) -> Counters {
        self.counters()
    }
}

/// One item, written in parts.
struct InPlace<'p, 'm> {
    claim: items::Claim<'p, Value, SharedBytes<'m>>,
    item: Value,
}

impl Claim for InPlace<'_, '_> {
    fn write(&mut self, offset: usize, bytes: &[u8]) -> Result<(), Error> {
        match self.item[offset..].get_mut(..bytes.len()) {
            Some(part) => {
                part.copy_from_slice(bytes);
                self.claim.write(0, &[self.item])
            }
            None => self.claim.write(1, &[self.item]),
        }
    }

    fn truncate(&mut self, _: usize) -> Result<(), Error> {
        Ok(())
    }
}

/// Items side by side.
struct Slice<'p, 'm> {
    claim: items::Claim<'p, Value, SharedBytes<'m>>,
    used: usize,
}

impl Batch for Slice<'_, '_> {
    fn push(&mut self, message: &[u8]) -> Result<(), Error> {
        self.claim.write(self.used, &[item(message)])?;
        self.used += 1;
        Ok(())
    }
}

impl<'m> Consume<'m> for items::Consumer<Value, SharedBytes<'m>> {
    fn attach(memory: SharedBytes<'m>) -> Option<Self> {
        Self::attach(memory).ok()
    }

    fn pop(&mut self, buf: &mut [u8]) -> Result<usize, Error> {
        match buf.first_chunk_mut() {
            Some(to) => self.try_pop().map(|item| *to = item)?,
            None => {
                return self
                    .try_peek(1)
                    .and(Err(Error::BufferLen { message: VALUE }));
            }
        }
        Ok(VALUE)
    }

    fn pop_late(&mut self, buf: &mut [u8], wait: Wait) -> Result<usize, Error> {
        match buf.first_chunk_mut() {
            Some(to) => self.pop(wait).map(|item| *to = item)?,
            None => return Consume::pop(self, buf),
        }
        Ok(VALUE)
    }

    fn pop_value(&mut self) -> Result<Value, Error> {
        self.try_pop()
    }

    fn pop_all(&mut self, buf: &mut [u8], lens: &mut [usize]) -> Option<Result<usize, Error>> {
        let (items, _) = buf.as_chunks_mut::<VALUE>();
        let popped = self.try_pop_slice(&mut items[..lens.len()]);
        lens.fill(VALUE);
        assert!(
            popped.unwrap_or(0) <= self.capacity(),
            "more than there can be"
        );
        Some(popped)
    }

    fn peek(&mut self, read: impl FnOnce(&mut dyn Peek) -> bool) -> Result<(), Error> {
        let mut peek = One(self.try_peek(1)?);
        assert_eq!(peek.0.len(), 1);
        match read(&mut peek) {
            true => peek.0.release(1),
            false => Ok(()),
        }
    }

    fn messages(
        &mut self,
        most: usize,
        read: impl FnOnce(&mut dyn Messages) -> bool,
    ) -> Option<Result<(), Error>> {
        Some(self.try_peek(most).and_then(|peek| {
            let mut items = Several { peek, read: 0 };
            match read(&mut items) {
                true => items.peek.release(items.read),
                false => Ok(()),
            }
        }))
    }

    fn look(&mut self) {
        let _ = (self.arm(), self.peers(), self.counters());
    }

    fn counters(&mut self) -> Counters {
        self.counters()
    }
}

/// An item, read in parts.
struct One<'c, 'm>(items::Peek<'c, Value, SharedBytes<'m>>);

impl Peek for One<'_, '_> {
    fn len(&self) -> usize {
        VALUE
    }

    fn read(&mut self, offset: usize, to: &mut [u8]) -> Result<(), Error> {
        let mut item = [[0; VALUE]];
        let end = offset + to.len();
        self.0.read(usize::from(end > VALUE), &mut item)?;
        to.copy_from_slice(&item[0][offset..end]);
        Ok(())
    }
}

/// Items side by side.
struct Several<'c, 'm> {
    peek: items::Peek<'c, Value, SharedBytes<'m>>,
    read: usize,
}

impl Messages for Several<'_, '_> {
    fn next(&mut self, buf: &mut [u8]) -> Result<usize, Error> {
        let mut item = [[0; VALUE]];
        self.peek.read(self.read, &mut item)?;
        self.read += 1;
        buf[..VALUE].copy_from_slice(&item[0]);
        Ok(VALUE)
    }
}
