//! Links the programs without a C start-up file and without a C library: through the C compiler, or,
//! when the linker is named as for another architecture, straight.

use std::env;

/// For the linker. What is only read lies beside the code: a segment less.
const SMALL: [&str; 5] = [
    "--build-id=none",
    "--no-eh-frame-hdr",
    "-znorelro",
    "--no-rosegment",
    "-Tdiscard.ld",
];

fn main() {
    println!("cargo::rerun-if-env-changed=LINIPC_BARE_LINKER");
    println!("cargo::rerun-if-changed=discard.ld");
    let (first, prefix): (&[&str], _) = match env::var_os("LINIPC_BARE_LINKER") {
        Some(_) => (&["-static", "--no-dynamic-linker", "--gc-sections"], ""),
        None => (
            &["-nostartfiles", "-nostdlib", "-static", "-no-pie"],
            "-Wl,",
        ),
    };
    for argument in first {
        println!("cargo::rustc-link-arg-bins={argument}");
    }
    for argument in SMALL {
        println!("cargo::rustc-link-arg-bins={prefix}{argument}");
    }
}
