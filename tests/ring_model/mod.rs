//! What any ring of the family may be asked to do, and what it may say: shared by the differential
//! test and the fuzz target.
//!
//! [`Handles`] does what a row of numbers says with up to three producers and three consumers, and
//! logs each call with its answer. [`Model`] has the queue, and judges each answer.

#![allow(dead_code, reason = "each of the two uses its part")]

mod model;
mod rings;

use linipc_core::ring::{Counters, Error, Wait};
use linipc_core::shared::SharedBytes;

pub use model::Model;
pub use rings::{Broadcast, Items, Mpmc, Mpsc, Ring, Spsc};
use rings::{Consume, Produce};

/// The most producers, and the most consumers.
pub const ENDS: usize = 3;
/// Longer than any message of the rings here.
pub const LONGEST: usize = 2100;
/// The size of a plain value, and of an item.
pub const VALUE: usize = 24;
pub type Value = [u8; VALUE];

/// Where numbers come from.
pub trait Draw {
    /// One of the numbers from 0 on, below `bound`.
    fn below(&mut self, bound: usize) -> usize;

    fn one_in(&mut self, bound: usize) -> bool {
        self.below(bound) == 1
    }
}

/// A message, as far as another one can be told from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Text {
    pub len: usize,
    digest: u64,
}

impl Text {
    fn of(bytes: &[u8]) -> Self {
        let mut digest = 0_u64;
        let mut add = |word: u64| {
            digest = (digest ^ word)
                .wrapping_mul(0x9e37_79b9_7f4a_7c15)
                .rotate_left(29)
        };
        let (words, rest) = bytes.as_chunks::<8>();
        words.iter().for_each(|word| add(u64::from_ne_bytes(*word)));
        rest.iter().for_each(|byte| add(u64::from(*byte)));
        Self {
            len: bytes.len(),
            digest,
        }
    }

    /// A mere number.
    pub const fn number(len: usize) -> Self {
        Self { len, digest: 0 }
    }
}

/// What was asked of a handle.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Call {
    AttachProducer,
    LeaveProducer,
    Push(Text),
    /// One of several that are then pushed at once.
    Offer(Text),
    /// Says how many of the offered were pushed.
    PushAll,
    /// A message of so many bytes.
    Claim(usize),
    Commit(Text),
    Abort,
    /// With room for so many bytes (items: so many items).
    Batch(usize),
    BatchPush(Text),
    BatchCommit,
    BatchAbort,
    Free,
    AttachConsumer,
    LeaveConsumer,
    /// Into a buffer of so many bytes.
    Pop(usize),
    PopValue,
    /// There was no more when several were to be popped.
    Drained,
    /// Steps over what is no message.
    Look,
    Peek,
    /// Reads what was peeked at once more.
    Again,
    Release,
    Keep,
    /// Up to so many.
    Messages(usize),
    Next,
    ReleaseAll,
    KeepAll,
}

/// A call, and what the handle said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Event {
    pub who: usize,
    pub call: Call,
    pub said: Result<Text, Error>,
}

/// What becomes of a claim or a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    Commit,
    Abort,
    /// Its owner dies, for all that the others know once its handle is dropped.
    Forget,
}

