//! What a hostile relay does to the bytes it carries.
