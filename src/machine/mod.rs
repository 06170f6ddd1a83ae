//! The board: the only room that knows every device.
