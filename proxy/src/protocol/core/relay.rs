//! skeleton
/// The relay's part.
pub struct RelayCore;
