//! What becomes of messages that a client is given, whatever state it is in.

use std::time::Duration;

use corewire::{
    ClientBuilder, ClientState, Clients, CloseCode, DropReason, Loop, Message, Outage,
    OutagePolicy, Owner, SendOutcome, StopReason, Submitted, UnsentReason,
};

use crate::layer_bed::{LayerBed, Settings, Told, exact, texts, usual};
use crate::naive::Frame;
use crate::sim_errno::ECONNREFUSED;
use crate::sim_host::Reply;

const SEC: Duration = Duration::from_secs(1);
const TICK: Duration = Duration::from_millis(2);

fn outage(change: impl FnOnce(&mut Outage)) -> ClientBuilder {
    exact(|_| {}).outage(change)
}

/// The numbers of messages that were told to be unsent, with the reasons.
fn unsent(told: &[Told]) -> Vec<(u64, UnsentReason)> {
    let unsent = told.iter().filter_map(|told| match told {
        Told::Unsent(_, number, _, reason) => Some((*number, *reason)),
        _ => None,
    });
    unsent.collect()
}

/// Subscribes whenever a connection opens.
fn subscribing(settings: &mut Settings) {
    settings.act = Box::new(|at, _, told| {
        if let Told::Open(id) = told {
            assert!(at.peer(*id).send_text("subscribe").is_taken());
        }
    });
}

#[test]
fn messages_wait_for_a_connection_and_follow_what_on_open_sends() {
    let mut bed = LayerBed::new(subscribing);
    bed.host.replies(Reply::Fail(ECONNREFUSED));
    let id = bed.add(&usual());
    bed.turns(2);
    for number in 0..5 {
        let submitted = bed.send(id, &format!("message {number}"));
        assert_eq!(submitted, Some(Submitted::Waiting { id: number }));
    }
    bed.host.replies(Reply::Accept);
    bed.run_for(SEC + TICK);
    let mut server = bed.accept();
    let expected = ["subscribe", "message 0", "message 1", "message 2", "message 3", "message 4"];
    assert_eq!(texts(&server.frames()), expected);
    assert_eq!(bed.send(id, "at once"), Some(Submitted::Given(SendOutcome::Sent)));
    assert_eq!(texts(&server.frames()), ["at once"]);
    let stats = bed.ask(move |_, clients| clients.stats(id).cloned()).unwrap();
    assert_eq!((stats.sent_late, stats.unsent), (5, 0));
}

#[test]
fn binary_messages_wait_as_what_they_are() {
    let mut bed = LayerBed::new(|_| {});
    let id = bed.add(&usual());
    bed.ask(move |at, clients| {
        let _ = clients.send(at, id, Message::Binary(&[0xFF, 0]));
        let _ = clients.send(at, id, Message::Text(""));
        let _ = clients.send(at, id, Message::Binary(&[]));
    });
    bed.turn();
    let mut server = crate::sim_server::SimServer::new(bed.host.next().unwrap());
    server.upgrade();
    bed.turn();
    let frames = server.plain_frames();
    assert_eq!(frames, [Frame::binary([0xFF, 0]), Frame::text(""), Frame::binary([])]);
}

#[test]
fn full_queue_refuses_by_default() {
    let mut bed = LayerBed::new(|_| {});
    bed.host.replies(Reply::Silence);
    let id = bed.add(&outage(|outage| outage.messages_max = 2).build().unwrap());
    let outcomes = bed.ask(move |at, clients| {
        ["a", "b", "c"].map(|text| clients.send(at, id, Message::Text(text)).unwrap())
    });
    let waiting = |id| Submitted::Waiting { id };
    assert_eq!(outcomes, [waiting(0), waiting(1), Submitted::Refused(UnsentReason::QueueFull)]);
    let large = "x".repeat(2 << 20);
    assert_eq!(bed.send(id, &large), Some(Submitted::Refused(UnsentReason::TooLarge)));
    assert_eq!(unsent(&bed.events()), []);
}

#[test]
fn oldest_makes_room_where_that_is_wanted_and_is_reported() {
    let mut bed = LayerBed::new(|_| {});
    bed.host.replies_next(&[Reply::Fail(ECONNREFUSED)]);
    let settings = outage(|outage| {
        outage.messages_max = 2;
        outage.policy = OutagePolicy::DropOldest;
    });
    let id = bed.add(&settings.build().unwrap());
    // Several in one callback.
    bed.ask(move |at, clients| {
        for text in ["a", "b", "c", "d", "e"] {
            let submitted = clients.send(at, id, Message::Text(text)).unwrap();
            assert!(matches!(submitted, Submitted::Waiting { .. }));
        }
    });
    let reason = UnsentReason::QueueFull;
    assert_eq!(unsent(&bed.events()), [(0, reason), (1, reason), (2, reason)]);
    bed.run_for(SEC + TICK);
    assert_eq!(texts(&bed.accept().frames()), ["d", "e"]);
}

