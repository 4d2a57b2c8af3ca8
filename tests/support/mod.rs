//! The harness: every test in namespaces of its own, every peer a real process.
//!
//! `isolated!(|| …)` runs its body in a child process that has its own IPC and mount namespace (and
//! user namespace, when the tests do not run as root) with an empty `/dev/shm` and an empty queue
//! file system at `mqueue_dir()`. Its other thread only waits for the test, so the body may fork:
//! `peer(|| …)` is a second process. When the body is done, the child checks that it left no object
//! and no process. All of them are killed with the process that runs the tests.

#![allow(dead_code, reason = "each test file uses its part")]

use std::ffi::CString;
use std::io::{self, Write};
use std::os::unix::process::CommandExt;
use std::panic::{self, AssertUnwindSafe};
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};
use std::{env, fs, process, thread};

use rustix::process::Pid;

/// How much slower than others the machine is that it was built for.
pub const SLOWNESS: usize = match option_env!("LINIPC_EMULATED") {
    Some(_) => 10,
    None => 1,
};

/// How long a test or a peer may take before it counts as hung.
pub const PATIENCE: Duration = Duration::from_secs(if SLOWNESS > 1 { 600 } else { 120 });

const ROLE: &str = "LINIPC_TEST_ISOLATED";

/// Runs the closure in a process with namespaces of its own; fails if it fails or leaves something.
#[macro_export]
macro_rules! isolated {
    ($body:expr) => {{
        fn here() {}
        let name = std::any::type_name_of_val(&here);
        $crate::support::isolated(name, $body)
    }};
}

/// See the macro. `here` is the path of a function inside the test function.
pub fn isolated(here: &str, body: impl FnOnce()) {
    let test = here.strip_suffix("::here").unwrap_or(here);
    let test = test.strip_suffix("::{{closure}}").unwrap_or(test);
    let (_, test) = test.split_once("::").expect("a path of crate and function");
    if env::var(ROLE).as_deref() == Ok(test) {
        let before = temporary_files();
        match panic::catch_unwind(AssertUnwindSafe(body)) {
            Err(other) if !other.is::<Skipped>() => panic::resume_unwind(other),
            _ => check_nothing_left(&before),
        }
        return;
    }
    let mut command = Command::new(env::current_exe().unwrap());
    command
        .args([
            test,
            "--exact",
            "--nocapture",
            "--test-threads=1",
            "--include-ignored",
        ])
        .env(ROLE, test)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    // SAFETY: The closure makes system calls only and writes to files; the child has one thread.
    unsafe { command.pre_exec(enter_namespaces) };
    let child = command.spawn().unwrap_or_else(|error| {
        panic!("namespaces are needed (root, or user namespaces for everybody): {error}")
    });
    let id = child.id();
    let (send, receive) = std::sync::mpsc::channel();
    thread::spawn(move || send.send(child.wait_with_output()));
    let output = match receive.recv_timeout(PATIENCE * 2) {
        Ok(output) => output.unwrap(),
        Err(_) => {
            kill_group(id);
            receive.recv().unwrap().unwrap()
        }
    };
    kill_group(id);
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    for line in err.lines() {
        if line.starts_with("skipped: ") {
            say(line);
        } else if line.starts_with("counted: ") {
            println!("{line}");
        }
    }
    assert!(
        output.status.success() && out.contains("1 passed"),
        "{test} failed in its namespace: {}\n{out}\n{err}",
        output.status
    );
}

/// The child is the leader of a process group: nothing that it started survives it.
fn kill_group(id: u32) {
    // SAFETY: kill(2) takes no pointers.
    unsafe { libc::kill(-(id as i32), libc::SIGKILL) };
}

fn enter_namespaces() -> io::Result<()> {
    use rustix::mount::{MountFlags, MountPropagationFlags, mount, mount_change};
    use rustix::thread::{UnshareFlags, unshare_unsafe};

    rustix::process::setpgid(None, None)?;
    let (uid, gid) = (rustix::process::geteuid(), rustix::process::getegid());
    let mut flags = UnshareFlags::NEWIPC | UnshareFlags::NEWNS;
    if !uid.is_root() {
        flags |= UnshareFlags::NEWUSER;
    }
    // SAFETY: No descriptor table or memory is unshared.
    unsafe { unshare_unsafe(flags) }?;
    if !uid.is_root() {
        fs::write("/proc/self/setgroups", "deny")?;
        fs::write("/proc/self/uid_map", format!("0 {} 1", uid.as_raw()))?;
        fs::write("/proc/self/gid_map", format!("0 {} 1", gid.as_raw()))?;
    }
    mount_change(
        "/",
        MountPropagationFlags::REC | MountPropagationFlags::PRIVATE,
    )?;
    let none: Option<&std::ffi::CStr> = None;
    mount(
        "tmpfs",
        "/dev/shm",
        "tmpfs",
        MountFlags::NOSUID | MountFlags::NODEV,
        none,
    )?;
    mount("mqueue", mqueue_dir(), "mqueue", MountFlags::empty(), none)?;
    // At the end, since a new user namespace takes it away.
    Ok(rustix::process::set_parent_process_death_signal(Some(
        rustix::process::Signal::KILL,
    ))?)
}

