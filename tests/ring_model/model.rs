//! A queue that knows all that a ring promises.

use std::collections::{BTreeMap, VecDeque};

use linipc_core::ring::{Counters, Error, Kind};

use super::{Call, ENDS, Event, Ring, Text, VALUE};

/// What lies in the ring.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Claimed,
    Aborted,
    Ready(Text),
    /// By one of the consumers, or, if that has left, by nobody.
    Taken(Option<usize>, Text),
    Released,
}

/// A claim or a batch that is open. `at` and `size` are what it has of the ring already.
#[derive(Debug)]
struct Open {
    at: u64,
    size: u64,
    texts: Vec<Text>,
    /// Of items: how many there are.
    items: usize,
}

#[derive(Debug, Default)]
struct Consumer {
    is_here: bool,
    /// What is taken and not released.
    held: VecDeque<u64>,
    /// What is peeked at, or read in a batch.
    seen: Vec<(u64, Text)>,
    most: usize,
    /// Of a broadcast: the next message, and whether it may be overwritten.
    next: usize,
    may_miss: bool,
    is_overtaken: bool,
}

#[derive(Debug)]
pub struct Model {
    kind: Kind,
    capacity: u64,
    limits: (usize, usize),
    /// By position.
    records: BTreeMap<u64, (u64, State)>,
    tail: u64,
    /// Of `mpmc`: what is before it is taken, or nothing.
    cursor: u64,
    producers: [bool; ENDS],
    consumers: [Consumer; ENDS],
    /// Whether there ever was one.
    were_there: (bool, bool),
    open: [Option<Open>; ENDS],
    offered: Vec<Text>,
    /// Of a broadcast: all messages, and where they were.
    sent: Vec<(u64, Text)>,
    pub pushed: Counters,
    pub popped: Counters,
    /// The last events, to be shown.
    recent: VecDeque<Event>,
}

impl Model {
    pub fn of<R: Ring>(capacity: u64) -> Self {
        Self {
            kind: R::KIND,
            capacity,
            limits: R::ENDS,
            records: BTreeMap::new(),
            tail: 0,
            cursor: 0,
            producers: [false; ENDS],
            consumers: Default::default(),
            were_there: (false, false),
            open: Default::default(),
            offered: Vec::new(),
            sent: Vec::new(),
            pushed: Counters::default(),
            popped: Counters::default(),
            recent: VecDeque::new(),
        }
    }

    fn size(&self, len: usize) -> u64 {
        match self.kind {
            Kind::Items => 1,
            _ => 8 + len.next_multiple_of(8) as u64,
        }
    }

    fn max(&self) -> usize {
        match self.kind {
            Kind::Items => VALUE,
            _ => self.capacity as usize / 2,
        }
    }

    /// Whether a claim has room that others see.
    fn claims(&self) -> bool {
        matches!(self.kind, Kind::Mpsc | Kind::Mpmc)
    }

    fn head(&self) -> u64 {
        self.records.keys().next().map_or(self.tail, |at| *at)
    }

    fn free(&self) -> u64 {
        let behind = if self.kind == Kind::Items { 0 } else { 8 };
        self.capacity - behind - (self.tail - self.head())
    }

    /// Takes away what is released; of `mpmc`, as far as consumers have been.
    fn reclaim(&mut self) {
        while let Some(first) = self.records.first_entry()
            && *first.key() < self.cursor
            && matches!(first.get().1, State::Released | State::Aborted)
        {
            first.remove();
        }
    }

    fn producers_have_left(&self) -> bool {
        self.were_there.0 && self.producers == [false; ENDS]
    }

    fn consumers_have_left(&self) -> bool {
        self.were_there.1 && self.consumers.iter().all(|consumer| !consumer.is_here)
    }

    /// Whether so much may be claimed or pushed behind `used` bytes of a batch.
    fn may_push(&mut self, used: u64, len: usize) -> Result<(), Error> {
        let max = self.max();
        if len > max {
            return Err(Error::TooLong { max });
        }
        self.may_claim(used + self.size(len))
    }

    fn may_claim(&mut self, size: u64) -> Result<(), Error> {
        if self.kind == Kind::Broadcast {
            return self.overrun(size);
        }
        if size <= self.free() {
            return Ok(());
        }
        self.pushed.refused += 1;
        match self.consumers_have_left() {
            true => Err(Error::Closed),
            false => Err(Error::Full),
        }
    }

    /// Who is further behind than a producer may be that is to miss nothing?
    fn overrun(&mut self, size: u64) -> Result<(), Error> {
        for consumer in &mut self.consumers {
            let from = self
                .sent
                .get(consumer.next)
                .map_or(self.tail, |sent| sent.0);
            consumer.may_miss |= self.tail - from + size > self.capacity * 7 / 8 - 8;
        }
        match size > self.capacity * 7 / 8 - 8 {
            true => Err(Error::Full),
            false => Ok(()),
        }
    }

