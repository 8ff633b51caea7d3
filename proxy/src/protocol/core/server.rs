//! `adit serve`: the authority, a relay, or both, behind one public port.
//!
//! Who connects is a stranger until it has shown who it is: strangers are bounded in number, in
//! total and per source prefix, have 5 s for the whole handshake, and their frames wait in a
//! queue of their own, of which a few are taken each time everything else has been looked at.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;

use crypto::Random;
use crypto::check::TrustedAuthority;
use crypto::credential::{Connect, Roles};
use crypto::identity::Identity;
use crypto::names::Attributes;

use super::admin::{AdminCall, AdminDesk, AdminPending, AdminReply, AdminStep};
use super::authority::{AuthorityCore, NotAdmitted};
use super::clock::AuthorityClock;
use super::config::{RelayConfig, ServerConfig};
use super::enrollment::{Enrollment, EnrollmentNews};
use super::io::{AdminNo, Core, Input, Level, LogRecord, Now, Output, StoreNo};
use super::node::{Node, denial_record};
use super::outbox::Outbox;
use super::relay::{RelayCore, RelayGrant};
use super::status::{MembershipStatus, Reach, ServerStatus, Status};
use super::strangers::{Prefix, Strangers};
use crate::error::{CloseReason, Problem};
use crate::ids::LinkId;
use crate::limits::{
    CREDENTIAL_LIFE, SHAKE_TIMEOUT, SHAKES_PER_LOOK, STORE_REQUESTS_MAX,
};
use crate::protocol::command::{Command, Event, Expect};
use crate::protocol::keyring::Keyring;
use crate::protocol::pool::{Backoff, Failure, jitter};
use crate::protocol::session::{
    Accepting, Kind, Message, Refusal, RequestNo, SessionError,
};
use crate::protocol::store::{Admit, Grants, Issue, StoreError, StoreReply, StoreRequest};
use crate::time::Instant;
