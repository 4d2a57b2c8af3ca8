//! Mappings and shared bytes, between two processes.

mod support;

use std::fs::File;
use std::os::fd::OwnedFd;

use linipc_core::map::{self, Access, Advice, MapFlags, MlockFlags, MsyncFlags, Region};
use linipc_core::posix::{Mode, shm};
use linipc_core::{Errno, memfd};
use support::peer;

const PAGE: usize = 4096;
const RW: Access = Access::READ.union(Access::WRITE);

/// A file in memory without a name, of `len` bytes.
fn file(len: u64) -> OwnedFd {
    let path = format!("/linipc-map-{}", std::process::id());
    let file = shm::create(&*path, Mode::RUSR | Mode::WUSR, |file| {
        shm::resize(file, len)
    })
    .unwrap();
    shm::unlink(&*path).unwrap();
    file
}

fn read<const N: usize>(region: &Region, offset: usize) -> [u8; N] {
    let mut bytes = [0; N];
    region.bytes().read(offset, &mut bytes).unwrap();
    bytes
}

/// How many kilobytes of the mapping at `region` the kernel says of `field`.
fn smaps(region: &Region, field: &str) -> String {
    let start = format!("{:x}-", region.as_ptr() as usize);
    let maps = std::fs::read_to_string("/proc/self/smaps").unwrap();
    let mut lines = maps
        .lines()
        .skip_while(|line| !line.trim_start_matches('0').starts_with(&start));
    let line = lines
        .find(|line| line.starts_with(field))
        .unwrap_or_else(|| panic!("{field} of {start} in {maps}"));
    line[field.len()..].trim().to_owned()
}

#[test]
fn what_one_process_writes_another_reads() {
    isolated!(|| {
        let file = file(3 * PAGE as u64);
        let anonymous = Region::anonymous(10, RW).unwrap();
        let whole = Region::shared(&file, 0, 3 * PAGE, RW).unwrap();
        peer(|| {
            let tail = Region::shared(&file, 2 * PAGE as u64, 100, RW).unwrap();
            tail.bytes().write(90, b"from peer").unwrap();
            anonymous.bytes().write(1, b"inherited").unwrap();
        })
        .join();
        assert_eq!(&read::<9>(&whole, 2 * PAGE + 90), b"from peer");
        assert_eq!(&read::<10>(&anonymous, 0), b"\0inherited");
    });
}

#[test]
fn lengths_and_offsets_are_checked() {
    isolated!(|| {
        let file = file(PAGE as u64);
        let map = |offset, len| Region::shared(&file, offset, len, RW).map(drop);
        assert_eq!(map(0, 0), Err(Errno::INVAL));
        assert_eq!(map(1, 1), Err(Errno::INVAL));
        assert_eq!(map(0, usize::MAX), Err(Errno::NOMEM));
        assert_eq!(Region::anonymous(0, RW).map(drop), Err(Errno::INVAL));
        for flag in [MapFlags::FIXED, MapFlags::FIXED_NOREPLACE] {
            let mapped = Region::shared_with(&file, 0, PAGE, RW, flag);
            assert_eq!(mapped.map(drop), Err(Errno::INVAL));
        }
        let (reader, _writer) = linipc_core::pipe::pipe().unwrap();
        let mapped = Region::shared(&reader, 0, PAGE, Access::READ);
        assert_eq!(mapped.map(drop), Err(Errno::NODEV));
    });
}

#[test]
fn nothing_is_read_or_written_outside() {
    let region = Region::anonymous(100, RW).unwrap();
    assert_eq!((region.len(), region.is_empty()), (100, false));
    let bytes = region.bytes();
    assert_eq!(bytes.write(99, b"x"), Ok(()));
    assert_eq!(bytes.write(100, b""), Ok(()));
    assert_eq!(bytes.write(100, b"x"), Err(Errno::FAULT));
    assert_eq!(bytes.write(101, b""), Err(Errno::FAULT));
    assert_eq!(bytes.write(usize::MAX, b"xx"), Err(Errno::FAULT));
    assert_eq!(bytes.read(99, &mut [0; 2]), Err(Errno::FAULT));
    assert_eq!(bytes.atomic_u32(96).map(drop), Ok(()));
    assert_eq!(bytes.atomic_u32(97).map(drop), Err(Errno::FAULT));
    assert_eq!(bytes.atomic_u32(1).map(drop), Err(Errno::INVAL));
    assert_eq!(bytes.atomic_u64(96).map(drop), Err(Errno::FAULT));
    assert_eq!(bytes.atomic_u64(4).map(drop), Err(Errno::INVAL));

    let part = bytes.slice(50, 50).unwrap();
    assert_eq!(
        (part.len(), part.slice(50, 0).unwrap().is_empty()),
        (50, true)
    );
    assert_eq!(part.write(49, b"x"), Ok(()));
    assert_eq!(part.write(50, b"x"), Err(Errno::FAULT));
    assert_eq!(bytes.slice(51, 50).map(drop), Err(Errno::FAULT));
    assert_eq!(part.slice(1, usize::MAX).map(drop), Err(Errno::FAULT));
}

