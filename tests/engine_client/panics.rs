//! What a panic of the application leaves undone, where it is caught.

use std::time::Duration;

use corewire::{Acquired, BatchForm, ClientState, Clients, Loop, PanicPolicy, Pool, StopReason};

use crate::layer_bed::{LayerBed, Told, exact, usual};
use crate::naive::Frame;
use crate::sim_errno::ECONNREFUSED;
use crate::sim_host::Reply;
use crate::sim_server::SimServer;

const SEC: Duration = Duration::from_secs(1);

/// A client whose application panics once where `is_here` says, and lives on.
fn panicking(is_here: fn(&Told) -> bool) -> LayerBed {
    let mut left = 1;
    LayerBed::new(move |settings| {
        settings.reactor.panics = PanicPolicy::CloseConnection;
        settings.act = Box::new(move |_, _, told| {
            if left > 0 && is_here(told) {
                left -= 1;
                panic!("a test's own panic");
            }
        });
    })
}

#[test]
fn caught_panic_in_any_callback_does_not_keep_a_client_from_coming_back() {
    let places: [fn(&Told) -> bool; 8] = [
        |told| matches!(told, Told::Start),
        |told| matches!(told, Told::Open(_)),
        |told| matches!(told, Told::Text(..)),
        |told| matches!(told, Told::Close(..)),
        |told| matches!(told, Told::Change(_, ClientState::Connecting, ..)),
        |told| matches!(told, Told::Change(_, ClientState::Connected, ..)),
        |told| matches!(told, Told::Change(_, ClientState::RetryPending, ..)),
        |told| matches!(told, Told::DialFailed(..)),
    ];
    for (number, place) in places.into_iter().enumerate() {
        let mut bed = panicking(place);
        let id = bed.reactor.handler().clients().add(usual());
        bed.host.replies_next(&[Reply::Fail(ECONNREFUSED)]);
        let mut opened = 0;
        for _ in 0..20 {
            bed.run_for(SEC);
            while let Some(peer) = bed.host.next() {
                let mut server = SimServer::new(peer);
                server.upgrade();
                opened += 1;
                bed.turn();
                server.send(&Frame::text("hi"));
                bed.turn();
                if opened < 3 {
                    server.peer.fin();
                }
            }
        }
        assert!(opened >= 3, "{number}: {opened}");
        assert_eq!(bed.state(id), Some(ClientState::Connected), "{number}");
        let stats = bed.ask(move |_, clients| clients.stats(id).cloned()).unwrap();
        assert_eq!(stats.opened, opened, "{number}");
    }
}

#[test]
fn caught_panic_in_a_callback_does_not_keep_the_others_from_being_made() {
    // The change to Disconnected is told right before the stop.
    let mut bed = panicking(|told| matches!(told, Told::Change(_, ClientState::Disconnected, ..)));
    let (id, server) = bed.open(&usual());
    server.send(&Frame::close(1008, ""));
    server.peer.fin();
    bed.run_for(10 * SEC);
    let told = bed.events();
    assert!(told.contains(&Told::Stop(id, StopReason::Final)), "{told:?}");
}

#[test]
fn end_of_the_loop_is_told_whatever_panics_in_it() {
    let places: [fn(&Told) -> bool; 4] = [
        |told| matches!(told, Told::Shutdown),
        |told| matches!(told, Told::Change(_, ClientState::Disconnected, ..)),
        |told| matches!(told, Told::Unsent(..)),
        |told| matches!(told, Told::Stop(..)),
    ];
    for (number, place) in places.into_iter().enumerate() {
        let mut bed = LayerBed::new(|settings| {
            settings.reactor.panics = PanicPolicy::CloseConnection;
            settings.act = Box::new(move |_, _, told| assert!(!place(told), "a test's own panic"));
        });
        bed.host.replies(Reply::Silence);
        let ids = [bed.add(&usual()), bed.add(&usual())];
        for id in ids {
            let _ = bed.send(id, "waits");
        }
        bed.reactor.handle().shutdown(SEC).unwrap();
        bed.turns(4);
        assert!(bed.reactor.is_finished(), "{number}");
        let told = bed.events();
        for id in ids {
            let unsent =
                told.iter().filter(|told| matches!(told, Told::Unsent(of, ..) if *of == id));
            assert_eq!(unsent.count(), 1, "{number}: {told:?}");
            let stops = told.iter().filter(|told| **told == Told::Stop(id, StopReason::Stopped));
            assert_eq!(stops.count(), 1, "{number}: {told:?}");
        }
    }
}

#[test]
fn lease_that_has_ended_is_nobodys_after_a_panic_in_on_close() {
    let mut bed = panicking(|told| matches!(told, Told::Close(..)));
    let pool = Pool::builder().min(1).max(1).endpoint(usual()).build().unwrap();
    let pool = bed.ask(move |_, clients| clients.add_pool(pool));
    let server = bed.accept();
    let (lease, connection) = bed.ask(move |at, clients| {
        let acquired = clients.acquire(at, pool, SEC);
        let Ok(Acquired::Now(lease)) = acquired else { panic!("{acquired:?}") };
        (lease, clients.leased(lease).unwrap())
    });
    let lease_of = move |_: &mut Loop<'_, u32>, clients: &mut Clients| clients.lease_of(connection);
    assert_eq!(bed.ask(lease_of), Some(lease));
    server.peer.fin();
    bed.turns(2);
    assert!(matches!(bed.events().last(), Some(Told::Close(..))));
    assert_eq!(bed.ask(lease_of), None);
}

#[test]
fn panic_takes_the_rest_of_an_envelope_with_it_as_it_does_the_frames_behind() {
    let settings = exact(|_| {}).batch(|it| it.form = BatchForm::Envelope).build().unwrap();
    let envelope = r#"{"type":"batch","batch_size":3,"messages":[1,2,3]}"#;
    for texts in [vec![envelope], vec!["1", "2", "3"]] {
        let mut bed = panicking(|told| matches!(told, Told::Text(_, text) if text == "2"));
        let (_, mut server) = bed.open(&settings);
        bed.told();
        let bytes: Vec<u8> = texts.iter().flat_map(|text| Frame::text(text).encode()).collect();
        server.peer.write_all(&bytes);
        bed.turns(2);
        let told = bed.events();
        let heard = told.iter().filter_map(|told| match told {
            Told::Text(_, text) => Some(text.as_str()),
            _ => None,
        });
        assert_eq!(heard.collect::<Vec<_>>(), ["1", "2"], "{texts:?}");
        let close = server.frames().pop().expect("a Close");
        assert_eq!(close.payload, Frame::close(1011, "").payload, "{texts:?}");
    }
}
