//! The program `linipc compare`, as a user runs it.
//!
//! It is built here with the cargo that runs the tests, unless `LINIPC_PROGRAM` is the path of one.

mod support;

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::fd::{FromRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use rustix::net::SendFlags;
use rustix::process::{Pid, Signal, kill_process};
use rustix::thread::{UnshareFlags, unshare_unsafe};
use support::eventually;

const NAMES: [&str; 17] = [
    "file-lock",
    "shared-variable",
    "shm-sysv",
    "shm-posix",
    "memfd",
    "ring",
    "sem-sysv",
    "sem-posix",
    "pipe",
    "fifo",
    "mq-sysv",
    "mq-posix",
    "unix-stream",
    "unix-seqpacket",
    "unix-dgram",
    "tcp",
    "udp",
];

/// The built program. A test asks for it before it is isolated, so that a long build is not on the
/// isolated test's clock; what asks inside finds it built.
fn program() -> PathBuf {
    if let Some(path) = std::env::var_os("LINIPC_PROGRAM") {
        return path.into();
    }
    let output = Command::new(env!("CARGO"))
        .args([
            "build",
            "--locked",
            "-p",
            "linipc",
            "--features",
            "cli",
            "--bin",
            "linipc",
        ])
        .arg("--message-format=json")
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    let messages = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "cargo build: {errors}");
    let path = messages
        .split("\"executable\":\"")
        .nth(1)
        .and_then(|rest| rest.split('"').next());
    path.expect("cargo names the executable").into()
}

/// A folder for the program's temporary files, empty afterwards, and for the files of a test.
struct Folder(PathBuf);

impl Folder {
    fn new(test: &str) -> Self {
        let path = std::env::temp_dir().join(format!("linipc-{test}-{}", std::process::id()));
        fs::create_dir_all(path.join("tmp")).unwrap();
        Self(path)
    }

    fn file(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.0.join(name);
        fs::write(&path, bytes).unwrap();
        path
    }

