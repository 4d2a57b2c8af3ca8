//! Memory as a descriptor: seals between processes, huge pages, secrets.

mod support;

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use linipc::error::errno;
use linipc::memfd::{HugePages, Memfd, MemfdOptions, MissingSeals, SealFlags};
use linipc_core::map::{Access, Region};
use linipc_core::memfd::{self, Flags};
use linipc_core::{Errno, process_vm};
use rustix::fs::{FallocateFlags, fallocate};
use rustix::process::Pid;
use support::peer;

const RW: Access = Access::READ.union(Access::WRITE);

fn page() -> Memfd {
    MemfdOptions::new().size(4096).create("test").unwrap()
}

#[track_caller]
fn assert_errno<T: std::fmt::Debug>(result: io::Result<T>, expected: Errno) {
    assert_eq!(errno(&result.unwrap_err()), Some(expected));
}

#[test]
fn memory_is_shared_with_who_gets_the_descriptor() {
    isolated!(|| {
        let memfd = page();
        let region = memfd.map().unwrap();
        peer(|| memfd.map().unwrap().bytes().write(9, b"hello").unwrap()).join();
        let mut copy = [0; 5];
        region.bytes().read(9, &mut copy).unwrap();
        assert_eq!(&copy, b"hello");

        // A program that is executed gets it as its standard input, and gives it back.
        memfd.as_file().write_all_at(b"from us..", 0).unwrap();
        let output = Command::new("cat")
            .stdin(memfd.as_file().try_clone().unwrap())
            .output()
            .unwrap();
        assert_eq!(&output.stdout[..14], b"from us..hello");
        assert_eq!(output.stdout.len(), 4096);
    });
}

#[test]
fn a_memfd_is_closed_on_exec_named_and_reserved() {
    isolated!(|| {
        let memfd = MemfdOptions::new().size(100_000).create("a name").unwrap();
        let flags = rustix::io::fcntl_getfd(&memfd).unwrap();
        assert_eq!(flags, rustix::io::FdFlags::CLOEXEC);
        let link = format!("/proc/self/fd/{}", memfd.as_fd().as_raw_fd());
        let name = fs::read_link(link).unwrap();
        assert_eq!(name.to_str(), Some("/memfd:a name (deleted)"));
        let metadata = memfd.as_file().metadata().unwrap();
        assert_eq!(metadata.len(), 100_000);
        let blocks = metadata.blocks();
        assert!(blocks * 512 >= 100_000, "{blocks} blocks");
        assert_eq!(memfd.map().unwrap().len(), 100_000);

        let empty = MemfdOptions::new().create("").unwrap();
        assert_eq!(empty.as_file().metadata().unwrap().len(), 0);
        assert_errno(empty.map(), Errno::INVAL);
    });
}

#[test]
fn a_name_has_up_to_249_bytes() {
    MemfdOptions::new().create(&"n".repeat(249)).unwrap();
    assert_errno(MemfdOptions::new().create(&"n".repeat(250)), Errno::INVAL);
    assert_errno(MemfdOptions::new().create("null\0byte"), Errno::INVAL);
    let unknown = Flags::from_bits_retain(1 << 20);
    assert_eq!(memfd::create("", unknown).unwrap_err(), Errno::INVAL);
}

#[test]
fn a_size_beyond_any_file_is_refused() {
    let error = MemfdOptions::new().size(u64::MAX).create("").unwrap_err();
    assert!(matches!(
        errno(&error),
        Some(Errno::FBIG | Errno::INVAL | Errno::NOSPC)
    ));
}

#[test]
fn a_fixed_length_cannot_change() {
    isolated!(|| {
        let memfd = MemfdOptions::new()
            .size(4096)
            .seals(Memfd::FIXED_LENGTH)
            .create("fixed")
            .unwrap();
        let memfd = memfd.require(Memfd::FIXED_LENGTH).unwrap();
        peer(|| {
            let file = memfd.as_file();
            for len in [0, 4095, 4097] {
                assert_errno(file.set_len(len), Errno::PERM);
            }
            file.set_len(4096).unwrap();
            assert_errno(file.write_at(b"xx", 4096), Errno::PERM);
            assert_eq!(
                fallocate(file, FallocateFlags::empty(), 0, 8192),
                Err(Errno::PERM)
            );
            // Neither does opening it again help.
            let path = format!("/proc/self/fd/{}", file.as_raw_fd());
            assert_errno(File::create(path), Errno::PERM);
            file.write_all_at(b"in place", 0).unwrap();
            // What it does not forbid: a hole.
            let hole = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
            fallocate(file, hole, 0, 4096).unwrap();
        })
        .join();
        let mut copy = [1; 8];
        memfd.map().unwrap().bytes().read(0, &mut copy).unwrap();
        assert_eq!(copy, [0; 8]);
    });
}

