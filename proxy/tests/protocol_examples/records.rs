//! Records: each kind plain, and some sealed.

use crypto::record::{ChainSecret, Opener, Sealer};
use crypto::suite::Suite;
use proxy::error::CloseReason;
use proxy::ids::{CircuitNo, StreamNo};
use proxy::protocol::record::{About, Body, Header, Kind, Open, Switch};

use crate::cast::NOW;
use crate::paper::Paper;

/// One of each kind, in the order of their numbers.
fn bodies() -> Vec<(&'static str, Body<'static>)> {
    let open = |app: Option<&str>| {
        Body::Open(Open {
            target: "postgres".to_owned(),
            authority_millis: NOW.0 * 1000,
            app: app.map(|app| app.parse().unwrap()),
            dedicated: false,
        })
    };
    vec![
        ("", Body::Ready),
        (
            "not authorized",
            Body::Denied(CloseReason::NotAuthorized.code()),
        ),
        ("no app address", open(None)),
        ("app 10.0.0.7:40000", open(Some("10.0.0.7:40000"))),
        ("app [2001:db8::7]:40000", open(Some("[2001:db8::7]:40000"))),
        ("", Body::Opened),
        (
            "the target refused",
            Body::Refused(CloseReason::TargetRefused.code()),
        ),
        ("\"hello\"", Body::Data(b"hello")),
        ("8192 bytes more", Body::Credit(8192)),
        (
            "to circuit 1, 5 bytes so far",
            Body::Switch(Switch {
                circuit: CircuitNo(1),
                bytes: 5,
            }),
        ),
        ("5 bytes so far", Body::Continue(5)),
        ("5 bytes in all", Body::End(5)),
        ("", Body::Closed),
        (
            "the app reset its connection",
            Body::Abort(CloseReason::AppReset.code()),
        ),
        ("", Body::Cut),
        ("2 circuits", Body::Want(2)),
        ("", Body::Retire),
        ("mixes nothing in", Body::KeyUpdate(None)),
        ("mixes exchange 1 in", Body::KeyUpdate(Some(1))),
        (
            "exchange 1, a Noise message",
            Body::KeyExchange(1, b"message"),
        ),
        ("exchange 1", Body::KeyReady(1)),
        ("an evidence", Body::Credential(b"evidence")),
        ("number 9", Body::Ping(9)),
        ("number 9", Body::Pong(9)),
        ("circuit 1 was read to its end", Body::Ack(CircuitNo(1))),
    ]
}

fn header(kind: Kind) -> Header {
    let about_stream = kind.about() == About::Stream;
    Header::new(kind, StreamNo(u16::from(about_stream)))
}

/// As in the page: KEY_UPDATE.
fn name(kind: Kind) -> String {
    let mut name = String::new();
    for letter in format!("{kind:?}").chars() {
        if letter.is_uppercase() && !name.is_empty() {
            name.push('_');
        }
        name.push(letter.to_ascii_uppercase());
    }
    name
}

fn plain() -> String {
    let mut paper = Paper::new();
    let mut kinds = Vec::new();
    for (what, body) in bodies() {
        let mut payload = [0; 256];
        let len = body.encode(&mut payload).unwrap();
        let mut bytes = header(body.kind()).encode().to_vec();
        bytes.extend_from_slice(&payload[..len]);
        let name = name(body.kind());
        paper.field(&bytes, format!("{name}  {what}").trim_end());
        kinds.push(body.kind());
    }
    kinds.dedup();
    assert_eq!(kinds, Kind::ALL, "an example of each kind");
    paper.finish()
}

/// Seals a record with a payload.
fn seal(sealer: &mut Sealer, kind: Kind, payload: &[u8]) -> Vec<u8> {
    let mut record = vec![0; 4];
    record.extend_from_slice(&header(kind).encode());
    record.extend_from_slice(payload);
    record.resize(record.len() + 16, 0);
    sealer.seal(&mut record).unwrap();
    record
}

fn sealed() -> String {
    let mut paper = Paper::new();
    for suite in [Suite::AesGcm, Suite::ChaChaPoly] {
        let chain = || ChainSecret::from_bytes(&[0x61; 32]);
        let (mut sealer, mut opener) = (Sealer::new(suite, chain()), Opener::new(suite, chain()));
        paper.line(&format!("suite {}, chain 32 × 61", suite.number()));
        for (what, kind, payload) in [
            ("epoch 0, record 0: READY", Kind::Ready, &b""[..]),
            (
                "epoch 0, record 1: DATA \"hello\" of stream 1",
                Kind::Data,
                b"hello",
            ),
            ("epoch 0, record 2: KEY_UPDATE", Kind::KeyUpdate, b""),
            (
                "epoch 1, record 0: DATA \"hello\" of stream 1",
                Kind::Data,
                b"hello",
            ),
        ] {
            let record = seal(&mut sealer, kind, payload);
            assert!(opener.open(&mut record.clone()).is_ok());
            paper.block(what, &record);
            if kind == Kind::KeyUpdate {
                sealer.update(None);
                opener.update(None);
            }
        }
    }
    paper.finish()
}

pub fn examples() -> Vec<(&'static str, String)> {
    vec![("records", plain()), ("sealed-records", sealed())]
}
