//! System V shared memory between two processes.

mod support;

use std::io::ErrorKind;
use std::ptr::NonNull;

use linipc::error::{Limit, errno};
use linipc::sysv::shm::{OpenOptions, Segment};
use linipc::sysv::{Key, Owner};
use linipc_core::Errno;
use linipc_core::io::{read, write};
use linipc_core::pipe::pipe;
use linipc_core::sysv::shm::{self, Attach, Memory, Pages};
use linipc_core::sysv::{Create, Mode, Visibility};
use support::{drop_capabilities, eventually, peer};

const KEY: Key = Key::new(0x6c69_6e69);
const PAGE: usize = 4096;

fn rw() -> Mode {
    Mode::RUSR | Mode::WUSR
}

fn new(size: usize) -> shm::Id {
    shm::get(Key::PRIVATE, size, Create::Exclusive(rw()), Memory::USUAL).unwrap()
}

fn attach(id: shm::Id) -> shm::Attachment {
    shm::attach(id, None, Attach::empty()).unwrap()
}

/// The bytes that are mapped at `address`, as `/proc/self/maps` names the file under them.
fn mapped_at(address: usize) -> Option<String> {
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    maps.lines()
        .find(|line| {
            let (range, _) = line.split_once(' ').unwrap();
            let (start, end) = range.split_once('-').unwrap();
            let hex = |text| usize::from_str_radix(text, 16).unwrap();
            (hex(start)..hex(end)).contains(&address)
        })
        .map(str::to_owned)
}

#[test]
fn both_sides_see_what_the_other_writes() {
    isolated!(|| {
        let segment = OpenOptions::new()
            .create_new(true)
            .remove_on_drop(true)
            .open(KEY, 100_000)
            .unwrap();
        let ours = segment.attach().unwrap();
        let data: Vec<u8> = (0..100_000).map(|i| (i % 251) as u8).collect();
        ours.bytes().write(0, &data).unwrap();
        peer(|| {
            let theirs = Segment::open(KEY).unwrap().attach().unwrap();
            let mut copy = vec![0; theirs.len()];
            theirs.bytes().read(0, &mut copy).unwrap();
            assert_eq!(copy, data);
            theirs.bytes().write(99_990, b"from there").unwrap();
        })
        .join();
        let mut answer = [0; 10];
        ours.bytes().read(99_990, &mut answer).unwrap();
        assert_eq!(&answer, b"from there");
    });
}

#[test]
fn an_attachment_is_as_long_as_the_segment() {
    isolated!(|| {
        for size in [1, 17, PAGE, PAGE + 1, 3 << 20] {
            let id = new(size);
            let attachment = attach(id);
            assert_eq!((attachment.len(), attachment.is_empty()), (size, false));
            assert_eq!(attachment.as_ptr() as usize % PAGE, 0);
            let bytes = attachment.bytes();
            let mut last = [9];
            bytes.read(size - 1, &mut last).unwrap();
            assert_eq!(last, [0], "new memory is filled with zeros");
            bytes.write(size - 1, &[1]).unwrap();
            assert_eq!(bytes.write(size, &[1]), Err(Errno::FAULT));
            shm::remove(id).unwrap();
        }
    });
}

#[test]
fn a_read_only_attachment_refuses_to_write() {
    isolated!(|| {
        let segment = Segment::private(PAGE).unwrap();
        segment.attach().unwrap().bytes().write(0, b"kept").unwrap();
        let attachment = segment.attach_read_only().unwrap();
        let bytes = attachment.bytes();
        assert_eq!(bytes.write(0, b"lost"), Err(Errno::FAULT));
        assert_eq!(bytes.atomic_u32(0).unwrap_err(), Errno::FAULT);
        let mut text = [0; 4];
        bytes.read(0, &mut text).unwrap();
        assert_eq!(&text, b"kept");
        let line = mapped_at(attachment.as_ptr() as usize).unwrap();
        assert!(line.contains(" r--s "), "{line}");
    });
}

#[test]
fn an_executable_attachment_needs_the_permission() {
    isolated!(|| {
        let id = new(PAGE);
        let all = Mode::RUSR | Mode::WUSR | Mode::XUSR;
        let executable =
            shm::get(Key::PRIVATE, PAGE, Create::Exclusive(all), Memory::USUAL).unwrap();
        peer(|| {
            drop_capabilities();
            let refused = shm::attach(id, None, Attach::EXEC);
            assert_eq!(refused.unwrap_err(), Errno::ACCESS);
            let flags = Attach::EXEC | Attach::RDONLY;
            let attachment = shm::attach(executable, None, flags).unwrap();
            let line = mapped_at(attachment.as_ptr() as usize).unwrap();
            assert!(line.contains(" r-xs "), "{line}");
        })
        .join();
        shm::remove(id).unwrap();
        shm::remove(executable).unwrap();
    });
}

