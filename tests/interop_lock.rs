//! File locks and the shared variable with util-linux, C and Python on the other side.

mod support;

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read};
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, Stdio};

use linipc::lock::{Guard, Kind, Lock, Owner, Range};
use linipc::shared::{OpenOptions, Shared};
use linipc_core::Errno;
use linipc_core::lock::{self, FlockOperation};
use support::{compile_c, eventually, peer, python, run};

const PATH: &str = "/dev/shm/locked";

/// A file for the namespace of a test, removed on drop.
struct TestFile;

impl TestFile {
    fn new() -> Self {
        fs::write(PATH, [0; 100]).unwrap();
        Self
    }

    fn open(&self) -> File {
        File::options().read(true).write(true).open(PATH).unwrap()
    }
}

impl Drop for TestFile {
    fn drop(&mut self) {
        let _ = fs::remove_file(PATH);
    }
}

/// A program that says a line when it has the lock, and unlocks at the end of its input.
struct Holder {
    child: Child,
    output: BufReader<ChildStdout>,
}

impl Holder {
    fn start(command: &mut Command) -> Self {
        let command = command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        let mut holder = Self { child, output };
        let mut line = String::new();
        holder.output.read_line(&mut line).unwrap();
        assert_eq!(line, "held\n");
        holder
    }

    fn pid(&self) -> i32 {
        self.child.id() as i32
    }

    fn end(mut self) {
        drop(self.child.stdin.take());
        let mut rest = String::new();
        self.output.read_to_string(&mut rest).unwrap();
        assert!(self.child.wait().unwrap().success(), "{rest}");
    }
}

fn try_flock(file: &File, kind: Kind) -> Result<(), Errno> {
    let operation = match kind {
        Kind::Shared => FlockOperation::NonBlockingLockShared,
        Kind::Exclusive => FlockOperation::NonBlockingLockExclusive,
    };
    lock::flock(file, operation)
}

#[test]
#[cfg_attr(not(has_util_linux), ignore = "util-linux is missing")]
fn the_program_flock_and_we_exclude_each_other() {
    isolated!(|| {
        let file = TestFile::new();
        let exit_code = |kind| {
            let status = Command::new("flock")
                .args([kind, "--nonblock", PATH, "true"])
                .status();
            status.unwrap().code()
        };
        let guard = Guard::lock(file.open(), Lock::File, Kind::Exclusive).unwrap();
        assert_eq!(exit_code("--shared"), Some(1));
        let guard = guard.convert(Kind::Shared).unwrap();
        assert_eq!(exit_code("--shared"), Some(0));
        assert_eq!(exit_code("--exclusive"), Some(1));
        drop(guard);
        assert_eq!(exit_code("--exclusive"), Some(0));

        for (kind, shared) in [("--exclusive", Err(Errno::AGAIN)), ("--shared", Ok(()))] {
            let script = "echo held; cat";
            let mut holder =
                Holder::start(Command::new("flock").args([kind, PATH, "sh", "-c", script]));
            let refused = try_flock(&file.open(), Kind::Exclusive);
            assert_eq!(refused, Err(Errno::AGAIN));
            assert_eq!(try_flock(&file.open(), Kind::Shared), shared);
            // A wait begins while it holds the lock and ends after it.
            let waiter = peer(|| {
                // Else the holder's input would not end while this copy of it is open.
                drop(holder.child.stdin.take());
                drop(Guard::lock(file.open(), Lock::File, Kind::Exclusive).unwrap());
            });
            support::until_asleep(waiter.pid());
            holder.end();
            waiter.join();
        }
    });
}

