//! The first process of a kernel, which has nothing but this file: tries what an emulator of system
//! calls cannot do, each between two processes, and switches the machine off.
//!
//! As process 1 (`tests/cross boot`) it mounts what it needs; started otherwise it only checks. Each
//! check has a line `ok NAME` or `failed NAME: why`, the last line is `checks: all passed` or not that.

#![no_std]
#![no_main]

mod fork;

use core::cell::UnsafeCell;
use core::ffi::CStr;
use core::mem;
use core::num::NonZeroU32;
use core::sync::atomic::{AtomicU32, Ordering};
use core::time::Duration;

use linipc_core::Errno;
use linipc_core::event::signalfd::{self, Info, SignalSet};
use linipc_core::fd::{AsRawFd, OwnedFd};
use linipc_core::futex::{self, Clock, Deadline, Futex, Waiter};
use linipc_core::io::{self, OFlags};
use linipc_core::map::{Access, Region};
use linipc_core::posix::mq::{self, Capacity, Notification};
use linipc_core::posix::{Create as Named, Mode};
use linipc_core::process_vm::{self, Pid};
use linipc_core::pshared;
use linipc_core::pshared::mutex::{Guard, Kind, LockError, Mutex};
use linipc_core::ring::spsc::{Consumer, Producer};
use linipc_core::ring::{self, Wait};
use linipc_core::robust::{Head, Thread};
use linipc_core::sysv::msg::{self, Message, Receive, Select, Send};
use linipc_core::sysv::{Create, Key, sem, shm};
use linipc_static::number::decimal;
use linipc_static::report::{Failure, print};
use linipc_static::{Args, exit};
use rustix::mount::{MountFlags, mount};
use rustix::process::{Signal, WaitOptions, WaitStatus, getpid, kill_process, waitpid};
use rustix::system::{RebootCommand, reboot};

const RW: Access = Access::READ.union(Access::WRITE);
const USER: Mode = Mode::RUSR.union(Mode::WUSR);

type Check = fn(Thread) -> Result<(), Failure>;

const CHECKS: [(&str, Check); 13] = [
    ("robust-owner-died", robust_owner_died),
    ("robust-not-recoverable", robust_not_recoverable),
    ("robust-sleeper-is-woken", robust_sleeper_is_woken),
    ("priority-inheriting", priority_inheriting),
    ("futex-waitv", waitv),
    ("futex-bitset", bitset),
    ("mq-notify", mq_notify),
    ("posix-queue", posix_queue),
    ("sysv-queue", sysv_queue),
    ("sysv-semaphore-undo", sysv_semaphore_undo),
    ("sysv-memory", sysv_memory),
    ("ring", ring),
    ("process-vm", process_vm),
];

// Not `entry`: the kernel may have opened nothing, and `prepare` does.
#[unsafe(no_mangle)]
fn linipc_static_main(_: Args) -> u8 {
    let is_init = getpid() == Pid::INIT;
    if is_init && let Err(error) = prepare() {
        say(&[
            b"failed to prepare: ",
            decimal(error.raw_os_error() as u64, &mut [0; 20]),
        ]);
    }
    let thread = register();
    let mut all = true;
    for (name, check) in CHECKS {
        let done = thread.and_then(check);
        all &= done.is_ok();
        tell(name, done);
    }
    say(&[if all {
        b"checks: all passed"
    } else {
        b"checks: some failed"
    }]);
    if is_init {
        // If it fails, the end of this process ends the kernel too.
        let _ = reboot(RebootCommand::PowerOff);
    }
    u8::from(!all)
}

/// A console, and what the algorithms read in `/proc`.
fn prepare() -> Result<(), Errno> {
    let none: Option<&CStr> = None;
    mount(c"dev", c"/dev", c"devtmpfs", MountFlags::empty(), none)?;
    mount(c"proc", c"/proc", c"proc", MountFlags::empty(), none)?;
    // Standard input, output and error, if the kernel has found no console to open.
    loop {
        let console = io::open(c"/dev/console", OFlags::RDWR, Mode::empty())?;
        if console.as_raw_fd() > 2 {
            return Ok(());
        }
        mem::forget(console);
    }
}

