//! Replacing a file whole: temporary file, fsync, rename, fsync of the directory.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use rustix::fs::OFlags;

/// Replaces `dir/file` as the contract says, by blocking calls.
///
/// # Errors
/// The system's.
pub fn replace(dir: &Path, file: &str, bytes: &[u8]) -> io::Result<()> {
    let temporary = dir.join(format!(".{file}.new"));
    let mut out = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .custom_flags(OFlags::NOFOLLOW.bits() as i32)
        .open(&temporary)?;
    out.write_all(bytes)?;
    out.sync_all()?;
    fs::rename(&temporary, dir.join(file))?;
    File::open(dir)?.sync_all()
}

/// The same on the ring of the running tokio-uring runtime: control's thread goes on while the
/// disk works.
///
/// # Errors
/// The system's.
pub async fn replace_on_ring(dir: &Path, file: &str, bytes: Vec<u8>) -> io::Result<()> {
    let temporary = dir.join(format!(".{file}.new"));
    let out = tokio_uring::fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .custom_flags(OFlags::NOFOLLOW.bits() as i32)
        .open(&temporary)
        .await?;
    out.write_all_at(bytes, 0).await.0?;
    out.sync_all().await?;
    out.close().await?;
    tokio_uring::fs::rename(&temporary, dir.join(file)).await?;
    let directory = tokio_uring::fs::File::open(dir).await?;
    directory.sync_all().await?;
    directory.close().await
}