#[test]
fn a_free_address_is_taken_and_a_used_one_refused() {
    isolated!(|| {
        let id = new(PAGE);
        let start = NonNull::new(attach(id).as_ptr()).unwrap();
        let between = start.map_addr(|address| address.checked_add(5).unwrap());
        let at = |address, flags| shm::attach(id, Some(address), flags);

        assert_eq!(at(between, Attach::empty()).unwrap_err(), Errno::INVAL);
        let rounded = at(between, Attach::RND).unwrap();
        assert_eq!(rounded.as_ptr(), start.as_ptr());
        rounded.bytes().write(0, b"mine").unwrap();

        // Something is there now, and stays, whatever bits are in the flags.
        let remap = Attach::from_bits_retain(0o40000);
        for flags in [Attach::empty(), Attach::RND, Attach::RDONLY, remap] {
            assert_eq!(at(start, flags).unwrap_err(), Errno::INVAL);
        }
        let mut text = [0; 4];
        rounded.bytes().read(0, &mut text).unwrap();
        assert_eq!(&text, b"mine");
        drop(rounded);
        drop(at(start, Attach::RDONLY).unwrap());
        assert_eq!(shm::stat(id).unwrap().attachments, 0);
        shm::remove(id).unwrap();
    });
}

#[test]
fn address_0_is_never_an_attachment() {
    isolated!(|| {
        let id = new(PAGE);
        let low = NonNull::<u8>::without_provenance(std::num::NonZero::new(1).unwrap());
        let error = shm::attach(id, Some(low), Attach::RND).unwrap_err();
        assert_eq!(error, Errno::INVAL);
        assert_eq!(shm::stat(id).unwrap().attachments, 0);
        assert_eq!(mapped_at(0), None);
        shm::remove(id).unwrap();
    });
}

#[test]
fn attaching_over_a_mapping_replaces_it() {
    isolated!(|| {
        let (first, second) = (new(PAGE), new(PAGE));
        attach(second).bytes().write(0, b"second").unwrap();
        let below = std::mem::ManuallyDrop::new(attach(first));
        let start = NonNull::new(below.as_ptr()).unwrap();
        // SAFETY: `below` is not used or dropped any more.
        let above = unsafe { shm::attach_over(second, start, Attach::empty()) }.unwrap();
        assert_eq!(above.as_ptr(), start.as_ptr());
        let mut text = [0; 6];
        above.bytes().read(0, &mut text).unwrap();
        assert_eq!(&text, b"second");
        assert_eq!(shm::stat(first).unwrap().attachments, 0);
        shm::remove(first).unwrap();
        shm::remove(second).unwrap();
    });
}

#[test]
fn what_is_written_at_a_chosen_address_another_process_reads() {
    isolated!(|| {
        let (first, second) = (
            Segment::private(PAGE).unwrap(),
            Segment::private(PAGE).unwrap(),
        );
        // Where there is room, and a segment may be: SHMLBA is four pages on arm, else one.
        let room = Segment::private(8 * PAGE).unwrap().attach().unwrap();
        let start = room.as_ptr().map_addr(|at| at.next_multiple_of(4 * PAGE));
        let start = NonNull::new(start).unwrap();
        drop(room);
        let within = start.map_addr(|address| address.checked_add(5).unwrap());
        let refused = first.attach_with(Some(within), Attach::empty());
        assert_eq!(
            refused.unwrap_err().raw_os_error(),
            Some(Errno::INVAL.raw_os_error())
        );
        let below = first.attach_with(Some(within), Attach::RND).unwrap();
        assert_eq!(below.as_ptr(), start.as_ptr());
        below.bytes().write(0, b"first").unwrap();

        let _below = std::mem::ManuallyDrop::new(below);
        // SAFETY: `_below` is not used or dropped any more.
        let above = unsafe { second.attach_over(within, Attach::RND) }.unwrap();
        assert_eq!(above.as_ptr(), start.as_ptr());
        above.bytes().write(0, b"other").unwrap();

        let ids = [first.id(), second.id()];
        peer(|| {
            // Inherited, and at the same address; what others attached is elsewhere.
            let mut text = [0; 5];
            above.bytes().read(0, &mut text).unwrap();
            assert_eq!(&text, b"other");
            for (id, expected) in ids.into_iter().zip([b"first", b"other"]) {
                let attachment = Segment::from_id(id).attach().unwrap();
                assert_ne!(attachment.as_ptr(), start.as_ptr());
                attachment.bytes().read(0, &mut text).unwrap();
                assert_eq!(&text, expected);
                attachment.bytes().write(0, b"reply").unwrap();
            }
        })
        .join();
        let mut text = [0; 5];
        above.bytes().read(0, &mut text).unwrap();
        assert_eq!(&text, b"reply");
        assert_eq!(first.stat().unwrap().attachments, 0, "it was replaced");
    });
}