#[test]
fn only_growth_or_only_shrinking_is_forbidden() {
    let memfd = page();
    memfd.add_seals(SealFlags::GROW).unwrap();
    assert_errno(memfd.as_file().set_len(4097), Errno::PERM);
    memfd.as_file().set_len(100).unwrap();
    let memfd = page();
    memfd.add_seals(SealFlags::SHRINK).unwrap();
    assert_errno(memfd.as_file().set_len(4095), Errno::PERM);
    memfd.as_file().set_len(5000).unwrap();
}

#[test]
fn a_constant_cannot_change_and_can_be_read() {
    isolated!(|| {
        let memfd = page();
        memfd.as_file().write_all_at(b"for ever", 0).unwrap();
        memfd.add_seals(Memfd::CONSTANT).unwrap();
        peer(|| {
            assert_errno(memfd.as_file().write_at(b"never", 0), Errno::PERM);
            let hole = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
            assert_eq!(fallocate(memfd.as_file(), hole, 0, 4096), Err(Errno::PERM));
            assert_errno(memfd.map(), Errno::PERM);
            let mut region = match memfd.map_read() {
                Err(error) if errno(&error) == Some(Errno::PERM) => {
                    return support::skip("mapping sealed memory to read: needs Linux 6.7");
                }
                region => region.unwrap(),
            };
            assert_eq!(region.protect(RW), Err(Errno::ACCESS));
            let mut copy = [0; 8];
            region.bytes().read(0, &mut copy).unwrap();
            assert_eq!(&copy, b"for ever");
        })
        .join();
    });
}

#[test]
fn a_peers_writable_mapping_keeps_the_write_seal_away() {
    isolated!(|| {
        let memfd = page();
        let (mut mapped, mut say_mapped) = io::pipe().unwrap();
        let (mut may_end, say_end) = io::pipe().unwrap();
        let say_end = Some(say_end);
        let mapper = peer(|| {
            // The copy that this process inherited would keep it from seeing the end.
            // SAFETY: Nothing in this process uses that descriptor any more.
            unsafe { libc::close(say_end.as_ref().unwrap().as_raw_fd()) };
            let region = memfd.map().unwrap();
            say_mapped.write_all(b"m").unwrap();
            may_end.read_to_end(&mut Vec::new()).unwrap();
            region.bytes().write(0, b"older mapping").unwrap();
        });
        mapped.read_exact(&mut [0]).unwrap();
        assert_errno(memfd.add_seals(SealFlags::WRITE), Errno::BUSY);
        assert!(!memfd.seals().unwrap().contains(SealFlags::WRITE));

        // The mapping that exists goes on writing; nobody else begins to.
        memfd.add_seals(SealFlags::FUTURE_WRITE).unwrap();
        assert_errno(memfd.map(), Errno::PERM);
        assert_errno(memfd.as_file().write_at(b"x", 0), Errno::PERM);
        let reader = memfd.map_read().unwrap();
        drop(say_end);
        mapper.join();
        let mut copy = [0; 13];
        reader.bytes().read(0, &mut copy).unwrap();
        assert_eq!(&copy, b"older mapping");
        memfd.add_seals(SealFlags::WRITE).unwrap();
    });
}

#[test]
fn the_seal_of_seals_and_a_descriptor_to_read_refuse_more() {
    isolated!(|| {
        let memfd = page();
        let path = format!("/proc/self/fd/{}", memfd.as_fd().as_raw_fd());
        let reader = Memfd::from(File::open(path).unwrap());
        assert_errno(reader.add_seals(SealFlags::GROW), Errno::PERM);
        assert_errno(
            memfd.add_seals(SealFlags::from_bits_retain(1 << 20)),
            Errno::INVAL,
        );
        memfd.add_seals(SealFlags::SEAL).unwrap();
        assert_errno(memfd.add_seals(SealFlags::GROW), Errno::PERM);
        assert!(reader.seals().unwrap().contains(SealFlags::SEAL));
    });
}

