//! What message 3 of a circuit adds: `[hello, kind, bundle id, circuit number]`, canonical CBOR.

use minicbor::{Decoder, Encoder};

use crate::ids::{BundleId, CircuitNo};
use crate::protocol::canonical::{self, Canonical, NotCanonical, Written};
use crate::protocol::session::Hello;

/// What the inlet wants the circuit to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CircuitKind {
    /// A lane, with a bundle of its own.
    Lane,
    /// A circuit of an existing bundle.
    Circuit,
}

/// Message 3's payload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CircuitHello {
    /// As in every handshake.
    pub hello: Hello,
    /// Lane or circuit.
    pub kind: CircuitKind,
    /// The bundle, drawn by the inlet.
    pub bundle: BundleId,
    /// The circuit's number in it; 0 for a lane.
    pub circuit: CircuitNo,
}

impl Canonical for CircuitHello {
    fn write(&self, to: &mut Encoder<Vec<u8>>) -> Written {
        to.array(4)?;
        self.hello.write(to)?;
        let kind = match self.kind {
            CircuitKind::Lane => 1,
            CircuitKind::Circuit => 2,
        };
        to.u8(kind)?.bytes(&self.bundle.0)?.u16(self.circuit.0)?;
        Ok(())
    }

    fn read(from: &mut Decoder<'_>) -> Result<Self, NotCanonical> {
        canonical::array(from, 4)?;
        let hello = Hello::read(from)?;
        let kind = match from.u8()? {
            1 => CircuitKind::Lane,
            2 => CircuitKind::Circuit,
            _ => return Err(NotCanonical),
        };
        let bundle = BundleId(canonical::fixed(from)?);
        let circuit = CircuitNo(from.u16()?);
        if (kind == CircuitKind::Lane) != (circuit.0 == 0) {
            return Err(NotCanonical);
        }
        Ok(CircuitHello {
            hello,
            kind,
            bundle,
            circuit,
        })
    }
}
