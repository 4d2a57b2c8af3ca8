//! POSIX shared memory and semaphores together with C programs, of glibc and of musl, and Python.

mod support;

use std::fs;
use std::process::{Child, Command, Stdio};

use linipc::posix::shm::{OpenOptions, SharedMemory};
use linipc_core::map::{Access, Region};
use linipc_core::posix::sem::{self, Format, Semaphore, Sharing};
use linipc_core::posix::{Create, Mode, shm};
use support::{peer, python, run, until_asleep};

const ROUND_TRIPS: u32 = 20_000;
const USER: Mode = Mode::RUSR.union(Mode::WUSR);
const RW: Access = Access::READ.union(Access::WRITE);

/// Compiles the C side with gcc for this architecture.
fn native_c() -> support::Program {
    support::compile_c("sem", include_str!("support/sem.c"))
}

/// `PROGRAM ARGUMENTS…`
fn with<'a>(program: &str, arguments: impl IntoIterator<Item = &'a str>) -> Command {
    let mut command = Command::new(program);
    command.args(arguments);
    command
}

/// Starts a command, to be ended with [`end`].
fn start(command: &mut Command) -> Child {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

/// Waits for the end, which must be without an error, and gives what was printed.
fn end(child: Child) -> String {
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", output.status);
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// Waits until `child`, which has more to do after that, has made a file.
fn until_made(file: &str, child: &mut Child) {
    support::eventually("its file is there", || {
        assert_eq!(child.try_wait().unwrap(), None, "it ended early");
        fs::exists(file).unwrap()
    });
}

/// An object of one page, whose name goes when it is dropped.
fn memory(name: &str) -> SharedMemory {
    OpenOptions::new()
        .create_new(true)
        .size(4096)
        .unlink_on_drop(true)
        .open(name)
        .unwrap()
}

/// A named semaphore that we make, or that `make` has made.
fn named(name: &str, format: Format, create: Create) -> Region {
    sem::open(name, create, 0, format).unwrap()
}

/// Posts `a` and waits for `b`, while the other side waits for `a` and posts `b`.
fn ping(a: &Semaphore<'_>, b: &Semaphore<'_>, other: Child) {
    for _ in 0..ROUND_TRIPS {
        a.post().unwrap();
        b.wait().unwrap();
    }
    end(other);
    for semaphore in [a, b] {
        assert_eq!((semaphore.value(), semaphore.waiters()), (0, 0));
    }
}

/// All that a C program and we can do to each other's named semaphores.
fn named_with_c(c: &str, format: Format) {
    assert_eq!(run(&mut with(c, ["size"])), format.size().to_string());

    // Made by C, used by us.
    run(&mut with(c, ["make", "/theirs", "3"]));
    let region = sem::open("/theirs", Create::No, 0, format).unwrap();
    let theirs = Semaphore::attach(region.bytes(), format).unwrap();
    theirs.wait().unwrap();
    assert_eq!(run(&mut with(c, ["value", "/theirs"])), "2");
    let exclusive = sem::open("/theirs", Create::Exclusive(USER), 0, format);
    assert_eq!(exclusive.map(drop), Err(linipc_core::Errno::EXIST));

    // Made by us, used by C.
    let region = sem::open("/ours", Create::Exclusive(USER), 1, format).unwrap();
    let ours = Semaphore::attach(region.bytes(), format).unwrap();
    run(&mut with(c, ["take", "/ours"]));
    assert_eq!(ours.value(), 0);
    assert_eq!(run(&mut with(c, ["timed", "/ours", "5"])), "timed out");
    assert_eq!(ours.waiters(), 0);
    let sleeper = start(&mut with(c, ["timed", "/ours", "60000"]));
    support::eventually("it waits", || ours.waiters() == 1);
    until_asleep(sleeper.id() as i32);
    ours.post().unwrap();
    assert_eq!(end(sleeper), "taken");
    for name in ["/ours", "/theirs"] {
        sem::unlink(name, format).unwrap();
    }

    // Back and forth.
    run(&mut with(c, ["make", "/b", "0"]));
    let regions = [
        named("/a", format, Create::Exclusive(USER)),
        named("/b", format, Create::No),
    ];
    let [a, b] = [0, 1].map(|i: usize| Semaphore::attach(regions[i].bytes(), format).unwrap());
    let pong = with(c, ["pong", "/a", "/b", &ROUND_TRIPS.to_string()]).spawn();
    ping(&a, &b, pong.unwrap());
    for name in ["/a", "/b"] {
        sem::unlink(name, format).unwrap();
    }
}

/// The same of unnamed ones.
fn unnamed_with_c(c: &str, format: Format) {
    let object = memory("/memory");
    let region = object.map().unwrap();
    let at = |offset| region.bytes().slice(offset, 64).unwrap();
    let a = Semaphore::init(at(64), format, Sharing::Shared, 0).unwrap();
    run(&mut with(c, ["init", "@memory:128", "0"]));
    let b = Semaphore::attach(at(128), format).unwrap();
    let rounds = ROUND_TRIPS.to_string();
    let pong = with(c, ["pong", "@memory:64", "@memory:128", &rounds]).spawn();
    ping(&a, &b, pong.unwrap());

    // As a lock around a counter, between two of them and two of us.
    const COUNTS: u32 = 5000;
    let lock = a;
    lock.post().unwrap();
    let theirs: Vec<_> = (0..2)
        .map(|_| {
            let counts = COUNTS.to_string();
            let arguments = ["count", "@memory:64", "@memory:0", &counts];
            with(c, arguments).spawn().unwrap()
        })
        .collect();
    let ours: Vec<_> = (0..2)
        .map(|_| {
            peer(|| {
                for _ in 0..COUNTS {
                    lock.wait().unwrap();
                    let mut count = [0; 4];
                    region.bytes().read(0, &mut count).unwrap();
                    let count = u32::from_ne_bytes(count) + 1;
                    region.bytes().write(0, &count.to_ne_bytes()).unwrap();
                    lock.post().unwrap();
                }
            })
        })
        .collect();
    ours.into_iter().for_each(support::Peer::join);
    theirs.into_iter().for_each(|child| drop(end(child)));
    let mut count = [0; 4];
    region.bytes().read(0, &mut count).unwrap();
    assert_eq!(u32::from_ne_bytes(count), 4 * COUNTS);
    assert_eq!((lock.value(), lock.waiters()), (1, 0));

    // One of them is killed while it waits, and we go on; and the other way round.
    let mut killed = with(c, ["timed", "@memory:128", "60000"]).spawn().unwrap();
    support::eventually("it waits", || b.waiters() == 1);
    killed.kill().unwrap();
    killed.wait().unwrap();
    let waiter = peer(|| b.wait().unwrap());
    support::eventually("it waits", || b.waiters() == 2);
    b.post().unwrap();
    waiter.join();
    let killed = peer(|| b.wait().unwrap());
    support::eventually("it waits", || b.waiters() == 2);
    killed.kill();
    let waiter = start(&mut with(c, ["timed", "@memory:128", "60000"]));
    support::eventually("it waits", || b.waiters() == 3);
    b.post().unwrap();
    assert_eq!(end(waiter), "taken");
}

#[test]
#[cfg_attr(not(has_gcc), ignore = "gcc is missing")]
fn named_semaphores_are_those_of_the_c_library() {
    isolated!(|| {
        let program = native_c();
        named_with_c(program.path(), Format::NATIVE);
    });
}

#[test]
#[cfg_attr(not(has_gcc), ignore = "gcc is missing")]
fn unnamed_semaphores_are_those_of_the_c_library() {
    isolated!(|| {
        let program = native_c();
        unnamed_with_c(program.path(), Format::NATIVE);
    });
}

#[test]
#[cfg(target_arch = "x86_64")]
#[cfg_attr(not(has_gcc_32), ignore = "gcc -m32 is missing (gcc-multilib)")]
fn semaphores_are_those_of_32_bit_programs() {
    isolated!(|| {
        named_with_c(env!("GCC_32_SEM"), Format::Glibc32);
        unnamed_with_c(env!("GCC_32_SEM"), Format::Glibc32);
    });
}

#[test]
#[cfg_attr(
    not(has_musl),
    ignore = "a musl of 1.2.4 or later is missing (ziglang)"
)]
fn semaphores_are_those_of_musl() {
    isolated!(|| {
        named_with_c(env!("MUSL_SEM"), Format::MUSL);
        unnamed_with_c(env!("MUSL_SEM"), Format::MUSL);
    });
}

