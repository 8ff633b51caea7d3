//! The harness of the integration tests: the binary, processes whose logs can be waited for,
//! services and apps. Every port comes from the kernel, nothing sleeps: a test waits for a line of
//! a log, for the end of a process, or for bytes, each with a deadline.
//!
//! Not a product: a broken assumption panics and says which.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

pub mod net;
pub mod process;
pub mod world;

use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::Duration;

/// How long a test waits for anything before it fails. Generous: the machine may be busy.
pub const DEADLINE: Duration = Duration::from_secs(30);

/// The `adit` binary, built once per test process.
pub fn binary() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| {
        let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("../proxy/Cargo.toml");
        let built = escargot::CargoBuild::new()
            .manifest_path(manifest)
            .bin("adit")
            .current_target()
            .run()
            .unwrap_or_else(|error| panic!("the binary must build: {error}"));
        built.path().to_path_buf()
    })
}

/// Whether io_uring can be used here, as the binary itself finds.
pub fn has_uring() -> bool {
    let world = world::World::new();
    world.run(&["demo", "--engine", "uring"]).code == Some(0)
}
