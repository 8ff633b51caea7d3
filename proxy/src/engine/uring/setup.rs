//! Making a ring: what the kernel must offer and what the ring may do.
//!
//! 1. The kernel is 6.1 or newer; the ring is made disabled, for one thread only, with completion
//!    work deferred to that thread's own system calls (`DEFER_TASKRUN`; where a patched kernel
//!    refuses that, `COOP_TASKRUN`).
//! 2. Every operation in use is there; groups of provided buffers are registered.
//! 3. The ring is restricted to those operations and to no further registration, then enabled.

use std::io;

use io_uring::register::Restriction;
use io_uring::squeue::Flags;
use io_uring::{IoUring, Probe, opcode};
use rustix::io::Errno as SysErrno;

use super::super::config::OpenError;
use super::provided::Group;
use crate::limits::RING_COMPLETIONS_MAX;

const ENGINE: &str = "io_uring";
const PROVIDED: &str = "provided-buffers";
/// The oldest kernel with everything the engine relies on.
const OLDEST_KERNEL: (u32, u32) = (6, 1);

/// The operations in use, by code and name. The ring may do nothing else.
const OPERATIONS: [(u8, &str); 7] = [
    (opcode::Accept::CODE, "accept"),
    (opcode::AsyncCancel::CODE, "cancel"),
    (opcode::Close::CODE, "close"),
    (opcode::Connect::CODE, "connect"),
    (opcode::PollAdd::CODE, "poll"),
    (opcode::Recv::CODE, "recv"),
    (opcode::Send::CODE, "send"),
];

/// Entries of the two queues.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sizes {
    pub(super) submissions: u32,
    /// At least as many as `submissions`; completions beyond them wait in the kernel.
    pub(super) completions: u32,
}

/// Makes a ring for this thread alone, with the groups registered: restricted and enabled. And what
/// is in use, for `status`.
///
/// # Errors
/// As for [`Ring::open`](super::ring::Ring::open).
pub(super) fn make<'a>(
    sizes: Sizes,
    groups: impl Iterator<Item = &'a Group>,
) -> Result<(IoUring, Vec<&'static str>), OpenError> {
    check_kernel(&rustix::system::uname().release().to_string_lossy())?;
    let (ring, mode) = set_up(sizes)?;
    check_features(&ring)?;
    let submitter = ring.submitter();
    let mut features = vec![mode, "restricted", "multishot-accept"];
    for group in groups {
        group
            .register(&submitter)
            .map_err(|e| refused("registering buffers", e))?;
        if !features.contains(&PROVIDED) {
            features.push(PROVIDED);
        }
    }
    submitter
        .register_restrictions(&mut restrictions())
        .map_err(|e| refused("restricting the ring", e))?;
    submitter
        .register_enable_rings()
        .map_err(|e| refused("enabling the ring", e))?;
    Ok((ring, features))
}

/// Entries of the completion queue for that many sockets: one completion of each fits, so only a
/// burst on both directions of all of them overflows into the kernel's own list.
pub(super) fn completions_for(sockets: u32, submissions: u32) -> u32 {
    sockets
        .checked_next_power_of_two()
        .unwrap_or(RING_COMPLETIONS_MAX)
        .clamp(submissions.saturating_mul(2), RING_COMPLETIONS_MAX)
}

fn set_up(sizes: Sizes) -> Result<(IoUring, &'static str), OpenError> {
    let builder = || {
        let mut b = IoUring::builder();
        b.setup_single_issuer()
            .setup_clamp()
            .setup_submit_all()
            .setup_taskrun_flag()
            .setup_r_disabled()
            .setup_cqsize(sizes.completions)
            .dontfork();
        b
    };
    match builder().setup_defer_taskrun().build(sizes.submissions) {
        Ok(ring) => return Ok((ring, "defer-taskrun")),
        Err(e) if is(&e, SysErrno::INVAL) => {}
        Err(e) => return Err(refused("io_uring_setup", e)),
    }
    builder()
        .setup_coop_taskrun()
        .build(sizes.submissions)
        .map(|ring| (ring, "coop-taskrun"))
        .map_err(|e| refused("io_uring_setup", e))
}

