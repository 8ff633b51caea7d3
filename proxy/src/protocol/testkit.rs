//! Keys, credentials and evidence for the tests of handshakes.

use crypto::attestation::Purpose;
use crypto::check::{Evidence, Grant, TrustedAuthority};
use crypto::credential::{Connect, Credential, CredentialBody, Pass, Roles, issue};
use crypto::identity::IdentitySecret;
use crypto::names::Attributes;
use crypto::statics::StaticKeypair;
use crypto::{Id, SeededRandom, UnixTime};

use super::keyring::Keyring;

/// The time of all tests.
pub const NOW: UnixTime = UnixTime(1_800_000_000);

/// A project with its authority.
pub struct Project {
    /// Its key.
    pub authority: IdentitySecret,
    /// Randomness.
    pub random: SeededRandom,
    serial: u64,
}

/// A member with its keys.
pub struct Member {
    /// Its keys.
    pub keys: Keyring,
    /// Its credential.
    pub credential: Credential,
    /// Its pass.
    pub pass: Pass,
}

impl Project {
    /// A project.
    pub fn new(seed: u64) -> Project {
        let mut random = SeededRandom::new(seed);
        Project {
            authority: IdentitySecret::create(&mut random),
            random,
            serial: 0,
        }
    }

    /// Its id.
    pub fn id(&self) -> Id {
        self.authority.id()
    }

    /// As members trust it.
    pub fn trusted(&self) -> TrustedAuthority {
        TrustedAuthority::new(self.authority.identity().clone(), UnixTime(0))
    }

    /// The authority's own keys for sessions.
    pub fn authority_keys(&mut self) -> Keyring {
        let bytes = self.authority.to_bytes();
        Keyring::new(
            IdentitySecret::from_bytes(&bytes).unwrap(),
            &mut self.random,
        )
    }

    /// A member that serves and connects to `postgres`, has one attribute, and an hour.
    pub fn member(&mut self, attribute: &str, roles: Roles) -> Member {
        let identity = IdentitySecret::create(&mut self.random);
        self.serial += 1;
        let mut attributes = Attributes::new();
        attributes
            .insert(attribute.parse().unwrap(), "true".parse().unwrap())
            .unwrap();
        let body = CredentialBody {
            project: self.id(),
            subject: identity.id(),
            history_head: identity.identity().head(),
            history_len: identity.identity().len(),
            serial: self.serial,
            name: attribute.parse().unwrap(),
            attributes,
            roles,
            may_serve: vec!["postgres".parse().unwrap()],
            may_connect: Connect::All,
            not_before: NOW,
            not_after: NOW.plus(3600),
            authority_key: 0,
        };
        let (credential, pass) = issue(&self.authority, body).unwrap();
        Member {
            keys: Keyring::new(identity, &mut self.random),
            credential,
            pass,
        }
    }
}

impl Member {
    /// What it shows on circuits.
    pub fn circuit(&mut self) -> Evidence {
        let project = self.credential.body().project;
        let grant = Grant::Credential(Box::new(self.credential.clone()));
        self.keys.evidence(&project, Purpose::Circuit, NOW, grant)
    }

    /// What it shows to relays.
    pub fn for_relay(&mut self) -> Evidence {
        let project = self.credential.body().project;
        let grant = Grant::Pass(Box::new(self.pass.clone()));
        self.keys
            .evidence(&project, Purpose::RelaySession, NOW, grant)
    }

    /// What it shows to the authority.
    pub fn for_authority(&mut self) -> Evidence {
        let project = self.credential.body().project;
        self.keys
            .evidence(&project, Purpose::AuthoritySession, NOW, Grant::Nothing)
    }

    /// Its key for circuits.
    pub fn circuit_pair(&self) -> &StaticKeypair {
        self.keys.pair(Purpose::Circuit)
    }
}
