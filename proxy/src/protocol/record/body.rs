//! The payloads of records, by type. Each has exactly one encoding.

use std::net::{IpAddr, SocketAddr};

use crypto::names::Name;

use super::Kind;
use crate::error::Code;
use crate::ids::CircuitNo;
use crate::limits::{LANE_CREDENTIAL_MAX, LANE_PAYLOAD_MAX};
use crate::protocol::codec::{CodecError, Reader, Writer};

/// OPEN: what an inlet asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Open {
    /// The *name* of an entry in the outlet's configuration, never a network address. A
    /// [`Name`], as text.
    pub target: String,
    /// The authority's time when the inlet asked, in milliseconds since 1970.
    pub authority_millis: u64,
    /// The app's address. A claim, for PROXY headers only.
    pub app: Option<SocketAddr>,
    /// The stream wants circuits of its own from its first byte. Not in the payload: the record's flag
    /// [`FLAG_DEDICATED`](super::FLAG_DEDICATED) says it.
    pub dedicated: bool,
}

/// SWITCH: where a direction goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Switch {
    /// The circuit; 0 is the lane.
    pub circuit: CircuitNo,
    /// Bytes of the direction before the switch, all of them.
    pub bytes: u64,
}

/// What a record says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body<'a> {
    /// READY.
    Ready,
    /// DENIED, with the code that the other end may know.
    Denied(Code),
    /// OPEN.
    Open(Open),
    /// OPENED.
    Opened,
    /// REFUSED, with why.
    Refused(Code),
    /// DATA: at least one byte.
    Data(&'a [u8]),
    /// CREDIT: so many bytes more, at least one.
    Credit(u32),
    /// SWITCH.
    Switch(Switch),
    /// CONTINUE, with the direction's bytes so far.
    Continue(u64),
    /// END, with all bytes of the direction, on lane and circuits.
    End(u64),
    /// CLOSED.
    Closed,
    /// ABORT, with why.
    Abort(Code),
    /// CUT.
    Cut,
    /// WANT: so many circuits.
    Want(u16),
    /// RETIRE.
    Retire,
    /// KEY_UPDATE, with the number of the secret to mix in, if there is one.
    KeyUpdate(Option<u32>),
    /// KEY_EXCHANGE: its number and one Noise message.
    KeyExchange(u32, &'a [u8]),
    /// KEY_READY: the number of the exchange.
    KeyReady(u32),
    /// CREDENTIAL: encoded evidence, which control checks.
    Credential(&'a [u8]),
    /// PING, with any number.
    Ping(u64),
    /// PONG, with the PING's number.
    Pong(u64),
    /// ACK, with the circuit.
    Ack(CircuitNo),
}

/// How OPEN names the family of the app's address.
const APP_NONE: u8 = 0;
const APP_V4: u8 = 4;
const APP_V6: u8 = 6;

impl Open {
    fn parse(from: &mut Reader<'_>) -> Result<Open, CodecError> {
        let authority_millis = from.u64()?;
        let len = usize::from(from.u8()?);
        let wrong = CodecError::Value("the target's name");
        let text = std::str::from_utf8(from.bytes(len)?).map_err(|_| wrong)?;
        Name::try_from(text).map_err(|_| wrong)?;
        let ip: Option<IpAddr> = match from.u8()? {
            APP_NONE => None,
            APP_V4 => Some(from.array::<4>()?.into()),
            APP_V6 => Some(from.array::<16>()?.into()),
            _ => return Err(CodecError::Value("the app's address")),
        };
        let app = match ip {
            Some(ip) => Some(SocketAddr::new(ip, from.u16()?)),
            None => None,
        };
        Ok(Open {
            target: text.to_owned(),
            authority_millis,
            app,
            dedicated: false,
        })
    }

    fn write(&self, to: &mut Writer<'_>) -> Result<(), CodecError> {
        let wrong = CodecError::Value("the target's name");
        Name::try_from(self.target.as_str()).map_err(|_| wrong)?;
        to.u64(self.authority_millis)?;
        to.u8(u8::try_from(self.target.len()).map_err(|_| wrong)?)?;
        to.bytes(self.target.as_bytes())?;
        let Some(app) = self.app else {
            return to.u8(APP_NONE);
        };
        match app.ip() {
            IpAddr::V4(ip) => to.u8(APP_V4).and_then(|()| to.bytes(&ip.octets()))?,
            IpAddr::V6(ip) => to.u8(APP_V6).and_then(|()| to.bytes(&ip.octets()))?,
        }
        to.u16(app.port())
    }
}

fn code(from: &mut Reader<'_>) -> Result<Code, CodecError> {
    from.u16().map(Code)
}

fn bounded<'a>(bytes: &'a [u8], max: usize, what: &'static str) -> Result<&'a [u8], CodecError> {
    if bytes.is_empty() || bytes.len() > max {
        Err(CodecError::Value(what))
    } else {
        Ok(bytes)
    }
}

impl<'a> Body<'a> {
    /// The kind whose payload it is.
    pub const fn kind(&self) -> Kind {
        match self {
            Body::Ready => Kind::Ready,
            Body::Denied(_) => Kind::Denied,
            Body::Open(_) => Kind::Open,
            Body::Opened => Kind::Opened,
            Body::Refused(_) => Kind::Refused,
            Body::Data(_) => Kind::Data,
            Body::Credit(_) => Kind::Credit,
            Body::Switch(_) => Kind::Switch,
            Body::Continue(_) => Kind::Continue,
            Body::End(_) => Kind::End,
            Body::Closed => Kind::Closed,
            Body::Abort(_) => Kind::Abort,
            Body::Cut => Kind::Cut,
            Body::Want(_) => Kind::Want,
            Body::Retire => Kind::Retire,
            Body::KeyUpdate(_) => Kind::KeyUpdate,
            Body::KeyExchange(..) => Kind::KeyExchange,
            Body::KeyReady(_) => Kind::KeyReady,
            Body::Credential(_) => Kind::Credential,
            Body::Ping(_) => Kind::Ping,
            Body::Pong(_) => Kind::Pong,
            Body::Ack(_) => Kind::Ack,
        }
    }

    /// Reads the payload of a record of this kind.
    ///
    /// # Errors
    /// [`CodecError`] when it isn't exactly one payload of that kind.
    pub fn parse(kind: Kind, payload: &'a [u8]) -> Result<Body<'a>, CodecError> {
        let mut from = Reader::new(payload);
        let body = match kind {
            Kind::Ready => Body::Ready,
            Kind::Denied => Body::Denied(code(&mut from)?),
            Kind::Open => Body::Open(Open::parse(&mut from)?),
            Kind::Opened => Body::Opened,
            Kind::Refused => Body::Refused(code(&mut from)?),
            Kind::Data => Body::Data(bounded(from.rest(), usize::MAX, "an empty DATA")?),
            Kind::Credit => match from.u32()? {
                0 => return Err(CodecError::Value("a CREDIT of nothing")),
                bytes => Body::Credit(bytes),
            },
            Kind::Switch => Body::Switch(Switch {
                circuit: CircuitNo(from.u16()?),
                bytes: from.u64()?,
            }),
            Kind::Continue => Body::Continue(from.u64()?),
            Kind::End => Body::End(from.u64()?),
            Kind::Closed => Body::Closed,
            Kind::Abort => Body::Abort(code(&mut from)?),
            Kind::Cut => Body::Cut,
            Kind::Want => Body::Want(from.u16()?),
            Kind::Retire => Body::Retire,
            Kind::KeyUpdate if from.left() == 0 => Body::KeyUpdate(None),
            Kind::KeyUpdate => Body::KeyUpdate(Some(from.u32()?)),
            Kind::KeyExchange => {
                let number = from.u32()?;
                let message = bounded(from.rest(), LANE_PAYLOAD_MAX, "a handshake message")?;
                Body::KeyExchange(number, message)
            }
            Kind::KeyReady => Body::KeyReady(from.u32()?),
            Kind::Credential => Body::Credential(bounded(
                from.rest(),
                LANE_CREDENTIAL_MAX,
                "a credential's length",
            )?),
            Kind::Ping => Body::Ping(from.u64()?),
            Kind::Pong => Body::Pong(from.u64()?),
            Kind::Ack => Body::Ack(CircuitNo(from.u16()?)),
        };
        from.finish()?;
        Ok(body)
    }

    /// Writes the payload to the front of `space`; its length.
    ///
    /// # Errors
    /// [`CodecError::NoRoom`], or [`CodecError::Value`] for what [`Body::parse`] would refuse.
    pub fn encode(&self, space: &mut [u8]) -> Result<usize, CodecError> {
        let mut to = Writer::new(space);
        match self {
            Body::Ready | Body::Opened | Body::Closed | Body::Cut | Body::Retire => {}
            Body::KeyUpdate(None) => {}
            Body::Denied(code) | Body::Refused(code) | Body::Abort(code) => to.u16(code.0)?,
            Body::Open(open) => open.write(&mut to)?,
            Body::Data(bytes) => to.bytes(bounded(bytes, usize::MAX, "an empty DATA")?)?,
            Body::Credit(0) => return Err(CodecError::Value("a CREDIT of nothing")),
            Body::Switch(switch) => {
                to.u16(switch.circuit.0)?;
                to.u64(switch.bytes)?;
            }
            Body::Continue(n) | Body::End(n) | Body::Ping(n) | Body::Pong(n) => to.u64(*n)?,
            Body::Want(n) | Body::Ack(CircuitNo(n)) => to.u16(*n)?,
            Body::Credit(n) | Body::KeyUpdate(Some(n)) | Body::KeyReady(n) => to.u32(*n)?,
            Body::KeyExchange(number, message) => {
                to.u32(*number)?;
                to.bytes(bounded(message, LANE_PAYLOAD_MAX, "a handshake message")?)?;
            }
            Body::Credential(bytes) => {
                to.bytes(bounded(
                    bytes,
                    LANE_CREDENTIAL_MAX,
                    "a credential's length",
                )?)?;
            }
        }
        Ok(to.len())
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn some_open() -> impl Strategy<Value = Open> {
        let app = any::<(bool, [u8; 16], u16)>().prop_map(|(v6, ip, port)| {
            let ip: IpAddr = if v6 {
                ip.into()
            } else {
                [ip[0], ip[1], ip[2], ip[3]].into()
            };
            SocketAddr::new(ip, port)
        });
        (
            "[a-zA-Z0-9][a-zA-Z0-9._-]{0,63}",
            any::<u64>(),
            proptest::option::of(app),
        )
            .prop_map(|(target, authority_millis, app)| Open {
                target,
                authority_millis,
                app,
                dedicated: false,
            })
    }

    fn some_body(bytes: &[u8], n: u64, open: Open, number: u8) -> Body<'_> {
        let bytes = if bytes.is_empty() { &[1] } else { bytes };
        let (n16, n32) = (n as u16, n as u32 | 1);
        let code = Code(n16);
        match Kind::from_number(number).unwrap() {
            Kind::Ready => Body::Ready,
            Kind::Denied => Body::Denied(code),
            Kind::Open => Body::Open(open),
            Kind::Opened => Body::Opened,
            Kind::Refused => Body::Refused(code),
            Kind::Data => Body::Data(bytes),
            Kind::Credit => Body::Credit(n32),
            Kind::Switch => Body::Switch(Switch {
                circuit: CircuitNo(n16),
                bytes: n,
            }),
            Kind::Continue => Body::Continue(n),
            Kind::End => Body::End(n),
            Kind::Closed => Body::Closed,
            Kind::Abort => Body::Abort(code),
            Kind::Cut => Body::Cut,
            Kind::Want => Body::Want(n16),
            Kind::Retire => Body::Retire,
            Kind::KeyUpdate => Body::KeyUpdate((n & 1 == 0).then_some(n32)),
            Kind::KeyExchange => Body::KeyExchange(n32, bytes),
            Kind::KeyReady => Body::KeyReady(n32),
            Kind::Credential => Body::Credential(bytes),
            Kind::Ping => Body::Ping(n),
            Kind::Pong => Body::Pong(n),
            Kind::Ack => Body::Ack(CircuitNo(n16)),
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(
            bytes in proptest::collection::vec(any::<u8>(), 0..200),
            n: u64,
            open in some_open(),
            number in 1..=22u8,
        ) {
            let body = some_body(&bytes, n, open, number);
            let mut space = [0; 256];
            let len = body.encode(&mut space).unwrap();
            prop_assert_eq!(Body::parse(body.kind(), &space[..len]).unwrap(), body.clone());
            for short in 0..len {
                prop_assert_eq!(body.encode(&mut [0; 256][..short]), Err(CodecError::NoRoom));
            }
        }

        #[test]
        fn any_bytes_are_refused_or_are_the_one_spelling(
            number in 1..=22u8,
            bytes in proptest::collection::vec(any::<u8>(), 0..120),
        ) {
            let kind = Kind::from_number(number).unwrap();
            if let Ok(body) = Body::parse(kind, &bytes) {
                let mut space = [0; 256];
                let len = body.encode(&mut space).unwrap();
                prop_assert_eq!(&space[..len], &bytes[..]);
            }
        }
    }

    #[test]
    fn a_target_is_a_name_and_never_anything_else() {
        for target in [
            "",
            "10.0.0.1:22",
            "a/b",
            "-a",
            "ü",
            "a b",
            "a\0",
            &"a".repeat(65),
        ] {
            let open = Open {
                target: target.to_owned(),
                authority_millis: 1,
                app: None,
                dedicated: false,
            };
            assert!(Body::Open(open).encode(&mut [0; 256]).is_err(), "{target}");
            let mut bytes = 1u64.to_be_bytes().to_vec();
            bytes.push(u8::try_from(target.len()).unwrap());
            bytes.extend_from_slice(target.as_bytes());
            bytes.push(APP_NONE);
            assert!(Body::parse(Kind::Open, &bytes).is_err(), "{target}");
        }
    }

    #[test]
    fn empty_data_and_credit_of_nothing_are_refused() {
        assert!(Body::parse(Kind::Data, &[]).is_err());
        assert!(Body::parse(Kind::Credit, &[0; 4]).is_err());
        assert!(Body::Credit(0).encode(&mut [0; 9]).is_err());
        assert!(Body::Data(&[]).encode(&mut [0; 9]).is_err());
    }

    #[test]
    fn a_payload_that_is_too_short_or_too_long_is_refused() {
        for (kind, len) in [
            (Kind::Ready, 0),
            (Kind::Denied, 2),
            (Kind::Opened, 0),
            (Kind::Refused, 2),
            (Kind::Credit, 4),
            (Kind::Switch, 10),
            (Kind::Continue, 8),
            (Kind::End, 8),
            (Kind::Closed, 0),
            (Kind::Abort, 2),
            (Kind::Cut, 0),
            (Kind::Want, 2),
            (Kind::Retire, 0),
            (Kind::KeyReady, 4),
            (Kind::Ping, 8),
            (Kind::Pong, 8),
            (Kind::Ack, 2),
        ] {
            for tried in 0..12 {
                let parsed = Body::parse(kind, &[1; 12][..tried]);
                assert_eq!(parsed.is_ok(), tried == len, "{kind:?} with {tried} bytes");
            }
        }
    }
}
