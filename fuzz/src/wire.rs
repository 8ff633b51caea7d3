//! Clear bytes of connections, and what is inside opened records. What is accepted has one encoding.

use std::net::SocketAddr;

use crypto::names::Name;
use proxy::error::CloseReason;
use proxy::ids::{CircuitNo, StreamNo};
use proxy::limits::{FRAME_MAX, LANE_RECORD_MAX, PREFACE as PREFACE_BYTES, RECORD_INNER};
use proxy::protocol::command::Expect;
use proxy::protocol::frame::{self, Piece};
use proxy::protocol::preface::{Kind as Connection, Preface};
use proxy::protocol::record::{Body, Header, Kind, Open, Switch};

use crate::Target;

/// The first eight bytes at a public port.
pub const PREFACE: Target = Target {
    name: "preface",
    body: |bytes| {
        let Some(first) = bytes.first_chunk::<PREFACE_BYTES>() else {
            return false;
        };
        match Preface::parse(first) {
            Ok(preface) => {
                assert_eq!(
                    Preface::bytes(preface.kind),
                    *first,
                    "a preface has one form"
                );
                true
            }
            Err(error) => {
                assert!(error.to_string().len() < 200 && error.reason() != CloseReason::Finished);
                false
            }
        }
    },
    seeds: || {
        let bytes = |kind| Preface::bytes(kind).to_vec();
        vec![
            ("authority", bytes(Connection::AuthoritySession)),
            ("relay", bytes(Connection::RelaySession)),
            ("leg", bytes(Connection::Leg)),
        ]
    },
};

/// Cuts `bytes` into frames as they arrive one by one, and checks each answer against the last.
fn cutting(bytes: &[u8]) -> bool {
    let (mut start, mut needed, mut cut) = (0, 0, 0);
    for end in 0..=bytes.len() {
        let buffered = &bytes[start..end];
        match frame::cut(Expect::Frame, buffered) {
            Ok(Piece::None) => unreachable!("a frame is expected"),
            Ok(Piece::Need(more)) => {
                assert!(more > 0, "nothing is needed, and there is no frame");
                assert!(
                    buffered.len() + more >= needed,
                    "less is needed than before"
                );
                needed = buffered.len() + more;
            }
            Ok(Piece::Whole { body, taken }) => {
                assert_eq!(
                    taken,
                    buffered.len(),
                    "a frame that was there a byte earlier"
                );
                assert_eq!(body.end, taken);
                assert!((1..=FRAME_MAX).contains(&body.len()));
                let mut again = Vec::new();
                frame::put(&buffered[body], &mut again).expect("its length is legal");
                assert_eq!(again, buffered, "a frame has one form");
                (start, needed, cut) = (end, 0, cut + 1);
            }
            Err(_) => return false,
        }
    }
    cut > 0 && start == bytes.len()
}

/// Frames on a byte stream.
pub const CUTTING: Target = Target {
    name: "cutting",
    body: cutting,
    seeds: || {
        let mut bytes = Vec::new();
        for body in [b"x".as_slice(), &[0x5a; 300]] {
            frame::put(body, &mut bytes).expect("the length is legal");
        }
        vec![("two", bytes)]
    },
};

/// An opened record: inner header and payload.
fn opened(bytes: &[u8]) -> bool {
    let Some((inner, payload)) = bytes.split_first_chunk::<RECORD_INNER>() else {
        return false;
    };
    let Ok(header) = Header::parse(*inner) else {
        return false;
    };
    assert_eq!(header.encode(), *inner, "a header has one form");
    let Ok(body) = Body::parse(header.kind, payload) else {
        return false;
    };
    assert_eq!(body.kind(), header.kind);
    let mut space = vec![0; payload.len().max(LANE_RECORD_MAX)];
    let length = body
        .encode(&mut space)
        .expect("what was read can be written");
    assert_eq!(space[..length], *payload, "a payload has one form");
    true
}

/// Opened records.
pub const OPENED: Target = Target {
    name: "opened",
    body: opened,
    seeds: || {
        let app: SocketAddr = ([192, 0, 2, 7], 40_000).into();
        let target: Name = "postgres".parse().expect("a legal name");
        let open = |app| {
            Body::Open(Open {
                target: target.to_string(),
                authority_millis: 1_800_000_000_000,
                app,
                dedicated: false,
            })
        };
        let code = CloseReason::TargetRefused.code();
        let bodies = [
            ("ready", Body::Ready),
            ("denied", Body::Denied(CloseReason::NotAuthorized.code())),
            ("open", open(None)),
            ("open_app", open(Some(app))),
            ("opened", Body::Opened),
            ("refused", Body::Refused(code)),
            ("data", Body::Data(b"SELECT 1")),
            ("credit", Body::Credit(8192)),
            (
                "switch",
                Body::Switch(Switch {
                    circuit: CircuitNo(1),
                    bytes: 70_000,
                }),
            ),
            ("continue", Body::Continue(70_000)),
            ("end", Body::End(8)),
            ("closed", Body::Closed),
            ("abort", Body::Abort(code)),
            ("cut", Body::Cut),
            ("want", Body::Want(2)),
            ("retire", Body::Retire),
            ("key_update", Body::KeyUpdate(None)),
            ("key_update_mix", Body::KeyUpdate(Some(3))),
            ("key_exchange", Body::KeyExchange(3, &[0x5a; 32])),
            ("key_ready", Body::KeyReady(3)),
            ("credential", Body::Credential(&[0x5a; 300])),
            ("ping", Body::Ping(1)),
            ("pong", Body::Pong(1)),
            ("ack", Body::Ack(CircuitNo(1))),
        ];
        bodies
            .into_iter()
            .map(|(name, body)| {
                let kind: Kind = body.kind();
                let stream = [StreamNo::LANE, StreamNo(1)];
                let header = stream
                    .map(|stream| Header::new(kind, stream).encode())
                    .into_iter()
                    .find(|inner| Header::parse(*inner).is_ok())
                    .expect("a record is about the lane or a stream");
                let mut payload = vec![0; LANE_RECORD_MAX];
                let length = body.encode(&mut payload).expect("the payload is short");
                (name, [header.as_slice(), &payload[..length]].concat())
            })
            .collect()
    },
};
