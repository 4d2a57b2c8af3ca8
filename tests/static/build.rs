//! Links the programs without a C start-up file and without a C library: through the C compiler, or,
//! when the linker is named as for another architecture, straight.

use std::env;

fn main() {
    println!("cargo::rerun-if-env-changed=LINIPC_BARE_LINKER");
    let bare = env::var_os("LINIPC_BARE_LINKER").is_some();
    let arguments: &[&str] = if bare {
        &["-static", "--no-dynamic-linker", "--gc-sections"]
    } else {
        &[
            "-nostartfiles",
            "-nostdlib",
            "-static",
            "-no-pie",
            "-Wl,--build-id=none",
            "-Wl,--no-eh-frame-hdr",
            "-Wl,-z,norelro",
            // What is only read lies beside the code: a segment less.
            "-Wl,--no-rosegment",
            "-Wl,-Tdiscard.ld",
        ]
    };
    for argument in arguments {
        println!("cargo::rustc-link-arg-bins={argument}");
    }
}
