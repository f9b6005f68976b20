//! The callbacks that are about no connection: timers, notices, the beginning, and panics in them;
//! loops beside each other.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use corewire::{
    CloseCause, CloseCode, Config, ListenOptions, ListenerSettings, Loop, PanicPolicy, PostError,
    RemoteAddress, Role, ShardIndex, TimerId,
};

use crate::client_bed::{Bed, Heard, Told, address};
use crate::sim_host::Reply;
use crate::sim_server::SimServer;

const MS: Duration = Duration::from_millis(1);

/// Has a timer set, and says its name.
fn set(bed: &mut Bed, after: Duration, cookie: u64) -> TimerId {
    let place = Arc::new(Mutex::new(None));
    let name = place.clone();
    bed.order(move |at| {
        let deadline = at.now() + after;
        *name.lock().unwrap() = Some(at.set_timer(deadline, cookie));
    });
    bed.turn();
    place.lock().unwrap().take().expect("the order was done")
}

fn timers(bed: &mut Bed) -> Vec<(Duration, TimerId, u64)> {
    let told = bed.reactor.handler().told.iter();
    let timers = told.filter_map(|(at, told)| match told {
        Told::Timer(timer, cookie) => Some((*at, *timer, *cookie)),
        _ => None,
    });
    timers.collect()
}

#[test]
fn timer_is_never_early_and_at_most_a_tick_late() {
    let mut bed = Bed::new(|_| {});
    let micros = [0, 1, 999, 1000, 1001, 63_999, 64_000, 64_001, 4_096_500, 3_600_000_001_u64];
    let begun: Vec<_> = micros
        .iter()
        .map(|micros| {
            let began = bed.sim.elapsed();
            let timer = set(&mut bed, Duration::from_micros(*micros), *micros);
            bed.sim.advance(Duration::from_micros(137));
            (began, timer)
        })
        .collect();
    bed.run_for(Duration::from_secs(3700));
    let fired = timers(&mut bed);
    assert_eq!(fired.len(), micros.len());
    for ((began, timer), micros) in begun.into_iter().zip(micros) {
        let due = began + Duration::from_micros(micros);
        let (at, _, cookie) = fired.iter().find(|(_, own, _)| *own == timer).unwrap();
        assert_eq!(*cookie, micros);
        assert!(*at >= due && *at <= due + MS + Duration::from_micros(1400), "{micros}: {at:?}");
    }
    bed.assert_empty();
}

#[test]
fn timer_that_is_taken_back_does_not_come_and_its_name_is_not_used_again() {
    let mut bed = Bed::new(|_| {});
    let first = set(&mut bed, MS, 1);
    let cancelled = Arc::new(Mutex::new(Vec::new()));
    let cancel = |bed: &mut Bed, timer| {
        let told = cancelled.clone();
        bed.order(move |at| told.lock().unwrap().push(at.cancel_timer(timer)));
        bed.turn();
    };
    cancel(&mut bed, first);
    cancel(&mut bed, first);
    let second = set(&mut bed, MS, 2);
    assert_ne!(first, second);
    // The stale name does not hit who has its place now.
    cancel(&mut bed, first);
    bed.run_for(10 * MS);
    cancel(&mut bed, second);
    assert_eq!(*cancelled.lock().unwrap(), [true, false, false, false]);
    let fired = timers(&mut bed);
    assert!(matches!(fired[..], [(_, own, 2)] if own == second), "{fired:?}");
    bed.assert_empty();
}

#[test]
fn timer_of_another_loop_is_a_miss() {
    let mut bed = Bed::new(|settings| settings.reactor.shard = ShardIndex(1));
    let mut other = Bed::new(|settings| settings.reactor.shard = ShardIndex(2));
    let (foreign, own) = (set(&mut other, MS, 1), set(&mut bed, MS, 1));
    assert_ne!(foreign, own);
    bed.order(move |at| assert!(!at.cancel_timer(foreign)));
    bed.run_for(10 * MS);
    assert!(matches!(timers(&mut bed)[..], [(_, fired, 1)] if fired == own));
}

#[test]
fn timer_may_take_another_back_that_is_due_in_the_same_turn() {
    // Whichever comes first cancels the other.
    let names = Arc::new(Mutex::new(Vec::<TimerId>::new()));
    let known = names.clone();
    let mut bed = Bed::new(|settings| {
        settings.act_loop = Box::new(move |at, told| {
            if let Told::Timer(own, _) = told {
                let others = known.lock().unwrap().clone();
                let others = others.into_iter().filter(|other| *other != own);
                for other in others {
                    assert!(at.cancel_timer(other), "it was still to come");
                }
            }
        });
    });
    let both: Vec<_> = (0..2).map(|cookie| set(&mut bed, 5 * MS, cookie)).collect();
    *names.lock().unwrap() = both;
    bed.run_for(20 * MS);
    assert_eq!(timers(&mut bed).len(), 1);
    bed.assert_empty();
}

