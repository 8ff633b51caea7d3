//! Newtypes for the numbers and names that travel between modules, so that the compiler keeps
//! them apart.

use std::fmt;

/// The number of a stream on its lane. 0 is the lane itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamNo(pub u16);

impl StreamNo {
    /// Records about the lane, not about a stream of it.
    pub const LANE: StreamNo = StreamNo(0);
}

/// The number of a circuit in its bundle. 0 names the lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CircuitNo(pub u16);

/// A bundle (a lane and its circuits): 16 random bytes from the inlet. Logs show the first four.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct BundleId(pub [u8; 16]);

/// A relay session, as the clear part of a leg preface names it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SessionId(pub [u8; 16]);

/// SHA-256(project ‖ relay address): all that a leg preface says of where it wants to go.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AddressHash(pub [u8; 32]);

/// A portal (one inlet or one outlet of this process), by its place in the configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PortalNo(pub u16);

/// A worker of this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WorkerId(pub u8);

impl WorkerId {
    /// The one that every process has. Sessions are dialed there.
    pub const FIRST: WorkerId = WorkerId(0);

    /// Its place in a table of workers.
    pub const fn index(self) -> usize {
        self.0 as usize
    }

    /// All of a process that has so many.
    pub fn all(workers: u8) -> impl DoubleEndedIterator<Item = WorkerId> + Clone {
        (0..workers).map(WorkerId)
    }
}

/// Some of a process's workers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WorkerSet(u64);

const _: () = assert!(crate::limits::WORKERS_MAX as u32 <= u64::BITS);

impl WorkerSet {
    /// None.
    pub const NONE: WorkerSet = WorkerSet(0);

    /// Whether it is one of them.
    pub const fn has(self, worker: WorkerId) -> bool {
        (worker.0 as u32) < u64::BITS && self.0 & (1 << worker.0) != 0
    }

    /// These and one more.
    #[must_use]
    pub const fn with(self, worker: WorkerId) -> WorkerSet {
        if (worker.0 as u32) < u64::BITS {
            WorkerSet(self.0 | 1 << worker.0)
        } else {
            self
        }
    }

    /// They, lowest first.
    pub fn iter(self) -> impl Iterator<Item = WorkerId> {
        (0..u64::BITS as u8)
            .map(WorkerId)
            .filter(move |worker| self.has(*worker))
    }
}

impl FromIterator<WorkerId> for WorkerSet {
    fn from_iter<T: IntoIterator<Item = WorkerId>>(workers: T) -> WorkerSet {
        workers.into_iter().fold(WorkerSet::NONE, WorkerSet::with)
    }
}

/// A framed connection (session, leg or handshake) that a worker carries for control. Its name says
/// which worker that is; a connection that is handed to another worker gets another name.
///
/// Never used twice in a process. Control makes the even ones (dials and hand-overs), workers the
/// odd ones (accepted connections), so neither waits for the other to name one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LinkId(pub u64);

impl LinkId {
    /// A worker's names begin here: far more than one can use up.
    const OF_WORKER: u32 = 48;

    /// The `n`th name at that worker.
    pub const fn at(worker: WorkerId, n: u64) -> LinkId {
        LinkId((worker.0 as u64) << LinkId::OF_WORKER | n)
    }

    /// The worker that has it.
    pub const fn worker(self) -> WorkerId {
        let [_, worker, ..] = self.0.to_be_bytes();
        WorkerId(worker)
    }
}

macro_rules! debug_as_hex_prefix {
    ($($name:ident),*) => {$(
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({}…)"),
                    data_encoding::HEXLOWER.encode(&self.0[..4]))
            }
        }
    )*};
}
debug_as_hex_prefix!(SessionId, AddressHash);

impl fmt::Display for BundleId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&data_encoding::HEXLOWER.encode(&self.0[..4]))
    }
}

/// As logs show it: its type is clear from where it stands.
impl fmt::Debug for BundleId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_links_name_says_its_worker() {
        for (worker, n) in [(0, 2), (1, 1), (15, 1 << 40)] {
            assert_eq!(LinkId::at(WorkerId(worker), n).worker(), WorkerId(worker));
        }
        assert_ne!(LinkId::at(WorkerId(0), 2), LinkId::at(WorkerId(1), 2));
    }

    #[test]
    fn a_set_of_workers_has_those_that_were_put_in() {
        let set: WorkerSet = [WorkerId(3), WorkerId(0)].into_iter().collect();
        assert_eq!(set.iter().collect::<Vec<_>>(), [WorkerId(0), WorkerId(3)]);
        assert!(set.has(WorkerId(3)) && !set.has(WorkerId(1)) && !set.has(WorkerId(200)));
        assert_eq!(set.with(WorkerId(200)), set, "there are no such workers");
    }
}
