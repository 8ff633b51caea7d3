//! What the store's answers become: signed credentials, or refusals.

use crypto::credential::{Credential, Pass, issue};
use crypto::identity::Identity;

use super::{AuthorityCore, Pending};
use crate::error::Problem;
use crate::protocol::core::admin::credential_body;
use crate::protocol::core::io::{Level, LogRecord, Now, StoreNo};
use crate::protocol::core::outbox::Outbox;
use crate::protocol::session::{Message, Refusal};
use crate::protocol::store::{Issue, RedeemAnswer, RenewAnswer, StoreError, StoreReply};

impl AuthorityCore {
    /// The store's answer to a request of a session; gives it back if it is not one.
    pub fn on_store(
        &mut self,
        out: &mut Outbox,
        now: Now,
        no: StoreNo,
        answer: Result<StoreReply, StoreError>,
    ) -> Option<Result<StoreReply, StoreError>> {
        let answer = self.on_stamp(out, now, no, answer)?;
        let Some(Pending {
            link,
            request,
            identity,
        }) = self.pending.remove(&no)
        else {
            return Some(answer);
        };
        let mut welcome = false;
        let session = self.sessions.get_mut(&link);
        if let Some(session) = session {
            session.waiting = session.waiting.saturating_sub(1);
            if let Some(issued) = issued(&answer) {
                session.name = Some(issued.member.name.clone());
                welcome = std::mem::take(&mut session.is_guest);
                self.freed.extend(welcome.then_some(link));
            }
        }
        self.note_store(out, &answer);
        let message = match answer {
            Ok(StoreReply::Redeemed(answer)) => self.redeemed(out, &identity, *answer),
            Ok(StoreReply::Renewed(answer)) => self.renewed(out, &identity, *answer),
            Ok(_) => Message::Refused(Refusal::new(Problem::StoreUnavailable)),
            Err(_) => Message::Refused(Refusal::new(Problem::StoreUnavailable)),
        };
        let enrolled = matches!(message, Message::Enrolled { .. });
        self.reply(out, link, request, message);
        if welcome {
            self.say_beacon(out, link);
        }
        if enrolled {
            // It may have replaced a member.
            self.stamp_now(out, now);
        }
        None
    }

    /// One line when the store begins to fail, and one when it works again.
    pub(super) fn note_store(&mut self, out: &mut Outbox, answer: &Result<StoreReply, StoreError>) {
        let failed = std::mem::replace(&mut self.store_fails, answer.is_err());
        match answer {
            Err(error) if !failed => {
                let problem = Problem::StoreUnavailable;
                let record = LogRecord::new(Level::Error, problem.to_string());
                out.log(record.code(problem.code()).with("why", error));
            }
            Ok(_) if failed => {
                let what = "the authority's store works again";
                out.log(LogRecord::new(Level::Info, what));
            }
            Ok(_) | Err(_) => {}
        }
    }

    pub(super) fn redeemed(
        &mut self,
        out: &mut Outbox,
        identity: &Identity,
        answer: RedeemAnswer,
    ) -> Message {
        let who = identity.id();
        let refuse = |problem, detail: String, redeemed_by, at| {
            let level = if problem == Problem::TicketUsed {
                Level::Error
            } else {
                Level::Warn
            };
            let record = LogRecord::new(level, format!("a ticket was refused: {problem}"))
                .code(Problem::code(problem))
                .with("by", who);
            (
                record,
                Refusal {
                    detail,
                    redeemed_by,
                    at,
                    ..Refusal::new(problem)
                },
            )
        };
        let none = String::new;
        let (record, refusal) = match answer {
            RedeemAnswer::Enrolled(issue) => {
                return match self.sign(identity, &issue) {
                    Ok((credential, pass)) => {
                        let record = LogRecord::new(Level::Info, "a member was enrolled")
                            .with("name", &issue.member.name)
                            .with("id", who)
                            .with("serial", issue.member.serial);
                        out.log(record);
                        let note = self.note.encode();
                        let (credential, pass) = (credential.encode(), pass.encode());
                        Message::Enrolled {
                            credential,
                            pass,
                            note,
                        }
                    }
                    Err(refusal) => Message::Refused(refusal),
                };
            }
            RedeemAnswer::Unknown => refuse(Problem::TicketUnknown, none(), None, None),
            RedeemAnswer::TicketRevoked => refuse(Problem::TicketRevoked, none(), None, None),
            RedeemAnswer::Used { by, at } => {
                refuse(Problem::TicketUsed, none(), Some(by), Some(at))
            }
            RedeemAnswer::Expired { at } => refuse(Problem::TicketExpired, none(), None, Some(at)),
            RedeemAnswer::NotForYou => refuse(Problem::TicketBound, none(), None, None),
            RedeemAnswer::NameTaken(name) => {
                refuse(Problem::NameTaken, name.to_string(), None, None)
            }
            RedeemAnswer::MemberRevoked => refuse(Problem::MemberRevoked, none(), None, None),
            RedeemAnswer::RevocationsFull => refuse(Problem::RevocationsFull, none(), None, None),
            RedeemAnswer::HistoryForked => refuse(Problem::HistoryForked, none(), None, None),
        };
        out.log(record);
        Message::Refused(refusal)
    }

    pub(super) fn renewed(
        &mut self,
        out: &mut Outbox,
        identity: &Identity,
        answer: RenewAnswer,
    ) -> Message {
        let problem = match answer {
            RenewAnswer::Renewed(issue) => {
                return match self.sign(identity, &issue) {
                    Ok((credential, pass)) => {
                        let (credential, pass) = (credential.encode(), pass.encode());
                        Message::Renewed { credential, pass }
                    }
                    Err(refusal) => Message::Refused(refusal),
                };
            }
            RenewAnswer::Unknown => Problem::NotAMember,
            RenewAnswer::MemberRevoked => Problem::MemberRevoked,
            RenewAnswer::HistoryForked => Problem::HistoryForked,
        };
        let record = LogRecord::new(Level::Warn, format!("a renewal was refused: {problem}"))
            .code(problem.code())
            .with("by", identity.id());
        out.log(record);
        Message::Refused(Refusal::new(problem))
    }

    /// Signs what the store has issued.
    ///
    /// # Errors
    /// A refusal, when the row breaks a rule of credentials (its ticket was made by an older
    /// release with other bounds).
    pub fn sign(&self, identity: &Identity, issued: &Issue) -> Result<(Credential, Pass), Refusal> {
        let member = &issued.member;
        let body = credential_body(
            self.keyring.identity(),
            &member.grants,
            member.name.clone(),
            member.serial,
            // A credential that is given again is the same, byte for byte.
            member.issued.min(issued.not_after),
            issued.not_after,
            Some(identity),
        );
        issue(self.keyring.identity(), body).map_err(|error| Refusal {
            detail: error.to_string(),
            ..Refusal::new(Problem::GrantsTooLong)
        })
    }
}

/// What was issued, if the answer is that: the session is a member's.
fn issued(answer: &Result<StoreReply, StoreError>) -> Option<&Issue> {
    let Ok(reply) = answer else { return None };
    if let StoreReply::Redeemed(answer) = reply
        && let RedeemAnswer::Enrolled(issue) = &**answer
    {
        return Some(issue);
    }
    if let StoreReply::Renewed(answer) = reply
        && let RenewAnswer::Renewed(issue) = &**answer
    {
        return Some(issue);
    }
    None
}