#[test]
fn ten_thousand_timers_come_each_at_its_time() {
    let mut bed = Bed::new(|_| {});
    let base = Arc::new(Mutex::new(None::<Instant>));
    let begin = base.clone();
    bed.order(move |at| {
        let now = at.now();
        *begin.lock().unwrap() = Some(now);
        for number in 0..10_000_u64 {
            // Scattered over ten seconds.
            let timer = at.set_timer(now + MS * (number * 7919 % 10_000) as u32, number);
            if number % 10 == 0 {
                assert!(at.cancel_timer(timer));
            }
        }
    });
    bed.turn();
    assert_eq!(bed.reactor.usage().timers, 9000);
    bed.run_for(Duration::from_secs(11));
    let fired = timers(&mut bed);
    assert_eq!(fired.len(), 9000);
    assert!(fired.is_sorted_by_key(|(at, ..)| *at));
    for (at, _, number) in &fired {
        let due = MS * (number * 7919 % 10_000) as u32;
        assert!(number % 10 != 0 && *at >= due && *at <= due + MS, "{number} {at:?}");
    }
    let names: BTreeSet<_> = fired.iter().map(|(_, timer, _)| format!("{timer:?}")).collect();
    assert_eq!(names.len(), 9000);
    bed.assert_empty();
}

#[test]
fn timer_that_sets_itself_anew_does_not_keep_the_turn() {
    let mut bed = Bed::new(|settings| {
        settings.act_loop = Box::new(|at, told| {
            if let Told::Timer(_, cookie) = told {
                let now = at.now();
                at.set_timer(now, cookie + 1);
            }
        });
    });
    set(&mut bed, Duration::ZERO, 0);
    bed.run_for(100 * MS);
    let count = timers(&mut bed).len();
    assert!((99..=101).contains(&count), "one in a tick: {count}");
}

#[test]
fn deadline_without_end_is_as_good_as_a_year() {
    let mut bed = Bed::new(|_| {});
    bed.order(|at| {
        assert_eq!(at.deadline(Duration::MAX), at.deadline(Duration::from_secs(365 * 24 * 3600)));
        let far = at.now() + Duration::from_secs(100 * 365 * 24 * 3600);
        at.set_timer(far, 1);
    });
    bed.turn();
    bed.run_for(Duration::from_secs(366 * 24 * 3600));
    assert_eq!(timers(&mut bed).len(), 1);
}

#[test]
fn notices_come_in_their_order_and_a_full_mailbox_gives_them_back() {
    let mut bed = Bed::new(|settings| settings.reactor.limits.mailbox_commands_max = 3);
    let handle = bed.reactor.handle();
    for number in 1..=3_u64 {
        handle.notify(number).unwrap();
    }
    let Err(PostError::Full(command)) = handle.notify(4_u64) else { panic!("there is no room") };
    bed.turn();
    handle.post(command).unwrap();
    bed.turn();
    let told: Vec<_> = bed.reactor.handler().told.iter().map(|(_, told)| *told).collect();
    let notices = [1, 2, 3, 4].map(Told::Notice);
    assert_eq!(told[0], Told::Start);
    assert_eq!(told[1..], notices);
    // Nobody hears it any more.
    drop(bed);
    handle.notify(5_u64).unwrap();
}

#[test]
fn notice_wakes_a_loop_that_waits() {
    let mut bed = Bed::new(|_| {});
    bed.turn();
    let handle = bed.reactor.handle();
    handle.notify(1_u64).unwrap();
    bed.reactor.turn(None).unwrap();
    assert!(bed.reactor.handler().told.iter().any(|(_, told)| *told == Told::Notice(1)));
}

#[test]
fn beginning_is_told_once_and_may_dial() {
    let mut bed = Bed::new(|settings| {
        let dial = Arc::new(settings.dial.clone());
        settings.act_loop = Box::new(move |at, told| {
            if told == Told::Start {
                at.dial([RemoteAddress::from(address())], &dial, 5).unwrap();
            }
        });
    });
    assert!(bed.reactor.next_deadline().is_some(), "it wants to turn");
    bed.turn();
    assert_eq!(bed.host.tries(), 1, "before this turn ends");
    bed.turns(5);
    SimServer::new(bed.host.next().unwrap()).upgrade();
    bed.turn();
    let starts = bed.reactor.handler().told.iter().filter(|(_, told)| *told == Told::Start);
    assert_eq!(starts.count(), 1);
    assert_eq!(bed.reactor.usage().open, 1);
}

/// Which callback panics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Where {
    Start,
    Answer,
    Failed,
    Timer,
    Notice,
    Open,
}

