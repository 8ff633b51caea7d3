//! A directory for what a command needs only while it runs.

use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use crate::control::failure::{Exit, Failure, codes};

/// A private directory of its own, removed with all that is in it when this is dropped.
pub(super) struct Scratch(PathBuf);

impl Scratch {
    /// A new one; `what` is part of its name.
    ///
    /// # Errors
    /// It can't be made.
    pub(super) fn new(what: &str) -> Result<Scratch, Failure> {
        let mut random = crypto::SystemRandom::new();
        let name: [u8; 8] = crypto::random::bytes(&mut random);
        let name = format!("adit-{what}-{}", data_encoding::HEXLOWER.encode(&name));
        let path = std::env::temp_dir().join(name);
        match DirBuilder::new().mode(0o700).create(&path) {
            Ok(()) => Ok(Scratch(path)),
            Err(error) => {
                let what = format!("can't use {}", path.display());
                Err(Failure::new(codes::STATE_IO, Exit::State, what, error))
            }
        }
    }

    /// Where it is.
    pub(super) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
