//! A foreign error inside of a stack: must not compile, and must say what to do.

use buttress_core::FromRejection;
use tower_service::Service;

fn stack<S: Service<u32>>(_inner: S)
where
    S::Error: FromRejection,
{
}

fn client<S: Service<u32, Error = std::io::Error>>(inner: S) {
    stack(inner);
}

fn main() {}