#[test]
fn message_that_has_waited_too_long_is_reported_at_its_time() {
    let mut bed = LayerBed::new(|_| {});
    bed.host.replies(Reply::Silence);
    let id = bed.add(&outage(|outage| outage.age_max = 5 * SEC).build().unwrap());
    let began = bed.sim.elapsed();
    let _ = bed.send(id, "first");
    bed.run_for(SEC);
    let _ = bed.send(id, "second");
    bed.run_for(10 * SEC);
    let told = bed.told();
    let times: Vec<_> = told
        .iter()
        .filter(|(_, told)| matches!(told, Told::Unsent(_, _, _, UnsentReason::TooOld)))
        .map(|(at, _)| *at - began)
        .collect();
    assert_eq!(times.len(), 2);
    assert!(times[0] >= 5 * SEC && times[0] <= 5 * SEC + TICK, "{times:?}");
    assert!(times[1] >= 6 * SEC && times[1] <= 6 * SEC + 2 * TICK, "{times:?}");
}

#[test]
fn many_in_one_callback_after_a_stall_find_what_is_too_old_gone() {
    let mut bed = LayerBed::new(|_| {});
    bed.host.replies(Reply::Silence);
    let id = bed.add(&outage(|outage| outage.age_max = 5 * SEC).build().unwrap());
    let _ = bed.send(id, "old");
    // The process stands still; orders are done before timers are.
    bed.sim.advance(6 * SEC);
    bed.ask(move |at, clients| {
        for text in ["new", "newer"] {
            let _ = clients.send(at, id, Message::Text(text));
        }
    });
    assert_eq!(unsent(&bed.events()), [(0, UnsentReason::TooOld)]);
}

#[test]
fn stop_reports_what_waits_and_nothing_is_taken_any_more() {
    let mut bed = LayerBed::new(|_| {});
    bed.host.replies(Reply::Silence);
    let id = bed.add(&usual());
    let _ = bed.send(id, "a");
    let _ = bed.send(id, "b");
    bed.ask(move |at, clients| {
        clients.stop(id);
        let after = clients.send(at, id, Message::Text("c"));
        assert_eq!(after, Some(Submitted::Refused(UnsentReason::Stopped)));
    });
    let told = bed.events();
    let reason = UnsentReason::Stopped;
    assert_eq!(unsent(&told), [(0, reason), (1, reason)]);
    assert_eq!(told.last(), Some(&Told::Stop(id, StopReason::Stopped)));
    let stats = bed.ask(move |_, clients| clients.stats(id).cloned()).unwrap();
    assert_eq!(stats.unsent, 2);
}

#[test]
fn client_that_gives_up_reports_what_waits() {
    let mut bed = LayerBed::new(|_| {});
    let id = bed.add(&usual());
    let _ = bed.send(id, "a");
    bed.turn();
    bed.host.next().unwrap().write_all(b"HTTP/1.1 403 No\r\nContent-Length: 0\r\n\r\n");
    bed.turns(2);
    let told = bed.events();
    assert_eq!(unsent(&told), [(0, UnsentReason::Stopped)]);
    assert_eq!(told.last(), Some(&Told::Stop(id, StopReason::Final)));
}

/// Sends so many messages of so many bytes while the client is offline, and so many more while the
/// others go out, and reads what arrives.
fn flushed(
    count: usize,
    more: usize,
    message_bytes: usize,
    high_water: usize,
    kernel_bytes: usize,
) {
    let mut bed = LayerBed::new(|_| {});
    bed.sim.0.borrow_mut().to_peer_max = kernel_bytes;
    let settings = outage(|outage| (outage.messages_max, outage.bytes_max) = (10_000, 64 << 20))
        .config(|config| {
            config.limits.high_water_bytes = high_water;
            config.limits.low_water_bytes = high_water / 4;
        });
    let id = bed.add(&settings.build().unwrap());
    let text = move |number: usize| format!("{number:08}{}", "x".repeat(message_bytes - 8));
    let submitted = bed.ask(move |at, clients| {
        let sent = (0..count).map(|number| clients.send(at, id, Message::Text(&text(number))));
        sent.map(Option::unwrap).all(|sent| matches!(sent, Submitted::Waiting { .. }))
    });
    assert!(submitted);
    let mut server = None;
    let mut arrived = Vec::new();
    let mut later = count;
    for turn in 0..20_000 {
        bed.turn();
        let peer = server.take().or_else(|| bed.host.next().map(crate::sim_server::SimServer::new));
        let Some(mut peer) = peer else { continue };
        if bed.state(id) == Some(ClientState::Connecting) {
            if let Some(request) = peer.request() {
                peer.peer.write_all(&request.switching(""));
            }
        } else {
            let opened = texts(&peer.frames());
            arrived.extend(opened.iter().map(|text| text[..8].parse::<usize>().unwrap()));
            // What is given while others wait is behind them.
            if turn % 3 == 0 && later < count + more {
                let number = later;
                let sent = bed.ask(move |at, clients| {
                    clients.send(at, id, Message::Text(&format!("{number:08}")))
                });
                assert!(!matches!(sent, Some(Submitted::Refused(_))), "{sent:?}");
                later += 1;
            }
        }
        server = Some(peer);
        if arrived.len() == count + more {
            break;
        }
    }
    let sizes = (count, message_bytes, high_water, kernel_bytes);
    assert_eq!(arrived.len(), count + more, "{sizes:?}");
    assert!(arrived.iter().copied().eq(0..count + more), "{sizes:?} {arrived:?}");
    assert_eq!(unsent(&bed.events()), []);
}

