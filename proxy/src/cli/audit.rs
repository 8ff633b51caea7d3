//! `adit audit tail`, `adit audit export` and `adit audit verify`: the authority's trail, asked for page
//! by page, and checked here, so that the check needs nobody's word.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;

use serde_json::{Value, json};

use super::args::{AuditExportArgs, AuditTailArgs, AuditVerifyArgs};
use super::output;
use super::reach;
use super::settings::Settings;
use super::values::Noted;
use crate::control::admin::show;
use crate::control::admin::wire::Call;
use crate::control::failure::{Exit, Failure, codes};
use crate::limits::{AUDIT_FOLLOW_INTERVAL, AUDIT_LINE_MAX};
use crate::protocol::audit::{AuditHead, AuditRow};

pub(super) fn tail(settings: &Settings, args: &AuditTailArgs) -> Result<u8, Failure> {
    let last = Call::Audit {
        count: usize::try_from(args.lines).unwrap_or(usize::MAX),
        behind: None,
    };
    if !args.follow {
        let page = reach::authority_call(settings, &last)?;
        show_rows(settings, &page)?;
        return readable(&page).map(|()| 0);
    }
    let mut authority = reach::running_authority(settings)?;
    let page = authority.call(&last)?;
    let mut seen = page["head"]["number"].as_u64().unwrap_or(0);
    show_rows(settings, &page)?;
    readable(&page)?;
    loop {
        std::thread::sleep(AUDIT_FOLLOW_INTERVAL);
        let page = authority.call(&behind(seen))?;
        seen = last_number(&page).unwrap_or(seen);
        show_rows(settings, &page)?;
        readable(&page)?;
    }
}

pub(super) fn export(settings: &Settings, args: &AuditExportArgs) -> Result<u8, Failure> {
    let mut seen = args.behind;
    loop {
        let page = reach::authority_call(settings, &behind(seen))?;
        for row in rows(&page) {
            output::json(row)?;
        }
        readable(&page)?;
        let Some(last) = last_number(&page) else {
            return Ok(0);
        };
        seen = last;
    }
}

pub(super) fn verify(settings: &Settings, args: &AuditVerifyArgs) -> Result<u8, Failure> {
    let mut trail = Trail::new(args.head);
    match &args.file {
        Some(path) => verify_file(path, &mut trail)?,
        None => verify_store(settings, &mut trail)?,
    }
    let head = trail.end()?;
    if settings.json {
        let whole = json!({ "rows": head.number, "head": { "number": head.number, "hash": head.hash.to_string() } });
        output::json(&whole)?;
        return Ok(0);
    }
    let found = match args.file {
        None => format!("whole: {} rows", head.number),
        // Where it ends is not stored apart from it.
        Some(_) => format!(
            "fits: rows 1 to {}; what may be missing behind them only --head tells",
            head.number
        ),
    };
    output::line(&found)?;
    output::line(&format!("head: {}:{}", head.number, head.hash))?;
    output::say(
        "note it elsewhere: adit audit verify --head … then tells this trail from a rewritten one",
    );
    Ok(0)
}

/// The authority's own rows, up to where it says that they end.
fn verify_store(settings: &Settings, trail: &mut Trail) -> Result<(), Failure> {
    loop {
        let page = reach::authority_call(settings, &behind(trail.head.number))?;
        trail.accept_page(&page)?;
        if rows(&page).is_empty() {
            let stored = show::audit_head(&page["head"]).ok_or_else(|| malformed("its head"))?;
            return trail.head.ends_at(&stored).map_err(broken);
        }
    }
}

/// Rows that were exported, one a line.
fn verify_file(path: &Path, trail: &mut Trail) -> Result<(), Failure> {
    let unreadable = |error: io::Error| {
        let what = format!("can't read {}", path.display());
        Failure::new(codes::AUDIT_UNREADABLE, Exit::Usage, what, error)
    };
    let mut lines: Box<dyn BufRead> = match path.to_str() {
        Some("-") => Box::new(io::stdin().lock()),
        _ => Box::new(BufReader::new(File::open(path).map_err(unreadable)?)),
    };
    for number in 1_u64.. {
        let mut line = String::new();
        let taken = (&mut lines).take(AUDIT_LINE_MAX).read_line(&mut line);
        if taken.map_err(unreadable)? == 0 {
            break;
        }
        let value: Option<Value> = serde_json::from_str(&line).ok();
        let Some(row) = value.as_ref().and_then(show::audit_row) else {
            let why = format!("line {number} is no row; row {} comes next", trail.next());
            return Err(broken(why));
        };
        trail.accept(&row)?;
    }
    Ok(())
}

/// A trail as far as it was read.
struct Trail {
    head: AuditHead,
    /// Noted earlier; nothing once it was found.
    noted: Option<AuditHead>,
}

impl Trail {
    fn new(noted: Option<Noted>) -> Trail {
        Trail {
            head: AuditHead::START,
            noted: noted.map(|noted| noted.0),
        }
    }

    fn next(&self) -> u64 {
        self.head.number + 1
    }

