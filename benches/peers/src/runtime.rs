//! One thread of tokio that accepts connections, for the peers that stand on it.

use std::convert::Infallible;
use std::io;

use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Builder;

/// Runs `echo` as a task for each connection, for ever, on the calling thread. `builder` is
/// `Builder::new_current_thread()` with the drivers that the peer's author enables.
///
/// # Errors
/// The runtime cannot be built, the address cannot be listened on, or no connection be accepted.
pub fn serve<F, E>(builder: &mut Builder, echo: F) -> io::Result<Infallible>
where
    F: Fn(TcpStream) -> E,
    E: Future<Output = ()> + Send + 'static,
{
    let address = crate::listen_address()?;
    builder.build()?.block_on(async move {
        let listener = TcpListener::bind(address).await?;
        loop {
            let (stream, _) = listener.accept().await?;
            stream.set_nodelay(true)?;
            tokio::spawn(echo(stream));
        }
    })
}