fn check_kernel(release: &str) -> Result<(), OpenError> {
    let mut numbers = release
        .split(|c: char| !c.is_ascii_digit())
        .map(|part| part.parse::<u32>().unwrap_or(0));
    let version = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    if version < OLDEST_KERNEL {
        let (major, minor) = OLDEST_KERNEL;
        return Err(unavailable(format!(
            "this kernel is {release}, it needs {major}.{minor}"
        )));
    }
    Ok(())
}

fn check_features(ring: &IoUring) -> Result<(), OpenError> {
    let params = ring.params();
    let needed = [
        (params.is_feature_ext_arg(), "waiting with a timeout"),
        (params.is_feature_nodrop(), "keeping completions"),
        (params.is_feature_fast_poll(), "polling inside"),
        (params.is_feature_submit_stable(), "copying arguments"),
        (params.is_feature_skip_cqe_on_success(), "silent success"),
    ];
    if let Some((_, what)) = needed.iter().find(|(there, _)| !there) {
        return Err(unavailable(format!("the kernel's lacks {what}")));
    }
    let mut probe = Probe::new();
    ring.submitter()
        .register_probe(&mut probe)
        .map_err(|e| refused("probing", e))?;
    match OPERATIONS
        .iter()
        .find(|(code, _)| !probe.is_supported(*code))
    {
        Some((_, what)) => Err(unavailable(format!("the kernel's lacks {what}"))),
        None => Ok(()),
    }
}

/// The operations in use, with the two flags in use, and no registration.
fn restrictions() -> Vec<Restriction> {
    let flags = Flags::BUFFER_SELECT | Flags::SKIP_SUCCESS;
    OPERATIONS
        .iter()
        .map(|&(code, _)| Restriction::sqe_op(code))
        .chain([Restriction::sqe_flags_allowed(flags.bits())])
        .collect()
}

fn is(e: &io::Error, errno: SysErrno) -> bool {
    e.raw_os_error() == Some(errno.raw_os_error())
}

fn unavailable(why: String) -> OpenError {
    OpenError::Unavailable {
        engine: ENGINE,
        why,
    }
}

/// Sorts an error of set-up: a kernel or a sandbox that does not offer it, or a failure.
pub(super) fn refused(step: &str, e: io::Error) -> OpenError {
    let hint = if is(&e, SysErrno::PERM) {
        "a seccomp profile or the sysctl kernel.io_uring_disabled forbids it"
    } else if is(&e, SysErrno::ACCESS) {
        "a security policy forbids it"
    } else if is(&e, SysErrno::NOSYS) {
        "the kernel is built without it or a sandbox hides it"
    } else if is(&e, SysErrno::INVAL) || is(&e, SysErrno::OPNOTSUPP) {
        "the kernel does not know it"
    } else {
        return failed(e);
    };
    unavailable(format!("{step}: {e}: {hint}"))
}

/// An error that is no reason to use another engine.
pub(super) fn failed(source: io::Error) -> OpenError {
    OpenError::Failed {
        engine: ENGINE,
        source,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernels_before_6_1_are_refused() {
        for old in ["5.15.0-91-generic", "6.0.19", "4.4.0", "", "unknown"] {
            assert!(
                matches!(check_kernel(old), Err(OpenError::Unavailable { .. })),
                "{old}"
            );
        }
        for new in ["6.1.0-18-amd64", "6.18.44", "7.0", "10.2-rc1"] {
            assert!(check_kernel(new).is_ok(), "{new}");
        }
    }

    #[test]
    fn denial_falls_back_and_exhaustion_does_not() {
        for errno in [
            SysErrno::PERM,
            SysErrno::NOSYS,
            SysErrno::ACCESS,
            SysErrno::INVAL,
        ] {
            let e = refused("io_uring_setup", errno.into());
            assert!(matches!(e, OpenError::Unavailable { .. }), "{e}");
        }
        for errno in [SysErrno::NOMEM, SysErrno::MFILE, SysErrno::NFILE] {
            let e = refused("io_uring_setup", errno.into());
            assert!(matches!(e, OpenError::Failed { .. }), "{e}");
        }
    }

    #[test]
    fn the_completion_queue_holds_one_of_each_socket_within_the_kernels_bounds() {
        assert_eq!(completions_for(3, 1024), 2048);
        assert_eq!(completions_for(20_000, 1024), 32_768);
        assert_eq!(completions_for(1 << 20, 1024), RING_COMPLETIONS_MAX);
        assert_eq!(completions_for(u32::MAX, 1024), RING_COMPLETIONS_MAX);
    }
}
