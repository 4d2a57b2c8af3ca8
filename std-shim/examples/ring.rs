//! Parent and child over a ring in a memfd, which the child inherits as its standard input.

use std::process::{Command, Stdio};
use std::time::Duration;
use std::{env, fs::File, io};

use linipc::ring::spsc::{self, Consumer, Producer};

const SOON: Duration = Duration::from_secs(5);

fn main() -> io::Result<()> {
    if env::args().nth(1).as_deref() == Some("child") {
        let mut consumer = Consumer::attach(io::stdin())?;
        loop {
            match consumer.pop_vec_deadline(SOON) {
                Ok(message) => println!("got {}", String::from_utf8_lossy(&message)),
                Err(end) if end.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
                Err(error) => return Err(error), // among them: the parent was killed
            }
        }
    }
    let memfd = spsc::create(1 << 16)?;
    let mut producer = Producer::attach(&memfd)?;
    let mut child = Command::new(env::current_exe()?)
        .arg("child")
        .stdin(Stdio::from(File::from(memfd)))
        .spawn()?;
    for word in ["hello", "from", "the", "parent"] {
        producer.push_deadline(word.as_bytes(), SOON)?;
    }
    drop(producer); // closes the ring, and the child ends when it has read all
    assert!(child.wait()?.success());
    Ok(())
}
