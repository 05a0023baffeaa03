//! A program that does nothing, to measure what it costs to exec one.

fn main() {}
