//! A data connection as timely uses it. Where timely would panic at an error, a link stops the run with a
//! word on who was lost.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use timely::communication::allocator::zero_copy::stream::Stream;

use super::error::ClusterError;
use crate::worker::Failure;

/// Timely ends a stream with a message header of zeros.
const END_BYTES: usize = 48;
/// How long a process that has failed may take to say why, before its connection is just lost.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// A connection to another process.
#[derive(Debug)]
pub struct Link {
    stream: TcpStream,
    process: usize,
    failure: Arc<Failure>,
    /// Zeros at the end of what was read.
    zeros: usize,
}

impl Link {
    pub(super) fn new(stream: TcpStream, process: usize, failure: Arc<Failure>) -> Link {
        Link { stream, process, failure, zeros: 0 }
    }

    /// Stops the run, and never returns: timely would end the process in the middle of that.
    fn lost(&self, why: &str) -> ! {
        let deadline = Instant::now() + LAST_WORDS;
        while !self.failure.happened() && Instant::now() < deadline {
            std::thread::park_timeout(Duration::from_millis(20));
        }
        let address = self.stream.peer_addr().map_or_else(|_| "?".to_owned(), |a| a.to_string());
        let (process, why) = (self.process, why.to_owned());
        self.failure.fail(ClusterError::Lost { process, address, why }.into());
        loop {
            std::thread::park();
        }
    }
}

impl Read for Link {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.stream.read(bytes) {
                Ok(0) if self.zeros < END_BYTES => self.lost("its data connection has ended"),
                Ok(read) => {
                    let zeros = bytes[..read].iter().rev().take_while(|byte| **byte == 0).count();
                    self.zeros = if zeros == read { self.zeros + zeros } else { zeros };
                    return Ok(read);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => self.lost(&format!("its data connection can't be read: {error}")),
            }
        }
    }
}

impl Write for Link {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        loop {
            match self.stream.write(bytes) {
                Ok(written) => return Ok(written),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => self.lost(&format!("nothing can be sent to it: {error}")),
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stream.flush()
    }
}

impl Stream for Link {
    fn try_clone(&self) -> io::Result<Self> {
        let stream = self.stream.try_clone()?;
        Ok(Link::new(stream, self.process, Arc::clone(&self.failure)))
    }

    fn set_nonblocking(&self, nonblocking: bool) -> io::Result<()> {
        self.stream.set_nonblocking(nonblocking)
    }

    fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        // The other side may have gone already, at the very end.
        self.stream.shutdown(how).or(Ok(()))
    }
}