/// Moves an isolated test into a network namespace of its own, which has a loopback and its own
/// `/proc/sys/net`.
pub fn own_network() {
    use rustix::thread::{UnshareFlags, unshare_unsafe};

    // SAFETY: No descriptor table or memory is unshared.
    unsafe { unshare_unsafe(UnshareFlags::NEWNET) }.unwrap();
    let socket = std::net::UdpSocket::bind("0.0.0.0:0").unwrap();
    // SAFETY: All zeros are a valid `ifreq`.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    request.ifr_name[..2].copy_from_slice(&[b'l' as _, b'o' as _]);
    request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as _;
    let fd = std::os::fd::AsRawFd::as_raw_fd(&socket);
    // SAFETY: The call reads one `ifreq`.
    let done = unsafe { libc::ioctl(fd, libc::SIOCSIFFLAGS, &raw const request) };
    assert_eq!(done, 0, "{}", io::Error::last_os_error());
}

/// Where an isolated test sees the queue file system.
pub fn mqueue_dir() -> &'static Path {
    let usual = Path::new("/dev/mqueue");
    if usual.exists() {
        usual
    } else {
        Path::new("/mnt")
    }
}

/// The temporary files of this process, whose id is in their names.
fn temporary_files() -> Vec<String> {
    let own = format!("-{}", process::id());
    let names = fs::read_dir(env::temp_dir()).unwrap().flatten();
    names
        .map(|entry| entry.path().display().to_string())
        .filter(|path| path.contains("/linipc-") && path.ends_with(&own))
        .collect()
}

/// Panics if the namespace still holds an object, or this process a child.
fn check_nothing_left(before: &[String]) {
    let mut left = Vec::new();
    for dir in [Path::new("/dev/shm"), mqueue_dir()] {
        for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
            left.push(entry.path().display().to_string());
        }
    }
    left.extend(
        temporary_files()
            .into_iter()
            .filter(|file| !before.contains(file)),
    );
    for kind in ["shm", "sem", "msg"] {
        let table = fs::read_to_string(format!("/proc/sysvipc/{kind}")).unwrap();
        left.extend(table.lines().skip(1).map(|line| format!("{kind}: {line}")));
    }
    // SAFETY: waitpid(2) with no status takes no pointers.
    if unsafe { libc::waitpid(-1, std::ptr::null_mut(), libc::WNOHANG) } != -1 {
        left.push("a child process".to_owned());
    }
    assert!(left.is_empty(), "left behind: {left:#?}");
}

/// A second process, which runs a closure. Killed and reaped on drop, if it was not joined.
#[derive(Debug)]
pub struct Peer {
    pid: Pid,
    joined: bool,
}

/// Forks a process that runs `body`, and fails if it panics. Only inside `isolated!`, where the
/// process has no other thread that works.
#[must_use]
pub fn peer(body: impl FnOnce()) -> Peer {
    let parent = process::id();
    // SAFETY: The harness's other thread only waits for this one, holding no lock (`--test-threads=1`),
    // so the child may do anything.
    match unsafe { libc::fork() } {
        -1 => panic!("fork: {}", io::Error::last_os_error()),
        0 => {
            rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))
                .unwrap();
            assert_eq!(std::os::unix::process::parent_id(), parent);
            let done = panic::catch_unwind(AssertUnwindSafe(body));
            let _ = io::stderr().flush();
            // SAFETY: Ends the child here, so that it does not return into the test's harness.
            unsafe { libc::_exit(if done.is_ok() { 0 } else { 101 }) }
        }
        pid => Peer {
            pid: Pid::from_raw(pid).unwrap(),
            joined: false,
        },
    }
}

impl Peer {
    /// Its process id.
    pub fn pid(&self) -> i32 {
        self.pid.as_raw_nonzero().get()
    }

    /// Waits for its end, which must be without a panic.
    pub fn join(mut self) {
        let status = self.wait();
        assert!(status.success(), "the peer failed: {status}");
    }

