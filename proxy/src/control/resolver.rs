//! Names to addresses, on a thread of its own, because getaddrinfo blocks.
//!
//! The queue is bounded and never waited for: a full one is an answer (`false`), and the caller
//! asks again on its own timer. An answer interleaves the families, beginning with the one the
//! system's order prefers, so that a dial which tries addresses in order meets a second family at
//! its second try (RFC 8305, section 4).

use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

use crate::limits::{DIAL_ADDRESSES_MAX, RESOLVER_QUEUE_MAX};

/// What was asked for: a host (name or literal) and a port, with the caller's own mark.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question<T> {
    /// Comes back with the answer.
    pub mark: T,
    /// A DNS name, an IPv4 or an IPv6 address without brackets.
    pub host: String,
    /// The port of every address in the answer.
    pub port: u16,
}

/// The answer to a [`Question`]: at most [`DIAL_ADDRESSES_MAX`] addresses, or the system's words.
#[derive(Debug)]
pub struct Answer<T> {
    /// As in the question.
    pub mark: T,
    /// The addresses in the order to try them; never empty.
    pub result: Result<Vec<SocketAddr>, String>,
}

/// The thread. It ends when this is dropped, after the look-up it is in.
pub struct Resolver<T> {
    questions: SyncSender<Question<T>>,
}

impl<T: Send + 'static> Resolver<T> {
    /// Starts the thread; `answer` is called on it once for each question accepted.
    ///
    /// # Errors
    /// The thread can't be started.
    pub fn start(answer: impl FnMut(Answer<T>) + Send + 'static) -> io::Result<Resolver<T>> {
        let (questions, queue) = sync_channel(RESOLVER_QUEUE_MAX);
        thread::Builder::new()
            .name("adit-resolver".into())
            .spawn(move || run(&queue, answer))
            .map(|_| Resolver { questions })
    }

    /// Queues a question; `false` when the queue is full or the thread is gone.
    pub fn ask(&self, question: Question<T>) -> bool {
        self.questions.try_send(question).is_ok()
    }
}

/// The address that a host spells out, if it is no name.
pub fn literal(host: &str, port: u16) -> Option<SocketAddr> {
    host.parse::<IpAddr>()
        .ok()
        .map(|ip| SocketAddr::new(ip, port))
}

fn run<T>(queue: &Receiver<Question<T>>, mut answer: impl FnMut(Answer<T>)) {
    while let Ok(Question { mark, host, port }) = queue.recv() {
        let result = look_up(&host, port);
        answer(Answer { mark, result });
    }
}

fn look_up(host: &str, port: u16) -> Result<Vec<SocketAddr>, String> {
    let found: Vec<SocketAddr> = (host, port)
        .to_socket_addrs()
        .map_err(|error| error.to_string())?
        .collect();
    let ordered = interleave(&found);
    if ordered.is_empty() {
        Err(format!("{host} has no address"))
    } else {
        Ok(ordered)
    }
}

/// Takes from the two families in turn, beginning with the first address's; repeated addresses
/// (getaddrinfo gives one per socket type) once; at most [`DIAL_ADDRESSES_MAX`].
pub fn interleave(found: &[SocketAddr]) -> Vec<SocketAddr> {
    let first_is_v6 = found.first().is_some_and(SocketAddr::is_ipv6);
    let mut preferred = found
        .iter()
        .filter(|address| address.is_ipv6() == first_is_v6);
    let mut other = found
        .iter()
        .filter(|address| address.is_ipv6() != first_is_v6);
    let mut ordered: Vec<SocketAddr> = Vec::with_capacity(found.len().min(DIAL_ADDRESSES_MAX));
    loop {
        let pair = [preferred.next(), other.next()];
        if pair == [None, None] {
            return ordered;
        }
        for address in pair.into_iter().flatten() {
            if ordered.len() == DIAL_ADDRESSES_MAX {
                return ordered;
            }
            if !ordered.contains(address) {
                ordered.push(*address);
            }
        }
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;
    use std::sync::mpsc;
    use std::time::Duration;

    fn addresses(texts: &[&str]) -> Vec<SocketAddr> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn families_take_turns_and_repeats_are_dropped() {
        let found = addresses(&["[::1]:1", "[::2]:1", "[::1]:1", "1.1.1.1:1", "2.2.2.2:1"]);
        let expected = addresses(&["[::1]:1", "1.1.1.1:1", "[::2]:1", "2.2.2.2:1"]);
        assert_eq!(interleave(&found), expected);
        assert_eq!(interleave(&[]), Vec::new());
    }

    #[test]
    fn an_answer_is_bounded() {
        let found: Vec<SocketAddr> = (1..=100)
            .map(|port| SocketAddr::from(([127, 0, 0, 1], port)))
            .collect();
        assert_eq!(interleave(&found).len(), DIAL_ADDRESSES_MAX);
    }

    #[test]
    fn literals_and_failures_are_answered_with_their_mark() {
        let (sender, answers) = mpsc::channel();
        let resolver = Resolver::start(move |answer| sender.send(answer).unwrap()).unwrap();
        assert!(resolver.ask(Question {
            mark: 1,
            host: "127.0.0.1".into(),
            port: 80
        }));
        assert!(resolver.ask(Question {
            mark: 2,
            host: "not a name".into(),
            port: 80
        }));
        let deadline = Duration::from_secs(30);
        let first = answers.recv_timeout(deadline).unwrap();
        assert_eq!(
            (first.mark, first.result.unwrap()),
            (1, addresses(&["127.0.0.1:80"]))
        );
        let second = answers.recv_timeout(deadline).unwrap();
        assert_eq!(second.mark, 2);
        assert!(second.result.is_err());
    }
}
