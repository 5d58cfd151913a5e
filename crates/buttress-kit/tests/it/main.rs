//! The public API of kit, as patterns and their users see it.

mod delivery;
mod events;
mod listeners;
mod registry;
