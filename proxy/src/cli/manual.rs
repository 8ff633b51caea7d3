//! `adit completions` and `adit man`: what a shell and man(1) should know, made of the grammar itself.

use std::fs;
use std::path::Path;

use clap::{Command, CommandFactory};

use super::args::{Args, CompletionsArgs, ManArgs};
use super::output;
use crate::control::failure::{Exit, Failure, codes};

pub(super) fn completions(args: &CompletionsArgs) -> Result<u8, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(
        args.shell.generator(),
        &mut Args::command(),
        "adit",
        &mut script,
    );
    output::text_as_is(&String::from_utf8_lossy(&script))?;
    Ok(0)
}

pub(super) fn man(args: &ManArgs) -> Result<u8, Failure> {
    let mut root = Args::command();
    root.build();
    let Some(dir) = &args.dir else {
        let page = rendered(root).map_err(|error| unwritten(Path::new("adit.1"), &error))?;
        output::text_as_is(&page)?;
        return Ok(0);
    };
    fs::create_dir_all(dir).map_err(|error| unwritten(dir, &error))?;
    let mut pages = Vec::new();
    collect(root, "adit", &mut pages);
    for (name, command) in pages {
        let path = dir.join(format!("{name}.1"));
        let written = rendered(command).and_then(|page| fs::write(&path, page));
        written.map_err(|error| unwritten(&path, &error))?;
        output::line(&path.display().to_string())?;
    }
    Ok(0)
}

/// A page for each command, under the name that man(1) looks for: `adit-ticket-create`.
fn collect(command: Command, name: &str, pages: &mut Vec<(String, Command)>) {
    for inner in command
        .get_subcommands()
        .filter(|inner| !inner.is_hide_set())
    {
        let inner_name = format!("{name}-{}", inner.get_name());
        collect(inner.clone(), &inner_name, pages);
    }
    pages.push((name.to_owned(), command));
}

fn rendered(command: Command) -> std::io::Result<String> {
    let mut page = Vec::new();
    clap_mangen::Man::new(command).render(&mut page)?;
    Ok(String::from_utf8_lossy(&page).into_owned())
}

fn unwritten(path: &Path, error: &std::io::Error) -> Failure {
    let what = format!("can't write {}", path.display());
    Failure::new(codes::OUTPUT, Exit::Runtime, what, error)
}
