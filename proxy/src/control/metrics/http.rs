//! The listener: one request a connection, without a body, then it is closed.
//!
//! ```text
//! caller ──▶ at most METRICS_CALLERS_MAX at once; who comes then waits in the kernel's queue
//!        ──▶ a head of at most METRICS_REQUEST_MAX bytes, read by httparse
//!        ◀── an answer with its length, and the end of the connection
//! ```
//! All of that within `METRICS_TIMEOUT`. Three fixed requests without a body need no more of HTTP/1.1
//! (RFC 9112) than this, and a server library would be a dozen crates; what is intricate, reading a
//! request's head, is that library's own parser.

use std::io;
use std::net::SocketAddr;

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, oneshot};

use crate::control::admin::server::Asked;
use crate::control::admin::wire::Call;
use crate::control::callers;
use crate::control::failure::Failure;
use crate::control::worker_thread::cant_listen;
use crate::limits::{
    METRICS_CALLERS_MAX, METRICS_HEADERS_MAX, METRICS_REQUEST_MAX, METRICS_TIMEOUT,
};

/// The media type of the text format.
const TEXT_FORMAT: &str = "text/plain; version=0.0.4; charset=utf-8";
const PLAIN: &str = "text/plain; charset=utf-8";

/// A bound listener.
pub struct MetricsListener {
    listener: std::net::TcpListener,
    /// Where it listens; the port is never 0.
    pub address: SocketAddr,
}

impl MetricsListener {
    /// Binds it, before anything else is started so that its errors are clear. Port 0 asks the kernel for
    /// one.
    ///
    /// # Errors
    /// The address is in use, needs a privilege, or is not this machine's.
    pub fn bind(address: SocketAddr) -> Result<MetricsListener, Failure> {
        let bind = || -> io::Result<MetricsListener> {
            let listener = std::net::TcpListener::bind(address)?;
            listener.set_nonblocking(true)?;
            let address = listener.local_addr()?;
            Ok(MetricsListener { listener, address })
        };
        bind().map_err(|error| cant_listen(address, &error))
    }

    /// Answers callers until this task is dropped. Runs on a local task set of a Tokio runtime.
    pub async fn serve(self, calls: mpsc::Sender<Asked>) {
        // It fails only without a runtime, or without room in its poll.
        let Ok(listener) = TcpListener::from_std(self.listener) else {
            return;
        };
        let accept = async || listener.accept().await.map(|(stream, _)| stream);
        let serve = async move |stream| {
            let _ = tokio::time::timeout(METRICS_TIMEOUT, converse(stream, &calls)).await;
        };
        callers::serve(METRICS_CALLERS_MAX, accept, serve).await;
    }
}

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Request {
    Metrics,
    Live,
    Ready,
    /// No such path.
    Unknown,
    /// A method other than GET and HEAD.
    Method,
    /// No HTTP/1 request, or one that is too long.
    Bad,
}

/// Reads a head; `None`: there is more to come. The second value is whether a body is wanted.
fn read_head(bytes: &[u8]) -> Option<(Request, bool)> {
    let mut headers = [httparse::EMPTY_HEADER; METRICS_HEADERS_MAX];
    let mut head = httparse::Request::new(&mut headers);
    match head.parse(bytes) {
        Ok(httparse::Status::Complete(_)) => {}
        Ok(httparse::Status::Partial) => return None,
        Err(_) => return Some((Request::Bad, true)),
    }
    let body = match head.method {
        Some("GET") => true,
        Some("HEAD") => false,
        Some(_) | None => return Some((Request::Method, true)),
    };
    let target = head.path.unwrap_or_default();
    let path = target.split('?').next().unwrap_or_default();
    let request = match path {
        "/metrics" => Request::Metrics,
        "/livez" => Request::Live,
        "/readyz" => Request::Ready,
        _ => Request::Unknown,
    };
    Some((request, body))
}

struct Answer {
    status: &'static str,
    media: &'static str,
    text: String,
}

impl Answer {
    fn plain(status: &'static str, text: impl Into<String>) -> Answer {
        Answer {
            status,
            media: PLAIN,
            text: format!("{}\n", text.into()),
        }
    }

