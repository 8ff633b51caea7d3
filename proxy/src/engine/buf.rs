//! The buffer behind [`Buf`](super::Buf): a slice of the engine's own mapping.

/// What a buffer is made of.
pub(crate) struct Inner {}

impl std::fmt::Debug for super::Buf {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Buf")
    }
}
