//! The same, with the error lifted and typed: must compile.

use buttress_core::{FromRejection, LiftErrorsLayer, TypedErrorsLayer};
use tower_layer::Layer;
use tower_service::Service;

fn stack<S: Service<u32>>(_inner: S)
where
    S::Error: FromRejection,
{
}

fn lifted<S: Service<u32, Error = std::io::Error>>(inner: S) {
    stack(LiftErrorsLayer::new().layer(inner));
}

fn typed<S: Service<u32, Error = std::io::Error>>(inner: S) {
    stack(TypedErrorsLayer::new().layer(inner));
}

fn main() {}
