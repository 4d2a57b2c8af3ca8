//! Finds the programs that the interoperation tests talk to.
//!
//! A test whose partner is missing is ignored, with the reason on its line:
//! `#[cfg_attr(not(has_gcc), ignore = "gcc is missing")]`. With `LINIPC_REQUIRE=all` none is, so
//! that it fails instead.

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
}

/// Sets `has_NAME` if the command succeeds. While it does not, the next build asks again.
fn partner(name: &str, command: &[&str]) {
    println!("cargo::rustc-check-cfg=cfg(has_{name})");
    let run = Command::new(command[0])
        .args(&command[1..])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    let there = run.is_ok_and(|status| status.success());
    if there || env::var("LINIPC_REQUIRE").is_ok_and(|value| value == "all") {
        println!("cargo::rustc-cfg=has_{name}");
    }
    if !there {
        println!("cargo::rerun-if-changed=tests/support/not-found-so-look-again");
    }
}
