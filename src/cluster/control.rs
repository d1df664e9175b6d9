//! Control connections: what the driver has to say to other processes, a heartbeat, and the last words of a
//! process that fails.
//!
//! Each connection has two threads. The one that sends drains a queue and says [`HEARTBEAT`] by heartbeat
//! that the process lives; the one that hears stops the run where nothing is heard for [`SILENCE_MAX`].

use std::io;
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::error::ClusterError;
use super::{HEARTBEAT, SILENCE_MAX, frames};
use crate::worker::{Failure, told};

/// How often the failure flag is looked at.
const LOOK: Duration = Duration::from_millis(50);

/// What goes over a control connection.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Frame<M> {
    /// A message of the driver.
    Say(M),
    /// The process lives.
    Alive,
    /// A process has opened the job.
    Ready,
    /// All have.
    Start,
    /// The run has failed.
    Failed {
        /// Where it failed first.
        process: usize,
        message: String,
        refused: bool,
    },
}

/// A control connection and the queue of what is to be sent over it.
#[derive(Debug)]
pub struct Channels<Out> {
    /// The process at its other end.
    pub process: usize,
    /// The connection.
    pub stream: TcpStream,
    /// What is to be sent; the connection is done when the queue has ended.
    pub queue: Receiver<Out>,
}

/// The control connections of a running process.
#[derive(Debug)]
pub struct Controls {
    senders: Vec<JoinHandle<()>>,
}

/// What both threads of a connection know.
#[derive(Clone)]
struct Side {
    me: usize,
    process: usize,
    failure: Arc<Failure>,
    is_refusal: fn(&anyhow::Error) -> bool,
    over: Arc<AtomicBool>,
}

impl Controls {
    /// Starts the threads. What is heard goes to `hear`, with the process that said it. Once `over` is set
    /// the others may go.
    pub fn start<In, Out, Hear>(
        me: usize,
        connections: Vec<Channels<Out>>,
        hear: Hear,
        failure: &Arc<Failure>,
        is_refusal: fn(&anyhow::Error) -> bool,
        over: &Arc<AtomicBool>,
    ) -> io::Result<Controls>
    where
        In: DeserializeOwned + 'static,
        Out: Serialize + Send + 'static,
        Hear: Fn(usize, In) + Clone + Send + 'static,
    {
        let mut senders = Vec::new();
        for Channels { process, stream, queue } in connections {
            let (failure, over) = (Arc::clone(failure), Arc::clone(over));
            let side = Side { me, process, failure, is_refusal, over };
            let (hear, heard_side, heard) = (hear.clone(), side.clone(), stream.try_clone()?);
            let named = |what| std::thread::Builder::new().name(format!("{what}-{process}"));
            named("hear").spawn(move || heard_side.hear_all(heard, hear))?;
            senders.push(named("tell").spawn(move || side.send_all(stream, &queue))?);
        }
        Ok(Controls { senders })
    }

    /// Waits until everything is sent.
    pub fn join(self) {
        self.senders.into_iter().for_each(|sender| drop(sender.join()));
    }
}

impl Side {
    fn send_all<Out: Serialize>(&self, mut stream: TcpStream, queue: &Receiver<Out>) {
        let mut last = Instant::now();
        loop {
            let frame = match queue.recv_timeout(LOOK) {
                _ if self.failure.happened() => {
                    self.say_why(&mut stream);
                    return;
                }
                Ok(message) => Frame::Say(message),
                Err(RecvTimeoutError::Timeout) if last.elapsed() < HEARTBEAT => continue,
                Err(RecvTimeoutError::Timeout) => Frame::Alive,
                Err(RecvTimeoutError::Disconnected) => return,
            };
            last = Instant::now();
            if let Err(error) = frames::write(&mut stream, &frame) {
                self.lost(&stream, format!("nothing can be sent to it: {error}"));
            }
        }
    }

    /// Tells the other process why the run fails, unless it was the one that said so.
    fn say_why(&self, stream: &mut TcpStream) {
        let frame = self.failure.with(|error| failed_frame(self.me, error, self.is_refusal));
        if let Some(frame) = frame {
            // It may be gone; there is nobody left to tell.
            frames::write(stream, &frame).ok();
        }
    }

    fn hear_all<In: DeserializeOwned>(&self, mut stream: TcpStream, hear: impl Fn(usize, In)) {
        if let Err(error) = stream.set_read_timeout(Some(SILENCE_MAX)) {
            return self.lost(&stream, error.to_string());
        }
        loop {
            match frames::read::<Frame<In>>(&mut stream) {
                Ok(Frame::Say(message)) => hear(self.process, message),
                Ok(Frame::Alive | Frame::Ready | Frame::Start) => {}
                Ok(Frame::Failed { process, message, refused }) => {
                    return self
                        .failure
                        .fail(ClusterError::Failed { process, message, refused }.into());
                }
                Err(error) => return self.lost(&stream, describe(&error)),
            }
        }
    }

    fn lost(&self, stream: &TcpStream, why: String) {
        if !self.over.load(Ordering::SeqCst) {
            let address = stream.peer_addr().map_or_else(|_| "?".to_owned(), |a| a.to_string());
            self.failure.fail(ClusterError::Lost { process: self.process, address, why }.into());
        }
    }
}

/// The last words of process `me`, or those of another that it passes on.
pub(super) fn failed_frame(
    me: usize,
    error: &anyhow::Error,
    is_refusal: fn(&anyhow::Error) -> bool,
) -> Frame<()> {
    match error.downcast_ref() {
        Some(ClusterError::Failed { process, message, refused }) => {
            Frame::Failed { process: *process, message: message.clone(), refused: *refused }
        }
        _ => {
            let (message, refused) = (told(error), is_refusal(error));
            Frame::Failed { process: me, message, refused }
        }
    }
}

fn describe(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => {
            format!("nothing was heard of it for {} s", SILENCE_MAX.as_secs())
        }
        io::ErrorKind::UnexpectedEof => "its control connection has ended".to_owned(),
        _ => format!("its control connection can't be read: {error}"),
    }
}
