//! What is no classifier, before a foreign error: must not compile, and must say what to do.

use buttress_core::Classify;
use tower_service::Service;

struct Answer;
struct Statuses;

fn stack<S: Service<u32>, C: Classify<S::Response, S::Error>>(_inner: S, _classify: C) {}

fn client<S: Service<u32, Response = Answer, Error = std::io::Error>>(inner: S) {
    stack(inner, Statuses);
}

fn main() {}
