//! POSIX message queues between us and programs that use the C library or Python.

mod support;

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::process::{Child, ChildStdout, Command, Stdio};

use linipc::posix::mq::{Capacity, Notification, OpenOptions, Queue, unlink};
use linipc_core::Errno;
use linipc_core::posix::Create;
use linipc_core::posix::mq::{self, Flags};
use support::{Program, compile_c, mqueue_dir, peer, python, run};

const NAME: &str = "/linipc-interop";

const PROGRAM: &str = r#"
#include <errno.h>
#include <fcntl.h>
#include <mqueue.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void check(int failed, const char *what) {
    if (failed) {
        fprintf(stderr, "%s: %s\n", what, strerror(errno));
        exit(1);
    }
}

static mqd_t reopen(const char *name, int flags) {
    mqd_t queue = mq_open(name, flags);
    check(queue == (mqd_t)-1, "mq_open");
    return queue;
}

int main(int argc, char **argv) {
    if (argc < 3) return 2;
    const char *verb = argv[1], *name = argv[2];
    if (!strcmp(verb, "create")) { /* messages bytes */
        struct mq_attr attr = { .mq_maxmsg = atol(argv[3]), .mq_msgsize = atol(argv[4]) };
        check(mq_open(name, O_RDWR | O_CREAT | O_EXCL, 0640, &attr) == (mqd_t)-1, "create");
    } else if (!strcmp(verb, "send")) { /* text priority ... */
        mqd_t queue = reopen(name, O_WRONLY);
        for (int i = 3; i + 1 < argc; i += 2)
            check(mq_send(queue, argv[i], strlen(argv[i]), atoi(argv[i + 1])), "mq_send");
    } else if (!strcmp(verb, "receive")) { /* count */
        mqd_t queue = reopen(name, O_RDONLY);
        struct mq_attr attr;
        check(mq_getattr(queue, &attr), "mq_getattr");
        printf("%ld %ld %ld\n", attr.mq_maxmsg, attr.mq_msgsize, attr.mq_curmsgs);
        char *text = malloc(attr.mq_msgsize);
        for (int i = 0; i < atoi(argv[3]); i++) {
            unsigned priority;
            ssize_t len = mq_receive(queue, text, attr.mq_msgsize, &priority);
            check(len < 0, "mq_receive");
            printf("%u %.*s\n", priority, (int)len, text);
        }
    } else if (!strcmp(verb, "notify")) { /* value */
        mqd_t queue = reopen(name, O_RDONLY);
        sigset_t set;
        sigemptyset(&set);
        sigaddset(&set, SIGRTMIN);
        sigprocmask(SIG_BLOCK, &set, NULL);
        struct sigevent event = { .sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGRTMIN };
        event.sigev_value.sival_int = atoi(argv[3]);
        check(mq_notify(queue, &event), "mq_notify");
        puts("registered");
        fflush(stdout);
        siginfo_t info;
        check(sigwaitinfo(&set, &info) < 0, "sigwaitinfo");
        printf("%d %d %d\n", info.si_code == SI_MESGQ, info.si_value.sival_int, info.si_pid);
    } else if (!strcmp(verb, "errno")) {
        mqd_t queue = mq_open(name, O_RDONLY | O_CREAT, 0600, NULL);
        printf("%d\n", queue == (mqd_t)-1 ? errno : 0);
    }
    return 0;
}
"#;

fn ours() -> Queue {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create_new(true)
        .capacity(5, 32)
        .unlink_on_drop(true)
        .open(NAME)
        .unwrap()
}

/// All messages that are there now.
fn drain(queue: &Queue) -> Vec<(u32, String)> {
    let mut message = vec![0; queue.attributes().unwrap().capacity.message_bytes];
    std::iter::from_fn(|| {
        let received = queue.try_receive(&mut message).ok()?;
        let text = String::from_utf8(message[..received.len].to_vec()).unwrap();
        Some((received.priority, text))
    })
    .collect()
}

