//! What other threads want of a loop waits here: bounded, and with one wake-up for each batch.

use std::ops::Deref;
use std::sync::Arc;
use std::time::{Duration, Instant};

use self::sync::{AtomicBool, Condvar, Mutex, MutexGuard, Ordering, PoisonError};
use super::net::Wake;

/// Commands on their way to a loop.
///
/// ```text
///   post ──► [c, c, c, …] ──► take       the first in an empty box wakes the loop, no other does
///   post_timeout ─┘ waits while it is full, until the loop takes what is in it
/// ```
pub(super) struct Mailbox<C> {
    content: Mutex<Content<C>>,
    /// Whether something waits, for the loop to ask each turn without the lock. It is written under
    /// the lock, in step with the content, so it orders nothing itself. A loop that reads it too
    /// early goes to its poll and is woken there: whoever has raised it wakes afterwards.
    is_waiting: AtomicBool,
    /// Rung when the box is emptied, if somebody waits for that.
    room: Condvar,
    waker: Arc<dyn Wake>,
    commands_max: usize,
}

struct Content<C> {
    /// `None` once the loop is gone: what is posted then is dropped.
    commands: Option<Vec<C>>,
    /// Threads that wait for room. To ring for nobody is a system call.
    patient: usize,
}

/// The loop's end of its mailbox. It goes with the loop, and what is in it with it: handles may live
/// on, and a connection that is handed over to nobody must not stay open.
pub(super) struct Inbox<C>(Arc<Mailbox<C>>);

impl<C> Mailbox<C> {
    /// Puts a command in; gives it back if there is no room.
    pub(super) fn post(&self, command: C) -> Result<(), C> {
        self.put(self.content(), command)
    }

    /// The same, but waits for room so long.
    pub(super) fn post_timeout(&self, command: C, timeout: Duration) -> Result<(), C> {
        let deadline = Instant::now().checked_add(timeout);
        let mut content = self.content();
        while content.is_full(self.commands_max) {
            let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            // A time that is as long as can be told is waited for in portions.
            let left = left.unwrap_or(Duration::from_secs(3600));
            if left.is_zero() {
                return Err(command);
            }
            content.patient += 1;
            let waited = self.room.wait_timeout(content, left);
            content = waited.unwrap_or_else(PoisonError::into_inner).0;
            content.patient -= 1;
        }
        self.put(content, command)
    }

    /// Puts a command into each of several boxes, or into none if one of them has no room. Their
    /// locks are held together: whoever asks for several at once gives them in the same order.
    pub(super) fn post_to_all(boxes: &[&Self], command: impl Fn() -> C) -> Result<(), C> {
        let contents: Vec<_> = boxes.iter().map(|mailbox| mailbox.content()).collect();
        let mut each = boxes.iter().zip(&contents);
        if each.any(|(mailbox, content)| content.is_full(mailbox.commands_max)) {
            return Err(command());
        }
        for (mailbox, content) in boxes.iter().zip(contents) {
            let posted = mailbox.put(content, command());
            debug_assert!(posted.is_ok(), "there was room, and nobody else has the lock");
        }
        Ok(())
    }

    /// Puts a command in, also where there is no room.
    pub(super) fn post_anyway(&self, command: C) {
        self.push(self.content(), command);
    }

    fn put(&self, content: MutexGuard<'_, Content<C>>, command: C) -> Result<(), C> {
        if content.is_full(self.commands_max) {
            return Err(command);
        }
        self.push(content, command);
        Ok(())
    }

    fn push(&self, mut content: MutexGuard<'_, Content<C>>, command: C) {
        // A command for a loop that is gone is dropped at the end of this function, behind the lock.
        let Some(commands) = content.commands.as_mut() else { return };
        commands.push(command);
        let is_first = commands.len() == 1;
        if is_first {
            self.is_waiting.store(true, Ordering::Relaxed);
        }
        drop(content);
        if is_first {
            self.waker.wake();
        }
    }

    /// Has the loop look around, though nothing is posted.
    pub(super) fn wake(&self) {
        self.waker.wake();
    }

    /// Whether something waits; whoever posted it has woken the loop, or is about to.
    #[inline]
    pub(super) fn is_waiting(&self) -> bool {
        self.is_waiting.load(Ordering::Relaxed)
    }

    /// Everything that waits.
    pub(super) fn take(&self) -> Vec<C> {
        let mut content = self.content();
        self.is_waiting.store(false, Ordering::Relaxed);
        let taken = content.commands.as_mut().map(std::mem::take).unwrap_or_default();
        self.ring(&content);
        taken
    }

    /// The emptied list, so that a steady stream of commands does not allocate one each turn.
    pub(super) fn give_back(&self, emptied: Vec<C>) {
        if emptied.capacity() == 0 {
            return;
        }
        if let Some(commands) = self.content().commands.as_mut()
            && commands.capacity() == 0
        {
            *commands = emptied;
        }
    }

