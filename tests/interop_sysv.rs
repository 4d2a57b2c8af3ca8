//! System V objects shared with programs in C and Python, and with `ipcs` and `ipcrm`.

mod support;

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use linipc::sysv::msg::{Queue, Select};
use linipc::sysv::sem::{Op, Set};
use linipc::sysv::shm::Segment;
use linipc::sysv::{Key, ftok, msg, sem, shm};
use linipc_core::sysv::Mode;
use support::{Program, compile_c, eventually, python, run};

/// What a file is called by which both sides make the key.
struct KeyFile(PathBuf);

impl KeyFile {
    fn new(name: &str) -> Self {
        let file = format!("linipc-{name}-{}", std::process::id());
        let path = std::env::temp_dir().join(file);
        fs::write(&path, "").unwrap();
        Self(path)
    }

    fn key(&self) -> Key {
        ftok(&self.0, b'k').unwrap()
    }

    fn path(&self) -> &str {
        self.0.to_str().unwrap()
    }
}

impl Drop for KeyFile {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

const C: &str = r#"
#define _GNU_SOURCE
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ipc.h>
#include <sys/msg.h>
#include <sys/sem.h>
#include <sys/shm.h>
#include <sys/wait.h>
#include <unistd.h>

union semun { int val; struct semid_ds *buf; unsigned short *array; };
struct message { long type; char text[64]; };

static int check(long result, const char *what)
{
    if (result == -1) { perror(what); exit(1); }
    return (int)result;
}

static void op(int id, int num, int op, int flags)
{
    struct sembuf sop = { num, op, flags };
    check(semop(id, &sop, 1), "semop");
}

int main(int argc, char **argv)
{
    if (argc < 3) return 2;
    const char *command = argv[1];
    key_t key = check(ftok(argv[2], 'k'), "ftok");
    struct message message = { 0, "" };
    union semun arg;

    if (!strcmp(command, "shm-make")) {
        int id = check(shmget(key, 5000, IPC_CREAT | IPC_EXCL | 0600), "shmget");
        char *memory = shmat(id, NULL, 0);
        if (memory == (void *)-1) return 1;
        strcpy(memory + 4990, "from C");
        check(shmdt(memory), "shmdt");
    } else if (!strcmp(command, "shm-use")) {
        int id = check(shmget(key, 0, 0), "shmget");
        struct shmid_ds ds;
        check(shmctl(id, IPC_STAT, &ds), "shmctl");
        char *memory = shmat(id, NULL, 0);
        if (memory == (void *)-1) return 1;
        printf("%s %zu %lu %o\n", memory, ds.shm_segsz, (unsigned long)ds.shm_nattch, ds.shm_perm.mode);
        strcpy(memory + 100, "answer");
        check(shmdt(memory), "shmdt");
    } else if (!strcmp(command, "sem-make")) {
        /* Made, set, and only then used: who waits for sem_otime knows that it has its values. */
        int id = check(semget(key, 3, IPC_CREAT | IPC_EXCL | 0600), "semget");
        unsigned short values[3] = { 4, 5, 0 };
        arg.array = values;
        check(semctl(id, 0, SETALL, arg), "SETALL");
        op(id, 0, -1, 0);
    } else if (!strcmp(command, "sem-wait")) {
        /* semget(2): whoever did not make the set waits until sem_otime is not 0. */
        int id = check(semget(key, 2, 0), "semget");
        struct semid_ds ds;
        arg.buf = &ds;
        do check(semctl(id, 0, IPC_STAT, arg), "IPC_STAT"); while (ds.sem_otime == 0 && !usleep(1000));
        printf("%d %d %lu\n", semctl(id, 0, GETVAL), semctl(id, 1, GETVAL), ds.sem_nsems);
    } else if (!strcmp(command, "sem-swap")) {
        int id = check(semget(key, 0, 0), "semget");
        struct sembuf both[2] = { { 0, -1, 0 }, { 1, 1, 0 } };
        check(semop(id, both, 2), "semop");
    } else if (!strcmp(command, "sem-hold")) {
        int id = check(semget(key, 0, 0), "semget");
        op(id, 0, -1, SEM_UNDO);
        puts("held");
        fflush(stdout);
        pause();
    } else if (!strcmp(command, "msg-make")) {
        int id = check(msgget(key, IPC_CREAT | IPC_EXCL | 0600), "msgget");
        message.type = 7;
        strcpy(message.text, "from C");
        check(msgsnd(id, &message, strlen(message.text), 0), "msgsnd");
        message.type = 3;
        check(msgsnd(id, &message, 0, 0), "msgsnd");
    } else if (!strcmp(command, "msg-echo")) {
        int id = check(msgget(key, 0), "msgget");
        int len = check(msgrcv(id, &message, sizeof message.text, -5, 0), "msgrcv");
        message.type += 100;
        for (int i = 0; i < len / 2; i++) {
            char c = message.text[i];
            message.text[i] = message.text[len - 1 - i];
            message.text[len - 1 - i] = c;
        }
        check(msgsnd(id, &message, len, 0), "msgsnd");
    } else {
        return 2;
    }
    return 0;
}
"#;

fn c(program: &Program, command: &str, file: &KeyFile) -> String {
    run(program.command().args([command, file.path()]))
}

#[test]
#[cfg_attr(not(has_gcc), ignore = "gcc is missing")]
fn a_segment_is_shared_with_c() {
    isolated!(|| {
        let (program, file) = (compile_c("shm", C), KeyFile::new("shm-c"));
        c(&program, "shm-make", &file);
        let segment = shm::OpenOptions::new()
            .remove_on_drop(true)
            .open(file.key(), 5000)
            .unwrap();
        let attachment = segment.attach().unwrap();
        let bytes = attachment.bytes();
        let mut text = [0; 7];
        bytes.read(4990, &mut text).unwrap();
        assert_eq!((&text, attachment.len()), (b"from C\0", 5000));
        bytes.write(0, b"from Rust\0").unwrap();
        assert_eq!(c(&program, "shm-use", &file), "from Rust 5000 1 600");
        bytes.read(100, &mut text).unwrap();
        assert_eq!(&text, b"answer\0");
    });
}

#[test]
#[cfg_attr(not(has_gcc), ignore = "gcc is missing")]
fn a_segment_of_ours_is_used_by_c() {
    isolated!(|| {
        let (program, file) = (compile_c("shm2", C), KeyFile::new("shm-ours"));
        let segment = shm::OpenOptions::new()
            .create_new(true)
            .mode(0o640)
            .remove_on_drop(true)
            .open(file.key(), 4097)
            .unwrap();
        segment
            .attach()
            .unwrap()
            .bytes()
            .write(0, b"hello\0")
            .unwrap();
        assert_eq!(c(&program, "shm-use", &file), "hello 4097 0 640");
        let mut text = [0; 6];
        let attachment = segment.attach_read_only().unwrap();
        attachment.bytes().read(100, &mut text).unwrap();
        assert_eq!(&text, b"answer");
    });
}

#[test]
#[cfg_attr(not(has_gcc), ignore = "gcc is missing")]
fn semaphores_are_shared_with_c() {
    isolated!(|| {
        let (program, file) = (compile_c("sem", C), KeyFile::new("sem-c"));
        c(&program, "sem-make", &file);
        let set = sem::OpenOptions::new()
            .remove_on_drop(true)
            .open(file.key(), 3)
            .unwrap();
        assert_eq!(set.values().unwrap(), [3, 5, 0]);
        c(&program, "sem-swap", &file);
        assert_eq!(set.values().unwrap(), [2, 6, 0]);

        set.set_values(&[0, 0, 0]).unwrap();
        let mut swap = program
            .command()
            .args(["sem-swap", file.path()])
            .spawn()
            .unwrap();
        eventually("C waits", || set.waiting_for_more(0).unwrap() == 1);
        set.op(&[Op::new(0, 1)]).unwrap();
        set.op(&[Op::new(1, -1)]).unwrap();
        assert!(swap.wait().unwrap().success());
    });
}

#[test]
#[cfg_attr(not(has_gcc), ignore = "gcc is missing")]
fn c_finds_our_set_with_its_values() {
    isolated!(|| {
        let (program, file) = (compile_c("sem2", C), KeyFile::new("sem-ours"));
        // The first half of `open_or_init`: C must wait for the second.
        let mode = linipc_core::sysv::Create::Open(Mode::RUSR | Mode::WUSR);
        linipc_core::sysv::sem::get(file.key(), 3, mode).unwrap();
        let waiter = program
            .command()
            .args(["sem-wait", file.path()])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let set = sem::OpenOptions::new()
            .remove_on_drop(true)
            .open_or_init(file.key(), &[1, 2])
            .unwrap();
        let output = waiter.wait_with_output().unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stdout), "1 2 3\n");

        let mut holder = program
            .command()
            .args(["sem-hold", file.path()])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        eventually("C holds the lock", || set.value(0).unwrap() == 0);
        assert!(set.try_lock(0).is_err());
        assert_eq!(set.last_process(0).unwrap(), holder.id() as i32);
        holder.kill().unwrap();
        holder.wait().unwrap();
        drop(set.try_lock(0).unwrap());
    });
}

