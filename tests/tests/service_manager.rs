//! What a service manager that started adit hears of it (`Type=notify`).

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::os::unix::net::UnixDatagram;
use std::path::Path;

use rustix::process::Signal;
use tests::portal::{self, Engine, Project};
use tests::process::Process;
use tests::tcp::PATIENCE;

/// A manager's socket in the directory.
fn manager(directory: &Path) -> UnixDatagram {
    let socket = UnixDatagram::bind(directory.join("manager")).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket
}

/// What the manager hears next.
fn hears(socket: &UnixDatagram) -> String {
    let mut buffer = [0; 512];
    let length = socket.recv(&mut buffer).unwrap();
    String::from_utf8(buffer[..length].to_vec()).unwrap()
}

#[test]
fn a_manager_hears_of_the_start_what_is_reached_and_the_end() {
    let project = Project::start(Engine::Epoll).unwrap();
    let home = project.home("inlet").unwrap();
    let socket = manager(&home);
    let ticket = project.inlet_ticket("inlet").unwrap();
    let ticket = ticket.to_str().unwrap();
    let args = ["inlet", "--ticket", ticket, "--via", portal::ADDRESS];
    let from = ["--from", "127.0.0.1:0", "--allow", portal::OUTLET_RULE];
    let mut inlet = portal::command(&home, &[&args[..], &from].concat()).unwrap();
    inlet.env("NOTIFY_SOCKET", home.join("manager"));
    let mut inlet = Process::spawn("inlet", inlet).unwrap();
    // There is no outlet, so it is never ready: that must not keep a unit from counting as started.
    assert_eq!(
        hears(&socket),
        "READY=1\nSTATUS=not a member, not ready; adit status says why"
    );
    assert_eq!(
        hears(&socket),
        "STATUS=not ready; adit status says why",
        "it became a member"
    );
    inlet.signal(Signal::TERM);
    assert!(hears(&socket).starts_with("STOPPING=1\n"));
}