#[test]
fn copies_of_every_length_and_alignment_are_exact() {
    let region = Region::anonymous(256, RW).unwrap();
    let bytes = region.bytes();
    let pattern: Vec<u8> = (1..=64).collect();
    for offset in 0..16 {
        for len in 0..64 {
            bytes.write(0, &[0; 256]).unwrap();
            bytes.write(offset, &pattern[..len]).unwrap();
            let mut expected = [0; 256];
            expected[offset..offset + len].copy_from_slice(&pattern[..len]);
            assert_eq!(read::<256>(&region, 0), expected);
            let mut copy = vec![0; len];
            bytes.read(offset, &mut copy).unwrap();
            assert_eq!(copy, pattern[..len]);
        }
    }
}

#[test]
fn a_region_to_read_refuses_to_be_written() {
    isolated!(|| {
        let file = file(PAGE as u64);
        let region = Region::shared(&file, 0, PAGE, Access::READ).unwrap();
        assert_eq!(region.bytes().access(), Access::READ);
        assert_eq!(region.bytes().write(0, b"x"), Err(Errno::FAULT));
        assert_eq!(region.bytes().atomic_u32(0).map(drop), Err(Errno::FAULT));
        assert_eq!(read::<1>(&region, 0), [0]);

        let read_only = File::open("/proc/self/exe").unwrap();
        let mapped = Region::shared(&read_only, 0, PAGE, RW);
        assert_eq!(mapped.map(drop), Err(Errno::ACCESS));
        let mut region = Region::shared(&read_only, 0, PAGE, Access::READ).unwrap();
        assert_eq!(region.protect(RW), Err(Errno::ACCESS));
        assert_eq!(region.bytes().access(), Access::READ, "as it was");
        assert_eq!(&read::<4>(&region, 0), b"\x7fELF");
    });
}

#[test]
fn protect_takes_and_gives_back() {
    let mut region = Region::anonymous(PAGE, RW).unwrap();
    region.bytes().write(0, b"x").unwrap();
    region.protect(Access::empty()).unwrap();
    assert_eq!(region.bytes().read(0, &mut [0]), Err(Errno::FAULT));
    region.protect(Access::READ).unwrap();
    assert_eq!(&read::<1>(&region, 0), b"x");
    assert_eq!(region.bytes().write(0, b"y"), Err(Errno::FAULT));
    region.protect(RW).unwrap();
    region.bytes().write(0, b"y").unwrap();
    assert_eq!(&read::<1>(&region, 0), b"y");
}

#[test]
fn advice_is_taken_unless_it_would_change_the_contents() {
    let region = Region::anonymous(4 * PAGE, RW).unwrap();
    region.bytes().write(PAGE, b"x").unwrap();
    let all = 0..region.len();
    for advice in [Advice::Normal, Advice::Random, Advice::LinuxDontDump] {
        region.advise(all.clone(), advice).unwrap();
    }
    assert!(smaps(&region, "VmFlags:").contains("dd"));
    for advice in [
        Advice::LinuxDontFork,
        Advice::LinuxDontNeed,
        Advice::LinuxDontneedLocked,
        Advice::LinuxRemove,
        Advice::LinuxFree,
    ] {
        assert_eq!(region.advise(all.clone(), advice), Err(Errno::INVAL));
    }
    assert_eq!(&read::<1>(&region, PAGE), b"x");
    assert_eq!(region.advise(1..PAGE, Advice::Normal), Err(Errno::INVAL));
    let outside = 0..region.len() + 1;
    assert_eq!(region.advise(outside, Advice::Normal), Err(Errno::FAULT));
    #[allow(clippy::reversed_empty_ranges, reason = "what is tested")]
    let reversed = region.advise(PAGE..0, Advice::Normal);
    assert_eq!(reversed, Err(Errno::FAULT));
}

