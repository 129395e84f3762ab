//! The load: many kept connections on one thread, with hand-written requests and as little parsing as will do.
//!
//! It has to be much cheaper than the servers, so that one processor of it keeps one processor of theirs busy.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::TcpStream;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use rustix::buffer::spare_capacity;
use rustix::event::{Timespec, epoll};
use rustix::net::{RecvFlags, recv};

use crate::client::address;
use crate::histogram::Histogram;
use crate::http::{Head, Length};
use crate::machine::{now, thread_cpu};

/// How much of a body is taken at once.
const BUFFER: usize = 1024 * 1024;
/// How much is read where a head is expected.
const SMALL_BUFFER: usize = 64 * 1024;
/// A server that answers nothing for so long is broken.
const SILENCE: Duration = Duration::from_mins(1);

/// What is asked for.
#[derive(Clone)]
pub(crate) struct Work {
    pub(crate) port: u16,
    /// Asked in turns.
    pub(crate) requests: Vec<Vec<u8>>,
    pub(crate) connections: usize,
    pub(crate) threads: usize,
    /// Whether bodies are copied to this process, or thrown away by the kernel.
    pub(crate) copies: bool,
    /// Whether answers have no body, whatever their head says.
    pub(crate) bodiless: bool,
}

/// How long the load runs before it counts, and how long it counts.
#[derive(Clone, Copy)]
pub(crate) struct Window {
    pub(crate) warm_up: Duration,
    pub(crate) length: Duration,
}

/// What was counted.
#[derive(Default)]
pub(crate) struct Counted {
    pub(crate) requests: u64,
    /// Bytes of bodies.
    pub(crate) bytes: u64,
    pub(crate) seconds: f64,
    /// The server's processor time.
    pub(crate) cpu: Duration,
    /// What the load itself took, in its first thread.
    pub(crate) own: Duration,
    pub(crate) latencies: Histogram,
}

/// What a thread counts of the server when the window opens and when it closes.
type Probe<'a> = &'a (dyn Fn() -> Result<Duration> + Sync);

/// Runs the load; `cpu` says how much processor time the server has used so far.
pub(crate) fn run(work: &Work, window: Window, cpu: Probe<'_>) -> Result<Counted> {
    let mut loops = Vec::new();
    for thread in 0..work.threads {
        loops.push(Loop::open(work, thread)?);
    }
    let open = now() + window.warm_up;
    let close = open + window.length;
    thread::scope(|scope| {
        let mut loops = loops.into_iter();
        let first = loops.next().context("a load without a thread")?;
        let others: Vec<_> = loops.map(|other| scope.spawn(move || other.run(open, close, None))).collect();
        let mut counted = first.run(open, close, Some(cpu))?;
        for other in others {
            let Ok(other) = other.join() else { bail!("a thread of the load ended") };
            let other = other?;
            counted.requests += other.requests;
            counted.bytes += other.bytes;
            counted.latencies.merge(&other.latencies);
        }
        Ok(counted)
    })
}

/// What a connection is waiting for.
#[derive(Clone, Copy)]
enum Wait {
    Head,
    /// This much of a body.
    Body(u64),
}

struct Connection {
    stream: TcpStream,
    wait: Wait,
    /// A head that has not come whole.
    partial: Vec<u8>,
    /// The request that is under way.
    request: usize,
    asked: Duration,
}

/// The connections of one thread.
struct Loop<'work> {
    work: &'work Work,
    connections: Vec<Connection>,
    epoll: rustix::fd::OwnedFd,
    buffer: Vec<u8>,
    counted: Counted,
    counting: bool,
    time: Duration,
}

impl<'work> Loop<'work> {
    fn open(work: &'work Work, thread: usize) -> Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let mut connections: Vec<Connection> = Vec::new();
        for number in (thread..work.connections).step_by(work.threads) {
            let stream = TcpStream::connect(address(work.port))?;
            stream.set_nodelay(true)?;
            stream.set_nonblocking(true)?;
            epoll::add(&epoll, &stream, epoll::EventData::new_u64(connections.len() as u64), epoll::EventFlags::IN)?;
            // They begin at different places of the list.
            let request = number * work.requests.len() / work.connections;
            connections.push(Connection { stream, wait: Wait::Head, partial: Vec::new(), request, asked: Duration::ZERO });
        }
        let buffer = vec![0; BUFFER];
        Ok(Self { work, connections, epoll, buffer, counted: Counted::default(), counting: false, time: now() })
    }

