//! The messages of sessions, plain.

use crypto::ticket::{TicketId, TicketSecret};
use proxy::error::Problem;
use proxy::ids::{AddressHash, SessionId};
use proxy::protocol::session::{Message, Refusal, RequestNo};
use zeroize::Zeroizing;

use crate::cast::{self, NOW};
use crate::paper::Paper;

fn authority_messages() -> Vec<(&'static str, u32, Message)> {
    let (credential, pass) = cast::membership(false);
    let (credential, pass) = (credential.encode(), pass.encode());
    let note = || b"a project note".to_vec();
    vec![
        (
            "REDEEM",
            1,
            Message::Redeem {
                ticket: TicketId([0x42; 16]),
                secret: TicketSecret::from_bytes(&[0x42; 32]),
                wish: Some("analysis-inlet".parse().unwrap()),
            },
        ),
        (
            "ENROLLED",
            1,
            Message::Enrolled {
                credential: credential.clone(),
                pass: pass.clone(),
                note: note(),
            },
        ),
        (
            "REFUSED, a ticket that was used",
            1,
            Message::Refused(Refusal {
                redeemed_by: Some(cast::outlet().id()),
                at: Some(NOW),
                ..Refusal::new(Problem::TicketUsed)
            }),
        ),
        ("RENEW", 2, Message::Renew),
        ("RENEWED", 2, Message::Renewed { credential, pass }),
        ("TIME", 3, Message::Time { nonce: [0x55; 16] }),
        (
            "TIME IS",
            3,
            Message::TimeIs {
                nonce: [0x55; 16],
                unix_millis: NOW.0 * 1000,
            },
        ),
        ("GET PROJECT", 4, Message::GetProject),
        ("PROJECT", 4, Message::Project { note: note() }),
        (
            "BEACON",
            0,
            Message::Beacon {
                beacon: b"a beacon".to_vec(),
            },
        ),
        (
            "GET REVOCATIONS",
            5,
            Message::GetRevocations { offset: 12_288 },
        ),
        (
            "REVOCATIONS",
            5,
            Message::Revocations {
                number: 3,
                length: 12_291,
                offset: 12_288,
                part: b"end".to_vec(),
            },
        ),
        ("HOLDS", 6, Message::Holds { number: 3, cut: 1 }),
        ("PING", 7, Message::Ping),
        ("PONG", 7, Message::Pong),
    ]
}

fn relay_messages() -> Vec<(&'static str, u32, Message)> {
    let address = AddressHash(crypto::address_hash(&cast::project(), &cast::address()));
    vec![
        (
            "WELCOME",
            0,
            Message::Welcome {
                session: SessionId([0x51; 16]),
                secret: Zeroizing::new([0x52; 32]),
                leg_address: Some("192.0.2.1:7348".parse().unwrap()),
            },
        ),
        (
            "SERVE",
            1,
            Message::Serve {
                addresses: vec![cast::address()],
            },
        ),
        (
            "SERVED",
            1,
            Message::Served {
                accepted: vec![cast::address()],
                refused: Vec::new(),
            },
        ),
        ("PARK LOW", 0, Message::ParkLow { address, want: 4 }),
        (
            "PASS RENEWED",
            2,
            Message::PassRenewed {
                pass: cast::membership(true).1.encode(),
            },
        ),
        ("GOING AWAY", 0, Message::GoingAway),
        (
            "DENIED",
            3,
            Message::Denied {
                address,
                member: cast::membership(false).0.body().subject,
            },
        ),
        ("NOW SERVED", 0, Message::NowServed { address }),
    ]
}

fn on_paper(messages: Vec<(&'static str, u32, Message)>) -> String {
    let mut paper = Paper::new();
    for (what, request, message) in messages {
        paper.cbor(what, &message.into_plain(RequestNo(request)));
    }
    paper.finish()
}

pub fn examples() -> Vec<(&'static str, String)> {
    vec![
        ("authority-messages", on_paper(authority_messages())),
        ("relay-messages", on_paper(relay_messages())),
    ]
}
