//! What the core promises of a build: no libc, no allocator, no standard library.

mod support;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use support::run;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

fn cargo() -> Command {
    let mut cargo = Command::new(env!("CARGO"));
    cargo.current_dir(ROOT);
    cargo
}

#[test]
fn the_core_depends_on_four_crates_and_not_on_libc() {
    for target in [
        "x86_64-unknown-linux-gnu",
        "aarch64-unknown-linux-gnu",
        "riscv64gc-unknown-linux-gnu",
        "i686-unknown-linux-gnu",
        "armv7-unknown-linux-gnueabihf",
        "s390x-unknown-linux-gnu",
    ] {
        let tree = run(cargo()
            .args(["tree", "-p", "linipc-core", "--edges=normal,build"])
            .args(["--locked", "--offline", "--prefix=none", "--target", target])
            // Without this rustix uses libc on s390x.
            .env("RUSTFLAGS", "--cfg rustix_use_experimental_asm"));
        let crates: BTreeSet<&str> = tree
            .lines()
            .filter_map(|line| line.split_whitespace().next())
            .collect();
        let expected = [
            "bitflags",
            "linipc-core",
            "linux-raw-sys",
            "rustix",
            "static_assertions",
        ];
        assert_eq!(crates, BTreeSet::from(expected), "{target}");
    }
}

/// Builds the programs of `tests/static` with a profile and gives the path of one.
#[cfg(target_arch = "x86_64")]
fn static_program(name: &str, profile: &str) -> PathBuf {
    let build = cargo()
        .current_dir(format!("{ROOT}/tests/static"))
        .args(["build", "--profile", profile, "--locked", "--quiet"])
        // The flags of the build that tests us are not those of the static one.
        .env_remove("RUSTFLAGS")
        .env_remove("CARGO_TARGET_DIR")
        .output()
        .unwrap();
    let errors = String::from_utf8_lossy(&build.stderr);
    assert!(build.status.success(), "{errors}");
    PathBuf::from(format!("{ROOT}/target/static/{profile}/{name}"))
}

#[test]
#[cfg(target_arch = "x86_64")]
#[cfg_attr(not(has_gcc), ignore = "nm, which comes with gcc, is missing")]
fn calls_are_inlined_into_their_user_without_link_time_optimisation() {
    let program = static_program("mechanisms", "speed");
    let symbols = run(Command::new("nm").arg("--demangle").arg(&program));
    assert!(symbols.contains("linipc_static_main"), "{symbols}");
    assert!(!symbols.contains("linipc_core"), "{symbols}");
}

#[test]
#[cfg(target_arch = "x86_64")]
#[cfg_attr(
    not(has_gcc),
    ignore = "nm and readelf, which come with gcc, are missing"
)]
fn a_static_program_has_no_symbol_of_libc_or_of_an_allocator() {
    let program = static_program("mechanisms", "release");
    let symbols = run(Command::new("nm").arg(&program));
    let names: Vec<&str> = symbols
        .lines()
        .filter_map(|line| line.split(' ').nth(2))
        .collect();
    assert!(names.contains(&"_start"), "{symbols}");
    let libc = [
        "malloc",
        "calloc",
        "realloc",
        "free",
        "__errno_location",
        "__libc_start_main",
    ];
    for name in names {
        let forbidden = libc.contains(&name) || name.contains("__rust_alloc");
        assert!(!forbidden, "{name}: {symbols}");
    }
    let undefined = run(Command::new("nm").arg("--undefined-only").arg(&program));
    assert_eq!(undefined, "");
    let headers = run(Command::new("readelf")
        .args(["--program-headers", "--wide"])
        .arg(&program));
    assert!(
        !headers.contains("INTERP") && !headers.contains("DYNAMIC"),
        "{headers}"
    );
}

#[test]
#[cfg(target_arch = "x86_64")]
fn two_static_programs_talk_through_a_queue_a_semaphore_and_a_fifo() {
    let program = static_program("mechanisms", "release");
    isolated!(|| {
        let path = std::env::temp_dir().join(format!("linipc-static-{}", std::process::id()));
        let start = |role: &str| {
            Command::new(&program)
                .arg(&path)
                .arg(role)
                .stdin(Stdio::null())
                .stdout(Stdio::piped())
                .spawn()
                .unwrap()
        };
        let taker = start("take");
        support::until_asleep(taker.id() as i32);
        let giver = start("give");
        assert_eq!(giver.wait_with_output().unwrap().status.code(), Some(0));
        let taken = taker.wait_with_output().unwrap();
        assert_eq!(taken.status.code(), Some(0));
        assert_eq!(taken.stdout, b"a message\na line through the FIFO\n");
        assert!(!path.exists());
    });
}

#[test]
#[cfg(target_arch = "x86_64")]
fn a_static_program_tells_a_wrong_argument() {
    let program = static_program("mechanisms", "release");
    let code = |args: &[&str]| Command::new(&program).args(args).status().unwrap().code();
    assert_eq!(code(&[]), Some(linipc_core::Errno::INVAL.raw_os_error()));
    assert_eq!(
        code(&["/", "eat"]),
        Some(linipc_core::Errno::INVAL.raw_os_error())
    );
    let missing = ["/nowhere/at/all", "give"];
    assert_eq!(
        code(&missing),
        Some(linipc_core::Errno::NOENT.raw_os_error())
    );
}
