//! The audit trail: what was done, by whom, in rows that are only ever added to and whose hashes form a
//! chain ([`crypto::chain`]).
//!
//! Contract: an [`AuditHead`] is the end of a trail. Who writes makes the next row with
//! [`AuditHead::append`] and stores row and head together, or neither. Who checks begins at
//! [`AuditHead::START`] and gives each row to [`AuditHead::accept`], in the order in which they stand;
//! the first that does not fit is named. A trail that was cut short fits, so its end is compared with the
//! head that is stored apart from it, or with one that somebody has noted.

use std::collections::BTreeMap;

use crypto::chain::ChainHash;
use crypto::{Id, UnixTime};

/// What an audit row is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AuditAction {
    /// The project was created.
    ProjectCreated,
    /// A ticket was created.
    TicketCreated,
    /// A ticket was redeemed, the first time by this identity.
    TicketRedeemed,
    /// A used ticket was presented by another identity: somebody has a copy.
    TicketReused,
    /// A ticket was presented and refused for another reason.
    TicketRefused,
    /// A member was made without a ticket.
    MemberAdmitted,
    /// A member lost its membership to the one that replaced it.
    MemberReplaced,
    /// A member was revoked.
    MemberRevoked,
    /// A ticket was taken back, by itself or because it was a revoked member's.
    TicketRevoked,
    /// A credential was issued.
    CredentialIssued,
    /// An identity asked for its next credential and gets none.
    CredentialRefused,
}

impl AuditAction {
    /// All of them.
    pub const ALL: [AuditAction; 11] = [
        AuditAction::ProjectCreated,
        AuditAction::TicketCreated,
        AuditAction::TicketRedeemed,
        AuditAction::TicketReused,
        AuditAction::TicketRefused,
        AuditAction::MemberAdmitted,
        AuditAction::MemberReplaced,
        AuditAction::MemberRevoked,
        AuditAction::TicketRevoked,
        AuditAction::CredentialIssued,
        AuditAction::CredentialRefused,
    ];

    /// Its stable name.
    pub const fn as_str(self) -> &'static str {
        match self {
            AuditAction::ProjectCreated => "project.created",
            AuditAction::TicketCreated => "ticket.created",
            AuditAction::TicketRedeemed => "ticket.redeemed",
            AuditAction::TicketReused => "ticket.reused",
            AuditAction::TicketRefused => "ticket.refused",
            AuditAction::MemberAdmitted => "member.admitted",
            AuditAction::MemberReplaced => "member.replaced",
            AuditAction::MemberRevoked => "member.revoked",
            AuditAction::TicketRevoked => "ticket.revoked",
            AuditAction::CredentialIssued => "credential.issued",
            AuditAction::CredentialRefused => "credential.refused",
        }
    }

    /// The action of a stored name.
    pub fn from_name(name: &str) -> Option<AuditAction> {
        AuditAction::ALL
            .into_iter()
            .find(|action| action.as_str() == name)
    }
}

/// What else a row says: texts by name, in the order of names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Details(BTreeMap<String, String>);

impl Details {
    /// The same with one more; an empty text says nothing and is left out.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl ToString) -> Details {
        let value = value.to_string();
        if !value.is_empty() {
            self.0.insert(name.to_owned(), value);
        }
        self
    }

    /// What is said under this name.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// All of them, in the order of names.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        let pairs = self.0.iter();
        pairs.map(|(name, value)| (name.as_str(), value.as_str()))
    }
}

impl FromIterator<(String, String)> for Details {
    fn from_iter<T: IntoIterator<Item = (String, String)>>(details: T) -> Details {
        Details(details.into_iter().collect())
    }
}

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditEvent {
    /// When.
    pub at: UnixTime,
    /// Who did it.
    pub actor: Id,
    /// What.
    pub action: AuditAction,
    /// To what: a ticket's id, a member's id or name; for a refused credential, why.
    pub subject: String,
    /// More about it.
    pub details: Details,
}

/// One row of the trail.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditRow {
    /// 1, 2, 3 … without gaps.
    pub number: u64,
    /// What it tells of.
    pub event: AuditEvent,
    /// Covers the row and the hash of the one before.
    pub hash: ChainHash,
}

/// The end of a trail: the number and hash of its last row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AuditHead {
    /// Of the last row; 0 while there is none.
    pub number: u64,
    /// Its hash.
    pub hash: ChainHash,
}

/// Why a trail is not what was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Misfit {
    /// Another number than the next stands here.
    #[error("row {expected} is missing: row {found} stands in its place")]
    Missing {
        /// The number that comes next.
        expected: u64,
        /// The one that stands there.
        found: u64,
    },
    /// The hash is another one.
    #[error("row {number} does not fit: it was changed, or stood elsewhere, or the row before did")]
    Altered {
        /// The row's.
        number: u64,
    },
    /// The trail ends early.
    #[error("row {first} is missing, and everything behind it: the trail goes on to row {head}")]
    CutShort {
        /// The first that is missing.
        first: u64,
        /// The last that was written.
        head: u64,
    },
}

impl AuditHead {
    /// The head of a trail without rows.
    pub const START: AuditHead = AuditHead {
        number: 0,
        hash: ChainHash::START,
    };

