//! Services on the loopback with a thread per connection.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use rustix::net::sockopt;

use super::{CHUNK, Ending, Exchange, PATIENCE, ending, is_reset, set_patience};
use crate::process::{Failure, Outcome};

/// Connections that may wait to be accepted.
const BACKLOG: i32 = 4096;

/// A service on the loopback with a thread per connection. Dropping it ends all of them.
pub struct Service {
    address: SocketAddr,
    shared: Arc<Shared>,
    accepting: Option<JoinHandle<()>>,
    reports: Mutex<mpsc::Receiver<Outcome<Ending>>>,
}

#[derive(Default)]
struct Shared {
    stopping: AtomicBool,
    accepted: AtomicU32,
    /// One descriptor more of every live connection, to end it when the service stops.
    live: Mutex<BTreeMap<u32, TcpStream>>,
}

impl Shared {
    fn live(&self) -> MutexGuard<'_, BTreeMap<u32, TcpStream>> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Service {
    /// Serves every connection by `serve`, whose result becomes a report. When it returns, the
    /// connection is closed.
    pub fn start(
        serve: impl Fn(&TcpStream) -> Outcome<Ending> + Send + Sync + 'static,
    ) -> Outcome<Service> {
        let fail = |error: io::Error| Failure(format!("starting a service: {error}"));
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(fail)?;
        // std asks for 128, and the kernel answers what goes beyond with SYN cookies: connections
        // whose first bytes can be lost.
        rustix::net::listen(&listener, BACKLOG).map_err(|errno| fail(errno.into()))?;
        let address = listener.local_addr().map_err(fail)?;
        let shared = Arc::new(Shared::default());
        let (reporter, reports) = mpsc::channel();
        let accepting = thread::spawn({
            let shared = Arc::clone(&shared);
            move || accept(&listener, &shared, &Arc::new(serve), &reporter)
        });
        Ok(Service {
            address,
            shared,
            accepting: Some(accepting),
            reports: Mutex::new(reports),
        })
    }

    /// Serves [`Exchange`]s. A report says that all bytes of one came and went, or what was wrong.
    pub fn exchanges() -> Outcome<Service> {
        Service::patient_exchanges(PATIENCE)
    }

    /// The same for clients that may leave an answer unread for `patience`. Its kernel buffers are
    /// small: a thousand of 4 MiB would be all the memory that the kernel has for TCP.
    pub fn patient_exchanges(patience: Duration) -> Outcome<Service> {
        Service::start(move |stream| {
            set_patience(stream, patience)?;
            if patience > PATIENCE {
                let set = sockopt::set_socket_send_buffer_size(stream, CHUNK);
                set.map_err(|error| Failure(format!("setting SO_SNDBUF: {error}")))?;
            }
            let exchange = Exchange::read(stream)
                .map_err(|error| Failure(format!("reading the header: {error}")))?;
            exchange.serve(stream).map(|()| Ending::Fin)
        })
    }

    /// Sends back what it reads, and FIN for FIN.
    pub fn echo() -> Outcome<Service> {
        Service::start(|mut stream| {
            let mut chunk = [0; CHUNK];
            loop {
                let turn = super::again(|| stream.read(&mut chunk)).and_then(|len| {
                    stream.write_all(&chunk[..len])?;
                    if len == 0 {
                        stream.shutdown(Shutdown::Write).map(|()| 0)
                    } else {
                        Ok(len)
                    }
                });
                match turn {
                    Ok(0) => return Ok(Ending::Fin),
                    Ok(_) => {}
                    Err(error) if is_reset(&error) => return Ok(Ending::Reset),
                    Err(error) => return Err(Failure(format!("the echo service: {error}"))),
                }
            }
        })
    }

    /// Speaks first, as many database servers do, then reads to the end.
    pub fn greeting(greeting: &'static [u8]) -> Outcome<Service> {
        Service::start(move |mut stream| {
            let sent = stream.write_all(greeting);
            sent.map_err(|error| Failure(format!("greeting: {error}")))?;
            ending(stream, PATIENCE).map(|(ending, _)| ending)
        })
    }

    /// Closes every connection at once.
    pub fn closing() -> Outcome<Service> {
        Service::start(|_| Ok(Ending::Fin))
    }

    /// Reads one byte, then resets the connection.
    pub fn resetting() -> Outcome<Service> {
        Service::start(|mut stream| {
            let got = stream.read_exact(&mut [0]);
            got.map_err(|error| Failure(format!("the resetting service: {error}")))?;
            let linger = sockopt::set_socket_linger(stream, Some(Duration::ZERO));
            linger.map_err(|error| Failure(format!("setting SO_LINGER: {error}")))?;
            Ok(Ending::Reset)
        })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// How many connections it accepted.
    pub fn accepted(&self) -> u32 {
        self.shared.accepted.load(Ordering::Acquire)
    }

    /// How the next connection ended, as the service saw it; connections report when they end.
    pub fn report(&self, within: Duration) -> Outcome<Ending> {
        let reports = self.reports.lock().unwrap_or_else(PoisonError::into_inner);
        reports.recv_timeout(within).map_err(|_| {
            Failure(format!(
                "no connection of the service ended within {within:?}"
            ))
        })?
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.shared.stopping.store(true, Ordering::Release);
        // Wakes the accept.
        let _ = TcpStream::connect_timeout(&self.address, PATIENCE);
        if let Some(accepting) = self.accepting.take() {
            let _ = accepting.join();
        }
        for stream in self.shared.live().values() {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

fn accept<F>(
    listener: &TcpListener,
    shared: &Arc<Shared>,
    serve: &Arc<F>,
    reporter: &mpsc::Sender<Outcome<Ending>>,
) where
    F: Fn(&TcpStream) -> Outcome<Ending> + Send + Sync + 'static,
{
    for stream in listener.incoming() {
        if shared.stopping.load(Ordering::Acquire) {
            return;
        }
        let number = shared.accepted.fetch_add(1, Ordering::AcqRel);
        let ready = stream.and_then(|stream| {
            stream.set_nodelay(true)?;
            shared.live().insert(number, stream.try_clone()?);
            Ok(stream)
        });
        let (shared, serve, reporter) = (Arc::clone(shared), Arc::clone(serve), reporter.clone());
        thread::spawn(move || {
            let report = ready
                .map_err(|error| Failure(format!("accepting: {error}")))
                .and_then(|stream| {
                    set_patience(&stream, PATIENCE)?;
                    serve(&stream)
                });
            // The last descriptor goes before the report: who reads it may count on the close.
            shared.live().remove(&number);
            let _ = reporter.send(report);
        });
    }
}
