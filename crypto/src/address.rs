//! The name by which legs ask for a relay address without spelling it.

use ring::digest::{Context, SHA256};

use crate::Id;
use crate::names::RelayAddress;

/// SHA-256(project id ‖ relay address). A relay that knows neither can't tell which address it
/// is; one that holds the member's pass can, by trying the addresses in it.
pub fn address_hash(project: &Id, address: &RelayAddress) -> [u8; 32] {
    let mut context = Context::new(&SHA256);
    context.update(&project.0);
    context.update(address.as_str().as_bytes());
    let mut out = [0; 32];
    out.copy_from_slice(context.finish().as_ref());
    out
}
