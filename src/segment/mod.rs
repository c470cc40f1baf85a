//! One link's memory.
