/// Keeps others from implementing a trait, so that it may change.
pub trait Sealed {}
