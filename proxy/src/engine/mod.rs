//! Floor 2: the engine. The only floor with `unsafe` and hot-path system calls.