#[test]
fn a_removed_segment_lives_until_the_last_detaches() {
    isolated!(|| {
        let id = shm::get(KEY, PAGE, Create::Exclusive(rw()), Memory::USUAL).unwrap();
        let (in_reader, out_writer) = pipe().unwrap();
        let (go_reader, go_writer) = pipe().unwrap();
        let other = peer(|| {
            let _attachment = attach(id);
            write(&out_writer, b"attached").unwrap();
            read(&go_reader, &mut [0]).unwrap();
        });
        read(&in_reader, &mut [0; 8]).unwrap();
        assert!(!shm::stat(id).unwrap().removed);
        shm::remove(id).unwrap();

        let stat = shm::stat(id).unwrap();
        assert_eq!((stat.removed, stat.attachments), (true, 1));
        assert_eq!(stat.permissions.key, Key::PRIVATE);
        assert_eq!(stat.permissions.mode, rw(), "the flag is not a permission");
        let none = shm::get(KEY, 0, Create::No, Memory::USUAL);
        assert_eq!(none, Err(Errno::NOENT), "the key is free");
        let late = attach(id);
        assert_eq!(late.len(), PAGE);
        drop(late);

        write(&go_writer, b"x").unwrap();
        other.join();
        assert_eq!(shm::stat(id), Err(Errno::INVAL));
        let gone = shm::attach(id, None, Attach::empty()).unwrap_err();
        assert_eq!(gone, Errno::INVAL);
    });
}

#[test]
fn death_detaches() {
    isolated!(|| {
        let id = new(PAGE);
        let ours = attach(id);
        let child = peer(|| {
            let _second = attach(id);
            std::thread::sleep(support::PATIENCE);
        });
        eventually("inherited one and attached one", || {
            shm::stat(id).unwrap().attachments == 3
        });
        child.kill();
        assert_eq!(shm::stat(id).unwrap().attachments, 1);
        shm::remove(id).unwrap();
        drop(ours);
        assert_eq!(shm::stat(id), Err(Errno::INVAL));
    });
}

#[test]
fn create_finds_makes_or_refuses() {
    isolated!(|| {
        let get = |size, create| shm::get(KEY, size, create, Memory::USUAL);
        assert_eq!(get(0, Create::No), Err(Errno::NOENT));
        assert_eq!(get(0, Create::Open(rw())), Err(Errno::INVAL));
        let made = get(100, Create::Open(rw())).unwrap();
        assert_eq!(get(0, Create::No), Ok(made));
        assert_eq!(get(100, Create::Open(rw())), Ok(made));
        assert_eq!(get(101, Create::No), Err(Errno::INVAL));
        assert_eq!(get(100, Create::Exclusive(rw())), Err(Errno::EXIST));
        shm::remove(made).unwrap();
        assert_eq!(shm::remove(made), Err(Errno::INVAL));
        assert_eq!(shm::remove(shm::Id::new(-1)), Err(Errno::INVAL));
    });
}

