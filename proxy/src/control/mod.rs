//! Floor 3, slow path: the control thread.
