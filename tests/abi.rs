//! Our kernel structures, constants and call numbers against this machine's kernel headers. Those of
//! the other architectures: `tests/cross`.

mod support;
#[path = "support/abi.rs"]
mod values;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

fn source() -> String {
    let mut source = String::new();
    values::source(&mut |piece| source.push_str(piece));
    source
}

#[test]
#[cfg_attr(not(has_gcc), ignore = "gcc is missing")]
fn structures_constants_and_numbers_are_those_of_the_headers() {
    let mut source = source();
    source.push_str("int main(void) { return 0; }\n");
    support::compile_c("abi", &source);
}

#[test]
#[cfg_attr(not(has_gcc), ignore = "gcc is missing")]
#[should_panic(expected = "static assertion failed: \"offsetof(struct ipc64_perm, uid)\"")]
fn another_offset_does_not_compile() {
    let right = "SAYS(offsetof(struct ipc64_perm, uid), 4);";
    let wrong = "SAYS(offsetof(struct ipc64_perm, uid), 8);";
    assert!(source().contains(right));
    support::compile_c("abi-wrong", &source().replace(right, wrong));
}

/// The values in `support/abi.rs` are complete: every call that core makes by its number, and every
/// structure, field and constant of `sys/abi.rs`.
#[test]
fn all_are_compared() {
    let core = Path::new(env!("CARGO_MANIFEST_DIR")).join("core/src");
    let source = source();
    let compared: BTreeSet<&str> = source
        .split(|c: char| !c.is_alphanumeric() && c != '_')
        .collect();

    let mut missing = Vec::new();
    each_file(&core, &mut |text| {
        for call in text.split("call!(").skip(1) {
            let name = call.trim_start().split(',').next().unwrap();
            if name.starts_with("__NR_") && !compared.contains(name) && !has_two_forms(name) {
                missing.push(name.to_owned());
            }
        }
    });
    // These are in no header that programs see, or only in the kernel's own words.
    let elsewhere = [
        "SHM_DEST",
        "SHM_LOCKED",
        "pad",
        "pad1",
        "pad2",
        "reserved",
        "unused",
        "time",
    ];
    let abi = fs::read_to_string(core.join("sys/abi.rs")).unwrap();
    for line in abi.lines() {
        let words: Vec<&str> = line
            .split([' ', ':'])
            .filter(|word| !word.is_empty())
            .collect();
        let name = match words[..] {
            ["pub", "const" | "struct", name, ..] if !["Time", "SemTime"].contains(&name) => name,
            ["pub", field, _, ..] if !["const", "struct", "type"].contains(&field) => field,
            _ => continue,
        };
        if !compared.contains(name) && !elsewhere.contains(&name) {
            missing.push(name.to_owned());
        }
    }
    assert_eq!(missing, [""; 0]);
    assert!(compared.contains("__NR_semctl") && compared.contains("ssi_call_addr"));
}

/// Calls that 32-bit architectures have under another name.
fn has_two_forms(name: &str) -> bool {
    let source = source();
    cfg!(target_pointer_width = "32")
        && (source.contains(&format!("{name}_time64")) || source.contains(&format!("{name}64")))
}

fn each_file(dir: &Path, look: &mut dyn FnMut(&str)) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            each_file(&path, look);
        } else {
            look(&fs::read_to_string(path).unwrap());
        }
    }
}
