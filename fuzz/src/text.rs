//! What people type, paste and put into files.

use crypto::check::MemberView;
use crypto::credential::Roles;
use crypto::names::Attributes;
use crypto::names::{AttributeValue, HostPort, Name, RelayAddress};
use crypto::ticket::Ticket;
use crypto::{Id, UnixTime};

use proxy::cli::check_config;
use proxy::control::policies;
use proxy::protocol::policy::{Effect, Mode, Policy, RuleSpec, Written};

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

/// Policy rules whose condition is an expression.
pub const EXPRESSION: Target = Target {
    name: "expression",
    body: |bytes| {
        let Ok(text) = std::str::from_utf8(bytes) else {
            return false;
        };
        let read = |effect| {
            policies::read(&[RuleSpec {
                name: None,
                effect,
                mode: Mode::Enforce,
                condition: Written::Cel(text.to_owned()),
            }])
        };
        match (read(Effect::Allow), read(Effect::Deny)) {
            (Ok(allow), Ok(deny)) => {
                assert_eq!(allow.rules()[0].text(), text, "shown as it was written");
                for attributes in [&[][..], &[("team", "blue"), ("a-b", "1")]] {
                    ask(&allow, attributes);
                    ask(&deny, attributes);
                }
                true
            }
            (Err(error), Err(_)) => {
                let message = error.to_string();
                assert!(!message.contains("a bug of adit"), "{message}");
                assert!(
                    message.len() < 1000,
                    "an error that repeats it all: {message}"
                );
                assert!(
                    !message.chars().any(char::is_control),
                    "a control character"
                );
                false
            }
            (allow, deny) => unreachable!("one is read and one is not: {allow:?} {deny:?}"),
        }
    },
    seeds: || {
        let seed = |name, text: &str| (name, text.as_bytes().to_vec());
        vec![
            seed(
                "attribute",
                "member.attributes.team == 'blue' && has(member.attributes.env)",
            ),
            seed(
                "index",
                "member.attributes[\"a-b\"] in ['1', '2'] || 'a-b' in member.attributes",
            ),
            seed(
                "identity",
                "member.id.startsWith('I') ? member.name != 'bob' : !(size(member.name) > 3)",
            ),
            seed(
                "time",
                "now < timestamp('2026-12-31T23:59:59Z') && now.getHours() >= 8",
            ),
            seed(
                "span",
                "now - timestamp('2026-01-01T00:00:00Z') > duration('8h30m') + -1",
            ),
            seed(
                "texts",
                "(target == 'db' // so\n) && r'\\d' != \"\"\"a'b\"\"\" + 'c'.size() > 0 ? true : false",
            ),
        ]
    },
};

fn ask(policy: &Policy, attributes: &[(&str, &str)]) {
    let mut held = Attributes::new();
    for (name, value) in attributes {
        let pair = (
            name.parse().expect("a name"),
            value.parse().expect("a value"),
        );
        held.insert(pair.0, pair.1).expect("there is room");
    }
    let view = MemberView {
        id: &Id([1; 32]),
        name: &"bank-outlet".parse().expect("a name"),
        attributes: &held,
        roles: Roles::MEMBER,
        address: &"db".parse().expect("an address"),
        now: UnixTime(1_795_599_000),
    };
    let first = policy.explain(&view).map(|_| ());
    assert_eq!(first, policy.explain(&view).map(|_| ()), "asked twice");
}

/// Configuration files.
pub const CONFIG: Target = Target {
    name: "config",
    body: |bytes| {
        let Ok(text) = std::str::from_utf8(bytes) else {
            return false;
        };
        match check_config(text) {
            Ok(()) => true,
            Err(failure) => {
                let why = failure.to_string();
                let shown = |c: char| !c.is_control() || c == '\n';
                assert!(why.chars().all(shown), "a control character in {why:?}");
                false
            }
        }
    },
    seeds: || {
        let seed = |name, text: &str| (name, text.as_bytes().to_vec());
        vec![
            seed(
                "node",
                "project = \"acme\"\nengine = \"epoll\"\nticket = \"/run/ticket\"\n\
                 exit-if-not-enrolled = true\nlog-level = \"info\"\n",
            ),
            seed(
                "portals",
                "[[inlet]]\nvia = \"db\"\nfrom = \"127.0.0.1:0\"\nallow = [\"a=1\", \"b=2\"]\n\
                 [[outlet]]\nat = \"www\"\nto = \"localhost:80\"\nallow = \"c=3\"\ndeny = \"d=4\"\n",
            ),
            seed(
                "rules",
                "[[outlet]]\nat = \"db\"\nto = \"localhost:80\"\n[[outlet.rule]]\nname = \"hours\"\n\
                 deny-cel = \"now.getHours() < 6\"\nmode = \"audit\"\n[[outlet.rule]]\nallow = \"a=1\"\n",
            ),
        ]
    },
};