#[test]
fn permissions_are_checked() {
    isolated!(|| {
        let make =
            |mode| shm::get(Key::PRIVATE, PAGE, Create::Exclusive(mode), Memory::USUAL).unwrap();
        let (readable, closed) = (make(Mode::RUSR), make(Mode::empty()));
        let keyed = shm::get(KEY, PAGE, Create::Exclusive(Mode::RUSR), Memory::USUAL).unwrap();
        peer(|| {
            drop_capabilities();
            let error = shm::attach(readable, None, Attach::empty()).unwrap_err();
            assert_eq!(error, Errno::ACCESS);
            let attachment = shm::attach(readable, None, Attach::RDONLY).unwrap();
            assert_eq!(attachment.len(), PAGE);
            let error = shm::attach(closed, None, Attach::RDONLY).unwrap_err();
            assert_eq!(error, Errno::ACCESS);
            assert_eq!(shm::stat(closed), Err(Errno::ACCESS));
            let again = shm::get(KEY, 0, Create::Open(rw()), Memory::USUAL);
            assert_eq!(again, Err(Errno::ACCESS));
            let granting = |mode| shm::get(KEY, 0, Create::Granting(mode), Memory::USUAL);
            assert_eq!(granting(rw()), Err(Errno::ACCESS));
            assert_eq!(granting(Mode::RUSR), Ok(keyed));
            assert_eq!(shm::get(KEY, 0, Create::No, Memory::USUAL), Ok(keyed));
            let private = shm::get(Key::PRIVATE, 0, Create::Granting(rw()), Memory::USUAL);
            assert_eq!(private, Err(Errno::NOENT));

            // Enumeration shows what may be read, or everything.
            let all = 0..=shm::usage().unwrap().highest_index;
            let closed_by = |visibility| {
                all.clone()
                    .filter_map(move |index| match shm::stat_index(index, visibility) {
                        Err(Errno::ACCESS) => Some(None),
                        found => found.ok().map(Some),
                    })
                    .collect::<Vec<_>>()
            };
            let readable: Vec<_> = closed_by(Visibility::Readable);
            assert_eq!(readable.iter().filter(|found| found.is_none()).count(), 1);
            assert!(closed_by(Visibility::Any).iter().all(Option::is_some));
        })
        .join();
        for id in [readable, closed, keyed] {
            shm::remove(id).unwrap();
        }
    });
}

#[test]
fn stat_tells_who_did_what() {
    isolated!(|| {
        let id = new(5000);
        let before = shm::stat(id).unwrap();
        assert_eq!((before.size, before.attachments), (5000, 0));
        assert_eq!((before.last_attach, before.last_detach), (None, None));
        assert_eq!(before.creator, std::process::id() as i32);
        assert_eq!(before.last_user, 0);
        let changed = before.last_change.unwrap();
        assert!(
            (1_700_000_000..10_000_000_000).contains(&changed),
            "{changed}"
        );
        let user = peer(|| drop(attach(id)));
        let user_pid = user.pid();
        user.join();
        let after = shm::stat(id).unwrap();
        assert_eq!((after.last_user, after.attachments), (user_pid, 0));
        assert!(after.last_attach.unwrap() >= changed);
        assert!(after.last_detach >= after.last_attach);
        shm::remove(id).unwrap();
    });
}

#[test]
fn set_changes_the_mode() {
    isolated!(|| {
        let segment = Segment::private(PAGE).unwrap();
        let owner = Owner {
            mode: Mode::RUSR | Mode::ROTH,
            ..segment.stat().unwrap().permissions.into()
        };
        segment.set(owner).unwrap();
        let permissions = segment.stat().unwrap().permissions;
        assert_eq!(permissions.mode, Mode::RUSR | Mode::ROTH);
        assert_eq!(permissions.uid, owner.uid);
        let nobody = Owner {
            uid: u32::MAX,
            ..owner
        };
        assert_eq!(shm::set(segment.id(), nobody), Err(Errno::INVAL));
    });
}

#[test]
fn another_user_may_neither_set_nor_remove_nor_lock() {
    isolated!(|| {
        let id = shm::get(
            Key::PRIVATE,
            PAGE,
            Create::Exclusive(rw() | Mode::RGRP),
            Memory::USUAL,
        )
        .unwrap();
        let stranger = peer(|| {
            let nobody = rustix::process::Uid::from_raw(65534);
            if rustix::thread::set_thread_uid(nobody).is_err() {
                return support::skip("another user: needs root");
            }
            let owner = shm::stat(id).unwrap().permissions.into();
            assert_eq!(shm::set(id, owner), Err(Errno::PERM));
            assert_eq!(shm::remove(id), Err(Errno::PERM));
            assert_eq!(shm::lock(id), Err(Errno::PERM));
            assert_eq!(shm::unlock(id), Err(Errno::PERM));
        });
        stranger.join();
        shm::remove(id).unwrap();
    });
}

