//! The stack in every host, against the real thing on loopback. Real servers are on real time: open waits are
//! half a second, and waited for as the breaker says.

mod between;
mod connects;
mod echo;
mod grpc;
mod redis;
mod redis_server;

use std::{io, net::SocketAddr};

use buttress::Breaker;
use tokio::net::{TcpListener, TcpSocket};

/// A port that refuses connects until it is opened, and that nobody else can take meanwhile.
struct ShutPort {
    socket: TcpSocket,
    address: SocketAddr,
}

impl ShutPort {
    fn new() -> io::Result<Self> {
        let socket = TcpSocket::new_v4()?;
        socket.bind(([127, 0, 0, 1], 0).into())?;
        let address = socket.local_addr()?;
        Ok(Self { socket, address })
    }

    fn open(self) -> io::Result<TcpListener> {
        self.socket.listen(16)
    }
}

/// Waits until an open breaker lets a probe through.
async fn open_wait_of(breaker: &Breaker) {
    let wait = breaker.snapshot().next_probe_in.expect("it is open");
    tokio::time::sleep(wait).await;
}

#[tokio::test]
async fn the_program_runs() {
    crate::run().await.unwrap();
}
