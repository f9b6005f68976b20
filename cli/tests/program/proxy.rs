//! Proxies of a test's own: CONNECT and SOCKS 5, as little of each as a client needs.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

/// A proxy that leads one connection after the other, for as long as the test runs.
pub struct Proxy {
    pub address: String,
    /// Bytes that clients have sent through it.
    pub sent_bytes: Arc<AtomicU64>,
}

/// What stands between a client and its server: it hears the client out and says where to.
type Greet = fn(&mut TcpStream) -> TcpStream;

fn lead(greet: Greet) -> Proxy {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let sent_bytes = Arc::new(AtomicU64::new(0));
    let count = sent_bytes.clone();
    thread::spawn(move || {
        for client in listener.incoming() {
            let (mut client, count) = (client.unwrap(), count.clone());
            thread::spawn(move || {
                let server = greet(&mut client);
                let (back, to) = (server.try_clone().unwrap(), client.try_clone().unwrap());
                thread::spawn(move || carry(back, to, &AtomicU64::new(0)));
                carry(client, server, &count);
            });
        }
    });
    Proxy { address, sent_bytes }
}

fn carry(mut from: TcpStream, mut to: TcpStream, count: &AtomicU64) {
    let mut buffer = [0; 16 * 1024];
    while let Ok(bytes @ 1..) = from.read(&mut buffer) {
        count.fetch_add(bytes as u64, Ordering::Relaxed);
        if to.write_all(&buffer[..bytes]).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Write);
}

/// RFC 9110 §9.3.6, for `user` with the password `secret`.
pub fn connect() -> Proxy {
    lead(|client| {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.extend(read::<1>(client).unwrap());
        }
        let head = String::from_utf8(head).unwrap();
        // Base64 of `user:secret`.
        if !head.contains("\r\nProxy-Authorization: Basic dXNlcjpzZWNyZXQ=\r\n") {
            client.write_all(b"HTTP/1.1 407 Who are you\r\nContent-Length: 0\r\n\r\n").unwrap();
        }
        let target = head.strip_prefix("CONNECT ").unwrap().split(' ').next().unwrap();
        let server = TcpStream::connect(target).unwrap();
        client.write_all(b"HTTP/1.1 200 OK\r\n\r\n").unwrap();
        server
    })
}

/// RFC 1928, for everybody.
pub fn socks5() -> Proxy {
    lead(|client| {
        let [5, methods] = read(client).unwrap() else { panic!("not SOCKS 5") };
        client.read_exact(&mut vec![0; methods.into()]).unwrap();
        client.write_all(&[5, 0]).unwrap();
        let host = match read(client).unwrap() {
            [5, 1, 0, 1] => Ipv4Addr::from(read::<4>(client).unwrap()).to_string(),
            [5, 1, 0, 3] => {
                let [length] = read(client).unwrap();
                let mut name = vec![0; length.into()];
                client.read_exact(&mut name).unwrap();
                String::from_utf8(name).unwrap()
            }
            other => panic!("{other:?}"),
        };
        let port = u16::from_be_bytes(read(client).unwrap());
        let server = TcpStream::connect((host, port)).unwrap();
        client.write_all(&[5, 0, 0, 1, 0, 0, 0, 0, 0, 0]).unwrap();
        server
    })
}

fn read<const N: usize>(stream: &mut TcpStream) -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    stream.read_exact(&mut bytes)?;
    Ok(bytes)
}
