//! redis, both ways, over a real server that goes away and comes back.

use buttress::rejection;
use redis::{AsyncCommands, Cmd, RedisError, Value, cmd};
use tower::{Service, ServiceExt};

use super::{open_wait_of, redis_server::RedisServer};
use crate::{
    hosts::{Policies, redis as layered, redis_service},
    redial::Redial,
};

#[tokio::test]
#[ignore = "wants a redis-server: `cargo xtask test` has one"]
async fn commands_asked_as_ever_go_through_the_stack_while_the_server_goes_and_comes_back() {
    let mut server = RedisServer::start().await;
    let policies = Policies::new("redis").unwrap();
    let mut con = layered(&policies, Redial::new(server.client()));

    let _: () = con.set("k", "v").await.unwrap();
    assert_eq!(con.get::<_, String>("k").await.unwrap(), "v");
    let both: (String, u8) = redis::pipe().get("k").exists("k").query_async(&mut con).await.unwrap();
    assert_eq!(both, ("v".to_owned(), 1));
    assert_eq!(policies.breaker.snapshot().successes, 3, "two commands and a pipeline");

    server.stop();
    // What cannot be repeated is one failure, and what only reads is asked again.
    con.incr::<_, _, u64>("n", 1).await.unwrap_err();
    assert_eq!(policies.breaker.snapshot().failures, 1);
    con.get::<_, String>("k").await.unwrap_err();
    assert_eq!(policies.breaker.snapshot().failures, 3);

    let refused: RedisError = con.get::<_, String>("k").await.unwrap_err();
    assert_eq!(rejection(&refused).expect("refused by the stack").code(), "CIRCUIT_OPEN");
    assert!(refused.to_string().starts_with("circuit \"redis\" is OPEN; retry in"), "{refused}");

    server.start_again().await;
    open_wait_of(&policies.breaker).await;
    assert_eq!(con.get::<_, Option<String>>("k").await.unwrap(), None, "the new server is empty");
    assert!(!policies.breaker.is_open());
}

#[tokio::test]
#[ignore = "wants a redis-server: `cargo xtask test` has one"]
async fn a_service_of_commands_opens_on_what_the_server_cannot_do_and_not_on_what_is_wrong() {
    let server = RedisServer::start().await;
    let policies = Policies::new("redis").unwrap();
    let mut svc = redis_service(&policies, Redial::new(server.client()));
    let mut ask = async |cmd: &Cmd| svc.ready().await?.call(cmd.clone()).await;

    assert_eq!(ask(cmd("SET").arg("k").arg("v")).await.unwrap(), Value::Okay);
    for _ in 1..=4 {
        let wrong = ask(cmd("LPUSH").arg("k").arg("v")).await.unwrap_err();
        assert_eq!(wrong.downcast_ref::<RedisError>().unwrap().code(), Some("WRONGTYPE"));
    }
    assert!(!policies.breaker.is_open(), "a server that says WRONGTYPE works");

    // A replica of nobody, that says so.
    ask(cmd("CONFIG").arg("SET").arg("replica-serve-stale-data").arg("no")).await.unwrap();
    ask(cmd("REPLICAOF").arg("127.0.0.1").arg("1")).await.unwrap();
    let dead = ask(cmd("GET").arg("k")).await.unwrap_err();
    assert_eq!(dead.downcast_ref::<RedisError>().unwrap().code(), Some("MASTERDOWN"));
    assert_eq!(policies.breaker.snapshot().failures, 3, "a read, and two more attempts");
    let refused = ask(cmd("GET").arg("k")).await.unwrap_err();
    assert_eq!(rejection(&*refused).expect("refused by the stack").code(), "CIRCUIT_OPEN");

    let mut direct = server.client().get_multiplexed_async_connection().await.unwrap();
    cmd("REPLICAOF").arg("NO").arg("ONE").exec_async(&mut direct).await.unwrap();
    open_wait_of(&policies.breaker).await;
    assert_eq!(ask(cmd("GET").arg("k")).await.unwrap(), Value::BulkString(b"v".to_vec()));
    assert!(!policies.breaker.is_open());
}