fn tell(name: &str, done: Result<(), Failure>) {
    match done {
        Ok(()) => say(&[b"ok ", name.as_bytes()]),
        Err(Failure::Because(why)) => say(&[b"failed ", name.as_bytes(), b": ", why.as_bytes()]),
        Err(Failure::Errno(error)) => {
            let number = error.raw_os_error().unsigned_abs().into();
            say(&[
                b"failed ",
                name.as_bytes(),
                b": error ",
                decimal(number, &mut [0; 20]),
            ]);
        }
        Err(_) => say(&[b"failed ", name.as_bytes()]),
    }
}

fn say(parts: &[&[u8]]) {
    for part in parts.iter().copied().chain([b"\n".as_slice()]) {
        // Without a console there is nobody to tell.
        let _ = print(part);
    }
}

/// Fails, with a reason, unless the condition holds.
fn ensure(condition: bool, why: &'static str) -> Result<(), Failure> {
    if condition {
        Ok(())
    } else {
        Err(Failure::Because(why))
    }
}

fn soon() -> Deadline {
    Deadline::after(Clock::Monotonic, Duration::from_secs(30))
}

/// A child process, which must end well.
struct Child(Pid);

impl Child {
    /// Runs `body` in it. Its end does not go through drop.
    fn start(body: impl FnOnce() -> Result<(), Failure>) -> Result<Self, Failure> {
        match fork::fork()? {
            Some(pid) => Ok(Self(pid)),
            None => exit(u8::from(body().is_err())),
        }
    }

    fn wait(&self) -> Result<WaitStatus, Failure> {
        let ended = waitpid(Some(self.0), WaitOptions::empty())?;
        Ok(ended.ok_or(Failure::Because("no child"))?.1)
    }

    fn join(self) -> Result<(), Failure> {
        ensure(self.wait()?.exit_status() == Some(0), "the child failed")
    }

    fn kill(self) -> Result<(), Failure> {
        kill_process(self.0, Signal::KILL)?;
        self.wait()?;
        Ok(())
    }
}

/// Where the robust list of this program's only thread begins; a child has its own copy.
struct List(UnsafeCell<Head>);

// SAFETY: There is one thread.
unsafe impl Sync for List {}

static LIST: List = List(UnsafeCell::new(Head::new()));

/// The list of this process, to be called once in each.
fn register() -> Result<Thread, Failure> {
    // SAFETY: Each process calls this once, in its only thread.
    let head = unsafe { &mut *LIST.0.get() };
    Thread::register(head).map_err(|_| Failure::Because("no robust list"))
}

/// A mutex in memory that children share.
fn mutex(region: &Region) -> Result<&Mutex, Failure> {
    // SAFETY: Only this program and its children have the memory.
    unsafe { Mutex::init(region.bytes(), Kind::Normal) }.map_err(|_| Failure::Because("no mutex"))
}

fn failed(error: LockError<'_>) -> Failure {
    match error {
        LockError::OwnerDied(_) => Failure::Because("the owner died"),
        LockError::Failed(error) => error.into(),
    }
}

/// A child ends while it holds the mutex.
fn abandon(mutex: &Mutex) -> Result<(), Failure> {
    Child::start(|| {
        mem::forget(mutex.lock(register()?).map_err(failed)?);
        Ok(())
    })?
    .join()
}

fn orphaned(mutex: &Mutex, thread: Thread) -> Result<Guard<'_>, Failure> {
    match mutex.lock_deadline(thread, soon()) {
        Err(LockError::OwnerDied(guard)) => Ok(guard.mark_consistent()),
        Err(error) => Err(failed(error)),
        Ok(_) => Err(Failure::Because("nothing told that the owner died")),
    }
}

fn robust_owner_died(thread: Thread) -> Result<(), Failure> {
    let region = Region::anonymous(4096, RW)?;
    let mutex = mutex(&region)?;
    abandon(mutex)?;
    drop(orphaned(mutex, thread)?);
    drop(mutex.lock_deadline(thread, soon()).map_err(failed)?);
    Ok(())
}

