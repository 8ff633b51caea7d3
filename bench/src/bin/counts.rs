//! Does one piece of work so many times, and nothing else: `counts NAME TIMES`, for callgrind.
//! `counts` alone prints the names. `bench/callgrind.sh` runs it twice with different TIMES, so that
//! what it takes to start and prepare falls out of the difference.

use std::process::ExitCode;

use bench::work::ALL;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [name, times] = args.as_slice() else {
        for work in &ALL {
            println!("{}", work.name);
        }
        return ExitCode::SUCCESS;
    };
    let work = ALL.iter().find(|work| work.name == name);
    let (Some(work), Ok(times)) = (work, times.parse::<u32>()) else {
        eprintln!("usage: counts [NAME TIMES]; counts alone prints the names");
        return ExitCode::from(2);
    };
    let mut again = (work.prepare)();
    for _ in 0..times {
        again();
    }
    ExitCode::SUCCESS
}
