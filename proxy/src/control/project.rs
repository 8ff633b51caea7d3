//! A project where its authority runs: making it, and opening it again.

use crypto::check::TrustedAuthority;
use crypto::credential::{Connect, Roles, issue as issue_credential};
use crypto::identity::IdentitySecret;
use crypto::names::{Attributes, HostPort, Name};
use crypto::project::ProjectNote;
use crypto::suite::local_mask;
use crypto::{Id, SystemRandom, UnixTime};

use super::admin::offline;
use super::clock;
use super::failure::{Exit, Failure, codes};
use super::files::{DirKind, Home, StateDir};
use super::keys::{self, ADMIN_FILE, AUTHORITY_FILE, RELAY_FILE};
use super::store_place::StorePlace;
use crate::limits::CREDENTIAL_LIFE;
use crate::protocol::core::membership::Pinned;
use crate::protocol::core::{
    AdminCall, AdminReply, AuthorityConfig, Membership, ServerConfig, ServerCore, credential_body,
};
use crate::protocol::store::{Admit, Grants, Issue, ProjectRow, Store, StoreError};

/// The authority's database.
pub const STORE_FILE: &str = "authority.db";
/// The administrator's membership credential.
pub const ADMIN_MEMBERSHIP_FILE: &str = "admin.membership";
/// The administrator's name as a member.
const ADMIN_NAME: &str = "admin";

/// A project's directory, opened: this process has its lock.
pub struct Project {
    /// The directory.
    pub state: StateDir,
    /// The authority's key.
    pub authority: IdentitySecret,
    /// The store.
    pub store: Box<dyn Store>,
    /// The project's row in it.
    pub row: ProjectRow,
}

/// What `project create` has made.
#[derive(Clone, Debug)]
pub struct Created {
    /// The project's id: that of its authority.
    pub id: Id,
    /// The administrator's id.
    pub admin: Id,
}

impl Project {
    /// Makes a project: keys, store, and the administrator's membership. A creation that was cut
    /// short is taken up again with the same keys.
    ///
    /// # Errors
    /// There is one of that name, or the state can't be written.
    pub fn create(
        home: &Home,
        name: &Name,
        addresses: Vec<HostPort>,
        place: &StorePlace,
    ) -> Result<Created, Failure> {
        let path = home.project(name);
        let exists = |why: String| {
            let what = format!("can't create the project {name}");
            Failure::new(codes::PROJECT_EXISTS, Exit::State, what, why)
        };
        let state =
            StateDir::open(&path, DirKind::Project, "project create").map_err(|failure| {
                if failure.code == codes::STATE_IN_USE && path.join(STORE_FILE).exists() {
                    let why = format!("it exists, and {}", failure.why);
                    exists(why).fix(format!(
                        "adit status --project {name}, or choose another name"
                    ))
                } else {
                    failure
                }
            })?;
        let authority = keys::load_or_create(&state, AUTHORITY_FILE)?;
        let admin = keys::load_or_create(&state, ADMIN_FILE)?;
        keys::load_or_create(&state, RELAY_FILE)?;
        let mut store = place.open(&state)?;
        if store.project().map_err(store_failure)?.is_some() {
            let holder = match place {
                StorePlace::File => path.display().to_string(),
                StorePlace::Postgres(_) => "the database".into(),
            };
            return Err(
                exists(format!("{holder} holds one")).fix(format!("adit serve --project {name}"))
            );
        }
        let row = ProjectRow {
            id: authority.id(),
            name: name.clone(),
            addresses,
            note_number: 1,
            created: clock::now().wall(),
        };
        store.create_project(&row).map_err(store_failure)?;
        let issue = store
            .admit(&admission(&admin, row.created))
            .map_err(store_failure)?;
        let membership = admin_membership(&authority, &admin, &row, &issue)?;
        state.write(ADMIN_MEMBERSHIP_FILE, &membership.encode())?;
        Ok(Created {
            id: authority.id(),
            admin: admin.id(),
        })
    }

