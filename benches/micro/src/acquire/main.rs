//! What it takes to get a connection of a pool and to give it back: on the loop, where the bar for
//! getting one is 5 µs at p99, and from another thread through the loop's mailbox, without a bar.
//!
//! `cargo bench --bench acquire` measures a million rounds, `cargo test` runs a few for what they
//! assert.

mod net;

use std::any::Any;
use std::hint::black_box;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use corewire::{
    Acquired, Client, ClientHandler, ClientLayer, Clients, Context, Handle, Loop, Message, Outcome,
    Pool, PoolId, PoolStats, Reactor, ReactorConfig, Undecodable,
};

use crate::net::BackEnds;

fn main() {
    let is_bench = std::env::args().any(|argument| argument == "--bench");
    let rounds = if is_bench { 1_000_000 } else { 2_000 };
    println!("{}, flags `{}`", env!("MICRO_RUSTC"), env!("MICRO_RUSTFLAGS"));
    println!("{CONNECTIONS} connections, {rounds} rounds; nanoseconds");
    let mut clock: Vec<u32> = (0..rounds).map(|_| nanoseconds(Instant::now())).collect();
    print("reading the clock", &mut clock);
    on_the_loop(rounds);
    from_another_thread(rounds / 10);
}

/// The samples hold a reading of the clock each. The mean per round is of whole turns without one.
fn on_the_loop(rounds: usize) {
    let (mut reactor, handle) = warm_loop();
    for way in [Way::Timed, Way::Untimed] {
        let (reply, replies) = sync_channel(1);
        let began = Instant::now();
        for _ in 0..rounds / ROUNDS_PER_TURN {
            let order = Order { rounds: ROUNDS_PER_TURN, way, reply: reply.clone() };
            handle.notify(order).expect("the mailbox has room");
            reactor.turn(Some(Duration::ZERO)).expect("memory does not fail");
            assert!(replies.try_recv().is_ok(), "the order was carried out within the turn");
        }
        let elapsed = began.elapsed();
        match way {
            Way::Timed => {
                let taker = reactor.handler().handler();
                let mut acquire = std::mem::take(&mut taker.acquire);
                let mut release = std::mem::take(&mut taker.release);
                print("acquire on the loop (p99: at most 5,000)", &mut acquire);
                print("release on the loop", &mut release);
            }
            Way::Untimed => {
                let mean = elapsed.as_nanos() as f64 / rounds as f64;
                println!("{:<42} mean {mean:>8.1}", "both, with the layer's own work");
            }
        }
    }
    let stats = stats(&mut reactor);
    assert_eq!((stats.size(), stats.opened, stats.waits), (CONNECTIONS, CONNECTIONS.into(), 0));
    assert_eq!(stats.acquired, 2 * (rounds / ROUNDS_PER_TURN * ROUNDS_PER_TURN) as u64);
}

/// A thread posts a notice, the loop acquires, releases, and answers.
fn from_another_thread(rounds: usize) {
    let (send_handle, handles) = sync_channel(1);
    let looping = thread::spawn(move || {
        let (mut reactor, handle) = warm_loop();
        send_handle.send(handle).expect("somebody waits");
        reactor.run().expect("memory does not fail");
    });
    let handle = handles.recv().expect("a loop");
    let (reply, replies) = sync_channel(1);
    let round = |number| {
        let began = Instant::now();
        let order = Order { rounds: 1, way: Way::Untimed, reply: reply.clone() };
        handle.notify(order).expect("the mailbox has room");
        let acquired = replies.recv().expect("an answer");
        let elapsed = nanoseconds(began);
        assert_eq!(acquired, number);
        elapsed
    };
    let mut samples: Vec<u32> = (1..=rounds as u64).map(round).collect();
    print("both, from another thread", &mut samples);
    handle.shutdown(Duration::ZERO).expect("the mailbox has room");
    looping.join().expect("the loop ends");
}