    fn ring(&self, content: &Content<C>) {
        if content.patient > 0 {
            self.room.notify_all();
        }
    }

    fn content(&self) -> MutexGuard<'_, Content<C>> {
        self.content.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<C> Content<C> {
    fn is_full(&self, commands_max: usize) -> bool {
        self.commands.as_ref().is_some_and(|commands| commands.len() >= commands_max)
    }
}

impl<C> Inbox<C> {
    pub(super) fn new(waker: Arc<dyn Wake>, commands_max: usize) -> Self {
        Self(Arc::new(Mailbox {
            content: Mutex::new(Content { commands: Some(Vec::new()), patient: 0 }),
            is_waiting: AtomicBool::new(false),
            room: Condvar::new(),
            waker,
            commands_max,
        }))
    }

    /// The end of those who post.
    pub(super) fn mailbox(&self) -> Arc<Mailbox<C>> {
        self.0.clone()
    }
}

impl<C> Deref for Inbox<C> {
    type Target = Mailbox<C>;

    fn deref(&self) -> &Mailbox<C> {
        &self.0
    }
}

impl<C> Drop for Inbox<C> {
    fn drop(&mut self) {
        let left = {
            let mut content = self.0.content();
            let left = content.commands.take();
            self.0.ring(&content);
            left
        };
        // Outside the lock: connections that were to be adopted are closed here.
        drop(left);
    }
}

/// What the model checker puts in the place of `std`.
mod sync {
    #[cfg(not(all(test, loom)))]
    pub(super) use std::sync::{
        Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    };

    #[cfg(all(test, loom))]
    pub(super) use loom::sync::{
        Condvar, Mutex, MutexGuard,
        atomic::{AtomicBool, Ordering},
    };
    #[cfg(all(test, loom))]
    pub(super) use std::sync::PoisonError;
}

/// All interleavings of a few threads, by loom: `.ci/run loom`. A thread that nobody wakes any more
/// is a deadlock there, and an error.
#[cfg(all(test, loom))]
mod models {
    use loom::sync::Notify;
    use loom::thread;

    use super::*;

    /// A poll that does nothing but wait to be woken; it may end sooner, as polls may.
    struct Bell {
        rope: Notify,
        /// Nothing hangs by it, so it is none of the model's.
        rings: std::sync::atomic::AtomicUsize,
    }

    impl Bell {
        fn new() -> Arc<Self> {
            Arc::new(Self { rope: Notify::new(), rings: Default::default() })
        }
    }

    impl Wake for Bell {
        fn wake(&self) {
            self.rings.fetch_add(1, Ordering::Relaxed);
            self.rope.notify();
        }
    }

    /// A command: of which poster, and the how manieth of his.
    type Posted = (u8, u8);

    /// A loop that has nothing but its mailbox.
    struct Sleeper {
        bell: Arc<Bell>,
        inbox: Inbox<Posted>,
        taken: Vec<Posted>,
        batches: usize,
    }

    impl Sleeper {
        fn new(commands_max: usize) -> Self {
            let bell = Bell::new();
            let inbox = Inbox::new(bell.clone(), commands_max);
            Self { bell, inbox, taken: Vec::new(), batches: 0 }
        }

        /// One turn: waits, looks, takes.
        fn turn(&mut self) {
            self.bell.rope.wait();
            self.look();
        }

        fn look(&mut self) {
            if self.inbox.is_waiting() {
                let mut batch = self.inbox.take();
                assert!(!batch.is_empty(), "the flag tells the truth");
                self.batches += 1;
                self.taken.append(&mut batch);
                self.inbox.give_back(batch);
            }
        }

        fn of(&self, poster: u8) -> Vec<u8> {
            self.taken.iter().filter(|posted| posted.0 == poster).map(|posted| posted.1).collect()
        }
    }

    #[test]
    fn two_posters_are_heard_to_the_last_command_and_each_in_his_order() {
        loom::model(|| {
            let mut sleeper = Sleeper::new(usize::MAX);
            let posters = [1, 2].map(|poster| {
                let mailbox = sleeper.inbox.mailbox();
                thread::spawn(move || {
                    (0..2).for_each(|count| mailbox.post((poster, count)).expect("there is room"));
                })
            });
            while sleeper.taken.len() < 4 {
                sleeper.turn();
            }
            posters.into_iter().for_each(|poster| poster.join().expect("it ends"));
            assert_eq!([sleeper.of(1), sleeper.of(2)], [[0, 1], [0, 1]]);
            assert!(!sleeper.inbox.is_waiting() && sleeper.inbox.take().is_empty());
            let rings = sleeper.bell.rings.load(Ordering::Relaxed);
            assert_eq!(rings, sleeper.batches, "one for each batch, however many commands it has");
        });
    }

