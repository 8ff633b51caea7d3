//! Who appears in the examples. All that is drawn at random is one repeated byte, so that anybody
//! can make the same keys.

use crypto::attestation::{Attestation, Purpose};
use crypto::check::TrustedAuthority;
use crypto::credential::{Connect, Credential, CredentialBody, Pass, Roles, issue};
use crypto::identity::IdentitySecret;
use crypto::names::{Attributes, RelayAddress};
use crypto::statics::StaticKeypair;
use crypto::{Id, Random, UnixTime};
use proxy::error::{CloseReason, Problem};

use crate::paper::Paper;

/// Draws one byte again and again.
pub struct Same(pub u8);

impl Random for Same {
    fn fill(&mut self, out: &mut [u8]) {
        out.fill(self.0);
    }
}

/// The time of all examples.
pub const NOW: UnixTime = UnixTime(1_800_000_000);

const AUTHORITY: u8 = 0x01;
const INLET: u8 = 0x02;
const OUTLET: u8 = 0x03;
/// Static keys: for authority sessions and circuits.
pub const AUTHORITY_STATIC: u8 = 0x11;
pub const NODE_STATIC: u8 = 0x12;
pub const INLET_STATIC: u8 = 0x22;
pub const OUTLET_STATIC: u8 = 0x23;
/// Ephemeral keys of who initiates and who responds.
pub const INITIATOR: u8 = 0x31;
pub const RESPONDER: u8 = 0x32;

pub fn authority() -> IdentitySecret {
    IdentitySecret::create(&mut Same(AUTHORITY))
}

pub fn inlet() -> IdentitySecret {
    IdentitySecret::create(&mut Same(INLET))
}

pub fn outlet() -> IdentitySecret {
    IdentitySecret::create(&mut Same(OUTLET))
}

pub fn project() -> Id {
    authority().id()
}

pub fn trusted() -> TrustedAuthority {
    TrustedAuthority::new(authority().identity().clone(), UnixTime(0))
}

pub fn address() -> RelayAddress {
    "postgres".parse().unwrap()
}

pub fn pair(byte: u8) -> StaticKeypair {
    StaticKeypair::generate(&mut Same(byte))
}

pub fn attestation(of: &IdentitySecret, static_byte: u8, purpose: Purpose) -> Attestation {
    let key = pair(static_byte).public();
    of.attest(&project(), &key, purpose, NOW, NOW.plus(86_400))
        .unwrap()
}

/// The inlet's credential and pass, or the outlet's.
pub fn membership(serves: bool) -> (Credential, Pass) {
    let member = if serves { outlet() } else { inlet() };
    let attribute = if serves {
        "postgres-outlet"
    } else {
        "postgres-inlet"
    };
    let mut attributes = Attributes::new();
    attributes
        .insert(attribute.parse().unwrap(), "true".parse().unwrap())
        .unwrap();
    let body = CredentialBody {
        project: project(),
        subject: member.id(),
        history_head: member.identity().head(),
        history_len: member.identity().len(),
        serial: if serves { 8 } else { 7 },
        name: if serves {
            "bank-outlet"
        } else {
            "analysis-inlet"
        }
        .parse()
        .unwrap(),
        attributes,
        roles: Roles::MEMBER,
        may_serve: if serves { vec![address()] } else { Vec::new() },
        may_connect: if serves {
            Connect::Only(Vec::new())
        } else {
            Connect::All
        },
        not_before: NOW,
        not_after: NOW.plus(3600),
        authority_key: 0,
    };
    issue(&authority(), body).unwrap()
}

pub fn examples() -> Vec<(&'static str, String)> {
    let mut cast = Paper::new();
    for (who, byte, identity) in [
        ("authority", AUTHORITY, authority()),
        ("inlet", INLET, inlet()),
        ("outlet", OUTLET, outlet()),
    ] {
        cast.line(&format!(
            "{who}: Ed25519 seed 32 × {byte:02x}, id {}",
            identity.id()
        ));
        cast.field(identity.identity().key().as_bytes(), "public key");
    }
    for (what, byte) in [
        ("authority, authority sessions", AUTHORITY_STATIC),
        ("inlet, authority sessions", NODE_STATIC),
        ("inlet, circuits", INLET_STATIC),
        ("outlet, circuits", OUTLET_STATIC),
    ] {
        cast.line(&format!(
            "static key of {what}: X25519 secret 32 × {byte:02x}"
        ));
        cast.field(&pair(byte).public().0, "public key");
    }
    cast.line(&format!(
        "ephemeral keys: initiator 32 × {INITIATOR:02x}, responder 32 × {RESPONDER:02x}"
    ));
    cast.line(&format!("now: {NOW}"));

    let mut reasons = Paper::new();
    for reason in CloseReason::ALL {
        reasons.line(&format!("{:04}  {reason}", reason.code().0));
    }
    let mut problems = Paper::new();
    for problem in Problem::ALL {
        problems.line(&format!("{:04}  {problem}", problem.code().0));
    }
    vec![
        ("cast", cast.finish()),
        ("close-reasons", reasons.finish()),
        ("problems", problems.finish()),
    ]
}
