//! Names, which a resolver is asked for on threads of its own: those are real, and so is the time
//! that they take; the loop's is not.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use corewire::{Client, ClientId, ClientSettings, ClientState, Resolver, StopReason};

use crate::layer_bed::{LayerBed, Told, address, exact};
use crate::pressure::{percent, watching};
use crate::sim_host::Reply;

const SEC: Duration = Duration::from_secs(1);
const TICK: Duration = Duration::from_millis(2);

/// What a scripted resolver does when it is asked.
#[derive(Clone, Debug)]
enum Says {
    Found(Vec<SocketAddr>),
    Fails(io::ErrorKind),
    Panics,
    /// It does not answer before it is [let go](Script::release).
    Hangs,
}

#[derive(Default)]
struct Script {
    answers: Mutex<VecDeque<Says>>,
    asked: Mutex<Vec<(String, u16)>>,
    is_released: Mutex<bool>,
    wake: Condvar,
}

impl Script {
    fn release(&self) {
        *self.is_released.lock().unwrap() = true;
        self.wake.notify_all();
    }

    fn asked(&self) -> usize {
        self.asked.lock().unwrap().len()
    }
}

impl Resolver for Script {
    fn resolve(&self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        self.asked.lock().unwrap().push((host.to_owned(), port));
        let says = self.answers.lock().unwrap().pop_front();
        match says.unwrap_or(Says::Found(vec![address()])) {
            Says::Found(addresses) => Ok(addresses),
            Says::Fails(kind) => Err(kind.into()),
            Says::Panics => panic!("a test's own panic"),
            Says::Hangs => {
                let mut is_released = self.is_released.lock().unwrap();
                while !*is_released {
                    is_released = self.wake.wait(is_released).unwrap();
                }
                Ok(vec![address()])
            }
        }
    }
}

fn bed(answers: &[Says]) -> (LayerBed, Arc<Script>) {
    let script = Arc::new(Script::default());
    script.answers.lock().unwrap().extend(answers.iter().cloned());
    let resolver = script.clone();
    (LayerBed::new(|settings| settings.resolver = resolver), script)
}

fn named(name: &str) -> ClientSettings {
    Client::builder(&format!("ws://{name}/feed"))
        .reconnect(|reconnect| reconnect.jitter = corewire::Jitter::None)
        .build()
        .unwrap()
}

/// Turns, in real time but not in virtual, until that holds.
fn turn_until(bed: &mut LayerBed, mut holds: impl FnMut(&mut LayerBed) -> bool) {
    let end = Instant::now() + Duration::from_secs(30);
    while !holds(bed) {
        assert!(Instant::now() < end, "it takes too long: {:?}", bed.told());
        bed.turn();
        thread::sleep(Duration::from_micros(200));
    }
}

/// The try of that number, from 1, is a client's and leads to a connection.
fn connected(bed: &mut LayerBed, id: ClientId, tries: u64) {
    turn_until(bed, |bed| bed.host.tries() == tries);
    bed.accept();
    assert_eq!(bed.state(id), Some(ClientState::Connected));
}

/// The words of the next dial that fails.
fn failed(bed: &mut LayerBed) -> String {
    let mut words = None;
    turn_until(bed, |bed| {
        words = bed.events().into_iter().find_map(|told| match told {
            Told::DialFailed(_, words) => Some(words),
            _ => None,
        });
        words.is_some()
    });
    words.unwrap()
}

#[test]
fn name_is_asked_for_once_by_all_and_remembered_for_30_s() {
    let (mut bed, script) = bed(&[]);
    let settings = named("Example.com");
    let clients: Vec<_> = (0..10).map(|_| bed.add(&settings)).collect();
    turn_until(&mut bed, |bed| bed.host.tries() == 10);
    assert_eq!(*script.asked.lock().unwrap(), [("example.com".to_owned(), 80)]);
    for _ in &clients {
        bed.accept();
    }
    for id in clients {
        assert_eq!(bed.state(id), Some(ClientState::Connected));
        bed.ask(move |_, clients| clients.remove(id));
    }
    bed.host.reset_all();
    bed.run_for(29 * SEC);
    bed.add(&settings);
    bed.turns(2);
    assert_eq!((bed.host.tries(), script.asked()), (11, 1), "it is known");
    bed.run_for(2 * SEC);
    bed.add(&settings);
    turn_until(&mut bed, |bed| bed.host.tries() == 12);
    assert_eq!(script.asked(), 2);
    // Another port is another question.
    bed.add(&named("example.com:81"));
    turn_until(&mut bed, |_| script.asked() == 3);
}

#[test]
fn names_are_forgotten_when_memory_becomes_scarce_and_who_waits_goes_on_waiting() {
    let (pressure, memory) = watching(|_| {});
    let script = Arc::new(Script::default());
    let resolver = script.clone();
    let mut bed = LayerBed::new(|settings| {
        settings.resolver = resolver;
        settings.reactor.pressure = Some(pressure);
    });
    let first = bed.add(&named("example.com"));
    connected(&mut bed, first, 1);
    bed.add(&named("example.com"));
    bed.turns(2);
    assert_eq!((bed.host.tries(), script.asked()), (2, 1), "it is known");
    script.answers.lock().unwrap().push_back(Says::Hangs);
    bed.add(&named("slow.example"));
    turn_until(&mut bed, |_| script.asked() == 2);
    memory.set(percent(60));
    bed.run_for(Duration::from_millis(260));
    bed.add(&named("example.com"));
    turn_until(&mut bed, |bed| bed.host.tries() == 3);
    assert_eq!(script.asked(), 3);
    script.release();
    turn_until(&mut bed, |bed| bed.host.tries() == 4);
    assert_eq!(script.asked(), 3);
}

