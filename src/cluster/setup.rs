//! Setting up: process 0 waits for the others, they join it, and all connect to each other.

use std::collections::BTreeMap;
use std::io;
use std::net::{TcpListener, TcpStream, ToSocketAddrs};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crossbeam_channel::{Sender, bounded};
use socket2::{SockRef, TcpKeepalive};

use super::control::{Frame, failed_frame};
use super::error::ClusterError;
use super::handshake::{Answer, Hello, Kind, Terms, greet, hear};
use super::key::{self, Key, KeyFiles};
use super::link::Link;
use super::{Processes, SILENCE_MAX, frames};
use crate::job::Job;
use crate::model::{Commit, Incarnation};
use crate::worker::Failure;

/// How long a connection attempt may take, and the pause between two.
const CONNECT_MAX: Duration = Duration::from_secs(3);
const PAUSE: Duration = Duration::from_millis(20);
/// Strangers that are heard out at once.
const STRANGERS_MAX: usize = 64;

/// A process that listens, and has not met the others.
#[derive(Debug)]
pub struct Listener {
    processes: Processes,
    socket: TcpListener,
    terms: Terms,
    deadline: Instant,
}

/// A process that has joined process 0.
#[derive(Debug)]
pub struct Joined {
    listener: Listener,
    key: Key,
    control: TcpStream,
    /// The run.
    pub incarnation: Incarnation,
    /// Where it starts.
    pub commit: Commit,
}

/// All processes are connected.
#[derive(Debug)]
pub struct Cluster {
    /// Which process this is.
    pub processes: Processes,
    /// Connections for timely, by process.
    data: Vec<Option<TcpStream>>,
    /// Control connections: to all others from process 0, to process 0 from the others.
    pub controls: Vec<(usize, TcpStream)>,
    _files: Option<KeyFiles>,
}

impl Cluster {
    /// Timely's connections, by process.
    pub fn links(&mut self, failure: &Arc<Failure>) -> Vec<Option<Link>> {
        let data = std::mem::take(&mut self.data).into_iter().enumerate();
        let link = |(process, stream): (usize, Option<TcpStream>)| {
            stream.map(|stream| Link::new(stream, process, Arc::clone(failure)))
        };
        data.map(link).collect()
    }
}

impl Listener {
    /// Listens on the address of this process.
    pub fn bind(
        processes: &Processes,
        job: &Job,
        workers: usize,
        follow: bool,
    ) -> Result<Listener, ClusterError> {
        let address = &processes.addresses[processes.process];
        let failed = |error| {
            let (process, address) = (processes.process, address.clone());
            ClusterError::Listen { process, address, error }
        };
        let socket = TcpListener::bind(address).map_err(failed)?;
        socket.set_nonblocking(true).map_err(failed)?;
        let definition = serde_json::to_vec(&job.definition).unwrap_or_default();
        let definition = format!("{:032x}", xxhash_rust::xxh3::xxh3_128(&definition));
        let terms = Terms::new(&job.name, definition, processes.count(), workers, follow);
        let deadline = Instant::now() + processes.join_timeout;
        Ok(Listener { processes: processes.clone(), socket, terms, deadline })
    }

    /// Process 0: waits for the others, and starts the run with them.
    pub fn lead(
        self,
        job: &Job,
        incarnation: Incarnation,
        commit: Commit,
    ) -> Result<Cluster, ClusterError> {
        let (key, files) = key::make(job)?;
        let run = (incarnation.0, commit.0);
        let others = || 1..self.processes.count();
        let controls = self.accept_all(&key, Kind::Control, others().collect(), run)?;
        let mut controls: Vec<_> = controls.into_iter().collect();
        for (process, stream) in &mut controls {
            self.await_frame(*process, stream, |frame| matches!(frame, Frame::Ready))?;
        }
        for (process, stream) in &mut controls {
            let sent = frames::write(stream, &Frame::<()>::Start);
            sent.map_err(|error| self.lost(*process, &error.to_string()))?;
        }
        let mut links = self.accept_all(&key, Kind::Data, others().collect(), run)?;
        let data = (0..self.processes.count()).map(|process| links.remove(&process)).collect();
        Ok(Cluster { processes: self.processes, data, controls, _files: Some(files) })
    }

