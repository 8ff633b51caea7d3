//! What a node knows of its project and of its own place in it: what `StateFile::Membership`
//! holds, and what it comes back with after a restart.

use std::collections::BTreeMap;

use crypto::check::{Histories, TrustedAuthority};
use crypto::credential::{Credential, Pass};
use crypto::identity::{HistoryMark, Identity};
use crypto::names::Name;
use crypto::project::ProjectNote;
use crypto::{Id, UnixTime};
use minicbor::{Decoder, Encoder};
use zeroize::Zeroizing;

use crate::limits::RULES_MAX;
use crate::protocol::canonical::{self, Canonical, NotCanonical, Written};

/// Why a state file is no membership.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MembershipError {
    /// Another version of adit wrote it.
    #[error("it was written by a newer adit (format {0}; this one reads 1)")]
    Version(u64),
    /// It does not make sense.
    #[error("its bytes are not those of a membership")]
    Damaged,
    /// It is another identity's.
    #[error("it belongs to another identity")]
    OtherIdentity,
}

const FORMAT: u64 = 1;

/// A node's membership. The project's id, name and addresses are those of the note.
#[derive(Clone)]
pub struct Membership {
    /// What the authority says of the project, verified.
    pub note: ProjectNote,
    /// Shown to the other ends of circuits.
    pub credential: Credential,
    /// Shown to relays.
    pub pass: Pass,
    /// The authority as this node trusts it.
    pub authority: TrustedAuthority,
    /// The longest history seen of each identity that a policy pins.
    pub pinned: Pinned,
}

/// The longest history seen of pinned peers. Bounded by the number of pins.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pinned(BTreeMap<Id, HistoryMark>);

impl Pinned {
    /// Remembers what was just verified of a pinned peer. Returns whether it is news: a history that is
    /// shorter than the one held is none.
    pub fn remember(&mut self, id: Id, mark: HistoryMark) -> bool {
        let full = self.0.len() >= RULES_MAX * RULES_MAX && !self.0.contains_key(&id);
        let older = self.0.get(&id).is_some_and(|held| held.len > mark.len);
        !full && !older && self.0.insert(id, mark) != Some(mark)
    }
}

impl Histories for Pinned {
    fn held(&self, id: &Id) -> Option<HistoryMark> {
        self.0.get(id).copied()
    }
}

impl Membership {
    /// The project's id.
    pub fn project(&self) -> Id {
        self.note.body().project
    }

    /// The project's name.
    pub fn project_name(&self) -> &Name {
        &self.note.body().name
    }

    /// Takes over newer words of the authority: a note with a higher number, and its history.
    /// Returns whether anything changed; an older note changes nothing.
    pub fn adopt_note(&mut self, note: ProjectNote, now: UnixTime) -> bool {
        let longer = self.authority.adopt(&note.body().authority, now) == Ok(true);
        let newer = note.body().number > self.note.body().number;
        if newer {
            self.note = note;
        }
        newer || longer
    }

    /// The content of the state file.
    pub fn encode(&self) -> Zeroizing<Vec<u8>> {
        let stored = Stored {
            format: FORMAT,
            project: self.project(),
            note_mark: self.note.body().authority.mark(),
            authority: self.authority.identity().encode(),
            previous_until: self.authority.previous_until(),
            note: self.note.encode(),
            credential: self.credential.encode(),
            pass: self.pass.encode(),
            pinned: self.pinned.clone(),
        };
        Zeroizing::new(canonical::to_bytes(&stored, 4096))
    }

    /// Reads the content of the state file of the node that is `id`.
    ///
    /// # Errors
    /// [`MembershipError`]; the file should be left as it is.
    pub fn decode(bytes: &[u8], id: &Id) -> Result<Membership, MembershipError> {
        let mut head = Decoder::new(bytes);
        let format = head.array().ok().and_then(|_| head.u64().ok());
        match format {
            Some(FORMAT) => {}
            Some(newer) if newer > FORMAT => return Err(MembershipError::Version(newer)),
            _ => return Err(MembershipError::Damaged),
        }
        let stored: Stored = canonical::from_bytes(bytes).map_err(|_| MembershipError::Damaged)?;
        let damaged = MembershipError::Damaged;
        let note = ProjectNote::verify(&stored.note, &stored.project, &stored.note_mark);
        let note = note.map_err(|_| damaged)?;
        let authority = Identity::decode(&stored.authority).map_err(|_| damaged)?;
        if !authority.extends(&note.body().authority) {
            return Err(damaged);
        }
        let credential = Credential::decode(&stored.credential).map_err(|_| damaged)?;
        let pass = Pass::decode(&stored.pass).map_err(|_| damaged)?;
        if credential.body().project != stored.project || pass.body().subject != *id {
            return Err(MembershipError::OtherIdentity);
        }
        let authority = TrustedAuthority::new(authority, stored.previous_until);
        Ok(Membership {
            note,
            credential,
            pass,
            authority,
            pinned: stored.pinned,
        })
    }
}

/// The file, field by field.
struct Stored {
    format: u64,
    project: Id,
    /// Of the authority as the note has it …
    note_mark: HistoryMark,
    /// … and the longest history seen: it may have changed its key since the note.
    authority: Vec<u8>,
    previous_until: UnixTime,
    note: Vec<u8>,
    credential: Vec<u8>,
    pass: Vec<u8>,
    pinned: Pinned,
}

impl Canonical for Stored {
    fn write(&self, to: &mut Encoder<Vec<u8>>) -> Written {
        to.array(10)?.u64(self.format)?.bytes(&self.project.0)?;
        to.bytes(&self.note_mark.head)?.u16(self.note_mark.len)?;
        to.bytes(&self.authority)?.u64(self.previous_until.0)?;
        to.bytes(&self.note)?
            .bytes(&self.credential)?
            .bytes(&self.pass)?;
        to.array(self.pinned.0.len() as u64)?;
        for (id, mark) in &self.pinned.0 {
            to.array(3)?
                .bytes(&id.0)?
                .bytes(&mark.head)?
                .u16(mark.len)?;
        }
        Ok(())
    }

