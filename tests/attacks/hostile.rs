//! An upstream that answers whatever a test wants, byte by byte, and remembers what it was asked.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

/// What it answers to a path: the head and the first bytes of a body, and what follows so many times.
#[derive(Clone, Debug, Default)]
pub(crate) struct Reply {
    pub(crate) begin: Vec<u8>,
    pub(crate) piece: Vec<u8>,
    pub(crate) times: u64,
}

impl Reply {
    /// A status, headers and a body with its length.
    pub(crate) fn new(status: u16, headers: &str, body: &[u8]) -> Self {
        Self { begin: [head(status, headers, body.len() as u64).as_bytes(), body].concat(), ..Self::default() }
    }

    /// A body of so many pieces; the length is what it says.
    pub(crate) fn long(status: u16, headers: &str, piece: &[u8], times: u64) -> Self {
        let begin = head(status, headers, piece.len() as u64 * times).into_bytes();
        Self { begin, piece: piece.to_vec(), times }
    }

    /// The same in chunks, so that nobody knows its length before.
    pub(crate) fn in_chunks(status: u16, headers: &str, piece: &[u8], times: u64) -> Self {
        let begin = format!("HTTP/1.1 {status} X\r\n{headers}transfer-encoding: chunked\r\n\r\n").into_bytes();
        let chunk = [format!("{:x}\r\n", piece.len()).as_bytes(), piece, b"\r\n"].concat();
        Self { begin, piece: chunk, times }
    }
}

fn head(status: u16, headers: &str, length: u64) -> String {
    format!("HTTP/1.1 {status} X\r\n{headers}content-length: {length}\r\nconnection: close\r\n\r\n")
}

/// It listens until the process ends.
pub(crate) struct Hostile {
    pub(crate) address: SocketAddr,
    asked: Arc<Mutex<Vec<String>>>,
    /// Bytes of answers that were taken.
    sent: Arc<AtomicU64>,
}

impl Hostile {
    /// One that finds its answer by the path and query that it is asked for.
    pub(crate) fn start(answer: impl Fn(&str, &str) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (asked, sent) = (Arc::<Mutex<Vec<String>>>::default(), Arc::<AtomicU64>::default());
        let hostile = Self { address, asked: Arc::clone(&asked), sent: Arc::clone(&sent) };
        let answer = Arc::new(answer);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (answer, asked, sent) = (Arc::clone(&answer), Arc::clone(&asked), Arc::clone(&sent));
                thread::spawn(move || serve(stream, &*answer, &asked, &sent));
            }
        });
        hostile
    }

    /// The heads of the requests that came.
    pub(crate) fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }

    pub(crate) fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    /// The section of a configuration that has it as `host`.
    pub(crate) fn section(&self, host: &str, more: &str) -> String {
        format!("[[upstream]]\nhost = \"{host}\"\nurl = \"http://{}\"\ntag_lifetime = \"0s\"\n{more}\n", self.address)
    }
}

/// Answers one request, which has no body.
fn serve(mut stream: TcpStream, answer: &dyn Fn(&str, &str) -> Reply, asked: &Mutex<Vec<String>>, sent: &AtomicU64) {
    stream.set_write_timeout(Some(Duration::from_secs(10))).unwrap();
    let mut head = String::new();
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    while !head.ends_with("\r\n\r\n") {
        if reader.read_line(&mut head).unwrap_or(0) == 0 {
            return;
        }
    }
    asked.lock().unwrap().push(head.clone());
    let mut words = head.split(' ');
    let (method, path) = (words.next().unwrap(), words.next().unwrap());
    let Reply { begin, piece, times } = answer(method, path);
    if stream.write_all(&begin).is_err() {
        return;
    }
    for _ in 0..times {
        if stream.write_all(&piece).is_err() {
            return;
        }
        sent.fetch_add(piece.len() as u64, Ordering::Relaxed);
    }
}
