//! A folder with the files of a server.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use roadstead_certs::{Error, Pair, Settings, Tls};
use tempfile::TempDir;

use crate::people::{Authority, Issued};

pub(crate) struct Stage {
    pub(crate) folder: TempDir,
    pub(crate) settings: Settings,
}

impl Stage {
    /// `0.crt` and `0.key`, `1.crt` and `1.key`, and so on.
    pub(crate) fn new(pairs: &[&Issued]) -> Self {
        let mut stage = Self { folder: tempfile::tempdir().unwrap(), settings: Settings::default() };
        for (index, issued) in pairs.iter().enumerate() {
            stage.replace(index, issued);
            let (certificate, key) = (stage.path(&format!("{index}.crt")), stage.path(&format!("{index}.key")));
            stage.settings.certificates.push(Pair { certificate, key });
        }
        stage
    }

    /// Asks clients for a certificate of this authority.
    pub(crate) fn asking(mut self, authority: &Authority, required: bool) -> Self {
        self.settings.client_ca = Some(self.write("clients.pem", &authority.pem()));
        self.settings.require_client = required;
        self
    }

    pub(crate) fn revoking(mut self, lists: &str) -> Self {
        self.settings.client_crl = Some(self.write("clients.crl", lists));
        self
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// In one step, as whoever cares does it; for its owner alone.
    pub(crate) fn write(&self, name: &str, text: &str) -> PathBuf {
        let (staged, path) = (self.path("staged"), self.path(name));
        fs::write(&staged, text).unwrap();
        permit(&staged, 0o600);
        fs::rename(staged, &path).unwrap();
        path
    }

    /// The first pair with this chain.
    pub(crate) fn with(self, chain: &str) -> Self {
        self.write("0.crt", chain);
        self
    }

    /// Writes one pair anew, its certificate first.
    pub(crate) fn replace(&self, index: usize, issued: &Issued) {
        self.write(&format!("{index}.crt"), &issued.pem);
        self.write(&format!("{index}.key"), &issued.key);
    }

    pub(crate) fn load(&self) -> Tls {
        Tls::load(&self.settings).unwrap()
    }

    pub(crate) fn refusal(&self) -> Error {
        Tls::load(&self.settings).unwrap_err()
    }
}

pub(crate) fn permit(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}