#[test]
fn address_needs_no_resolver() {
    let (mut bed, script) = bed(&[]);
    bed.open(&exact(|_| {}).build().unwrap());
    assert_eq!(script.asked(), 0);
}

#[test]
fn name_that_is_not_found_is_tried_again_and_not_asked_for_meanwhile() {
    let (mut bed, script) = bed(&[Says::Fails(io::ErrorKind::NotFound), Says::Found(vec![])]);
    let id = bed.add(&named("example.com"));
    assert!(failed(&mut bed).starts_with("resolving the name failed"));
    assert_eq!(bed.state(id), Some(ClientState::RetryPending));
    // The tries after 1 s and 3 s are told what is remembered; the one after 7 s asks.
    bed.run_for(4 * SEC);
    assert_eq!((script.asked(), bed.state(id)), (1, Some(ClientState::RetryPending)));
    bed.told();
    bed.run_for(4 * SEC);
    let words = failed(&mut bed);
    assert!(words.contains("no addresses"), "{words}");
    assert_eq!(script.asked(), 2);
    bed.run_for(8 * SEC);
    connected(&mut bed, id, 1);
    assert_eq!(script.asked(), 3);
}

#[test]
fn resolver_that_panics_is_an_error() {
    let (mut bed, _script) = bed(&[Says::Panics]);
    let id = bed.add(&named("example.com"));
    assert!(failed(&mut bed).contains("panicked"));
    // It is remembered until the try after 7 s.
    bed.run_for(7 * SEC + TICK);
    connected(&mut bed, id, 1);
}

#[test]
fn resolver_that_never_answers_costs_its_phase_and_no_more() {
    let (mut bed, script) = bed(&[Says::Hangs]);
    let id = bed.add(&named("example.com"));
    turn_until(&mut bed, |_| script.asked() == 1);
    bed.told();
    let began = bed.sim.elapsed();
    bed.run_for(5 * SEC + TICK);
    let told = bed.told();
    let (at, _) = told
        .iter()
        .find(|(_, told)| matches!(told, Told::DialFailed(_, words) if words.contains("too long")))
        .unwrap_or_else(|| panic!("{told:?}"));
    assert!(*at >= began + 5 * SEC && *at <= began + 5 * SEC + TICK, "{at:?}");
    // Others are served meanwhile, and the name is not asked for a second time.
    let other = bed.add(&named("other.example"));
    connected(&mut bed, other, 1);
    bed.run_for(2 * SEC);
    assert_eq!(bed.state(id), Some(ClientState::Connecting));
    assert_eq!(script.asked(), 2);
    // The late answer is for who waits now.
    script.release();
    connected(&mut bed, id, 2);
    assert_eq!(script.asked(), 2);
}

#[test]
fn names_that_hang_do_not_hold_up_others() {
    // As many as threads ask.
    let (mut bed, script) = bed(&[Says::Hangs, Says::Hangs, Says::Hangs, Says::Hangs]);
    for at in 0..4 {
        bed.add(&named(&format!("hangs-{at}.example")));
    }
    turn_until(&mut bed, |_| script.asked() == 4);
    let id = bed.add(&named("good.example"));
    // Its first try is over together with theirs, or finds a thread then.
    bed.run_for(5 * SEC + TICK);
    bed.run_for(2 * SEC);
    connected(&mut bed, id, 1);
    assert_eq!(script.asked(), 5, "those that hang are not asked for once more");
    script.release();
    turn_until(&mut bed, |bed| bed.host.tries() == 5);
}

#[test]
fn client_that_is_stopped_while_its_name_is_asked_for_hears_no_more() {
    let (mut bed, script) = bed(&[Says::Hangs]);
    let id = bed.add(&named("example.com"));
    let gone = bed.add(&named("example.com"));
    turn_until(&mut bed, |_| script.asked() == 1);
    bed.ask(move |_, clients| {
        clients.stop(id);
        clients.remove(gone);
    });
    let told = bed.events();
    assert!(told.contains(&Told::Stop(id, StopReason::Stopped)));
    assert!(told.contains(&Told::Stop(gone, StopReason::Stopped)));
    assert_eq!(bed.reactor.usage().timers, 0);
    script.release();
    // Somebody who asks now gets the answer.
    let other = bed.add(&named("example.com"));
    connected(&mut bed, other, 1);
    assert_eq!(bed.host.tries(), 1);
    assert!(bed.events().iter().all(|told| !matches!(told, Told::DialFailed(..))));
}

#[test]
fn addresses_of_a_name_are_tried_one_after_the_other() {
    let addresses: Vec<SocketAddr> = (1..4_u8).map(|at| ([198, 51, 100, at], 80).into()).collect();
    let (mut bed, _script) = bed(&[Says::Found(addresses.clone())]);
    let hosts: Vec<_> = addresses.iter().map(|address| bed.sim.host(*address)).collect();
    hosts[0].replies(Reply::Silence);
    hosts[1].replies(Reply::Fail(111));
    bed.add(&named("example.com"));
    turn_until(&mut bed, |_| hosts[0].tries() == 1);
    bed.run_for(Duration::from_millis(251));
    bed.turns(2);
    assert_eq!(hosts.iter().map(|host| host.tries()).collect::<Vec<_>>(), [1, 1, 1]);
    assert!(hosts[2].next().is_some());
}

#[test]
fn loop_may_end_while_a_name_is_asked_for() {
    let (mut bed, script) = bed(&[Says::Hangs]);
    bed.add(&named("example.com"));
    turn_until(&mut bed, |_| script.asked() == 1);
    drop(bed);
    script.release();
}
