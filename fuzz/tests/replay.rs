//! Runs every target on its corpus and on mutations of it.
//!
//! The mutations are the same each time: `ADIT_SEED=N` replays those of one seed alone, which a
//! failure prints; `ADIT_TARGET=NAME` those of one target alone. `ADIT_LONG=1` tries more.
//! `UPDATE_CORPUS=1` writes the files of the seeds that a change of format has made stale.

#![expect(clippy::panic, reason = "a test fails by panicking")]

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use fuzz::{TARGETS, Target};

/// Mutations of each target in an ordinary run.
const ROUNDS: u64 = 4_000;
/// And in a long one.
const ROUNDS_LONG: u64 = 200_000;
/// No mutation is longer: two full records.
const LONGEST: usize = 40_000;

/// A stream of numbers from a seed (SplitMix64, Steele et al. 2014).
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `bound`, which is not 0.
    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }
}

fn folder(target: &Target) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("corpus")
        .join(target.name)
}

/// The corpus in order of its files' names.
fn corpus(target: &Target) -> Vec<(String, Vec<u8>)> {
    let entries = fs::read_dir(folder(target)).expect("every target has a corpus");
    let mut files: Vec<_> = entries
        .map(|entry| {
            let entry = entry.expect("the folder can be read");
            let name = entry.file_name().to_string_lossy().into_owned();
            (name, fs::read(entry.path()).expect("its files can be read"))
        })
        .collect();
    files.sort();
    files
}

/// One to four changes to one of the corpus's files.
fn mutate(corpus: &[(String, Vec<u8>)], numbers: &mut Numbers) -> Vec<u8> {
    let pick = |numbers: &mut Numbers| corpus[numbers.below(corpus.len())].1.clone();
    let mut bytes = pick(numbers);
    for _ in 0..=numbers.below(4) {
        let at = numbers.below(bytes.len() + 1);
        match numbers.below(8) {
            0 if at < bytes.len() => bytes[at] ^= 1 << numbers.below(8),
            1 if at < bytes.len() => {
                bytes[at] = [0, 1, 0x17, 0x18, 0x7f, 0x80, 0xfe, 0xff][numbers.below(8)]
            }
            2 if at < bytes.len() => bytes[at] = numbers.next() as u8,
            3 => bytes.truncate(at),
            4 => bytes.insert(at, numbers.next() as u8),
            5 if at < bytes.len() => {
                bytes.remove(at);
            }
            // A part of it, or of another file, once more.
            6 => {
                let other = pick(numbers);
                let from = numbers.below(other.len() + 1);
                let until = from + numbers.below(other.len() - from + 1);
                bytes.splice(at..at, other[from..until].iter().copied());
            }
            7 => {
                let until = at + numbers.below(bytes.len() - at + 1);
                bytes.drain(at..until);
            }
            _ => {}
        }
    }
    bytes.truncate(LONGEST);
    bytes
}

#[test]
fn corpora_hold_what_senders_write_today() {
    let mut stale = Vec::new();
    for target in TARGETS {
        for (name, bytes) in (target.seeds)() {
            assert!(
                (target.body)(&bytes),
                "{}: seed {name} is not accepted",
                target.name
            );
            let path = folder(target).join(name);
            if fs::read(&path).ok().as_ref() != Some(&bytes) {
                if std::env::var_os("UPDATE_CORPUS").is_some() {
                    fs::create_dir_all(folder(target)).expect("the folder can be made");
                    fs::write(&path, &bytes).expect("the file can be written");
                } else {
                    stale.push(path);
                }
            }
        }
    }
    assert!(
        stale.is_empty(),
        "UPDATE_CORPUS=1 cargo test -p fuzz writes them anew: {stale:?}"
    );
}

#[test]
fn no_file_of_a_corpus_makes_its_target_fail() {
    for target in TARGETS {
        for (name, bytes) in corpus(target) {
            let outcome = catch_unwind(|| (target.body)(&bytes));
            assert!(
                outcome.is_ok(),
                "{} fails on its corpus's file {name}",
                target.name
            );
        }
    }
}

#[test]
fn no_mutation_of_a_corpus_makes_its_target_fail() {
    let rounds = if std::env::var_os("ADIT_LONG").is_some() {
        ROUNDS_LONG
    } else {
        ROUNDS
    };
    let only = std::env::var("ADIT_SEED")
        .ok()
        .map(|seed| seed.parse::<u64>().expect("ADIT_SEED is a number"));
    let seeds = only.map_or(0..rounds, |seed| seed..seed + 1);
    let meant = std::env::var("ADIT_TARGET").ok();
    let meant = |target: &&Target| meant.as_deref().is_none_or(|name| name == target.name);
    for target in TARGETS.iter().filter(meant) {
        let corpus = corpus(target);
        let mut accepted = 0;
        for seed in seeds.clone() {
            let bytes = mutate(&corpus, &mut Numbers(seed));
            let outcome = catch_unwind(AssertUnwindSafe(|| (target.body)(&bytes)));
            match outcome {
                Ok(yes) => accepted += u64::from(yes),
                Err(_) => panic!(
                    "{} fails; alone: ADIT_SEED={seed} cargo test -p fuzz; bytes: {}",
                    target.name,
                    bytes
                        .iter()
                        .map(|byte| format!("{byte:02x}"))
                        .collect::<String>()
                ),
            }
        }
        println!(
            "{}: {} mutations, {accepted} accepted",
            target.name,
            seeds.end - seeds.start
        );
    }
}

#[test]
fn every_target_can_be_searched_by_cargo_fuzz() {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let manifest =
        fs::read_to_string(here.join("libfuzzer/Cargo.toml")).expect("the manifest is there");
    for target in TARGETS {
        let file = here.join(format!("fuzz_targets/{}.rs", target.name));
        let line = fs::read_to_string(&file).unwrap_or_default();
        assert!(
            line.contains(&format!("fuzz::run(\"{}\", bytes)", target.name)),
            "{} is missing",
            file.display()
        );
        assert!(
            manifest.contains(&format!("name = \"{}\"", target.name)),
            "{} is not in the manifest",
            target.name
        );
    }
    assert_eq!(
        manifest.matches("[[bin]]").count(),
        TARGETS.len(),
        "the manifest names targets that are gone"
    );
}
