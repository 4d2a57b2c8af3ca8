//! The locked shared variable between processes, some of which are killed.

mod support;

use std::fs::{self, File};
use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::AsFd;
use std::path::Path;
use std::time::Duration;

use linipc::error::errno;
use linipc::lock::{Guard, Kind, Range};
use linipc::shared::{Mismatch, OpenOptions, Plain, Shared};
use linipc_core::Errno;
use linipc_core::map::{Access, Region};
use linipc_core::shared::variable::Variable;
use support::{peer, until_asleep};

const PATH: &str = "/dev/shm/variable";
const SOON: Duration = Duration::from_millis(5);

/// A variable that the test's namespace has no other of.
fn make<T: Plain>(initial: T) -> Shared<T> {
    OpenOptions::new()
        .create_new(initial)
        .unlink_on_drop(true)
        .open(PATH)
        .unwrap()
}

fn map<T: Plain>() -> Region {
    let file = File::options().read(true).write(true).open(PATH).unwrap();
    Region::shared(file, 0, Variable::<T>::LEN, Access::READ | Access::WRITE).unwrap()
}

fn duplicate(fd: impl AsFd) -> File {
    File::from(fd.as_fd().try_clone_to_owned().unwrap())
}

fn mismatch<T>(opened: io::Result<Shared<T>>) -> Mismatch {
    let error = opened.err().expect("it was opened");
    assert_eq!(error.kind(), ErrorKind::InvalidData);
    *error.get_ref().unwrap().downcast_ref().unwrap()
}

#[test]
fn every_process_sees_the_last_value() {
    isolated!(|| {
        let mut here = make([1_u32, 2, 3]);
        peer(|| {
            let mut there: Shared<[u32; 3]> = Shared::open(PATH).unwrap();
            assert_eq!(there.get().unwrap(), [1, 2, 3]);
            there.set([4, 5, 6]).unwrap();
            assert_eq!(there.update(|value| value[1] * 2).unwrap(), 10);
            there.update(|value| value[0] = 7).unwrap();
        })
        .join();
        assert_eq!(here.get().unwrap(), [7, 5, 6]);
        assert_eq!(here.try_get().unwrap(), [7, 5, 6]);
        assert_eq!(here.get_deadline(SOON).unwrap(), [7, 5, 6]);
        here.try_set([0; 3]).unwrap();
        here.set_deadline([1; 3], SOON).unwrap();
        here.try_update(|value| value[0] += 1).unwrap();
        here.update_deadline(SOON, |value| value[0] += 1).unwrap();
        assert_eq!(here.get().unwrap(), [3, 1, 1]);
    });
}

#[test]
fn plain_data_of_any_shape_fits() {
    #[derive(Debug, Clone, Copy, PartialEq)]
    #[repr(C)]
    struct Position {
        at: [f64; 3],
        name: [u8; 5],
        flags: [u8; 3],
    }
    // SAFETY: `repr(C)`, plain fields, 24 + 5 + 3 bytes without padding.
    unsafe impl Plain for Position {}
    let position = Position {
        at: [0.5, -1.0, f64::MAX],
        name: *b"saucy",
        flags: [0, 1, 255],
    };

    let mut variable = Shared::anonymous(position).unwrap();
    assert_eq!(variable.get().unwrap(), position);
    let mut largest = Shared::anonymous([u8::MAX; 100_000]).unwrap();
    largest.update(|bytes| bytes[99_999] = 1).unwrap();
    let bytes = largest.get().unwrap();
    assert!(bytes[..99_999].iter().all(|byte| *byte == u8::MAX) && bytes[99_999] == 1);
    let mut nothing = Shared::anonymous([0_u8; 0]).unwrap();
    nothing.set([]).unwrap();
    assert_eq!(nothing.get().unwrap(), [0_u8; 0]);
}

#[test]
fn no_update_is_lost() {
    isolated!(|| {
        let mut counter = make(0_u64);
        let peers: Vec<_> = (0..3)
            .map(|_| {
                peer(|| {
                    let mut counter: Shared<u64> = Shared::open(PATH).unwrap();
                    for _ in 0..1000 {
                        counter.update(|count| *count += 1).unwrap();
                    }
                })
            })
            .collect();
        for _ in 0..1000 {
            counter.update(|count| *count += 1).unwrap();
        }
        peers.into_iter().for_each(support::Peer::join);
        assert_eq!(counter.get().unwrap(), 4000);
    });
}

