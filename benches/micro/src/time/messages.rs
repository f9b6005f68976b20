//! Whole messages: corewire's sans-IO connection beside the competition, and its loop in memory.
//!
//! Items are messages.

use bytes::Bytes;
use corewire::Role;
use divan::counter::{BytesCount, ItemsCount};
use divan::{Bencher, black_box};

use crate::material::{
    FRAMES_PER_READ, SMALL, masked_frames, masked_text, mixed_text, unmasked_frames,
};
use crate::memory_net::EchoLoop;
use crate::peers::{
    Corewire, Fastwebsockets, Peer, SockudoWs, TokioWebsockets, Tungstenite, WebSocket,
};

/// Masked messages of 20 bytes, parsed and delivered: so many in a read. The bar for corewire is
/// 40 million a second on one core.
#[divan::bench(
    types = [Corewire, SockudoWs, Tungstenite, Fastwebsockets, TokioWebsockets, WebSocket],
    args = [1, FRAMES_PER_READ, FRAMES_PER_LARGE_READ],
)]
fn receive_as_server<P: Peer>(bencher: Bencher<'_, '_>, count: usize) {
    receive::<P>(bencher, Role::Server, &masked_frames(count, &SMALL), count);
}

/// The same without masks, as a client has it.
#[divan::bench(
    types = [Corewire, SockudoWs, Tungstenite, Fastwebsockets, TokioWebsockets, WebSocket],
    args = [1, FRAMES_PER_READ, FRAMES_PER_LARGE_READ],
)]
fn receive_as_client<P: Peer>(bencher: Bencher<'_, '_>, count: usize) {
    receive::<P>(bencher, Role::Client, &unmasked_frames(count, &SMALL), count);
}

/// A masked text of about one character in eight outside ASCII, unmasked and validated. The bar
/// for corewire is 12 GB/s with 64 KiB. `web-socket` is not here: it does not validate.
#[divan::bench(
    types = [Corewire, SockudoWs, Tungstenite, Fastwebsockets, TokioWebsockets],
    args = [125, 1024, 16 << 10, 64 << 10],
    // Each input is used at once, so that it is as hot as a read leaves it.
    sample_size = 1,
    sample_count = 2000,
)]
fn receive_mixed_text<P: Peer>(bencher: Bencher<'_, '_>, bytes: usize) {
    let read = masked_text(&mixed_text(bytes));
    let mut peer = P::new(Role::Server);
    assert_eq!(peer.receive(&mut P::Input::from(read.clone()), 1), bytes);
    bencher
        .counter(BytesCount::new(bytes))
        .with_inputs(|| P::Input::from(read.clone()))
        .bench_local_refs(|input| peer.receive(input, 1));
}

/// Messages of 20 bytes come in one read and go back in one write, where the peer can hold back.
#[divan::bench(
    types = [Corewire, SockudoWs, Tungstenite, Fastwebsockets, TokioWebsockets, WebSocket],
    args = [1, FRAMES_PER_READ],
)]
fn echo<P: Peer>(bencher: Bencher<'_, '_>, count: usize) {
    let read = masked_frames(count, &SMALL);
    let mut peer = P::new(Role::Server);
    let written_bytes = count * (2 + SMALL.len());
    assert_eq!(peer.echo(&mut P::Input::from(read.clone()), count), written_bytes);
    bencher
        .counter(ItemsCount::new(count))
        .with_inputs(|| P::Input::from(read.clone()))
        .bench_local_refs(|input| peer.echo(input, count));
}

/// The same through a turn of corewire's loop, with its slots, timers and callbacks.
#[divan::bench(args = [1, FRAMES_PER_READ])]
fn echo_through_loop(bencher: Bencher<'_, '_>, count: usize) {
    let mut echo = EchoLoop::new();
    let written_bytes = count * (2 + SMALL.len());
    assert_eq!(echo.turn(&masked_frames(count, &SMALL)), written_bytes);
    bencher.counter(ItemsCount::new(count)).bench_local(|| echo.turn_again());
}

#[divan::bench(
    types = [Corewire, SockudoWs, Tungstenite, Fastwebsockets, TokioWebsockets, WebSocket],
    args = [1, FRAMES_PER_READ],
)]
fn send_as_server<P: Peer>(bencher: Bencher<'_, '_>, count: usize) {
    send::<P>(bencher, Role::Server, 2, count);
}

#[divan::bench(
    types = [Corewire, SockudoWs, Tungstenite, Fastwebsockets, TokioWebsockets, WebSocket],
    args = [1, FRAMES_PER_READ],
)]
fn send_as_client<P: Peer>(bencher: Bencher<'_, '_>, count: usize) {
    send::<P>(bencher, Role::Client, 6, count);
}

fn receive<P: Peer>(bencher: Bencher<'_, '_>, role: Role, read: &[u8], count: usize) {
    let mut peer = P::new(role);
    let bytes = peer.receive(&mut P::Input::from(read.to_vec()), count);
    assert_eq!(bytes, count * SMALL.len());
    bencher
        .counter(ItemsCount::new(count))
        .with_inputs(|| P::Input::from(read.to_vec()))
        .bench_local_refs(|input| peer.receive(input, count));
}

fn send<P: Peer>(bencher: Bencher<'_, '_>, role: Role, header_bytes: usize, count: usize) {
    let mut peer = P::new(role);
    let payload = Bytes::from_static(&SMALL);
    assert_eq!(peer.send(&payload, count), count * (header_bytes + SMALL.len()));
    bencher.counter(ItemsCount::new(count)).bench_local(|| peer.send(black_box(&payload), count));
}

/// As many as fill a read of 64 KiB.
const FRAMES_PER_LARGE_READ: usize = 64 * 1024 / (6 + SMALL.len());
