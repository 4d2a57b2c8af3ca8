//! What two processes do over a link: move a file, then answer each other.
//!
//! Both sides know the length of every message before it comes, since a header goes first, so a
//! link needs no framing of its own. The sender begins, the receiver answers:
//!
//! | sender | receiver |
//! |---|---|
//! | header: the file's length, the length of a chunk | |
//! | the file, a chunk a message; the last one may be shorter | |
//! | | receipt: the hash of what came, and how much that was |
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

/// Round trips are measured for this long, or until there are [`MAX_ROUNDS`].
const ROUNDS_TIME: Duration = Duration::from_millis(300);
const MAX_ROUNDS: usize = 100_000;
const WARM_UP: usize = 200;

/// Between two reports of progress.
const REPORT_EVERY: Duration = Duration::from_millis(50);

/// What the sender measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Measured {
    /// The hash that the receiver made.
    pub(crate) hash: u64,
    /// The bytes that the receiver counted.
    pub(crate) bytes: u64,
    /// From the first byte sent to the receipt.
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
    length: u64,
    mut report: impl FnMut(u64) -> io::Result<()>,
) -> io::Result<Measured> {
    let mut buffer = vec![0; link.max_message()];
    let start = Instant::now();
    link.send(&pair(length, buffer.len() as u64))?;
    let mut sent = 0;
    let mut last_report = start;
    while sent < length {
        let chunk = chunk_of(&mut buffer, length - sent);
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
    let (hash, bytes) = receive_pair(link)?;
    let transfer = start.elapsed();
    report(sent)?;
    let (median, p99) = ping(link)?;
    Ok(Measured {
        hash,
        bytes,
        transfer,
        median,
        p99,
    })
}

/// The receiver's side.
pub(crate) fn receive(link: &mut dyn Link) -> io::Result<()> {
    let (length, chunk) = receive_pair(link)?;
    if chunk != link.max_message() as u64 {
        return Err(io::Error::other(format!(
            "the sender's messages have {chunk} bytes, mine {}",
            link.max_message()
        )));
    }
    let mut buffer = vec![0; link.max_message()];
    let mut hash = Xxh3::new();
    let mut received = 0;
    while received < length {
        let chunk = chunk_of(&mut buffer, length - received);
        link.receive(chunk)?;
        hash.update(chunk);
        received += chunk.len() as u64;
    }
    link.send(&pair(hash.digest(), received))?;
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