#[test]
fn a_lock_is_seen_and_limited() {
    isolated!(|| {
        let segment = Segment::private(4 * PAGE).unwrap();
        assert!(!segment.stat().unwrap().locked);
        segment.lock().unwrap();
        let stat = segment.stat().unwrap();
        assert_eq!((stat.locked, stat.permissions.mode), (true, rw()));
        segment.unlock().unwrap();
        assert!(!segment.stat().unwrap().locked);

        peer(|| {
            use rustix::process::{Resource, Rlimit, setrlimit};
            drop_capabilities();
            let limit = |bytes| Rlimit {
                current: Some(bytes),
                maximum: Some(bytes),
            };
            setrlimit(Resource::Memlock, limit(PAGE as u64)).unwrap();
            let error = segment.lock().unwrap_err();
            assert_eq!(errno(&error), Some(Errno::NOMEM));
            let named = error.get_ref().unwrap().downcast_ref::<Limit>().unwrap();
            assert_eq!(
                (named.setting, named.value),
                ("RLIMIT_MEMLOCK", PAGE as u64)
            );
            setrlimit(Resource::Memlock, limit(0)).unwrap();
            assert_eq!(
                segment.lock().unwrap_err().kind(),
                ErrorKind::PermissionDenied
            );
        })
        .join();
        assert!(!segment.stat().unwrap().locked);
    });
}

#[test]
fn enumeration_shows_every_segment() {
    isolated!(|| {
        assert_eq!(linipc::sysv::shm::list().unwrap(), []);
        let segments: Vec<Segment> = [1, PAGE, 2 * PAGE]
            .map(|size| Segment::private(size).unwrap())
            .into();
        let touched = segments[2].attach().unwrap();
        touched.bytes().write(0, &[1]).unwrap();
        let mut listed: Vec<_> = linipc::sysv::shm::list().unwrap();
        listed.sort_by_key(|(_, stat)| stat.size);
        let listed: Vec<_> = listed
            .into_iter()
            .map(|(id, stat)| (id, stat.size, stat.attachments))
            .collect();
        assert_eq!(
            listed,
            [
                (segments[0].id(), 1, 0),
                (segments[1].id(), PAGE, 0),
                (segments[2].id(), 2 * PAGE, 1)
            ]
        );
        let usage = shm::usage().unwrap();
        assert_eq!((usage.segments, usage.pages), (3, 4));
        assert_eq!((usage.resident_pages, usage.swapped_pages), (1, 0));
        let next = shm::stat_index(usage.highest_index + 1, Visibility::Any);
        assert_eq!(next, Err(Errno::INVAL));
        let beyond = shm::stat_index(usize::MAX, Visibility::Any);
        assert_eq!(beyond, Err(Errno::INVAL));
    });
}

#[test]
fn limits_are_those_of_sysctl() {
    isolated!(|| {
        std::fs::write("/proc/sys/kernel/shmmax", "1000001").unwrap();
        std::fs::write("/proc/sys/kernel/shmmni", "77").unwrap();
        std::fs::write("/proc/sys/kernel/shmall", "12345").unwrap();
        let limits = shm::limits().unwrap();
        assert_eq!(
            (limits.segment_bytes, limits.segments, limits.pages),
            (1_000_001, 77, 12345)
        );
    });
}

#[test]
fn a_limit_is_named() {
    isolated!(|| {
        let refused = |size| {
            let error = Segment::private(size).unwrap_err();
            let limit = error.get_ref().unwrap().downcast_ref::<Limit>().unwrap();
            (limit.errno, limit.setting, limit.value)
        };
        std::fs::write("/proc/sys/kernel/shmmax", "10000").unwrap();
        assert_eq!(refused(10001), (Errno::INVAL, "kernel.shmmax", 10000));
        let error = Segment::private(0).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(Errno::INVAL.raw_os_error()));

        std::fs::write("/proc/sys/kernel/shmall", "3").unwrap();
        let first = Segment::private(2 * PAGE).unwrap();
        assert_eq!(refused(2 * PAGE), (Errno::NOSPC, "kernel.shmall", 3));
        std::fs::write("/proc/sys/kernel/shmmni", "1").unwrap();
        assert_eq!(refused(PAGE), (Errno::NOSPC, "kernel.shmmni", 1));
        drop(first);
        drop(Segment::private(2 * PAGE).unwrap());
    });
}