#[test]
#[cfg_attr(not(has_gcc), ignore = "gcc is missing")]
fn a_queue_is_shared_with_c() {
    isolated!(|| {
        let (program, file) = (compile_c("msg", C), KeyFile::new("msg-c"));
        c(&program, "msg-make", &file);
        let queue = msg::OpenOptions::new()
            .remove_on_drop(true)
            .open(file.key())
            .unwrap();
        let mut text = [0; 64];
        let received = queue.receive(Select::Type(3), &mut text).unwrap();
        assert_eq!((received.kind, received.len), (3, 0));
        let received = queue.receive(Select::First, &mut text).unwrap();
        assert_eq!((received.kind, &text[..received.len]), (7, &b"from C"[..]));

        queue.send(9, b"not this one").unwrap();
        queue.send(5, b"abc").unwrap();
        c(&program, "msg-echo", &file);
        let received = queue.receive(Select::Type(105), &mut text).unwrap();
        assert_eq!(&text[..received.len], b"cba");
        assert_eq!(queue.stat().unwrap().messages, 1);
    });
}

#[test]
#[cfg_attr(not(has_gcc), ignore = "gcc is missing")]
fn a_queue_of_ours_is_used_by_c() {
    isolated!(|| {
        let (program, file) = (compile_c("msg2", C), KeyFile::new("msg-ours"));
        let queue = msg::OpenOptions::new()
            .create_new(true)
            .remove_on_drop(true)
            .open(file.key())
            .unwrap();
        let mut echo = program
            .command()
            .args(["msg-echo", file.path()])
            .spawn()
            .unwrap();
        queue.send(1, b"stressed").unwrap();
        let mut text = [0; 64];
        let received = queue.receive(Select::Type(101), &mut text).unwrap();
        assert_eq!(&text[..received.len], b"desserts");
        assert!(echo.wait().unwrap().success());
    });
}

