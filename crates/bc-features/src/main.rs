//! Parses arguments and calls the stage's library.
fn main() {}
