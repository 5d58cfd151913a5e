//! The public API of core, as patterns and their users see it.

mod context;
mod errors;
mod events;
mod gate;
mod listeners;
mod message;
