//! Pieces of work that do the same each time, by name. Criterion times them; callgrind counts their
//! instructions, which repeats exactly where times don't.

use std::hint::black_box;

use crypto::check::MemberView;
use crypto::credential::Roles;
use crypto::leg::{LegKey, PREFACE_BODY, PREFACE_CLEAR};
use crypto::names::{Attributes, Name, RelayAddress};
use crypto::suite::Suite;
use crypto::{Id, UnixTime};
use proxy::ids::StreamNo;
use proxy::protocol::policy::Policy;
use proxy::protocol::preface::{self, Preface};
use proxy::protocol::record::{Body, Header, Kind, Open};

use crate::keys::{Parties, ends, open, record, seal};
use crate::lanes::Lanes;

/// One piece, to be done again and again.
pub struct Work {
    /// Its name: what it is about, then what exactly.
    pub name: &'static str,
    /// Makes what it needs, once; returns what does it.
    pub prepare: fn() -> Box<dyn FnMut()>,
}

/// All of them.
pub const ALL: [Work; 14] = [
    Work {
        name: "seal-open/aes-256-gcm/64",
        prepare: || seal_open(Suite::AesGcm, 64),
    },
    Work {
        name: "seal-open/aes-256-gcm/16360",
        prepare: || seal_open(Suite::AesGcm, 16_360),
    },
    Work {
        name: "seal-open/chacha20-poly1305/64",
        prepare: || seal_open(Suite::ChaChaPoly, 64),
    },
    Work {
        name: "seal-open/chacha20-poly1305/16360",
        prepare: || seal_open(Suite::ChaChaPoly, 16_360),
    },
    Work {
        name: "handshake/aes-256-gcm",
        prepare: || handshake(Suite::AesGcm),
    },
    Work {
        name: "handshake/chacha20-poly1305",
        prepare: || handshake(Suite::ChaChaPoly),
    },
    Work {
        name: "leg/seal-preface",
        prepare: leg_seal,
    },
    Work {
        name: "leg/open-preface",
        prepare: leg_open,
    },
    Work {
        name: "codec/preface",
        prepare: codec_preface,
    },
    Work {
        name: "codec/header",
        prepare: codec_header,
    },
    Work {
        name: "codec/open",
        prepare: codec_open,
    },
    Work {
        name: "lane/round-50x64",
        prepare: lane_round,
    },
    Work {
        name: "policy/allow",
        prepare: || policy("postgres-inlet=true"),
    },
    Work {
        name: "policy/deny-16-rules",
        prepare: || policy("reports-inlet=true"),
    },
];

/// The same again and again, with a result that the compiler has to make.
fn again<T>(mut work: impl FnMut() -> T + 'static) -> Box<dyn FnMut()> {
    Box::new(move || {
        black_box(work());
    })
}

fn seal_open(suite: Suite, payload: usize) -> Box<dyn FnMut()> {
    let (mut sealer, mut opener) = ends(suite);
    let mut bytes = record(payload);
    Box::new(move || {
        seal(&mut sealer, &mut bytes);
        open(&mut opener, &mut bytes);
    })
}

fn handshake(suite: Suite) -> Box<dyn FnMut()> {
    let mut parties = Parties::new(suite);
    again(move || parties.shake())
}

fn leg() -> (LegKey, [u8; PREFACE_CLEAR], [u8; PREFACE_BODY]) {
    let key = LegKey::from_secret(&[7; 32]);
    (key, [1; PREFACE_CLEAR], [2; PREFACE_BODY])
}

fn leg_seal() -> Box<dyn FnMut()> {
    let (key, clear, body) = leg();
    again(move || key.seal_preface(1, black_box(&clear), &body))
}

fn leg_open() -> Box<dyn FnMut()> {
    let (key, clear, body) = leg();
    let sealed = key.seal_preface(1, &clear, &body);
    again(move || key.open_preface(1, black_box(&clear), &sealed))
}

fn codec_preface() -> Box<dyn FnMut()> {
    let bytes = Preface::bytes(preface::Kind::RelaySession);
    again(move || Preface::parse(black_box(&bytes)))
}

fn codec_header() -> Box<dyn FnMut()> {
    let header = Header::new(Kind::Data, StreamNo(513));
    again(move || Header::parse(black_box(header).encode()))
}

fn codec_open() -> Box<dyn FnMut()> {
    let body = Body::Open(Open {
        target: "postgres".into(),
        authority_millis: 1_700_000_000_000,
        app: None,
        dedicated: false,
    });
    let mut space = [0; 128];
    Box::new(move || {
        let len = body.encode(&mut space).expect("OPEN fits 128 bytes");
        let _ = black_box(Body::parse(Kind::Open, &space[..len]));
    })
}

fn lane_round() -> Box<dyn FnMut()> {
    let mut lanes = Lanes::open(50);
    again(move || lanes.round(64))
}

/// Sixteen alternatives of three terms, of which the last may be the member's.
fn policy(held: &str) -> Box<dyn FnMut()> {
    let mut rules: Vec<String> = (0..15)
        .map(|n| format!("team=t{n},env=prod,postgres-inlet=true"))
        .collect();
    rules.push("env=prod,team=own,postgres-inlet=true".into());
    let policy = Policy::parse(&rules).expect("rules of the right form");
    let mut attributes = Attributes::new();
    for term in ["env=prod", "team=own", held] {
        let (name, value) = term.split_once('=').expect("NAME=VALUE");
        let name = name.parse().expect("a name");
        let value = value.parse().expect("a value");
        attributes.insert(name, value).expect("few attributes");
    }
    let name: Name = "somebody".parse().expect("a name");
    let address: RelayAddress = "postgres".parse().expect("an address");
    Box::new(move || {
        let member = MemberView {
            id: &Id([1; 32]),
            name: &name,
            attributes: &attributes,
            roles: Roles::MEMBER,
            address: &address,
            now: UnixTime(0),
        };
        let _ = black_box(policy.explain(black_box(&member)));
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_piece_can_be_done_again() {
        for work in &ALL {
            let mut again = (work.prepare)();
            for _ in 0..3 {
                again();
            }
        }
    }
}