fn messages(list: &[(u32, &str)]) -> Vec<(u32, String)> {
    list.iter()
        .map(|&(priority, text)| (priority, text.to_owned()))
        .collect()
}

fn c() -> Program {
    compile_c("mq", PROGRAM)
}

#[test]
#[cfg_attr(not(has_gcc), ignore = "gcc is missing")]
fn c_takes_from_our_queue_and_puts_into_it() {
    isolated!(|| {
        let (c, queue) = (c(), ours());
        for (text, priority) in [("low", 1), ("high", 32767), ("low too", 1)] {
            queue.send(text.as_bytes(), priority).unwrap();
        }
        let output = run(c.command().args(["receive", NAME, "3"]));
        assert_eq!(output, "5 32 3\n32767 high\n1 low\n1 low too");

        run(c
            .command()
            .args(["send", NAME, "a", "3", "b", "32767", "", "0"]));
        let expected = messages(&[(32767, "b"), (3, "a"), (0, "")]);
        assert_eq!(drain(&queue), expected);
    });
}

#[test]
#[cfg_attr(not(has_gcc), ignore = "gcc is missing")]
fn we_take_from_the_queue_of_c_and_put_into_it() {
    isolated!(|| {
        let c = c();
        run(c.command().args(["create", NAME, "4", "100"]));
        let queue = OpenOptions::new()
            .read(true)
            .write(true)
            .unlink_on_drop(true)
            .open(NAME)
            .unwrap();
        assert_eq!(
            queue.attributes().unwrap().capacity,
            Capacity {
                messages: 4,
                message_bytes: 100
            }
        );
        run(c.command().args(["send", NAME, "one", "0", "two", "0"]));
        assert_eq!(drain(&queue), messages(&[(0, "one"), (0, "two")]));
        queue.send(b"three", 7).unwrap();
        let output = run(c.command().args(["receive", NAME, "1"]));
        assert_eq!(output, "4 100 1\n7 three");
    });
}

/// Starts a program, and waits for its first line, which must be this.
fn start(command: &mut Command, first_line: &str) -> (Child, BufReader<ChildStdout>) {
    let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
    let mut output = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    output.read_line(&mut line).unwrap();
    assert_eq!(line.trim_end(), first_line);
    (child, output)
}

/// The rest of what it prints, when it has ended well.
fn finish((mut child, mut output): (Child, BufReader<ChildStdout>)) -> String {
    let mut rest = String::new();
    output.read_to_string(&mut rest).unwrap();
    assert!(child.wait().unwrap().success());
    rest.trim_end().to_owned()
}

#[test]
#[cfg_attr(not(has_gcc), ignore = "gcc is missing")]
fn our_message_tells_the_c_program_that_registered() {
    isolated!(|| {
        let (c, queue) = (c(), ours());
        let told = start(c.command().args(["notify", NAME, "-5"]), "registered");
        let busy = queue.notify(Notification::Silent).unwrap_err();
        assert_eq!(busy.raw_os_error(), Some(Errno::BUSY.raw_os_error()));
        queue.send(b"x", 0).unwrap();
        assert_eq!(finish(told), format!("1 -5 {}", std::process::id()));
    });
}

#[test]
#[cfg_attr(not(has_gcc), ignore = "gcc is missing")]
fn a_message_of_c_tells_us() {
    isolated!(|| {
        let (c, queue) = (c(), ours());
        peer(|| {
            // SAFETY: All zeros are a set that `sigemptyset` may overwrite.
            let mut set: libc::sigset_t = unsafe { std::mem::zeroed() };
            // SAFETY: `set` is writable.
            unsafe { libc::sigemptyset(&raw mut set) };
            // SAFETY: `set` is an initialised set.
            unsafe { libc::sigaddset(&raw mut set, libc::SIGUSR2) };
            // SAFETY: `set` is an initialised set.
            unsafe { libc::sigprocmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut()) };
            let signal = Notification::Signal {
                number: libc::SIGUSR2,
                value: 1,
            };
            let _registration = queue.notify(signal).unwrap();
            run(c.command().args(["send", NAME, "x", "0"]));
            let timeout = libc::timespec {
                tv_sec: support::PATIENCE.as_secs() as _,
                tv_nsec: 0,
            };
            // SAFETY: The set and the time are borrowed, and no information is asked for.
            let got = unsafe {
                libc::sigtimedwait(&raw const set, std::ptr::null_mut(), &raw const timeout)
            };
            assert_eq!(got, libc::SIGUSR2);
        })
        .join();
    });
}