    /// Opens a project that was created here.
    ///
    /// # Errors
    /// It was not, or its directory is in use, damaged or of a newer version.
    pub fn open(
        home: &Home,
        name: &Name,
        user: &str,
        place: &StorePlace,
    ) -> Result<Project, Failure> {
        let path = home.project(name);
        let missing = || {
            let what = format!("can't open the project {name}");
            let why = format!("its authority is not in {}", path.display());
            Failure::new(codes::WHICH_PROJECT, Exit::State, what, why)
                .fix(format!("adit project create {name} --address HOST:PORT"))
        };
        if !StateDir::exists(&path) {
            return Err(missing());
        }
        let state = StateDir::open(&path, DirKind::Project, user)?;
        let authority = keys::load(&state, AUTHORITY_FILE)?.ok_or_else(missing)?;
        if matches!(place, StorePlace::File) && !path.join(STORE_FILE).exists() {
            let what = format!("can't open the project {name}");
            let why = format!("its store is not in {}", path.display());
            return Err(Failure::new(codes::WHICH_PROJECT, Exit::State, what, why)
                .fix("say where it is in ADIT_STORE, or restore the directory from its backup"));
        }
        let mut store = place.open(&state)?;
        let row = store.project().map_err(store_failure)?;
        let row = row.ok_or_else(missing)?;
        if row.id != authority.id() {
            let what = format!("can't open the project {name}");
            let why = format!("the store is that of the project {} ({})", row.name, row.id);
            return Err(Failure::new(codes::OTHER_PROJECT, Exit::State, what, why)
                .fix("say where this project's store is in ADIT_STORE"));
        }
        Ok(Project {
            state,
            authority,
            store,
            row,
        })
    }

    /// Carries out an administrator's call without a running process.
    ///
    /// # Errors
    /// The store's, or the authority's refusal.
    pub fn call(mut self, call: AdminCall) -> Result<AdminReply, Failure> {
        let authority = AuthorityConfig {
            identity: self.authority,
            project: self.row,
            credential_life: CREDENTIAL_LIFE,
        };
        let config = ServerConfig {
            authority: Some(authority),
            relay: None,
        };
        let mut core = ServerCore::new(config, Box::new(SystemRandom::new()), clock::now());
        offline::call(&mut core, self.store.as_mut(), call)
    }
}

/// The store's failure as a command's.
pub fn store_failure(error: StoreError) -> Failure {
    Failure::new(
        codes::STORE,
        Exit::Runtime,
        "the authority's store failed",
        error,
    )
}

fn admin_grants() -> Grants {
    Grants {
        attributes: Attributes::new(),
        roles: Roles::ADMIN,
        may_serve: Vec::new(),
        may_connect: Connect::Only(Vec::new()),
    }
}

fn admin_name() -> Name {
    ADMIN_NAME.parse().expect("the literal is a name")
}

fn admission(admin: &IdentitySecret, now: UnixTime) -> Admit {
    Admit {
        id: admin.id(),
        identity: admin.identity().encode(),
        name: admin_name(),
        grants: admin_grants(),
        now,
        life: CREDENTIAL_LIFE,
    }
}

/// The administrator's membership with the credential that the store has just counted.
fn admin_membership(
    authority: &IdentitySecret,
    admin: &IdentitySecret,
    row: &ProjectRow,
    issue: &Issue,
) -> Result<Membership, Failure> {
    let refused = |error: &dyn std::fmt::Display| {
        let what = "can't issue the administrator's credential";
        Failure::new(codes::STORE, Exit::Runtime, what, error)
    };
    let member = &issue.member;
    let body = credential_body(
        authority,
        &member.grants,
        member.name.clone(),
        member.serial,
        member.issued,
        issue.not_after,
        Some(admin.identity()),
    );
    let (credential, pass) = issue_credential(authority, body).map_err(|e| refused(&e))?;
    let relays = row.addresses.clone();
    let note = ProjectNote::issue(
        authority,
        row.name.clone(),
        row.note_number,
        relays,
        local_mask(),
    )
    .map_err(|e| refused(&e))?;
    let authority = TrustedAuthority::new(authority.identity().clone(), UnixTime(0));
    Ok(Membership {
        note,
        credential,
        pass,
        authority,
        pinned: Pinned::default(),
    })
}