#[test]
fn a_stranger_is_believed_for_its_seals_only() {
    isolated!(|| {
        let missing = |error: io::Error| {
            assert_eq!(error.kind(), ErrorKind::InvalidData);
            *error
                .get_ref()
                .unwrap()
                .downcast_ref::<MissingSeals>()
                .unwrap()
        };
        let memfd = page();
        memfd.add_seals(SealFlags::SHRINK).unwrap();
        let copy = || OwnedFd::from(memfd.as_file().try_clone().unwrap());
        Memfd::from(copy()).require(SealFlags::SHRINK).unwrap();
        Memfd::from(copy()).require(SealFlags::empty()).unwrap();
        let error = Memfd::from(copy()).require(Memfd::CONSTANT).unwrap_err();
        assert_eq!(
            error.to_string(),
            "the memory is not sealed against GROW and WRITE"
        );
        assert_eq!(
            missing(error),
            MissingSeals(SealFlags::GROW | SealFlags::WRITE)
        );

        // A file that cannot have seals, and so none.
        let file = Memfd::from(File::open("/proc/self/status").unwrap());
        assert_errno(file.seals(), Errno::INVAL);
        let (_reader, writer) = io::pipe().unwrap();
        let pipe = Memfd::from(OwnedFd::from(writer));
        assert_errno(pipe.add_seals(SealFlags::GROW), Errno::INVAL);
        let error = file.require(SealFlags::GROW).unwrap_err();
        assert_eq!(missing(error), MissingSeals(SealFlags::GROW));

        let bare = memfd::memfd_create("bare", Flags::CLOEXEC).unwrap();
        assert_errno(Memfd::from(bare).add_seals(SealFlags::GROW), Errno::PERM);
    });
}

fn mode(memfd: &Memfd) -> u32 {
    memfd.as_file().metadata().unwrap().permissions().mode() & 0o777
}

/// Executes the memory with `true` in it.
fn execute(memfd: Memfd) -> io::Result<bool> {
    let program = fs::read("/bin/true").unwrap();
    memfd.as_file().write_all_at(&program, 0).unwrap();
    let path = |fd: &OwnedFd| format!("/proc/self/fd/{}", fd.as_raw_fd());
    let writer = OwnedFd::from(memfd);
    let reader = File::open(path(&writer)).unwrap().into();
    // What is open for writing cannot be executed.
    drop(writer);
    // By its name a busybox knows what it is to do.
    let done = Command::new(path(&reader)).arg0("true").status()?;
    Ok(done.success())
}

#[test]
fn memory_is_not_executable_unless_asked() {
    isolated!(|| {
        let memfd = MemfdOptions::new().create("data").unwrap();
        assert_eq!(mode(&memfd), 0o666);
        if memfd.seals().unwrap().contains(SealFlags::EXEC) {
            let more = fs::Permissions::from_mode(0o777);
            assert_errno(memfd.as_file().set_permissions(more), Errno::PERM);
        } else {
            support::skip("the seal against execution: needs Linux 6.3");
        }
        assert_errno(execute(memfd), Errno::ACCESS);

        match MemfdOptions::new().executable(true).create("program") {
            Err(error) if errno(&error) == Some(Errno::ACCESS) => {
                support::skip("executable memory: vm.memfd_noexec is 2");
            }
            memfd => {
                let memfd = memfd.unwrap();
                assert_eq!(mode(&memfd), 0o777);
                assert!(!memfd.seals().unwrap().contains(SealFlags::EXEC));
                assert!(execute(memfd).unwrap());
            }
        }
    });
}