fn robust_not_recoverable(thread: Thread) -> Result<(), Failure> {
    let region = Region::anonymous(4096, RW)?;
    let mutex = mutex(&region)?;
    abandon(mutex)?;
    match mutex.lock_deadline(thread, soon()) {
        Err(LockError::OwnerDied(guard)) => drop(guard),
        _ => return Err(Failure::Because("nothing told that the owner died")),
    }
    let again = mutex.lock_deadline(thread, soon());
    ensure(
        matches!(
            again,
            Err(LockError::Failed(pshared::Error::NotRecoverable))
        ),
        "locked, though nobody made it consistent",
    )
}

/// The owner is killed while somebody sleeps at the lock word.
fn robust_sleeper_is_woken(thread: Thread) -> Result<(), Failure> {
    let region = Region::anonymous(4096, RW)?;
    let mutex = mutex(&region)?;
    let flag = region.bytes().atomic_u32(2048)?;
    let owner = Child::start(|| {
        let _guard = mutex.lock(register()?).map_err(failed)?;
        raise(flag)?;
        sleep_for_ever(flag)
    })?;
    until_raised(flag)?;
    let killer = Child::start(|| {
        // The lock word's highest bit says that somebody sleeps.
        let word = region.bytes().atomic_u32(0)?;
        // Relaxed: nothing is read by it but the bit.
        while word.load(Ordering::Relaxed) >> 31 == 0 {
            pause(flag)?;
        }
        Ok(kill_process(owner.0, Signal::KILL)?)
    })?;
    drop(orphaned(mutex, thread)?);
    owner.wait()?;
    killer.join()
}

fn priority_inheriting(thread: Thread) -> Result<(), Failure> {
    let region = Region::anonymous(4096, RW)?;
    // SAFETY: Only this program and its children have the memory.
    let mutex = unsafe { Mutex::init_inheriting(region.bytes(), Kind::Normal) }
        .map_err(|_| Failure::Because("no mutex"))?;
    abandon(mutex)?;
    drop(orphaned(mutex, thread)?);
    Ok(())
}

fn waitv(_: Thread) -> Result<(), Failure> {
    let region = Region::anonymous(4096, RW)?;
    let (first, second) = (
        region.bytes().atomic_u32(0)?,
        region.bytes().atomic_u32(64)?,
    );
    let child = Child::start(|| {
        while Futex::shared(second).wake(1)? == 0 {
            pause(first)?;
        }
        Ok(())
    })?;
    let waiters = [first, second].map(|word| Waiter::new(Futex::shared(word), 0));
    let index = futex::waitv(&waiters, Some(soon()))?;
    ensure(index == 1, "another one was woken")?;
    child.join()
}

fn bitset(_: Thread) -> Result<(), Failure> {
    const RIGHT: NonZeroU32 = NonZeroU32::new(2).unwrap();
    const WRONG: NonZeroU32 = NonZeroU32::new(4).unwrap();
    let region = Region::anonymous(4096, RW)?;
    let (word, other) = (
        region.bytes().atomic_u32(0)?,
        region.bytes().atomic_u32(64)?,
    );
    let child = Child::start(|| {
        let mut wrong = 0;
        loop {
            wrong += Futex::shared(word).wake_bitset(1, WRONG)?;
            if Futex::shared(word).wake_bitset(1, RIGHT)? == 1 {
                return ensure(wrong == 0, "the wrong bits woke it");
            }
            pause(other)?;
        }
    })?;
    Futex::shared(word).wait_bitset(0, Some(soon()), RIGHT)?;
    child.join()
}

/// A queue whose name is gone at once.
fn queue() -> Result<OwnedFd, Failure> {
    let capacity = Capacity {
        messages: 4,
        message_bytes: 64,
    };
    let flags = mq::Flags::READ | mq::Flags::WRITE;
    let queue = mq::open(
        c"/linipc-init",
        flags,
        Named::Exclusive(USER),
        Some(capacity),
    )?;
    mq::unlink(c"/linipc-init")?;
    Ok(queue)
}