#[test]
fn threads_exclude_each_other_with_handles_of_their_own() {
    let mut counter = Shared::anonymous(0_u64).unwrap();
    std::thread::scope(|scope| {
        for _ in 0..3 {
            let mut counter = counter.try_clone().unwrap();
            scope.spawn(move || {
                for _ in 0..1000 {
                    counter.update(|count| *count += 1).unwrap();
                }
            });
        }
    });
    assert_eq!(counter.get().unwrap(), 3000);
}

#[test]
fn an_inherited_handle_excludes_its_parent() {
    isolated!(|| {
        let mut here = Shared::anonymous(1_u64).unwrap();
        let mut inherited = here.try_clone().unwrap();
        // Both processes use the one description that `inherited` was opened with.
        let (mut ask, mut asked) = io::pipe().map(|(reader, writer)| (writer, reader)).unwrap();
        let (mut done, mut finished) = io::pipe().map(|(reader, writer)| (writer, reader)).unwrap();
        let child = peer(|| {
            asked.read_exact(&mut [0]).unwrap();
            let error = inherited.try_get().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::WouldBlock);
            let error = inherited.set_deadline(3, SOON).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::TimedOut);
            done.write_all(b"!").unwrap();
            inherited.update(|value| *value += 10).unwrap();
        });
        drop(done);
        inherited
            .update(|value| {
                ask.write_all(b"!").unwrap();
                finished.read_exact(&mut [0]).expect("the child failed");
                *value = 2;
            })
            .unwrap();
        child.join();
        assert_eq!(here.get().unwrap(), 12);
    });
}

#[test]
fn a_descriptor_leads_to_the_variable() {
    isolated!(|| {
        let mut here = Shared::anonymous(5_i64).unwrap();
        peer(|| {
            // The descriptor is the parent's own, as if it had come through a socket.
            let mut there: Shared<i64> = Shared::open_fd(&here).unwrap();
            there.update(|value| *value = -*value).unwrap();
            let mut third = OpenOptions::new().create(0_i64).open_fd(&there).unwrap();
            assert_eq!(third.get().unwrap(), -5, "create leaves what is there");
            let _guard = Guard::try_lock(&here, Range::ALL, Kind::Exclusive).unwrap();
            assert_eq!(there.try_get().unwrap_err().kind(), ErrorKind::WouldBlock);
        })
        .join();
        assert_eq!(here.get().unwrap(), -5);
        let refused = OpenOptions::new().create_new(0_i64).open_fd(&here);
        assert_eq!(errno(&refused.unwrap_err()), Some(Errno::EXIST));
        let truncated = duplicate(&here).set_len(0).unwrap_err();
        assert_eq!(errno(&truncated), Some(Errno::PERM));
        let (reader, _writer) = io::pipe().unwrap();
        Shared::<i64>::open_fd(&reader).unwrap_err();
    });
}

#[test]
fn readers_go_together_and_writers_alone() {
    isolated!(|| {
        let mut variable = make(1_u8);
        let other = File::options().read(true).write(true).open(PATH).unwrap();
        let guard = Guard::lock(other, Range::ALL, Kind::Shared).unwrap();
        peer(|| {
            let mut variable: Shared<u8> = Shared::open(PATH).unwrap();
            assert_eq!(variable.try_get().unwrap(), 1);
            let refused = variable.try_set(2).unwrap_err();
            assert_eq!(refused.kind(), ErrorKind::WouldBlock);
            let refused = variable.try_update(|value| *value = 2).unwrap_err();
            assert_eq!(refused.kind(), ErrorKind::WouldBlock);
            let refused = variable.update_deadline(SOON, |value| *value = 2);
            assert_eq!(refused.unwrap_err().kind(), ErrorKind::TimedOut);
        })
        .join();
        let guard = guard.try_convert(Kind::Exclusive).unwrap();
        assert_eq!(
            variable.try_get().unwrap_err().kind(),
            ErrorKind::WouldBlock
        );
        let refused = variable.get_deadline(SOON).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::TimedOut);
        let writer = peer(|| {
            let file = guard.try_clone().unwrap();
            let mut variable: Shared<u8> = OpenOptions::new().open(PATH).unwrap();
            drop(file);
            variable.set(9).unwrap();
        });
        until_asleep(writer.pid());
        drop(guard);
        writer.join();
        assert_eq!(variable.get().unwrap(), 9);
    });
}

