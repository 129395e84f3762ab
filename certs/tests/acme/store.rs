//! What replicas share, and the time, in memory.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::Mutex;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use bytes::Bytes;
use roadstead_certs::acme::{Records, RecordsError, Version};
use telemetry::{Clock, SystemClock};
use tokio::sync::watch;

/// Small objects; they can be made unreachable.
#[derive(Default)]
pub(crate) struct Store {
    objects: Mutex<BTreeMap<String, (Bytes, u64)>>,
    reads: Mutex<BTreeMap<String, usize>>,
    /// Keys whose reads and writes fail; `""` for all.
    down: Mutex<Option<String>>,
    /// Keys whose writes fail.
    full: Mutex<Option<String>>,
}

impl Store {
    /// The one object whose key begins so.
    pub(crate) fn object(&self, start: &str) -> Option<(String, Bytes)> {
        let objects = self.objects.lock().unwrap();
        objects.iter().find(|(key, _)| key.starts_with(start)).map(|(key, (bytes, _))| (key.clone(), bytes.clone()))
    }

    pub(crate) fn put(&self, key: &str, text: &str) {
        let mut objects = self.objects.lock().unwrap();
        let version = objects.get(key).map_or(0, |(_, version)| *version);
        objects.insert(key.to_owned(), (Bytes::from(text.to_owned()), version + 1));
    }

    pub(crate) fn remove(&self, key: &str) {
        self.objects.lock().unwrap().remove(key);
    }

    pub(crate) fn reads(&self, key: &str) -> usize {
        self.reads.lock().unwrap().get(key).copied().unwrap_or_default()
    }

    pub(crate) fn set_down(&self, start: Option<&str>) {
        *self.down.lock().unwrap() = start.map(str::to_owned);
    }

    pub(crate) fn set_full(&self, start: Option<&str>) {
        *self.full.lock().unwrap() = start.map(str::to_owned);
    }

    fn fails(broken: &Mutex<Option<String>>, key: &str) -> Result<(), RecordsError> {
        match broken.lock().unwrap().as_deref() {
            Some(start) if key.starts_with(start) => Err(RecordsError("the disk is on fire".into())),
            _ => Ok(()),
        }
    }
}

#[async_trait]
impl Records for Store {
    async fn read(&self, key: &str) -> Result<Option<(Bytes, Version)>, RecordsError> {
        tokio::task::yield_now().await;
        *self.reads.lock().unwrap().entry(key.to_owned()).or_default() += 1;
        Self::fails(&self.down, key)?;
        Ok(self.objects.lock().unwrap().get(key).cloned().map(|(bytes, version)| (bytes, Version::new(version))))
    }

    async fn swap(&self, key: &str, bytes: Bytes, version: Option<Version>) -> Result<bool, RecordsError> {
        tokio::task::yield_now().await;
        Self::fails(&self.down, key)?;
        Self::fails(&self.full, key)?;
        let version: Option<u64> = version.map(|version| *version.downcast_ref().unwrap());
        let mut objects = self.objects.lock().unwrap();
        if objects.get(key).map(|(_, version)| *version) != version {
            return Ok(false);
        }
        objects.insert(key.to_owned(), (bytes, version.unwrap_or_default() + 1));
        Ok(true)
    }
}

/// The machine's clock, set forward by hand. The server under test has the machine's own, so that this one cannot stand still.
#[derive(Debug)]
pub(crate) struct Forward {
    machine: SystemClock,
    by: watch::Sender<Duration>,
}

impl Forward {
    pub(crate) fn new() -> Self {
        Self { machine: SystemClock::default(), by: watch::Sender::new(Duration::ZERO) }
    }

    pub(crate) fn advance(&self, duration: Duration) {
        self.by.send_modify(|by| *by += duration);
    }
}

impl Clock for Forward {
    fn now(&self) -> SystemTime {
        self.machine.now() + *self.by.borrow()
    }

    fn monotonic(&self) -> Duration {
        self.machine.monotonic() + *self.by.borrow()
    }

    fn sleep(&self, duration: Duration) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        let mut by = self.by.subscribe();
        let end = *by.borrow() + duration;
        Box::pin(async move {
            tokio::select! {
                () = self.machine.sleep(duration) => {}
                _ = by.wait_for(|by| *by >= end) => {}
            }
        })
    }
}