    fn push(&mut self, text: Text) {
        let size = self.size(text.len);
        self.put(self.tail, size, State::Ready(text));
        self.tail += size;
        self.count(text);
    }

    fn put(&mut self, at: u64, size: u64, state: State) {
        match (self.kind, state) {
            (Kind::Broadcast, State::Ready(text)) => self.sent.push((at, text)),
            _ => drop(self.records.insert(at, (size, state))),
        }
    }

    fn count(&mut self, text: Text) {
        self.pushed.messages += 1;
        self.pushed.bytes += text.len as u64;
    }

    /// Opens a claim of so much, which is in the way at once where others claim too.
    fn open(&mut self, who: usize, size: u64) {
        let items = (self.free()).min(self.capacity - self.tail % self.capacity);
        let items = items.min(size) as usize;
        let at = self.tail;
        if self.claims() {
            self.put(at, size, State::Claimed);
            self.tail += size;
        }
        let texts = Vec::new();
        self.open[who] = Some(Open {
            at,
            size,
            texts,
            items,
        });
    }

    fn commit(&mut self, who: usize) {
        let Open {
            at, size, texts, ..
        } = self.open[who].take().unwrap();
        if !self.claims() {
            texts.into_iter().for_each(|text| self.push(text));
            return;
        }
        let mut used = 0;
        for text in texts {
            self.put(at + used, self.size(text.len), State::Ready(text));
            self.count(text);
            used += self.size(text.len);
        }
        if used < size {
            self.put(at + used, size - used, State::Aborted);
        }
    }

    /// Panics if no ring would have said this.
    pub fn judge(&mut self, event: Event) {
        let Event { who, call, said } = event;
        self.recent.truncate(30);
        self.recent.push_front(event);
        let expected = match call {
            Call::AttachProducer => {
                let is_full = self.producers.iter().filter(|here| **here).count() >= self.limits.0;
                self.producers[who] |= !is_full;
                self.were_there.0 = true;
                if is_full {
                    Err(Error::Busy)
                } else {
                    Ok(Text::number(0))
                }
            }
            Call::LeaveProducer => {
                self.producers[who] = false;
                said
            }
            Call::Push(text) => {
                let expected = self.may_push(0, text.len);
                if expected.is_ok() {
                    self.push(text);
                }
                expected.and(said)
            }
            Call::Offer(text) => {
                self.offered.push(text);
                said
            }
            Call::PushAll => self.push_all().map(Text::number),
            Call::Claim(len) => {
                let expected = self.may_push(0, len);
                if expected.is_ok() {
                    self.open(who, self.size(len));
                }
                expected.and(said)
            }
            Call::Commit(text) => {
                self.open[who].as_mut().unwrap().texts.push(text);
                self.commit(who);
                said
            }
            Call::Abort | Call::BatchAbort => {
                self.open[who].as_mut().unwrap().texts.clear();
                self.commit(who);
                said
            }
            Call::Batch(room) => self.batch(who, room).and(said),
            Call::BatchPush(text) => self.batch_push(who, text, said).and(said),
            Call::BatchCommit => {
                self.commit(who);
                said
            }
            Call::Free => Ok(Text::number(self.free() as usize)),
            Call::AttachConsumer => {
                let here = self.consumers.iter().filter(|consumer| consumer.is_here);
                let is_full = self.kind != Kind::Broadcast && here.count() >= self.limits.1;
                if is_full {
                    Err(Error::Busy)
                } else {
                    self.were_there.1 = true;
                    self.consumers[who] = Consumer {
                        is_here: true,
                        next: self.sent.len(),
                        ..Consumer::default()
                    };
                    Ok(Text::number(0))
                }
            }
            Call::LeaveConsumer => {
                let consumer = std::mem::take(&mut self.consumers[who]);
                for at in consumer.held {
                    self.update(at, |state| match state {
                        State::Taken(_, text) => State::Taken(None, text),
                        state => panic!("{state:?}"),
                    });
                }
                said
            }
            _ if self.kind == Kind::Broadcast => self.follow(event),
            Call::Pop(room) => {
                let next = self.next(who, 1, said);
                self.pop(who, next, |len| len <= room)
            }
            Call::PopValue => {
                let next = self.next(who, 1, said);
                self.pop(who, next, |len| len == VALUE)
            }
            Call::Look => {
                // One of several does not take what it only looks at, but what was left behind.
                let is_waiting = self.records.range(self.cursor..).next().is_some();
                if self.kind != Kind::Mpmc || self.producers_have_left() && !is_waiting {
                    let _ = self.next(who, 1, said);
                }
                said
            }
            Call::Drained => {
                let next = self.next(who, 1, Err(Error::Empty));
                next.map(|(_, text)| text).and(said).or(said)
            }
            Call::Peek => {
                let next = self.next(who, 1, said);
                self.consumers[who].seen = next.into_iter().collect();
                next.map(|(_, text)| text)
            }
            Call::Again => Ok(self.consumers[who].seen[0].1),
            Call::Release | Call::ReleaseAll => {
                for (at, text) in std::mem::take(&mut self.consumers[who].seen) {
                    self.release(who, at, text);
                }
                said
            }
            Call::Keep | Call::KeepAll => {
                self.consumers[who].seen.clear();
                said
            }
            Call::Messages(most) => self.messages(who, most, said),
            Call::Next => self.next_of_messages(who, said),
        };
        assert_eq!(said, expected, "the newest event is the first: {self:#?}");
        self.reclaim();
    }