#[test]
#[cfg_attr(not(has_gcc), ignore = "gcc is missing")]
fn names_mean_the_same_to_c() {
    isolated!(|| {
        let c = c();
        let longest = format!("/{}", "n".repeat(255));
        let too_long = format!("{longest}n");
        for name in [
            "no-slash", "/", "/.", "//two", "/in/side", &longest, &too_long,
        ] {
            let theirs = run(c.command().args(["errno", name]));
            let ours = mq::open(
                name,
                Flags::READ,
                Create::Open(linipc_core::posix::Mode::RUSR),
                None,
            );
            let ours = ours.map_or_else(Errno::raw_os_error, |_| 0);
            assert_eq!(theirs, ours.to_string(), "{name}");
        }
        unlink(&longest).unwrap();
    });
}

#[test]
fn the_queue_file_system_shows_and_removes_ours() {
    isolated!(|| {
        let queue = ours();
        queue.send(b"12345", 0).unwrap();
        let listed: Vec<_> = fs::read_dir(mqueue_dir())
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .collect();
        assert_eq!(listed, [&NAME[1..]]);
        let file = mqueue_dir().join(&NAME[1..]);
        let status = run(Command::new("cat").arg(&file));
        assert!(status.starts_with("QSIZE:5 "), "{status}");
        run(Command::new("rm").arg(&file));
        let error = OpenOptions::new().read(true).open(NAME).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(Errno::NOENT.raw_os_error()));
    });
}

#[test]
#[cfg_attr(not(has_posix_ipc), ignore = "posix_ipc is missing")]
fn python_takes_from_our_queue_and_puts_into_it() {
    isolated!(|| {
        let queue = ours();
        queue.send(b"hello", 4).unwrap();
        let script = "
import posix_ipc
queue = posix_ipc.MessageQueue('/linipc-interop')
print(queue.max_messages, queue.max_message_size, queue.current_messages)
text, priority = queue.receive(10)
print(text.decode(), priority)
queue.send(b'low', priority=1)
queue.send(b'high', priority=9)
queue.close()
";
        assert_eq!(run(&mut python(script)), "5 32 1\nhello 4");
        assert_eq!(drain(&queue), messages(&[(9, "high"), (1, "low")]));
    });
}

#[test]
#[cfg_attr(not(has_posix_ipc), ignore = "posix_ipc is missing")]
fn we_take_from_the_queue_of_python_and_put_into_it() {
    isolated!(|| {
        let script = "
import posix_ipc
queue = posix_ipc.MessageQueue(
    '/linipc-interop', posix_ipc.O_CREX, max_messages=3, max_message_size=50)
queue.send(b'from python', priority=2)
print('made', flush=True)
text, priority = queue.receive(30)
while text != b'to python':
    queue.send(text, priority=priority)
    text, priority = queue.receive(30)
print(text.decode(), priority)
queue.unlink()
";
        let made = start(&mut python(script), "made");
        let queue = OpenOptions::new()
            .read(true)
            .write(true)
            .open(NAME)
            .unwrap();
        assert_eq!(
            queue.attributes().unwrap().capacity,
            Capacity {
                messages: 3,
                message_bytes: 50
            }
        );
        let mut message = [0; 50];
        let received = queue
            .receive_deadline(&mut message, support::PATIENCE)
            .unwrap();
        assert_eq!(
            (received.priority, &message[..received.len]),
            (2, &b"from python"[..])
        );
        queue.send(b"to python", 6).unwrap();
        assert_eq!(finish(made), "to python 6");
    });
}
