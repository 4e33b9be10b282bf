//! TCP Wrappers at the door.
