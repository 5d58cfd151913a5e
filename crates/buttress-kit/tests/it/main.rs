//! The public API of kit, as patterns and their users see it.

mod by_key;
mod delivery;
mod events;
mod listeners;
mod registry;
