//! `linipc-mini`: IPC for an initramfs or an image `FROM scratch`, one program with many names.
//!
//! It is called by the name of an applet (a link to it), or as `linipc-mini APPLET`. Without arguments it
//! says what there is. What is received is printed as it came, without a line end of its own.
//!
//! Exit codes: 0 done; 1 not now (`-n`); 2 the kernel refused, and standard error says what; 64 wrong
//! arguments. `flock` has those of util-linux: 1 locked by others (`-n`), 65 the lock is refused (no such
//! descriptor), 66 the file cannot be opened, 69 the command cannot be executed, 71 the system has no more
//! locks, else the command's own. 2 also if a standard descriptor is closed.

#![no_std]
#![no_main]

use linipc_static::report::{FAILED, Failure, ended, wrong};
use linipc_static::{Args, entry};

mod errno;
mod files;
mod options;
mod posix;
mod ring;
mod sysv;

/// An applet: its arguments, and what it does.
struct Applet {
    name: &'static str,
    usage: &'static str,
    run: fn(Args) -> Result<(), Failure>,
}

const APPLETS: [Applet; 8] = [
    Applet {
        name: "mkfifo",
        usage: "mkfifo [-m MODE] NAME...",
        run: files::mkfifo,
    },
    Applet {
        name: "flock",
        usage: "flock [-sexun] FILE COMMAND [ARGUMENT...] | FILE -c COMMAND | DESCRIPTOR",
        run: files::flock,
    },
    Applet {
        name: "semop",
        usage: "semop [-n] [-c COUNT] KEY [NUMBER:]OPERATION... | -r KEY",
        run: sysv::semop,
    },
    Applet {
        name: "mq-send",
        usage: "mq-send [-nc] [-p PRIORITY] NAME [TEXT]",
        run: posix::mq_send,
    },
    Applet {
        name: "mq-recv",
        usage: "mq-recv [-n] NAME | -r NAME",
        run: posix::mq_recv,
    },
    Applet {
        name: "msgsnd",
        usage: "msgsnd [-nc] [-t TYPE] KEY [TEXT]",
        run: sysv::msgsnd,
    },
    Applet {
        name: "msgrcv",
        usage: "msgrcv [-n] [-t TYPE] KEY | -r KEY",
        run: sysv::msgrcv,
    },
    Applet {
        name: "ring-cat",
        usage: "ring-cat [-l] SOCKET",
        run: ring::ring_cat,
    },
];

const USAGE: &[u8] = b"linipc-mini mkfifo|flock|semop|mq-send|mq-recv|msgsnd|msgrcv|ring-cat ...";

entry!(main);

fn main(args: Args) -> u8 {
    let called = |args: Args| {
        let path = args.bytes(0)?;
        let name = path.rsplit(|byte| *byte == b'/').next()?;
        let applet = APPLETS
            .iter()
            .find(|applet| applet.name.as_bytes() == name)?;
        Some((args, applet))
    };
    match called(args).or_else(|| called(args.skip(1))) {
        Some((args, applet)) => {
            let name = applet.name.as_bytes();
            let done = (applet.run)(args.skip(1));
            let (code, errno) = match done {
                Err(Failure::Errno(errno)) => (FAILED, errno),
                Err(Failure::Code(code, errno)) => (code, errno),
                done => return ended(name, applet.usage.as_bytes(), done),
            };
            errno::refused(name, errno);
            code
        }
        None => wrong(USAGE),
    }
}