fn mq_notify(_: Thread) -> Result<(), Failure> {
    const VALUE: i32 = 0x1234_5678;
    let queue = queue()?;
    let set = SignalSet::default().with(Signal::USR1);
    signalfd::block(set)?;
    let signals = signalfd::create(set, signalfd::Flags::empty())?;
    let signal = Notification::Signal {
        number: Signal::USR1.as_raw(),
        value: VALUE,
    };
    mq::notify(&queue, Some(signal))?;
    let child = Child::start(|| Ok(mq::send(&queue, b"ring", 0, None)?))?;
    let mut infos = [Info::default()];
    ensure(signalfd::read(&signals, &mut infos)? == 1, "no signal")?;
    let [info] = infos;
    ensure(info.value() == VALUE, "another value")?;
    ensure(
        info.pid() == child.0.as_raw_nonzero().get(),
        "another sender",
    )?;
    child.join()
}

fn posix_queue(_: Thread) -> Result<(), Failure> {
    let queue = queue()?;
    let child = Child::start(|| {
        mq::send(&queue, b"later", 1, None)?;
        Ok(mq::send(&queue, b"sooner", 30000, None)?)
    })?;
    child.join()?;
    let attributes = mq::getattr(&queue)?;
    ensure(attributes.messages == 2, "another number of messages")?;
    let mut text = [0; 64];
    let received = mq::receive(&queue, &mut text, None)?;
    ensure(received.priority == 30000, "another priority")?;
    ensure(
        text.get(..received.len) == Some(b"sooner"),
        "another message",
    )
}

fn sysv_queue(_: Thread) -> Result<(), Failure> {
    let id = msg::get(Key::PRIVATE, Create::Exclusive(USER))?;
    let child = Child::start(|| {
        msg::send(id, &Message::new(7, *b"seventh"), Send::empty())?;
        Ok(msg::send(id, &Message::new(3, *b"third"), Send::empty())?)
    })?;
    let mut message = Message::new(0, [0; 16]);
    let received = msg::receive(id, &mut message, Select::Type(3), Receive::empty());
    let stat = msg::stat(id);
    let sender = child.0.as_raw_nonzero().get();
    child.join()?;
    msg::remove(id)?;
    ensure(
        message.text.get(..received?) == Some(b"third"),
        "another message",
    )?;
    let stat = stat?;
    ensure(
        (stat.messages, stat.bytes) == (1, 7),
        "another length of the queue",
    )?;
    ensure(stat.last_sender == sender, "another sender")?;
    ensure(
        stat.last_send.is_some() && stat.last_receive.is_some(),
        "no time",
    )
}

fn sysv_semaphore_undo(_: Thread) -> Result<(), Failure> {
    let id = sem::get(Key::PRIVATE, 3, Create::Exclusive(USER))?;
    sem::setall(id, &[1, 2, 3])?;
    let child = Child::start(|| {
        Ok(sem::op(
            id,
            &[sem::Op::new(0, -1).undo(), sem::Op::new(2, 1)],
        )?)
    })?;
    child.join()?;
    let mut values = [0; 3];
    let got = sem::getall(id, &mut values);
    let stat = sem::stat(id);
    sem::remove(id)?;
    got?;
    ensure(values == [1, 2, 4], "other values")?;
    let stat = stat?;
    ensure(
        stat.semaphores == 3 && stat.last_op.is_some(),
        "another state",
    )
}

fn sysv_memory(_: Thread) -> Result<(), Failure> {
    let id = shm::get(
        Key::PRIVATE,
        10_000,
        Create::Exclusive(USER),
        shm::Memory::USUAL,
    )?;
    let memory = shm::attach(id, None, shm::Attach::empty());
    let stat = shm::stat(id);
    shm::remove(id)?;
    let (memory, stat) = (memory?, stat?);
    Child::start(|| Ok(memory.bytes().write(9_990, b"the child")?))?.join()?;
    let mut text = [0; 9];
    memory.bytes().read(9_990, &mut text)?;
    ensure(&text == b"the child", "other bytes")?;
    ensure(
        (stat.size, stat.attachments) == (10_000, 1),
        "another state",
    )
}

