//! `adit bench`: what it prints can be believed. Nothing here is about speed: the runs are too short
//! for that, and the build is not optimized.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::path::Path;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;
use tempfile::TempDir;
use tests::portal::{self, Engine, Portal, SHORTLY, START};
use tests::process::{Ended, Failure, Process, eventually};
use tests::tcp::Service;

tests::on_both_engines!(every_byte_of_an_own_portal_is_counted_there_and_back);

/// A short run is over by then, also where other tests keep the machine busy.
const PATIENCE: Duration = Duration::from_secs(120);

/// `adit bench` in a home of its own, with its temporary files there too.
fn bench(home: &Path, args: &[&str]) -> Process {
    let args = [&["bench"], args].concat();
    let mut command = portal::command(home, &args).unwrap();
    command.env("TMPDIR", home);
    Process::spawn("bench", command).unwrap()
}

fn bench_to_its_end(args: &[&str]) -> Ended {
    let home = TempDir::with_prefix("adit-test-").unwrap();
    let ended = bench(home.path(), args).finish(PATIENCE).unwrap();
    leaves_nothing(home.path());
    ended
}

fn leaves_nothing(home: &Path) {
    let left: Vec<_> = fs::read_dir(home).unwrap().collect();
    assert!(left.is_empty(), "{left:?}");
}

fn cells(report: &Value) -> &[Value] {
    report["cells"].as_array().unwrap()
}

/// The figures of a round that must be there; an absent one fails.
fn figure(round: &Value, name: &str) -> f64 {
    round[name]
        .as_f64()
        .unwrap_or_else(|| unreachable!("no {name} in {round}"))
}

/// What holds for every run of every workload.
fn is_plausible(cell: &Value) {
    let workload = cell["workload"].as_str().unwrap();
    for round in cell["rounds"].as_array().unwrap() {
        let sent = figure(round, "bytes_sent");
        assert!(sent > 0.0, "{cell}");
        assert_eq!(sent, figure(round, "bytes_arrived"), "{cell}");
        assert!(figure(round, "seconds") > 0.0, "{cell}");
        if ["upload", "download", "echo"].contains(&workload) {
            let gbit = sent * 8.0 / 1e9 / figure(round, "seconds");
            assert!((gbit / figure(round, "gbit_per_s") - 1.0).abs() < 1e-6);
            continue;
        }
        assert!(figure(round, "count") > 0.0, "{cell}");
        assert_eq!(figure(round, "failed"), 0.0, "{cell}");
        let times = ["p50_us", "p99_us", "p999_us", "max_us"].map(|name| figure(round, name));
        assert!(times[0] > 0.0 && times.is_sorted(), "{times:?}");
    }
    for spread in cell["spread"].as_object().unwrap().values() {
        assert!(spread.as_f64().unwrap() >= 0.0, "{cell}");
    }
}

fn every_byte_of_an_own_portal_is_counted_there_and_back(engine: Engine) {
    let short = ["--secs", "0.1", "--rounds", "2", "--streams", "3"];
    let size = ["--size", "100", "--rate", "500", "--json"];
    let args = [&short[..], &size, &["--engine", engine.name()]].concat();
    let ended = bench_to_its_end(&args);
    assert!(ended.stderr.contains("[32/32] round 2: connects ×3"));
    let report = ended.json().unwrap();
    assert_eq!(report["engine"], engine.name());
    assert_eq!(report["portal"], "own");
    assert!(report["machine"]["kernel"].is_string());
    // Eight workloads over two ways.
    assert_eq!(cells(&report).len(), 16);
    for cell in cells(&report) {
        assert_eq!(cell["rounds"].as_array().unwrap().len(), 2);
        is_plausible(cell);
        for round in cell["rounds"].as_array().unwrap() {
            match cell["workload"].as_str().unwrap() {
                "latency" => assert_eq!(figure(round, "count"), 50.0),
                "round-trips" => {
                    assert_eq!(figure(round, "bytes_sent"), 100.0 * figure(round, "count"));
                }
                _ => {}
            }
            let unit = match cell["workload"].as_str().unwrap() {
                "upload" | "download" => "cpu_s_per_gib",
                _ => "cpu_us_each",
            };
            if cell["way"] == "direct" {
                assert_eq!(round[unit], Value::Null);
                continue;
            }
            assert!(cell["of_direct"]["ratio"].as_f64().unwrap() > 0.0);
            let parts = ["inlet", "serve", "outlet"];
            let parts = parts.map(|part| figure(round, &format!("{part}_{unit}")));
            let sum: f64 = parts.iter().sum();
            assert!(parts.iter().all(|&part| part > 0.0), "{round}");
            assert!((sum / figure(round, unit) - 1.0).abs() < 1e-6, "{round}");
        }
    }
}