#[test]
#[cfg_attr(not(has_gcc), ignore = "gcc is missing")]
fn shared_memory_is_that_of_the_c_library() {
    isolated!(|| {
        let program = support::compile_c(
            "shm",
            r#"
            #include <fcntl.h>
            #include <stdio.h>
            #include <string.h>
            #include <sys/mman.h>
            #include <unistd.h>
            int main(int argc, char **argv)
            {
                int make = argc == 3;
                int fd = shm_open(argv[1], make ? O_RDWR | O_CREAT | O_EXCL : O_RDONLY, 0600);
                if (fd == -1 || (make && ftruncate(fd, 100) != 0))
                    return 1;
                int prot = make ? PROT_READ | PROT_WRITE : PROT_READ;
                char *text = mmap(NULL, 100, prot, MAP_SHARED, fd, 0);
                if (text == MAP_FAILED)
                    return 2;
                if (make)
                    strcpy(text, argv[2]);
                else
                    puts(text);
                return 0;
            }
            "#,
        );
        let c = |arguments: &[&str]| run(program.command().args(arguments));
        c(&["/theirs", "from C"]);
        let object = shm::open("/theirs", Access::READ, Create::No).unwrap();
        let region = Region::shared(&object, 0, 100, Access::READ).unwrap();
        let mut text = [0; 7];
        region.bytes().read(0, &mut text).unwrap();
        assert_eq!(&text, b"from C\0");
        shm::unlink("/theirs").unwrap();

        let object = shm::create("/ours", USER, |object| shm::resize(object, 100)).unwrap();
        let region = Region::shared(&object, 0, 100, RW).unwrap();
        region.bytes().write(0, b"from Rust\0").unwrap();
        assert_eq!(c(&["/ours"]), "from Rust");
        shm::unlink("/ours").unwrap();
    });
}