#[test]
fn a_waiter_sleeps_until_another_writes() {
    isolated!(|| {
        let mut here = make(0_u32);
        here.set(1).unwrap();
        assert!(!here.has_changed().unwrap(), "one's own write is no news");
        let waiter = peer(|| {
            let mut there: Shared<u32> = Shared::open(PATH).unwrap();
            assert_eq!(there.wait().unwrap(), 2);
            assert!(!there.has_changed().unwrap());
            let late = there.wait_deadline(SOON).unwrap_err();
            assert_eq!(late.kind(), ErrorKind::TimedOut);
        });
        until_asleep(waiter.pid());
        here.set(2).unwrap();
        waiter.join();
        let mut other = here.try_clone().unwrap();
        other.set(3).unwrap();
        other.set(4).unwrap();
        assert!(here.has_changed().unwrap());
        assert_eq!(here.wait_deadline(Duration::ZERO).unwrap(), 4);
        assert!(!here.has_changed().unwrap());
    });
}

#[test]
fn a_write_without_a_wake_is_noticed() {
    isolated!(|| {
        let _here = make(0_u32);
        let waiter = peer(|| {
            let mut there: Shared<u32> = Shared::open(PATH).unwrap();
            assert_eq!(there.wait().unwrap(), 1);
        });
        until_asleep(waiter.pid());
        let region = map::<u32>();
        Variable::<u32>::new(region.bytes())
            .unwrap()
            .write(1)
            .unwrap();
        waiter.join();
    });
}

/// How many numbers the copy that is not current begins with, before it goes on with others.
fn cut_at<const N: usize>(bytes: &[u8]) -> usize {
    let stride = (N * 8).next_multiple_of(64);
    let generation = u32::from_ne_bytes(bytes[12..16].try_into().unwrap());
    let start = 64 + stride * ((generation as usize + 1) % 2);
    let mut numbers = bytes[start..start + N * 8].chunks(8);
    let first = numbers.next().unwrap();
    1 + numbers.take_while(|number| *number == first).count()
}

#[test]
fn a_killed_writer_never_leaves_half_a_value() {
    const N: usize = 4096;
    isolated!(|| {
        let mut here = make([0_u64; N]);
        let region = map::<[u64; N]>();
        let (mut cut, mut rounds, mut last) = (0, 0, 0);
        while cut < 5 {
            rounds += 1;
            assert!(rounds < 12_000, "only {cut} writes were cut by a kill");
            let writer = peer(|| {
                let mut there: Shared<[u64; N]> = Shared::open(PATH).unwrap();
                let start = there.get().unwrap()[0];
                for number in start + 1.. {
                    there.set([number; N]).unwrap();
                }
            });
            here.wait_deadline(support::PATIENCE).unwrap();
            // Some moment or other of the next write.
            for _ in 0..rounds * 7919 % 20_000 {
                std::hint::spin_loop();
            }
            writer.kill();
            let value = here.get_deadline(support::PATIENCE).unwrap();
            assert!(value.iter().all(|number| *number == value[0]), "torn");
            assert!(value[0] > last, "a write that was seen is gone");
            last = value[0];
            let mut bytes = vec![0; region.len()];
            region.bytes().read(0, &mut bytes).unwrap();
            cut += usize::from(cut_at::<N>(&bytes) < N);
        }
    });
}

#[test]
fn a_writer_that_is_killed_in_its_update_leaves_the_old_value() {
    isolated!(|| {
        let mut here = make([1_u64; 100]);
        let (mut reader, mut writer) = io::pipe().unwrap();
        let updater = peer(|| {
            let mut there: Shared<[u64; 100]> = Shared::open(PATH).unwrap();
            there
                .update(|value| {
                    value.fill(2);
                    writer.write_all(b"!").unwrap();
                    loop {
                        std::thread::park();
                    }
                })
                .unwrap()
        });
        reader.read_exact(&mut [0]).unwrap();
        assert_eq!(here.try_get().unwrap_err().kind(), ErrorKind::WouldBlock);
        updater.kill();
        assert_eq!(here.try_get().unwrap(), [1; 100]);
    });
}

