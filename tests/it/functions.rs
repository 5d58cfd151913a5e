//! Plain functions under several policies: the list is that of services, and ends in `.functions()`.

use std::{
    fmt, io,
    num::ParseIntError,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering::SeqCst},
    },
    time::Duration,
};

use axum::{Router, routing::get};
use buttress::{
    Backoff, BoxError, Breaker, Bulkhead, Error, Fallback, FromRejection, Functions, Lend, Rejection, Retry,
    Run, ServiceBuilderExt, Timeout, TypedErrors, breaker::BreakerService, rejection, retry::RetryService,
    timeout::TimeoutService,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    time::sleep,
};
use tower::{
    ServiceBuilder, limit::ConcurrencyLimitLayer, timeout::TimeoutLayer as TowersTimeoutLayer,
    util::option_layer,
};

use crate::axum_serve::serve;

const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn retry() -> Retry {
    Retry::builder("functions").max_attempts(3).backoff(Backoff::none()).build().unwrap()
}

fn limit(limit: Duration) -> Timeout {
    Timeout::builder("functions").limit(limit).build().unwrap()
}

/// The README's functions, as they stand there.
mod readme {
    include!("first_screen/functions.rs");

    pub(super) async fn call(path: &str, url: &str, connection: TcpStream) -> Result<String, BoxError> {
        report(path, url, connection).await
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn functions_of_the_readme_run_also_in_a_spawned_task() {
    let path = std::env::temp_dir().join(format!("buttress-functions-{}", std::process::id()));
    tokio::fs::write(&path, "file").await.unwrap();
    let page = serve(Router::new().route("/", get(|| async { "page" }))).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = tokio::spawn(async move {
        let (mut connection, _) = listener.accept().await.unwrap();
        let mut line = [0; 5];
        connection.read_exact(&mut line).await.unwrap();
        connection.write_all(b"!").await.unwrap();
    });
    let connection = tokio::net::TcpStream::connect(address).await.unwrap();
    let file = path.to_str().unwrap().to_owned();
    let report = async move { readme::call(&file, &format!("http://{page}/"), connection).await };
    assert_eq!(tokio::spawn(report).await.unwrap().unwrap(), "file, page, 33");
    server.await.unwrap();

    // A file that is not there is none after three attempts either, and the error is the one that it is.
    tokio::fs::remove_file(&path).await.unwrap();
    let file = path.to_str().unwrap().to_owned();
    let stack = ServiceBuilder::new().retrying(retry().layer()).typed_errors().functions();
    let missing = stack.run(|| tokio::fs::read_to_string(&file)).await.unwrap_err();
    assert_eq!(missing.inner().unwrap().kind(), io::ErrorKind::NotFound);
}

#[tokio::test]
async fn one_stack_runs_functions_of_different_results_and_errors() {
    let retry = retry();
    let stack = ServiceBuilder::new().retrying(retry.layer()).typed_errors().functions();
    let parse = |text: &'static str| async move { text.parse::<u32>() };
    assert_eq!(stack.run(|| parse("7")).await.unwrap(), 7);
    let odd: Error<ParseIntError> = stack.run(|| parse("seven")).await.unwrap_err();
    assert!(matches!(odd, Error::Inner(_)));
    let gone: Error<io::Error> =
        stack.run(async || Err::<String, _>(io::ErrorKind::BrokenPipe.into())).await.unwrap_err();
    assert_eq!(gone.inner().unwrap().kind(), io::ErrorKind::BrokenPipe);
    assert_eq!(retry.snapshot().retries, 4);
}

/// An error of one's own, with room for refusals.
#[derive(Debug, PartialEq)]
enum Mine {
    Failed,
    Refused(Rejection),
}

impl fmt::Display for Mine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("mine")
    }
}

impl std::error::Error for Mine {}

impl FromRejection for Mine {
    fn from_rejection(rejection: Rejection) -> Self {
        Self::Refused(rejection)
    }

    fn rejection(&self) -> Option<&Rejection> {
        if let Self::Refused(rejection) = self { Some(rejection) } else { None }
    }
}

#[tokio::test]
async fn last_word_of_the_list_says_what_comes_out() {
    let breaker = Breaker::builder("functions").consecutive_failures(2).build().unwrap();
    let own = ServiceBuilder::new().breaker(breaker.layer()).functions();
    assert_eq!(own.run(async || Err::<(), _>(Mine::Failed)).await, Err(Mine::Failed));

    let lifted = ServiceBuilder::new().breaker(breaker.layer()).lift_errors().functions();
    let error = lifted.run(async || Err::<(), _>(io::Error::other("down"))).await.unwrap_err();
    assert!(error.is::<io::Error>());

    // Both stacks are the breaker's, and it is open now.
    let refused = own.run(async || Ok::<(), Mine>(())).await.unwrap_err();
    assert_eq!(refused.rejection().unwrap().code(), "CIRCUIT_OPEN");
    let refused = lifted.run(async || Ok::<_, io::Error>(())).await.unwrap_err();
    assert_eq!(rejection(&*refused).unwrap().policy(), "functions");
}

