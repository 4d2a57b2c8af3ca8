//! Parent and children count together, under a mutex in a memfd that the children inherit as their
//! standard input. One of them is killed while it has the mutex.

use std::os::fd::AsFd;
use std::process::{Command, Stdio};
use std::{env, io};

use linipc::pshared::mutex::{Guard, LockError, Mutex};

/// The count, also where who had it was killed: one number is always consistent.
fn lock(mutex: &Mutex<u64>) -> io::Result<Guard<'_, u64>> {
    match mutex.lock() {
        Ok(guard) => Ok(guard),
        Err(LockError::OwnerDied(guard)) => Ok(guard.mark_consistent()),
        Err(LockError::Failed(error)) => Err(error),
    }
}

fn main() -> io::Result<()> {
    if let Some(role) = env::args().nth(1) {
        let mutex = Mutex::attach(io::stdin())?;
        let mut count = lock(&mutex)?;
        count.update(|count| *count += 1)?;
        if role == "dies" {
            std::process::abort();
        }
        return Ok(());
    }
    let mutex = Mutex::create(0)?;
    for role in ["counts", "dies", "counts"] {
        Command::new(env::current_exe()?)
            .arg(role)
            .stdin(Stdio::from(mutex.as_fd().try_clone_to_owned()?))
            .status()?;
    }
    assert_eq!(lock(&mutex)?.get()?, 3);
    Ok(())
}
