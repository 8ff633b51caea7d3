//! `adit member list`

use serde_json::Value;

use super::output;
use super::reach;
use super::settings::Settings;
use crate::control::admin::wire::Call;
use crate::control::failure::Failure;

pub(super) fn list(settings: &Settings) -> Result<u8, Failure> {
    let rows = reach::authority_rows(settings, |after| Call::Members { after })?;
    if settings.json {
        output::json(&Value::Array(rows))?;
        return Ok(0);
    }
    let cells: Vec<Vec<String>> = rows.iter().map(cells).collect();
    let head = [
        "NAME",
        "ID",
        "ROLES",
        "ATTRIBUTES",
        "MAY SERVE",
        "MAY CONNECT",
        "ENROLLED",
        "STATE",
    ];
    output::line(&output::table(&head, &cells))?;
    Ok(0)
}

fn cells(row: &Value) -> Vec<String> {
    let state = if row["revoked"].is_null() {
        "member"
    } else {
        "revoked"
    };
    vec![
        output::text(row, "name").into(),
        output::text(row, "id").into(),
        output::text(row, "roles").into(),
        output::pairs(&row["attributes"]),
        output::list(&row["may_serve"]),
        output::list(&row["may_connect"]),
        output::text(row, "enrolled").into(),
        state.into(),
    ]
}
