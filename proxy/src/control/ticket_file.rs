//! Where a ticket comes from: a file, standard input or the environment, never the text of a
//! command line. A file is looked at again while the node is not enrolled, because a mounted
//! Secret changes under it.

use std::fs::File;
use std::io::{self, Read};
use std::path::PathBuf;

use crypto::limits::TICKET_TEXT_MAX;
use crypto::ticket::Ticket;
use zeroize::Zeroizing;

use super::failure::{Exit, Failure, codes};

/// A source of a ticket.
#[derive(Clone)]
pub enum TicketSource {
    /// A file.
    File(PathBuf),
    /// Standard input, read once.
    Stdin,
    /// The text itself, from the environment.
    Text(Zeroizing<String>),
}

impl TicketSource {
    /// Reads it and checks its form.
    ///
    /// # Errors
    /// It can't be read, or is no ticket; the failure never repeats the text.
    pub fn read(&self) -> Result<Ticket, Failure> {
        parse(
            &self.name(),
            &self.text().map_err(|error| self.unreadable(&error))?,
        )
    }

    /// The file to look at again, if it is one.
    pub fn file(&self) -> Option<PathBuf> {
        match self {
            TicketSource::File(path) => Some(path.clone()),
            TicketSource::Stdin | TicketSource::Text(_) => None,
        }
    }

    fn text(&self) -> io::Result<Zeroizing<String>> {
        match self {
            TicketSource::File(path) => bounded(File::open(path)?),
            TicketSource::Stdin => bounded(io::stdin().lock()),
            TicketSource::Text(text) => Ok(text.clone()),
        }
    }

    fn name(&self) -> String {
        match self {
            TicketSource::File(path) => format!("the ticket in {}", path.display()),
            TicketSource::Stdin => "the ticket on standard input".into(),
            TicketSource::Text(_) => "the ticket in ADIT_TICKET".into(),
        }
    }

    fn unreadable(&self, error: &io::Error) -> Failure {
        let what = format!("can't read {}", self.name());
        Failure::new(codes::TICKET_UNREADABLE, Exit::Usage, what, error)
            .fix("adit ticket create … > FILE, on the administrator's machine")
    }
}

fn bounded(from: impl Read) -> io::Result<Zeroizing<String>> {
    let mut text = Zeroizing::new(String::with_capacity(TICKET_TEXT_MAX + 64));
    // Room for white space around the text; what is longer fails to parse.
    from.take(TICKET_TEXT_MAX as u64 + 64)
        .read_to_string(&mut text)?;
    Ok(text)
}

fn parse(name: &str, text: &str) -> Result<Ticket, Failure> {
    Ticket::from_text(text.trim()).map_err(|error| {
        Failure::new(
            codes::TICKET_UNREADABLE,
            Exit::Usage,
            format!("{name} is malformed"),
            error,
        )
        .fix("copy the whole line that `adit ticket create` printed, or make a new ticket")
    })
}

/// A ticket's file that is looked at again and again.
pub struct TicketFile {
    source: TicketSource,
    /// What was read last, if anything, so that a file is taken once.
    seen: Option<Zeroizing<String>>,
}

impl TicketFile {
    /// Watches a file whose present content is known already.
    pub fn new(path: PathBuf) -> TicketFile {
        let source = TicketSource::File(path);
        let seen = source.text().ok();
        TicketFile { source, seen }
    }

    /// The ticket, if the file holds another text than when it was looked at last. A file that
    /// can't be read just now (a Secret being replaced) is looked at again next time.
    ///
    /// # Errors
    /// The new text is no ticket: reported once.
    pub fn changed(&mut self) -> Result<Option<Ticket>, Failure> {
        let Ok(text) = self.source.text() else {
            return Ok(None);
        };
        if self.seen.as_deref() == Some(&*text) {
            return Ok(None);
        }
        let ticket = parse(&self.source.name(), &text);
        self.seen = Some(text);
        ticket.map(Some)
    }
}