#[test]
fn a_segment_larger_than_memory_is_refused_unless_nothing_is_reserved() {
    isolated!(|| {
        let overcommit = std::fs::read_to_string("/proc/sys/vm/overcommit_memory").unwrap();
        if overcommit.trim() != "0" {
            return support::skip("SHM_NORESERVE: vm.overcommit_memory is not 0");
        }
        let Ok(tebibytes) = usize::try_from(1_u64 << 44) else {
            return support::skip("SHM_NORESERVE: no segment is larger than memory here");
        };
        let error = Segment::private(tebibytes).unwrap_err();
        assert_eq!(errno(&error), Some(Errno::NOMEM));
        let segment = OpenOptions::new()
            .create_new(true)
            .no_reserve(true)
            .remove_on_drop(true)
            .open(Key::PRIVATE, tebibytes)
            .unwrap();
        let attachment = segment.attach().unwrap();
        attachment.bytes().write(tebibytes - 1, &[1]).unwrap();
        assert_eq!(shm::usage().unwrap().resident_pages, 1);
    });
}

#[test]
fn a_page_size_that_is_none_is_refused() {
    isolated!(|| {
        for log2 in [0, 1, 13, 63, 64, 85, 255] {
            let memory = Memory {
                pages: Pages::HugeOf { log2 },
                no_reserve: true,
            };
            let create = Create::Exclusive(rw());
            let refused = shm::get(Key::PRIVATE, PAGE, create, memory);
            assert_eq!(refused, Err(Errno::INVAL), "{log2}");
        }
    });
}

#[test]
fn huge_pages_are_made_when_there_are_any() {
    isolated!(|| {
        let size = 5000;
        let create = Create::Exclusive(rw());
        for pages in [Pages::Huge, Pages::HugeOf { log2: 21 }] {
            let memory = |no_reserve| Memory { pages, no_reserve };
            // Unreserved ones need no page before they are touched.
            match shm::get(Key::PRIVATE, size, create, memory(true)) {
                Ok(id) => {
                    let attachment = attach(id);
                    assert_eq!(attachment.len(), size);
                    let page = if cfg!(target_arch = "s390x") {
                        1 << 20
                    } else {
                        1 << 21
                    };
                    assert_eq!(attachment.as_ptr() as usize % page, 0);
                    drop(attachment);
                    assert_eq!(shm::stat(id).unwrap().attachments, 0);
                    shm::remove(id).unwrap();
                }
                Err(error) => {
                    let expected = [Errno::NOENT, Errno::PERM, Errno::INVAL, Errno::NOSYS];
                    assert!(expected.contains(&error), "{error}");
                    support::skip("unreserved huge pages: no permission, or no such pages");
                }
            }
            match shm::get(Key::PRIVATE, size, create, memory(false)) {
                Ok(id) => {
                    attach(id).bytes().write(size - 1, &[1]).unwrap();
                    shm::remove(id).unwrap();
                }
                Err(error) => {
                    let expected = [
                        Errno::NOENT,
                        Errno::NOMEM,
                        Errno::PERM,
                        Errno::INVAL,
                        Errno::NOSYS,
                    ];
                    assert!(expected.contains(&error), "{error}");
                    support::skip("reserved huge pages: none are free (vm.nr_hugepages)");
                }
            }
        }
    });
}

#[test]
fn a_handle_removes_its_segment_or_lets_it_live() {
    isolated!(|| {
        let make = || {
            OpenOptions::new()
                .create_new(true)
                .remove_on_drop(true)
                .open(KEY, PAGE)
                .unwrap()
        };
        let handle = make();
        let attachment = handle.attach().unwrap();
        drop(handle);
        assert!(Segment::open(KEY).is_err());
        attachment.bytes().write(0, b"still here").unwrap();
        drop(attachment);

        let mut handle = make();
        handle.persist();
        let id = handle.id();
        drop(handle);
        drop(Segment::open(KEY).unwrap());
        drop(Segment::from_id(id));
        let mode = Segment::open(KEY).unwrap().stat().unwrap().permissions.mode;
        assert_eq!(mode, rw());
        Segment::from_id(id).remove().unwrap();
        assert_eq!(Segment::open(KEY).unwrap_err().kind(), ErrorKind::NotFound);
    });
}

#[test]
fn what_is_left_attached_is_detached_by_its_address() {
    isolated!(|| {
        let id = new(PAGE);
        let start = attach(id).into_raw();
        assert_eq!(shm::stat(id).unwrap().attachments, 1);
        assert!(mapped_at(start.addr().get()).is_some());
        // SAFETY: It was given up just now, and nothing uses it.
        assert_eq!(unsafe { shm::detach(start) }, Ok(()));
        assert_eq!(shm::stat(id).unwrap().attachments, 0);
        assert!(mapped_at(start.addr().get()).is_none());
        // SAFETY: Nothing is there.
        assert_eq!(unsafe { shm::detach(start) }, Err(Errno::INVAL));
        shm::remove(id).unwrap();
    });
}
