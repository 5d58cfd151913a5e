//! Redis both ways: a connection as a service, and a stack as a connection.
//!
//! [`RedisService`] makes any connection a `Service`, so that layers go around it; [`Layered`] makes any such
//! stack a connection again, so that `con.get("k")` and `cmd.query_async` go through the layers unchanged.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};

use buttress::{BoxError, rejection};
use redis::{Cmd, ErrorKind, Pipeline, RedisError, RedisFuture, RedisResult, Value, aio::ConnectionLike};
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

/// A connection as a service.
#[derive(Clone, Debug)]
pub(crate) struct RedisService<C>(pub C);

impl<C> Service<Call> for RedisService<C>
where
    C: ConnectionLike + Clone + Send + 'static,
{
    type Response = Answer;
    type Error = RedisError;
    // redis's own futures are boxed as well.
    type Future = Pin<Box<dyn Future<Output = RedisResult<Answer>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), RedisError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, call: Call) -> Self::Future {
        let mut connection = self.0.clone();
        Box::pin(async move {
            match call {
                Call::One(cmd) => connection.req_packed_command(&cmd).await.map(Answer::One),
                Call::Many(pipeline, offset, count) => {
                    connection.req_packed_commands(&pipeline, offset, count).await.map(Answer::Many)
                }
            }
        })
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

/// The error type redis wants: its own errors come back as they were, a refusal as an I/O error that says so.
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