#[test]
#[cfg_attr(not(has_sysv_ipc), ignore = "Python's sysv_ipc is missing")]
fn a_segment_is_shared_with_python() {
    isolated!(|| {
        let file = KeyFile::new("shm-python");
        run(&mut python(&format!(
            "import sysv_ipc as s\n\
             m = s.SharedMemory(s.ftok('{}', ord('k'), True), s.IPC_CREX, 0o600, 6000)\n\
             m.write(b'from Python', 5900)\n\
             m.detach()",
            file.path()
        )));
        let segment = Segment::open(file.key()).unwrap();
        let attachment = segment.attach().unwrap();
        let mut text = [0; 11];
        attachment.bytes().read(5900, &mut text).unwrap();
        assert_eq!((&text, attachment.len()), (b"from Python", 6000));
        segment.remove().unwrap();
        drop(attachment);

        let segment = shm::OpenOptions::new()
            .create_new(true)
            .remove_on_drop(true)
            .open(file.key(), 100)
            .unwrap();
        let attachment = segment.attach().unwrap();
        attachment.bytes().write(0, b"from Rust").unwrap();
        let said = run(&mut python(&format!(
            "import sysv_ipc as s\n\
             m = s.SharedMemory({})\n\
             print(m.read(9).decode(), m.size, m.number_attached)\n\
             m.write(b'answer', 94)",
            file.key().number()
        )));
        assert_eq!(said, "from Rust 100 2");
        let mut text = [0; 6];
        attachment.bytes().read(94, &mut text).unwrap();
        assert_eq!(&text, b"answer");
    });
}

