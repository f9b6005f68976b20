//! The threads that resolvers block.

use std::collections::VecDeque;
use std::io;
use std::mem;
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Instant;

use super::order::happy_eyeballs_order;
use super::{DnsSettings, Resolver, literal};
use crate::limits::RESOLVE_HUNG_MAX;

/// Gets the answer, on a helper thread, so it is to be quick: it posts to its loop's mailbox.
pub type OnAnswer = Box<dyn FnOnce(io::Result<Vec<SocketAddr>>) + Send>;

/// Asks a [`Resolver`] on threads of its own. Cloning is cheap; the loops of a program share one.
///
/// A thread is made when a request finds none that waits, up to
/// [`DnsSettings::threads_max`]. They end with the last clone, each after the call that it is in;
/// requests that wait by then are dropped without an answer, as are those that are withdrawn. Any
/// other request that was taken is answered exactly once.
#[derive(Clone)]
pub struct ResolverThreads {
    owner: Arc<Owner>,
}

/// Held by the users alone, not by the threads: its drop is the end.
struct Owner {
    shared: Arc<Shared>,
}

struct Shared {
    resolver: Arc<dyn Resolver>,
    threads_max: usize,
    waiting_max: usize,
    queue: Mutex<Queue>,
    wake: Condvar,
}

struct Queue {
    stage: Stage,
    requests: VecDeque<Request>,
    threads: usize,
    /// Of these, those that wait for a request, or were woken for one and have not taken it yet.
    idle: usize,
    /// What the others are at.
    calls: Vec<Call>,
    next_id: u64,
}

/// A request that was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestId(u64);

/// What became of a request that nobody waits for any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Withdrawn {
    /// It had to wait for a thread, and is not answered.
    Unasked,
    /// The resolver is asked, or the answer is on its way.
    Asked,
}

/// A request that a thread is at.
struct Call {
    id: RequestId,
    standing: Standing,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Standing {
    Awaited,
    /// All have given it up: its resolver does not return.
    Hung,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    Running,
    Ended,
}

struct Request {
    id: RequestId,
    host: Box<str>,
    port: u16,
    deadline: Instant,
    on_answer: OnAnswer,
}

impl ResolverThreads {
    /// Makes none yet.
    pub fn new(resolver: Arc<dyn Resolver>, settings: &DnsSettings) -> Self {
        let queue = Queue {
            stage: Stage::Running,
            requests: VecDeque::new(),
            threads: 0,
            idle: 0,
            calls: Vec::new(),
            next_id: 0,
        };
        let shared = Shared {
            resolver,
            threads_max: settings.threads_max.max(1),
            waiting_max: settings.waiting_max.max(1),
            queue: Mutex::new(queue),
            wake: Condvar::new(),
        };
        Self { owner: Arc::new(Owner { shared: Arc::new(shared) }) }
    }

    /// Has the addresses of a host found, in the [order](happy_eyeballs_order) in which to try
    /// them. Never waits. A host that is an address is answered from within this call.
    ///
    /// Whom no thread has come to by the deadline gets `TimedOut`, and the resolver is not asked. A
    /// call that has begun is not cut short, but may be [withdrawn](Self::withdraw).
    ///
    /// # Errors
    /// Then there will be no answer: `QuotaExceeded` if too many requests wait, or what kept the
    /// first thread from being made.
    pub fn resolve(
        &self,
        host: &str,
        port: u16,
        deadline: Instant,
        on_answer: OnAnswer,
    ) -> io::Result<RequestId> {
        let shared = &self.owner.shared;
        let mut queue = shared.lock();
        let id = RequestId(queue.next_id);
        queue.next_id += 1;
        if let Some(address) = literal(host, port) {
            drop(queue);
            on_answer(Ok(vec![address]));
            return Ok(id);
        }
        if queue.requests.len() >= shared.waiting_max {
            return Err(io::ErrorKind::QuotaExceeded.into());
        }
        let wanting = queue.requests.len() + 1;
        shared.hire(&mut queue, wanting)?;
        queue.requests.push_back(Request { id, host: host.into(), port, deadline, on_answer });
        drop(queue);
        shared.wake.notify_one();
        Ok(id)
    }