    #[test]
    fn loop_that_is_awake_for_another_reason_loses_nothing() {
        loom::model(|| {
            let mut sleeper = Sleeper::new(usize::MAX);
            let mailbox = sleeper.inbox.mailbox();
            let poster = thread::spawn(move || {
                (0..2).for_each(|count| mailbox.post((1, count)).expect("there is room"));
            });
            sleeper.look();
            while sleeper.taken.len() < 2 {
                sleeper.turn();
            }
            poster.join().expect("it ends");
            assert_eq!(sleeper.of(1), [0, 1]);
        });
    }

    #[test]
    fn full_box_gives_the_command_back_and_what_it_took_is_taken_once() {
        loom::model(|| {
            let mut sleeper = Sleeper::new(1);
            let posters = [1, 2].map(|poster| {
                let mailbox = sleeper.inbox.mailbox();
                thread::spawn(move || mailbox.post((poster, 0)))
            });
            sleeper.turn();
            let outcomes = posters.map(|poster| poster.join().expect("it ends"));
            sleeper.look();
            for (poster, outcome) in [1, 2].into_iter().zip(outcomes) {
                match outcome {
                    Ok(()) => assert_eq!(sleeper.of(poster), [0]),
                    Err(command) => {
                        assert_eq!((command, sleeper.of(poster)), ((poster, 0), vec![]));
                    }
                }
            }
            assert!(!sleeper.taken.is_empty());
        });
    }

    #[test]
    fn who_waits_for_room_gets_it() {
        loom::model(|| {
            let mut sleeper = Sleeper::new(1);
            let posters = [1, 2].map(|poster| {
                let mailbox = sleeper.inbox.mailbox();
                thread::spawn(move || {
                    // Time stands still here: who is not rung for waits for ever.
                    let posted = mailbox.post_timeout((poster, 0), Duration::MAX);
                    posted.expect("room comes");
                })
            });
            while sleeper.taken.len() < 2 {
                sleeper.turn();
            }
            posters.into_iter().for_each(|poster| poster.join().expect("it ends"));
            assert_eq!([sleeper.of(1), sleeper.of(2)], [[0], [0]]);
        });
    }

    #[test]
    fn end_of_the_loop_lets_go_of_every_command_and_of_who_waits() {
        loom::model(|| {
            let inbox = Inbox::new(Bell::new(), 1);
            let command = Arc::new(());
            inbox.post(command.clone()).expect("there is room for one");
            let posters = [1, 2].map(|_| {
                let (mailbox, command) = (inbox.mailbox(), command.clone());
                thread::spawn(move || {
                    let posted = mailbox.post_timeout(command, Duration::MAX);
                    posted.expect("it is taken or dropped");
                    mailbox
                })
            });
            drop(inbox);
            // The handles live on.
            let _mailboxes = posters.map(|poster| poster.join().expect("it ends"));
            assert_eq!(Arc::strong_count(&command), 1);
        });
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::sync::atomic::AtomicUsize;
    use std::thread;

    use super::*;

    #[derive(Default)]
    struct Wakes(AtomicUsize);

    impl Wake for Wakes {
        fn wake(&self) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn a_batch_wakes_once() {
        let wakes = Arc::new(Wakes::default());
        let inbox = Inbox::new(wakes.clone(), 4);
        for batch in 1..=3 {
            assert!(!inbox.is_waiting());
            (0..4).for_each(|command| inbox.post(command).unwrap());
            assert_eq!(inbox.post(4), Err(4), "it is full");
            assert_eq!((inbox.is_waiting(), wakes.0.load(Ordering::Relaxed)), (true, batch));
            let taken = inbox.take();
            assert_eq!(taken, [0, 1, 2, 3]);
            inbox.give_back(Vec::new());
        }
    }

    #[test]
    fn waiting_for_room_ends_in_time_or_with_room_or_with_the_loop() {
        let inbox = Inbox::new(Arc::new(Wakes::default()), 1);
        inbox.post(1).unwrap();
        let began = Instant::now();
        let wait = Duration::from_millis(20);
        assert_eq!(inbox.post_timeout(2, wait), Err(2));
        assert!(began.elapsed() >= wait);
        assert_eq!(inbox.post_timeout(3, Duration::ZERO), Err(3));
        let patient = |command| {
            let mailbox = inbox.mailbox();
            let poster = thread::spawn(move || mailbox.post_timeout(command, Duration::MAX));
            while inbox.content().patient == 0 {
                thread::yield_now();
            }
            poster
        };
        let poster = patient(4);
        assert_eq!(inbox.take(), [1]);
        poster.join().unwrap().unwrap();
        let poster = patient(5);
        let mailbox = inbox.mailbox();
        drop(inbox);
        poster.join().unwrap().unwrap();
        assert_eq!((mailbox.post(6), mailbox.take()), (Ok(()), vec![]));
    }
}
