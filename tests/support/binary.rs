//! The program as a process of its own, told by its log where it listens.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

/// A running server, killed when the test ends however it ends.
pub(crate) struct Binary {
    pub(crate) process: Child,
    pub(crate) url: String,
}

impl Binary {
    /// Starts it. Its configuration has port 0 and the log as JSON.
    pub(crate) fn start(command: &mut Command) -> Self {
        let mut process = command.stderr(Stdio::piped()).spawn().unwrap();
        let mut log = BufReader::new(process.stderr.take().unwrap());
        // After a crash it tells first what it has put right.
        let address = loop {
            let mut text = String::new();
            log.read_line(&mut text).unwrap();
            let line: serde_json::Value =
                serde_json::from_str(&text).unwrap_or_else(|_| panic!("the server did not start: {text}"));
            if let Some(address) = line["address"].as_str() {
                break address.to_owned();
            }
        };
        let url = format!("http://{address}");
        // The pipe must be emptied, or the server stops at a full one.
        std::thread::spawn(move || std::io::copy(&mut log, &mut std::io::sink()));
        Self { process, url }
    }
}

impl Drop for Binary {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