    /// Kills it with `SIGKILL`, at whatever it is doing, and reaps it.
    pub fn kill(mut self) {
        rustix::process::kill_process(self.pid, rustix::process::Signal::KILL).unwrap();
        self.wait();
    }

    fn wait(&mut self) -> ExitStatus {
        use std::os::unix::process::ExitStatusExt;
        let end = Instant::now() + PATIENCE;
        loop {
            let mut status = 0;
            // SAFETY: `status` is writable.
            let pid = unsafe { libc::waitpid(self.pid(), &raw mut status, libc::WNOHANG) };
            assert_ne!(pid, -1, "waitpid: {}", io::Error::last_os_error());
            if pid != 0 {
                self.joined = true;
                return ExitStatus::from_raw(status);
            }
            assert!(Instant::now() < end, "the peer hangs");
            thread::sleep(Duration::from_millis(1));
        }
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        if !self.joined {
            let _ = rustix::process::kill_process(self.pid, rustix::process::Signal::KILL);
            // SAFETY: waitpid(2) with no status takes no pointers.
            unsafe { libc::waitpid(self.pid(), std::ptr::null_mut(), 0) };
        }
    }
}

/// Gives up all capabilities of this process, so that permissions hold for it. The user stays.
pub fn drop_capabilities() {
    use rustix::thread::{CapabilitySet, CapabilitySets, set_capabilities};
    let none = CapabilitySets {
        effective: CapabilitySet::empty(),
        permitted: CapabilitySet::empty(),
        inheritable: CapabilitySet::empty(),
    };
    set_capabilities(None, none).unwrap();
}

/// Waits until `condition` holds, by asking every millisecond.
pub fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < end, "never: {what}");
        thread::sleep(Duration::from_millis(1));
    }
}

/// Waits until process `pid` sleeps in the kernel: its blocking call has begun.
pub fn until_asleep(pid: i32) {
    eventually("the peer sleeps", || {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
        stat.rsplit(") ").next().unwrap().starts_with('S')
    });
}

/// From now on the kernel refuses membarrier(2) to this process, as old kernels and sandboxes do.
pub fn refuse_membarrier() {
    let instruction = |code: u32, jt, jf, k| libc::sock_filter {
        code: code as u16,
        jt,
        jf,
        k,
    };
    let filter = [
        instruction(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, 0),
        instruction(
            libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K,
            0,
            1,
            libc::SYS_membarrier as u32,
        ),
        instruction(
            libc::BPF_RET | libc::BPF_K,
            0,
            0,
            libc::SECCOMP_RET_ERRNO | libc::ENOSYS as u32,
        ),
        instruction(libc::BPF_RET | libc::BPF_K, 0, 0, libc::SECCOMP_RET_ALLOW),
    ];
    let program = libc::sock_fprog {
        len: filter.len() as u16,
        filter: filter.as_ptr().cast_mut(),
    };
    rustix::thread::set_no_new_privs(true).unwrap();
    let mode = libc::SECCOMP_MODE_FILTER;
    // SAFETY: The program is valid, and is copied.
    let set = unsafe { libc::prctl(libc::PR_SET_SECCOMP, mode, &raw const program) };
    assert_eq!(set, 0, "{}", io::Error::last_os_error());
}

static CAUGHT: AtomicU32 = AtomicU32::new(0);

extern "C" fn count_signal(_: i32) {
    CAUGHT.fetch_add(1, Ordering::Relaxed);
}

/// From now on this process counts `SIGUSR1`, which interrupts its calls (no `SA_RESTART`).
pub fn catch_signals() {
    // SAFETY: Zeros are a valid `sigaction`.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    action.sa_sigaction = count_signal as *const () as usize;
    // SAFETY: The handler only counts.
    let set = unsafe { libc::sigaction(libc::SIGUSR1, &raw const action, std::ptr::null_mut()) };
    assert_eq!(set, 0);
}

/// How many signals this process has caught.
pub fn caught() -> u32 {
    CAUGHT.load(Ordering::Relaxed)
}

/// Interrupts the sleep of a peer that catches signals, and waits until it has taken the signal.
pub fn interrupt(peer: &Peer) {
    until_asleep(peer.pid());
    rustix::process::kill_process(peer.pid, rustix::process::Signal::USR1).unwrap();
    eventually("the signal is taken", || {
        let status = fs::read_to_string(format!("/proc/{}/status", peer.pid())).unwrap();
        status.contains("ShdPnd:\t0000000000000000")
    });
}

