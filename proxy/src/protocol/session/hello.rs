//! What messages 2 and 3 of every handshake begin with: versions, suites, capabilities, and what
//! the sender shows of itself. `[version min, version max, suite mask, capabilities, evidence]`,
//! canonical CBOR.

use crypto::check::Evidence;
use crypto::suite::{Suite, SuiteMask, preferred};
use minicbor::{Decoder, Encoder};

use super::SessionError;
use crate::protocol::canonical::{self, Canonical, NotCanonical, Written};
use crate::protocol::preface::VERSION;

/// Capability: fresh keys are exchanged within a lane.
pub const EXCHANGES_KEYS: u64 = 1;

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hello {
    /// Lowest version the sender speaks.
    pub version_min: u8,
    /// Highest version the sender speaks.
    pub version_max: u8,
    /// Suites the sender offers, after its own policy.
    pub suites: SuiteMask,
    /// Capability bits; unknown ones are ignored.
    pub capabilities: u64,
    /// The encoded evidence.
    pub evidence: Vec<u8>,
}

impl Hello {
    /// What this build says.
    pub fn new(suites: SuiteMask, evidence: &Evidence) -> Hello {
        Hello {
            version_min: VERSION,
            version_max: VERSION,
            suites,
            capabilities: EXCHANGES_KEYS,
            evidence: evidence.encode(),
        }
    }

    /// Whether the sender exchanges keys within lanes.
    pub fn exchanges_keys(&self) -> bool {
        self.capabilities & EXCHANGES_KEYS != 0
    }

    /// Compares versions, and the suite in use with the one that both masks give: a choice that
    /// somebody on the way has steered ends here. Returns what the peer shows.
    ///
    /// # Errors
    /// [`SessionError`] of versions, suite or evidence, in this order.
    pub fn judge(&self, ours: SuiteMask, in_use: Suite) -> Result<Evidence, SessionError> {
        if !(self.version_min..=self.version_max).contains(&VERSION) {
            return Err(SessionError::Version(self.version_min, self.version_max));
        }
        if preferred(ours, self.suites) != Some(in_use) {
            return Err(SessionError::Suite);
        }
        Ok(Evidence::decode(&self.evidence)?)
    }
}

impl Canonical for Hello {
    fn write(&self, to: &mut Encoder<Vec<u8>>) -> Written {
        to.array(5)?
            .u8(self.version_min)?
            .u8(self.version_max)?
            .u16(self.suites.0)?;
        to.u64(self.capabilities)?.bytes(&self.evidence)?;
        Ok(())
    }

    fn read(from: &mut Decoder<'_>) -> Result<Self, NotCanonical> {
        canonical::array(from, 5)?;
        Ok(Hello {
            version_min: from.u8()?,
            version_max: from.u8()?,
            suites: SuiteMask(from.u16()?),
            capabilities: from.u64()?,
            evidence: from.bytes()?.to_vec(),
        })
    }
}

impl From<NotCanonical> for SessionError {
    fn from(_: NotCanonical) -> Self {
        SessionError::Malformed
    }
}
