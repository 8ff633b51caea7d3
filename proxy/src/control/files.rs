//! The state directory: who may read it, who is using it, how it is written.
//!
//! ```text
//! $ADIT_HOME/                    ~/.adit by default
//!   <project>/                   made by `project create`; or the parent of nodes only
//!     format lock admin.sock     "adit project 1"
//!     authority.key relay.key admin.key admin.membership authority.db
//!     nodes/<name>/              one per node: an inlet and an outlet never share an identity
//!       format lock admin.sock   "adit node 1"
//!       identity.key membership
//! ```
//!
//! # Contract
//! - A [`StateDir`] is opened by one process at a time; `lock` holds an flock(2), which dies with
//!   its process, and says who has it.
//! - Directories are 0700, files 0600, all owned by this user: anything else is refused with the
//!   command that mends it, and nothing is read.
//! - A file is replaced whole: temporary file, fsync, rename, fsync of the directory. A crash
//!   leaves the old file or the new one.
//! - What is damaged or was written by a newer adit is reported and never overwritten.

mod home;
mod replace;

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, OFlags};

pub use home::Home;
pub use replace::{replace, replace_on_ring};

use super::failure::{Exit, Failure, codes};
use crate::limits::STATE_FILE_MAX;

/// The version of the directory's layout that this build reads and writes.
const VERSION: u32 = 1;
/// Says what the directory is and which version it has.
const FORMAT: &str = "format";
/// Held by the process that uses the directory.
const LOCK: &str = "lock";
/// The socket on which that process answers (see [`admin`](super::admin)).
pub const SOCKET: &str = "admin.sock";

/// What a state directory is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DirKind {
    /// The authority's: key and store.
    Project,
    /// A node's: identity and membership.
    Node,
}

impl DirKind {
    const fn word(self) -> &'static str {
        match self {
            DirKind::Project => "project",
            DirKind::Node => "node",
        }
    }
}

/// A state directory that this process has to itself while this value lives.
#[derive(Debug)]
pub struct StateDir {
    path: PathBuf,
    /// Dropping it gives the flock back. Nothing for who only looks.
    _lock: Option<File>,
}

impl StateDir {
    /// Whether a directory of this kind was made here.
    pub fn exists(path: &Path) -> bool {
        path.join(FORMAT).exists()
    }

    /// Opens the directory, or makes it. `user` is what the lock says of this process, such as
    /// `outlet`.
    ///
    /// # Errors
    /// In use (the failure names the process), readable by others, of a newer version, damaged,
    /// or the system's error.
    pub fn open(path: &Path, kind: DirKind, user: &str) -> Result<StateDir, Failure> {
        make_private_dirs(path)?;
        refuse_open_to_others(
            path,
            &fs::symlink_metadata(path).map_err(|e| unusable(path, &e))?,
        )?;
        let lock = take_lock(path, kind, user)?;
        let dir = StateDir {
            path: path.into(),
            _lock: Some(lock),
        };
        dir.check_format(kind)?;
        Ok(dir)
    }