/// A bed in which that happened once, inside the turn that is made last.
fn panicking(place: Where, policy: PanicPolicy) -> (Bed, bool) {
    let panics = Arc::new(Mutex::new(1));
    let mut bed = Bed::new(|settings| {
        settings.reactor.panics = policy;
        let left = panics.clone();
        let once = move |is_here: bool| {
            let mut left = left.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
            if is_here && *left > 0 {
                *left -= 1;
                panic!("a test's own panic");
            }
        };
        let here = once.clone();
        settings.act_loop = Box::new(move |_: &mut Loop<'_, u32>, told| {
            here(match told {
                Told::Start => place == Where::Start,
                Told::Answer(_) => place == Where::Answer,
                Told::Failed(_) => place == Where::Failed,
                Told::Timer(..) => place == Where::Timer,
                Told::Notice(_) => place == Where::Notice,
            });
        });
        settings.act =
            Box::new(move |_, heard| once(place == Where::Open && *heard == Heard::Open));
    });
    let caught = catch_unwind(AssertUnwindSafe(|| {
        match place {
            Where::Start => {}
            Where::Answer | Where::Open => {
                let (_, server, request) = bed.dial_and_ask();
                server.peer.write_all(&request.switching(""));
            }
            Where::Failed => {
                bed.host.replies_next(&[Reply::Fail(111)]);
                bed.dial();
                bed.turn();
            }
            Where::Timer => {
                set(&mut bed, Duration::ZERO, 0);
                bed.sim.advance(2 * MS);
            }
            Where::Notice => bed.reactor.handle().notify(1_u64).unwrap(),
        }
        bed.turn();
    }));
    (bed, caught.is_err())
}

const PLACES: [Where; 6] =
    [Where::Start, Where::Answer, Where::Failed, Where::Timer, Where::Notice, Where::Open];

#[test]
fn panic_in_each_callback_of_a_loop_goes_through_the_turn_by_default() {
    for place in PLACES {
        assert!(panicking(place, PanicPolicy::default()).1, "{place:?}");
    }
}

#[test]
fn caught_panic_in_a_callback_of_a_loop_is_counted_and_the_loop_goes_on() {
    for place in PLACES {
        let (mut bed, is_through) = panicking(place, PanicPolicy::CloseConnection);
        assert!(!is_through, "{place:?}");
        let of_loop = u64::from(place != Where::Open);
        assert_eq!(bed.reactor.counters().loop_panics, of_loop, "{place:?}");
        bed.turns(2);
        if place == Where::Open {
            let own = bed.only_close();
            assert_eq!(
                (own.cause, own.code),
                (CloseCause::HandlerPanicked, CloseCode::INTERNAL_ERROR)
            );
        }
        if place == Where::Answer {
            // It opens as if nobody had looked at its answer.
            assert_eq!(bed.reactor.usage().open, 1);
        }
        while bed.host.next().is_some() {}
        let (id, _server) = bed.open();
        assert!(bed.heard(id).contains(&Heard::Open), "{place:?}: others are served");
    }
}

impl Bed {
    /// What the only connection's end was.
    fn only_close(&mut self) -> corewire::CloseSummary {
        let heard = self.reactor.handler().heard.iter();
        let mut closes = heard.filter_map(|(_, heard)| match heard {
            Heard::Close(summary) => Some(summary.clone()),
            _ => None,
        });
        closes.next().expect("it is over")
    }
}

fn elsewhere() -> SocketAddr {
    SocketAddr::from(([192, 0, 2, 9], 80))
}

/// Listens at [`elsewhere`] and echoes.
fn listen(bed: &mut Bed) {
    let settings = ListenerSettings::new(Config::new(Role::Server));
    bed.reactor.listen(elsewhere(), &ListenOptions::default(), settings).unwrap();
}

fn echoing(settings: &mut crate::client_bed::Settings) {
    settings.act = Box::new(|ctx, heard| {
        let is_server = ctx.here().listener().is_some();
        match heard {
            Heard::Open if !is_server => assert!(ctx.send_text("hello").is_taken()),
            Heard::Text(text) if is_server => assert!(ctx.send_text(text).is_taken()),
            Heard::Text(_) => ctx.close(CloseCode::NORMAL, "done").unwrap(),
            _ => {}
        }
    });
}

#[test]
fn loop_may_dial_its_own_listener() {
    let mut bed = Bed::new(echoing);
    listen(&mut bed);
    let id = bed.dial_all(&[elsewhere()]);
    bed.turns(12);
    let heard = bed.heard(id);
    let [Heard::Answer(101, _), Heard::Open, Heard::Text(text), Heard::Close(summary)] = &heard[..]
    else {
        panic!("{heard:?} {:?}", bed.reactor.handler().failures)
    };
    assert_eq!(text, "hello");
    assert!(summary.is_clean() && summary.code == CloseCode::NORMAL, "{summary:?}");
    bed.turns(4);
    let usage = bed.reactor.usage();
    assert_eq!((usage.sockets, usage.open, usage.timers), (0, 0, 0));
}

#[test]
fn loops_beside_each_other_dial_each_other() {
    let mut one = Bed::new(echoing);
    let mut other = Bed::beside(&one.sim, echoing);
    listen(&mut other);
    let ids: Vec<_> = (0..10).map(|_| one.dial_all(&[elsewhere()])).collect();
    for _ in 0..40 {
        one.turn();
        other.turn();
    }
    for id in ids {
        let heard = one.heard(id);
        assert!(
            matches!(heard.last(), Some(Heard::Close(summary)) if summary.is_clean()),
            "{heard:?}"
        );
        assert!(heard.contains(&Heard::Text("hello".into())));
    }
    assert_eq!(other.reactor.counters().closed, 10);
    assert_eq!(one.sim.sockets(), 0);
}
