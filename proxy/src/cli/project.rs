//! `adit project create`

use serde_json::json;

use super::args::ProjectCreateArgs;
use super::output;
use super::settings::{self, Settings};
use crate::control::failure::Failure;
use crate::control::project::Project;

pub(super) fn create(settings: &Settings, args: &ProjectCreateArgs) -> Result<u8, Failure> {
    let place = settings::store_place(&args.store)?;
    let addresses = vec![args.address.clone()];
    let created = Project::create(&settings.home, &args.name, addresses, &place)?;
    let state = settings.home.project(&args.name);
    if settings.json {
        output::json(&json!({
            "project": args.name.as_str(),
            "id": created.id.to_string(),
            "admin": created.admin.to_string(),
            "address": args.address.as_str(),
            "state": state.display().to_string(),
        }))?;
        return Ok(0);
    }
    output::line(&format!("project  {}", args.name))?;
    output::line(&format!("id       {}", created.id))?;
    output::line(&format!("admin    {}", created.admin))?;
    output::line(&format!("address  {}", args.address))?;
    output::line(&format!(
        "state    {}   (the authority's key is here: back it up)",
        state.display()
    ))?;
    output::say("next: adit serve");
    output::say(
        "next: adit ticket create --name bank-outlet --attribute postgres-outlet=true \
         --may-serve postgres > outlet.ticket",
    );
    output::say(
        "next: adit ticket create --name analysis-inlet --attribute postgres-inlet=true \
         > inlet.ticket",
    );
    Ok(0)
}
