//! The header of the PROXY protocol, version 2: what an outlet sends a target before the app's first
//! byte, so that the target learns whom it serves.
//!
//! Source of the format: "The PROXY protocol", version 2, sections 2.2 and 2.2.1 (HAProxy's
//! `proxy-protocol.txt`). Two facts of different worth are in it: the app's address is what the inlet
//! *claims*; the member's id was proved by its keys.
//!
//! ```text
//! signature 12 | 0x21 | family 1 | length u16 | source and destination | TLVs
//! TLV 0x05  the stream, as both logs name it: BUNDLE:NUMBER
//! TLV 0xE0  the inlet's member id, as text
//! ```

use std::net::{IpAddr, SocketAddr};

use crypto::Id;

use crate::ids::{BundleId, StreamNo};

const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
/// Version 2, and a connection that is made for somebody else.
const VERSION_AND_COMMAND: u8 = 0x21;
const UNSPECIFIED: u8 = 0x00;
const TCP_V4: u8 = 0x11;
const TCP_V6: u8 = 0x21;
/// PP2_TYPE_UNIQUE_ID, and the first of the types that are free for applications.
const UNIQUE_ID: u8 = 0x05;
const MEMBER_ID: u8 = 0xE0;

/// Where the fixed part ends and the length's bytes count from.
const FIXED: usize = 16;

/// Whom a connection to a target is made for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OnBehalf {
    /// The app's address, as the inlet says.
    pub app: Option<SocketAddr>,
    /// The inlet's member.
    pub member: Id,
    /// The stream's bundle …
    pub bundle: BundleId,
    /// … and number.
    pub stream: StreamNo,
}

impl OnBehalf {
    /// The header's bytes, about 130, for a connection to `target`.
    pub fn header(&self, target: SocketAddr) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(160);
        bytes.extend_from_slice(SIGNATURE);
        bytes.push(VERSION_AND_COMMAND);
        match self.app.map(|app| one_family(app, target)) {
            None => bytes.extend_from_slice(&[UNSPECIFIED, 0, 0]),
            Some((IpAddr::V4(app), IpAddr::V4(to))) => {
                bytes.extend_from_slice(&[TCP_V4, 0, 0]);
                bytes.extend_from_slice(&app.octets());
                bytes.extend_from_slice(&to.octets());
            }
            Some((app, to)) => {
                bytes.extend_from_slice(&[TCP_V6, 0, 0]);
                bytes.extend_from_slice(&v6_octets(app));
                bytes.extend_from_slice(&v6_octets(to));
            }
        }
        if let Some(app) = self.app {
            bytes.extend_from_slice(&app.port().to_be_bytes());
            bytes.extend_from_slice(&target.port().to_be_bytes());
        }
        tlv(
            &mut bytes,
            UNIQUE_ID,
            &format!("{}:{}", self.bundle, self.stream.0),
        );
        tlv(&mut bytes, MEMBER_ID, &self.member.to_string());
        let length = u16::try_from(bytes.len() - FIXED).unwrap_or(u16::MAX);
        bytes[FIXED - 2..FIXED].copy_from_slice(&length.to_be_bytes());
        bytes
    }
}

/// Both addresses of a header are of one family: IPv4 only if both are.
fn one_family(app: SocketAddr, target: SocketAddr) -> (IpAddr, IpAddr) {
    (app.ip().to_canonical(), target.ip().to_canonical())
}

/// IPv4 addresses are mapped (RFC 4291, section 2.5.5.2).
fn v6_octets(ip: IpAddr) -> [u8; 16] {
    match ip {
        IpAddr::V4(ip) => ip.to_ipv6_mapped().octets(),
        IpAddr::V6(ip) => ip.octets(),
    }
}

/// Text of at most 255 bytes, which is what ids and stream names are.
fn tlv(bytes: &mut Vec<u8>, kind: u8, text: &str) {
    let text = text.as_bytes();
    let length = u16::try_from(text.len()).unwrap_or(u16::MAX);
    bytes.push(kind);
    bytes.extend_from_slice(&length.to_be_bytes());
    bytes.extend_from_slice(&text[..usize::from(length)]);
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    fn header(app: Option<&str>, target: &str) -> Vec<u8> {
        let on_behalf = OnBehalf {
            app: app.map(|app| app.parse().unwrap()),
            member: Id([7; 32]),
            bundle: BundleId([0xab; 16]),
            stream: StreamNo(3),
        };
        on_behalf.header(target.parse().unwrap())
    }

    /// Length field, then what lies behind the addresses.
    fn tlvs(header: &[u8], addresses: usize) -> Vec<(u8, String)> {
        let length = usize::from(u16::from_be_bytes([header[14], header[15]]));
        assert_eq!(length, header.len() - FIXED);
        let mut rest = &header[FIXED + addresses..];
        let mut found = Vec::new();
        while let [kind, high, low, ..] = *rest {
            let end = 3 + usize::from(u16::from_be_bytes([high, low]));
            found.push((kind, String::from_utf8(rest[3..end].to_vec()).unwrap()));
            rest = &rest[end..];
        }
        assert!(rest.is_empty());
        found
    }

    #[test]
    fn two_ipv4_addresses_are_written_as_such() {
        let header = header(Some("192.0.2.1:4711"), "127.0.0.1:5432");
        assert_eq!(&header[..12], b"\r\n\r\n\0\r\nQUIT\n");
        assert_eq!(&header[12..14], &[0x21, 0x11]);
        let addresses = [192, 0, 2, 1, 127, 0, 0, 1, 0x12, 0x67, 0x15, 0x38];
        assert_eq!(&header[16..28], &addresses);
        let member = Id([7; 32]).to_string();
        let stream = "abababab:3".to_owned();
        assert_eq!(tlvs(&header, 12), [(0x05, stream), (0xE0, member)]);
    }

    #[test]
    fn one_ipv6_address_makes_both_ipv6_unless_it_is_a_mapped_one() {
        let mixed = header(Some("192.0.2.1:1"), "[::1]:2");
        assert_eq!(mixed[13], 0x21);
        assert_eq!(
            &mixed[16..32],
            &[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 255, 255, 192, 0, 2, 1]
        );
        assert_eq!(
            &mixed[32..48],
            &[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]
        );
        assert_eq!(&mixed[48..52], &[0, 1, 0, 2]);
        tlvs(&mixed, 36);
        let mapped = header(Some("[::ffff:192.0.2.1]:1"), "127.0.0.1:2");
        assert_eq!((mapped[13], &mapped[16..20]), (0x11, &[192, 0, 2, 1][..]));
    }

    #[test]
    fn without_a_claim_there_is_no_address() {
        let header = header(None, "127.0.0.1:2");
        assert_eq!(header[13], 0x00);
        assert_eq!(tlvs(&header, 0).len(), 2);
    }
}
