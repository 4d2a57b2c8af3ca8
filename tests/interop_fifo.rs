//! FIFOs and pipes with the shell on the other side.

mod support;

use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::process::{Command, Stdio};

use linipc::fifo::{Fifo, OpenOptions};
use linipc::pipe::PipeOptions;
use support::run;

const PATH: &str = "/dev/shm/fifo";

fn sh(script: &str) -> Command {
    let mut command = Command::new("sh");
    command.args(["-e", "-c", script, "sh", PATH]);
    command
}

fn made() -> Fifo {
    OpenOptions::new()
        .create_new(true)
        .unlink_on_drop(true)
        .open(PATH)
        .unwrap()
}

#[test]
fn a_fifo_from_mkfifo_is_opened_and_one_of_ours_is_one_to_the_shell() {
    isolated!(|| {
        run(&mut sh(r#"mkfifo -m 600 "$1""#));
        let fifo = OpenOptions::new().unlink_on_drop(true).open(PATH).unwrap();
        drop(fifo);
        run(&mut sh(r#"! test -e "$1""#));
        let _fifo = made();
        assert_eq!(
            run(&mut sh(r#"test -p "$1"; stat -c '%F %a' "$1""#)),
            "fifo 600"
        );
        assert!(!sh(r#"mkfifo "$1" 2>/dev/null"#).status().unwrap().success());
    });
}

#[test]
fn the_shell_writes_and_we_read() {
    isolated!(|| {
        let fifo = made();
        let mut shell = sh(r#"printf 'from the shell' > "$1""#).spawn().unwrap();
        let mut text = String::new();
        let mut reader = fifo.open_reader().unwrap();
        reader.read_to_string(&mut text).unwrap();
        assert_eq!(text, "from the shell");
        assert!(shell.wait().unwrap().success());
    });
}

#[test]
fn we_write_and_the_shell_reads() {
    isolated!(|| {
        let fifo = made();
        let shell = sh(r#"read -r line < "$1"; echo "got $line""#)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut writer = fifo.open_writer_deadline(support::PATIENCE).unwrap();
        writer.write_all(b"from Rust\n").unwrap();
        let output = shell.wait_with_output().unwrap();
        assert_eq!(output.stdout, b"got from Rust\n");
    });
}

#[test]
fn cat_copies_through_two_fifos() {
    isolated!(|| {
        let there = made();
        let back = OpenOptions::new()
            .create_new(true)
            .unlink_on_drop(true)
            .open("/dev/shm/back")
            .unwrap();
        let mut cat = sh(r#"exec cat < "$1" > /dev/shm/back"#).spawn().unwrap();
        let mut writer = there.open_writer().unwrap();
        let mut reader = back.open_reader_deadline(support::PATIENCE).unwrap();
        let sent: Vec<u8> = (0..200_000_u32).map(|i| (i % 251) as u8).collect();
        let received = std::thread::scope(|scope| {
            scope.spawn(|| {
                writer.write_all(&sent).unwrap();
                drop(writer);
            });
            let mut received = Vec::new();
            reader.read_to_end(&mut received).unwrap();
            received
        });
        assert!(received == sent);
        assert!(cat.wait().unwrap().success());
    });
}

#[test]
fn a_pipeline_of_the_shell_runs_between_our_pipes() {
    isolated!(|| {
        let (from_us, mut to_them) = PipeOptions::new().open().unwrap();
        let (mut from_them, to_us) = PipeOptions::new().open().unwrap();
        let mut shell = sh("sort -r | tr a-z A-Z | head -n 2")
            .stdin(from_us)
            .stdout(to_us)
            .spawn()
            .unwrap();
        to_them.write_all(b"pear\napple\nquince\n").unwrap();
        drop(to_them);
        let mut text = String::new();
        from_them.read_to_string(&mut text).unwrap();
        assert_eq!(text, "QUINCE\nPEAR\n");
        assert!(shell.wait().unwrap().success());
    });
}

#[test]
fn a_child_does_not_inherit_what_it_was_not_given() {
    isolated!(|| {
        let fifo = made();
        let both = fifo.open_both().unwrap();
        let (reader, writer) = PipeOptions::new().open().unwrap();
        for fd in [both.as_fd(), reader.as_fd(), writer.as_fd()] {
            let number = std::os::fd::AsRawFd::as_raw_fd(&fd);
            run(&mut sh(&format!("! test -e /proc/self/fd/{number}")));
        }
    });
}

#[test]
fn a_fifo_is_a_child_standard_stream() {
    isolated!(|| {
        let fifo = made();
        let keep = fifo.open_both().unwrap();
        let mut cat = Command::new("cat")
            .stdin(fifo.try_open_reader().unwrap())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut writer = fifo.try_open_writer().unwrap();
        writer.write_all(b"through a FIFO").unwrap();
        drop((writer, keep));
        let mut text = String::new();
        cat.stdout
            .take()
            .unwrap()
            .read_to_string(&mut text)
            .unwrap();
        assert_eq!(text, "through a FIFO");
        assert!(cat.wait().unwrap().success());
    });
}