#[test]
#[cfg_attr(not(has_util_linux), ignore = "util-linux is missing")]
fn lslocks_shows_our_locks() {
    isolated!(|| {
        let file = TestFile::new();
        // The table is of the whole machine, and of an OFD lock it names no process.
        let me = i64::from(std::process::id());
        let last = me + 12;
        for (lock, kind, expected) in [
            (Lock::File, Kind::Shared, format!("{me} FLOCK READ 0 0")),
            (Lock::File, Kind::Exclusive, format!("{me} FLOCK WRITE 0 0")),
            (
                Lock::Record(Owner::Process, Range::new(me, 13)),
                Kind::Shared,
                format!("{me} POSIX READ {me} {last}"),
            ),
            (
                Range::new(me, 13).into(),
                Kind::Exclusive,
                format!("OFDLCK WRITE {me} {last}"),
            ),
        ] {
            let shown = || {
                let columns = "PID,TYPE,MODE,START,END";
                let table = run(Command::new("lslocks").args([
                    "--noheadings",
                    "--raw",
                    "--output",
                    columns,
                ]));
                table.lines().any(|line| line.ends_with(&expected))
            };
            assert!(!shown(), "{expected}");
            let guard = Guard::lock(file.open(), lock, kind).unwrap();
            assert!(shown(), "{expected}");
            drop(guard);
        }
    });
}

/// `PROGRAM PATH CALL KIND START LEN` with CALL `posix` or `ofd`: says `held` and waits for the end
/// of its input. With CALL `ask`: says what is in the way of a POSIX lock.
const C: &str = r#"
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int main(int argc, char **argv) {
    if (argc != 6) return 2;
    int fd = open(argv[1], O_RDWR);
    struct flock lock = {
        .l_type = strcmp(argv[3], "shared") ? F_WRLCK : F_RDLCK,
        .l_whence = SEEK_SET,
        .l_start = atoll(argv[4]),
        .l_len = atoll(argv[5]),
    };
    if (!strcmp(argv[2], "ask")) {
        if (fcntl(fd, F_GETLK, &lock)) return perror("F_GETLK"), 1;
        if (lock.l_type == F_UNLCK) return puts("free"), 0;
        printf("%s %lld %lld %d\n", lock.l_type == F_RDLCK ? "shared" : "exclusive",
               (long long)lock.l_start, (long long)lock.l_len, lock.l_pid);
        return 0;
    }
    if (fcntl(fd, strcmp(argv[2], "ofd") ? F_SETLK : F_OFD_SETLK, &lock)) return perror("lock"), 1;
    puts("held");
    fflush(stdout);
    char byte;
    return read(0, &byte, 1) != 0;
}
"#;

#[test]
#[cfg_attr(not(has_gcc), ignore = "gcc is missing")]
fn c_programs_and_we_exclude_each_other() {
    let program = compile_c("lock", C);
    isolated!(|| {
        let file = TestFile::new();
        let command = |call: &str, kind: &str, start: &str, len: &str| {
            let mut command = program.command();
            command.args([PATH, call, kind, start, len]);
            command
        };
        let ask = |start, len| run(&mut command("ask", "exclusive", start, len));

        // We hold, they ask and fail.
        let us = std::process::id() as i32;
        for (owner, pid) in [(Owner::Description, -1), (Owner::Process, us)] {
            let lock = Lock::Record(owner, Range::new(10, 5));
            let opened = file.open();
            let guard = Guard::lock(&opened, lock, Kind::Exclusive).unwrap();
            assert_eq!(ask("14", "0"), format!("exclusive 10 5 {pid}"));
            assert_eq!(ask("0", "10"), "free");
            for call in ["posix", "ofd"] {
                let refused = command(call, "shared", "0", "0").output().unwrap();
                let error = String::from_utf8_lossy(&refused.stderr).into_owned();
                assert!(error.contains("temporarily unavailable"), "{error}");
            }
            drop(guard);
            assert_eq!(ask("0", "0"), "free");
        }

        // They hold, we ask and fail.
        for (call, owner) in [("ofd", Owner::Description), ("posix", Owner::Process)] {
            for (word, kind) in [("shared", Kind::Shared), ("exclusive", Kind::Exclusive)] {
                let holder = Holder::start(&mut command(call, word, "1099511627776", "8"));
                let range = Range::new(1 << 40, 0);
                for asker in [Owner::Description, Owner::Process] {
                    let opened = file.open();
                    let found = lock::holder(&opened, asker, range, Kind::Exclusive);
                    let found = found.unwrap().unwrap();
                    let pid = (owner == Owner::Process).then(|| holder.pid());
                    assert_eq!(found.pid.map(|pid| pid.as_raw_pid()), pid);
                    assert_eq!((found.owner, found.kind), (owner, kind));
                    assert_eq!(found.range, Range::new(1 << 40, 8));
                    let refused = lock::try_acquire(&opened, asker, range, Kind::Exclusive);
                    assert_eq!(refused, Err(Errno::AGAIN));
                    let shared = lock::try_acquire(&opened, asker, range, Kind::Shared);
                    assert_eq!(shared.is_ok(), kind == Kind::Shared);
                }
                holder.end();
                let free = Guard::try_lock(file.open(), range, Kind::Exclusive);
                drop(free.unwrap());
            }
        }
    });
}

