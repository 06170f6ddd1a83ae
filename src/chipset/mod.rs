//! The devices of the PC.
