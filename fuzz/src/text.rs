//! What people type, paste and put into files.

use crypto::Id;
use crypto::names::{AttributeValue, HostPort, Name, RelayAddress};
use crypto::ticket::Ticket;

use data_encoding::BASE64URL_NOPAD;
use sha2::{Digest, Sha256};

use crate::Target;
use crate::fixtures::Project;

/// Enrollment tickets.
pub const TICKET: Target = Target {
    name: "ticket",
    body: |bytes| {
        let Ok(text) = std::str::from_utf8(bytes) else {
            return false;
        };
        match Ticket::from_text(text) {
            Ok(ticket) => {
                assert_eq!(*ticket.to_text(), text.trim(), "a ticket has one text only");
                true
            }
            Err(error) => {
                let message = error.to_string();
                assert!(
                    message.len() < 200,
                    "an error that repeats what was pasted: {message}"
                );
                false
            }
        }
    },
    seeds: || vec![("acme", Project::new().ticket.to_text().as_bytes().to_vec())],
};

/// A ticket's content behind the right length and checksum, which no blind search would find.
pub const TICKET_BODY: Target = Target {
    name: "ticket_body",
    body: |bytes| {
        let Ok(length) = u16::try_from(bytes.len()) else {
            return false;
        };
        let hash = Sha256::new_with_prefix(b"adit-ticket-v1")
            .chain_update(bytes)
            .finalize();
        let whole = [&length.to_be_bytes(), bytes, &hash[..4]].concat();
        let text = format!("adit-ticket-1:{}", BASE64URL_NOPAD.encode(&whole));
        let Ok(ticket) = Ticket::from_text(&text) else {
            return false;
        };
        assert_eq!(*ticket.to_text(), text, "a ticket has one text only");
        true
    },
    seeds: || {
        let text = Project::new().ticket.to_text();
        let digits = text.split_once(':').map_or("", |(_, digits)| digits);
        let whole = BASE64URL_NOPAD
            .decode(digits.as_bytes())
            .expect("a ticket is base64");
        vec![("acme", whole[2..whole.len() - 4].to_vec())]
    },
};

/// Names, values, addresses and ids: one text, tried as each.
pub const NAMES: Target = Target {
    name: "names",
    body: |bytes| {
        let Ok(text) = std::str::from_utf8(bytes) else {
            return false;
        };
        let shown = [
            text.parse::<Name>().ok().map(|it| it.to_string()),
            text.parse::<AttributeValue>().ok().map(|it| it.to_string()),
            text.parse::<RelayAddress>().ok().map(|it| it.to_string()),
            text.parse::<HostPort>().ok().map(|it| it.to_string()),
            text.parse::<Id>().ok().map(|it| it.to_string()),
        ];
        for text_again in shown.iter().flatten() {
            assert_eq!(text_again, text, "what is accepted is shown as it was");
            assert!(
                !text.chars().any(char::is_control),
                "a control character could reach a log"
            );
        }
        shown.iter().any(Option::is_some)
    },
    seeds: || {
        vec![
            ("name", b"bank-outlet".to_vec()),
            ("value", "Zürich, 8001".as_bytes().to_vec()),
            ("address", b"postgres.staging".to_vec()),
            ("host_port", b"[2001:db8::1]:7348".to_vec()),
            ("id", Id([1; 32]).to_string().into_bytes()),
        ]
    },
};