    fn push_all(&mut self) -> Result<usize, Error> {
        let texts = std::mem::take(&mut self.offered);
        let Some(first) = texts.first() else {
            return Ok(0);
        };
        let mut room = self.free();
        if self.kind != Kind::Items {
            room = room.min(self.max() as u64 + 8);
        }
        self.may_push(0, first.len)?;
        let mut count = 0;
        for text in &texts {
            if text.len > self.max() || self.size(text.len) > room {
                break;
            }
            room -= self.size(text.len);
            self.push(*text);
            count += 1;
        }
        Ok(count)
    }

    fn batch(&mut self, who: usize, room: usize) -> Result<(), Error> {
        if self.claims() {
            let max = self.max() + 8;
            if room > max {
                return Err(Error::TooLong { max });
            }
            let size = room.max(1).next_multiple_of(8) as u64;
            self.may_claim(size)?;
            self.open(who, size);
        } else {
            if self.kind == Kind::Items {
                self.may_claim(1)?;
            }
            self.open(who, room as u64);
        }
        Ok(())
    }

    fn batch_push(
        &mut self,
        who: usize,
        text: Text,
        said: Result<Text, Error>,
    ) -> Result<(), Error> {
        let open = self.open[who].take().unwrap();
        let used = open
            .texts
            .iter()
            .map(|text| self.size(text.len))
            .sum::<u64>();
        let expected = match self.kind {
            Kind::Mpsc | Kind::Mpmc => match (open.size - used).checked_sub(8) {
                None => Err(Error::Full),
                Some(max) if text.len as u64 > max => Err(Error::TooLong { max: max as usize }),
                Some(_) => Ok(()),
            },
            Kind::Items if open.texts.len() < open.items => Ok(()),
            Kind::Items => Err(Error::TooLong { max: open.items }),
            _ => self.may_push(used, text.len),
        };
        // What a large batch of a broadcast needs may be there, or not.
        let expected = match (self.kind, expected, said) {
            (Kind::Broadcast, Err(Error::Full), Ok(_)) => Ok(()),
            _ => expected,
        };
        let open = self.open[who].insert(open);
        if expected.is_ok() {
            open.texts.push(text);
        }
        expected
    }

    fn update(&mut self, at: u64, to: impl FnOnce(State) -> State) {
        let (_, state) = self.records.get_mut(&at).unwrap();
        *state = to(*state);
    }

    /// The first message at a position or behind, or why there is none.
    fn find(&mut self, from: u64) -> Result<(u64, Text), Error> {
        let mut skipped = from;
        for (at, (size, state)) in self.records.range(from..) {
            match state {
                State::Ready(text) => return Ok((*at, *text)),
                State::Aborted => skipped = at + size,
                _ => break,
            }
        }
        if from == self.head() {
            self.records = self.records.split_off(&skipped);
        }
        Err(self.why_not())
    }

    fn why_not(&self) -> Error {
        match self.producers_have_left() {
            true => Error::Closed,
            false => Error::Empty,
        }
    }

    /// The next message of a consumer, which takes up to `most` where there are several.
    fn next(
        &mut self,
        who: usize,
        most: usize,
        said: Result<Text, Error>,
    ) -> Result<(u64, Text), Error> {
        if self.kind != Kind::Mpmc {
            return self.find(self.head());
        }
        if self.consumers[who].held.is_empty() {
            self.take(who, most);
        }
        if self.consumers[who].held.is_empty() {
            self.rescue(who, said);
        }
        let at = self.consumers[who].held.front().ok_or(self.why_not())?;
        match self.records[at].1 {
            State::Taken(_, text) => Ok((*at, text)),
            state => panic!("{state:?}"),
        }
    }

    fn take(&mut self, who: usize, most: usize) {
        let held = &mut self.consumers[who].held;
        for (at, (size, state)) in self.records.range_mut(self.cursor..) {
            match *state {
                State::Ready(text) if held.len() < most => {
                    *state = State::Taken(Some(who), text);
                    held.push_back(*at);
                }
                State::Aborted if held.len() < most => {}
                _ => break,
            }
            self.cursor = at + *size;
        }
    }

