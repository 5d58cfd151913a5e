//! A request that is not `Clone` before the default strategy: must not compile, and must say what to do.

use buttress_core::{ByClone, Replay};
use tower_service::Service;

struct Upload;

fn stack<S: Service<Req>, Req, R: Replay<Req>>(_inner: S, _replay: R) {}

fn client<S: Service<Upload>>(inner: S) {
    stack(inner, ByClone);
}

fn main() {}