#[test]
#[cfg_attr(not(has_sysv_ipc), ignore = "Python's sysv_ipc is missing")]
fn a_semaphore_is_shared_with_python() {
    isolated!(|| {
        let file = KeyFile::new("sem-python");
        run(&mut python(&format!(
            "import sysv_ipc as s\n\
             x = s.Semaphore(s.ftok('{}', ord('k'), True), s.IPC_CREX, initial_value=3)\n\
             x.acquire()",
            file.path()
        )));
        let set = Set::open(file.key()).unwrap();
        assert_eq!(set.values().unwrap(), [2]);
        set.remove().unwrap();

        // One that we hold, and Python waits for.
        let set = sem::OpenOptions::new()
            .remove_on_drop(true)
            .open_or_init(file.key(), &[1])
            .unwrap();
        let guard = set.lock(0).unwrap();
        let mut waiter = python(&format!(
            "import sysv_ipc as s\n\
             x = s.Semaphore({})\n\
             x.block = False\n\
             try:\n    x.acquire()\n\
             except s.BusyError:\n    print('busy', flush=True)\n\
             x.block = True\n\
             x.acquire()\n\
             print(x.value)\n\
             x.release(2)",
            file.key().number()
        ))
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
        let mut lines = BufReader::new(waiter.stdout.take().unwrap()).lines();
        assert_eq!(lines.next().unwrap().unwrap(), "busy");
        eventually("Python waits", || set.waiting_for_more(0).unwrap() == 1);
        drop(guard);
        assert_eq!(lines.next().unwrap().unwrap(), "0");
        assert!(waiter.wait().unwrap().success());
        assert_eq!(set.values().unwrap(), [2, 1]);
    });
}

#[test]
#[cfg_attr(not(has_sysv_ipc), ignore = "Python's sysv_ipc is missing")]
fn a_queue_is_shared_with_python() {
    isolated!(|| {
        let file = KeyFile::new("msg-python");
        run(&mut python(&format!(
            "import sysv_ipc as s\n\
             q = s.MessageQueue(s.ftok('{}', ord('k'), True), s.IPC_CREX)\n\
             q.send(b'from Python', type=11)\n\
             q.send(b'', type=12)",
            file.path()
        )));
        let queue = Queue::open(file.key()).unwrap();
        let mut text = [0; 64];
        let received = queue.receive(Select::Except(11), &mut text).unwrap();
        assert_eq!((received.kind, received.len), (12, 0));
        let received = queue.receive(Select::UpTo(11), &mut text).unwrap();
        assert_eq!(&text[..received.len], b"from Python");
        queue.remove().unwrap();

        let queue = msg::OpenOptions::new()
            .create_new(true)
            .remove_on_drop(true)
            .open(file.key())
            .unwrap();
        queue.send(5, b"first").unwrap();
        queue.send(6, b"second").unwrap();
        let said = run(&mut python(&format!(
            "import sysv_ipc as s\n\
             q = s.MessageQueue({})\n\
             print(q.receive(type=6), q.receive(), q.current_messages)\n\
             q.send(b'answer', type=1)",
            file.key().number()
        )));
        assert_eq!(said, "(b'second', 6) (b'first', 5) 0");
        let received = queue.receive(Select::First, &mut text).unwrap();
        assert_eq!(&text[..received.len], b"answer");
    });
}

