//! `linipc compare`: a real file through one mechanism after another, between two real processes.

use std::ffi::OsString;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::builder::PossibleValuesParser;
use clap::{Parser, Subcommand};

mod compare;
mod control;
mod exchange;
mod links;
mod mechanism;
mod peer;
mod report;
mod supervise;

use exchange::Whole;
use links::Side;
use mechanism::Mechanism;

/// Linux IPC, run and measured.
#[derive(Debug, Parser)]
#[command(version, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    // Says how many they are, and `--only` which.
    #[command(about = about(), after_help = COMPARE_HELP)]
    Compare {
        /// A regular file [default: this program]
        file: Option<PathBuf>,
        /// One JSON object a line instead of a table
        #[arg(long)]
        json: bool,
        /// Only these mechanisms, in this order
        #[arg(long, value_name = "NAME,…", value_delimiter = ',', value_parser = names())]
        only: Vec<String>,
    },
    /// One of the two processes; started by the supervisor
    #[command(hide = true)]
    Peer {
        side: Side,
        #[arg(value_parser = names())]
        mechanism: String,
        length: u64,
        hash: u64,
        arguments: Vec<OsString>,
    },
}

const COMPARE_HELP: &str = "\
Each mechanism has two processes of its own: one reads FILE in pieces and sends it, the other one
hashes what comes and sends the hash back, which must be that of FILE. Then both send each other
messages of 64 bytes. Each of the two stays on a CPU of its own, if there are two.

  bytes       the length of FILE
  GiB/s       bytes by the time from the first byte sent until the hash is back; reading FILE from
              the page cache and hashing are part of it. FILE is sent, and its hash compared, again
              and again until 0.2 s have passed; this is the rate over all of them. What fits the
              caches of the CPUs is faster: compare files of the same length
  round trip  a message there and back: the median, and what 99 of 100 do not exceed (p99)

A message or a piece has the size that suits the mechanism. What is built on top:

  shm-*, memfd     slots in the segment, handed over by futexes: spin for a while, then sleep
  sem-*            the same slots, handed over by semaphores, without spinning
  ring             one each way, in sealed memory, copied in and out: spin, then sleep
  file-lock        a file, and three byte-range locks as a baton; nothing polls
  shared-variable  each way one for the message, and one that tells that it was read
  udp              numbers, acknowledgements and repetition, so that nothing is lost

A mechanism that the kernel refuses is shown with the reason. Whatever happens to the two
processes, nothing is left behind; nor after a signal to this program, unless it is SIGKILL: then
the System V queues or semaphores of the mechanism that was running stay, and its names, segments
and files too if the two processes had not both opened them.

Exit status:
  0      every mechanism that ran was verified, or refused by the kernel when its objects were made
         or opened
  1      a mechanism lost or changed data, broke, or made no progress for 10 s; or no output could
         be written
  2      wrong arguments, or FILE cannot be read
  128+N  ended by signal N (130 for Ctrl-C); 141 also if nobody reads the output any more";

fn about() -> String {
    let number = mechanism::ALL.len();
    format!("Send a file through each of {number} mechanisms and measure it")
}

fn names() -> PossibleValuesParser {
    mechanism::ALL
        .iter()
        .map(|m| m.name)
        .collect::<Vec<_>>()
        .into()
}

fn main() -> ExitCode {
    let done = match Cli::parse().command {
        Command::Compare { file, json, only } => compare::run(file, json, &only),
        Command::Peer {
            side,
            mechanism,
            length,
            hash,
            arguments,
        } => match Mechanism::named(&mechanism) {
            Some(mechanism) => peer::run(mechanism, side, Whole { length, hash }, arguments)
                .map(|()| ExitCode::SUCCESS)
                .map_err(compare::Failure::from),
            None => Err(io::Error::other("no such mechanism").into()),
        },
    };
    done.unwrap_or_else(|failure| {
        if !matches!(failure, compare::Failure::Unread) {
            // Nobody is left to be told if this fails.
            let _ = writeln!(io::stderr(), "linipc: {failure}");
        }
        failure.exit_code()
    })
}
