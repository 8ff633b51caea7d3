//! adit.
