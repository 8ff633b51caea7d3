//! The codes of the 1xxx range (what was typed, configuration, state directory), and those that
//! only a whole process can meet.

use super::Code;

/// A code of this module, for the catalogue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The stable code.
    pub code: Code,
    /// What it means.
    pub meaning: &'static str,
    /// What to do about it where the error itself does not know better.
    pub mend: &'static str,
}

macro_rules! codes {
    ($($(#[doc = $doc:literal])* $name:ident = $code:literal, $mend:literal;)*) => {
        $($(#[doc = $doc])* pub const $name: Code = Code($code);)*

        /// All of them, for the error catalogue.
        pub const ALL: &[Entry] = &[$(Entry {
            code: $name,
            meaning: concat!($($doc),*),
            mend: $mend,
        },)*];
    };
}

codes! {
    /// A flag or argument is unknown, missing or malformed.
    USAGE = 1001, "adit --help";
    /// A configuration file can't be read or is no TOML.
    CONFIG_UNREADABLE = 1101, "correct the file; its keys are the flags' names (adit run --help)";
    /// A configuration key is unknown.
    CONFIG_KEY = 1102, "correct the key; its keys are the flags' names (adit run --help)";
    /// A configuration value is not what its key takes.
    CONFIG_VALUE = 1103, "correct the value; adit inlet --help and adit outlet --help say what each takes";
    /// No project, or several and none was named.
    WHICH_PROJECT = 1151, "say which with --project NAME, and where with --home DIR";
    /// A project of that name is here already.
    PROJECT_EXISTS = 1152, "adit serve --project NAME, or choose another name";
    /// The state directory holds another project of that name.
    OTHER_PROJECT = 1153, "choose another home with --home DIR";
    /// A file of the state directory can't be read or written.
    STATE_IO = 1201, "make it writable for this user, on a disk with room (df), or choose another home with --home DIR";
    /// A file of the state directory can be read by others.
    STATE_READABLE = 1202, "chmod -R go= DIR";
    /// The state directory is in use by another process.
    STATE_IN_USE = 1203, "stop that process, or choose another node with --node NAME";
    /// The state was written by a newer adit.
    STATE_NEWER = 1204, "install the newer release again; nothing was changed";
    /// A file of the state directory is damaged.
    STATE_CORRUPT = 1205, "restore the directory from its backup; a node can begin anew: an empty directory and a fresh ticket (adit ticket create --replaces NAME …)";
    /// An identity has changed its key as often as it may.
    HISTORY_FULL = 1206, "enroll a new node: an empty directory and a fresh ticket (adit ticket create --replaces NAME …)";
    /// A ticket can't be read or is malformed.
    TICKET_UNREADABLE = 1301, "adit ticket create … > FILE, on the administrator's machine; then --ticket FILE";
    /// No process answers on the state directory's socket.
    NOT_RUNNING = 1401, "adit serve, adit inlet … or adit outlet …";
    /// The process on the other end of the socket refused or broke the conversation.
    ADMIN = 1402, "run the same release as that process (adit --version), as the same user; then try again";
    /// Alive, but not ready.
    NOT_READY = 1403, "adit status";
    /// The command behind `--` can't be started.
    CHILD = 1501, "check that the command exists and may be run";
    /// The result can't be written to standard output.
    OUTPUT = 1502, "send it to where there is room; what was asked for was done";
    /// A measurement failed: a connection broke, or bytes were lost on the way.
    BENCH = 1601, "adit status; then measure again";
    /// A listener can't be bound.
    LISTEN = 6101, "choose another address or port, or end who has it (ss -ltnp)";
    /// The engine can't be opened.
    ENGINE = 6102, "use --engine auto, which falls back on epoll";
    /// A thread or the runtime can't be started.
    THREAD = 6103, "look at the limits of this user and container (ulimit -a); if they are not reached, report it";
    /// The process may have too few descriptors.
    DESCRIPTORS = 6104, "raise the limit of open files: ulimit -n, or LimitNOFILE= in its unit";
    /// The authority's store failed.
    STORE = 7101, "see that its disk has room and works (df, dmesg), then try again";
    /// The authority's store was written by a newer adit.
    STORE_NEWER = 7102, "install the newer release again; nothing was changed";
    /// A row of the audit was changed, taken out or moved.
    AUDIT_BROKEN = 7103, "compare with a backup or an earlier export (adit audit export); who can write the store did it";
    /// A file of audit rows can't be read.
    AUDIT_UNREADABLE = 7104, "name a file that adit audit export wrote";
}

/// What to do about one of these codes.
pub fn mend(code: Code) -> Option<&'static str> {
    let entry = ALL.iter().find(|entry| entry.code == code)?;
    Some(entry.mend)
}