    /// What a consumer left behind is somebody's again, sooner or later, and before the ring is closed.
    fn rescue(&mut self, who: usize, said: Result<Text, Error>) {
        if said == Err(Error::Empty) && !self.producers_have_left() {
            return;
        }
        let held = &mut self.consumers[who].held;
        for (at, (_, state)) in self.records.range_mut(..self.cursor) {
            match *state {
                State::Taken(None, text) => {
                    *state = State::Taken(Some(who), text);
                    held.push_back(*at);
                }
                State::Aborted => {}
                _ if held.is_empty() => {}
                _ => break,
            }
        }
    }

    fn pop(
        &mut self,
        who: usize,
        next: Result<(u64, Text), Error>,
        fits: impl FnOnce(usize) -> bool,
    ) -> Result<Text, Error> {
        let (at, text) = next?;
        if !fits(text.len) {
            return Err(Error::BufferLen { message: text.len });
        }
        self.release(who, at, text);
        Ok(text)
    }

    fn release(&mut self, who: usize, at: u64, text: Text) {
        self.popped.messages += 1;
        self.popped.bytes += text.len as u64;
        if self.kind == Kind::Mpmc {
            self.consumers[who].held.retain(|held| *held != at);
            self.update(at, |_| State::Released);
        } else {
            self.records = self.records.split_off(&(at + 1));
        }
    }

    fn messages(
        &mut self,
        who: usize,
        most: usize,
        said: Result<Text, Error>,
    ) -> Result<Text, Error> {
        self.consumers[who].most = match self.kind {
            Kind::Items => {
                let (at, _) = self.next(who, 1, said)?;
                most.min((self.capacity - at % self.capacity) as usize)
                    .min(self.records.len())
            }
            Kind::Mpmc => {
                // Whoever is asked first takes them.
                self.next(who, most, said)?;
                self.consumers[who].held.len()
            }
            _ => usize::MAX,
        };
        said
    }

    fn next_of_messages(&mut self, who: usize, said: Result<Text, Error>) -> Result<Text, Error> {
        let Consumer {
            held, seen, most, ..
        } = &self.consumers[who];
        let next = match self.kind {
            Kind::Items if seen.len() == *most => Err(Error::BufferLen { message: *most }),
            Kind::Mpmc => match held.get(seen.len()) {
                Some(at) => match self.records[at].1 {
                    State::Taken(_, text) => Ok((*at, text)),
                    state => panic!("{state:?}"),
                },
                None => Err(Error::Empty),
            },
            _ => {
                let from = seen.last().map(|(at, text)| at + self.size(text.len));
                self.find(from.unwrap_or(self.head()))
            }
        };
        self.consumers[who].seen.extend(next);
        next.map(|(_, text)| text)
            .and(said.or(next.map(|(_, text)| text)))
    }

    /// A consumer of a broadcast.
    fn follow(&mut self, event: Event) -> Result<Text, Error> {
        let (said, why_not) = (event.said, self.why_not());
        let consumer = &mut self.consumers[event.who];
        let next = self.sent.get(consumer.next).map(|(_, text)| *text);
        if let Err(Error::Missed { messages }) = said {
            assert!(
                consumer.may_miss || messages == 0 && consumer.is_overtaken,
                "missed too early: {event:?}"
            );
            assert!(messages > 0 || consumer.is_overtaken);
            consumer.next += messages as usize;
            consumer.may_miss &= messages == 0;
            consumer.is_overtaken = true;
            assert!(
                consumer.next <= self.sent.len(),
                "missed what never was: {event:?}"
            );
            self.popped.lost += messages;
            return said;
        }
        let text = next.ok_or(why_not);
        let fits = |fits: bool| {
            let text = text?;
            if fits {
                Ok(text)
            } else {
                Err(Error::BufferLen { message: text.len })
            }
        };
        let len = text.map_or(0, |text| text.len);
        let (expected, is_taken) = match event.call {
            Call::Pop(room) => (fits(len <= room), true),
            Call::PopValue => (fits(len == VALUE), true),
            Call::Peek => {
                consumer.is_overtaken = false;
                (text, false)
            }
            Call::Release => (said, !consumer.is_overtaken),
            Call::Again => (text, false),
            Call::Drained => (
                if next.is_none() {
                    said
                } else {
                    Err(Error::Empty)
                },
                false,
            ),
            _ => (said, false),
        };
        if is_taken && let (Ok(_), Some(text)) = (expected, next) {
            consumer.next += 1;
            self.popped.messages += 1;
            self.popped.bytes += text.len as u64;
        }
        expected
    }
}
