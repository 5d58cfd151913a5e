//! The same with each of the remedies: must compile.

use std::io;

use buttress_core::{ByClone, ByFn, Functions, Lend, Never, Replay};
use tower_service::Service;

struct Upload;

fn stack<S: Service<Req>, Req, R: Replay<Req>>(_inner: S, _replay: R) {}

fn once<S: Service<Upload>>(inner: S) {
    stack(inner, Never);
}

fn by_closure<S: Service<Upload>>(inner: S) {
    stack(inner, ByFn(|_: &Upload| Some(Upload)));
}

fn functions() {
    fn stack<F, Fut>(_inner: Functions, _request: F)
    where
        F: FnOnce() -> Fut,
        Fut: Future<Output = io::Result<()>>,
        ByClone: Replay<F>,
    {
    }
    let lend = Lend::new(0);
    stack(Functions, async || {
        *lend.take() += 1;
        Ok(())
    });
}

fn main() {}
