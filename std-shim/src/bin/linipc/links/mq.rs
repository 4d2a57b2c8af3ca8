//! Two message queues: one each way.

/// System V queues.
pub(crate) mod sysv {
    use std::ffi::c_long;
    use std::io;

    use linipc::core::io::retry_on_intr;
    use linipc::core::sysv::msg::{self, Id, Message, Receive, Select, Send};
    use linipc::sysv::msg::{Queue, limits};

    use crate::links::{Link, Prepared, Start, wrong_length};

    /// Two private queues, found by their ids.
    pub(crate) fn prepare() -> io::Result<Prepared> {
        let mut prepared = Prepared::default();
        for _way in 0..2 {
            let queue = Queue::private()?;
            let id = queue.id().number().to_string();
            prepared.arguments.push(id.into());
            prepared.objects.push(Box::new(queue));
        }
        Ok(prepared)
    }

    /// The queues with these ids.
    pub(crate) fn open(start: Start) -> io::Result<Box<dyn Link>> {
        let ids = [start.argument(0)?, start.argument(1)?].map(Id::new);
        // A message that is longer than the queue could never be sent.
        let max_message = limits()?.message_bytes.min(msg::stat(ids[0])?.max_bytes);
        let [to, from] = start.side.order(ids);
        Ok(Box::new(Queues {
            to,
            from,
            max_message,
            words: vec![0; Message::words(max_message)],
        }))
    }

    /// Two queues, and the memory that a message needs.
    #[derive(Debug)]
    struct Queues {
        to: Id,
        from: Id,
        max_message: usize,
        words: Vec<c_long>,
    }

    impl Queues {
        fn message(&mut self, len: usize) -> io::Result<&mut Message> {
            Message::from_words(&mut self.words, len)
                .ok_or_else(|| wrong_length(len, self.max_message))
        }
    }

    impl Link for Queues {
        fn max_message(&self) -> usize {
            self.max_message
        }

        fn send(&mut self, text: &[u8]) -> io::Result<()> {
            let to = self.to;
            let message = self.message(text.len())?;
            message.kind = 1;
            message.text.copy_from_slice(text);
            Ok(retry_on_intr(|| msg::send(to, message, Send::empty()))?)
        }

        fn receive(&mut self, text: &mut [u8]) -> io::Result<()> {
            let from = self.from;
            let message = self.message(text.len())?;
            let len =
                retry_on_intr(|| msg::receive(from, message, Select::First, Receive::empty()))?;
            if len != text.len() {
                return Err(wrong_length(len, text.len()));
            }
            text.copy_from_slice(&message.text);
            Ok(())
        }
    }
}

/// POSIX queues.
pub(crate) mod posix {
    use std::io;

    use linipc::posix::mq::{OpenOptions, Queue};

    use crate::links::{Link, Prepared, Start, unique_name, wrong_length};

    /// Two names. The queues have the system's capacity.
    pub(crate) fn prepare() -> io::Result<Prepared> {
        let mut prepared = Prepared::default();
        for _way in 0..2 {
            let name = format!("/{}", unique_name());
            let queue = OpenOptions::new()
                .read(true)
                .create_new(true)
                .unlink_on_drop(true)
                .open(&name)?;
            prepared.arguments.push(name.into());
            prepared.names.push(Box::new(queue));
        }
        Ok(prepared)
    }

    /// One to send, one to receive.
    pub(crate) fn open(start: Start) -> io::Result<Box<dyn Link>> {
        let names: [String; 2] = [start.argument(0)?, start.argument(1)?];
        let [to, from] = start.side.order(names);
        let to = OpenOptions::new().write(true).open(&to)?;
        let from = OpenOptions::new().read(true).open(&from)?;
        let max_message = from.attributes()?.capacity.message_bytes;
        Ok(Box::new(Queues {
            to,
            from,
            buffer: vec![0; max_message],
        }))
    }

    /// Two queues, and room for a message of any length, which the kernel wants.
    #[derive(Debug)]
    struct Queues {
        to: Queue,
        from: Queue,
        buffer: Vec<u8>,
    }

    impl Link for Queues {
        fn max_message(&self) -> usize {
            self.buffer.len()
        }

        fn send(&mut self, message: &[u8]) -> io::Result<()> {
            self.to.send(message, 0)
        }

        fn receive(&mut self, message: &mut [u8]) -> io::Result<()> {
            let received = self.from.receive(&mut self.buffer)?.len;
            if received != message.len() {
                return Err(wrong_length(received, message.len()));
            }
            message.copy_from_slice(&self.buffer[..received]);
            Ok(())
        }
    }
}
