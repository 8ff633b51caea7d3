//! What streams and circuits cost in memory, by the sizes of the types: the table of
//! BENCHMARKING.md is what this makes, and its bounds are asserted. After a change:
//! `UPDATE_EXAMPLES=1 cargo test -p proxy --lib footprint`.

use std::path::PathBuf;

use super::net::Slot;
use super::slab::Slab;
use crate::engine::{Class, Epoll, Uring};
use crate::limits::{CREDIT_MAX, PIPE_SIZE};
use crate::protocol::lane::Lane;
use crate::protocol::pairing::Pairing;

const BEGIN: &str = "<!-- table: memory -->";
const END: &str = "<!-- end -->";
/// Most that an idle stream may cost in all three processes.
const IDLE_STREAM_MAX: usize = 3 * 1024;
/// Most that an idle circuit may cost at a relay.
const IDLE_CIRCUIT_MAX: usize = 2 * 1024;
/// Names of free slots and places.
const FREE_LISTS: usize = 2 * size_of::<u32>();

/// A slot of the worker and a socket of the engine: io_uring, epoll.
fn socket() -> [usize; 2] {
    [Uring::SOCKET, Epoll::SOCKET].map(|socket| Slab::<Slot>::ENTRY + socket + FREE_LISTS)
}

fn idle_stream() -> [usize; 2] {
    socket().map(|socket| 2 * (socket + Lane::STREAM))
}

fn idle_circuit() -> [usize; 2] {
    socket().map(|socket| 2 * (socket + Pairing::LEG))
}

fn table() -> String {
    let kib = |bytes: usize| format!("{} KiB", bytes / 1024);
    let both = |[uring, epoll]: [usize; 2]| format!("{uring} | {epoll}");
    let same = |text: String| format!("{text} | {text}");
    let rows = [
        ("worker's slot and engine's socket", both(socket())),
        ("stream's number on its lane", both([Lane::STREAM; 2])),
        (
            "**idle stream**, inlet and outlet together",
            both(idle_stream()),
        ),
        (
            "+ while an app's bytes wait for their turn, each direction",
            same(format!(
                "{} to {}",
                kib(Class::Small.size()),
                kib(Class::Medium.size())
            )),
        ),
        (
            "+ while an app does not read, each direction: at most",
            same(kib(CREDIT_MAX as usize)),
        ),
        (
            "+ while it is on a circuit, each direction: at most",
            same(kib(2 * Class::Bulk.size())),
        ),
        ("leg in the relay's books", both([Pairing::LEG; 2])),
        (
            "**idle circuit**, paired, at the relay",
            both(idle_circuit()),
        ),
        (
            "+ while bytes wait for the other leg, each direction: at most",
            same(kib(2 * Class::Large.size())),
        ),
        (
            "+ while it is bulk, each direction: a pipe, in the kernel, at most",
            same(kib(PIPE_SIZE)),
        ),
    ];
    let mut table = String::from("| bytes | io_uring | epoll |\n|---|---|---|\n");
    for (what, cells) in rows {
        table.push_str(&format!("| {what} | {cells} |\n"));
    }
    table
}

#[test]
fn an_idle_stream_and_an_idle_circuit_keep_within_their_bounds() {
    for (stream, circuit) in idle_stream().into_iter().zip(idle_circuit()) {
        assert!(stream + stream / 4 <= IDLE_STREAM_MAX, "{stream} bytes");
        // An allocator rounds up the nodes of the relay's books, by at most a quarter; slots and
        // sockets lie in blocks of many.
        let circuit = circuit + 2 * Pairing::LEG / 4;
        assert!(circuit <= IDLE_CIRCUIT_MAX, "{circuit} bytes");
    }
}

#[test]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
fn the_page_shows_what_the_types_cost() {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../BENCHMARKING.md");
    let page = std::fs::read_to_string(&path).unwrap();
    let (before, rest) = page.split_once(BEGIN).unwrap();
    let (is, after) = rest.split_once(END).unwrap();
    let should = format!("\n{}", table());
    if std::env::var_os("UPDATE_EXAMPLES").is_some() {
        std::fs::write(path, format!("{before}{BEGIN}{should}{END}{after}")).unwrap();
    } else {
        assert_eq!(
            is, should,
            "if the change is meant: UPDATE_EXAMPLES=1 cargo test -p proxy --lib footprint"
        );
    }
}
