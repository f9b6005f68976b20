//! The protocol without the loop: an echo over blocking sockets, one thread for each connection.
//!
//! It needs no feature: `cargo run --example codec_only --no-default-features [ADDRESS]`

use std::error::Error;
use std::io::{IoSlice, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread;
use std::time::Instant;

use corewire::opening::{
    FieldStorage, HeadLimits, HeadScanner, Inspected, inspect, parse_request, write_accept,
};
use corewire::{Accept, Config, Connection, Event, HandshakeLimits, LoopLimits, Pools, Role};

/// The echo itself. A real server would also mind `poll_timeout`.
fn echo(mut stream: TcpStream, mut input: Vec<u8>) -> Result<(), Box<dyn Error>> {
    // A server masks nothing, so this seed is never used.
    let mut pools = Pools::new(&LoopLimits::default(), Instant::now(), [0; 32]);
    let mut connection = Connection::new(Config::new(Role::Server), Instant::now(), &pools);
    loop {
        let mut events = connection.handle_input(&mut input, Instant::now(), &mut pools);
        while let Some((event, mut transmit)) = events.next() {
            let _ = match event {
                Event::Text(text) => transmit.send_text(text),
                Event::Binary(bytes) => transmit.send_binary(bytes),
                _ => continue,
            };
        }
        flush(&mut stream, &mut connection, &mut pools)?;
        if connection.is_closed() {
            println!("closed: {}", connection.finish(&mut pools).code);
            return Ok(());
        }
        input.resize(65536, 0);
        let bytes = stream.read(&mut input)?;
        input.truncate(bytes);
        if bytes == 0 {
            connection.handle_end_of_stream(Instant::now(), &pools);
        }
    }
}

/// Writes everything that is queued.
fn flush(
    stream: &mut TcpStream,
    connection: &mut Connection,
    pools: &mut Pools,
) -> std::io::Result<()> {
    while connection.queued_bytes() > 0 {
        let mut slices = [IoSlice::new(&[]); 16];
        let count = connection.poll_transmit(pools, &mut slices);
        let bytes = stream.write_vectored(&slices[..count])?;
        connection.handle_transmitted(bytes, Instant::now(), pools);
    }
    Ok(())
}

/// Reads a request and accepts it; gives what came behind it.
fn shake_hands(stream: &mut TcpStream) -> Result<Vec<u8>, Box<dyn Error>> {
    let HandshakeLimits { head_bytes_max, fields_max, target_bytes_max, .. } = Default::default();
    let limits = HeadLimits { head_bytes_max, fields_max, target_bytes_max };
    let (mut scanner, mut received) = (HeadScanner::request(), Vec::new());
    let head_bytes = loop {
        let mut buffer = [0; 4096];
        match stream.read(&mut buffer)? {
            0 => return Err("the client has gone away".into()),
            bytes => received.extend_from_slice(&buffer[..bytes]),
        }
        if let Some(head_bytes) = scanner.scan(&received, &limits)? {
            break head_bytes;
        }
    };
    let mut answer = Vec::new();
    let mut storage = FieldStorage::new();
    match inspect(&parse_request(&received[..head_bytes], &mut storage)?)? {
        Inspected::Upgrade(upgrade) => write_accept(&upgrade, &Accept::new(), &mut answer)?,
        Inspected::Plain(_) => return Err("the client wants no WebSocket".into()),
    };
    stream.write_all(&answer)?;
    Ok(received.split_off(head_bytes))
}

fn main() -> Result<(), Box<dyn Error>> {
    let address = std::env::args().nth(1).unwrap_or("127.0.0.1:9001".into());
    let listener = TcpListener::bind(address)?;
    println!("listening on {}", listener.local_addr()?);
    for stream in listener.incoming() {
        let mut stream = stream?;
        thread::spawn(move || {
            let result = shake_hands(&mut stream).and_then(|behind| echo(stream, behind));
            if let Err(error) = result {
                println!("{error}");
            }
        });
    }
    Ok(())
}