    fn run(mut self, open: Duration, close: Duration, probe: Option<Probe<'_>>) -> Result<Counted> {
        let mut events = Vec::with_capacity(256);
        for index in 0..self.connections.len() {
            self.ask(index)?;
        }
        let (mut opened, mut used) = (Duration::ZERO, Duration::ZERO);
        let mut heard = now();
        loop {
            self.time = now();
            if !self.counting && self.time >= open {
                (opened, used) = (self.time, probe.map_or(Ok(Duration::ZERO), |probe| probe())?);
                self.counted.own = thread_cpu();
                self.counting = true;
            }
            if self.time >= close {
                break;
            }
            let limit = if self.counting { close } else { open }.saturating_sub(self.time);
            events.clear();
            let timeout = Timespec { tv_sec: limit.as_secs().try_into()?, tv_nsec: limit.subsec_nanos().into() };
            match epoll::wait(&self.epoll, spare_capacity(&mut events), Some(&timeout)) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
            self.time = now();
            if !events.is_empty() {
                heard = self.time;
            }
            ensure!(
                self.time.saturating_sub(heard) < SILENCE,
                "port {} has been silent for {} s",
                self.work.port,
                SILENCE.as_secs()
            );
            for event in &events {
                self.read(usize::try_from(event.data.u64())?)?;
            }
        }
        self.counted.cpu = probe.map_or(Ok(Duration::ZERO), |probe| probe())?.saturating_sub(used);
        self.counted.own = thread_cpu().saturating_sub(self.counted.own);
        self.counted.seconds = self.time.saturating_sub(opened).as_secs_f64();
        Ok(self.counted)
    }

    /// Sends a connection's next request.
    fn ask(&mut self, index: usize) -> Result<()> {
        let connection = &mut self.connections[index];
        let request = &self.work.requests[connection.request];
        connection.request = (connection.request + 1) % self.work.requests.len();
        connection.asked = self.time;
        connection.wait = Wait::Head;
        let sent = connection.stream.write(request)?;
        ensure!(sent == request.len(), "a request did not fit into an empty socket");
        Ok(())
    }

    /// Takes what a connection has.
    fn read(&mut self, index: usize) -> Result<()> {
        match self.connections[index].wait {
            Wait::Head => self.read_head(index),
            Wait::Body(left) => self.read_body(index, left),
        }
    }

