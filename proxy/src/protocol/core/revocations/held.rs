//! The state file: the list and the newest beacon, as the authority signed them.

use crypto::check::TrustedAuthority;
use crypto::revocation::{Beacon, Keys, RevocationList};
use minicbor::{Decoder, Encoder};
use zeroize::Zeroizing;

use crate::protocol::canonical::{self, Canonical, NotCanonical, Written};

const FORMAT: u64 = 1;

/// What the state file holds: the list and the newest beacon, as the authority signed them.
pub struct HeldRevocations {
    pub(super) list: RevocationList,
    pub(super) beacon: Beacon,
}

impl HeldRevocations {
    /// A list, and a beacon that names it.
    ///
    /// # Errors
    /// The beacon names another.
    pub fn new(list: RevocationList, beacon: Beacon) -> Result<HeldRevocations, String> {
        if beacon.body().list_hash != list.hash() {
            return Err("its beacon names another list".into());
        }
        Ok(HeldRevocations { list, beacon })
    }

    /// The content of the state file.
    pub fn encode(&self) -> Zeroizing<Vec<u8>> {
        let stored = Stored {
            list: self.list.encode(),
            beacon: self.beacon.encode(),
        };
        Zeroizing::new(canonical::to_bytes(&stored, 1024))
    }

    /// Reads the content of the state file.
    ///
    /// # Errors
    /// A text that says what is wrong; the file should be left as it is.
    pub fn decode(bytes: &[u8], authority: &TrustedAuthority) -> Result<HeldRevocations, String> {
        let text = |error: &dyn std::fmt::Display| error.to_string();
        let stored: Stored = canonical::from_bytes(bytes).map_err(|e| text(&e))?;
        let keys = Keys::Ever(authority);
        let list = RevocationList::verify(&stored.list, keys).map_err(|e| text(&e))?;
        let beacon = Beacon::verify(&stored.beacon, keys).map_err(|e| text(&e))?;
        HeldRevocations::new(list, beacon)
    }
}

struct Stored {
    list: Vec<u8>,
    beacon: Vec<u8>,
}

impl Canonical for Stored {
    fn write(&self, to: &mut Encoder<Vec<u8>>) -> Written {
        to.array(3)?
            .u64(FORMAT)?
            .bytes(&self.list)?
            .bytes(&self.beacon)?;
        Ok(())
    }

    fn read(from: &mut Decoder<'_>) -> Result<Self, NotCanonical> {
        canonical::array(from, 3)?;
        if from.u64()? != FORMAT {
            return Err(NotCanonical);
        }
        Ok(Stored {
            list: from.bytes()?.to_vec(),
            beacon: from.bytes()?.to_vec(),
        })
    }
}
