//! Identities in a state directory: made once, never overwritten, never leaving it.

use crypto::SystemRandom;
use crypto::identity::IdentitySecret;

use super::failure::Failure;
use super::files::{StateDir, corrupt};

/// A node's identity.
pub const IDENTITY_FILE: &str = "identity.key";
/// The authority's identity: the project's key.
pub const AUTHORITY_FILE: &str = "authority.key";
/// The relay that runs next to the authority.
pub const RELAY_FILE: &str = "relay.key";
/// The administrator.
pub const ADMIN_FILE: &str = "admin.key";

/// Reads an identity; nothing if the file is not there.
///
/// # Errors
/// Others can read the file, or it holds no identity.
pub fn load(dir: &StateDir, file: &str) -> Result<Option<IdentitySecret>, Failure> {
    let Some(bytes) = dir.read(file)?.map(zeroize::Zeroizing::new) else {
        return Ok(None);
    };
    match IdentitySecret::from_bytes(&bytes) {
        Ok(identity) => Ok(Some(identity)),
        Err(error) => Err(corrupt(&dir.path().join(file), &error.to_string())),
    }
}

/// Reads an identity, or makes one and writes it.
///
/// # Errors
/// As [`load`], or the file can't be written.
pub fn load_or_create(dir: &StateDir, file: &str) -> Result<IdentitySecret, Failure> {
    if let Some(identity) = load(dir, file)? {
        return Ok(identity);
    }
    let identity = IdentitySecret::create(&mut SystemRandom::new());
    dir.write(file, &identity.to_bytes())?;
    Ok(identity)
}
