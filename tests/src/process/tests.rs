use super::*;

const SHORTLY: Duration = Duration::from_secs(10);

fn shell(script: &str) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", script]);
    command
}

#[test]
fn a_run_returns_all_that_was_printed_and_the_code() {
    let ended = Process::run("sh", shell("echo out; echo err >&2; exit 3"), SHORTLY).unwrap();
    assert_eq!(
        (ended.text().as_str(), ended.stderr.as_str()),
        ("out\n", "err\n")
    );
    assert_eq!(ended.code(), Some(3));
    assert!(ended.success().is_err());
}

#[test]
fn a_line_is_found_however_early_it_came() {
    let process = Process::spawn("sh", shell("echo one >&2; echo two >&2; cat")).unwrap();
    assert_eq!(process.wait_for_line(&["t", "wo"], SHORTLY).unwrap(), "two");
    assert_eq!(process.wait_for_line(&["one"], SHORTLY).unwrap(), "one");
    assert_eq!(process.lines_with(&["o"]), ["one", "two"]);
}

#[test]
fn a_wait_for_a_line_ends_with_the_program_and_at_its_deadline() {
    let ended = Process::spawn("sh", shell("echo no >&2")).unwrap();
    let why = ended.wait_for_line(&["yes"], SHORTLY).unwrap_err();
    assert!(
        why.0.contains("ended before") && why.0.contains("no"),
        "{why}"
    );
    let mut endless = Command::new("tail");
    endless.args(["-f", "/dev/null"]);
    let endless = Process::spawn("tail", endless).unwrap();
    let why = endless
        .wait_for_line(&["yes"], Duration::from_millis(10))
        .unwrap_err();
    assert!(why.0.contains("the time is over"), "{why}");
}

#[test]
fn a_program_that_still_runs_is_an_error_at_the_deadline_and_a_kill_ends_it() {
    let mut command = Command::new("tail");
    command.args(["-f", "/dev/null"]);
    let mut process = Process::spawn("tail", command).unwrap();
    assert!(process.wait(Duration::from_millis(10)).is_err());
    assert!(process.runs());
    assert!(process.resident_bytes().unwrap() > 0);
    process.kill();
    assert!(!process.runs());
    assert_eq!(process.wait(SHORTLY).unwrap().code(), None);
}

#[test]
fn a_program_is_fed_its_input() {
    let mut process = Process::spawn_fed("cat", Command::new("cat"), b"fed".to_vec()).unwrap();
    assert_eq!(process.wait(SHORTLY).unwrap().code(), Some(0));
    assert_eq!(process.finish(SHORTLY).unwrap().text(), "fed");
}

#[test]
fn what_never_happens_is_an_error_that_says_what_was_seen_last() {
    let mut attempts = 0;
    let never = eventually("it", Duration::from_millis(50), || {
        attempts += 1;
        Err::<(), _>(Failure(format!("attempt {attempts}")))
    });
    assert!(
        never
            .unwrap_err()
            .0
            .contains(&format!("attempt {attempts}"))
    );
    assert!(attempts > 1);
}
