//! tonic: a real server with the stack as its layer, and a real channel with the stack before it.

use std::net::SocketAddr;

use buttress::{BoxError, rejection};
use tokio::net::TcpListener;
use tonic::{Code, body::Body, client::GrpcService, transport::Endpoint};

use super::{
    ShutPort,
    echo::{Echo, ask},
    open_wait_of,
};
use crate::hosts::{Policies, tonic_channel, tonic_server};

/// A client to that address.
fn client_of(
    policies: &Policies,
    address: SocketAddr,
) -> tonic::client::Grpc<impl GrpcService<Body, ResponseBody = Body, Error = BoxError>> {
    let endpoint = Endpoint::from_shared(format!("http://{address}")).unwrap();
    tonic::client::Grpc::new(tonic_channel(policies, &endpoint))
}

/// A server with that stack around that service.
async fn serve(policies: &Policies, echo: &Echo) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (policies, routes) = (policies.clone(), echo.routes());
    tokio::spawn(async move { tonic_server(&policies, listener, routes).await });
    address
}

#[tokio::test]
async fn failing_answers_open_the_clients_breaker_and_the_refusal_reaches_the_caller_as_a_status() {
    let (client, server) = (Policies::new("client").unwrap(), Policies::new("server").unwrap());
    let echo = Echo::new();
    let mut channel = client_of(&client, serve(&server, &echo).await);

    assert_eq!(ask(&mut channel, "hello").await.unwrap(), "hello");
    let through = [&client, &server].map(|side| side.breaker.snapshot().successes);
    assert_eq!(through, [1, 1], "the call went through both stacks");

    echo.say(Code::NotFound);
    for _ in 1..=3 {
        assert_eq!(ask(&mut channel, "hello").await.unwrap_err().code(), Code::NotFound);
    }
    assert!(!client.breaker.is_open(), "a server that says NOT_FOUND works");

    echo.say(Code::Unavailable);
    for _ in 1..=3 {
        let status = ask(&mut channel, "hello").await.unwrap_err();
        assert_eq!((status.code(), status.message()), (Code::Unavailable, "as told"));
    }
    for _ in 1..=3 {
        let status = ask(&mut channel, "hello").await.unwrap_err();
        assert_eq!(status.code(), Code::Unavailable);
        let refused = rejection(&status).expect("refused by the stack");
        assert_eq!((refused.policy(), refused.code().as_str()), ("client", "CIRCUIT_OPEN"));
    }
    assert_eq!(echo.calls(), 7, "what was refused was not sent");
    // `Standard`, on the server's side, saw seven answers of 200.
    assert_eq!(server.breaker.snapshot().successes, 7);

    echo.say(Code::Ok);
    open_wait_of(&client.breaker).await;
    assert_eq!(ask(&mut channel, "again").await.unwrap(), "again");
    assert!(!client.breaker.is_open());
}

#[tokio::test]
async fn refusal_of_the_servers_stack_is_an_answer_with_a_status_that_says_why() {
    let (client, server) = (Policies::new("client").unwrap(), Policies::new("server").unwrap());
    let echo = Echo::new();
    let mut channel = client_of(&client, serve(&server, &echo).await);

    server.breaker.isolate();
    let status = ask(&mut channel, "hello").await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable);
    assert!(status.message().starts_with("circuit \"server\" is OPEN"), "{status:?}");
    assert_eq!(echo.calls(), 0);
    assert_eq!(client.breaker.snapshot().failures, 1, "to the client it is the server's failure");

    server.breaker.reset();
    assert_eq!(ask(&mut channel, "hello").await.unwrap(), "hello");
}

#[tokio::test]
async fn channel_to_a_dead_server_is_refused_after_three_connects_and_finds_the_server_back() {
    let (client, server) = (Policies::new("client").unwrap(), Policies::new("server").unwrap());
    let port = ShutPort::new().unwrap();
    let mut channel = client_of(&client, port.address);

    for _ in 1..=3 {
        let status = ask(&mut channel, "hello").await.unwrap_err();
        assert_eq!(status.code(), Code::Unavailable);
        assert!(rejection(&status).is_none(), "{status:?}");
    }
    let status = ask(&mut channel, "hello").await.unwrap_err();
    assert_eq!(rejection(&status).expect("refused by the stack").code(), "CIRCUIT_OPEN");

    let (listener, routes) = (port.open().unwrap(), Echo::new().routes());
    tokio::spawn(async move { tonic_server(&server, listener, routes).await });
    open_wait_of(&client.breaker).await;
    assert_eq!(ask(&mut channel, "hello").await.unwrap(), "hello");
    assert!(!client.breaker.is_open());
}