#[test]
#[cfg_attr(not(has_python), ignore = "python3 is missing")]
fn semaphores_are_those_of_python_multiprocessing() {
    isolated!(|| {
        let format = Format::NATIVE;
        let a = named("/a", format, Create::Exclusive(USER));
        let a = Semaphore::attach(a.bytes(), format).unwrap();
        let mut pong = start(&mut python(
            "
import _multiprocessing, sys
SEMAPHORE, MAX = 1, _multiprocessing.SemLock.SEM_VALUE_MAX
b = _multiprocessing.SemLock(SEMAPHORE, 0, MAX, '/b', False)
a = _multiprocessing.SemLock._rebuild(0, SEMAPHORE, MAX, '/a')
for _ in range(20000):
    a.acquire()
    b.release()
",
        ));
        until_made("/dev/shm/sem.b", &mut pong);
        let b = named("/b", format, Create::No);
        let b = Semaphore::attach(b.bytes(), format).unwrap();
        ping(&a, &b, pong);
        for name in ["/a", "/b"] {
            sem::unlink(name, format).unwrap();
        }
    });
}

#[test]
#[cfg_attr(not(has_python), ignore = "python3 is missing")]
fn shared_memory_is_that_of_python_multiprocessing() {
    isolated!(|| {
        run(&mut python(
            "
from multiprocessing import resource_tracker, shared_memory
memory = shared_memory.SharedMemory('theirs', create=True, size=50)
memory.buf[:11] = b'from Python'
resource_tracker.unregister(memory._name, 'shared_memory')
memory.close()
",
        ));
        let theirs = SharedMemory::open("/theirs").unwrap();
        assert_eq!(theirs.size().unwrap(), 50);
        let mut text = [0; 11];
        theirs.map().unwrap().bytes().read(0, &mut text).unwrap();
        assert_eq!(&text, b"from Python");
        linipc::posix::shm::unlink("/theirs").unwrap();

        let ours = memory("/ours");
        ours.map().unwrap().bytes().write(0, b"from Rust").unwrap();
        let printed = run(&mut python(
            "
from multiprocessing import resource_tracker, shared_memory
memory = shared_memory.SharedMemory('ours')
print(bytes(memory.buf[:9]).decode(), memory.size)
resource_tracker.unregister(memory._name, 'shared_memory')
memory.close()
",
        ));
        assert_eq!(printed, "from Rust 4096");
    });
}

#[test]
#[cfg_attr(not(has_posix_ipc), ignore = "posix_ipc is missing")]
fn semaphores_and_memory_are_those_of_posix_ipc() {
    isolated!(|| {
        let format = Format::NATIVE;
        let a = named("/a", format, Create::Exclusive(USER));
        let a = Semaphore::attach(a.bytes(), format).unwrap();
        let ours = memory("/ours");
        ours.map().unwrap().bytes().write(0, b"from Rust").unwrap();
        let mut pong = start(&mut python(
            "
import mmap, posix_ipc
ours = posix_ipc.SharedMemory('/ours')
assert (ours.size, mmap.mmap(ours.fd, 4096)[:9]) == (4096, b'from Rust')
theirs = posix_ipc.SharedMemory('/theirs', posix_ipc.O_CREX, size=60)
mmap.mmap(theirs.fd, 60)[:11] = b'from Python'
b = posix_ipc.Semaphore('/b', posix_ipc.O_CREX, initial_value=0)
a = posix_ipc.Semaphore('/a')
for _ in range(20000):
    a.acquire()
    b.release()
",
        ));
        until_made("/dev/shm/sem.b", &mut pong);
        let theirs = SharedMemory::open("/theirs").unwrap();
        let mut text = [0; 11];
        theirs.map().unwrap().bytes().read(0, &mut text).unwrap();
        assert_eq!((&text, theirs.size().unwrap()), (b"from Python", 60));
        let b = named("/b", format, Create::No);
        let b = Semaphore::attach(b.bytes(), format).unwrap();
        ping(&a, &b, pong);
        for name in ["/a", "/b"] {
            sem::unlink(name, format).unwrap();
        }
        shm::unlink("/theirs").unwrap();
    });
}
