//! Pipes between two processes.

mod support;

use std::io::{Read, Write};

use linipc::pipe::{PipeExt, PipeOptions, splice, tee};
use linipc_core::{Errno, io, pipe};
use support::{peer, until_asleep};

#[test]
fn bytes_go_one_way_and_end_with_the_last_writer() {
    isolated!(|| {
        let (mut reader, mut writer) = PipeOptions::new().open().unwrap();
        let child = peer(|| {
            writer.write_all(b"from another process").unwrap();
        });
        child.join();
        drop(writer);
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        assert_eq!(text, "from another process");
    });
}

#[test]
fn both_ends_are_close_on_exec() {
    for (reader, writer) in [pipe::pipe().unwrap(), pipe::packet_pipe().unwrap()] {
        assert!(
            io::fcntl_getfd(&reader)
                .unwrap()
                .contains(io::FdFlags::CLOEXEC)
        );
        assert!(
            io::fcntl_getfd(&writer)
                .unwrap()
                .contains(io::FdFlags::CLOEXEC)
        );
    }
}

#[test]
fn packets_keep_their_borders() {
    isolated!(|| {
        let (reader, writer) = pipe::packet_pipe().unwrap();
        peer(|| {
            io::write(&writer, b"one").unwrap();
            io::write(&writer, b"three").unwrap();
        })
        .join();
        let mut buf = [0; pipe::PIPE_BUF];
        assert_eq!(io::read(&reader, &mut buf), Ok(3));
        let mut short = [0; 2];
        assert_eq!(io::read(&reader, &mut short), Ok(2));
        assert_eq!(&short, b"th");
        drop(writer);
        assert_eq!(
            io::read(&reader, &mut buf),
            Ok(0),
            "the rest of a packet is lost"
        );
    });
}

#[test]
fn a_pipe_without_readers_breaks() {
    let (reader, mut writer) = PipeOptions::new().open().unwrap();
    drop(reader);
    assert_eq!(
        writer.write(b"x").unwrap_err().kind(),
        std::io::ErrorKind::BrokenPipe
    );
}

#[test]
fn nonblocking_ends_refuse_to_wait() {
    let (mut reader, mut writer) = PipeOptions::new().nonblocking(true).open().unwrap();
    assert_eq!(
        reader.read(&mut [0]).unwrap_err().kind(),
        std::io::ErrorKind::WouldBlock
    );
    let capacity = writer.capacity().unwrap();
    assert_eq!(writer.write(&vec![1; capacity + 1]).unwrap(), capacity);
    assert_eq!(
        writer.write(&[1]).unwrap_err().kind(),
        std::io::ErrorKind::WouldBlock
    );
    assert_eq!(reader.bytes_waiting().unwrap(), capacity as u64);
    reader.set_nonblocking(false).unwrap();
    assert_eq!(reader.read(&mut [0]).unwrap(), 1);
}

#[test]
fn a_full_pipe_holds_its_writer_until_it_is_read() {
    isolated!(|| {
        let (mut reader, mut writer) = PipeOptions::new().capacity(4096).open().unwrap();
        assert_eq!(reader.capacity().unwrap(), 4096);
        let child = peer(|| writer.write_all(&[9; 8192]).unwrap());
        until_asleep(child.pid());
        let mut all = [0; 8192];
        reader.read_exact(&mut all).unwrap();
        assert_eq!(all, [9; 8192]);
        child.join();
    });
}

#[test]
fn capacity_is_rounded_up_and_bounded() {
    let (reader, mut writer) = PipeOptions::new().open().unwrap();
    assert_eq!(writer.set_capacity(5000).unwrap(), 8192);
    writer.write_all(&[0; 8192]).unwrap();
    let error = reader.set_capacity(4096).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(Errno::BUSY.raw_os_error()));
    let file = std::fs::File::open("/dev/null").unwrap();
    assert!(file.capacity().is_err());
}

#[test]
fn a_limit_of_pipes_is_named() {
    isolated!(|| {
        use linipc::error::Limit;
        // A process without privileges may not exceed the limit.
        peer(|| {
            rustix::thread::set_thread_uid(rustix::process::Uid::from_raw(65534)).ok();
            rustix::thread::set_capabilities(
                None,
                rustix::thread::CapabilitySets {
                    effective: rustix::thread::CapabilitySet::empty(),
                    permitted: rustix::thread::CapabilitySet::empty(),
                    inheritable: rustix::thread::CapabilitySet::empty(),
                },
            )
            .unwrap();
            let error = PipeOptions::new().capacity(1 << 30).open().unwrap_err();
            let limit = error.get_ref().unwrap().downcast_ref::<Limit>().unwrap();
            assert_eq!(limit.setting, "fs.pipe-max-size");
        })
        .join();
    });
}

#[test]
fn splice_and_tee_move_without_a_buffer() {
    isolated!(|| {
        let (first_reader, mut first_writer) = PipeOptions::new().open().unwrap();
        let (mut second_reader, second_writer) = PipeOptions::new().open().unwrap();
        let (mut third_reader, third_writer) = PipeOptions::new().open().unwrap();
        peer(|| first_writer.write_all(b"twice").unwrap()).join();
        assert_eq!(tee(&first_reader, &second_writer, 100).unwrap(), 5);
        assert_eq!(splice(&first_reader, &third_writer, 100).unwrap(), 5);
        drop((second_writer, third_writer));
        for reader in [&mut second_reader, &mut third_reader] {
            let mut text = String::new();
            reader.read_to_string(&mut text).unwrap();
            assert_eq!(text, "twice");
        }
    });
}

#[test]
fn splice_needs_a_pipe() {
    let (a, b) = std::os::unix::net::UnixStream::pair().unwrap();
    let error = splice(&a, &b, 1).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(Errno::INVAL.raw_os_error()));
    let (reader, writer) = pipe::pipe().unwrap();
    let error = tee(&reader, &writer, 1).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(Errno::INVAL.raw_os_error()));
}

#[test]
fn vmsplice_maps_pages_into_the_pipe() {
    let (mut reader, writer) = PipeOptions::new().open().unwrap();
    let page = [5_u8; 4096];
    let slices = [pipe::IoSliceRaw::from_slice(&page)];
    // SAFETY: `page` is not changed until it was read.
    let moved = unsafe { pipe::vmsplice(&writer, &slices, pipe::SpliceFlags::empty()) };
    assert_eq!(moved, Ok(4096));
    let mut copy = [0; 4096];
    reader.read_exact(&mut copy).unwrap();
    assert_eq!(copy, page);
}
