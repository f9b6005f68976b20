//! A corewire loop inside an epoll loop of one's own: every datagram that comes to a UDP socket is
//! sent to all WebSockets.
//!
//! The rules: watch the reactor's descriptor for reading, `turn` without waiting when it is ready
//! or `next_deadline` has come, and look at `next_deadline` before each wait.
//!
//!     cargo run --example own_loop [ADDRESS] [UDP-ADDRESS]

use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use corewire::{Context, Handler, Message, PreparedMessage, Server};
use rustix::event::{Timespec, epoll};

struct Echo;

impl Handler for Echo {
    type Data = ();

    fn on_message(&mut self, ctx: &mut Context<'_, ()>, message: Message<'_>) {
        let _ = ctx.send(message);
    }
}

const REACTOR: u64 = 0;
const UDP: u64 = 1;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let address: SocketAddr = args.next().unwrap_or("127.0.0.1:9001".into()).parse()?;
    let mut reactor = Server::builder().listen(address).build_reactor(Echo)?;
    let udp = UdpSocket::bind(args.next().unwrap_or("127.0.0.1:9002".into()))?;
    udp.set_nonblocking(true)?;
    let websockets = reactor.local_addresses().next().expect("it listens on one");
    println!("listening on {websockets}, datagrams to {}", udp.local_addr()?);

    let ours = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    epoll::add(&ours, &reactor, epoll::EventData::new_u64(REACTOR), epoll::EventFlags::IN)?;
    epoll::add(&ours, &udp, epoll::EventData::new_u64(UDP), epoll::EventFlags::IN)?;
    let mut events = Vec::with_capacity(16);
    let mut datagram = [0; 65536];
    while !reactor.is_finished() {
        events.clear();
        let timeout = reactor.next_deadline().map(until);
        epoll::wait(&ours, rustix::buffer::spare_capacity(&mut events), timeout.as_ref())?;
        for event in &events {
            if event.data.u64() == UDP {
                while let Ok(bytes) = udp.recv(&mut datagram) {
                    // Between turns everything goes by handle.
                    reactor.handle().broadcast(PreparedMessage::binary(&datagram[..bytes]))?;
                }
            }
        }
        // Cheap when there is nothing to do, so there is no need to ask who was ready.
        reactor.turn(Some(Duration::ZERO))?;
    }
    Ok(())
}

/// The time until `deadline`, for epoll.
fn until(deadline: Instant) -> Timespec {
    let left = deadline.saturating_duration_since(Instant::now());
    Timespec { tv_sec: left.as_secs() as i64, tv_nsec: i64::from(left.subsec_nanos()) }
}
