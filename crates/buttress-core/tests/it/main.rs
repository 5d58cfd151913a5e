//! The public API of core, as patterns and their users see it.

mod config;
mod context;
mod errors;
mod functions;
mod gate;
mod message;
mod vocabulary;
