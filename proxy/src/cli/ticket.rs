//! `adit ticket create`, `adit ticket list` and `adit ticket revoke`

use std::io::IsTerminal;

use serde_json::{Value, json};

use super::args::{TicketCreateArgs, TicketRevokeArgs, TicketRole};
use super::output;
use super::reach;
use super::settings::Settings;
use crate::control::admin::wire::{Call, TicketCall};
use crate::control::failure::{Exit, Failure};
use crate::error::Problem;
use crate::limits::TICKET_ID_DIGITS_MIN;

pub(super) fn create(settings: &Settings, args: &TicketCreateArgs) -> Result<u8, Failure> {
    let call = Call::CreateTicket(Box::new(ticket_call(args)));
    let answer = reach::authority_call(settings, &call)?;
    if settings.json {
        let made = json!({
            "ticket": answer["ticket"],
            "expires_in_s": args.expires_in.0.as_secs(),
        });
        output::json(&made).map_err(lost)?;
        return Ok(0);
    }
    output::line(output::text(&answer, "ticket")).map_err(lost)?;
    if std::io::stdout().is_terminal() {
        output::say("note: this is a secret; whoever redeems it first becomes the member");
    }
    output::say(&format!(
        "valid: {}, {}",
        args.expires_in,
        uses_text(args.uses)
    ));
    output::say(&format!("next: {}", next(args)));
    Ok(0)
}

/// The ticket was made, and nobody has it.
fn lost(mut failure: Failure) -> Failure {
    failure.what = "the ticket was made, but can't be written to standard output".into();
    failure.fix("make another one, to where there is room; the lost one ends by itself")
}

fn uses_text(uses: u32) -> String {
    if uses == 1 {
        "redeemable once".into()
    } else {
        format!("redeemable by {uses} identities")
    }
}

fn ticket_call(args: &TicketCreateArgs) -> TicketCall {
    let texts = |items: &[crypto::names::RelayAddress]| -> Vec<String> {
        items.iter().map(ToString::to_string).collect()
    };
    TicketCall {
        name: args.name.as_ref().map(ToString::to_string),
        attributes: args
            .attributes
            .iter()
            .map(|attribute| (attribute.name.to_string(), attribute.value.to_string()))
            .collect(),
        roles: vec![
            if args.role == Some(TicketRole::Relay) {
                "relay"
            } else {
                "member"
            }
            .into(),
        ],
        may_serve: texts(&args.may_serve),
        may_connect: (!args.may_connect.is_empty()).then(|| texts(&args.may_connect)),
        uses: args.uses,
        life_s: args.expires_in.0.as_secs(),
        bound_to: args.bound_to.map(|id| id.to_string()),
        replaces: args.replaces.as_ref().map(ToString::to_string),
    }
}

/// The command that redeems it, ready to paste but for what only its user knows.
fn next(args: &TicketCreateArgs) -> String {
    if args.role == Some(TicketRole::Relay) {
        return "adit serve --role relay --ticket FILE --listen 0.0.0.0:PORT".into();
    }
    match (args.may_serve.first(), args.may_connect.first()) {
        (Some(address), _) => format!(
            "adit outlet --ticket FILE --at {address} --to HOST:PORT --allow '{address}-inlet=true'"
        ),
        (None, Some(address)) => format!(
            "adit inlet --ticket FILE --via {address} --from 127.0.0.1:PORT \
             --allow '{address}-outlet=true'"
        ),
        (None, None) => {
            "adit inlet --ticket FILE --via ADDRESS --from 127.0.0.1:PORT --allow RULE".into()
        }
    }
}

pub(super) fn list(settings: &Settings) -> Result<u8, Failure> {
    let rows = reach::authority_rows(settings, |after| Call::Tickets { after })?;
    if settings.json {
        output::json(&Value::Array(rows))?;
        return Ok(0);
    }
    let cells: Vec<Vec<String>> = rows.iter().map(cells).collect();
    let head = [
        "ID",
        "NAME",
        "STATE",
        "USED",
        "EXPIRES",
        "ATTRIBUTES",
        "MAY SERVE",
        "REDEEMED BY",
    ];
    output::line(&output::table(&head, &cells))?;
    Ok(0)
}

fn cells(row: &Value) -> Vec<String> {
    let redeemed = row["redeemed"]
        .as_array()
        .map(Vec::as_slice)
        .unwrap_or_default();
    let last = redeemed
        .last()
        .map(|last| output::short_id(output::text(last, "by")));
    vec![
        output::text(row, "id")
            .chars()
            .take(TICKET_ID_DIGITS_MIN)
            .collect(),
        output::text(row, "name").into(),
        output::text(row, "state").into(),
        format!("{}/{}", redeemed.len(), row["uses"]),
        output::text(row, "expires").into(),
        output::pairs(&row["attributes"]),
        output::list(&row["may_serve"]),
        last.unwrap_or_default(),
    ]
}

pub(super) fn revoke(settings: &Settings, args: &TicketRevokeArgs) -> Result<u8, Failure> {
    let rows = reach::authority_rows(settings, |after| Call::Tickets { after })?;
    let id = which(&rows, &args.ticket)?;
    let call = Call::RevokeTicket { ticket: id.clone() };
    let answer = reach::authority_call(settings, &call)?;
    let already = answer["already"] == true;
    if settings.json {
        output::json(&json!({ "id": id, "already": already }))?;
        return Ok(0);
    }
    let what = if already {
        "already revoked"
    } else {
        "revoked"
    };
    output::line(&format!("{what}: ticket {id}"))?;
    if !already {
        output::say("note: who has redeemed it stays a member; see adit member revoke");
    }
    Ok(0)
}

/// The ticket that was meant: by the beginning of its id, or the only open one that gives that name.
fn which(rows: &[Value], said: &str) -> Result<String, Failure> {
    let refuse = |why: String| {
        let problem = Problem::NoSuchTicket;
        let what = format!("can't tell which ticket is {said:?}");
        Err(Failure::new(problem.code(), Exit::Usage, what, why).fix(problem.mend()))
    };
    let is_digits =
        said.len() >= TICKET_ID_DIGITS_MIN && said.bytes().all(|b| b.is_ascii_hexdigit());
    let by_id = |row: &&Value| is_digits && output::text(row, "id").starts_with(said);
    let by_name = |row: &&Value| row["state"] == "open" && output::text(row, "name") == said;
    let mut found: Vec<&Value> = rows.iter().filter(by_id).collect();
    if found.is_empty() {
        found = rows.iter().filter(by_name).collect();
    }
    match found.as_slice() {
        [only] => Ok(output::text(only, "id").to_owned()),
        [] => refuse("no ticket has an id that begins so, and no open one gives that name".into()),
        several => refuse(format!("{} tickets fit", several.len())),
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    #[test]
    fn a_ticket_is_named_by_the_beginning_of_its_id_or_its_name() {
        let rows = [
            json!({ "id": "00112233aa", "name": "bank", "state": "used" }),
            json!({ "id": "00112233bb", "name": "bank", "state": "open" }),
            json!({ "id": "ffffffff00", "name": "other", "state": "open" }),
        ];
        assert_eq!(which(&rows, "ffffffff").unwrap(), "ffffffff00");
        assert_eq!(which(&rows, "00112233a").unwrap(), "00112233aa");
        assert_eq!(which(&rows, "bank").unwrap(), "00112233bb");
        for unclear in ["00112233", "ffff", "nobody", ""] {
            let failure = which(&rows, unclear).unwrap_err();
            assert_eq!(failure.code, Problem::NoSuchTicket.code(), "{unclear}");
        }
    }
}
