//! The public API of the toy, through the facade.

mod toy;
