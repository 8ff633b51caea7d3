//! skeleton
/// The authority's part.
pub struct AuthorityCore;
