//! What two processes do over a link: move a file, then answer each other.
//!
//! Both sides know the length of every message before it comes, since a header goes first, so a
//! link needs no framing of its own. The sender begins, the receiver answers:
//!
//! | sender | receiver |
//! |---|---|
//! | header: the file's length, the length of a chunk | |
//! | the file, a chunk a message; the last one may be shorter | |
//! | | receipt: how much came, and its hash |
//! | the same again and again, if the file is short; then a header of two zeros | |
//! | a ping, marked as the last one or not | |
//! | | the same back, until the last one |

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};

use xxhash_rust::xxh3::Xxh3;

use crate::links::Link;

/// The length of the message whose round trip is measured. Every link must carry it.
pub(crate) const PING: usize = 64;

/// The file is sent again until its transfers have taken so long: one short transfer tells nothing.
const TRANSFER_TIME: Duration = Duration::from_millis(200);

/// Round trips are measured for this long, or until there are [`MAX_ROUNDS`].
const ROUNDS_TIME: Duration = Duration::from_millis(300);
const MAX_ROUNDS: usize = 100_000;
const WARM_UP: usize = 200;

/// Between two reports of progress.
const REPORT_EVERY: Duration = Duration::from_millis(50);

/// What is known of a file, or of what arrived of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Whole {
    pub(crate) length: u64,
    pub(crate) hash: u64,
}

/// What the sender measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Measured {
    /// What arrived last: each transfer before it brought the whole file.
    pub(crate) arrived: Whole,
    /// From the first byte sent to the receipt: the mean of all transfers.
    pub(crate) transfer: Duration,
    /// Half of all round trips were at least as fast.
    pub(crate) median: Duration,
    /// 99 of 100 round trips were at least as fast.
    pub(crate) p99: Duration,
}

/// The sender's side. `report` is told how many bytes are sent, now and then.
pub(crate) fn send(
    link: &mut dyn Link,
    file: &File,
    whole: Whole,
    mut report: impl FnMut(u64) -> io::Result<()>,
) -> io::Result<Measured> {
    let mut buffer = vec![0; link.max_message()];
    let (mut total, mut transfers) = (Duration::ZERO, 0);
    let mut most = 0;
    // Progress does not go back when the file is sent again.
    let mut report = |sent: u64| {
        most = sent.max(most);
        report(most)
    };
    let arrived = loop {
        let start = Instant::now();
        let arrived = transfer(link, file, whole.length, &mut buffer, &mut report)?;
        total += start.elapsed();
        transfers += 1;
        if arrived != whole || whole.length == 0 || total >= TRANSFER_TIME {
            break arrived;
        }
    };
    link.send(&pair(0, 0))?;
    report(whole.length)?;
    let (median, p99) = ping(link)?;
    Ok(Measured {
        arrived,
        transfer: total / transfers,
        median,
        p99,
    })
}

/// Sends the file once; gives what the receiver says of it.
fn transfer(
    link: &mut dyn Link,
    file: &File,
    length: u64,
    buffer: &mut [u8],
    mut report: impl FnMut(u64) -> io::Result<()>,
) -> io::Result<Whole> {
    link.send(&pair(length, buffer.len() as u64))?;
    let mut sent = 0;
    let mut last_report = Instant::now();
    while sent < length {
        let chunk = chunk_of(buffer, length - sent);
        file.read_exact_at(chunk, sent)
            .map_err(|error| match error.kind() {
                io::ErrorKind::UnexpectedEof => io::Error::other("the file became shorter"),
                _ => error,
            })?;
        link.send(chunk)?;
        sent += chunk.len() as u64;
        if last_report.elapsed() > REPORT_EVERY {
            last_report = Instant::now();
            report(sent)?;
        }
    }
    let (length, hash) = receive_pair(link)?;
    Ok(Whole { length, hash })
}

/// The receiver's side.
pub(crate) fn receive(link: &mut dyn Link) -> io::Result<()> {
    let mut buffer = vec![0; link.max_message()];
    loop {
        match receive_pair(link)? {
            (0, 0) => return answer(link),
            (length, chunk) if chunk == buffer.len() as u64 => {
                let arrived = receive_file(link, length, &mut buffer)?;
                link.send(&pair(arrived.length, arrived.hash))?;
            }
            (_, chunk) => {
                let mine = buffer.len();
                let why = format!("the sender's messages have {chunk} bytes, mine {mine}");
                return Err(io::Error::other(why));
            }
        }
    }
}

fn receive_file(link: &mut dyn Link, length: u64, buffer: &mut [u8]) -> io::Result<Whole> {
    let mut hash = Xxh3::new();
    let mut received = 0;
    while received < length {
        let chunk = chunk_of(buffer, length - received);
        link.receive(chunk)?;
        hash.update(chunk);
        received += chunk.len() as u64;
    }
    Ok(Whole {
        length: received,
        hash: hash.digest(),
    })
}

/// Sends pings back, until the last one.
fn answer(link: &mut dyn Link) -> io::Result<()> {
    loop {
        let mut message = [0; PING];
        link.receive(&mut message)?;
        link.send(&message)?;
        if message == LAST_PING {
            return link.finish();
        }
    }
}

const EACH_PING: [u8; PING] = [1; PING];
const LAST_PING: [u8; PING] = [2; PING];

/// Median and 99th percentile of the round trips.
fn ping(link: &mut dyn Link) -> io::Result<(Duration, Duration)> {
    let mut round = |message: [u8; PING]| {
        let start = Instant::now();
        link.send(&message)?;
        let mut answer = [0; PING];
        link.receive(&mut answer)?;
        let elapsed = start.elapsed();
        if answer != message {
            return Err(io::Error::other("the answer is not what was sent"));
        }
        Ok(elapsed)
    };
    let end = Instant::now() + ROUNDS_TIME;
    for _ in 0..WARM_UP {
        round(EACH_PING)?;
        if Instant::now() >= end {
            break;
        }
    }
    let mut rounds = vec![round(EACH_PING)?];
    let end = Instant::now() + ROUNDS_TIME;
    while rounds.len() < MAX_ROUNDS && Instant::now() < end {
        rounds.push(round(EACH_PING)?);
    }
    round(LAST_PING)?;
    link.finish()?;
    rounds.sort_unstable();
    let at = |percent| rounds[(rounds.len() - 1) * percent / 100];
    Ok((at(50), at(99)))
}

/// The next chunk of the buffer, when `left` bytes are left.
fn chunk_of(buffer: &mut [u8], left: u64) -> &mut [u8] {
    let len = left.min(buffer.len() as u64) as usize;
    &mut buffer[..len]
}

fn pair(first: u64, second: u64) -> [u8; 16] {
    (u128::from(first) | u128::from(second) << 64).to_le_bytes()
}

fn receive_pair(link: &mut dyn Link) -> io::Result<(u64, u64)> {
    let mut bytes = [0; 16];
    link.receive(&mut bytes)?;
    let both = u128::from_le_bytes(bytes);
    Ok((both as u64, (both >> 64) as u64))
}