    /// The bytes that are sent.
    fn bytes(&self, body: bool) -> Vec<u8> {
        let Answer {
            status,
            media,
            text,
        } = self;
        let mut bytes = format!(
            "HTTP/1.1 {status}\r\nContent-Type: {media}\r\nContent-Length: {}\r\n\
             Allow: GET, HEAD\r\nCache-Control: no-store\r\nConnection: close\r\n\r\n",
            text.len()
        );
        if body {
            bytes.push_str(text);
        }
        bytes.into_bytes()
    }
}

async fn converse(mut stream: TcpStream, calls: &mpsc::Sender<Asked>) -> io::Result<()> {
    let mut head = Vec::with_capacity(METRICS_REQUEST_MAX);
    let (request, body) = loop {
        if let Some(request) = read_head(&head) {
            break request;
        }
        let room = METRICS_REQUEST_MAX.saturating_sub(head.len());
        if room == 0 {
            break (Request::Bad, true);
        }
        if (&mut stream).take(room as u64).read_buf(&mut head).await? == 0 {
            return Ok(());
        }
    };
    let answer = answer(request, calls).await;
    stream.write_all(&answer.bytes(body)).await?;
    stream.shutdown().await
}

async fn answer(request: Request, calls: &mpsc::Sender<Asked>) -> Answer {
    let gone = || Answer::plain("503 Service Unavailable", "the process is stopping");
    match request {
        Request::Metrics => match ask(calls, Call::Metrics).await {
            Some(Value::String(text)) => Answer {
                status: "200 OK",
                media: TEXT_FORMAT,
                text,
            },
            Some(_) | None => gone(),
        },
        Request::Live => match ask(calls, Call::Health).await {
            Some(_) => Answer::plain("200 OK", "alive"),
            None => gone(),
        },
        Request::Ready => match ask(calls, Call::Health).await {
            Some(health) if health["ready"] == true => Answer::plain("200 OK", "ready"),
            Some(health) => {
                let why = health["why"].as_str().unwrap_or("it has not said why");
                Answer::plain("503 Service Unavailable", format!("not ready: {why}"))
            }
            None => gone(),
        },
        Request::Unknown => {
            Answer::plain("404 Not Found", "there are /metrics, /livez and /readyz")
        }
        Request::Method => Answer::plain("405 Method Not Allowed", "only GET and HEAD"),
        Request::Bad => Answer::plain("400 Bad Request", "this is no HTTP/1.1 request"),
    }
}

/// The driver's answer; `None` if it is gone or says no.
async fn ask(calls: &mpsc::Sender<Asked>, call: Call) -> Option<Value> {
    let (reply, answer) = oneshot::channel();
    calls.send(Asked { call, reply }).await.ok()?;
    answer.await.ok()?.ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_read_whole_or_not_at_all() {
        for (text, read) in [
            (
                "GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n",
                Some((Request::Metrics, true)),
            ),
            (
                "GET /readyz?verbose HTTP/1.0\r\n\r\n",
                Some((Request::Ready, true)),
            ),
            ("HEAD /livez HTTP/1.1\r\n\r\n", Some((Request::Live, false))),
            ("GET / HTTP/1.1\r\n\r\n", Some((Request::Unknown, true))),
            (
                "GET /metrics/ HTTP/1.1\r\n\r\n",
                Some((Request::Unknown, true)),
            ),
            (
                "POST /metrics HTTP/1.1\r\n\r\n",
                Some((Request::Method, true)),
            ),
            ("GET /metrics HTTP/1.1\r\nHost", None),
            ("", None),
            ("\u{16}\u{3}\u{1}", Some((Request::Bad, true))),
            ("GET /metrics HTTP/2.0\r\n\r\n", Some((Request::Bad, true))),
        ] {
            assert_eq!(read_head(text.as_bytes()), read, "{text:?}");
        }
        let many = "a: b\r\n".repeat(METRICS_HEADERS_MAX + 1);
        let many = format!("GET /metrics HTTP/1.1\r\n{many}\r\n");
        assert_eq!(read_head(many.as_bytes()), Some((Request::Bad, true)));
    }

    #[test]
    fn an_answer_has_its_length_and_a_head_has_no_body() {
        let answer = Answer::plain("200 OK", "alive");
        let text = String::from_utf8(answer.bytes(true)).unwrap_or_default();
        assert!(text.contains("\r\nContent-Length: 6\r\n") && text.ends_with("\r\n\r\nalive\n"));
        let head = String::from_utf8(answer.bytes(false)).unwrap_or_default();
        assert!(head.contains("\r\nContent-Length: 6\r\n") && head.ends_with("\r\n\r\n"));
    }
}
