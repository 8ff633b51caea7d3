//! The project note (the PROJECT message): how nodes learn of new relays, suites and authority
//! keys after they were enrolled, so that a ticket's copy never goes stale.
//!
//! Body: {1: project, 2: name, 3: number, 4: authority identity, 5: relays, 6: suite mask},
//! signed by the last key of that identity.

use crate::cbor::{DecodeError, Reader, Writer};
use crate::id::Id;
use crate::identity::{HistoryFault, HistoryMark, Identity, IdentityError, IdentitySecret};
use crate::limits::{IDENTITY_MAX, NOTE_MAX, NOTE_RELAYS_MAX};
use crate::names::{HostPort, Name};
use crate::sign::{Signed, SignedKind};
use crate::suite::SuiteMask;

/// What a project note says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProjectNoteBody {
    /// The project.
    pub project: Id,
    /// Its name.
    pub name: Name,
    /// Rises with every note. A node keeps the highest and ignores lower ones.
    pub number: u64,
    /// The authority with its whole history.
    pub authority: Identity,
    /// The relays, at most 16, the preferred first.
    pub relays: Vec<HostPort>,
    /// The suites that the project allows.
    pub suites: SuiteMask,
}

/// Why a note is not believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoteError {
    /// The bytes are malformed.
    #[error("project note: {0}")]
    Decode(#[from] DecodeError),
    /// The authority's identity in it does not verify.
    #[error("project note: {0}")]
    Identity(#[from] IdentityError),
    /// It is about another project.
    #[error("project note: it belongs to another project")]
    OtherProject,
    /// The authority's history does not follow the one that is held.
    #[error("project note: the authority: {0}")]
    History(#[from] HistoryFault),
    /// It is not signed by the authority's last key.
    #[error("project note: the signature does not verify")]
    Signature,
    /// More than 16 relays.
    #[error("project note: a project has at most 16 relays")]
    TooManyRelays,
}

/// A project note that was issued here or verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProjectNote {
    signed: Signed,
    body: ProjectNoteBody,
}

impl ProjectNote {
    /// Issues a note of the authority's own project, signed by its current key.
    ///
    /// # Errors
    /// [`NoteError::TooManyRelays`].
    pub fn issue(
        authority: &IdentitySecret,
        name: Name,
        number: u64,
        relays: Vec<HostPort>,
        suites: SuiteMask,
    ) -> Result<ProjectNote, NoteError> {
        if relays.len() > NOTE_RELAYS_MAX {
            return Err(NoteError::TooManyRelays);
        }
        let identity = authority.identity().clone();
        let project = identity.id();
        let body = ProjectNoteBody {
            project,
            name,
            number,
            authority: identity,
            relays,
            suites,
        };
        let signed = authority.signed(SignedKind::Project, &project, encode_body(&body));
        Ok(ProjectNote { signed, body })
    }

    /// Reads a note of `project` and believes it if the authority's history follows `held` (what
    /// the node has seen last; at first what its ticket says) and its last key signed the note.
    /// Whether the number is new is for the caller to ask.
    ///
    /// # Errors
    /// [`NoteError`] says what is wrong with it.
    pub fn verify(
        bytes: &[u8],
        project: &Id,
        held: &HistoryMark,
    ) -> Result<ProjectNote, NoteError> {
        let signed = Signed::decode(bytes, NOTE_MAX, "project note")?;
        let body = decode_body(&signed.body)?;
        if body.project != *project || body.authority.id() != *project {
            return Err(NoteError::OtherProject);
        }
        body.authority.follows(held)?;
        signed
            .verify(SignedKind::Project, project, body.authority.key())
            .map_err(|_| NoteError::Signature)?;
        Ok(ProjectNote { signed, body })
    }

    /// What it says.
    pub fn body(&self) -> &ProjectNoteBody {
        &self.body
    }

    /// Its bytes on the wire.
    pub fn encode(&self) -> Vec<u8> {
        self.signed.encode()
    }
}

fn encode_body(body: &ProjectNoteBody) -> Vec<u8> {
    let mut writer = Writer::new();
    let w = &mut writer;
    w.map(6)
        .u64(1)
        .bytes(&body.project.0)
        .u64(2)
        .text(body.name.as_str());
    w.u64(3)
        .u64(body.number)
        .u64(4)
        .bytes(&body.authority.encode());
    w.u64(5).array(body.relays.len());
    for relay in &body.relays {
        w.text(relay.as_str());
    }
    w.u64(6).u64(body.suites.0.into());
    writer.finish()
}

fn decode_body(bytes: &[u8]) -> Result<ProjectNoteBody, NoteError> {
    let mut reader = Reader::new(bytes);
    let r = &mut reader;
    let mut keys = r.map()?;
    keys.required(r, 1)?;
    let project = Id(r.fixed("project")?);
    keys.required(r, 2)?;
    let name = r.text("project name")?;
    keys.required(r, 3)?;
    let number = r.u64()?;
    keys.required(r, 4)?;
    let authority = r.bytes(IDENTITY_MAX, "authority")?;
    keys.required(r, 5)?;
    let len = r.array(NOTE_RELAYS_MAX, "relays")?;
    let relays = (0..len)
        .map(|_| r.text("relay"))
        .collect::<Result<Vec<HostPort>, _>>()?;
    keys.required(r, 6)?;
    let suites = SuiteMask(r.u16("suite mask")?);
    keys.end(r)?;
    reader.finish()?;
    // Last, because it is what costs most.
    let authority = Identity::decode(authority)?;
    Ok(ProjectNoteBody {
        project,
        name,
        number,
        authority,
        relays,
        suites,
    })
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;
    use crate::random::SeededRandom;

    fn authority() -> IdentitySecret {
        IdentitySecret::create(&mut SeededRandom::new(1))
    }

    fn note(authority: &IdentitySecret) -> ProjectNote {
        let relays = vec![
            "relay.example.com:7348".parse().unwrap(),
            "[::1]:1".parse().unwrap(),
        ];
        let name = "acme".parse().unwrap();
        ProjectNote::issue(authority, name, 7, relays, SuiteMask(0b11)).unwrap()
    }

    #[test]
    fn a_note_is_believed_by_who_holds_the_authoritys_history() {
        let mut authority = authority();
        let held = authority.identity().mark();
        authority.rotate(&mut SeededRandom::new(2)).unwrap();
        let note = note(&authority);
        let read = ProjectNote::verify(&note.encode(), &authority.id(), &held).unwrap();
        assert_eq!(read, note);
        assert_eq!(read.body().authority.len(), 1);
    }

    #[test]
    fn a_note_of_another_project_is_refused() {
        let authority = authority();
        let result = ProjectNote::verify(
            &note(&authority).encode(),
            &Id([1; 32]),
            &authority.identity().mark(),
        );
        assert_eq!(result, Err(NoteError::OtherProject));
    }

    #[test]
    fn a_note_with_a_shorter_or_forked_history_is_refused() {
        let mut longer = authority();
        longer.rotate(&mut SeededRandom::new(2)).unwrap();
        let held = longer.identity().mark();
        let old = note(&authority());
        let result = ProjectNote::verify(&old.encode(), &longer.id(), &held);
        assert_eq!(result, Err(NoteError::History(HistoryFault::Shorter)));
        let mut forked = authority();
        forked.rotate(&mut SeededRandom::new(3)).unwrap();
        let result = ProjectNote::verify(&note(&forked).encode(), &longer.id(), &held);
        assert_eq!(result, Err(NoteError::History(HistoryFault::Forked)));
    }

    #[test]
    fn a_note_signed_by_anyone_else_is_refused() {
        let authority = authority();
        let stranger = IdentitySecret::create(&mut SeededRandom::new(9));
        let mut forged = note(&authority);
        let body = forged.signed.body.clone();
        forged.signed.signature = stranger.sign(SignedKind::Project, &authority.id(), &body);
        let held = authority.identity().mark();
        let result = ProjectNote::verify(&forged.encode(), &authority.id(), &held);
        assert_eq!(result, Err(NoteError::Signature));
    }

    #[test]
    fn seventeen_relays_are_too_many() {
        let relays = vec!["a:1".parse().unwrap(); 17];
        let name = "acme".parse().unwrap();
        let result = ProjectNote::issue(&authority(), name, 1, relays, SuiteMask::NONE);
        assert_eq!(result, Err(NoteError::TooManyRelays));
    }

    #[test]
    fn the_longest_note_fits_its_bound() {
        let mut random = SeededRandom::new(4);
        let mut authority = authority();
        while authority.rotate(&mut random).is_ok() {}
        let host = format!("{}:65535", "h".repeat(253));
        let relays = vec![host.parse().unwrap(); 16];
        let name = "n".repeat(64).parse().unwrap();
        let note =
            ProjectNote::issue(&authority, name, u64::MAX, relays, SuiteMask(u16::MAX)).unwrap();
        let held = authority.identity().mark();
        assert_eq!(
            ProjectNote::verify(&note.encode(), &authority.id(), &held).unwrap(),
            note
        );
    }
}