    fn read(from: &mut Decoder<'_>) -> Result<Self, NotCanonical> {
        canonical::array(from, 10)?;
        let format = from.u64()?;
        let project = Id(canonical::fixed(from)?);
        let note_mark = HistoryMark {
            head: canonical::fixed(from)?,
            len: from.u16()?,
        };
        let authority = from.bytes()?.to_vec();
        let previous_until = UnixTime(from.u64()?);
        let note = from.bytes()?.to_vec();
        let credential = from.bytes()?.to_vec();
        let pass = from.bytes()?.to_vec();
        let mut pinned = Pinned::default();
        for _ in 0..canonical::array_up_to(from, RULES_MAX * RULES_MAX)? {
            canonical::array(from, 3)?;
            let id = Id(canonical::fixed(from)?);
            pinned.remember(
                id,
                HistoryMark {
                    head: canonical::fixed(from)?,
                    len: from.u16()?,
                },
            );
        }
        Ok(Stored {
            format,
            project,
            note_mark,
            authority,
            previous_until,
            note,
            credential,
            pass,
            pinned,
        })
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;
    use crate::protocol::testkit::{NOW, Project};
    use crypto::credential::Roles;
    use crypto::suite::SuiteMask;

    fn membership(project: &mut Project, number: u64) -> Membership {
        let member = project.member("bank", Roles::MEMBER);
        let note = note(project, number);
        let authority = project.trusted();
        let pinned = Pinned::default();
        Membership {
            note,
            credential: member.credential,
            pass: member.pass,
            authority,
            pinned,
        }
    }

    fn note(project: &Project, number: u64) -> ProjectNote {
        let relays = vec!["relay.example.com:7348".parse().unwrap()];
        let name = "acme".parse().unwrap();
        ProjectNote::issue(&project.authority, name, number, relays, SuiteMask(0b11)).unwrap()
    }

    #[test]
    fn what_is_written_is_read_back_by_the_same_identity_only() {
        let mut project = Project::new(1);
        let mut held = membership(&mut project, 1);
        held.pinned.remember(Id([7; 32]), held.authority.mark());
        let id = held.pass.body().subject;
        let bytes = held.encode();
        let read = Membership::decode(&bytes, &id).unwrap();
        assert_eq!(read.encode(), bytes);
        assert_eq!(read.pinned, held.pinned);
        let other = Membership::decode(&bytes, &Id([9; 32]));
        assert_eq!(other.err(), Some(MembershipError::OtherIdentity));
    }

    #[test]
    fn of_a_pinned_peer_the_longest_history_is_kept() {
        let mut pinned = Pinned::default();
        let (id, mark) = (Id([7; 32]), |len| HistoryMark {
            head: [len as u8; 32],
            len,
        });
        assert!(pinned.remember(id, mark(1)) && pinned.remember(id, mark(2)));
        assert!(!pinned.remember(id, mark(1)), "no news");
        assert_eq!(pinned.held(&id), Some(mark(2)));
    }

    #[test]
    fn damage_and_newer_formats_are_told_apart() {
        let mut project = Project::new(2);
        let held = membership(&mut project, 1);
        let id = held.pass.body().subject;
        let bytes = held.encode();
        for at in 0..bytes.len() {
            let mut damaged = bytes.to_vec();
            damaged[at] ^= 1;
            let read = Membership::decode(&damaged, &id);
            assert!(read.is_err() || read.unwrap().encode().as_slice() == damaged);
        }
        assert_eq!(
            Membership::decode(&[], &id).err(),
            Some(MembershipError::Damaged)
        );
        let mut newer = bytes.to_vec();
        newer[1] = 2;
        assert_eq!(
            Membership::decode(&newer, &id).err(),
            Some(MembershipError::Version(2))
        );
    }

    #[test]
    fn only_a_newer_note_and_a_longer_history_are_taken_over() {
        let mut project = Project::new(3);
        let mut held = membership(&mut project, 5);
        assert!(!held.adopt_note(note(&project, 4), NOW));
        assert!(!held.adopt_note(note(&project, 5), NOW));
        assert!(held.adopt_note(note(&project, 6), NOW));
        project.authority.rotate(&mut project.random).unwrap();
        assert!(
            held.adopt_note(note(&project, 6), NOW),
            "the same number by a new key"
        );
        assert_eq!(held.authority.mark(), project.authority.identity().mark());
        assert_eq!(held.authority.previous_until(), NOW.plus(3600));
    }

    #[test]
    fn a_history_that_is_longer_than_the_notes_survives_a_restart() {
        let mut project = Project::new(5);
        let mut held = membership(&mut project, 1);
        project.authority.rotate(&mut project.random).unwrap();
        held.authority
            .adopt(project.authority.identity(), NOW)
            .unwrap();
        let read = Membership::decode(&held.encode(), &held.pass.body().subject).unwrap();
        assert_eq!(read.authority, held.authority);
        assert_eq!(read.note, held.note);
    }

    #[test]
    fn a_pinned_history_is_news_once() {
        let project = Project::new(4);
        let mark = project.authority.identity().mark();
        let mut pinned = Pinned::default();
        assert!(pinned.remember(Id([1; 32]), mark));
        assert!(!pinned.remember(Id([1; 32]), mark));
        assert_eq!(pinned.held(&Id([1; 32])), Some(mark));
        assert_eq!(pinned.held(&Id([2; 32])), None);
    }
}
