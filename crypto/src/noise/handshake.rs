//! snow's state, with full-size buffers and injected randomness.

use super::NoiseError;
use super::resolver::{EphemeralSeed, Resolver};
use crate::limits::{NOISE_MESSAGE_MAX, NOISE_OVERHEAD_MAX};
use crate::random::Random;
use crate::statics::{StaticKeypair, StaticPublic};
use crate::suite::Suite;
use snow::{Builder, HandshakeState};
use zeroize::Zeroizing;

pub(super) struct Handshake {
    state: HandshakeState,
    seed: EphemeralSeed,
}

impl Handshake {
    pub(super) fn initiator(
        suite: Suite,
        prologue: &[u8],
        local: &StaticKeypair,
    ) -> Result<Handshake, NoiseError> {
        Handshake::build(suite, prologue, local, |builder| builder.build_initiator())
    }

    pub(super) fn responder(
        suite: Suite,
        prologue: &[u8],
        local: &StaticKeypair,
    ) -> Result<Handshake, NoiseError> {
        Handshake::build(suite, prologue, local, |builder| builder.build_responder())
    }

    fn build<'k>(
        suite: Suite,
        prologue: &'k [u8],
        local: &'k StaticKeypair,
        role: impl FnOnce(Builder<'k>) -> Result<HandshakeState, snow::Error>,
    ) -> Result<Handshake, NoiseError> {
        let seed = EphemeralSeed::default();
        let resolver = Resolver {
            suite,
            seed: seed.clone(),
        };
        let build = || {
            let params = suite.noise_name().parse()?;
            let builder = Builder::with_resolver(params, Box::new(resolver))
                .local_private_key(local.secret_bytes())?
                .prologue(prologue)?;
            role(builder)
        };
        let state = build().map_err(|_: snow::Error| NoiseError::Setup)?;
        Ok(Handshake { state, seed })
    }

    /// Has to be called once before the message that carries this end's ephemeral key.
    pub(super) fn draw_ephemeral(&mut self, random: &mut dyn Random) {
        self.seed.load(random);
    }

    pub(super) fn write(&mut self, payload: &[u8]) -> Result<Vec<u8>, NoiseError> {
        if payload.len() > NOISE_MESSAGE_MAX - NOISE_OVERHEAD_MAX {
            return Err(NoiseError::TooLong);
        }
        let mut message = vec![0; payload.len() + NOISE_OVERHEAD_MAX];
        let len = self
            .state
            .write_message(payload, &mut message)
            .map_err(|_| NoiseError::Refused)?;
        message.truncate(len);
        Ok(message)
    }

    pub(super) fn read(&mut self, message: &[u8]) -> Result<Vec<u8>, NoiseError> {
        if message.len() > NOISE_MESSAGE_MAX {
            return Err(NoiseError::TooLong);
        }
        // As long as the message: snow must never find it too small half-way.
        let mut payload = vec![0; message.len()];
        let len = self
            .state
            .read_message(message, &mut payload)
            .map_err(|_| NoiseError::Refused)?;
        payload.truncate(len);
        Ok(payload)
    }

    pub(super) fn remote_static(&self) -> Result<StaticPublic, NoiseError> {
        let key = self
            .state
            .get_remote_static()
            .and_then(|key| key.try_into().ok());
        key.map(StaticPublic).ok_or(NoiseError::Refused)
    }

    pub(super) fn hash(&self) -> [u8; 32] {
        self.state
            .get_handshake_hash()
            .try_into()
            .expect("SHA-256 has 32 bytes")
    }

    /// Noise's two keys, the initiator's first. Only a finished handshake may ask: before that
    /// snow answers with constants.
    pub(super) fn raw_split(mut self) -> Zeroizing<[u8; 64]> {
        debug_assert!(self.state.is_handshake_finished());
        let (initiator, responder) = self.state.dangerously_get_raw_split();
        let (initiator, responder) = (Zeroizing::new(initiator), Zeroizing::new(responder));
        let mut both = Zeroizing::new([0; 64]);
        both[..32].copy_from_slice(initiator.as_slice());
        both[32..].copy_from_slice(responder.as_slice());
        both
    }
}