    /// Nobody waits for this any more. One that waits for a thread is dropped; one that the resolver
    /// is asked for does not keep the others from being asked.
    pub fn withdraw(&self, id: RequestId) -> Withdrawn {
        let shared = &self.owner.shared;
        let mut queue = shared.lock();
        if let Some(place) = queue.requests.iter().position(|request| request.id == id) {
            let request = queue.requests.remove(place);
            drop(queue);
            // Whatever its drop does, it does it while nothing is locked.
            drop(request);
            return Withdrawn::Unasked;
        }
        if let Some(call) = queue.calls.iter_mut().find(|call| call.id == id) {
            call.standing = Standing::Hung;
            let wanting = queue.requests.len();
            // Without another thread those that there are will come to it.
            let _ = shared.hire(&mut queue, wanting);
        }
        Withdrawn::Asked
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        let mut queue = self.shared.lock();
        queue.stage = Stage::Ended;
        let waiting = mem::take(&mut queue.requests);
        drop(queue);
        self.shared.wake.notify_all();
        // Whatever their drops do, they do it while nothing is locked.
        drop(waiting);
    }
}

impl Shared {
    /// Nothing that can panic runs under the lock, so a poisoned one is as good.
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes a thread if there are too few idle ones for those that want one, and there may be more.
    fn hire(self: &Arc<Self>, queue: &mut Queue, wanting: usize) -> io::Result<()> {
        if queue.idle >= wanting || queue.threads >= self.places(queue) {
            return Ok(());
        }
        let shared = Arc::clone(self);
        let thread = thread::Builder::new().name("corewire-dns".into());
        match thread.spawn(move || shared.work()) {
            Ok(_) => queue.threads += 1,
            // Those that there are will come to it.
            Err(_) if queue.threads > 0 => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// How many threads there may be.
    fn places(&self, queue: &Queue) -> usize {
        let hung = queue.calls.iter().filter(|call| call.standing == Standing::Hung).count();
        self.threads_max.saturating_add(hung.min(RESOLVE_HUNG_MAX))
    }

    /// The life of a thread.
    fn work(&self) {
        let mut ended = None;
        while let Some(request) = self.next(ended) {
            let Request { id, host, port, deadline, on_answer } = request;
            ended = Some(id);
            let answer = if Instant::now() >= deadline {
                Err(io::ErrorKind::TimedOut.into())
            } else {
                self.ask(&host, port)
            };
            // A thread less would go unnoticed, and the names behind it unresolved.
            let _ = catch_unwind(AssertUnwindSafe(move || on_answer(answer)));
        }
    }

    /// What a thread does when it is done with a request; `None`: it ends.
    fn next(&self, ended: Option<RequestId>) -> Option<Request> {
        let mut queue = self.lock();
        queue.calls.retain(|call| Some(call.id) != ended);
        loop {
            if queue.stage == Stage::Ended {
                return None;
            }
            // One that had hung has come back, and another has taken its place.
            if queue.threads > self.places(&queue) {
                queue.threads -= 1;
                // It may have been woken for a request, which is another's now.
                self.wake.notify_one();
                return None;
            }
            if let Some(request) = queue.requests.pop_front() {
                queue.calls.push(Call { id: request.id, standing: Standing::Awaited });
                return Some(request);
            }
            queue.idle += 1;
            queue = self.wake.wait(queue).unwrap_or_else(PoisonError::into_inner);
            queue.idle -= 1;
        }
    }

    fn ask(&self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        let found = catch_unwind(AssertUnwindSafe(|| self.resolver.resolve(host, port)))
            .unwrap_or_else(|_| Err(io::Error::other("the resolver panicked")))?;
        let ordered = happy_eyeballs_order(&found);
        if ordered.is_empty() {
            return Err(io::Error::new(io::ErrorKind::NotFound, "the name has no addresses"));
        }
        Ok(ordered)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Weak;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::mpsc::{self, Receiver, Sender, SyncSender};
    use std::time::Duration;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(20);

    type Answer = io::Result<Vec<SocketAddr>>;

    /// Says which host it is asked for and waits for what to say.
    struct Scripted {
        asked: SyncSender<String>,
        answers: Mutex<Receiver<Answer>>,
    }

    impl Resolver for Scripted {
        fn resolve(&self, host: &str, _: u16) -> Answer {
            self.asked.send(host.to_owned()).map_err(io::Error::other)?;
            assert!(!host.starts_with("panic"), "as it was asked to");
            let answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
            answers.recv_timeout(PATIENCE).map_err(io::Error::other)?
        }
    }

    struct Bed {
        threads: ResolverThreads,
        asked: Receiver<String>,
        answer: Sender<Answer>,
        resolver: Weak<dyn Resolver>,
    }

    fn bed(threads_max: usize, waiting_max: usize) -> Bed {
        let (ask, asked) = mpsc::sync_channel(64);
        let (answer, answers) = mpsc::channel();
        let resolver: Arc<dyn Resolver> =
            Arc::new(Scripted { asked: ask, answers: Mutex::new(answers) });
        let settings = DnsSettings { threads_max, waiting_max, ..DnsSettings::default() };
        let weak = Arc::downgrade(&resolver);
        let threads = ResolverThreads::new(resolver, &settings);
        Bed { threads, asked, answer, resolver: weak }
    }

    impl Bed {
        fn request(&self, host: &str, deadline: Instant) -> io::Result<Receiver<Answer>> {
            let (told, tell) = mpsc::channel();
            let on_answer = move |answer| drop(told.send(answer));
            self.threads.resolve(host, 80, deadline, Box::new(on_answer))?;
            Ok(tell)
        }

        fn in_time(&self, host: &str) -> Receiver<Answer> {
            self.request(host, Instant::now() + PATIENCE).unwrap()
        }

        #[track_caller]
        fn assert_asked(&self, host: &str) {
            assert_eq!(self.asked.recv_timeout(PATIENCE).unwrap(), host);
        }

        fn say(&self, address: &str) {
            self.answer.send(Ok(vec![address.parse().unwrap()])).unwrap();
        }

        /// One whom nobody waits for any more, and its number.
        fn unheard(&self, host: &str) -> RequestId {
            let deadline = Instant::now() + PATIENCE;
            self.threads.resolve(host, 80, deadline, Box::new(drop)).unwrap()
        }

        fn threads(&self) -> usize {
            self.threads.owner.shared.lock().threads
        }
    }

    fn answer(tell: &Receiver<Answer>) -> Answer {
        tell.recv_timeout(PATIENCE).unwrap()
    }

    #[test]
    fn answers_come_from_another_thread_in_order_and_from_one_that_is_kept() {
        let bed = bed(4, 4);
        assert_eq!(bed.threads(), 0, "none before it is needed");
        for _ in 0..3 {
            let first = bed.in_time("name");
            bed.assert_asked("name");
            let (six, four) = ("[::1]:80".parse().unwrap(), "127.0.0.1:80".parse().unwrap());
            bed.answer.send(Ok(vec![four, six])).unwrap();
            assert_eq!(answer(&first).unwrap(), [six, four]);
            // It has answered, and will wait for the next request in a moment.
            let deadline = Instant::now() + PATIENCE;
            while bed.threads.owner.shared.lock().idle == 0 {
                assert!(Instant::now() < deadline, "the thread does not come back");
                thread::yield_now();
            }
        }
        assert_eq!(bed.threads(), 1);
    }

    #[test]
    fn addresses_never_go_to_the_resolver() {
        let bed = bed(1, 1);
        for (host, address) in [("192.0.2.1", "192.0.2.1:80"), ("2001:db8::1", "[2001:db8::1]:80")]
        {
            let tell = bed.in_time(host);
            assert_eq!(tell.try_recv().unwrap().unwrap(), [address.parse().unwrap()]);
        }
        assert_eq!((bed.threads(), bed.asked.try_recv().is_err()), (0, true));
    }

    #[test]
    fn a_resolver_that_panics_or_finds_nothing_is_an_error_and_its_thread_lives() {
        let bed = bed(1, 4);
        let panicked = bed.in_time("panic");
        assert_eq!(answer(&panicked).unwrap_err().to_string(), "the resolver panicked");
        let empty = bed.in_time("empty");
        bed.answer.send(Ok(Vec::new())).unwrap();
        assert_eq!(answer(&empty).unwrap_err().kind(), io::ErrorKind::NotFound);
        let failed = bed.in_time("failed");
        bed.answer.send(Err(io::ErrorKind::HostUnreachable.into())).unwrap();
        assert_eq!(answer(&failed).unwrap_err().kind(), io::ErrorKind::HostUnreachable);
        // One who is told may panic too.
        let on_answer = Box::new(|_| panic!("as it was asked to"));
        bed.threads.resolve("told", 80, Instant::now() + PATIENCE, on_answer).unwrap();
        bed.say("192.0.2.1:80");
        let found = bed.in_time("found");
        bed.say("192.0.2.2:80");
        assert_eq!(answer(&found).unwrap(), ["192.0.2.2:80".parse().unwrap()]);
        assert_eq!(bed.threads(), 1);
    }

    #[test]
    fn a_full_queue_refuses_and_a_request_that_is_too_late_is_not_asked() {
        let bed = bed(1, 2);
        let first = bed.in_time("first");
        bed.assert_asked("first");
        let late = bed.request("late", Instant::now()).unwrap();
        let second = bed.in_time("second");
        let refused = bed.request("refused", Instant::now() + PATIENCE).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::QuotaExceeded);
        bed.say("192.0.2.1:80");
        answer(&first).unwrap();
        assert_eq!(answer(&late).unwrap_err().kind(), io::ErrorKind::TimedOut);
        bed.assert_asked("second");
        bed.say("192.0.2.2:80");
        answer(&second).unwrap();
        assert!(bed.asked.try_recv().is_err());
    }

    #[test]
    fn a_name_that_takes_long_holds_up_none_while_there_may_be_threads() {
        let bed = bed(3, 8);
        let hosts = ["a", "b", "c", "d"];
        let tell = hosts.map(|host| bed.in_time(host));
        let mut asked: Vec<_> = (0..3).map(|_| bed.asked.recv_timeout(PATIENCE).unwrap()).collect();
        asked.sort();
        assert_eq!(asked, ["a", "b", "c"]);
        assert_eq!(bed.threads(), 3);
        assert!(bed.asked.try_recv().is_err(), "there may be no fourth");
        (0..4).for_each(|_| bed.say("192.0.2.1:80"));
        tell.iter().for_each(|tell| drop(answer(tell).unwrap()));
        assert_eq!(bed.threads(), 3);
    }

    #[test]
    fn calls_that_nobody_waits_for_hold_up_none_and_their_threads_go() {
        let bed = bed(2, 8);
        let hung = ["a", "b"].map(|host| {
            let id = bed.unheard(host);
            bed.assert_asked(host);
            id
        });
        let good = bed.in_time("good");
        let left = bed.unheard("left");
        assert!(bed.asked.try_recv().is_err(), "there may be no third");
        assert_eq!(bed.threads.withdraw(left), Withdrawn::Unasked);
        assert_eq!(bed.threads.withdraw(hung[0]), Withdrawn::Asked);
        bed.assert_asked("good");
        assert_eq!(bed.threads(), 3);
        // As many as before, and no more.
        let next = bed.in_time("next");
        assert_eq!(bed.threads.withdraw(hung[0]), Withdrawn::Asked, "once more");
        assert_eq!(bed.threads(), 3);
        (0..4).for_each(|_| bed.say("192.0.2.1:80"));
        [good, next].iter().for_each(|tell| drop(answer(tell).unwrap()));
        let deadline = Instant::now() + PATIENCE;
        while bed.threads() > 2 {
            assert!(Instant::now() < deadline, "there are too many threads");
            thread::yield_now();
        }
        assert_eq!(bed.threads.withdraw(hung[0]), Withdrawn::Asked, "it is over");
        let last = bed.in_time("last");
        bed.say("192.0.2.1:80");
        answer(&last).unwrap();
    }

    #[test]
    fn calls_that_hang_get_no_threads_beyond_the_bound() {
        let bed = bed(1, 2);
        for _ in 0..=RESOLVE_HUNG_MAX {
            let id = bed.unheard("name");
            bed.assert_asked("name");
            bed.threads.withdraw(id);
        }
        let _waits = bed.unheard("name");
        assert_eq!(bed.threads(), RESOLVE_HUNG_MAX + 1);
        (0..RESOLVE_HUNG_MAX + 2).for_each(|_| bed.say("192.0.2.1:80"));
        bed.assert_asked("name");
    }

    #[test]
    fn threads_end_with_their_last_user_and_waiting_requests_are_dropped() {
        let Bed { threads, asked, answer, resolver } = bed(2, 8);
        let dropped = Arc::new(AtomicUsize::new(0));
        struct CountDrop(Arc<AtomicUsize>);
        impl Drop for CountDrop {
            fn drop(&mut self) {
                self.0.fetch_add(1, Ordering::Relaxed);
            }
        }
        for host in ["a", "b", "c", "d"] {
            let counted = CountDrop(Arc::clone(&dropped));
            let on_answer = Box::new(move |_| drop(counted));
            threads.resolve(host, 80, Instant::now() + PATIENCE, on_answer).unwrap();
        }
        (0..2).for_each(|_| drop(asked.recv_timeout(PATIENCE).unwrap()));
        let other = threads.clone();
        drop(threads);
        assert_eq!(dropped.load(Ordering::Relaxed), 0, "one user is left");
        drop(other);
        assert_eq!(dropped.load(Ordering::Relaxed), 2, "those that wait");
        (0..2).for_each(|_| answer.send(Err(io::ErrorKind::NotFound.into())).unwrap());
        // A thread holds the resolver until it ends; one that waits would hold it for ever.
        let deadline = Instant::now() + PATIENCE;
        while resolver.strong_count() > 0 {
            assert!(Instant::now() < deadline, "a thread has leaked");
            thread::yield_now();
        }
        assert_eq!(dropped.load(Ordering::Relaxed), 4);
        assert!(asked.try_recv().is_err(), "nobody was asked any more");
    }
}