    /// Another process: joins process 0, and learns which run it is.
    pub fn join(self, job: &Job) -> Result<Joined, ClusterError> {
        loop {
            let joined = key::read(job).map_err(|error| error.to_string()).and_then(|key| {
                let greeted = self.connect(0, Kind::Control, &key);
                greeted.map(|greeted| (key, greeted)).map_err(|error| error.to_string())
            });
            match joined {
                Ok((key, (control, Answer::Welcome { incarnation, commit }))) => {
                    let (incarnation, commit) = (Incarnation(incarnation), Commit(commit));
                    let joined = Joined { listener: self, key, control, incarnation, commit };
                    return joined.check_warehouse(job);
                }
                Ok((_, (_, Answer::Refused { why }))) => {
                    return Err(ClusterError::Refused { process: self.processes.process, why });
                }
                Err(error) => self.pause(vec![0], &error)?,
            }
        }
    }

    /// Waits a little, unless the time is over.
    fn pause(&self, missing: Vec<usize>, last: &str) -> Result<(), ClusterError> {
        if Instant::now() < self.deadline {
            std::thread::park_timeout(PAUSE);
            return Ok(());
        }
        let name =
            |process: &usize| format!("process {process} ({})", self.processes.addresses[*process]);
        let who = missing.iter().map(name).collect::<Vec<_>>().join(", ");
        let last = if last.is_empty() { String::new() } else { format!(" (last: {last})") };
        Err(ClusterError::Absent { who, seconds: self.processes.join_timeout.as_secs(), last })
    }

    fn lost(&self, process: usize, why: &str) -> ClusterError {
        let address = self.processes.addresses[process].clone();
        ClusterError::Lost { process, address, why: why.to_owned() }
    }

    /// One attempt to reach a process.
    fn connect(&self, process: usize, kind: Kind, key: &Key) -> io::Result<(TcpStream, Answer)> {
        let address = &self.processes.addresses[process];
        let mut error = io::Error::new(io::ErrorKind::NotFound, "no such address");
        for address in address.to_socket_addrs()? {
            match TcpStream::connect_timeout(&address, CONNECT_MAX) {
                Ok(mut stream) => {
                    prepare(&stream)?;
                    let me = self.processes.process;
                    let hello = Hello::new(kind, me, process, self.terms.clone());
                    let answer = greet(&mut stream, key, &hello)?;
                    stream.set_read_timeout(None)?;
                    return Ok((stream, answer));
                }
                Err(refused) => error = refused,
            }
        }
        Err(io::Error::new(error.kind(), format!("{address}: {error}")))
    }

    /// Waits for connections of one kind from `wanted`; whoever else comes is sent away.
    fn accept_all(
        &self,
        key: &Key,
        kind: Kind,
        mut wanted: Vec<usize>,
        run: (u64, u64),
    ) -> Result<BTreeMap<usize, TcpStream>, ClusterError> {
        let mut found = BTreeMap::new();
        let (heard, queue) = bounded(STRANGERS_MAX);
        let strangers = Arc::new(AtomicUsize::new(0));
        while !wanted.is_empty() {
            while let Ok((stream, peer)) = self.socket.accept() {
                if strangers.load(Ordering::SeqCst) >= STRANGERS_MAX {
                    tracing::warn!(%peer, "sent away: too many strangers at once");
                    continue;
                }
                strangers.fetch_add(1, Ordering::SeqCst);
                let (key, terms, me) = (key.clone(), self.terms.clone(), self.processes.process);
                let (heard, strangers) = (heard.clone(), Arc::clone(&strangers));
                let hear = move || {
                    hear_out(stream, &key, &terms, me, run, &heard);
                    strangers.fetch_sub(1, Ordering::SeqCst);
                };
                let thread = std::thread::Builder::new().name("handshake".to_owned()).spawn(hear);
                if let Err(error) = thread {
                    tracing::warn!(%peer, %error, "sent away: no thread can be started");
                }
            }
            while let Ok((hello, stream)) = queue.try_recv() {
                let hello: Hello = hello;
                if hello.kind == kind && wanted.contains(&hello.from) {
                    wanted.retain(|process| *process != hello.from);
                    found.insert(hello.from, stream);
                }
            }
            if !wanted.is_empty() {
                self.pause(wanted.clone(), "")?;
            }
        }
        Ok(found)
    }