#[test]
fn queue_larger_than_the_high_water_mark_goes_out_in_order_and_to_its_end() {
    // The kernel takes all of it, some of it, hardly any of it.
    for more in [0, 20] {
        for kernel_bytes in [64 << 20, 100_000, 3000] {
            flushed(3000, more, 400, 256 << 10, kernel_bytes);
            flushed(200, more, 100, 1000, kernel_bytes);
        }
        flushed(40, more, 40_000, 256 << 10, 64 << 20);
        flushed(40, more, 40_000, 64 << 10, 100_000);
    }
}

#[test]
fn what_was_not_handed_over_when_the_connection_broke_waits_for_the_next() {
    let mut bed = LayerBed::new(|_| {});
    bed.sim.0.borrow_mut().to_peer_max = 3000;
    let settings = exact(|reconnect| reconnect.stable_after = Duration::ZERO)
        .outage(|outage| (outage.messages_max, outage.bytes_max) = (10_000, 64 << 20))
        .config(|config| {
            (config.limits.high_water_bytes, config.limits.low_water_bytes) = (10_000, 1000);
        });
    let id = bed.add(&settings.build().unwrap());
    bed.ask(move |at, clients| {
        for number in 0..1000 {
            let _ = clients.send(at, id, Message::Text(&format!("{number:0100}")));
        }
    });
    let (mut seen, mut handed_over) = (Vec::new(), 0);
    while !seen.contains(&999) {
        let mut server = bed.accept();
        bed.turns(5);
        // What the kernel holds is lost with it, but for what has been read by then.
        let frames = texts(&server.frames());
        seen.extend(frames.iter().map(|text| text.parse::<u64>().unwrap()));
        bed.turns(5);
        let whole_bytes = server.peer.handed_over().len() - 200;
        handed_over += whole_bytes as u64 / 107;
        server.peer.reset();
        bed.run_for(SEC + TICK);
    }
    assert!(seen.is_sorted_by(|one, other| one < other), "in order and once");
    let told = bed.events();
    let unsent_messages: u64 = told
        .iter()
        .map(|told| match told {
            Told::Close(_, summary) => summary.unsent_messages,
            _ => 0,
        })
        .sum();
    let stats = bed.ask(move |_, clients| clients.stats(id).cloned()).unwrap();
    assert!(stats.opened > 5 && unsent_messages > 0, "{stats:?}");
    assert_eq!(unsent(&told), []);
    // Each of those that were sent was handed to the kernel, or counted as unsent.
    assert_eq!(stats.sent_late, 1000);
    let rounded = stats.opened * 2;
    assert!(handed_over + unsent_messages + rounded >= 1000, "{handed_over} {unsent_messages}");
    assert!(handed_over + unsent_messages <= 1000 + rounded, "{handed_over} {unsent_messages}");
}

#[test]
fn message_that_meets_a_connection_that_is_closing_waits_for_the_next() {
    let mut bed = LayerBed::new(|settings| {
        settings.act = Box::new(|at, clients, told| {
            if let Told::Close(..) = told {
                let all: Vec<_> = clients.iter().collect();
                let sent = clients.send(at, all[0], Message::Text("in on_close"));
                assert!(matches!(sent, Some(Submitted::Waiting { .. })), "{sent:?}");
            }
        });
    });
    let (id, mut server) = bed.open(&usual());
    // Its kernel takes nothing for a while, so that the closing handshake takes a while too.
    server.peer.set_buffers(1 << 20, 0);
    server.send(&Frame::close(1012, ""));
    bed.turns(2);
    assert!(bed.events().iter().all(|told| !matches!(told, Told::Close(..))));
    assert!(matches!(bed.send(id, "closing"), Some(Submitted::Waiting { .. })));
    server.peer.set_buffers(1 << 20, 1 << 20);
    server.peer.read_all();
    bed.turns(3);
    bed.run_for(SEC * 10);
    let mut next = bed.accept();
    assert_eq!(texts(&next.frames()), ["closing", "in on_close"]);
    assert_eq!(texts(&server.frames()), Vec::<String>::new());
}