/// Message `number` of the ring: so many bytes.
fn message(number: usize) -> [u8; 100] {
    [number as u8; 100]
}

fn ring(_: Thread) -> Result<(), Failure> {
    const COUNT: usize = 1000;
    let fd = ring::create_memfd(c"ring", ring::Kind::Spsc, 4096)?;
    let mut consumer = Consumer::attach(ring::map(&fd)?)?;
    let wait = || Wait::SLEEP.until(soon());
    let child = Child::start(|| {
        let mut producer = Producer::attach(ring::map(&fd)?)?;
        for number in 0..COUNT {
            producer.push(
                message(number).get(..number % 100).unwrap_or_default(),
                wait(),
            )?;
        }
        Ok(())
    })?;
    let mut text = [0; 100];
    for number in 0..COUNT {
        let len = consumer.pop(&mut text, wait())?;
        let expected = message(number);
        ensure(
            text.get(..len) == expected.get(..number % 100),
            "another message",
        )?;
    }
    ensure(
        consumer.pop(&mut text, wait()) == Err(ring::Error::Closed),
        "it is not closed",
    )?;
    child.join()?;

    let flag = Region::anonymous(4096, RW)?;
    let flag = flag.bytes().atomic_u32(0)?;
    let child = Child::start(|| {
        let mut producer = Producer::attach(ring::map(&fd)?)?;
        producer.push(b"last", wait())?;
        raise(flag)?;
        sleep_for_ever(flag)
    })?;
    until_raised(flag)?;
    child.kill()?;
    ensure(
        consumer.pop(&mut text, wait()) == Ok(4),
        "what was committed is lost",
    )?;
    ensure(
        consumer.pop(&mut text, wait()) == Err(ring::Error::PeerDead),
        "it is not dead",
    )
}

fn process_vm(_: Thread) -> Result<(), Failure> {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let region = Region::anonymous(4096, RW)?;
    let flag = region.bytes().atomic_u32(0)?;
    let child = Child::start(|| {
        // Relaxed: the flag, which the kernel orders after it, tells of it.
        NUMBER.store(0x0102_0304, Ordering::Relaxed);
        raise(flag)?;
        sleep_for_ever(flag)
    })?;
    until_raised(flag)?;
    let mut bytes = [0; 4];
    let read = process_vm::read(child.0, NUMBER.as_ptr().addr(), &mut bytes);
    child.kill()?;
    ensure(read? == 4, "another length")?;
    ensure(u32::from_ne_bytes(bytes) == 0x0102_0304, "another number")
}

/// Sets a flag that another process waits for.
fn raise(flag: &AtomicU32) -> Result<(), Failure> {
    // Release, with the load in `until_raised`: what was done before is seen there.
    flag.store(1, Ordering::Release);
    Futex::shared(flag).wake(u32::MAX)?;
    Ok(())
}

fn until_raised(flag: &AtomicU32) -> Result<(), Failure> {
    // Acquire, with the store in `raise`.
    while flag.load(Ordering::Acquire) == 0 {
        match Futex::shared(flag).wait(0, Some(soon())) {
            Ok(()) | Err(Errno::AGAIN | Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// A process that is to be killed.
fn sleep_for_ever(flag: &AtomicU32) -> Result<(), Failure> {
    loop {
        let _ = Futex::shared(flag).wait(1, None);
    }
}

/// A millisecond, at a word that stays what it is.
fn pause(word: &AtomicU32) -> Result<(), Failure> {
    let short = Deadline::after(Clock::Monotonic, Duration::from_millis(1));
    // Relaxed: the kernel compares it once more.
    match Futex::private(word).wait(word.load(Ordering::Relaxed), Some(short)) {
        Err(Errno::TIMEDOUT | Errno::AGAIN | Errno::INTR) | Ok(()) => Ok(()),
        Err(error) => Err(error.into()),
    }
}
