//! Identities in a state directory: made once, never overwritten, never leaving it.

use crypto::SystemRandom;
use crypto::identity::IdentitySecret;

use super::failure::{Exit, Failure, codes};
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

/// Changes the key of an identity, and writes it: a crash leaves the old one or the new one. Nothing
/// if the file is not there.
///
/// # Errors
/// As [`load`], the history is full, or the file can't be written; the old key is the identity's
/// then.
pub fn rotate(dir: &StateDir, file: &str) -> Result<Option<IdentitySecret>, Failure> {
    let Some(mut identity) = load(dir, file)? else {
        return Ok(None);
    };
    identity
        .rotate(&mut SystemRandom::new())
        .map_err(|full| Failure::new(codes::HISTORY_FULL, Exit::State, CANT_CHANGE, full))?;
    dir.write(file, &identity.to_bytes())?;
    Ok(Some(identity))
}

/// What fails where a key can't be changed.
pub const CANT_CHANGE: &str = "can't change the key of the identity";

/// There is no identity whose key could be changed.
pub fn no_identity(dir: &StateDir) -> Failure {
    let why = format!("there is no node in {}", dir.path().display());
    Failure::new(codes::STATE_IO, Exit::State, CANT_CHANGE, why)
}
