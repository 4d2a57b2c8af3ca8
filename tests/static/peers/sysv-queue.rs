//! src/bin/sysv-queue.rs with std and the C library, as far as size goes.

use std::ffi::{c_int, c_long, c_void};
use std::{env, io, process, ptr};

unsafe extern "C" {
    fn msgget(key: c_int, flags: c_int) -> c_int;
    fn msgsnd(queue: c_int, message: *const c_void, len: usize, flags: c_int) -> c_int;
    fn msgrcv(queue: c_int, to: *mut c_void, len: usize, kind: c_long, flags: c_int) -> isize;
    fn msgctl(queue: c_int, command: c_int, state: *mut c_void) -> c_int;
}

#[repr(C)]
struct Message {
    kind: c_long,
    text: [u8; 8192],
}

fn number(text: &str) -> Option<i64> {
    match text.strip_prefix("0x") {
        Some(digits) => i64::from_str_radix(digits, 16).ok(),
        None => text.parse().ok(),
    }
}

fn done(code: isize) -> Result<isize, io::Error> {
    match code {
        ..0 => Err(io::Error::last_os_error()),
        code => Ok(code),
    }
}

fn run(args: &[&str]) -> Option<Result<(), io::Error>> {
    let key = number(args.get(1)?)? as c_int;
    let mut message = Message {
        kind: 0,
        text: [0; 8192],
    };
    Some((|| match args {
        ["send", _, kind, text] => {
            let queue = done(unsafe { msgget(key, 0o1600) } as isize)?;
            message.kind = number(kind).unwrap_or(0);
            let place = message.text.get_mut(..text.len());
            place
                .ok_or(io::ErrorKind::InvalidInput)?
                .copy_from_slice(text.as_bytes());
            let message = (&raw const message).cast();
            done(unsafe { msgsnd(queue as c_int, message, text.len(), 0) } as isize)?;
            Ok(())
        }
        ["receive", _, kind] => {
            let queue = done(unsafe { msgget(key, 0) } as isize)?;
            let kind = number(kind).unwrap_or(0);
            let place = (&raw mut message).cast();
            let len = done(unsafe { msgrcv(queue as c_int, place, 8192, kind, 0) })?;
            println!("{}", String::from_utf8_lossy(&message.text[..len as usize]));
            Ok(())
        }
        _ => {
            let queue = done(unsafe { msgget(key, 0) } as isize)?;
            done(unsafe { msgctl(queue as c_int, 0, ptr::null_mut()) } as isize)?;
            Ok(())
        }
    })())
}

fn main() {
    let args: Vec<String> = env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    process::exit(match run(&args) {
        None => {
            eprintln!("usage: sysv-queue send KEY TYPE TEXT | receive KEY TYPE | remove KEY");
            64
        }
        Some(Err(error)) => {
            eprintln!("sysv-queue: {error}");
            2
        }
        Some(Ok(())) => 0,
    });
}
