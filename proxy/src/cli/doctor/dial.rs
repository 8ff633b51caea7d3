//! Whether something listens at an address: a TCP connection, closed at once.

use std::net::{TcpStream, ToSocketAddrs};

use crypto::names::HostPort;

use crate::cli::checks::Check;
use crate::limits::{DIAL_ADDRESSES_MAX, TUNNEL_DIAL};

/// Connects to each address of a name until one answers.
///
/// # Errors
/// Why none did.
pub(super) fn reach(place: &HostPort) -> Result<String, String> {
    let found = (place.host(), place.port()).to_socket_addrs();
    let found = found.map_err(|error| format!("the name does not resolve: {error}"))?;
    let mut why = "the name has no address".to_owned();
    for address in found.take(DIAL_ADDRESSES_MAX) {
        match TcpStream::connect_timeout(&address, TUNNEL_DIAL) {
            Ok(_) => return Ok(address.to_string()),
            Err(error) => why = format!("{address}: {error}"),
        }
    }
    Err(why)
}

/// Whether a service is there.
pub(super) fn target(place: &HostPort) -> Check {
    match reach(place) {
        Ok(_) => Check::good("target", format!("{place} answers")),
        Err(why) => {
            let said = format!("{place} does not answer: {why}");
            Check::bad("target", said, "start the service, or correct --to")
        }
    }
}