#[test]
fn a_panic_in_an_update_changes_nothing() {
    let mut variable = Shared::anonymous(1_u8).unwrap();
    let mut other = variable.try_clone().unwrap();
    let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        variable.update(|value| {
            *value = 2;
            panic!("on purpose");
        })
    }));
    assert!(result.is_err());
    assert_eq!(other.try_get().unwrap(), 1);
    other.try_set(3).unwrap();
    assert_eq!(variable.get().unwrap(), 3);
}

#[test]
fn the_layout_is_the_documented_one() {
    isolated!(|| {
        let mut variable = make([1_u32; 20]);
        let file = || fs::read(PATH).unwrap();
        let number =
            |bytes: &[u8], at: usize| u32::from_ne_bytes(bytes[at..at + 4].try_into().unwrap());
        let bytes = file();
        assert_eq!((bytes.len(), Variable::<[u32; 20]>::LEN), (320, 320));
        assert_eq!(&bytes[..8], b"linipc=v");
        assert_eq!(bytes[8..12], 1_u32.to_ne_bytes());
        assert_eq!(bytes[16..24], 80_u64.to_ne_bytes());
        assert!(bytes[24..64].iter().all(|byte| *byte == 0));
        for generation in 1..=3 {
            variable.set([generation * 10; 20]).unwrap();
            let bytes = file();
            assert_eq!(number(&bytes, 12), generation);
            let (current, other) = match generation % 2 {
                0 => (64, 192),
                _ => (192, 64),
            };
            assert_eq!(number(&bytes, current), generation * 10);
            assert_eq!(number(&bytes, current + 76), generation * 10);
            assert_ne!(number(&bytes, other), generation * 10);
        }
    });
}

#[test]
fn create_finds_makes_or_refuses() {
    isolated!(|| {
        let missing = Shared::<u32>::open(PATH).unwrap_err();
        assert_eq!(missing.kind(), ErrorKind::NotFound);
        let mut options = OpenOptions::new();
        let mut made = options.create(5_u32).open(PATH).unwrap();
        made.set(6).unwrap();
        let mut found = options.open(PATH).unwrap();
        assert_eq!(found.get().unwrap(), 6);
        let refused = options.create_new(7).open(PATH).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::AlreadyExists);
        let mode = std::os::unix::fs::MetadataExt::mode(&fs::metadata(PATH).unwrap());
        assert_eq!(mode & 0o777, 0o600);
        fs::remove_file(PATH).unwrap();
        options.create_new(8).mode(0o400).open(PATH).unwrap();
        let mode = std::os::unix::fs::MetadataExt::mode(&fs::metadata(PATH).unwrap());
        assert_eq!(mode & 0o777, 0o400);
        fs::remove_file(PATH).unwrap();
    });
}

#[test]
fn all_who_create_at_once_get_the_same_variable() {
    isolated!(|| {
        for _ in 0..30 {
            let peers: Vec<_> = (0..3)
                .map(|_| {
                    peer(|| {
                        let mut counter = OpenOptions::new().create(100_u64).open(PATH).unwrap();
                        counter.update(|count| *count += 1).unwrap();
                    })
                })
                .collect();
            peers.into_iter().for_each(support::Peer::join);
            let mut counter: Shared<u64> = Shared::open(PATH).unwrap();
            assert_eq!(counter.get().unwrap(), 103);
            fs::remove_file(PATH).unwrap();
        }
    });
}