    fn compare(&self, arguments: &[&str], file: Option<&Path>) -> Command {
        let mut command = Command::new(program());
        command.arg("compare").args(arguments).args(file);
        command
            .env("TMPDIR", self.0.join("tmp"))
            .env_remove("COLUMNS")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    fn check_empty(&self) {
        let left: Vec<_> = fs::read_dir(self.0.join("tmp")).unwrap().collect();
        assert!(left.is_empty(), "left behind: {left:?}");
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// The keys and values of a flat JSON object; strings keep their quotes.
fn object(line: &str) -> BTreeMap<String, String> {
    let inner = line.strip_prefix('{').unwrap().strip_suffix('}').unwrap();
    let (mut parts, mut quoted, mut escaped) = (vec![String::new()], false, false);
    for c in inner.chars() {
        quoted ^= c == '"' && !escaped;
        escaped = c == '\\' && !escaped;
        match c {
            ',' | ':' if !quoted => parts.push(String::new()),
            c => parts.last_mut().unwrap().push(c),
        }
    }
    let unquote = |key: &str| key.trim_matches('"').to_owned();
    let pairs = parts.chunks_exact(2);
    pairs
        .map(|pair| (unquote(&pair[0]), pair[1].clone()))
        .collect()
}

fn rows(output: &Output) -> Vec<BTreeMap<String, String>> {
    text(&output.stdout).lines().map(object).collect()
}

const KEYS: [&str; 6] = [
    "bytes",
    "gib_per_s",
    "mechanism",
    "rtt_ns_median",
    "rtt_ns_p99",
    "verified",
];

/// Every mechanism carries a file of `len` bytes; `None` is the program itself.
fn all_carry(test: &str, len: Option<usize>) {
    let folder = Folder::new(test);
    let file = len.map(|len| {
        let bytes: Vec<u8> = (0..len).map(|i| (i * i / 251) as u8).collect();
        folder.file("file", &bytes)
    });
    let len = len.unwrap_or_else(|| fs::metadata(program()).unwrap().len() as usize);
    let output = folder
        .compare(&["--json"], file.as_deref())
        .output()
        .unwrap();
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    assert_eq!(output.status.code(), Some(0), "{out}\n{err}");
    let rows = rows(&output);
    for row in &rows {
        assert_eq!(row.keys().collect::<Vec<_>>(), KEYS);
        assert_eq!(
            (&*row["verified"], &row["bytes"]),
            ("true", &len.to_string())
        );
        let speed: f64 = row["gib_per_s"].parse().unwrap();
        match len {
            0 => assert!(speed == 0.0, "{row:?}"),
            // Of one byte, it may round to nothing.
            1 => assert!(speed < 1.0, "{row:?}"),
            _ => assert!(speed > 0.0, "{row:?}"),
        }
        let median: u64 = row["rtt_ns_median"].parse().unwrap();
        let p99: u64 = row["rtt_ns_p99"].parse().unwrap();
        assert!(0 < median && median <= p99);
    }
    let names = rows
        .iter()
        .map(|row| row["mechanism"].trim_matches('"').to_owned());
    assert_eq!(names.collect::<Vec<_>>(), NAMES);
    folder.check_empty();
}

#[test]
fn all_carry_an_empty_file() {
    program();
    isolated!(|| all_carry("empty", Some(0)));
}

#[test]
fn all_carry_one_byte() {
    program();
    isolated!(|| all_carry("byte", Some(1)));
}

#[test]
fn all_carry_a_file_that_fits_no_chunk() {
    program();
    isolated!(|| all_carry("odd", Some(3 * 1024 * 1024 + 17)));
}

#[test]
fn all_carry_the_program_itself() {
    program();
    isolated!(|| all_carry("self", None));
}

#[test]
fn only_the_chosen_run_in_the_chosen_order() {
    program();
    isolated!(|| {
        let folder = Folder::new("only");
        let output = folder
            .compare(&["--json", "--only", "tcp,pipe", "--only=tcp"], None)
            .output()
            .unwrap();
        let rows = rows(&output);
        let names: Vec<_> = rows.iter().map(|row| &*row["mechanism"]).collect();
        assert_eq!(names, ["\"tcp\"", "\"pipe\""]);
        assert!(output.status.success());
    });
}

#[test]
fn a_table_on_stdout_and_a_line_for_each_on_stderr() {
    program();
    isolated!(|| {
        let folder = Folder::new("table");
        let file = folder.file("file", &[7; 12345]);
        let output = folder
            .compare(&["--only", "pipe,mq-sysv"], Some(&file))
            .output()
            .unwrap();
        let (out, err) = (text(&output.stdout), text(&output.stderr));
        assert!(output.status.success(), "{err}");
        assert!(widest(&out) <= 100 && out.contains("good for"), "{out}");
        for name in ["pipe", "mq-sysv"] {
            let row = out.lines().find(|line| line.contains(name)).unwrap();
            assert!(row.contains("12345") && row.contains("yes"), "{row}");
        }
        let lines: Vec<_> = err.lines().collect();
        assert_eq!(lines, ["[ 1/2] pipe: verified", "[ 2/2] mq-sysv: verified"]);
    });
}

/// The characters of the longest line.
fn widest(text: &str) -> usize {
    let lengths = text.trim_end().lines().map(|line| line.chars().count());
    lengths.max().unwrap()
}

/// A row is a line, however narrow the table: border, header of two lines, border, rows, border.
fn check_narrow(out: &str, rows: usize) {
    assert_eq!(out.lines().count(), rows + 5, "{out}");
    assert!(widest(out) <= 60 && !out.contains("good for"), "{out}");
}

#[test]
fn a_table_as_wide_as_columns_says() {
    program();
    isolated!(|| {
        let folder = Folder::new("columns");
        let file = folder.file("file", &[7; 12345]);
        for columns in ["60", "20"] {
            let mut command = folder.compare(&["--only", "shared-variable,memfd"], Some(&file));
            let output = command.env("COLUMNS", columns).output().unwrap();
            check_narrow(&text(&output.stdout), 2);
        }
    });
}

#[test]
fn a_table_as_wide_as_the_terminal() {
    program();
    isolated!(|| {
        let folder = Folder::new("terminal");
        let file = folder.file("file", &[7; 12345]);
        // SAFETY: all zero is a value of it.
        let mut size: libc::winsize = unsafe { std::mem::zeroed() };
        size.ws_col = 60;
        let (mut ours, mut theirs) = (-1, -1);
        let null = std::ptr::null_mut();
        // SAFETY: the places of the descriptors and the size live, and no name is asked for.
        let opened = unsafe { libc::openpty(&mut ours, &mut theirs, null, null.cast(), &size) };
        assert_eq!(opened, 0);
        // SAFETY: openpty(3) has just opened it, and nobody else has it.
        let ours = unsafe { OwnedFd::from_raw_fd(ours) };
        // SAFETY: the same.
        let theirs = unsafe { OwnedFd::from_raw_fd(theirs) };
        let mut command = folder.compare(&["--only", "pipe"], Some(&file));
        command.stdout(theirs);
        let output = command.output().unwrap();
        assert!(output.status.success());
        drop(command);
        let mut out = Vec::new();
        // A terminal that nobody has open fails with EIO when all was read.
        let _ = fs::File::from(ours).read_to_end(&mut out);
        check_narrow(&text(&out), 1);
    });
}

#[test]
fn an_empty_file_has_no_rate() {
    program();
    isolated!(|| {
        let folder = Folder::new("no-rate");
        let file = folder.file("file", b"");
        let output = folder.compare(&["--only", "pipe"], Some(&file)).output();
        let out = text(&output.unwrap().stdout);
        let row = out.lines().find(|line| line.contains("pipe")).unwrap();
        let fields: Vec<_> = row.split_whitespace().collect();
        assert_eq!(fields[fields.len() - 6..][..3], ["0", "yes", "-"], "{row}");
    });
}

#[test]
fn a_short_file_is_sent_many_times() {
    program();
    isolated!(|| {
        let len = 100_000;
        let folder = Folder::new("again");
        let file = folder.file("file", &vec![7; len]);
        // Of this process, and of those for whose end it has waited.
        let bytes_read = || -> Option<usize> {
            let io = fs::read_to_string("/proc/self/io").ok()?;
            io.lines().next()?.strip_prefix("rchar: ")?.parse().ok()
        };
        let mut command = folder.compare(&["--only", "memfd"], Some(&file));
        let Some(before) = bytes_read() else {
            support::skip("the kernel does not count what is read");
            return;
        };
        assert!(command.output().unwrap().status.success());
        let read = bytes_read().unwrap() - before;
        // Once by the supervisor and once by the sender, if it were sent once.
        assert!(read > 4 * len, "{read}");
    });
}

#[test]
fn nothing_is_said_when_nobody_reads() {
    program();
    isolated!(|| {
        for format in [None, Some("--json")] {
            let folder = Folder::new("unread");
            let file = folder.file("file", b"short");
            let mut command = folder.compare(&["--only", "fifo,pipe"], Some(&file));
            let (reader, writer) = std::io::pipe().unwrap();
            drop(reader);
            let output = command.args(format).stdout(writer).output().unwrap();
            let err = text(&output.stderr);
            assert_eq!(output.status.code(), Some(141), "{err}");
            assert!(
                err.lines().all(|line| line.ends_with(": verified")),
                "{err}"
            );
            folder.check_empty();
        }
    });
}

#[test]
fn what_cannot_be_sent_is_refused() {
    program();
    isolated!(|| {
        let folder = Folder::new("refused");
        let fifo = folder.0.join("fifo");
        let name = support::c_string(fifo.to_str().unwrap());
        // SAFETY: `name` is a null-terminated string.
        assert_eq!(unsafe { libc::mkfifo(name.as_ptr(), 0o600) }, 0);
        for (file, why) in [
            (folder.0.join("missing"), "No such file"),
            (folder.0.clone(), "is a directory"),
            (fifo, "not a regular file"),
            ("/dev/null".into(), "not a regular file"),
        ] {
            let output = folder.compare(&[], Some(&file)).output().unwrap();
            let err = text(&output.stderr);
            assert_eq!(output.status.code(), Some(2), "{err}");
            assert!(
                err.contains(file.to_str().unwrap()) && err.contains(why),
                "{err}"
            );
            assert!(output.stdout.is_empty());
        }
        folder.check_empty();
    });
}

#[test]
fn a_mechanism_that_does_not_exist_is_named() {
    program();
    isolated!(|| {
        let folder = Folder::new("unknown");
        for only in ["pipes", "pipe,", ","] {
            let output = folder.compare(&["--only", only], None).output().unwrap();
            let err = text(&output.stderr);
            assert_eq!(output.status.code(), Some(2), "{err}");
            assert!(err.contains("--only") && err.contains("mq-sysv"), "{err}");
            assert!(output.stdout.is_empty());
        }
    });
}

/// A comparison that cannot end, since the receiver of its first mechanism is stopped.
struct Running {
    folder: Folder,
    child: Child,
    sender: Pid,
    receiver: Pid,
}

impl Running {
    fn start(test: &str, only: &str) -> Self {
        let folder = Folder::new(test);
        // Longer than what any mechanism holds.
        let file = folder.file("file", &vec![1; 16 << 20]);
        let child = folder
            .compare(&["--json", "--only", only], Some(&file))
            .spawn()
            .unwrap();
        let peer = |side| {
            let mut found = None;
            eventually("the peers start", || {
                found = peer_of(child.id(), side);
                found.is_some()
            });
            found.unwrap()
        };
        let receiver = peer("receiver");
        kill_process(receiver, Signal::STOP).unwrap();
        Self {
            sender: peer("sender"),
            receiver,
            folder,
            child,
        }
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Waits for the end, after which no peer may be there.
    fn end(self) -> Output {
        let output = self.child.wait_with_output().unwrap();
        for peer in [self.sender, self.receiver] {
            eventually("the peers are gone", || {
                rustix::process::test_kill_process(peer).is_err()
            });
        }
        self.folder.check_empty();
        output
    }
}

/// The child of process `parent` that is this side of a mechanism.
fn peer_of(parent: u32, side: &str) -> Option<Pid> {
    fs::read_dir("/proc").unwrap().find_map(|entry| {
        let path = entry.unwrap().path();
        let stat = fs::read_to_string(path.join("stat")).ok()?;
        let mut fields = stat.rsplit(") ").next()?.split(' ');
        let child = fields.nth(1)? == parent.to_string();
        let command = fs::read(path.join("cmdline")).ok()?;
        let ours = command.split(|byte| *byte == 0).nth(2)? == side.as_bytes();
        // It unblocks its signals when it has told the kernel that it dies with its parent.
        let status = fs::read_to_string(path.join("status")).ok()?;
        let bound = status.contains("SigBlk:\t0000000000000000\n");
        let pid = path.file_name()?.to_str()?.parse().ok()?;
        (child && ours && bound).then(|| Pid::from_raw(pid))?
    })
}

#[test]
fn a_signal_ends_all_and_leaves_nothing() {
    program();
    isolated!(|| {
        let signals = [(Signal::INT, 130), (Signal::TERM, 143), (Signal::HUP, 129)];
        for (name, (signal, code)) in NAMES.iter().zip(signals.iter().cycle()) {
            let running = Running::start("signal", name);
            running.signal(*signal);
            let output = running.end();
            assert_eq!(output.status.code(), Some(*code), "{name}");
            assert!(output.stdout.is_empty());
        }
    });
}

#[test]
fn the_peers_die_with_their_supervisor() {
    program();
    isolated!(|| {
        // A full queue that nobody removes would keep the sender for ever.
        let running = Running::start("orphans", "mq-sysv");
        support::until_asleep(running.sender.as_raw_pid());
        running.signal(Signal::KILL);
        running.end();
        for (id, _) in linipc::sysv::msg::list().unwrap() {
            linipc::core::sysv::msg::remove(id).unwrap();
        }
    });
}

#[test]
fn a_peer_that_dies_is_told_and_the_rest_goes_on() {
    program();
    isolated!(|| {
        for side in ["sender", "receiver"] {
            let running = Running::start("killed", "sem-sysv,pipe");
            let peer = match side {
                "sender" => running.sender,
                _ => running.receiver,
            };
            kill_process(peer, Signal::KILL).unwrap();
            let output = running.end();
            assert_eq!(output.status.code(), Some(1));
            let rows = rows(&output);
            let why = &rows[0]["error"];
            assert!(
                why.contains(&format!("the {side} died: signal: 9")),
                "{why}"
            );
            assert!(!why.contains("failed"), "{why}");
            let keys = rows[0]
                .keys()
                .filter(|key| !["status", "error"].contains(&&***key));
            assert_eq!(keys.collect::<Vec<_>>(), KEYS);
            assert_eq!(rows[0]["status"], "\"failed\"");
            assert_eq!(rows[0]["verified"], "false");
            assert_eq!(rows[0]["bytes"], "null");
            assert_eq!(rows[1]["verified"], "true");
        }
    });
}

#[test]
fn a_peer_can_be_ended_by_a_signal() {
    program();
    isolated!(|| {
        let running = Running::start("terminated", "pipe");
        kill_process(running.sender, Signal::TERM).unwrap();
        let why = &rows(&running.end())[0]["error"];
        assert!(why.contains("the sender died: signal: 15"), "{why}");
    });
}

#[test]
fn a_file_that_changes_meanwhile_is_not_verified() {
    program();
    isolated!(|| {
        let change: fn(&mut fs::File) = |file| {
            file.seek(SeekFrom::End(-1)).unwrap();
            file.write_all(b"!").unwrap();
        };
        let shorten: fn(&mut fs::File) = |file| file.set_len(10).unwrap();
        for (how, why) in [
            (change, "the file was changed"),
            (shorten, "the file became shorter"),
        ] {
            let running = Running::start("changed", "mq-posix");
            let file = running.folder.0.join("file");
            how(&mut fs::File::options().write(true).open(file).unwrap());
            kill_process(running.receiver, Signal::CONT).unwrap();
            let output = running.end();
            let row = &rows(&output)[0];
            assert_eq!(
                (output.status.code(), &*row["verified"]),
                (Some(1), "false")
            );
            assert!(row["error"].contains(why), "{row:?}");
        }
    });
}

#[test]
fn a_signal_ends_the_reading_of_the_file() {
    program();
    isolated!(|| {
        let folder = Folder::new("reading");
        let file = folder.file("file", b"");
        fs::File::options()
            .write(true)
            .open(&file)
            .unwrap()
            .set_len(1 << 40)
            .unwrap();
        let child = folder.compare(&[], Some(&file)).spawn().unwrap();
        let status = format!("/proc/{}/status", child.id());
        eventually("the program takes signals", || {
            let status = fs::read_to_string(&status).unwrap();
            let blocked = status.lines().find_map(|l| l.strip_prefix("SigBlk:"));
            u64::from_str_radix(blocked.unwrap().trim(), 16).unwrap() & 2 != 0
        });
        kill_process(Pid::from_child(&child), Signal::INT).unwrap();
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(130));
    });
}

/// The datagram socket of a peer, if it has one by now.
fn datagram_socket(peer: Pid) -> Option<OwnedFd> {
    use rustix::net::{SocketType, sockopt::socket_type};
    use rustix::process::{PidfdFlags, PidfdGetfdFlags, pidfd_getfd, pidfd_open};

    let process = pidfd_open(peer, PidfdFlags::empty()).unwrap();
    let fds = fs::read_dir(format!("/proc/{}/fd", peer.as_raw_pid())).unwrap();
    let numbers = fds.map(|fd| fd.unwrap().file_name().to_str().unwrap().parse().unwrap());
    let mut copies =
        numbers.flat_map(|number| pidfd_getfd(&process, number, PidfdGetfdFlags::empty()));
    copies.find(|fd| socket_type(fd) == Ok(SocketType::DGRAM))
}

/// Takes a packet that has come to the peer: the peer never sees it.
fn steal(peer: Pid) -> Option<Vec<u8>> {
    use rustix::net::{RecvFlags, recv};

    let mut packet = vec![0; 1 << 16];
    let (len, _) = recv(datagram_socket(peer)?, &mut packet, RecvFlags::DONTWAIT).ok()?;
    packet.truncate(len);
    Some(packet)
}

#[test]
fn udp_mends_loss_disorder_and_repetition() {
    program();
    isolated!(|| {
        let running = Running::start("loss", "udp");
        let mut packets = Vec::new();
        eventually("packets are on the way", || {
            packets.extend(steal(running.receiver));
            if packets.is_empty() {
                // It was stopped before it was ready for them.
                kill_process(running.receiver, Signal::CONT).unwrap();
                std::thread::sleep(Duration::from_millis(1));
                kill_process(running.receiver, Signal::STOP).unwrap();
            }
            packets.len() == 3
        });
        let sender = datagram_socket(running.sender).unwrap();
        for again in [1, 0, 0] {
            rustix::net::send(&sender, &packets[again], SendFlags::empty()).unwrap();
        }
        kill_process(running.receiver, Signal::CONT).unwrap();
        let output = running.end();
        assert_eq!(rows(&output)[0]["verified"], "true");
    });
}

#[test]
fn a_peer_that_hangs_is_ended_and_the_rest_goes_on() {
    program();
    isolated!(|| {
        let output = Running::start("hangs", "mq-sysv,pipe").end();
        assert_eq!(output.status.code(), Some(1));
        let rows = rows(&output);
        assert!(rows[0]["error"].contains("no progress for 10 s"));
        assert_eq!(rows[1]["verified"], "true");
    });
}

#[test]
fn without_a_loopback_interface_only_the_internet_is_refused() {
    program();
    isolated!(|| {
        let folder = Folder::new("network");
        let file = folder.file("file", b"short");
        let mut command = folder.compare(&["--json", "--only", "udp,tcp,pipe"], Some(&file));
        // SAFETY: unshare(2) of the network is a system call and changes no memory.
        unsafe {
            command.pre_exec(|| Ok(unshare_unsafe(UnshareFlags::NEWNET)?));
        }
        let output = command.output().unwrap();
        let rows = rows(&output);
        for row in &rows[..2] {
            assert_eq!(row["status"], "\"refused\"", "{row:?}");
        }
        assert_eq!(rows[2]["verified"], "true");
        assert_eq!(output.status.code(), Some(0));
    });
}

#[test]
fn what_the_kernel_refuses_is_told_and_the_rest_goes_on() {
    program();
    isolated!(|| {
        fs::write("/proc/sys/kernel/msgmni", "1").unwrap();
        fs::write("/proc/sys/kernel/shmmni", "0").unwrap();
        fs::write("/proc/sys/kernel/sem", "250 32000 32 0").unwrap();
        let folder = Folder::new("limits");
        let file = folder.file("file", b"short");
        let arguments = ["--json", "--only", "mq-sysv,shm-sysv,sem-sysv,pipe"];
        let output = folder.compare(&arguments, Some(&file)).output().unwrap();
        assert_eq!(output.status.code(), Some(0));
        let rows = rows(&output);
        for (row, setting) in rows
            .iter()
            .zip(["kernel.msgmni", "kernel.shmmni", "kernel.sem"])
        {
            assert_eq!(row["verified"], "false");
            assert_eq!(row["status"], "\"refused\"");
            let why = &row["error"];
            assert!(why.contains(setting) && !why.contains("refused"), "{why}");
        }
        assert_eq!((rows.len(), &*rows[3]["verified"]), (4, "true"));

        let table = |columns: &str| {
            let mut command = folder.compare(&arguments[1..], Some(&file));
            let output = command.env("COLUMNS", columns).output().unwrap();
            text(&output.stdout)
        };
        // The row says why, or, if there is no room, a line below the table.
        let wide = table("100");
        let (row, rest) = wide
            .split_once("│mq-sysv ")
            .unwrap()
            .1
            .split_once('\n')
            .unwrap();
        assert!(row.contains(" refused "), "{wide}");
        let why = rest.split_once("│shm-sysv").unwrap().0;
        assert!(why.contains("kernel.msgmni"), "{wide}");
        assert!(
            wide.lines().all(|line| line.chars().count() <= 100),
            "{wide}"
        );
        let narrow = table("60");
        let mut lines = narrow.lines().filter(|line| line.contains("mq-sysv"));
        let (row, why) = (lines.next().unwrap(), lines.next().unwrap());
        assert!(row.contains(" refused "), "{narrow}");
        assert!(
            why.starts_with("mq-sysv: refused: ") && why.contains("kernel.msgmni"),
            "{narrow}"
        );
    });
}