    /// Waits for a frame of the set-up on a control connection.
    fn await_frame(
        &self,
        process: usize,
        stream: &mut TcpStream,
        is_wanted: impl Fn(&Frame<()>) -> bool,
    ) -> Result<(), ClusterError> {
        loop {
            let left = self.deadline.saturating_duration_since(Instant::now());
            let frame = stream
                .set_read_timeout(Some(left.max(PAUSE)))
                .and_then(|()| frames::read::<Frame<()>>(stream));
            match frame {
                Ok(Frame::Failed { process, message, refused }) => {
                    return Err(ClusterError::Failed { process, message, refused });
                }
                Ok(frame) if is_wanted(&frame) => return Ok(()),
                Ok(_) => {}
                Err(error) => return Err(self.lost(process, &error.to_string())),
            }
        }
    }
}

impl Joined {
    fn check_warehouse(mut self, job: &Job) -> Result<Joined, ClusterError> {
        if key::sees_warehouse(job, &self.key) {
            return Ok(self);
        }
        let process = self.listener.processes.process;
        let folder = job.lake.warehouse.display();
        let why = format!(
            "the warehouse {folder} that it sees is not that of process 0: \
             put state and lake on storage that all processes reach"
        );
        self.fail(ClusterError::Refused { process, why: why.clone() }.into(), |_| true);
        Err(ClusterError::Refused { process, why })
    }

    /// Tells process 0 that the job can't be opened here.
    pub fn fail(
        &mut self,
        error: anyhow::Error,
        is_refusal: fn(&anyhow::Error) -> bool,
    ) -> anyhow::Error {
        let me = self.listener.processes.process;
        // Process 0 may be gone; then it knows already.
        frames::write(&mut self.control, &failed_frame(me, &error, is_refusal)).ok();
        error
    }

    /// The job is open here, too: connects with the others.
    pub fn ready(mut self) -> Result<Cluster, ClusterError> {
        let sent = frames::write(&mut self.control, &Frame::<()>::Ready);
        sent.map_err(|error| self.listener.lost(0, &error.to_string()))?;
        let listener = &self.listener;
        listener.await_frame(0, &mut self.control, |frame| matches!(frame, Frame::Start))?;
        let (me, count) = (listener.processes.process, listener.processes.count());
        let mut links = BTreeMap::new();
        for process in 0..me {
            links.insert(process, self.connect_data(process)?);
        }
        let run = (self.incarnation.0, self.commit.0);
        let others = (me + 1..count).collect();
        links.extend(listener.accept_all(&self.key, Kind::Data, others, run)?);
        let data = (0..count).map(|process| links.remove(&process)).collect();
        let (processes, controls) = (self.listener.processes, vec![(0, self.control)]);
        Ok(Cluster { processes, data, controls, _files: None })
    }

    fn connect_data(&self, process: usize) -> Result<TcpStream, ClusterError> {
        let listener = &self.listener;
        loop {
            match listener.connect(process, Kind::Data, &self.key) {
                Ok((stream, Answer::Welcome { .. })) => return Ok(stream),
                Ok((_, Answer::Refused { why })) => {
                    let process = listener.processes.process;
                    return Err(ClusterError::Refused { process, why });
                }
                Err(error) => listener.pause(vec![process], &error.to_string())?,
            }
        }
    }
}

/// Hears a connection out, and hands it on if it comes from a process of the run.
fn hear_out(
    mut stream: TcpStream,
    key: &Key,
    terms: &Terms,
    me: usize,
    run: (u64, u64),
    heard: &Sender<(Hello, TcpStream)>,
) {
    let hello = stream
        .set_nonblocking(false)
        .and_then(|()| prepare(&stream))
        .and_then(|()| hear(&mut stream, key, terms, me, run))
        .and_then(|hello| stream.set_read_timeout(None).map(|()| hello));
    match hello {
        Ok(Some(hello)) => drop(heard.send((hello, stream))),
        Ok(None) => {}
        Err(error) => {
            let peer = stream.peer_addr().map_or_else(|_| "?".to_owned(), |a| a.to_string());
            tracing::warn!(peer, %error, "a stranger was sent away");
        }
    }
}

/// Small messages at once; a connection that is cut is noticed even if nothing is to be said.
fn prepare(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let socket = SockRef::from(stream);
    let keepalive = TcpKeepalive::new()
        .with_time(SILENCE_MAX / 3)
        .with_interval(SILENCE_MAX / 6)
        .with_retries(4);
    socket.set_tcp_keepalive(&keepalive)?;
    socket.set_tcp_user_timeout(Some(SILENCE_MAX))
}
