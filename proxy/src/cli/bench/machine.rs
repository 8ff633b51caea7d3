//! The machine that is measured on, and the processor time of its processes.

use std::fs;
use std::path::Path;
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

use super::plan::Counted;

/// What the figures depend on. What can't be read is `unknown`.
pub(super) struct Machine {
    processor: String,
    processors: usize,
    kernel: String,
    /// Of the last minute, before the benchmark began.
    load: String,
}

impl Machine {
    /// This one, now.
    pub(super) fn look() -> Machine {
        let first_word = |text: String| text.split_whitespace().next().map(str::to_owned);
        let unknown = || "unknown".to_string();
        Machine {
            processor: processor().unwrap_or_else(unknown),
            processors: thread::available_parallelism().map_or(1, usize::from),
            kernel: read("/proc/sys/kernel/osrelease").unwrap_or_else(unknown),
            load: read("/proc/loadavg")
                .and_then(first_word)
                .unwrap_or_else(unknown),
        }
    }

    /// For programs.
    pub(super) fn json(&self) -> Value {
        json!({
            "processor": self.processor,
            "processors": self.processors,
            "kernel": self.kernel,
            "load": self.load,
        })
    }

    /// For people, in one line.
    pub(super) fn text(&self) -> String {
        format!(
            "{} × {}, Linux {}, load {}",
            self.processors, self.processor, self.kernel, self.load
        )
    }
}

fn read(path: impl AsRef<Path>) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    Some(text.trim().to_string())
}

fn processor() -> Option<String> {
    let info = read("/proc/cpuinfo")?;
    let line = info.lines().find(|line| line.starts_with("model name"))?;
    let (_, name) = line.split_once(':')?;
    Some(name.trim().to_string())
}

/// The processor time, user and system, that the threads of a process have used; nothing where the
/// kernel does not say. Threads that have ended are not in it: adit's end with their process.
pub(super) fn cpu_time(process: &Counted) -> Option<Duration> {
    let tasks = fs::read_dir(format!("/proc/{}/task", process.id)).ok()?;
    let mut total = Duration::ZERO;
    for task in tasks {
        // `schedstat`: nanoseconds on a processor, nanoseconds waiting for one, time slices.
        let Some(stat) = read(task.ok()?.path().join("schedstat")) else {
            // It has ended since the folder was read.
            continue;
        };
        let nanos = stat.split(' ').next()?.parse().ok()?;
        total += Duration::from_nanos(nanos);
    }
    Some(total)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn the_time_of_a_process_grows_with_its_work() {
        // A process of one thread that ends only when killed: the sum over this one's threads
        // shrinks whenever another test ends.
        let mut child = Command::new("sh")
            .args(["-c", "while :; do :; done"])
            .spawn()
            .unwrap();
        let busy = Counted {
            role: "busy",
            id: child.id(),
        };
        let before = cpu_time(&busy).unwrap();
        while cpu_time(&busy).unwrap() == before {
            thread::yield_now();
        }
        let after = cpu_time(&busy).unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(after > before);
        let nobody = Counted {
            role: "nobody",
            id: u32::MAX,
        };
        assert_eq!(cpu_time(&nobody), None);
    }

    #[test]
    fn the_machine_is_told() {
        let machine = Machine::look();
        assert!(machine.processors > 0);
        assert!(machine.text().contains("Linux"), "{}", machine.text());
        assert!(machine.json()["kernel"].is_string());
    }
}