/// The handles of one process.
pub struct Handles<'m, R: Ring> {
    memory: SharedBytes<'m>,
    producers: [Option<R::Producer<'m>>; ENDS],
    consumers: [Option<R::Consumer<'m>>; ENDS],
    others: Others<'m>,
    log: Vec<Event>,
}

/// Who else is at the ring.
#[derive(Clone, Copy)]
enum Others<'m> {
    /// The producers.
    Producers,
    /// The consumers, who do something with a seed, and add what they said.
    Consumers(&'m dyn Fn(u64, &mut Vec<Event>)),
    /// Nobody.
    Nobody,
    /// Somebody who writes into the memory at any moment.
    Stranger(fn(&mut dyn Draw, SharedBytes<'_>)),
}

const OK: Result<Text, Error> = Ok(Text::number(0));

/// What went through both sides, once all have left.
pub fn counters<R: Ring>(memory: SharedBytes<'_>) -> [Counters; 2] {
    let producer = R::Producer::attach(memory).map(|mut producer| producer.counters());
    let consumer = R::Consumer::attach(memory).map(|mut consumer| consumer.counters());
    [producer.unwrap(), consumer.unwrap()]
}

impl<'m, R: Ring> Handles<'m, R> {
    fn new(memory: SharedBytes<'m>, others: Others<'m>) -> Self {
        Self {
            memory,
            producers: [const { None }; ENDS],
            consumers: [const { None }; ENDS],
            others,
            log: Vec::new(),
        }
    }

    /// The producers of one process; the consumers are in another one.
    pub fn producers(memory: SharedBytes<'m>, consumers: &'m dyn Fn(u64, &mut Vec<Event>)) -> Self {
        Self::new(memory, Others::Consumers(consumers))
    }

    /// The consumers of one process.
    pub fn consumers(memory: SharedBytes<'m>) -> Self {
        Self::new(memory, Others::Producers)
    }

    /// All, in one process.
    pub fn all(memory: SharedBytes<'m>) -> Self {
        Self::new(memory, Others::Nobody)
    }

    /// All, and somebody who writes into the memory at any moment: there is no telling what they say.
    pub fn with_stranger(
        memory: SharedBytes<'m>,
        scribble: fn(&mut dyn Draw, SharedBytes<'_>),
    ) -> Self {
        Self::new(memory, Others::Stranger(scribble))
    }

    /// What happened since it was asked last.
    pub fn take_log(&mut self) -> impl Iterator<Item = Event> + '_ {
        self.log.drain(..)
    }

    /// Does one thing.
    pub fn act(&mut self, draw: &mut dyn Draw) {
        self.act_at(0, draw);
    }

    /// One thing, in the midst of `depth` others.
    fn act_at(&mut self, depth: u32, draw: &mut dyn Draw) {
        self.disturb(draw);
        match self.others {
            Others::Producers => self.consume(depth, draw),
            _ if draw.below(2) == 0 => self.produce(depth, draw),
            Others::Consumers(ask) => ask(1 + draw.below(1 << 24) as u64, &mut self.log),
            _ => self.consume(depth, draw),
        }
    }

    /// A few things, while something is open.
    fn meanwhile(&mut self, depth: u32, draw: &mut dyn Draw) {
        if depth < 2 {
            for _ in 0..draw.below(4) {
                self.act_at(depth + 1, draw);
            }
        }
    }

    fn disturb(&self, draw: &mut dyn Draw) {
        if let Others::Stranger(scribble) = self.others
            && draw.below(4) == 0
        {
            scribble(draw, self.memory);
        }
    }

    fn say(&mut self, who: usize, call: Call, said: Result<Text, Error>) -> bool {
        self.log.push(Event { who, call, said });
        said.is_ok()
    }

    fn end(&self, draw: &mut dyn Draw) -> End {
        match draw.below(8) {
            0 | 1 => End::Abort,
            2 if matches!(self.others, Others::Stranger(_)) => End::Forget,
            _ => End::Commit,
        }
    }

    fn produce(&mut self, depth: u32, draw: &mut dyn Draw) {
        let who = one_of(&self.producers, R::ENDS.0, draw);
        let Some(mut producer) = self.producers[who].take() else {
            // Nobody is here, or is in the midst of something.
            if depth == 0 {
                let attached = R::Producer::attach(self.memory);
                self.producers[who] = attached;
                let said = self.producers[who]
                    .as_ref()
                    .map_or(Err(Error::Busy), |_| OK);
                self.say(who, Call::AttachProducer, said);
            }
            return;
        };
        let max = R::MAX.min(R::max(&producer));
        match draw.below(64) {
            0 if draw.one_in(4) => {
                drop(producer);
                self.say(who, Call::LeaveProducer, OK);
                return;
            }
            0..20 => {
                let message = text(draw, max);
                let said = match draw.below(16) {
                    1 => match producer.push_late(message, expired(draw)) {
                        // There was no room.
                        Err(Error::TimedOut) => Err(Error::Full),
                        said => said,
                    },
                    _ => producer.push(message),
                };
                self.say(who, Call::Push(Text::of(message)), said.and(OK));
            }
            20..24 => {
                let value = value(draw);
                let said = producer.push_value(&value);
                self.say(who, Call::Push(Text::of(&value)), said.and(OK));
            }
            24..28 => {
                let messages: Vec<_> = (0..draw.below(8)).map(|_| text(draw, max)).collect();
                if let Some(said) = producer.push_all(&messages) {
                    for message in messages {
                        self.say(who, Call::Offer(Text::of(message)), OK);
                    }
                    self.say(who, Call::PushAll, said.map(Text::number));
                }
            }
            28..44 => {
                let message = text(draw, max);
                let len = message.len();
                let said = producer.claim(len, |claim| {
                    self.say(who, Call::Claim(len), OK);
                    let (split, end) = (draw.below(len + 1), draw.below(len + 1));
                    let end = if R::IS_FIXED || draw.below(2) == 0 {
                        len
                    } else {
                        end
                    };
                    self.disturb(draw);
                    assert!(claim.write(split, &message[split..]).is_ok());
                    self.meanwhile(depth, draw);
                    assert!(claim.write(0, &message[..split]).is_ok());
                    assert!(claim.write(end, &[0; LONGEST][..len - end + 1]).is_err());
                    assert!(claim.truncate(end).is_ok());
                    let fate = self.end(draw);
                    match fate {
                        End::Commit => self.say(who, Call::Commit(Text::of(&message[..end])), OK),
                        _ => self.say(who, Call::Abort, OK),
                    };
                    self.disturb(draw);
                    fate
                });
                if said.is_err() {
                    self.say(who, Call::Claim(len), said.and(OK));
                }
            }
            44..58 => {
                let room = R::room(draw, max);
                let said = producer.batch(room, |batch| {
                    self.say(who, Call::Batch(room), OK);
                    for _ in 0..draw.below(8) {
                        self.disturb(draw);
                        let message = text(draw, max);
                        let said = batch.push(message);
                        self.say(who, Call::BatchPush(Text::of(message)), said.and(OK));
                    }
                    self.meanwhile(depth, draw);
                    let fate = self.end(draw);
                    match fate {
                        End::Commit => self.say(who, Call::BatchCommit, OK),
                        _ => self.say(who, Call::BatchAbort, OK),
                    };
                    self.disturb(draw);
                    fate
                });
                if said.is_err() {
                    self.say(who, Call::Batch(room), said.and(OK));
                }
            }
            58..60 => {
                producer.look(draw.below(max + 2));
            }
            _ => {
                if let Some(said) = producer.free() {
                    self.say(who, Call::Free, said.map(Text::number));
                }
            }
        }
        self.producers[who] = Some(producer);
    }

    fn consume(&mut self, depth: u32, draw: &mut dyn Draw) {
        let who = one_of(&self.consumers, R::ENDS.1, draw);
        let Some(mut consumer) = self.consumers[who].take() else {
            if depth == 0 {
                self.consumers[who] = R::Consumer::attach(self.memory);
                let said = self.consumers[who]
                    .as_ref()
                    .map_or(Err(Error::Busy), |_| OK);
                self.say(who, Call::AttachConsumer, said);
            }
            return;
        };
        let mut buf = [0; LONGEST];
        // The data is the capacity, half of it, which is the longest message, and 64 bytes.
        let longest = R::MAX.min((self.memory.len() - 1408 - 64) / 3);
        match draw.below(64) {
            0 if draw.one_in(4) => {
                drop(consumer);
                self.say(who, Call::LeaveConsumer, OK);
                return;
            }
            0..20 => {
                let room = match draw.below(4) {
                    0 => draw.below(40),
                    _ => LONGEST,
                };
                let said = match draw.below(16) {
                    1 => match consumer.pop_late(&mut buf[..room], expired(draw)) {
                        Err(Error::TimedOut) => Err(Error::Empty),
                        said => said,
                    },
                    _ => consumer.pop(&mut buf[..room]),
                };
                self.say(who, Call::Pop(room), said.map(|len| Text::of(&buf[..len])));
            }
            20..24 => {
                let said = consumer.pop_value();
                self.say(who, Call::PopValue, said.map(|value| Text::of(&value)));
            }
            24..32 => {
                let mut lens = [0; 8];
                let lens = &mut lens[..draw.below(9)];
                match consumer.pop_all(&mut buf, lens) {
                    None => {}
                    Some(Err(error)) => {
                        self.say(who, Call::Pop(LONGEST), Err(error));
                    }
                    Some(Ok(count)) => {
                        let mut rest = &buf[..];
                        for len in &lens[..count] {
                            let (message, behind) = rest.split_at(*len);
                            rest = behind;
                            self.say(who, Call::Pop(LONGEST), Ok(Text::of(message)));
                        }
                        if count < lens.len() && rest.len() >= longest {
                            self.say(who, Call::Drained, OK);
                        }
                    }
                }
            }
            32..46 => {
                let said = consumer.peek(|message| {
                    let len = message.len();
                    assert!(len <= longest, "longer than the longest");
                    assert!(message.read(1, &mut [0; LONGEST][..len]).is_err());
                    let said = message.read(0, &mut buf[..len]);
                    self.say(who, Call::Peek, said.map(|()| Text::of(&buf[..len])));
                    self.meanwhile(depth, draw);
                    let half = len / 2;
                    let said = message.read(half, &mut buf[half..len]);
                    let said = said.and(message.read(0, &mut buf[..half]));
                    self.say(who, Call::Again, said.map(|()| Text::of(&buf[..len])));
                    let is_released = draw.below(4) != 0;
                    let call = if is_released {
                        Call::Release
                    } else {
                        Call::Keep
                    };
                    self.say(who, call, OK);
                    is_released
                });
                if said.is_err() {
                    self.say(who, Call::Peek, said.and(OK));
                }
            }
            46..60 => {
                let most = 1 + draw.below(8);
                let said = consumer.messages(most, |messages| {
                    self.say(who, Call::Messages(most), OK);
                    for _ in 0..most {
                        self.disturb(draw);
                        let said = messages.next(&mut buf);
                        let said = said.map(|len| Text::of(&buf[..len]));
                        if !self.say(who, Call::Next, said) {
                            break;
                        }
                    }
                    self.meanwhile(depth, draw);
                    let is_released = draw.below(4) != 0;
                    let call = if is_released {
                        Call::ReleaseAll
                    } else {
                        Call::KeepAll
                    };
                    self.say(who, call, OK);
                    is_released
                });
                if let Some(Err(error)) = said {
                    self.say(who, Call::Messages(most), Err(error));
                }
            }
            _ => {
                consumer.look();
                self.say(who, Call::Look, OK);
            }
        }
        self.consumers[who] = Some(consumer);
    }
}

/// One of the handles; of a side that has room for one only, rarely another one than is there.
fn one_of<T>(handles: &[Option<T>], limit: usize, draw: &mut dyn Draw) -> usize {
    match handles.iter().position(Option::is_some) {
        Some(who) if limit == 1 && !draw.one_in(64) => who,
        _ => draw.below(handles.len()),
    }
}

/// A deadline in the past.
fn expired(draw: &mut dyn Draw) -> Wait {
    let wait = if draw.below(2) == 0 {
        Wait::SPIN
    } else {
        Wait::SLEEP
    };
    wait.timeout(core::time::Duration::ZERO)
}

/// Bytes that are different wherever one begins.
const NOISE: [u8; 2 * LONGEST] = {
    let (mut noise, mut seed, mut i) = ([0; 2 * LONGEST], 1_u32, 0);
    while i < noise.len() {
        seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        noise[i] = (seed >> 24) as u8;
        i += 1;
    }
    noise
};

/// A message, now and then longer than any that fits; `max` is the longest.
fn text(draw: &mut dyn Draw, max: usize) -> &'static [u8] {
    let len = match draw.below(32) {
        _ if max == VALUE => VALUE,
        0 => 0,
        1 => max,
        2 => max + 1 + draw.below(9),
        3..8 => draw.below(max + 1),
        _ => draw.below(33),
    };
    &NOISE[draw.below(LONGEST)..][..len]
}

fn value(draw: &mut dyn Draw) -> Value {
    *NOISE[draw.below(LONGEST)..].first_chunk().unwrap()
}
