//! One small project, always the same: what seeds are made of and what bodies verify against.

use crypto::attestation::{Attestation, Purpose};
use crypto::check::{Evidence, Grant};
use crypto::credential::{Connect, Credential, CredentialBody, Pass, Roles, issue};
use crypto::identity::IdentitySecret;
use crypto::names::{Attributes, HostPort, Name, RelayAddress};
use crypto::project::ProjectNote;
use crypto::revocation::{Beacon, RevocationEntry, RevocationList};
use crypto::statics::StaticKeypair;
use crypto::suite::SuiteMask;
use crypto::ticket::Ticket;
use crypto::{Id, SeededRandom, UnixTime};

/// When all of it is valid.
pub const NOW: UnixTime = UnixTime(1_800_000_000);

/// The authority, a member whose key has changed once, and what they signed.
pub struct Project {
    /// The authority.
    pub authority: IdentitySecret,
    /// The member.
    pub member: IdentitySecret,
    /// The member's Noise key.
    pub static_key: StaticKeypair,
    /// Its word for that key.
    pub attestation: Attestation,
    /// The authority's word for the member.
    pub credential: Credential,
    /// The part of it that relays see.
    pub pass: Pass,
    /// What nodes are told of the project.
    pub note: ProjectNote,
    /// A revocation list with two members.
    pub list: RevocationList,
    /// A beacon for it.
    pub beacon: Beacon,
    /// A ticket.
    pub ticket: Ticket,
}

/// A text that is known to be right.
fn text<T: for<'a> TryFrom<&'a str>>(text: &str) -> T {
    match T::try_from(text) {
        Ok(value) => value,
        Err(_) => unreachable!("the texts below are legal"),
    }
}

impl Project {
    /// The same one each time.
    ///
    /// # Panics
    /// Something that is legal here has become illegal.
    pub fn new() -> Project {
        let mut random = SeededRandom::new(1);
        let authority = IdentitySecret::create(&mut random);
        let mut member = IdentitySecret::create(&mut random);
        member
            .rotate(&mut random)
            .expect("a history has room for one change");
        let static_key = StaticKeypair::generate(&mut random);
        let project: Id = authority.id();
        let attestation = member
            .attest(
                &project,
                &static_key.public(),
                Purpose::Circuit,
                NOW,
                NOW.plus(3600),
            )
            .expect("an hour is not too long");
        let mut attributes = Attributes::new();
        for (name, value) in [("postgres-inlet", "true"), ("team", "Zürich")] {
            attributes
                .insert(text(name), text(value))
                .expect("two attributes fit");
        }
        let body = CredentialBody {
            project,
            subject: member.id(),
            history_head: member.identity().head(),
            history_len: member.identity().len(),
            serial: 7,
            name: text("analysis-inlet"),
            attributes,
            roles: Roles::MEMBER,
            may_serve: vec![text::<RelayAddress>("postgres")],
            may_connect: Connect::Only(vec![text("postgres"), text("postgres.staging")]),
            not_before: NOW,
            not_after: NOW.plus(3600),
            authority_key: 0,
        };
        let (credential, pass) = issue(&authority, body).expect("the body is legal");
        let addresses = || {
            vec![
                text::<HostPort>("relay.example:7348"),
                text("[2001:db8::1]:7348"),
            ]
        };
        let name = || text::<Name>("acme");
        let note = ProjectNote::issue(&authority, name(), 3, addresses(), SuiteMask(3))
            .expect("two relays fit");
        let entry = |member: u8, max_serial: u64| RevocationEntry {
            member: Id([member; 32]),
            max_serial,
            number: max_serial,
        };
        let list = RevocationList::issue(&authority, 300, vec![entry(9, 4), entry(3, 300)])
            .expect("two members fit");
        let beacon = Beacon::issue(&authority, 70_000, &list, NOW.0 * 1000);
        let mark = authority.identity().mark();
        let ticket = Ticket::create(
            &mut random,
            name(),
            project,
            mark,
            addresses(),
            NOW.plus(600),
        )
        .expect("two addresses fit");
        Project {
            authority,
            member,
            static_key,
            attestation,
            credential,
            pass,
            note,
            list,
            beacon,
            ticket,
        }
    }

    /// What the member shows of itself.
    pub fn evidence(&self, grant: Grant) -> Evidence {
        Evidence {
            identity: self.member.identity().clone(),
            attestation: self.attestation.clone(),
            grant,
        }
    }
}

impl Default for Project {
    fn default() -> Project {
        Project::new()
    }
}