/// Lets `memfd_create` refuse the flags that Linux 6.3 brought, as older kernels do.
fn become_an_older_kernel() {
    const NEW_FLAGS: u32 = 0x18;
    let statement = |code: u32, k: u32| libc::sock_filter {
        code: code as u16,
        jt: 0,
        jf: 0,
        k,
    };
    let load = libc::BPF_LD | libc::BPF_W | libc::BPF_ABS;
    let call = libc::sock_filter {
        jf: 3,
        ..statement(
            libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K,
            libc::SYS_memfd_create as u32,
        )
    };
    let flags = libc::sock_filter {
        jf: 1,
        ..statement(libc::BPF_JMP | libc::BPF_JSET | libc::BPF_K, NEW_FLAGS)
    };
    let low_word = if cfg!(target_endian = "big") { 4 } else { 0 };
    let ret = libc::BPF_RET | libc::BPF_K;
    let invalid = libc::SECCOMP_RET_ERRNO | libc::EINVAL as u32;
    let mut filter = [
        statement(load, 0),
        call,
        statement(load, 16 + 8 + low_word),
        flags,
        statement(ret, invalid),
        statement(ret, libc::SECCOMP_RET_ALLOW),
    ];
    let program = libc::sock_fprog {
        len: filter.len() as u16,
        filter: filter.as_mut_ptr(),
    };
    // SAFETY: It takes no pointers.
    assert_eq!(
        unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) },
        0
    );
    let mode = libc::SECCOMP_MODE_FILTER;
    // SAFETY: `program` is a filter of `len` statements, all borrowed.
    let set = unsafe { libc::prctl(libc::PR_SET_SECCOMP, mode, &raw const program) };
    assert_eq!(set, 0, "{}", io::Error::last_os_error());
}

#[test]
fn an_older_kernel_gives_memory_without_executable_bits() {
    isolated!(|| {
        peer(|| {
            become_an_older_kernel();
            let refused = memfd::memfd_create("", Flags::NOEXEC_SEAL);
            assert_eq!(refused.unwrap_err(), Errno::INVAL);
            let memfd = MemfdOptions::new()
                .seals(SealFlags::SHRINK)
                .create("data")
                .unwrap();
            assert_eq!(mode(&memfd), 0o666);
            assert!(memfd.seals().unwrap().contains(SealFlags::SHRINK));
            MemfdOptions::new()
                .executable(true)
                .create("program")
                .unwrap();
            assert_errno(MemfdOptions::new().create(&"n".repeat(250)), Errno::INVAL);
        })
        .join();
    });
}

#[test]
fn huge_page_sizes_are_the_kernels_flags() {
    for (size, flag) in [
        (HugePages::KIB_64, Flags::HUGE_64KB),
        (HugePages::MIB_2, Flags::HUGE_2MB),
        (HugePages::GIB_1, Flags::HUGE_1GB),
        (HugePages::of(16 << 30).unwrap(), Flags::HUGE_16GB),
        (HugePages::DEFAULT, Flags::empty()),
    ] {
        assert_eq!(size.flags(), Flags::HUGETLB | flag);
    }
    assert_eq!(HugePages::of(2 << 20), Some(HugePages::MIB_2));
    for bytes in [0, 1, 3, (2 << 20) + 1] {
        assert_eq!(HugePages::of(bytes), None);
    }
}

#[test]
fn huge_pages_are_reserved_or_refused() {
    isolated!(|| {
        let mut options = MemfdOptions::new();
        let no_such_size = options.huge_pages(HugePages::of(8).unwrap()).create("");
        assert!(matches!(
            errno(&no_such_size.unwrap_err()),
            Some(Errno::NODEV | Errno::NOSYS)
        ));
        match options
            .huge_pages(HugePages::DEFAULT)
            .size(1)
            .create("huge")
        {
            Ok(memfd) => {
                let region = memfd.map().unwrap();
                assert!(region.len() >= 64 << 10, "{}", region.len());
                region.bytes().write(region.len() - 1, b"x").unwrap();
                memfd.add_seals(Memfd::FIXED_LENGTH).unwrap();
                memfd.require(Memfd::FIXED_LENGTH).unwrap();
            }
            Err(error) if errno(&error) == Some(Errno::NOSPC) => {
                support::skip("mapping huge pages: none are reserved (vm.nr_hugepages)");
                // Without a length there is nothing that could be lacking.
                let memfd = options.size(0).create("huge").unwrap();
                assert!(!memfd.seals().unwrap().contains(SealFlags::SEAL));
            }
            Err(error) if matches!(errno(&error), Some(Errno::NOSYS | Errno::NOENT)) => {
                support::skip("huge pages: this kernel has none");
            }
            Err(error) => panic!("{error}"),
        }
    });
}

