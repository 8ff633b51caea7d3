//! Latency of messages that are sent at fixed times.
//!
//! Message *m* is due at `start + m / rate`, on connection `m mod streams`, whatever became of those
//! before it, and its delay counts from when it was *due*: a stall is paid for by every message that
//! should have been sent meanwhile, not by one alone (no coordinated omission). How late the sender
//! itself was is measured too, since a busy machine delays it as well.

use std::io::{self, Write};
use std::net::{Shutdown, TcpStream as StdStream};
use std::num::NonZeroU64;
use std::sync::{Arc, OnceLock, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

use super::endpoint::Endpoint;
use super::figures::{Sample, Times};
use super::fleet::{self, CHUNK, Load, Tally};
use super::turns::warm;
use crate::limits::BENCH_STALL_DEADLINE;

/// From the last connection's opening to the first message.
const LEAD: Duration = Duration::from_millis(20);

/// Runs it: `rate` messages of `size` bytes a second, over `streams` connections together.
///
/// # Errors
/// A connection broke, or not all came back.
pub(super) fn run(
    to: Endpoint,
    streams: usize,
    size: usize,
    rate: u32,
    time: Duration,
) -> io::Result<Sample> {
    let schedule = Arc::new(Schedule {
        start: OnceLock::new(),
        interval: Duration::from_secs(1) / rate,
        messages: ((time.as_secs_f64() * f64::from(rate)) as u64).max(1),
        streams: streams as u64,
        size,
    });
    let (times, late) = (Times::new()?, Times::new()?);
    let (writers, opened) = mpsc::channel();
    let sender = thread::spawn({
        let (schedule, late) = (Arc::clone(&schedule), late.clone());
        move || send(&schedule, &opened, &late)
    });
    let load = Receiver {
        to,
        schedule: Arc::clone(&schedule),
        writers,
        times: times.clone(),
    };
    let received = fleet::run(&load, streams, time);
    // The sender waits for connections as long as somebody might open one.
    drop(load);
    let lost = || io::Error::other("the sender ended early");
    let sent = sender.join().map_err(|_| lost())?;
    let (tally, _) = received?;
    sent?;
    let elapsed = schedule.start.get().ok_or_else(lost)?.elapsed();
    Ok(Sample::untimed((tally, elapsed))
        .with_times(times)
        .with_late(late))
}

struct Schedule {
    start: OnceLock<Instant>,
    interval: Duration,
    messages: u64,
    streams: u64,
    size: usize,
}

impl Schedule {
    /// When a message is due, counted from the start.
    fn due(&self, message: u64) -> Duration {
        let nanos = self.interval.as_nanos() * u128::from(message);
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }

    /// How many messages one connection carries.
    fn of_stream(&self, stream: u64) -> u64 {
        let behind = self.messages.saturating_sub(stream);
        behind.div_ceil(self.streams)
    }
}

/// Sends every message when it is due, or as soon after that as the kernel takes it.
fn send(
    schedule: &Schedule,
    opened: &mpsc::Receiver<(usize, StdStream)>,
    late: &Times,
) -> io::Result<()> {
    // The default lets a sleep end 50 µs late, to save wake-ups.
    let _ = rustix::thread::set_current_timer_slack(NonZeroU64::new(1));
    let mut streams: Vec<(usize, StdStream)> = Vec::new();
    while (streams.len() as u64) < schedule.streams {
        // The receiving side knows why none comes any more.
        let Ok(stream) = opened.recv() else {
            return Ok(());
        };
        streams.push(stream);
    }
    streams.sort_by_key(|(number, _)| *number);
    let message = vec![0x5a; schedule.size];
    let start = Instant::now() + LEAD;
    let _ = schedule.start.set(start);
    for (number, (_, stream)) in (0..schedule.messages).zip(streams.iter().cycle()) {
        let due = start + schedule.due(number);
        let early = due.saturating_duration_since(Instant::now());
        if !early.is_zero() {
            thread::sleep(early);
        }
        late.record(due.elapsed());
        write_all(stream, &message)?;
    }
    for (_, stream) in &streams {
        stream.shutdown(Shutdown::Write)?;
    }
    Ok(())
}

/// Writes to a socket that the receiving side keeps non-blocking.
fn write_all(mut stream: &StdStream, mut bytes: &[u8]) -> io::Result<()> {
    let patience = Timespec::try_from(BENCH_STALL_DEADLINE).map_err(io::Error::other)?;
    while !bytes.is_empty() {
        match stream.write(bytes) {
            Ok(len) => bytes = &bytes[len..],
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                if poll(&mut [PollFd::new(stream, PollFlags::OUT)], Some(&patience))? == 0 {
                    return Err(io::ErrorKind::TimedOut.into());
                }
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// The receiving side of each connection.
#[derive(Clone)]
struct Receiver {
    to: Endpoint,
    schedule: Arc<Schedule>,
    writers: mpsc::Sender<(usize, StdStream)>,
    times: Times,
}

impl Load for Receiver {
    type Ready = (usize, TcpStream);

    async fn prepare(&self, number: usize) -> io::Result<(usize, TcpStream)> {
        let stream = warm(&self.to).await?.into_std()?;
        let writer = stream.try_clone()?;
        let lost = |_| io::Error::other("the sender ended early");
        self.writers.send((number, writer)).map_err(lost)?;
        Ok((number, TcpStream::from_std(stream)?))
    }

    async fn run(&self, ready: (usize, TcpStream), _: Instant) -> io::Result<Tally> {
        let (number, mut stream) = ready;
        let schedule = &*self.schedule;
        let size = schedule.size as u64;
        let expected = schedule.of_stream(number as u64);
        let mut chunk = vec![0; CHUNK.min(64 * schedule.size)];
        let (mut bytes, mut count) = (0, 0);
        loop {
            let len = match stream.read(&mut chunk).await? {
                0 => break,
                len => len as u64,
            };
            let now = Instant::now();
            bytes += len;
            while count < bytes / size {
                let message = count * schedule.streams + number as u64;
                if let Some(&start) = schedule.start.get() {
                    self.times
                        .record(now.saturating_duration_since(start + schedule.due(message)));
                }
                count += 1;
            }
        }
        let tally = Tally::transfer(expected * size, bytes)?;
        Ok(Tally { count, ..tally })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schedule(messages: u64, streams: u64) -> Schedule {
        Schedule {
            start: OnceLock::new(),
            interval: Duration::from_millis(1),
            messages,
            streams,
            size: 1,
        }
    }

    #[test]
    fn every_message_belongs_to_one_connection() {
        for messages in 0..20 {
            for streams in 1..8 {
                let schedule = schedule(messages, streams);
                let sum: u64 = (0..streams).map(|stream| schedule.of_stream(stream)).sum();
                assert_eq!(sum, messages, "{streams} streams");
            }
        }
    }

    #[test]
    fn messages_are_due_at_equal_intervals() {
        let schedule = schedule(10, 3);
        assert_eq!(schedule.due(0), Duration::ZERO);
        assert_eq!(schedule.due(7), Duration::from_millis(7));
    }
}
