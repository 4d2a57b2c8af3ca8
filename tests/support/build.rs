//! Finds the programs that the interoperation tests talk to.
//!
//! A test whose partner is missing is ignored, with the reason on its line:
//! `#[cfg_attr(not(has_gcc), ignore = "gcc is missing")]`. With `LINIPC_REQUIRE=all` none is, so
//! that it fails instead. Built for another architecture the tests have no partner.

use std::env;
use std::path::Path;
use std::process::{Command, Stdio};

fn main() {
    println!("cargo::rerun-if-env-changed=LINIPC_REQUIRE");
    println!("cargo::rerun-if-env-changed=PATH");
    println!("cargo::rerun-if-changed=tests/support/build.rs");

    let venv = "target/venv/bin/python3";
    let python = if Path::new(venv).exists() {
        venv
    } else {
        "python3"
    };
    partner("gcc", &["gcc", "--version"]);
    partner("python", &[python, "-c", ""]);
    partner("posix_ipc", &[python, "-c", "import posix_ipc"]);
    partner("sysv_ipc", &[python, "-c", "import sysv_ipc"]);
    partner(
        "util_linux",
        &["sh", "-c", "command -v flock lslocks ipcs ipcrm"],
    );
    println!("cargo::rerun-if-changed=tests/support/sem.c");
    let arch = env::var("CARGO_CFG_TARGET_ARCH").unwrap();
    let zig = format!("{python} -m ziglang cc -target {arch}-linux-musl");
    semaphore_partner("gcc_32", "gcc -m32", "/usr/lib/gcc");
    semaphore_partner("musl", &zig, "target/venv/bin");
}

/// Compiles the C side of the semaphore tests, for a format that is not that of gcc alone, to the
/// path `NAME_SEM`. Looks again for a compiler that is missing when `place` changes.
fn semaphore_partner(name: &str, compiler: &str, place: &str) {
    let out = env::var("OUT_DIR").unwrap();
    println!("cargo::rustc-env={}_SEM={out}/{name}", name.to_uppercase());
    let command = format!("{compiler} -O1 -pthread -o {out}/{name} tests/support/sem.c -lrt");
    let global = format!("ZIG_GLOBAL_CACHE_DIR={out}/zig");
    let local = format!("ZIG_LOCAL_CACHE_DIR={out}/zig");
    let there = has(name, &["env", &global, &local, "sh", "-c", &command]);
    if !there && Path::new(place).exists() {
        println!("cargo::rerun-if-changed={place}");
    }
}

/// Sets `has_NAME` if the command succeeds. While it does not, the next build asks again.
fn partner(name: &str, command: &[&str]) {
    if !has(name, command) {
        println!("cargo::rerun-if-changed=tests/support/not-found-so-look-again");
    }
}

/// Sets `has_NAME` if the command succeeds; gives whether it did.
fn has(name: &str, command: &[&str]) -> bool {
    println!("cargo::rustc-check-cfg=cfg(has_{name})");
    if env::var("TARGET") != env::var("HOST") {
        return false;
    }
    let run = Command::new(command[0])
        .args(&command[1..])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    let there = run.is_ok_and(|status| status.success());
    if there || env::var("LINIPC_REQUIRE").is_ok_and(|value| value == "all") {
        println!("cargo::rustc-cfg=has_{name}");
    }
    there
}