#[test]
fn what_is_no_such_variable_is_refused_and_left_alone() {
    isolated!(|| {
        fn create<T: Plain>(initial: T) -> io::Result<Shared<T>> {
            OpenOptions::new().create(initial).open(PATH)
        }
        let variable = make([1_u64; 100]);
        assert_eq!(mismatch(Shared::<u64>::open(PATH)), Mismatch::Size(800));
        assert_eq!(mismatch(create([0_u64; 101])), Mismatch::Size(800));
        assert_eq!(mismatch(create([0_u64; 9000])), Mismatch::Size(800));

        let version = fs::read(PATH).unwrap();
        let mut newer = version.clone();
        newer[8..12].copy_from_slice(&2_u32.to_ne_bytes());
        fs::write(PATH, &newer).unwrap();
        assert_eq!(mismatch(create([0_u64; 100])), Mismatch::Version(2));
        drop(variable);

        for text in [&b"x"[..], &[b'x'; 70], &[b'x'; 4000]] {
            fs::write(PATH, text).unwrap();
            assert_eq!(mismatch(create(1_u64)), Mismatch::Foreign);
            assert_eq!(mismatch(create([0_u64; 1000])), Mismatch::Foreign);
            assert_eq!(fs::read(PATH).unwrap(), text);
        }
        fs::write(PATH, b"").unwrap();
        assert_eq!(mismatch(Shared::<u64>::open(PATH)), Mismatch::Blank);
        assert_eq!(fs::read(PATH).unwrap(), b"");
        assert_eq!(create(1_u64).unwrap().get().unwrap(), 1);
        fs::remove_file(PATH).unwrap();
        assert!(Mismatch::Foreign.to_string().starts_with("not a shared"));
    });
}

#[test]
fn a_maker_that_was_killed_is_followed_by_another() {
    isolated!(|| {
        make(7_u64).persist();
        let whole = fs::read(PATH).unwrap();
        fs::remove_file(PATH).unwrap();
        let zeros = |len: usize| vec![0; len];
        let mut without_magic = whole.clone();
        without_magic[..8].fill(0);
        let mut half = without_magic.clone();
        half[17..].fill(0);
        for left in [zeros(0), zeros(10), zeros(whole.len()), half, without_magic] {
            fs::write(PATH, &left).unwrap();
            assert_eq!(mismatch(Shared::<u64>::open(PATH)), Mismatch::Blank);
            let mut made = OpenOptions::new().create(8_u64).open(PATH).unwrap();
            assert_eq!(made.get().unwrap(), 8);
            fs::remove_file(PATH).unwrap();
        }
    });
}

#[test]
fn a_full_file_system_is_an_error_at_creation() {
    isolated!(|| {
        use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
        let small = Some(c"size=64k");
        mount("tmpfs", "/dev/shm", "tmpfs", MountFlags::empty(), small).unwrap();
        let error = OpenOptions::new()
            .create_new([0_u8; 100_000])
            .unlink_on_drop(true)
            .open(PATH)
            .unwrap_err();
        assert_eq!(errno(&error), Some(Errno::NOSPC));
        assert!(!Path::new(PATH).exists());
        unmount("/dev/shm", UnmountFlags::DETACH).unwrap();
    });
}

#[test]
fn a_handle_unlinks_its_file_or_lets_it_live() {
    isolated!(|| {
        let exists = || Path::new(PATH).exists();
        let variable = make(1_u8);
        peer(|| drop(variable.try_clone().unwrap())).join();
        assert!(exists(), "a clone unlinks nothing");
        let variable = std::cell::RefCell::new(Some(variable));
        peer(|| drop(variable.take())).join();
        assert!(exists(), "an inherited handle unlinks nothing");
        peer(|| {
            let mut inherited = variable.take().unwrap();
            assert_eq!(inherited.get().unwrap(), 1);
            drop(inherited);
        })
        .join();
        assert!(exists(), "nor when it was used");
        drop(variable);
        assert!(!exists());

        make(1_u8).persist();
        drop(Shared::<u8>::open(PATH).unwrap());
        drop(OpenOptions::new().create(1_u8).open(PATH).unwrap());
        assert!(exists());
        fs::remove_file(PATH).unwrap();
    });
}

#[test]
fn core_refuses_too_little_or_unaligned_memory() {
    let access = Access::READ | Access::WRITE;
    let region = Region::anonymous(4096, access).unwrap();
    let new = |from, len| {
        let bytes = region.bytes().slice(from, len).unwrap();
        Variable::<[u64; 10]>::new(bytes).err()
    };
    assert_eq!(Variable::<[u64; 10]>::LEN, 64 + 2 * 128);
    assert_eq!(new(0, 320), None);
    assert_eq!(new(0, 319), Some(Errno::FAULT));
    assert_eq!(new(4, 320), Some(Errno::INVAL));
    let read_only = Region::anonymous(4096, Access::READ).unwrap();
    let refused = Variable::<u8>::new(read_only.bytes()).err();
    assert_eq!(refused, Some(Errno::FAULT));
}
