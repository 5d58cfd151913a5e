//! The public API of kit, as patterns and their users see it.

mod events;
mod listeners;
