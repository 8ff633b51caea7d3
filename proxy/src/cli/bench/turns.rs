//! Closed loops: the next message, or connection, when the last has come back. They show what rate is
//! possible; their times leave out what waits, so the schedule of [`open_loop`](super::open_loop) is
//! there for latency.

use std::io;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::endpoint::{Endpoint, Mode};
use super::figures::Times;
use super::fleet::{Load, Tally};

/// Messages there and back.
#[derive(Clone)]
pub(super) struct RoundTrips {
    pub(super) to: Endpoint,
    pub(super) size: usize,
    pub(super) times: Times,
}

impl Load for RoundTrips {
    type Ready = TcpStream;

    async fn prepare(&self, _: usize) -> io::Result<TcpStream> {
        warm(&self.to).await
    }

    async fn run(&self, mut stream: TcpStream, until: Instant) -> io::Result<Tally> {
        let mut message = vec![0; self.size];
        let mut back = vec![0; self.size];
        let mut count = 0_u64;
        loop {
            let sent = Instant::now();
            if sent >= until {
                break;
            }
            for (byte, number) in message.iter_mut().zip(count.to_le_bytes()) {
                *byte = number;
            }
            stream.write_all(&message).await?;
            stream.read_exact(&mut back).await?;
            self.times.record(sent.elapsed());
            if back != message {
                let what = "another message came back than was sent";
                return Err(io::Error::new(io::ErrorKind::InvalidData, what));
            }
            count += 1;
        }
        end(&mut stream).await?;
        let bytes = count * self.size as u64;
        Ok(Tally {
            sent: bytes,
            arrived: bytes,
            count,
            failed: 0,
        })
    }
}

/// An echoing connection on which a byte went there and back already.
pub(super) async fn warm(to: &Endpoint) -> io::Result<TcpStream> {
    let mut stream = to.open(Mode::Echo).await?;
    stream.write_all(&[1]).await?;
    stream.read_exact(&mut [0]).await?;
    Ok(stream)
}

/// Ends a connection in good order: nothing more comes.
async fn end(stream: &mut TcpStream) -> io::Result<()> {
    stream.shutdown().await?;
    match stream.read(&mut [0]).await? {
        0 => Ok(()),
        _ => {
            let what = "more came back than was sent";
            Err(io::Error::new(io::ErrorKind::InvalidData, what))
        }
    }
}

/// Connections, one after the other, with one byte there and back each.
#[derive(Clone)]
pub(super) struct Connects {
    pub(super) to: Endpoint,
    pub(super) times: Times,
}

impl Load for Connects {
    type Ready = ();

    async fn prepare(&self, _: usize) -> io::Result<()> {
        Ok(())
    }

    async fn run(&self, (): (), until: Instant) -> io::Result<Tally> {
        let mut tally = Tally::default();
        let mut last_failure = None;
        loop {
            let began = Instant::now();
            if began >= until {
                break;
            }
            match self.one().await {
                Ok(()) => {
                    self.times.record(began.elapsed());
                    tally = tally.plus(Tally {
                        sent: 1,
                        arrived: 1,
                        count: 1,
                        failed: 0,
                    });
                }
                Err(error) => {
                    tally.failed += 1;
                    last_failure = Some(error);
                    // Local ports may be used up; the next attempt must not find it so at once.
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
            }
        }
        match last_failure {
            // It never worked: not a matter of load.
            Some(error) if tally.count == 0 => Err(error),
            _ => Ok(tally),
        }
    }
}

impl Connects {
    async fn one(&self) -> io::Result<()> {
        let mut stream = self.to.open_with(&[7]).await?;
        let back = stream.read_u8().await?;
        if back == 7 {
            Ok(())
        } else {
            Err(io::ErrorKind::InvalidData.into())
        }
    }
}
