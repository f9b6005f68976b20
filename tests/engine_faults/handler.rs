//! What a handler may do in each callback, and what it is promised (rows T13 to T16, promises 1 to
//! 3).

use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::time::Duration;

use corewire::{
    CloseCause, CloseCode, Command, Context, DropReason, PanicPolicy, PostError, PreparedMessage,
    SendOutcome,
};

use crate::sim_bed::{Bed, Heard, Occasion, echo, read_frames};
use crate::sim_net::SimPeer;
use crate::sim_peer::{
    BINARY, Frame, PING, PONG, TEXT, close, frames, message, split_head, upgrade_request,
};

/// The name of an occasion, to choose one by.
fn name(occasion: &Occasion<'_>) -> &'static str {
    match occasion {
        Occasion::Open => "open",
        Occasion::Message(_) => "message",
        Occasion::Chunk(_) => "chunk",
        Occasion::Ping(_) => "ping",
        Occasion::Pong(..) => "pong",
        Occasion::Drain => "drain",
        Occasion::Close(_) => "close",
    }
}

const OCCASIONS: [&str; 7] = ["open", "message", "chunk", "ping", "pong", "drain", "close"];

/// A bed whose handler acts on one kind of occasion, in streaming mode where that is "chunk". On a
/// message it also sends so much that the kernel refuses some.
fn bed_acting(
    on: &'static str,
    change: impl FnOnce(&mut crate::sim_bed::Settings),
    mut act: impl FnMut(&mut Context<'_, ()>) + 'static,
) -> Bed {
    let change = move |settings: &mut crate::sim_bed::Settings| {
        if on == "chunk" {
            settings.config.delivery = corewire::Delivery::Streaming;
        }
        change(settings);
    };
    Bed::new(change, move |ctx, occasion| {
        if matches!(occasion, Occasion::Message(_)) && on == "drain" {
            let _ = ctx.send_binary(&[1; 5000]);
        }
        if name(&occasion) == on {
            act(ctx);
        }
    })
}

/// A peer that provokes every occasion; what it has received in the end, behind the handshake.
fn provoke(bed: &mut Bed) -> (SimPeer, Vec<Frame>) {
    let peer = bed.sim.connect(bed.address);
    peer.set_buffers(1 << 20, 1000);
    let mut script = upgrade_request("/", "");
    script.extend(message(PING, b"ping"));
    script.extend(message(PONG, b"pong"));
    script.extend(message(TEXT, b"text"));
    script.extend(message(BINARY, b"binary"));
    peer.write_all(&script);
    let mut bytes = Vec::new();
    for _ in 0..30 {
        bed.turn();
        bytes.extend(peer.read_all());
    }
    peer.write(&close(1000));
    for _ in 0..3 {
        bed.turn();
        bytes.extend(peer.read_all());
    }
    peer.fin();
    bed.turns(3);
    let rest = split_head(&bytes).map_or(Vec::new(), |(_, rest)| rest.to_vec());
    (peer, frames(&rest).0)
}

fn assert_one_pair(bed: &Bed) {
    let log = bed.log.borrow();
    let at = |wanted: fn(&Heard) -> bool| {
        let found = log.iter().enumerate().filter(|(_, entry)| wanted(&entry.heard));
        found.map(|(at, _)| at).collect::<Vec<_>>()
    };
    let opens = at(|heard| *heard == Heard::Open);
    let closes = at(|heard| matches!(heard, Heard::Close(_)));
    assert_eq!((opens.len(), closes.len()), (1, 1));
    assert_eq!(closes[0], log.len() - 1, "nothing is heard behind on_close");
}

#[test]
fn t13_handler_may_close_inside_each_callback() {
    for on in OCCASIONS {
        let mut bed = bed_acting(
            on,
            |_| {},
            |ctx| {
                ctx.close(CloseCode::NORMAL, "enough").unwrap();
                ctx.close(CloseCode::NORMAL, "twice").unwrap();
            },
        );
        let (_, frames) = provoke(&mut bed);
        let last = frames.last().unwrap_or_else(|| panic!("{on}: nothing was received"));
        assert_eq!(last.close_code(), Some(1000), "{on}");
        let heard = bed.log.borrow().iter().any(|entry| entry.heard == Heard::Drain);
        assert_eq!(heard, on == "drain");
        assert_one_pair(&bed);
        bed.assert_empty();
    }
}

#[test]
fn t13_handler_may_abort_inside_each_callback() {
    for on in OCCASIONS {
        let mut bed = bed_acting(
            on,
            |_| {},
            |ctx| {
                ctx.here().abort();
                assert!(!ctx.here().is_open());
            },
        );
        provoke(&mut bed);
        assert_one_pair(&bed);
        let cause = bed.summary(bed.latest()).cause;
        assert_eq!(cause == CloseCause::Aborted, on != "close", "{on}: {cause:?}");
        bed.assert_empty();
    }
}

#[test]
fn t13_nothing_can_be_sent_from_on_close() {
    let mut bed = bed_acting(
        "close",
        |_| {},
        |ctx| {
            assert_eq!(ctx.send_text("late"), SendOutcome::Dropped(DropReason::Gone));
            assert!(ctx.connections().all(|id| id != ctx.id()));
            *ctx.data() = ();
            ctx.here().pause();
            ctx.here().resume();
            let id = ctx.id();
            assert_eq!(ctx.peer(id).send_text("late"), SendOutcome::Dropped(DropReason::Gone));
        },
    );
    provoke(&mut bed);
    assert_one_pair(&bed);
    bed.assert_empty();
}

#[test]
fn t14_panic_goes_through_the_turn_by_default() {
    for on in OCCASIONS {
        let mut bed = bed_acting(on, |_| {}, |_| panic!("of the test"));
        let outcome = catch_unwind(AssertUnwindSafe(|| provoke(&mut bed)));
        assert!(outcome.is_err(), "{on}");
    }
}

#[test]
fn t14_caught_panic_fails_that_connection_with_1011_and_no_other() {
    for on in OCCASIONS {
        let victim = Rc::new(RefCell::new(false));
        let is_armed = victim.clone();
        let mut bed = bed_acting(
            on,
            |settings| settings.reactor.panics = PanicPolicy::CloseConnection,
            move |_| assert!(!*is_armed.borrow(), "of the test"),
        );
        let neighbour = bed.open();
        let neighbour_id = bed.latest();
        *victim.borrow_mut() = true;
        let (_, frames) = provoke(&mut bed);
        *victim.borrow_mut() = false;
        let codes: Vec<_> = frames.iter().filter_map(Frame::close_code).collect();
        let expected = if on == "close" { 1000 } else { 1011 };
        assert_eq!(codes, [expected], "{on}");
        assert_eq!(bed.closed(neighbour_id), None);
        assert_eq!(bed.reactor.usage().sockets, 1);
        neighbour.reset();
        bed.turn();
        bed.assert_empty();
    }
}

#[test]
fn t14_caught_panic_over_a_request_is_answered_with_500() {
    let change = |settings: &mut crate::sim_bed::Settings| {
        settings.reactor.panics = PanicPolicy::CloseConnection;
    };
    let mut bed = Bed::new(change, echo);
    let peer = bed.sim.connect(bed.address);
    peer.write_all(&upgrade_request("/panic", ""));
    bed.turns(2);
    assert!(peer.read_all().starts_with(b"HTTP/1.1 500 "));
    peer.fin();
    bed.turn();
    bed.assert_empty();
}

#[test]
fn t15_stale_name_is_a_miss_and_never_another_connection() {
    let stale = Rc::new(RefCell::new(None));
    let (name, outcome) = (stale.clone(), Rc::new(RefCell::new(None)));
    let told = outcome.clone();
    let mut bed = Bed::new(
        |_| {},
        move |ctx, occasion| {
            if let (Occasion::Message(_), Some(id)) = (occasion, *name.borrow()) {
                let mut peer = ctx.peer(id);
                assert!(!peer.is_open() && peer.data().is_none() && peer.address().is_none());
                peer.pause();
                peer.abort();
                peer.close(CloseCode::NORMAL, "").unwrap();
                *told.borrow_mut() = Some(peer.send_text("to whom?"));
            }
        },
    );
    let first = bed.open();
    *stale.borrow_mut() = Some(bed.latest());
    first.reset();
    bed.turn();
    let second = bed.open();
    let id = bed.latest();
    assert_ne!(Some(id), *stale.borrow());
    second.write_all(&message(TEXT, b"go"));
    bed.turn();
    assert_eq!(*outcome.borrow(), Some(SendOutcome::Dropped(DropReason::Gone)));
    let handle = bed.reactor.handle();
    let gone = stale.borrow().unwrap();
    handle.send(gone, PreparedMessage::text("to whom?")).unwrap();
    handle.close(gone, CloseCode::NORMAL, "").unwrap();
    handle.abort(gone).unwrap();
    bed.turns(2);
    assert_eq!(second.read_all(), b"");
    assert_eq!(bed.closed(id), None);
}

#[test]
fn t16_full_mailbox_gives_the_command_back() {
    let mut bed = Bed::new(|settings| settings.reactor.limits.mailbox_commands_max = 4, echo);
    let peer = bed.open();
    let (id, handle) = (bed.latest(), bed.reactor.handle());
    for text in ["1", "2", "3", "4"] {
        handle.send(id, PreparedMessage::text(text)).unwrap();
    }
    match handle.send(id, PreparedMessage::text("5")) {
        Err(PostError::Full(Command::Send(to, message))) => {
            assert_eq!((to, message.payload()), (id, b"5".as_slice()));
        }
        other => panic!("{other:?}"),
    }
    bed.turn();
    assert_eq!(
        read_frames(&peer),
        ["1", "2", "3", "4"].map(|text| Frame::new(TEXT, text.as_bytes()))
    );
    handle.send(id, PreparedMessage::text("6")).unwrap();
    bed.turn();
    assert_eq!(read_frames(&peer), [Frame::new(TEXT, b"6")]);
}

#[test]
fn what_on_close_sends_to_others_leaves_in_the_same_turn_or_at_once_after_it() {
    // The farewell goes to one that was looked after in this turn already.
    let mut bed = Bed::new(
        |_| {},
        |ctx, occasion| match occasion {
            Occasion::Message(_) => {
                let ids: Vec<_> = ctx.connections().collect();
                for id in &ids {
                    let _ = ctx.peer(*id).send_text("all");
                }
                if let Some(last) = ids.last() {
                    ctx.peer(*last).abort();
                }
            }
            Occasion::Close(_) => {
                let ids: Vec<_> = ctx.connections().collect();
                for id in ids {
                    assert_eq!(ctx.peer(id).send_text("farewell"), SendOutcome::Sent);
                }
            }
            _ => {}
        },
    );
    let first = bed.open();
    let second = bed.open();
    let _third = bed.open();
    first.write_all(&message(TEXT, b"go"));
    bed.turn();
    let expected = [Frame::new(TEXT, b"all"), Frame::new(TEXT, b"farewell")];
    assert_eq!(read_frames(&second), expected);
    assert_eq!(read_frames(&first), expected);
}

#[test]
fn what_on_drain_sends_leaves_in_the_same_turn() {
    // The queue drains because another connection's message makes the loop flush it.
    let slow = Rc::new(RefCell::new(None));
    let id_of_slow = slow.clone();
    let mut bed = Bed::new(
        |_| {},
        move |ctx, occasion| match occasion {
            Occasion::Message(message) if message.payload() == b"fill" => {
                *id_of_slow.borrow_mut() = Some(ctx.id());
                let _ = ctx.send_binary(&[7; 3000]);
            }
            Occasion::Message(_) => {
                let id = id_of_slow.borrow().unwrap();
                let _ = ctx.peer(id).send_text("nudge");
            }
            Occasion::Drain => assert_eq!(ctx.send_text("drained"), SendOutcome::Sent),
            _ => {}
        },
    );
    let reader = bed.open();
    reader.set_buffers(1 << 20, 1000);
    reader.write_all(&message(TEXT, b"fill"));
    bed.turn();
    let other = bed.open();
    // Room comes back while the kernel's word of it is still under way.
    bed.sim.0.borrow_mut().faults.partial_polls = 1000;
    reader.set_buffers(1 << 20, 1 << 20);
    other.write_all(&message(TEXT, b"nudge"));
    for _ in 0..50 {
        bed.turn();
        if bed.heard(slow.borrow().unwrap()).contains(&Heard::Drain) {
            break;
        }
    }
    let bytes = reader.handed_over();
    assert!(bytes.ends_with(b"drained"), "{} bytes", bytes.len());
}

#[test]
fn handler_that_answers_every_on_drain_with_more_does_not_keep_the_loop() {
    let mut bed = Bed::new(
        |_| {},
        |ctx, occasion| match occasion {
            Occasion::Message(message) if message.payload() == b"fill" => {
                let _ = ctx.send_binary(&[7; 3000]);
            }
            Occasion::Drain => {
                let _ = ctx.send_binary(&[7; 3000]);
            }
            Occasion::Message(message) => {
                let _ = ctx.send(message);
            }
            _ => {}
        },
    );
    let reader = bed.open();
    let neighbour = bed.open();
    reader.write_all(&message(TEXT, b"fill"));
    // Every second write is cut short, as if the peer read on in between.
    bed.sim.shorten(crate::sim_world::Call::Send, &[100, 3000].repeat(200));
    bed.run_for(Duration::from_secs(1));
    neighbour.write_all(&message(TEXT, b"and me?"));
    bed.turn();
    assert!(neighbour.handed_over().ends_with(b"and me?"));
}

#[test]
fn pause_in_on_open_holds_back_what_came_with_the_request() {
    let mut bed = Bed::new(
        |_| {},
        |ctx, occasion| match occasion {
            Occasion::Open => ctx.here().pause(),
            Occasion::Message(message) => {
                let _ = ctx.send(message);
                ctx.here().pause();
            }
            _ => {}
        },
    );
    let peer = bed.sim.connect(bed.address);
    let mut bytes = upgrade_request("/", "");
    bytes.extend(message(TEXT, b"one"));
    bytes.extend(message(TEXT, b"two"));
    peer.write_all(&bytes);
    bed.turns(4);
    let heard = |bed: &Bed| bed.heard(bed.latest()).len();
    assert_eq!(heard(&bed), 0);
    for count in 1..=2 {
        // A broadcast is nothing to resume by; the test does it from another connection.
        resume(&mut bed);
        bed.turns(3);
        assert_eq!(heard(&bed), count);
    }
}

/// Resumes the latest connection: another handler's callback is the only way, so the reactor's own
/// handler is replaced for one turn by what a new connection's opening does.
fn resume(bed: &mut Bed) {
    let id = bed.latest();
    let other = bed.sim.connect(bed.address);
    bed.reactor.handler().on_next_open(move |ctx| ctx.peer(id).resume());
    other.write_all(&upgrade_request("/", ""));
    bed.turns(2);
    other.reset();
    bed.turns(2);
    bed.forget_latest();
}

#[test]
fn promise_2_every_send_tells_the_truth_and_the_summary_tells_the_rest() {
    let outcomes = Rc::new(RefCell::new(Vec::new()));
    let told = outcomes.clone();
    let mut bed = Bed::new(
        |_| {},
        move |ctx, occasion| {
            if let Occasion::Message(_) = occasion {
                for _ in 0..4 {
                    told.borrow_mut().push(ctx.send_binary(&[7; 98]));
                }
            }
        },
    );
    let peer = bed.open();
    peer.set_buffers(1 << 20, 250);
    peer.write_all(&message(TEXT, b"go"));
    bed.turn();
    assert_eq!(*outcomes.borrow(), [SendOutcome::Sent; 4], "nothing was refused so far");
    outcomes.borrow_mut().clear();
    peer.write_all(&message(TEXT, b"go"));
    bed.turn();
    let queued = [150, 250, 350, 450].map(|bytes| SendOutcome::Queued { bytes });
    assert_eq!(*outcomes.borrow(), queued);
    peer.reset();
    bed.turns(2);
    let summary = bed.summary(bed.latest());
    // Two whole and one torn were handed to the kernel.
    assert_eq!((summary.unsent_messages, summary.unsent_bytes), (6, 550));
    bed.assert_empty();
}

#[test]
fn shutdown_tells_everyone_1001_and_ends_when_they_are_gone() {
    let mut bed = Bed::echo();
    let peers: Vec<_> = (0..5).map(|_| bed.open()).collect();
    let idle = bed.sim.connect(bed.address);
    bed.turn();
    bed.reactor.handle().shutdown(Duration::from_secs(10)).unwrap();
    bed.turn();
    assert!(bed.sim.connect_from(bed.address, ([1, 1, 1, 1], 1).into()).is_none());
    for peer in &peers {
        let frames = read_frames(peer);
        assert_eq!(frames[0].close_code(), Some(1001));
        peer.write_all(&close(1001));
        peer.fin();
    }
    bed.turns(2);
    assert!(bed.reactor.is_finished());
    assert!(idle.is_at_end());
    bed.assert_empty();
}

#[test]
fn shutdown_cuts_off_at_its_deadline_who_does_not_answer() {
    let mut bed = Bed::echo();
    let _silent = bed.open();
    let id = bed.latest();
    let torn = bed.sim.connect(bed.address);
    torn.write_all(b"GET / HT");
    bed.turn();
    bed.reactor.handle().shutdown(Duration::from_secs(2)).unwrap();
    bed.run_for(Duration::from_secs(3));
    assert!(bed.reactor.is_finished());
    let (entry, summary) = bed.closed(id).unwrap();
    assert_eq!((entry.at, summary.cause), (Duration::from_secs(2), CloseCause::LoopEnded));
    bed.assert_empty();
}