    fn accept(&mut self, row: &AuditRow) -> Result<(), Failure> {
        self.head.accept(row).map_err(broken)?;
        if let Some(noted) = self.noted.filter(|noted| noted.number == row.number) {
            self.head.ends_at(&noted).map_err(|_| {
                let why = "has another hash than was noted: it or a row before it was rewritten";
                broken(format!("row {} {why}", row.number))
            })?;
            self.noted = None;
        }
        Ok(())
    }

    fn accept_page(&mut self, page: &Value) -> Result<(), Failure> {
        for value in rows(page) {
            let row = show::audit_row(value).ok_or_else(|| malformed(value))?;
            self.accept(&row)?;
        }
        readable(page)
    }

    fn end(self) -> Result<AuditHead, Failure> {
        match self.noted {
            Some(noted) => {
                let why = format!("row {}, which was noted, is missing", noted.number);
                Err(broken(why))
            }
            None => Ok(self.head),
        }
    }
}

fn behind(number: u64) -> Call {
    Call::Audit {
        count: 0,
        behind: Some(number),
    }
}

fn rows(page: &Value) -> &[Value] {
    page["rows"]
        .as_array()
        .map(Vec::as_slice)
        .unwrap_or_default()
}

fn last_number(page: &Value) -> Option<u64> {
    rows(page).last().and_then(|row| row["number"].as_u64())
}

/// A page may end before a row that can't be read.
fn readable(page: &Value) -> Result<(), Failure> {
    page["unreadable"]
        .as_str()
        .map_or(Ok(()), |why| Err(broken(why)))
}

fn show_rows(settings: &Settings, page: &Value) -> Result<(), Failure> {
    for row in rows(page) {
        if settings.json {
            output::json(row)?;
        } else {
            output::line(&told(row))?;
        }
    }
    Ok(())
}

/// A row for people.
fn told(row: &Value) -> String {
    let text = |key| output::text(row, key);
    let mut told = format!(
        "{}  {}  {}  {}  by {}",
        row["number"],
        text("at"),
        text("action"),
        text("subject"),
        output::short_id(text("actor")),
    );
    let details = row["details"].as_object().into_iter().flatten();
    for (name, value) in details {
        told.push_str(&format!("  {name}={}", value.as_str().unwrap_or_default()));
    }
    told
}

fn broken(why: impl std::fmt::Display) -> Failure {
    let what = "the audit is not as it was written";
    Failure::new(codes::AUDIT_BROKEN, Exit::Runtime, what, why)
}

fn malformed(what: impl std::fmt::Display) -> Failure {
    let why = format!("the authority shows something else than a row: {what}");
    Failure::new(codes::ADMIN, Exit::Runtime, "can't read the audit", why)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;
    use crate::protocol::audit::{AuditAction, AuditEvent, AuditPage, Details};
    use crypto::{Id, UnixTime};

    fn trail(length: u64) -> Vec<AuditRow> {
        let mut head = AuditHead::START;
        let event = |n| AuditEvent {
            at: UnixTime(n),
            actor: Id([1; 32]),
            action: AuditAction::MemberRevoked,
            subject: "bank".into(),
            details: Details::default().with("reason", "left"),
        };
        (1..=length).map(|n| head.append(event(n))).collect()
    }

    fn follow(rows: &[AuditRow], noted: Option<AuditHead>) -> Result<AuditHead, Failure> {
        let mut trail = Trail::new(noted.map(Noted));
        for row in rows {
            trail.accept(row)?;
        }
        trail.end()
    }

    #[test]
    fn a_trail_that_was_rewritten_as_a_whole_is_told_by_what_was_noted() {
        let rows = trail(5);
        let noted = |row: &AuditRow| AuditHead {
            number: row.number,
            hash: row.hash,
        };
        let head = follow(&rows, Some(noted(&rows[2]))).unwrap();
        assert_eq!(head, noted(&rows[4]));
        // One row less at the beginning, and all hashes made anew.
        let mut start = AuditHead::START;
        let other: Vec<AuditRow> = rows[1..]
            .iter()
            .map(|row| start.append(row.event.clone()))
            .collect();
        assert!(follow(&other, None).is_ok(), "it fits in itself");
        let failure = follow(&other, Some(noted(&rows[2]))).unwrap_err();
        assert!(
            failure.why.starts_with("row 3 has another hash"),
            "{failure}"
        );
        let failure = follow(&other, Some(noted(&rows[4]))).unwrap_err();
        assert!(failure.why.contains("row 5, which was noted"), "{failure}");
    }

    #[test]
    fn a_row_before_one_that_cannot_be_read_is_named_first() {
        let mut page = AuditPage {
            head: follow(&trail(3), None).unwrap(),
            rows: trail(2),
            unreadable: Some("row 3 can't be read: no".into()),
        };
        let check = |page: &AuditPage| Trail::new(None).accept_page(&show::audit_page(page));
        assert_eq!(check(&page).unwrap_err().why, "row 3 can't be read: no");
        page.rows[1].event.subject = "other".into();
        let failure = check(&page).unwrap_err();
        assert!(failure.why.starts_with("row 2 does not fit"), "{failure}");
    }

    #[test]
    fn a_row_is_told_in_a_line() {
        let row = show::audit(&trail(1)[0]);
        let told = told(&row);
        assert!(told.starts_with("1  1970-01-01T00:00:01Z  member.revoked  bank  by I"));
        assert!(told.ends_with("  reason=left"), "{told}");
    }
}