#[tokio::test(start_paused = true)]
async fn stack_with_all_patterns_and_others_in_between_runs_functions_in_spawned_tasks() {
    let bulkhead = Bulkhead::builder("functions").max_concurrent(2).max_queue(8).build().unwrap();
    let breaker = Breaker::builder("functions").build().unwrap();
    let fallback = Fallback::builder("functions").build().unwrap();
    let stack = ServiceBuilder::new()
        .fallback(fallback.layer().value(0))
        .deadline(limit(ms(1_000)).layer())
        .retrying(retry().layer())
        .layer(ConcurrencyLimitLayer::new(4))
        .breaker(breaker.layer())
        .bulkhead(bulkhead.layer())
        .layer(TowersTimeoutLayer::new(ms(100))) // makes its errors BoxErrors
        .lift_errors()
        .functions();
    let tries = Arc::new(AtomicU32::new(0));
    let calls: Vec<_> = (1..=4)
        .map(|n| {
            let (stack, tries) = (stack.clone(), tries.clone());
            tokio::spawn(async move {
                stack
                    .run(async || {
                        // The first attempt of each hangs.
                        if tries.fetch_add(1, SeqCst) < 4 {
                            sleep(ms(10_000)).await;
                        }
                        Ok::<_, io::Error>(n * 10)
                    })
                    .await
            })
        })
        .collect();
    let mut sum = 0;
    for call in calls {
        sum += call.await.unwrap().unwrap();
    }
    assert_eq!((sum, tries.load(SeqCst)), (100, 8));
    assert_eq!(bulkhead.snapshot().active, 0);
}

#[tokio::test]
async fn layer_that_is_there_or_not_runs_functions() {
    for there in [true, false] {
        let retry = retry();
        let stack = ServiceBuilder::new()
            .layer(option_layer(there.then(|| retry.layer())))
            .typed_errors()
            .functions();
        let tries = AtomicU32::new(0);
        let third = stack.run(async || match tries.fetch_add(1, SeqCst) {
            2 => Ok(()),
            _ => Err(io::Error::other("not yet")),
        });
        assert_eq!(third.await.is_ok(), there);
    }
}

#[tokio::test]
async fn function_runs_through_a_stack_inside_of_another_one() {
    let (outer, inner) = (limit(ms(1_000)), retry());
    let outer = ServiceBuilder::new().deadline(outer.layer()).typed_errors().functions();
    let stack = ServiceBuilder::new().retrying(inner.layer()).typed_errors().functions();
    let tries = AtomicU32::new(0);
    let first = async || match tries.fetch_add(1, SeqCst) {
        0 => Err(io::Error::other("not yet")),
        n => Ok(n),
    };
    assert_eq!(outer.run(async || stack.run(&first).await).await.unwrap(), 1);
}

/// What cannot be shared, as a connection.
#[derive(Default)]
struct Connection {
    used: Vec<&'static str>,
}

impl Connection {
    async fn get(&mut self, key: &'static str) -> io::Result<usize> {
        self.used.push(key);
        if self.used.len() == 1 {
            sleep(ms(10_000)).await;
        }
        Ok(self.used.len())
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_lent_comes_back_from_an_attempt_that_timed_out() {
    let (retry, attempt) = (retry(), limit(ms(100)));
    let stack = ServiceBuilder::new()
        .retrying(retry.layer())
        .attempt_timeout(attempt.layer())
        .typed_errors()
        .functions();
    let call = async move {
        let connection = Lend::new(Connection::default());
        let found = stack.run(async || connection.take().get("k").await).await;
        (found, connection.into_inner().unwrap().used)
    };
    let (found, used) = tokio::spawn(call).await.unwrap();
    assert_eq!((found.unwrap(), used), (2, vec!["k", "k"]));
    assert_eq!(attempt.snapshot().timeouts, 1);
}

/// A struct that keeps a stack names its type: no bound says "takes any function".
#[derive(Clone)]
struct Orders {
    stack: TimeoutService<RetryService<BreakerService<TypedErrors<Functions>>>>,
}

impl Orders {
    fn new() -> Self {
        let breaker = Breaker::builder("orders").build().unwrap();
        let stack = ServiceBuilder::new()
            .deadline(limit(ms(1_000)).layer())
            .retrying(retry().layer())
            .breaker(breaker.layer())
            .typed_errors()
            .functions();
        Self { stack }
    }

    async fn parse(&self, text: &str) -> Result<u32, Error<ParseIntError>> {
        self.stack.run(async || text.parse()).await
    }
}

#[tokio::test]
async fn struct_keeps_a_stack_by_its_type_and_is_shared() {
    let orders = Orders::new();
    let other = orders.clone();
    assert_eq!(tokio::spawn(async move { other.parse("7").await }).await.unwrap().unwrap(), 7);
    assert!(orders.parse("seven").await.unwrap_err().inner().is_some());
}

/// What a single handle needs of a function, of which the docs and the compiler tell.
#[tokio::test]
async fn single_handle_calls_a_function_whose_error_is_boxed() {
    async fn load(path: &str) -> io::Result<String> {
        tokio::fs::read_to_string(path).await
    }

    let breaker = Breaker::builder("files").build().unwrap();
    let load = async || load("/nowhere").await.map_err(BoxError::from);
    let error = breaker.call(load).await.unwrap_err();
    assert_eq!(error.downcast_ref::<io::Error>().unwrap().kind(), io::ErrorKind::NotFound);
}