#[test]
fn locked_pages_stay_in_memory() {
    let region = Region::anonymous(2 * PAGE, RW).unwrap();
    let locked = || smaps(&region, "Locked:");
    region.lock(0..2 * PAGE, MlockFlags::empty()).unwrap();
    assert_eq!(locked(), "8 kB");
    region.unlock(0..2 * PAGE).unwrap();
    assert_eq!(locked(), "0 kB");
    let outside = 0..2 * PAGE + 1;
    assert_eq!(
        region.lock(outside.clone(), MlockFlags::empty()),
        Err(Errno::FAULT)
    );
    assert_eq!(region.unlock(outside), Err(Errno::FAULT));
}

#[test]
fn locks_are_of_one_process_and_the_memory_of_both() {
    isolated!(|| {
        let region = Region::anonymous(2 * PAGE, RW).unwrap();
        let locked = || smaps(&region, "Locked:");
        region.lock(0..2 * PAGE, MlockFlags::empty()).unwrap();
        peer(|| {
            assert_eq!(locked(), "0 kB", "a child has not locked it");
            region.advise(0..2 * PAGE, Advice::Random).unwrap();
            assert!(smaps(&region, "VmFlags:").contains("rr"));
            region.lock(0..PAGE, MlockFlags::empty()).unwrap();
            region.bytes().write(0, b"x").unwrap();
            region.unlock(0..PAGE).unwrap();
        })
        .join();
        assert_eq!(locked(), "8 kB");
        assert!(!smaps(&region, "VmFlags:").contains("rr"));
        assert_eq!(&read::<1>(&region, 0), b"x");
    });
}

#[test]
fn the_limit_of_locked_memory_is_an_error() {
    isolated!(|| {
        peer(|| {
            support::drop_privileges();
            let region = Region::anonymous(2 * PAGE, RW).unwrap();
            let limit = |bytes| rustix::process::Rlimit {
                current: Some(bytes),
                maximum: None,
            };
            let set = |bytes| {
                let resource = rustix::process::Resource::Memlock;
                let old = rustix::process::getrlimit(resource);
                let new = rustix::process::Rlimit {
                    maximum: old.maximum,
                    ..limit(bytes)
                };
                rustix::process::setrlimit(resource, new).unwrap();
            };
            set(PAGE as u64);
            let lock = || region.lock(0..2 * PAGE, MlockFlags::empty());
            assert_eq!(lock(), Err(Errno::NOMEM));
            set(0);
            assert_eq!(lock(), Err(Errno::PERM));
        })
        .join();
    });
}

/// The name of the file system that `file` is on.
fn file_system(file: &File) -> String {
    let stat = rustix::fs::fstat(file).unwrap();
    let device = format!(
        " {}:{} ",
        rustix::fs::major(stat.st_dev),
        rustix::fs::minor(stat.st_dev)
    );
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    let mount = mounts.lines().find(|line| line.contains(&device));
    let kind = mount.and_then(|line| line.split(" - ").nth(1)?.split(' ').next());
    kind.unwrap_or("unknown").to_owned()
}

#[test]
fn sync_writes_back_to_the_file() {
    let path = std::env::temp_dir().join(format!("linipc-map-{}", std::process::id()));
    let file = File::options()
        .read(true)
        .write(true)
        .create_new(true)
        .open(&path)
        .unwrap();
    map::reserve(&file, 2 * PAGE as u64).unwrap();
    let region = Region::shared(&file, 0, 2 * PAGE, RW).unwrap();
    region.sync(0..2 * PAGE, MsyncFlags::ASYNC).unwrap();
    region.bytes().write(PAGE, b"written").unwrap();
    let dirty = || {
        (
            smaps(&region, "Shared_Dirty:"),
            smaps(&region, "Private_Dirty:"),
        )
    };
    let clean = || ("0 kB".to_owned(), "0 kB".to_owned());
    let on_disk = ["ext4", "xfs", "btrfs", "f2fs"].contains(&&*file_system(&file));
    if on_disk {
        support::eventually("the page is dirty, whoever else syncs", || {
            region.bytes().write(PAGE, b"written").unwrap();
            dirty() != clean()
        });
    } else {
        support::skip("sync: the folder for temporary files is not on a disk");
    }
    region.sync(0..2 * PAGE, MsyncFlags::SYNC).unwrap();
    if on_disk {
        assert_eq!(dirty(), clean());
    }
    assert_eq!(&std::fs::read(&path).unwrap()[PAGE..PAGE + 7], b"written");
    let both = MsyncFlags::SYNC | MsyncFlags::ASYNC;
    assert_eq!(region.sync(0..PAGE, both), Err(Errno::INVAL));
    assert_eq!(region.sync(1..PAGE, MsyncFlags::SYNC), Err(Errno::INVAL));
    assert_eq!(
        region.sync(PAGE..3 * PAGE, MsyncFlags::SYNC),
        Err(Errno::FAULT)
    );
    std::fs::remove_file(&path).unwrap();
}

