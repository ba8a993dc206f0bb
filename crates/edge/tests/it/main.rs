//! The client edge over real sockets and real pipes, in front of a scripted stack.

mod cancel;
mod changes;
mod guards;
mod lists;
mod load;
mod sessions;
mod shutdown;
mod stateless;
mod stdio;
mod streams;
mod support;
