//! An answer when the rest failed: value, function, service, last good answer
