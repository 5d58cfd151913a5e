//! Redis both ways: a connection as a service, and a stack as a connection.
//!
//! [`RedisService`] makes any connection a `Service`, so that layers go around it; [`Layered`] makes any such
//! stack a connection again, so that `con.get("k")` and `cmd.query_async` go through the layers unchanged.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};

use buttress::{BoxError, Classify, Replay, Standard, Verdict, rejection};
use redis::{
    Arg, Cmd, ErrorKind, Pipeline, RedisError, RedisFuture, RedisResult, Value, aio::ConnectionLike,
};
use tower::{Service, ServiceExt};

/// What is asked of a connection.
#[derive(Clone, Debug)]
pub(crate) enum Call {
    /// One command.
    One(Cmd),
    /// A pipeline, and which of its answers count.
    Many(Pipeline, usize, usize),
}

/// What a connection answers.
#[derive(Clone, Debug)]
pub(crate) enum Answer {
    /// To one command.
    One(Value),
    /// To a pipeline.
    Many(Vec<Value>),
}

/// A connection as a service, of commands or of [`Call`]s.
#[derive(Clone, Debug)]
pub(crate) struct RedisService<C>(pub C);

/// redis's own futures are boxed as well.
type Boxed<T> = Pin<Box<dyn Future<Output = RedisResult<T>> + Send>>;

impl<C> Service<Cmd> for RedisService<C>
where
    C: ConnectionLike + Clone + Send + 'static,
{
    type Response = Value;
    type Error = RedisError;
    type Future = Boxed<Value>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<RedisResult<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, cmd: Cmd) -> Boxed<Value> {
        let mut connection = self.0.clone();
        Box::pin(async move {
            // A connection hands an error the server answers with over as a value: here it becomes an error.
            connection.req_packed_command(&cmd).await.and_then(Value::extract_error)
        })
    }
}

impl<C> Service<Call> for RedisService<C>
where
    C: ConnectionLike + Clone + Send + 'static,
{
    type Response = Answer;
    type Error = RedisError;
    type Future = Boxed<Answer>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<RedisResult<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, call: Call) -> Boxed<Answer> {
        match call {
            Call::One(cmd) => {
                let answer = Service::<Cmd>::call(self, cmd);
                Box::pin(async move { answer.await.map(Answer::One) })
            }
            Call::Many(pipeline, offset, count) => {
                let mut connection = self.0.clone();
                Box::pin(async move {
                    connection.req_packed_commands(&pipeline, offset, count).await.map(Answer::Many)
                })
            }
        }
    }
}

/// Judges an outcome: a server that says that a command is wrong works, one that says that it cannot serve now
/// does not. `Standard` would open the breaker on three typing errors.
pub(crate) fn verdict<T>(outcome: Result<&T, &BoxError>) -> Verdict {
    let code = outcome.err().and_then(|error| error.downcast_ref::<RedisError>()?.code());
    match code {
        Some(
            "BUSY" | "CLUSTERDOWN" | "LOADING" | "MASTERDOWN" | "MISCONF" | "NOREPLICAS" | "OOM" | "READONLY"
            | "TRYAGAIN",
        ) => Verdict::transient(),
        Some(_) => Verdict::Success,
        None => Standard.classify(outcome),
    }
}

/// Replays commands that only read. A connection that broke does not tell whether an `INCR` was done.
#[derive(Clone, Copy, Debug)]
pub(crate) struct MayRepeat;

impl Replay<Cmd> for MayRepeat {
    fn save(&self, cmd: &Cmd) -> Option<Cmd> {
        let Some(Arg::Simple(name)) = cmd.args_iter().next() else { return None };
        let reads: [&[u8]; 5] = [b"GET", b"MGET", b"EXISTS", b"HGET", b"PING"];
        reads.iter().any(|read| read.eq_ignore_ascii_case(name)).then(|| cmd.clone())
    }
}

impl Replay<Call> for MayRepeat {
    fn save(&self, call: &Call) -> Option<Call> {
        match call {
            Call::One(cmd) => self.save(cmd).map(Call::One),
            Call::Many(..) => None,
        }
    }
}

/// A stack around a [`RedisService`] as a connection.
#[derive(Clone, Debug)]
pub(crate) struct Layered<S> {
    stack: S,
    db: i64,
}

impl<S> Layered<S> {
    /// Makes a connection of a stack; `db` is the number of the database behind it.
    pub(crate) fn new(stack: S, db: i64) -> Self {
        Self { stack, db }
    }
}

impl<S> Layered<S>
where
    S: Service<Call, Response = Answer, Error = BoxError> + Clone + Send,
    S::Future: Send,
{
    async fn ask(&self, call: Call) -> RedisResult<Answer> {
        self.stack.clone().oneshot(call).await.map_err(lowered)
    }
}

/// The error type redis wants: its own errors come back as they were, a refusal in an I/O error, in which
/// `buttress::rejection` finds it.
fn lowered(error: BoxError) -> RedisError {
    if let Some(refused) = rejection(&*error) {
        return RedisError::from(io::Error::other(refused.clone()));
    }
    match error.downcast::<RedisError>() {
        Ok(error) => *error,
        Err(other) => RedisError::from((ErrorKind::Client, "a layer failed", other.to_string())),
    }
}

impl<S> ConnectionLike for Layered<S>
where
    S: Service<Call, Response = Answer, Error = BoxError> + Clone + Send + Sync,
    S::Future: Send,
{
    fn req_packed_command<'a>(&'a mut self, cmd: &'a Cmd) -> RedisFuture<'a, Value> {
        Box::pin(async move {
            match self.ask(Call::One(cmd.clone())).await? {
                Answer::One(value) => Ok(value),
                Answer::Many(values) => Ok(Value::Array(values)),
            }
        })
    }

    fn req_packed_commands<'a>(
        &'a mut self,
        pipeline: &'a Pipeline,
        offset: usize,
        count: usize,
    ) -> RedisFuture<'a, Vec<Value>> {
        Box::pin(async move {
            match self.ask(Call::Many(pipeline.clone(), offset, count)).await? {
                Answer::Many(values) => Ok(values),
                Answer::One(value) => Ok(vec![value]),
            }
        })
    }

    fn get_db(&self) -> i64 {
        self.db
    }
}
