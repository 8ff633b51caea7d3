//! `adit member list` and `adit member revoke`

use serde_json::Value;

use super::args::MemberRevokeArgs;
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

pub(super) fn revoke(settings: &Settings, args: &MemberRevokeArgs) -> Result<u8, Failure> {
    let call = Call::RevokeMember {
        member: args.member.clone(),
        reason: args.reason.clone().unwrap_or_default(),
    };
    let answer = reach::authority_call(settings, &call)?;
    if settings.json {
        output::json(&answer)?;
        return Ok(0);
    }
    output::line(&report(&answer))?;
    Ok(0)
}

/// What was done, and who was cut as far as the authority knows.
fn report(answer: &Value) -> String {
    let member = &answer["member"];
    let who = format!(
        "{} ({})",
        output::text(member, "name"),
        output::text(member, "id")
    );
    if answer["already"] == true {
        let since = output::text(member, "revoked");
        return format!("already revoked: {who}, since {since}");
    }
    let mut lines = vec![format!(
        "revoked: {who}, every credential up to serial {}",
        answer["max_serial"]
    )];
    let nodes = answer["nodes"]
        .as_array()
        .map(Vec::as_slice)
        .unwrap_or_default();
    let name = |node: &Value| match node["name"].as_str() {
        Some(name) => name.to_owned(),
        None => output::short_id(output::text(node, "id")),
    };
    for node in nodes.iter().filter(|node| node["lanes_cut"] != 0) {
        let cut = &node["lanes_cut"];
        let lanes = if cut == 1 { "lane" } else { "lanes" };
        lines.push(format!("cut: {} ended {cut} {lanes} with it", name(node)));
    }
    let sessions = &answer["sessions_ended"];
    if sessions != 0 {
        lines.push(format!("ended: {sessions} of its sessions here"));
    }
    let holds = nodes
        .iter()
        .filter(|node| node["holds_list"] == true)
        .count();
    lines.push(format!(
        "told: {holds} of {} connected nodes hold the new list",
        nodes.len()
    ));
    let silent: Vec<String> = nodes
        .iter()
        .filter(|node| node["holds_list"] != true)
        .map(name)
        .collect();
    if !silent.is_empty() {
        lines.push(format!("not yet: {}", silent.join(", ")));
    }
    if answer["tickets_void"] != 0 {
        lines.push(format!("void: {} of its tickets", answer["tickets_void"]));
    }
    lines.push(
        "nodes that are not connected hear it when they are, and cut by themselves after their \
         --revocation-max-age"
            .into(),
    );
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_report_says_who_was_cut_and_who_has_not_answered() {
        let answer = json!({
            "member": { "name": "analysis", "id": "Iabc", "revoked": "2027-01-15T08:00:00Z" },
            "already": false, "max_serial": 12, "list": 3, "tickets_void": 1, "sessions_ended": 2,
            "nodes": [
                { "id": "I1", "name": "bank", "holds_list": true, "lanes_cut": 1 },
                { "id": "I2", "name": "other", "holds_list": false, "lanes_cut": 0 },
            ],
        });
        let text = report(&answer);
        for line in [
            "revoked: analysis (Iabc), every credential up to serial 12",
            "cut: bank ended 1 lane with it",
            "ended: 2 of its sessions here",
            "told: 1 of 2 connected nodes hold the new list",
            "not yet: other",
            "void: 1 of its tickets",
        ] {
            assert!(text.lines().any(|said| said == line), "{line}\n{text}");
        }
    }
}