    /// The row that tells of `event`, at the end of this trail. The head is that row's then.
    pub fn append(&mut self, event: AuditEvent) -> AuditRow {
        let number = self.number + 1;
        let hash = hash(&self.hash, number, &event);
        *self = AuditHead { number, hash };
        AuditRow {
            number,
            event,
            hash,
        }
    }

    /// Checks the row that stands behind this head, and goes on to it.
    ///
    /// # Errors
    /// It does not fit.
    pub fn accept(&mut self, row: &AuditRow) -> Result<(), Misfit> {
        let expected = self.number + 1;
        let found = row.number;
        if found != expected {
            return Err(Misfit::Missing { expected, found });
        }
        if hash(&self.hash, row.number, &row.event) != row.hash {
            return Err(Misfit::Altered { number: row.number });
        }
        *self = AuditHead {
            number: row.number,
            hash: row.hash,
        };
        Ok(())
    }

    /// Checks that the rows end where they should.
    ///
    /// # Errors
    /// They end early, or with another row.
    pub fn ends_at(&self, stored: &AuditHead) -> Result<(), Misfit> {
        if self.number < stored.number {
            return Err(Misfit::CutShort {
                first: self.number + 1,
                head: stored.number,
            });
        }
        if self != stored {
            return Err(Misfit::Altered {
                number: self.number,
            });
        }
        Ok(())
    }
}

/// Some rows, and the end of the trail that they are from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditPage {
    /// Rows in order.
    pub rows: Vec<AuditRow>,
    /// As it is stored apart from the rows.
    pub head: AuditHead,
    /// What is wrong with the row behind them, where that can't be read: the page ends before it.
    pub unreadable: Option<String>,
}

/// Which rows; never more than `limits::STORE_PAGE_MAX`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AuditQuery {
    /// The last so many.
    Last(usize),
    /// The first behind the row of this number.
    Behind(u64),
}

fn hash(before: &ChainHash, number: u64, event: &AuditEvent) -> ChainHash {
    let (number, at) = (number.to_be_bytes(), event.at.0.to_be_bytes());
    let fixed: [&[u8]; 5] = [
        &number,
        &at,
        &event.actor.0,
        event.action.as_str().as_bytes(),
        event.subject.as_bytes(),
    ];
    let pairs = event.details.iter();
    let details = pairs.flat_map(|(name, value)| [name.as_bytes(), value.as_bytes()]);
    before.next(fixed.into_iter().chain(details))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(n: u64) -> AuditEvent {
        AuditEvent {
            at: UnixTime(n),
            actor: Id([7; 32]),
            action: AuditAction::TicketCreated,
            subject: format!("ticket {n}"),
            details: Details::default().with("uses", n),
        }
    }

    fn trail(length: u64) -> (Vec<AuditRow>, AuditHead) {
        let mut head = AuditHead::START;
        let rows = (1..=length).map(|n| head.append(event(n))).collect();
        (rows, head)
    }

    fn verified(rows: &[AuditRow]) -> Result<AuditHead, Misfit> {
        let mut head = AuditHead::START;
        for row in rows {
            head.accept(row)?;
        }
        Ok(head)
    }

    #[test]
    fn what_was_written_fits() {
        let (rows, head) = trail(5);
        assert_eq!(verified(&rows), Ok(head));
        assert_eq!(AuditHead::START.ends_at(&AuditHead::START), Ok(()));
    }

    #[test]
    fn whatever_is_altered_in_a_row_is_found_in_that_row() {
        let alterations: [fn(&mut AuditEvent); 6] = [
            |event| event.at = UnixTime(99),
            |event| event.actor = Id([8; 32]),
            |event| event.action = AuditAction::TicketReused,
            |event| event.subject.push('x'),
            |event| event.details = Details::default(),
            |event| event.details = Details::default().with("uses", "9"),
        ];
        for alter in alterations {
            let (mut rows, _) = trail(5);
            alter(&mut rows[2].event);
            assert_eq!(verified(&rows), Err(Misfit::Altered { number: 3 }));
        }
    }

    #[test]
    fn a_row_that_is_gone_or_elsewhere_is_found() {
        let (mut rows, _) = trail(5);
        let gone = Misfit::Missing {
            expected: 3,
            found: 4,
        };
        rows.remove(2);
        assert_eq!(verified(&rows), Err(gone));
        // With numbers mended, too.
        for (row, number) in rows.iter_mut().zip(1..) {
            row.number = number;
        }
        assert_eq!(verified(&rows), Err(Misfit::Altered { number: 3 }));
        let (mut rows, _) = trail(5);
        rows.swap(1, 2);
        assert!(verified(&rows).is_err());
        (rows[1].number, rows[2].number) = (2, 3);
        assert_eq!(verified(&rows), Err(Misfit::Altered { number: 2 }));
    }

    #[test]
    fn a_trail_that_was_cut_short_is_told_by_its_head() {
        let (rows, head) = trail(5);
        let cut = verified(&rows[..3]);
        let short = Misfit::CutShort { first: 4, head: 5 };
        assert_eq!(cut.map(|cut| cut.ends_at(&head)), Ok(Err(short)));
        // Another chain that fits in itself ends with another hash.
        let mut other = AuditHead::START;
        for _ in 1..=5 {
            other.append(event(1));
        }
        assert_eq!(other.ends_at(&head), Err(Misfit::Altered { number: 5 }));
    }
}
