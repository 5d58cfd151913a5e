//! A redis connection that is made when it is first asked, and made again after it broke.

use std::sync::Arc;

use redis::{
    AsyncConnectionConfig, Client, Cmd, Pipeline, RedisFuture, RedisResult, Value,
    aio::{ConnectionLike, MultiplexedConnection},
};
use tokio::sync::Mutex;

/// Dials inside the command, so that the stack around it sees the dialling too: its time-out bounds it, and its
/// breaker's probe is what finds the server back.
///
/// redis's own `ConnectionManager` dials after a failed command, in the background, and fails the next one with
/// what came of that: the first probe then learns how the server was when the breaker opened.
#[derive(Clone, Debug)]
pub(crate) struct Redial {
    client: Client,
    current: Arc<Mutex<Option<Arc<MultiplexedConnection>>>>,
}

impl Redial {
    /// Makes it; dials nobody yet.
    pub(crate) fn new(client: Client) -> Self {
        Self { client, current: Arc::default() }
    }

    async fn connection(&self) -> RedisResult<Arc<MultiplexedConnection>> {
        // Held while dialling: a hundred callers dial once.
        let mut current = self.current.lock().await;
        if let Some(connection) = &*current {
            return Ok(connection.clone());
        }
        // One clock is enough: the stack's.
        let config = AsyncConnectionConfig::new().set_connection_timeout(None).set_response_timeout(None);
        let made = Arc::new(self.client.get_multiplexed_async_connection_with_config(&config).await?);
        *current = Some(made.clone());
        Ok(made)
    }

    /// Forgets a connection that broke, unless somebody else has made a new one since.
    async fn judge<T>(&self, used: &Arc<MultiplexedConnection>, outcome: RedisResult<T>) -> RedisResult<T> {
        if outcome.as_ref().is_err_and(redis::RedisError::is_unrecoverable_error) {
            self.current.lock().await.take_if(|current| Arc::ptr_eq(current, used));
        }
        outcome
    }
}

impl ConnectionLike for Redial {
    fn req_packed_command<'a>(&'a mut self, cmd: &'a Cmd) -> RedisFuture<'a, Value> {
        Box::pin(async move {
            let used = self.connection().await?;
            let outcome = (*used).clone().req_packed_command(cmd).await;
            self.judge(&used, outcome).await
        })
    }

    fn req_packed_commands<'a>(
        &'a mut self,
        pipeline: &'a Pipeline,
        offset: usize,
        count: usize,
    ) -> RedisFuture<'a, Vec<Value>> {
        Box::pin(async move {
            let used = self.connection().await?;
            let outcome = (*used).clone().req_packed_commands(pipeline, offset, count).await;
            self.judge(&used, outcome).await
        })
    }

    fn get_db(&self) -> i64 {
        self.client.get_connection_info().redis_settings().db()
    }
}