#[test]
fn message_behind_the_applications_own_close_is_reported() {
    let mut bed = LayerBed::new(|_| {});
    let (id, server) = bed.open(&usual());
    let sent = bed.ask(move |at, clients| {
        let connection = clients.connection(id).unwrap();
        at.peer(connection).close(CloseCode::NORMAL, "").unwrap();
        clients.send(at, id, Message::Text("too late"))
    });
    match sent.unwrap() {
        Submitted::Waiting { id: number } => {
            server.send(&Frame::close(1000, ""));
            bed.turns(3);
            assert_eq!(unsent(&bed.events()), [(number, UnsentReason::Stopped)]);
        }
        other => assert_eq!(other, Submitted::Given(SendOutcome::Dropped(DropReason::Closing))),
    }
}

#[test]
fn end_of_the_loop_stops_the_clients_and_reports_what_waits() {
    let mut bed = LayerBed::new(|_| {});
    let (id, server) = bed.open(&usual());
    bed.host.replies(Reply::Silence);
    let other = bed.add(&usual());
    let waiting = bed.ask(move |at, clients| clients.send(at, other, Message::Text("later")));
    let Some(Submitted::Waiting { id: number }) = waiting else { panic!("{waiting:?}") };
    bed.reactor.handle().shutdown(5 * SEC).unwrap();
    bed.turn();
    server.send(&Frame::close(1000, ""));
    server.peer.fin();
    bed.turns(4);
    assert!(bed.reactor.is_finished());
    assert_eq!(bed.sim.sockets(), 0);
    let told = bed.events();
    for client in [id, other] {
        let stops = told.iter().filter(|told| **told == Told::Stop(client, StopReason::Stopped));
        assert_eq!(stops.count(), 1, "{told:?}");
    }
    assert_eq!(unsent(&told), [(number, UnsentReason::Stopped)]);
}

#[test]
fn what_is_given_after_a_stop_and_a_start_is_none_of_what_the_stop_reports() {
    let mut bed = LayerBed::new(|_| {});
    bed.host.replies(Reply::Silence);
    let id = bed.add(&usual());
    let again = move |at: &mut Loop<'_, u32>, clients: &mut Clients| {
        clients.stop(id);
        clients.start(id);
        clients.send(at, id, Message::Text("after"))
    };
    let _ = bed.send(id, "before");
    assert_eq!(bed.ask(again), Some(Submitted::Waiting { id: 1 }));
    let told = bed.events();
    assert_eq!(unsent(&told), [(0, UnsentReason::Stopped)]);
    let stop = told.iter().position(|told| *told == Told::Stop(id, StopReason::Stopped));
    assert!(stop.is_some_and(|stop| matches!(told[stop - 1], Told::Unsent(..))), "{told:?}");
    bed.host.replies(Reply::Accept);
    assert_eq!(bed.ask(again), Some(Submitted::Waiting { id: 2 }));
    assert_eq!(unsent(&bed.events()), [(1, UnsentReason::Stopped)]);
    let mut server = bed.accept();
    assert_eq!(texts(&server.frames()), ["after"]);
    // The same while it is connected: the present connection is on its way to its end.
    assert_eq!(bed.ask(again), Some(Submitted::Waiting { id: 3 }));
    assert_eq!(texts(&server.frames()), [""; 0]);
    let mut server = bed.accept();
    assert_eq!(texts(&server.frames()), ["after"]);
    assert_eq!(unsent(&bed.events()), []);
}

#[test]
fn what_is_given_after_a_start_in_on_close_waits_for_the_next_connection() {
    let mut bed = LayerBed::new(|settings| {
        settings.act = Box::new(|at, clients, told| {
            if let Told::Close(connection, _) = told
                && let Some(Owner::Client(id)) = clients.owner(*connection)
            {
                assert_eq!(clients.state(id), Some(ClientState::Disconnected));
                clients.start(id);
                let submitted = clients.send(at, id, Message::Text("after"));
                assert_eq!(submitted, Some(Submitted::Waiting { id: 0 }));
            }
        });
    });
    let (id, server) = bed.open(&usual());
    server.send(&Frame::close(1008, ""));
    server.peer.fin();
    let mut server = bed.accept();
    assert_eq!(texts(&server.frames()), ["after"]);
    let told = bed.events();
    assert!(told.contains(&Told::Stop(id, StopReason::Final)), "{told:?}");
    assert_eq!(unsent(&told), []);
}