/// A loop whose connections all stand.
fn warm_loop() -> (Reactor<BackEnds, ClientLayer<Taker>>, Handle) {
    let endpoint = Client::builder("ws://127.0.0.1:9001/").build().expect("a URL");
    let pool = Pool::builder().endpoint(endpoint).min(CONNECTIONS).max(CONNECTIONS);
    let pool = pool.build().expect("a pool");
    let layer = ClientLayer::build(|clients| Taker {
        pool: clients.add_pool(pool),
        acquire: Vec::new(),
        release: Vec::new(),
    });
    let mut reactor = Reactor::new(BackEnds::new(), layer, ReactorConfig::new([7; 32]));
    let deadline = Instant::now() + Duration::from_secs(10);
    while stats(&mut reactor).opened < CONNECTIONS.into() {
        assert!(Instant::now() < deadline, "the pool does not fill");
        reactor.turn(Some(Duration::from_millis(1))).expect("memory does not fail");
    }
    let handle = reactor.handle();
    (reactor, handle)
}

fn stats(reactor: &mut Reactor<BackEnds, ClientLayer<Taker>>) -> PoolStats {
    let layer = reactor.handler();
    let pool = layer.handler().pool;
    layer.clients().pool_stats(pool).unwrap_or_default()
}

struct Taker {
    pool: PoolId,
    acquire: Vec<u32>,
    release: Vec<u32>,
}

/// What a notice asks for.
struct Order {
    rounds: usize,
    way: Way,
    reply: SyncSender<u64>,
}

#[derive(Clone, Copy)]
enum Way {
    Timed,
    Untimed,
}

impl ClientHandler for Taker {
    type Data = ();

    fn on_message(
        &mut self,
        _: &mut Context<'_, ()>,
        _: &mut Clients,
        _: Message<'_>,
    ) -> Result<(), Undecodable> {
        Err(Undecodable::new("nobody sends"))
    }

    fn on_notice(
        &mut self,
        at: &mut Loop<'_, ()>,
        clients: &mut Clients,
        notice: Box<dyn Any + Send>,
    ) {
        let order = notice.downcast::<Order>().expect("nothing else is posted");
        for _ in 0..order.rounds {
            match order.way {
                Way::Timed => self.timed(at, clients),
                Way::Untimed => self.untimed(at, clients),
            }
        }
        let acquired = clients.pool_stats(self.pool).map_or(0, |stats| stats.acquired);
        order.reply.try_send(acquired).expect("each is taken before the next");
    }
}

impl Taker {
    fn timed(&mut self, at: &mut Loop<'_, ()>, clients: &mut Clients) {
        let began = Instant::now();
        let acquired = black_box(clients.acquire(at, self.pool, TIMEOUT));
        self.acquire.push(nanoseconds(began));
        let Ok(Acquired::Now(lease)) = acquired else { panic!("one is idle") };
        let began = Instant::now();
        let released = black_box(clients.release(at, lease, Outcome::Good));
        self.release.push(nanoseconds(began));
        assert!(released.is_ok());
    }

    fn untimed(&mut self, at: &mut Loop<'_, ()>, clients: &mut Clients) {
        let Ok(Acquired::Now(lease)) = clients.acquire(at, self.pool, TIMEOUT) else {
            panic!("one is idle");
        };
        assert!(clients.release(at, black_box(lease), Outcome::Good).is_ok());
    }
}

fn nanoseconds(since: Instant) -> u32 {
    u32::try_from(since.elapsed().as_nanos()).unwrap_or(u32::MAX)
}

fn print(what: &str, samples: &mut [u32]) {
    samples.sort_unstable();
    let mean = samples.iter().map(|&sample| f64::from(sample)).sum::<f64>() / samples.len() as f64;
    let quantile = |q: f64| samples[(samples.len() as f64 * q) as usize];
    let (p50, p99, most) = (quantile(0.5), quantile(0.99), samples[samples.len() - 1]);
    println!("{what:<42} mean {mean:>8.1}   p50 {p50:>6}   p99 {p99:>6}   most {most:>9}");
}

const CONNECTIONS: u32 = 100;
const ROUNDS_PER_TURN: usize = 100;
const TIMEOUT: Duration = Duration::from_secs(1);
