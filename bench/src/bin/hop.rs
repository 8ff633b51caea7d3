//! `hop [SECONDS [ROUNDS]]`: one plain TCP hop in five ways, side by side. Each way is a process of
//! its own, and runs in turn in every round; the table shows medians, and the lowest and highest round.
//!
//! `hop serve KIND TARGET` is such a process.

use std::error::Error;
use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

use bench::hop::load::{self, CONNECTIONS, Done, MESSAGE};
use bench::hop::{self, Kind};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match args.as_slice() {
        ["serve", kind, target] => Ok(hop::serve(kind.parse()?, target.parse()?)?),
        [] => compare(2.0, 3),
        [seconds] => compare(seconds.parse()?, 3),
        [seconds, rounds] => compare(seconds.parse()?, rounds.parse()?),
        _ => Err("usage: hop [SECONDS [ROUNDS]]".into()),
    }
}

/// A hop's process.
struct Running {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    address: SocketAddr,
}

impl Running {
    fn start(kind: Kind, target: SocketAddr) -> Result<Running> {
        let mut child = Command::new(std::env::current_exe()?)
            .args(["serve", kind.name(), &target.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let (Some(input), Some(output)) = (child.stdin.take(), child.stdout.take()) else {
            return Err("a child without pipes".into());
        };
        let mut output = BufReader::new(output);
        let address = line(&mut output)?.parse()?;
        Ok(Running {
            child,
            input,
            output,
            address,
        })
    }

    fn cpu_time(&mut self) -> Result<Duration> {
        self.input.write_all(b"\n")?;
        Ok(Duration::from_nanos(line(&mut self.output)?.parse()?))
    }

    /// Puts load through it; what was done, and the processor time it took.
    fn load(
        &mut self,
        load: fn(SocketAddr, Duration) -> std::io::Result<Done>,
        time: Duration,
    ) -> Result<(Done, Duration)> {
        let before = self.cpu_time()?;
        let done = load(self.address, time)?;
        Ok((done, self.cpu_time()?.saturating_sub(before)))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn line(from: &mut BufReader<ChildStdout>) -> Result<String> {
    let mut line = String::new();
    from.read_line(&mut line)?;
    if line.is_empty() {
        return Err("the hop's process ended".into());
    }
    Ok(line.trim().to_owned())
}

/// What one way gave, round by round.
#[derive(Default)]
struct Figures {
    gbit_per_s: Vec<f64>,
    cpu_s_per_gib: Vec<f64>,
    round_trips_per_s: Vec<f64>,
    cpu_us_per_round_trip: Vec<f64>,
}

fn compare(seconds: f64, rounds: usize) -> Result<()> {
    let time = Duration::try_from_secs_f64(seconds)?;
    let service = load::service()?;
    let mut figures: Vec<Figures> = Vec::new();
    let mut hops: Vec<Option<Running>> = Vec::new();
    for kind in Kind::ALL {
        let hop = Running::start(kind, service);
        if let Err(error) = &hop {
            eprintln!("SKIPPED: {}: {error}", kind.name());
        }
        hops.push(hop.ok());
        figures.push(Figures::default());
    }
    for round in 0..rounds {
        for turn in 0..hops.len() {
            let at = (turn + round) % hops.len();
            let (Some(hop), figures) = (&mut hops[at], &mut figures[at]) else {
                continue;
            };
            let (done, cpu) = hop.load(load::bulk, time)?;
            let gib = done.amount as f64 / f64::from(1 << 30);
            let gbit = done.amount as f64 * 8.0 / 1e9;
            figures.gbit_per_s.push(gbit / done.time.as_secs_f64());
            figures.cpu_s_per_gib.push(cpu.as_secs_f64() / gib);
            let (done, cpu) = hop.load(load::small, time)?;
            let count = done.amount as f64;
            figures
                .round_trips_per_s
                .push(count / done.time.as_secs_f64());
            figures
                .cpu_us_per_round_trip
                .push(cpu.as_secs_f64() * 1e6 / count);
        }
    }
    println!("medians of {rounds} rounds of {seconds} s; the hop's processor time only");
    println!("a round trip of {MESSAGE} bytes on {CONNECTIONS} connections: two messages each\n");
    println!(
        "{:<11}  {:<20}  {:<19}  {:<24}  CPU µs EACH",
        "HOP", "BULK Gbit/s", "CPU s/GiB", "ROUND TRIPS /s"
    );
    for (kind, figures) in Kind::ALL.iter().zip(&mut figures) {
        let [gbit, per_gib, trips, each] = [
            &mut figures.gbit_per_s,
            &mut figures.cpu_s_per_gib,
            &mut figures.round_trips_per_s,
            &mut figures.cpu_us_per_round_trip,
        ]
        .map(|values| spread(values));
        let name = kind.name();
        println!("{name:<11}  {gbit:<20}  {per_gib:<19}  {trips:<24}  {each}");
    }
    Ok(())
}

/// The median, and the lowest and the highest of them.
fn spread(values: &mut [f64]) -> String {
    values.sort_by(f64::total_cmp);
    let (Some(low), Some(high)) = (values.first(), values.last()) else {
        return "-".into();
    };
    let digits = match values[values.len() / 2] {
        ..10.0 => 2,
        10.0..100.0 => 1,
        _ => 0,
    };
    let median = values[values.len() / 2];
    format!("{median:.digits$} ({low:.digits$}–{high:.digits$})")
}