    fn read_head(&mut self, index: usize) -> Result<()> {
        let connection = &mut self.connections[index];
        let count = match connection.stream.read(&mut self.buffer[..SMALL_BUFFER]) {
            Ok(0) => bail!("port {} closed a kept connection", self.work.port),
            Ok(count) => count,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        let joined;
        let bytes = if connection.partial.is_empty() {
            &self.buffer[..count]
        } else {
            joined = [std::mem::take(&mut connection.partial).as_slice(), &self.buffer[..count]].concat();
            &joined
        };
        let Some(head) = Head::parse(bytes)? else {
            connection.partial = bytes.to_vec();
            return Ok(());
        };
        ensure!(head.status == 200 && !head.closes, "port {} answers: {}", self.work.port, String::from_utf8_lossy(bytes));
        let Length::Exactly(length) = head.length else { bail!("port {}: an answer without a length", self.work.port) };
        let here = (bytes.len() - head.size) as u64;
        if self.counting {
            self.counted.bytes += here;
        }
        let length = if self.work.bodiless { 0 } else { length };
        let left = length.checked_sub(here).context("more bytes than the answer says")?;
        self.go_on(index, left)
    }

    fn read_body(&mut self, index: usize, left: u64) -> Result<()> {
        let connection = &mut self.connections[index];
        let room = BUFFER.min(usize::try_from(left).unwrap_or(BUFFER));
        let flags = if self.work.copies { RecvFlags::empty() } else { RecvFlags::TRUNC };
        let count = match recv(&connection.stream, &mut self.buffer[..room], flags) {
            Ok((_, 0)) => bail!("port {} ended a body {left} bytes too early", self.work.port),
            Ok((_, count)) => count as u64,
            Err(rustix::io::Errno::AGAIN) => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        if self.counting {
            self.counted.bytes += count;
        }
        self.go_on(index, left - count)
    }

    /// Waits for the rest of a body, or asks again.
    fn go_on(&mut self, index: usize, left: u64) -> Result<()> {
        if left > 0 {
            self.connections[index].wait = Wait::Body(left);
            return Ok(());
        }
        if self.counting {
            self.counted.requests += 1;
            // The time of the answer itself: others of this turn may have come before it.
            self.time = now();
            self.counted.latencies.record(self.time.saturating_sub(self.connections[index].asked));
        }
        self.ask(index)
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead as _, BufReader};
    use std::net::TcpListener;

    use super::*;
    use crate::client::request;

    /// Answers every request of every connection with the same bytes, and returns its port. Its threads end with their connections.
    fn serve(answer: Vec<u8>) -> u16 {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        thread::spawn(move || {
            for stream in listener.incoming() {
                let (mut stream, answer) = (stream.unwrap(), answer.clone());
                thread::spawn(move || {
                    let requests = BufReader::new(stream.try_clone().unwrap()).lines();
                    for line in requests {
                        let ends = line.is_ok_and(|line| line.is_empty());
                        if ends && stream.write_all(&answer).is_err() {
                            return;
                        }
                    }
                });
            }
        });
        port
    }

    fn work(port: u16, threads: usize) -> Work {
        let requests = vec![request("GET", port, "/")];
        Work { port, requests, connections: 4, threads, copies: true, bodiless: false }
    }

    const SHORT: Window = Window { warm_up: Duration::ZERO, length: Duration::from_millis(150) };

    fn answer(size: usize) -> Vec<u8> {
        [format!("HTTP/1.1 200 OK\r\nContent-Length: {size}\r\n\r\n").into_bytes(), vec![b'x'; size]].concat()
    }

    #[test]
    fn what_was_answered_is_counted_whether_copied_or_thrown_away() {
        let size = 3_000_000;
        let port = serve(answer(size));
        for (threads, copies) in [(1, true), (2, true), (1, false), (2, false)] {
            let counted = run(&Work { copies, ..work(port, threads) }, SHORT, &|| Ok(Duration::ZERO)).unwrap();
            assert!(counted.requests > 0, "{threads} {copies}");
            // Those under way at the end have sent a part.
            let (least, most) = (counted.requests * size as u64, (counted.requests + 4) * size as u64);
            assert!((least..most).contains(&counted.bytes), "{} of {}", counted.bytes, counted.requests);
            assert!(counted.latencies.percentile(50) > Duration::ZERO && counted.latencies.slowest() < Duration::from_secs(10));
        }
    }

    #[test]
    fn an_answer_to_head_has_no_body_whatever_it_says() {
        let port = serve(b"HTTP/1.1 200 OK\r\nContent-Length: 1400\r\n\r\n".to_vec());
        let counted = run(&Work { bodiless: true, ..work(port, 1) }, SHORT, &|| Ok(Duration::ZERO)).unwrap();
        assert!(counted.requests > 4 && counted.bytes == 0, "{} {}", counted.requests, counted.bytes);
    }

    #[test]
    fn the_processor_time_is_that_between_opening_and_closing() {
        let (port, times) = (serve(answer(10)), std::sync::atomic::AtomicU64::new(0));
        let probe = || Ok(Duration::from_secs(times.fetch_add(7, std::sync::atomic::Ordering::Relaxed)));
        assert_eq!(run(&work(port, 1), SHORT, &probe).unwrap().cpu, Duration::from_secs(7));
    }

    #[test]
    fn a_refusal_or_an_end_of_a_connection_is_an_error_and_not_a_fast_answer() {
        for wrong in
            [b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n".as_slice(), b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n"]
        {
            assert!(run(&work(serve(wrong.to_vec()), 1), SHORT, &|| Ok(Duration::ZERO)).is_err());
        }
    }
}
