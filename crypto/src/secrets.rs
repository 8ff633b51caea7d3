//! What holds a secret can't be printed, or prints its name alone, and is copied only where a
//! comment says why. Checked by the compiler: were a trait implemented, the path below would be
//! ambiguous.

macro_rules! assert_lacks {
    ($trait:path: $($type:ty),+ $(,)?) => {$(
        const _: fn() = || {
            trait AmbiguousIfImplemented<Marker> {
                fn name() {}
            }
            struct Implemented;
            impl<T: ?Sized> AmbiguousIfImplemented<()> for T {}
            impl<T: ?Sized + $trait> AmbiguousIfImplemented<Implemented> for T {}
            let _ = <$type as AmbiguousIfImplemented<_>>::name;
        };
    )+};
}

use crate::identity::IdentitySecret;
use crate::leg::LegKey;
use crate::noise::{Checking, Finished, Initiator, Responder, Split, Waiting};
use crate::record::{ChainSecret, FrameOpener, FrameSealer, Opener, Sealer};
use crate::statics::StaticKeypair;
use crate::suite::Suite;
use crate::ticket::{Ticket, TicketSecret};

assert_lacks!(std::fmt::Debug:
    IdentitySecret, StaticKeypair, Ticket, TicketSecret, ChainSecret, Split, FrameSealer,
    FrameOpener, Initiator, Checking, Responder, Waiting, Finished, crate::aead::AeadKey,
);
assert_lacks!(Clone:
    IdentitySecret, StaticKeypair, Ticket, TicketSecret, ChainSecret, Split, Sealer, Opener,
    FrameSealer, FrameOpener, Initiator, Checking, Responder, Waiting, Finished,
    crate::aead::AeadKey,
);

/// Commands to workers are printed in traces, and some of them carry keys.
#[test]
fn the_keys_that_commands_carry_print_as_their_names() {
    let chain = || ChainSecret::from_bytes(&[1; 32]);
    assert_eq!(format!("{:?}", LegKey::from_secret(&[1; 32])), "LegKey(..)");
    assert_eq!(
        format!("{:?}", Sealer::new(Suite::AesGcm, chain())),
        "Sealer(..)"
    );
    assert_eq!(
        format!("{:?}", Opener::new(Suite::AesGcm, chain())),
        "Opener(..)"
    );
}