#[test]
#[cfg_attr(not(has_python), ignore = "python3 is missing")]
fn python_and_we_exclude_each_other() {
    isolated!(|| {
        let file = TestFile::new();
        let script = |statement: &str, then: &str| {
            format!(
                "import fcntl, sys\nfile = open('{PATH}', 'r+')\ntry:\n  {statement}\n\
                 except BlockingIOError:\n  sys.exit('busy')\n{then}"
            )
        };
        let flock = "fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)";
        let lockf = "fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB, 5, 20)";
        let process = Lock::Record(Owner::Process, Range::new(24, 1));
        for (statement, lock) in [
            (flock, Lock::File),
            (lockf, Range::new(24, 1).into()),
            (lockf, process),
        ] {
            let opened = file.open();
            let guard = Guard::lock(&opened, lock, Kind::Shared).unwrap();
            let refused = python(&script(statement, "")).output().unwrap();
            assert!(String::from_utf8_lossy(&refused.stderr).ends_with("busy\n"));
            drop(guard);
            run(&mut python(&script(statement, "")));

            let hold = "print('held', flush=True)\nsys.stdin.read()";
            let holder = Holder::start(&mut python(&script(statement, hold)));
            let failed = Guard::try_lock(&opened, lock, Kind::Shared).unwrap_err();
            assert_eq!(failed.error.kind(), std::io::ErrorKind::WouldBlock);
            holder.end();
            drop(Guard::try_lock(&opened, lock, Kind::Exclusive).unwrap());
        }
    });
}

/// Reads the variable as its documentation says, and replaces 7 by 8.
const PYTHON_WRITER: &str = r#"
import fcntl, mmap, struct
file = open(PATH, 'r+b')
fcntl.lockf(file, fcntl.LOCK_EX)
memory = mmap.mmap(file.fileno(), 0)
magic, version, generation, size = struct.unpack_from('=8sIIQ', memory)
assert (magic, version, size) == (b'linipc=v', 1, 24), (magic, version, size)
stride = -(-size // 64) * 64
at = lambda generation: 64 + generation % 2 * stride
assert struct.unpack_from('=qqq', memory, at(generation)) == (-1, 7, 2**62)
struct.pack_into('=qqq', memory, at(generation + 1), -1, 8, 2**62)
struct.pack_into('=I', memory, 12, generation + 1)
"#;

#[test]
#[cfg_attr(not(has_python), ignore = "python3 is missing")]
fn python_takes_part_in_a_shared_variable() {
    isolated!(|| {
        let path = PathBuf::from(PATH);
        let mut variable = OpenOptions::new()
            .create_new([-1_i64, 0, 1 << 62])
            .unlink_on_drop(true)
            .open(&path)
            .unwrap();
        variable.update(|value| value[1] = 7).unwrap();
        let script = PYTHON_WRITER.replace("PATH", &format!("'{PATH}'"));

        // Our lock keeps Python out of the variable.
        let mut here: Shared<[i64; 3]> = Shared::open(&path).unwrap();
        let mut writer = here
            .update(|_| {
                let writer = python(&script).spawn().unwrap();
                eventually("Python waits for the lock", || {
                    fs::read_to_string("/proc/locks")
                        .unwrap()
                        .lines()
                        .any(|line| {
                            line.contains("-> POSIX") && line.contains(&writer.id().to_string())
                        })
                });
                writer
            })
            .unwrap();
        let mut value = variable.wait().unwrap();
        while value[1] == 7 {
            value = variable.wait().unwrap();
        }
        assert_eq!(value, [-1, 8, 1 << 62]);
        assert!(writer.wait().unwrap().success());
    });
}
