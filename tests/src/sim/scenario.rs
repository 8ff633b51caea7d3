//! A whole run from one number.
