//! Apps and services that tests play: they write, read, end and reset by a script.

use crate::engine::Errno;
use crate::engine::simulated::{SimRead, SimSocket};

/// One end of an application's connection.
#[derive(Debug)]
pub(super) struct App {
    sock: Option<SimSocket>,
    out: Vec<u8>,
    written: usize,
    /// Send back what comes, and end when the other side does.
    echo: bool,
    /// End the own direction once everything is written.
    pub fin: bool,
    /// Most bytes to read at a time; 0 reads nothing.
    pub reads: usize,
    /// Reset once so many bytes were read.
    pub reset_after: Option<usize>,
    /// Said, with an end behind it, once the other side has ended.
    pub answer: Vec<u8>,
    pub got: Vec<u8>,
    pub eof: bool,
    fin_sent: bool,
    pub failed: Option<Errno>,
}

impl App {
    pub fn new(sock: SimSocket) -> App {
        App {
            sock: Some(sock),
            out: Vec::new(),
            written: 0,
            echo: false,
            fin: false,
            reads: usize::MAX,
            reset_after: None,
            answer: Vec::new(),
            got: Vec::new(),
            eof: false,
            fin_sent: false,
            failed: None,
        }
    }

    pub fn echo(sock: SimSocket) -> App {
        App {
            echo: true,
            ..App::new(sock)
        }
    }

    /// Queues bytes.
    pub fn say(&mut self, bytes: &[u8]) {
        self.out.extend_from_slice(bytes);
    }

    /// Resets the connection now.
    pub fn reset(&mut self) {
        if let Some(sock) = self.sock.take() {
            sock.reset();
        }
    }

    /// Both directions ended, in order, with everything written.
    pub fn is_finished(&self) -> bool {
        self.eof && self.fin_sent && self.failed.is_none()
    }

    /// Nothing more will happen here.
    pub fn is_over(&self) -> bool {
        self.sock.is_none()
    }

    /// Does what can be done now; whether that was anything.
    pub fn pump(&mut self) -> bool {
        let progress = |app: &App| {
            (
                app.got.len(),
                app.written,
                app.eof,
                app.fin_sent,
                app.sock.is_some(),
            )
        };
        let before = progress(self);
        if let Err(errno) = self.try_pump() {
            self.failed = Some(errno);
            self.sock = None;
        }
        if self.eof && self.fin_sent {
            self.sock = None;
        }
        progress(self) != before
    }

    fn try_pump(&mut self) -> Result<(), Errno> {
        let Some(sock) = &mut self.sock else {
            return Ok(());
        };
        if !sock.connected()? {
            return Ok(());
        }
        let mut buf = vec![0; self.reads.min(16 * 1024)];
        while self.reads > 0 && !self.eof {
            match sock.read(&mut buf)? {
                SimRead::Bytes(n) => {
                    self.got.extend_from_slice(&buf[..n]);
                    if self.echo {
                        self.out.extend_from_slice(&buf[..n]);
                    }
                    if self
                        .reset_after
                        .is_some_and(|after| self.got.len() >= after)
                    {
                        self.reset();
                        return Ok(());
                    }
                    if self.reads != usize::MAX {
                        break;
                    }
                }
                SimRead::Eof => {
                    self.eof = true;
                    self.fin |= self.echo || !self.answer.is_empty();
                    self.out.append(&mut self.answer);
                }
                SimRead::Nothing => break,
            }
        }
        if self.eof
            && let Some(sock) = &mut self.sock
        {
            // A reset may still come.
            sock.read(&mut [0])?;
        }
        let Some(sock) = &mut self.sock else {
            return Ok(());
        };
        while self.written < self.out.len() {
            match sock.write(&self.out[self.written..])? {
                0 => return Ok(()),
                n => self.written += n,
            }
        }
        if self.fin && !self.fin_sent {
            self.fin_sent = true;
            sock.shutdown_write()?;
        }
        Ok(())
    }
}