    /// The same of one that [`exists`](Self::exists), for who only reads: nothing is made, and whoever uses the directory is not kept from it.
    /// Files are replaced whole, so each is read as it was or as it is.
    ///
    /// # Errors
    /// As [`inspect`], or it is of a newer version or damaged.
    pub fn look(path: &Path, kind: DirKind) -> Result<StateDir, Failure> {
        inspect(path)?;
        let dir = StateDir {
            path: path.into(),
            _lock: None,
        };
        dir.check_format(kind)?;
        Ok(dir)
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The whole of a file, or nothing if there is no such file.
    ///
    /// # Errors
    /// Others can read it, it is larger than any state file is, or the system's error.
    pub fn read(&self, file: &str) -> Result<Option<Vec<u8>>, Failure> {
        let path = self.path.join(file);
        let opened = OpenOptions::new()
            .read(true)
            .custom_flags(OFlags::NOFOLLOW.bits() as i32)
            .open(&path);
        let opened = match opened {
            Ok(opened) => opened,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(unusable(&path, &error)),
        };
        refuse_open_to_others(&path, &opened.metadata().map_err(|e| unusable(&path, &e))?)?;
        let mut bytes = Vec::new();
        opened
            .take(STATE_FILE_MAX as u64 + 1)
            .read_to_end(&mut bytes)
            .map_err(|error| unusable(&path, &error))?;
        if bytes.len() > STATE_FILE_MAX {
            return Err(corrupt(&path, "it is larger than any state file is"));
        }
        Ok(Some(bytes))
    }

    /// Replaces a file, or makes it.
    ///
    /// # Errors
    /// The system's; the old file is whole then.
    pub fn write(&self, file: &str, bytes: &[u8]) -> Result<(), Failure> {
        replace(&self.path, file, bytes).map_err(|error| unusable(&self.path.join(file), &error))
    }

    /// Makes an empty private file if there is none, and refuses one that others can read: for
    /// programs that open files themselves.
    ///
    /// # Errors
    /// Others can read it, or the system's error.
    pub fn touch(&self, file: &str) -> Result<(), Failure> {
        let path = self.path.join(file);
        let opened = OpenOptions::new()
            .append(true)
            .create(true)
            .mode(0o600)
            .custom_flags(OFlags::NOFOLLOW.bits() as i32)
            .open(&path)
            .map_err(|error| unusable(&path, &error))?;
        refuse_open_to_others(&path, &opened.metadata().map_err(|e| unusable(&path, &e))?)
    }

    fn check_format(&self, kind: DirKind) -> Result<(), Failure> {
        let path = self.path.join(FORMAT);
        let Some(bytes) = self.read(FORMAT)? else {
            // The format file is written first, so state without it is not of our making.
            if let Some(stray) = self.any_state()? {
                return Err(corrupt(
                    &path,
                    &format!("it is missing, but {stray} is there"),
                ));
            }
            return self.write(
                FORMAT,
                format!("adit {} {VERSION}\n", kind.word()).as_bytes(),
            );
        };
        let text = String::from_utf8_lossy(&bytes);
        let mut words = text.split_ascii_whitespace();
        match (
            words.next(),
            words.next(),
            words.next().and_then(|v| v.parse::<u32>().ok()),
        ) {
            (Some("adit"), Some(word), Some(_)) if word != kind.word() => Err(corrupt(
                &path,
                &format!("it is the directory of a {word}, not of a {}", kind.word()),
            )),
            (Some("adit"), Some(_), Some(VERSION)) => Ok(()),
            (Some("adit"), Some(_), Some(newer)) if newer > VERSION => Err(Failure::new(
                codes::STATE_NEWER,
                Exit::State,
                format!("can't use the state directory {}", self.path.display()),
                format!("its format is version {newer}, and this adit knows {VERSION}"),
            )
            .fix("install the newer adit again; nothing was changed")),
            _ => Err(corrupt(&path, "it does not say what the directory is")),
        }
    }

    /// A file of ours that is in the directory already.
    fn any_state(&self) -> Result<Option<String>, Failure> {
        let entries = fs::read_dir(&self.path).map_err(|error| unusable(&self.path, &error))?;
        Ok(entries
            .filter_map(Result::ok)
            .filter(|entry| entry.path().is_file())
            .filter_map(|entry| entry.file_name().into_string().ok())
            .find(|name| name != LOCK && !name.starts_with('.')))
    }
}

/// Whether a directory and the files in it are as [`StateDir::open`] wants them. It opens none, so a process
/// may be using them.
///
/// # Errors
/// Others can read one of them, it belongs to somebody else, or the system's error.
pub fn inspect(path: &Path) -> Result<(), Failure> {
    let found = |path: &Path| fs::symlink_metadata(path).map_err(|error| unusable(path, &error));
    refuse_open_to_others(path, &found(path)?)?;
    let entries = fs::read_dir(path).map_err(|error| unusable(path, &error))?;
    let entries = entries.filter_map(Result::ok).map(|entry| entry.path());
    for entry in entries.filter(|entry| entry.is_file()) {
        refuse_open_to_others(&entry, &found(&entry)?)?;
    }
    Ok(())
}

fn make_private_dirs(path: &Path) -> Result<(), Failure> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(|error| unusable(path, &error))
}

