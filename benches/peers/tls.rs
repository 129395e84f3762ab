//! G2: a blob of 100 MiB over TLS 1.3, and handshakes.
//!
//! Clients shake hands and ask as clients do, and have the kernel throw away what comes without decrypting it. What they count are bytes
//! on the wire, of which records and frames are a few in a thousand, the same few for all servers.

use std::io::{Read as _, Write as _};
use std::net::Shutdown;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use anyhow::{Result, bail, ensure};
use rustix::net::{RecvFlags, recv};
use rustls::{ClientConfig, ClientConnection, StreamOwned};

use crate::content::LARGE;
use crate::goal::Bound::{AtLeast, AtMost};
use crate::goal::Criterion;
use crate::machine::{Processors, now, since};
use crate::peers::Role;
use crate::samples::{Column, Outcome, Samples, column};
use crate::secure::{self, CERTIFICATE, Protocol, Suite};
use crate::seed::Set;
use crate::server::{Kind, MB, Sampler, Server};
use crate::stage::{Stage, rounds};
use crate::stats::float;

const SERVERS: [Kind; 3] = [Kind::Roadstead, Kind::V3, Kind::Nginx];
const CONNECTIONS: usize = 8;
const BUFFER: usize = 1024 * 1024;
const BLOBS: [Column; 4] =
    [column("rate", "GB/s"), column("cpu", "CPU-s / GB"), column("anonymous", "anonymous MB"), column("peak", "VmHWM MB")];
const HANDSHAKES: [Column; 3] =
    [column("rate", "handshakes/s"), column("cpu", "CPU-ms each"), column("each", "handshakes / CPU-s")];

/// What clients have done so far, and whether they are to end.
#[derive(Default)]
struct Done {
    count: AtomicU64,
    ends: AtomicBool,
}

impl Done {
    fn ends(&self) -> bool {
        self.ends.load(Ordering::Relaxed)
    }

    fn add(&self, more: u64) {
        self.count.fetch_add(more, Ordering::Relaxed);
    }
}

/// Counts what clients do, and the processor time that the server uses, while the window is open.
fn watch(stage: &Stage, server: &Server, done: &Done, samples: &mut Samples) -> Result<f64> {
    let window = stage.window();
    thread::sleep(window.warm_up);
    let memory = Sampler::start(server);
    let (begin, cpu, before) = (now(), server.cpu()?, done.count.load(Ordering::Relaxed));
    thread::sleep(window.length);
    let (used, counted) = (server.cpu()?.saturating_sub(cpu), done.count.load(Ordering::Relaxed) - before);
    let seconds = since(begin).as_secs_f64();
    let memory = memory.stop()?;
    ensure!(counted > 0, "{} did nothing for {seconds} s", server.kind.key());
    let counted = float(counted);
    samples.push(server.kind, "rate", counted / seconds);
    samples.push(server.kind, "cpu", used.as_secs_f64() / counted);
    samples.push(server.kind, "anonymous", float(memory.anonymous) / MB);
    samples.push(server.kind, "peak", float(memory.peak) / MB);
    Ok(counted)
}

type Connected = StreamOwned<ClientConnection, std::net::TcpStream>;

/// Asks again and again for the blob. The next request goes out when as many bytes have come as the blob has, a moment before its last ones,
/// which no client can tell without decrypting them.
fn download(mut stream: Connected, protocol: Protocol, port: u16, path: &str, done: &Done) -> Result<()> {
    let mut buffer = vec![0; BUFFER];
    stream.write_all(&protocol.opening())?;
    let size = u32::try_from(LARGE)?;
    for number in 0.. {
        match stream.write_all(&protocol.request(number, port, path, size)?) {
            Err(_) if done.ends() => return Ok(()),
            written => written?,
        }
        let mut left = LARGE as u64;
        while left > 0 {
            let count = match recv(&stream.sock, buffer.as_mut_slice(), RecvFlags::TRUNC) {
                Ok((_, count)) if count > 0 => count as u64,
                _ if done.ends() => return Ok(()),
                Ok(_) => bail!("port {port} ended a connection"),
                Err(error) => return Err(error.into()),
            };
            done.add(count);
            left = left.saturating_sub(count);
        }
    }
    Ok(())
}

