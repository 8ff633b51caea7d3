//! Every reason for which a connection is closed, and the stable codes that errors carry.
