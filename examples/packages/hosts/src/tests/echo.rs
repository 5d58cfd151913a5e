//! A gRPC service without protoc: it answers with the message, or with the status it is told to.

use std::{
    convert::Infallible,
    future::Ready,
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll},
};

use buttress::BoxError;
use bytes::{Buf, BufMut, Bytes};
use tonic::{
    Code, Request, Response, Status,
    body::Body,
    client::GrpcService,
    codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder},
    server::NamedService,
    service::Routes,
};
use tower::{Service, service_fn};

/// Messages are their bytes.
#[derive(Clone, Copy, Debug)]
struct AsTheyAre;

impl Codec for AsTheyAre {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for AsTheyAre {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, message: Bytes, into: &mut EncodeBuf<'_>) -> Result<(), Status> {
        into.put(message);
        Ok(())
    }
}

impl Decoder for AsTheyAre {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(from.copy_to_bytes(from.remaining())))
    }
}

/// The server's part. Clones share what it says, and how often it was asked.
#[derive(Clone, Debug)]
pub(super) struct Echo {
    shared: Arc<Mutex<(Code, usize)>>,
}

impl Echo {
    pub(super) fn new() -> Self {
        Self { shared: Arc::new(Mutex::new((Code::Ok, 0))) }
    }

    pub(super) fn routes(&self) -> Routes {
        Routes::new(self.clone())
    }

    /// Answers with this status from now on.
    pub(super) fn say(&self, code: Code) {
        self.shared.lock().unwrap().0 = code;
    }

    /// How many calls came as far as here.
    pub(super) fn calls(&self) -> usize {
        self.shared.lock().unwrap().1
    }

    fn answer(&self, message: Bytes) -> Result<Response<Bytes>, Status> {
        let mut shared = self.shared.lock().unwrap();
        shared.1 += 1;
        match shared.0 {
            Code::Ok => Ok(Response::new(message)),
            code => Err(Status::new(code, "as told")),
        }
    }
}

impl NamedService for Echo {
    const NAME: &'static str = "hosts.Echo";
}

impl Service<http::Request<Body>> for Echo {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let echo = self.clone();
        let unary = service_fn(move |request: Request<Bytes>| -> Ready<_> {
            std::future::ready(echo.answer(request.into_inner()))
        });
        Box::pin(async move { Ok(tonic::server::Grpc::new(AsTheyAre).unary(unary, request).await) })
    }
}

/// The client's part, as a generated client would do it.
pub(super) async fn ask<T>(
    channel: &mut tonic::client::Grpc<T>,
    message: &'static str,
) -> Result<Bytes, Status>
where
    T: GrpcService<Body, ResponseBody = Body, Error = BoxError>,
{
    channel.ready().await.map_err(Status::from_error)?;
    let path = http::uri::PathAndQuery::from_static("/hosts.Echo/Say");
    let answer = channel.unary(Request::new(Bytes::from_static(message.as_bytes())), path, AsTheyAre).await?;
    Ok(answer.into_inner())
}