#[test]
fn a_secret_is_shared_by_its_descriptor_and_seen_by_nobody_else() {
    isolated!(|| {
        let secret = match linipc::memfd::secret(4096) {
            Err(error) if errno(&error) == Some(Errno::NOSYS) => {
                return support::skip("memfd_secret: not in this kernel, or not enabled");
            }
            secret => secret.unwrap(),
        };
        let flags = rustix::io::fcntl_getfd(&secret).unwrap();
        assert_eq!(flags, rustix::io::FdFlags::CLOEXEC);
        let region = match secret.map() {
            Err(error) if errno(&error) == Some(Errno::AGAIN) => {
                return support::skip("mapping a secret: RLIMIT_MEMLOCK is too low");
            }
            region => region.unwrap(),
        };
        peer(|| {
            let region = Region::shared(&secret, 0, 4096, RW).unwrap();
            region.bytes().write(0, b"password").unwrap();
        })
        .join();
        let mut copy = [0; 8];
        region.bytes().read(0, &mut copy).unwrap();
        assert_eq!(&copy, b"password");

        // Not read(2), not a new length, not a seal, not another process by address.
        assert!(secret.as_file().read_at(&mut copy, 0).is_err());
        assert_errno(secret.as_file().set_len(8192), Errno::INVAL);
        assert_errno(secret.seals(), Errno::INVAL);
        let plain = page().map().unwrap();
        let (mut until_end, end) = io::pipe().unwrap();
        let heir = peer(|| {
            until_end.read_exact(&mut [0]).unwrap();
        });
        let pid = Pid::from_raw(heir.pid()).unwrap();
        let read = |region: &Region| process_vm::read(pid, region.as_ptr() as usize, &mut [0; 8]);
        assert_eq!(read(&plain), Ok(8));
        assert_eq!(read(&region), Err(Errno::FAULT));
        (&end).write_all(b"e").unwrap();
        heir.join();
    });
}

#[test]
#[cfg_attr(not(has_python), ignore = "python is missing")]
fn python_sees_our_seals_and_writes_what_we_map() {
    isolated!(|| {
        let memfd = page();
        memfd.add_seals(Memfd::FIXED_LENGTH).unwrap();
        let script = "
import fcntl, mmap, os
print(fcntl.fcntl(0, fcntl.F_GET_SEALS) & 15)
mmap.mmap(0, 4096)[0:5] = b'hello'
try:
    os.ftruncate(0, 1)
except PermissionError:
    print('refused')
";
        let output = support::python(script)
            .stdin(memfd.as_file().try_clone().unwrap())
            .output()
            .unwrap();
        assert_eq!(output.stdout, b"6\nrefused\n");
        let mut copy = [0; 5];
        memfd
            .map_read()
            .unwrap()
            .bytes()
            .read(0, &mut copy)
            .unwrap();
        assert_eq!(&copy, b"hello");
    });
}

#[test]
#[cfg_attr(not(has_python), ignore = "python is missing")]
fn we_see_the_seals_of_python_and_map_what_it_wrote() {
    isolated!(|| {
        let script = "
import fcntl, os, sys
fd = os.memfd_create('from python', os.MFD_ALLOW_SEALING)
os.write(fd, b'hello')
fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW)
print(fd, flush=True)
sys.stdin.read()
";
        let mut child = support::python(script)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut fd = String::new();
        BufReader::new(child.stdout.take().unwrap())
            .read_line(&mut fd)
            .unwrap();
        let path = format!("/proc/{}/fd/{}", child.id(), fd.trim());
        let file = File::options().read(true).write(true).open(path).unwrap();
        let memfd = Memfd::from(file).require(Memfd::FIXED_LENGTH).unwrap();
        let mut copy = [0; 5];
        memfd.map().unwrap().bytes().read(0, &mut copy).unwrap();
        assert_eq!(&copy, b"hello");
        memfd.require(Memfd::CONSTANT).unwrap_err();
        drop(child.stdin.take());
        assert!(child.wait().unwrap().success());
    });
}