#[test]
fn a_portal_that_runs_already_is_measured_next_to_its_service() {
    let service = Service::echo().unwrap();
    let portal = Portal::start(Engine::Epoll, service.address()).unwrap();
    let (to, direct) = (portal.entry().to_string(), service.address().to_string());
    let short = ["--secs", "0.1", "--rounds", "1", "--streams", "2", "--json"];
    let args = [&["--to", &to, "--direct", &direct], &short[..]].concat();
    let report = bench_to_its_end(&args).json().unwrap();
    assert_eq!(report["portal"], "existing");
    assert_eq!(report["engine"], "unknown");
    assert_eq!(cells(&report).len(), 12);
    for cell in cells(&report) {
        is_plausible(cell);
        // Whose processes they are, and on which machine, is not known.
        let figures = cell["median"].as_object().unwrap();
        assert!(figures.keys().all(|name| !name.contains("cpu")), "{cell}");
    }
}

#[test]
fn a_person_reads_a_table() {
    let service = Service::echo().unwrap();
    let to = service.address().to_string();
    let short = ["--secs", "0.05", "--rounds", "1", "--streams", "2"];
    let ended = bench_to_its_end(&[&["--to", &to], &short[..]].concat());
    let text = ended.success().unwrap().text();
    for part in ["WORKLOAD", "echo ×1", "echo ×2", "connects ×2", "unknown"] {
        assert!(text.contains(part), "no {part:?} in\n{text}");
    }
}

#[test]
fn an_interrupted_run_ends_its_portal() {
    let home = TempDir::with_prefix("adit-test-").unwrap();
    let endless = ["--secs", "0.05", "--rounds", "1000", "--streams", "2"];
    let mut running = bench(home.path(), &endless);
    running.wait_for_line(&["[2/"], START).unwrap();
    let children = format!("/proc/{0}/task/{0}/children", running.id());
    let children = fs::read_to_string(children).unwrap();
    let children: Vec<&str> = children.split_whitespace().collect();
    assert_eq!(children.len(), 3, "serve, outlet, inlet");
    running.signal(Signal::INT);
    let why = running.wait_for_line(&["ADIT-1601", "interrupted"], SHORTLY);
    why.unwrap();
    assert_eq!(running.wait(SHORTLY).unwrap().code(), Some(1));
    eventually(
        "the portal's processes are gone",
        SHORTLY,
        || match children.iter().find(|id| is_there(id)) {
            Some(id) => Err(Failure(format!("process {id} is there"))),
            None => Ok(()),
        },
    )
    .unwrap();
    leaves_nothing(home.path());
}

fn is_there(id: &str) -> bool {
    Path::new("/proc").join(id).exists()
}

#[test]
fn a_service_that_answers_other_bytes_is_an_error() {
    let closing = Service::closing().unwrap();
    let talking = Service::greeting(b"what nobody asked for").unwrap();
    for service in [closing, talking] {
        let to = service.address().to_string();
        let short = ["--secs", "0.05", "--rounds", "1", "--streams", "1"];
        let ended = bench_to_its_end(&[&["--to", &to], &short[..]].concat());
        ended.failure(1, "ADIT-1601").unwrap();
    }
}

#[test]
fn what_can_not_be_measured_is_refused() {
    for (args, expected) in [
        (&["--direct", "db.example.com:5432"][..], "--to"),
        (&["--secs", "0"], "--secs"),
        (&["--streams", "0"], "--streams"),
        (&["--rate", "0"], "--rate"),
        (&["--size", "1g"], "--size"),
    ] {
        bench_to_its_end(args).failure(2, expected).unwrap();
    }
}