/// Says on a line of its own, past the capture of the test's output, that a part was not run
/// because this kernel or this machine lacks something. Return from the test after it.
pub fn skip(reason: &str) {
    let test = env::var(ROLE).ok();
    let test = test
        .as_deref()
        .or(thread::current().name())
        .unwrap_or("a test")
        .to_owned();
    say(&format!("skipped: {test}: {reason}"));
}

struct Skipped;

/// Ends an isolated test as [`skip`] does, from wherever it is.
pub fn skip_rest(reason: &str) -> ! {
    skip(reason);
    panic::resume_unwind(Box::new(Skipped))
}

/// Says how many of something there were, in the output of the test (`--nocapture`).
pub fn count(what: &str) {
    let test = env::var(ROLE).unwrap_or_default();
    say(&format!("counted: {test}: {what}"));
}

fn say(line: &str) {
    let _ = writeln!(io::stderr(), "{line}");
}

/// Compiles a C program with gcc and gives its path, in a folder that is removed on drop.
pub fn compile_c(name: &str, source: &str) -> Program {
    let dir = env::temp_dir().join(format!("linipc-{name}-{}", process::id()));
    fs::create_dir_all(&dir).unwrap();
    let program = Program {
        path: dir.join(name),
        dir,
    };
    let c = program.dir.join("main.c");
    fs::write(&c, source).unwrap();
    let output = Command::new("gcc")
        .args([
            "-std=gnu11",
            "-Wall",
            "-Wextra",
            "-Werror",
            "-O1",
            "-pthread",
            "-o",
        ])
        .arg(&program.path)
        .arg(&c)
        .args(["-lrt"])
        .output()
        .expect("gcc is missing");
    assert!(
        output.status.success(),
        "gcc: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    program
}

/// A compiled C program; its folder is removed on drop.
#[derive(Debug)]
pub struct Program {
    dir: std::path::PathBuf,
    path: std::path::PathBuf,
}

impl Program {
    /// Where it is.
    pub fn path(&self) -> &str {
        self.path.to_str().unwrap()
    }

    /// A command that runs it.
    pub fn command(&self) -> Command {
        Command::new(&self.path)
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.dir);
    }
}

/// A command that runs `script` with the Python that has `posix_ipc` and `sysv_ipc`.
pub fn python(script: &str) -> Command {
    let mut command = Command::new(python_path());
    command.args(["-c", script]);
    command
}

fn python_path() -> String {
    let venv = concat!(env!("CARGO_MANIFEST_DIR"), "/target/venv/bin/python3");
    if Path::new(venv).exists() {
        venv.to_owned()
    } else {
        "python3".to_owned()
    }
}

/// Runs a command to its end, which must be without an error, and gives what it printed.
pub fn run(command: &mut Command) -> String {
    let output = command
        .stdin(Stdio::null())
        .output()
        .unwrap_or_else(|error| {
            panic!("{command:?}: {error}");
        });
    let (out, err) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    assert!(
        output.status.success(),
        "{command:?}: {}\n{out}\n{err}",
        output.status
    );
    out.trim_end().to_owned()
}

/// A null-terminated copy.
pub fn c_string(text: &str) -> CString {
    CString::new(text).unwrap()
}

/// Mounts an empty tmpfs with these options over `dir`, for this namespace.
pub fn mount_tmpfs(dir: &str, options: &str) {
    use rustix::mount::{MountFlags, mount};
    let options = c_string(options);
    mount("tmpfs", dir, "tmpfs", MountFlags::empty(), &*options).unwrap();
}

/// Takes away what [`mount_tmpfs`] mounted, with all that is in it.
pub fn unmount(dir: &str) {
    rustix::mount::unmount(dir, rustix::mount::UnmountFlags::empty()).unwrap();
}

/// Runs the closure in a process that sees no `/proc`, as early at boot and in some containers.
pub fn without_proc(body: impl FnOnce()) {
    peer(|| {
        // SAFETY: No descriptor table or memory is unshared.
        unsafe { rustix::thread::unshare_unsafe(rustix::thread::UnshareFlags::NEWNS) }.unwrap();
        mount_tmpfs("/proc", "");
        body();
    })
    .join();
}

/// Gives up all capabilities, so that permissions count for this process too.
pub fn drop_privileges() {
    use rustix::thread::{CapabilitySet, CapabilitySets, set_capabilities};
    let none = CapabilitySets {
        effective: CapabilitySet::empty(),
        permitted: CapabilitySet::empty(),
        inheritable: CapabilitySet::empty(),
    };
    set_capabilities(None, none).unwrap();
}