fn refuse_open_to_others(path: &Path, found: &fs::Metadata) -> Result<(), Failure> {
    let user = rustix::process::geteuid().as_raw();
    let what = format!("can't use {}", path.display());
    if found.file_type().is_symlink() || !(found.is_dir() || found.is_file()) {
        return Err(corrupt(path, "it is neither a plain file nor a directory"));
    }
    if found.uid() != user {
        let why = format!(
            "it belongs to uid {}, and this process has {user}",
            found.uid()
        );
        return Err(Failure::new(codes::STATE_READABLE, Exit::State, what, why)
            .fix(format!("chown {user} {}", path.display())));
    }
    if found.mode() & 0o077 != 0 {
        let mode = if found.is_dir() { "700" } else { "600" };
        let why = format!("others can read it (mode {:04o})", found.mode() & 0o7777);
        return Err(Failure::new(codes::STATE_READABLE, Exit::State, what, why)
            .fix(format!("chmod {mode} {}", path.display())));
    }
    Ok(())
}

fn take_lock(dir: &Path, kind: DirKind, user: &str) -> Result<File, Failure> {
    let path = dir.join(LOCK);
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .custom_flags(OFlags::NOFOLLOW.bits() as i32)
        .open(&path)
        .map_err(|error| unusable(&path, &error))?;
    if let Err(error) = rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
        let error = io::Error::from(error);
        if error.kind() != io::ErrorKind::WouldBlock {
            return Err(unusable(&path, &error));
        }
        let mut holder = String::new();
        // Best effort: between its flock and its write the holder's lock is empty.
        let _ = (&file).take(64).read_to_string(&mut holder);
        let holder = holder.trim();
        let holder = if holder.is_empty() {
            "another process"
        } else {
            holder
        };
        return Err(Failure::new(
            codes::STATE_IN_USE,
            Exit::State,
            format!("can't use the state directory {}", dir.display()),
            format!("{holder} uses it"),
        )
        .fix(match kind {
            DirKind::Project => "stop that process first",
            DirKind::Node => "stop that process, or choose another node with --node NAME",
        }));
    }
    let text = format!("process {} (adit {user})\n", std::process::id());
    file.set_len(0)
        .and_then(|()| file.rewind())
        .and_then(|()| file.write_all(text.as_bytes()))
        .map_err(|error| unusable(&path, &error))?;
    Ok(file)
}

/// The system's error about a file or directory.
pub(super) fn unusable(path: &Path, error: &io::Error) -> Failure {
    Failure::new(
        codes::STATE_IO,
        Exit::State,
        format!("can't use {}", path.display()),
        error,
    )
}

