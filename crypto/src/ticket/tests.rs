//! Tickets survive a copy, and say what a bad copy did to them.

use super::*;
use crate::random::SeededRandom;
use proptest::prelude::*;

fn ticket() -> Ticket {
    let addresses = vec![
        "relay.example.com:7348".parse().unwrap(),
        "[::1]:1".parse().unwrap(),
    ];
    let mark = HistoryMark {
        head: [4; 32],
        len: 2,
    };
    let name = "acme".parse().unwrap();
    let random = &mut SeededRandom::new(1);
    Ticket::create(
        random,
        name,
        Id([3; 32]),
        mark,
        addresses,
        UnixTime(1_900_000_000),
    )
    .unwrap()
}

fn error_of(text: &str) -> TicketError {
    Ticket::from_text(text).err().unwrap()
}

#[test]
fn a_text_gives_the_ticket_back() {
    let made = ticket();
    let text = made.to_text();
    for copy in [text.to_string(), format!("  {}\r\n", *text)] {
        let read: Ticket = copy.parse().unwrap();
        assert_eq!(read.project_name, made.project_name);
        assert_eq!(read.project, made.project);
        assert_eq!(read.authority, made.authority);
        assert_eq!(read.addresses, made.addresses);
        assert_eq!(read.id, made.id);
        assert_eq!(read.expires, made.expires);
        assert_eq!(read.secret().as_bytes(), made.secret().as_bytes());
        assert_eq!(read.secret_hash(), made.secret_hash());
        assert_eq!(read.to_text(), text);
    }
}

#[test]
fn the_hash_depends_on_id_and_secret() {
    let made = ticket();
    let other = TicketSecret::from_bytes(&[9; 32]);
    assert_ne!(made.secret_hash(), other.hash(&made.id));
    assert_ne!(made.secret_hash(), made.secret().hash(&TicketId([0; 16])));
}

#[test]
fn every_cut_is_called_a_cut() {
    let text = ticket().to_text();
    for len in PREFIX.len()..text.len() {
        let error = error_of(&text[..len]);
        assert!(
            matches!(error, TicketError::Truncated { have, .. } if have == len),
            "{error}"
        );
    }
    let TicketError::Truncated { want, .. } = error_of(&text[..100]) else {
        unreachable!()
    };
    assert_eq!(want, text.len());
}

#[test]
fn a_longer_text_is_called_longer() {
    let text = ticket().to_text();
    let (have, want) = (text.len() + 2, text.len());
    assert_eq!(
        error_of(&format!("{}xx", *text)),
        TicketError::TooLong { have, want }
    );
}

#[test]
fn a_bad_character_is_pointed_at() {
    let text = ticket().to_text();
    for bad in ['=', '+', '/', ' ', '\n', 'ä', '\u{0}'] {
        let damaged = format!("{}{bad}{}", &text[..40], &text[41..]);
        assert_eq!(error_of(&damaged), TicketError::BadCharacter(41), "{bad:?}");
    }
}

#[test]
fn an_altered_character_is_called_damage() {
    let text = ticket().to_text();
    for at in PREFIX.len() + 4..text.len() {
        let other = if &text[at..=at] == "A" { "B" } else { "A" };
        let damaged = format!("{}{other}{}", &text[..at], &text[at + 1..]);
        assert_eq!(
            error_of(&damaged),
            TicketError::BadChecksum,
            "character {at}"
        );
    }
}

#[test]
fn other_texts_are_told_apart() {
    assert_eq!(error_of(""), TicketError::Empty);
    assert_eq!(error_of(" \n"), TicketError::Empty);
    assert_eq!(error_of("/etc/adit/ticket"), TicketError::WrongPrefix);
    assert_eq!(error_of("ADIT-TICKET-1:AAAA"), TicketError::WrongPrefix);
    assert_eq!(error_of("adit-ticket-2:AAAA"), TicketError::NewerVersion);
    assert_eq!(error_of("adit-ticket-10:AAAA"), TicketError::NewerVersion);
}

#[test]
fn a_well_packed_body_that_is_no_ticket_is_malformed() {
    let body = [0xa0];
    let mut whole = vec![0, 1];
    whole.extend_from_slice(&body);
    whole.extend_from_slice(&checksum(&body));
    let text = format!("{PREFIX}{}", BASE64URL_NOPAD.encode(&whole));
    assert_eq!(
        error_of(&text),
        TicketError::Malformed(DecodeError::MissingKey(1))
    );
}

#[test]
fn an_error_never_repeats_the_text() {
    let text = ticket().to_text();
    for damaged in [&text[..200], &text[1..], &format!("{}AAAA", *text)] {
        let message = error_of(damaged).to_string();
        assert!(!message.contains(&text[60..70]), "{message}");
    }
}

#[test]
fn a_ticket_has_one_to_eight_addresses() {
    for (count, fits) in [(0, false), (1, true), (8, true), (9, false)] {
        let addresses = vec![format!("{}:65535", "h".repeat(253)).parse().unwrap(); count];
        let mark = HistoryMark {
            head: [4; 32],
            len: u16::MAX,
        };
        let name = "n".repeat(64).parse().unwrap();
        let random = &mut SeededRandom::new(1);
        let made = Ticket::create(
            random,
            name,
            Id([3; 32]),
            mark,
            addresses,
            UnixTime(u64::MAX),
        );
        assert_eq!(made.is_ok(), fits, "{count} addresses");
        if let Ok(made) = made {
            assert!(Ticket::from_text(&made.to_text()).is_ok());
        }
    }
}

proptest! {
    #[test]
    fn no_text_makes_it_panic(text in "(adit-ticket-1:)?[A-Za-z0-9_=é-]{0,40}") {
        let _ = Ticket::from_text(&text);
    }

    #[test]
    fn a_body_is_read_only_in_its_one_spelling(at in 0_usize..200, with: u8) {
        let mut body = ticket().encode_body().to_vec();
        let at = at % body.len();
        body[at] = with;
        if let Ok(read) = Ticket::decode_body(&body) {
            prop_assert_eq!(read.encode_body().to_vec(), body);
        }
    }
}
