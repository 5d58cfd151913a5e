//! The same with each of the remedies: must compile.

use std::io;

use buttress_core::{Classify, LiftErrorsLayer, OnlyErrors, Standard, TypedErrorsLayer, Verdict};
use tower_layer::Layer;
use tower_service::Service;

struct Answer;

fn stack<S: Service<u32>, C: Classify<S::Response, S::Error>>(_inner: S, _classify: C) {}

fn lifted<S: Service<u32, Response = Answer, Error = io::Error>>(inner: S) {
    stack(LiftErrorsLayer::new().layer(inner), Standard);
}

fn typed<S: Service<u32, Response = Answer, Error = io::Error>>(inner: S) {
    stack(TypedErrorsLayer::new().layer(inner), OnlyErrors::of_type::<io::Error>());
}

fn by_closure<S: Service<u32, Response = Answer, Error = io::Error>>(inner: S) {
    stack(inner, |outcome: Result<&Answer, &io::Error>| match outcome {
        Ok(_) => Verdict::Success,
        Err(_) => Verdict::transient(),
    });
}

fn main() {}