/// A damaged file, named.
pub fn corrupt(path: &Path, why: &str) -> Failure {
    Failure::new(
        codes::STATE_CORRUPT,
        Exit::State,
        format!("{} is damaged", path.display()),
        format!("{why}; nothing was changed"),
    )
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    /// A directory of its own, removed at the end.
    struct Scratch(PathBuf);

    impl Scratch {
        fn new(test: &str) -> Scratch {
            let path = std::env::temp_dir().join(format!("adit-{test}-{}", std::process::id()));
            let _ = fs::remove_dir_all(&path);
            Scratch(path)
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn open(path: &Path) -> Result<StateDir, Failure> {
        StateDir::open(path, DirKind::Node, "test")
    }

    #[test]
    fn files_are_private_and_replaced_whole() {
        let scratch = Scratch::new("files");
        let dir = open(&scratch.0).unwrap();
        assert_eq!(dir.read("node.state").unwrap(), None);
        dir.write("node.state", b"one").unwrap();
        dir.write("node.state", b"two").unwrap();
        assert_eq!(dir.read("node.state").unwrap().unwrap(), b"two");
        let mode = |path: &Path| fs::metadata(path).unwrap().mode() & 0o7777;
        assert_eq!(mode(&scratch.0), 0o700);
        assert_eq!(mode(&scratch.0.join("node.state")), 0o600);
        assert_eq!(mode(&scratch.0.join(FORMAT)), 0o600);
    }

    #[test]
    fn a_second_user_is_told_of_the_first() {
        let scratch = Scratch::new("lock");
        let first = open(&scratch.0).unwrap();
        let failure = open(&scratch.0).unwrap_err();
        assert_eq!(failure.code, codes::STATE_IN_USE);
        assert_eq!(
            failure.why,
            format!("process {} (adit test) uses it", std::process::id())
        );
        drop(first);
        open(&scratch.0).unwrap();
    }

    #[test]
    fn what_others_can_read_is_refused_with_the_chmod_that_mends_it() {
        let scratch = Scratch::new("modes");
        let dir = open(&scratch.0).unwrap();
        dir.write("node.state", b"secret").unwrap();
        let file = scratch.0.join("node.state");
        fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).unwrap();
        let failure = dir.read("node.state").unwrap_err();
        assert_eq!(failure.code, codes::STATE_READABLE);
        assert_eq!(
            failure.fix.unwrap(),
            format!("chmod 600 {}", file.display())
        );
        drop(dir);
        fs::set_permissions(&scratch.0, fs::Permissions::from_mode(0o755)).unwrap();
        let failure = open(&scratch.0).unwrap_err();
        assert_eq!(
            failure.fix.unwrap(),
            format!("chmod 700 {}", scratch.0.display())
        );
    }

    #[test]
    fn a_newer_or_damaged_or_foreign_directory_is_left_alone() {
        let scratch = Scratch::new("format");
        drop(open(&scratch.0).unwrap());
        for (text, code) in [
            ("adit node 2\n", codes::STATE_NEWER),
            ("adit project 1\n", codes::STATE_CORRUPT),
            ("something else\n", codes::STATE_CORRUPT),
            ("", codes::STATE_CORRUPT),
        ] {
            fs::write(scratch.0.join(FORMAT), text).unwrap();
            assert_eq!(open(&scratch.0).unwrap_err().code, code, "{text:?}");
            assert_eq!(fs::read_to_string(scratch.0.join(FORMAT)).unwrap(), text);
        }
    }

    #[test]
    fn state_without_its_format_is_damage_and_not_a_new_directory() {
        let scratch = Scratch::new("unlabelled");
        let dir = open(&scratch.0).unwrap();
        dir.write("node.state", b"secret").unwrap();
        drop(dir);
        fs::remove_file(scratch.0.join(FORMAT)).unwrap();
        let failure = open(&scratch.0).unwrap_err();
        assert_eq!(failure.code, codes::STATE_CORRUPT);
        assert!(failure.why.contains("node.state"), "{failure}");
    }

    #[test]
    fn a_symbolic_link_is_not_followed() {
        let scratch = Scratch::new("link");
        let dir = open(&scratch.0).unwrap();
        std::os::unix::fs::symlink("/etc/hostname", scratch.0.join("node.state")).unwrap();
        assert_eq!(dir.read("node.state").unwrap_err().exit, Exit::State);
    }

    #[test]
    fn the_ring_writes_the_same_file() {
        let scratch = Scratch::new("ring");
        let dir = open(&scratch.0).unwrap();
        let runtime = crate::control::runtime::Runtime::open(crate::engine::Kind::Uring).unwrap();
        if !runtime.has_ring() {
            eprintln!("SKIPPED: io_uring is denied here");
            return;
        }
        runtime
            .block_on(replace_on_ring(&scratch.0, "node.state", b"ring".to_vec()))
            .unwrap();
        assert_eq!(dir.read("node.state").unwrap().unwrap(), b"ring");
    }
}