fn blobs(stage: &Stage, servers: &[Server], count: usize, suite: Suite, protocol: Protocol) -> Result<Samples> {
    let offer = secure::offer(&stage.run.join(CERTIFICATE), suite, protocol)?;
    for server in servers {
        let digest = secure::digest(&offer, protocol, server.port, &stage.paths.large)?;
        ensure!(digest == stage.paths.large_digest, "{} serves other bytes than were pushed", server.kind.key());
    }
    rounds(servers, count, |server, samples| {
        let (done, path) = (Done::default(), stage.paths.large.as_str());
        let mut streams = Vec::new();
        for _ in 0..CONNECTIONS {
            streams.push(secure::connect(&offer, server.port)?);
        }
        let ends: Vec<_> = streams.iter().map(|stream| stream.sock.try_clone()).collect::<std::io::Result<_>>()?;
        thread::scope(|scope| {
            let done = &done;
            let clients: Vec<_> = streams
                .into_iter()
                .map(|stream| scope.spawn(move || download(stream, protocol, server.port, path, done)))
                .collect();
            let watched = watch(stage, server, done, samples);
            done.ends.store(true, Ordering::Relaxed);
            for end in ends {
                // One that the server has closed cannot be closed.
                let _ = end.shutdown(Shutdown::Both);
            }
            for client in clients {
                let Ok(ended) = client.join() else { bail!("a client ended") };
                ended?;
            }
            watched
        })?;
        Ok(())
    })
}

/// Shakes hands again and again, and waits each time until the server has seen the end of it.
fn shake_hands(offer: &Arc<ClientConfig>, port: u16, done: &Done) -> Result<()> {
    while !done.ends() {
        let mut stream = secure::connect(offer, port)?;
        stream.conn.send_close_notify();
        stream.flush()?;
        let mut rest = [0; 4096];
        // Tickets, and the server's goodbye.
        while stream.sock.read(&mut rest).is_ok_and(|count| count > 0) {}
        done.add(1);
    }
    Ok(())
}

fn handshakes(stage: &Stage, servers: &[Server], count: usize) -> Result<Samples> {
    let offer = secure::offer(&stage.run.join(CERTIFICATE), Suite::Aes128, Protocol::Http1)?;
    rounds(servers, count, |server, samples| {
        let done = Done::default();
        thread::scope(|scope| {
            let (done, offer) = (&done, &offer);
            let clients: Vec<_> = (0..CONNECTIONS).map(|_| scope.spawn(move || shake_hands(offer, server.port, done))).collect();
            let watched = watch(stage, server, done, samples);
            done.ends.store(true, Ordering::Relaxed);
            for client in clients {
                let Ok(ended) = client.join() else { bail!("a client ended") };
                ended?;
            }
            watched
        })?;
        Ok(())
    })
}

/// In the units of the tables.
fn scaled(samples: &Samples, by: &[(&'static str, f64)]) -> Samples {
    let mut scaled = Samples::default();
    for kind in SERVERS {
        for what in ["anonymous", "peak"] {
            samples.of(kind, what).iter().for_each(|value| scaled.push(kind, what, *value));
        }
        for (what, factor) in by {
            samples.of(kind, what).iter().for_each(|value| scaled.push(kind, what, value * factor));
        }
    }
    scaled
}

/// Downloads with both ciphers over both protocols, then handshakes.
pub(crate) fn encrypted(stage: &Stage, count: usize) -> Result<Outcome> {
    let mut outcome = Outcome::default();
    let servers = stage.field_as(&SERVERS, |_| Role::Encrypted, Set::Content, Processors::Pinned)?;
    for protocol in [Protocol::Http1, Protocol::Http2] {
        for suite in [Suite::Aes128, Suite::Aes256] {
            let samples = blobs(stage, &servers, count, suite, protocol)?;
            let samples = scaled(&samples, &[("rate", 1e-9), ("cpu", 1e9)]);
            let name = format!("{}, {}", protocol.title(), suite.title());
            let title = format!("GET 100 MiB over TLS 1.3, {name}, {CONNECTIONS} connections, pinned, the client discards:");
            outcome.add(&format!("100 MiB, {name}"), &samples, samples.table(title, &BLOBS, ("cpu", "CPU")));
            outcome.criteria.push(match protocol {
                Protocol::Http1 => {
                    let what = format!("our CPU ÷ nginx's (OpenSSL), {name}");
                    Criterion::must("G2", what, AtMost(0.60), samples.ours_over(Kind::Nginx, "cpu")).stretch(AtMost(0.46))
                }
                Protocol::Http2 => {
                    let what = format!("our CPU ÷ v3's, {name}");
                    Criterion::must("G2", what, AtMost(0.45), samples.ours_over(Kind::V3, "cpu")).stretch(AtMost(0.37))
                }
            });
        }
    }
    let samples = handshakes(stage, &servers, count)?;
    let mut samples = scaled(&samples, &[("rate", 1.0), ("cpu", 1e3)]);
    for kind in SERVERS {
        for each in samples.of(kind, "cpu").to_vec() {
            samples.push(kind, "each", 1e3 / each);
        }
    }
    let title =
        format!("Whole handshakes of TLS 1.3 (X25519, ECDSA P-256, no session of before), {CONNECTIONS} at once, pinned:");
    outcome.add("handshakes", &samples, samples.table(title, &HANDSHAKES, ("cpu", "CPU")));
    let ratio = samples.ours_over(Kind::Nginx, "each");
    outcome.criteria.push(Criterion::must("G2", "our handshakes per CPU second ÷ nginx's (OpenSSL)", AtLeast(1.0), ratio));
    Ok(outcome)
}