#[test]
fn a_region_grows_and_shrinks() {
    isolated!(|| {
        let file = file(64 * PAGE as u64);
        let mut region = Region::shared(&file, 0, PAGE, RW).unwrap();
        region.bytes().write(0, b"first").unwrap();
        region.resize(64 * PAGE).unwrap();
        assert_eq!(region.len(), 64 * PAGE);
        assert_eq!(&read::<5>(&region, 0), b"first");
        region.bytes().write(64 * PAGE - 4, b"last").unwrap();
        peer(|| {
            let tail = Region::shared(&file, 63 * PAGE as u64, PAGE, Access::READ).unwrap();
            assert_eq!(&read::<4>(&tail, PAGE - 4), b"last");
        })
        .join();
        region.resize(10).unwrap();
        assert_eq!(region.bytes().read(10, &mut [0]), Err(Errno::FAULT));
        assert_eq!(&read::<5>(&region, 0), b"first");
        assert_eq!(region.resize(0), Err(Errno::INVAL));
        assert!(region.resize(usize::MAX / 2 + 1).is_err());
        assert_eq!((region.len(), &read::<5>(&region, 0)), (10, b"first"));
    });
}

#[test]
fn dropping_unmaps() {
    let region = Region::anonymous(PAGE, RW).unwrap();
    let start = format!("{:x}-", region.as_ptr() as usize);
    let mapped = || {
        let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
        maps.lines()
            .any(|line| line.starts_with(&start) && line.contains("/dev/zero"))
    };
    assert!(mapped());
    drop(region);
    assert!(!mapped());
}

#[test]
fn memory_that_a_full_file_system_lacks_is_refused_when_it_is_reserved() {
    isolated!(|| {
        support::mount_tmpfs("/dev/shm", "size=64k");
        let file = file(4096);
        assert_eq!(map::reserve(&file, 1 << 17), Err(Errno::NOSPC));
        assert_eq!(shm::len(&file), Ok(4096));
        assert_eq!(map::reserve(&file, 0), Err(Errno::INVAL));
        map::reserve(&file, 1 << 16).unwrap();
        map::reserve(&file, 100).unwrap();
        assert_eq!(shm::len(&file), Ok(1 << 16), "it never shortens");
        let region = Region::shared(&file, 0, 1 << 16, RW).unwrap();
        region.bytes().write(0, &[1; 1 << 16]).unwrap();
        drop((region, file));
        support::unmount("/dev/shm");

        let (reader, _writer) = linipc_core::pipe::pipe().unwrap();
        assert!(map::reserve(&reader, 1).is_err());
    });
}

#[test]
fn what_a_region_cannot_be_is_refused() {
    let memory = memfd::create(c"refused", memfd::Flags::empty()).unwrap();
    map::reserve(&memory, PAGE as u64).unwrap();
    for bits in [0x10, 0x20, 0x10_0000] {
        let flags = MapFlags::from_bits_retain(bits); // FIXED, ANONYMOUS, FIXED_NOREPLACE
        let error = Region::shared_with(&memory, 0, PAGE, RW, flags).unwrap_err();
        assert_eq!(error, Errno::INVAL, "{bits:#x}");
    }
    assert_eq!(
        Region::shared(&memory, 100, PAGE, RW).unwrap_err(),
        Errno::INVAL
    );
    assert_eq!(Region::shared(&memory, 0, 0, RW).unwrap_err(), Errno::INVAL);
    let huge = usize::MAX / 2 + 1;
    assert_eq!(Region::anonymous(huge, RW).unwrap_err(), Errno::NOMEM);
    let mut region = Region::shared(&memory, 0, PAGE, RW).unwrap();
    assert_eq!(region.resize(huge).unwrap_err(), Errno::NOMEM);
    assert_eq!(region.len(), PAGE);
}

#[test]
fn a_part_of_a_huge_page_is_refused_since_it_could_not_be_unmapped() {
    let flags = memfd::Flags::HUGETLB | memfd::Flags::HUGE_2MB;
    let memory = match memfd::create(c"huge", flags) {
        Ok(memory) => memory,
        Err(error) => return support::skip(&format!("files of huge pages: {error}")),
    };
    rustix::fs::ftruncate(&memory, 2 << 20).unwrap();
    assert_eq!(
        Region::shared(&memory, 0, PAGE, RW).unwrap_err(),
        Errno::INVAL
    );
    let flags = MapFlags::NORESERVE;
    drop(Region::shared_with(&memory, 0, 2 << 20, RW, flags).unwrap());
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    assert!(!maps.contains("memfd:huge"), "{maps}");
}
