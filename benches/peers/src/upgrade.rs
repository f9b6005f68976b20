//! hyper's HTTP/1.1 in front of the peers that leave the opening handshake to it.

use std::error::Error;

use http_body_util::Empty;
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

/// Answers requests by `accept`, which says yes and takes the connection over.
pub async fn serve<F, A, E>(stream: TcpStream, accept: F)
where
    F: Fn(Request<Incoming>) -> A,
    A: Future<Output = Result<Response<Empty<Bytes>>, E>> + Send + 'static,
    E: Into<Box<dyn Error + Send + Sync>>,
{
    let connection =
        http1::Builder::new().serve_connection(TokioIo::new(stream), service_fn(accept));
    let _ = connection.with_upgrades().await;
}
