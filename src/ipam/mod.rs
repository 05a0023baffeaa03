//! Which address a container gets.