/// The words of the line about `id` that `ipcs` prints.
fn ipcs(option: &str, id: i32) -> Option<Vec<String>> {
    let listed = run(Command::new("ipcs").arg(option));
    listed
        .lines()
        .map(|line| line.split_whitespace().map(str::to_owned).collect())
        .find(|words: &Vec<String>| words.get(1) == Some(&id.to_string()))
}

#[test]
#[cfg_attr(not(has_util_linux), ignore = "util-linux is missing")]
fn ipcs_lists_our_objects_and_ipcrm_removes_them() {
    isolated!(|| {
        let key = Key::new(0x00ab_cdef);
        let segment = shm::OpenOptions::new()
            .create_new(true)
            .mode(0o604)
            .open(key, 1234)
            .unwrap();
        let attachment = segment.attach().unwrap();
        let set = sem::OpenOptions::new()
            .create_new(true)
            .mode(0o620)
            .open(key, 9)
            .unwrap();
        let queue = msg::OpenOptions::new().create_new(true).open(key).unwrap();
        queue.send(1, b"12345").unwrap();

        let numbers = [
            ("-m", segment.id().number(), &["604", "1234", "1"][..]),
            ("-s", set.id().number(), &["620", "9"]),
            ("-q", queue.id().number(), &["600", "5", "1"]),
        ];
        for (option, number, rest) in numbers {
            let words = ipcs(option, number).unwrap();
            assert_eq!(words[0], "0x00abcdef");
            assert_eq!(words[3..], *rest);
        }
        run(Command::new("ipcrm").args(["-m", &numbers[0].1.to_string()]));
        let words = ipcs("-m", numbers[0].1).unwrap();
        assert_eq!((&words[0][..], &words[6][..]), ("0x00000000", "dest"));
        assert!(segment.stat().unwrap().removed);
        drop(attachment);
        run(Command::new("ipcrm").args(["-S", "0x00abcdef", "-Q", "0x00abcdef"]));
        for (option, number, _) in numbers {
            assert_eq!(ipcs(option, number), None);
        }
        assert!(segment.stat().is_err() && set.stat().is_err() && queue.stat().is_err());
    });
}

#[test]
#[cfg_attr(not(has_util_linux), ignore = "util-linux is missing")]
fn limits_and_use_are_what_ipcs_says() {
    isolated!(|| {
        let _segment = Segment::private(10_000).unwrap();
        let _set = Set::private(&[0; 7]).unwrap();
        let queue = Queue::private().unwrap();
        queue.send(1, b"123").unwrap();
        let find = |text: &str, what: &str| {
            let line = text.lines().find(|line| line.starts_with(what));
            let line = line.unwrap_or_else(|| panic!("no {what:?} in {text}"));
            let (_, number) = line.rsplit_once(['=', ' ']).unwrap();
            number.trim().parse::<usize>().unwrap()
        };
        let limits = run(Command::new("ipcs").arg("-l"));
        let ours = (shm::limits().unwrap(), sem::limits().unwrap());
        assert_eq!(find(&limits, "max number of segments"), ours.0.segments);
        assert_eq!(find(&limits, "max number of arrays"), ours.1.sets);
        assert_eq!(
            find(&limits, "max semaphores per array"),
            ours.1.set_semaphores
        );
        assert_eq!(
            find(&limits, "max semaphores system wide"),
            ours.1.semaphores
        );
        assert_eq!(find(&limits, "max ops per semop call"), ours.1.ops);
        let value = find(&limits, "semaphore max value");
        assert_eq!(value, usize::from(sem::VALUE_MAX));

        let used = run(Command::new("ipcs").arg("-u"));
        let ours = (shm::usage().unwrap(), sem::usage().unwrap());
        assert_eq!(find(&used, "pages allocated"), ours.0.pages);
        assert_eq!(find(&used, "used arrays"), ours.1.sets);
        assert_eq!(find(&used, "allocated semaphores"), ours.1.semaphores);
        assert_eq!(find(&used, "used headers"), msg::usage().unwrap().messages);
    });
}
