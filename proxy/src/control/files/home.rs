//! Where the state directories are.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crypto::names::Name;

use super::unusable;
use crate::control::failure::Failure;

/// `$ADIT_HOME`: where the projects are.
#[derive(Clone, Debug)]
pub struct Home {
    root: PathBuf,
}

impl Home {
    /// The home at this path; it need not exist.
    pub fn at(root: impl Into<PathBuf>) -> Home {
        Home { root: root.into() }
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        &self.root
    }

    /// The directory of a project's authority.
    pub fn project(&self, project: &Name) -> PathBuf {
        self.root.join(project.as_str())
    }

    /// The directory of a node.
    pub fn node(&self, project: &Name, node: &Name) -> PathBuf {
        self.project(project).join("nodes").join(node.as_str())
    }

    /// The projects that have a directory here, in the order of their names.
    ///
    /// # Errors
    /// The home exists and can't be listed.
    pub fn projects(&self) -> Result<Vec<Name>, Failure> {
        names_in(&self.root)
    }

    /// The nodes of a project, in the order of their names.
    ///
    /// # Errors
    /// The directory exists and can't be listed.
    pub fn nodes(&self, project: &Name) -> Result<Vec<Name>, Failure> {
        names_in(&self.project(project).join("nodes"))
    }
}

fn names_in(path: &Path) -> Result<Vec<Name>, Failure> {
    let entries = match fs::read_dir(path) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(unusable(path, &error)),
    };
    let mut names: Vec<Name> = entries
        .filter_map(Result::ok)
        .filter(|entry| entry.path().is_dir())
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .collect();
    names.sort();
    Ok(names)
}
