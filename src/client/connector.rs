//! From a URL to an open connection: names are resolved, the addresses are dialled, redirections
//! are followed.

use std::collections::{HashMap, VecDeque};
use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::sync::Arc;

use super::names::{Answer, Lookup, Names};
use super::resolver::Resolved;
use super::settings::ClientSettings;
use crate::collections::{Key, Table};
use crate::http::{Scheme, UnixSocket};
use crate::reactor::{
    ConnectionId, DialError, DialPhase, DialSettings, Loop, Refusal, RemoteAddress, TimerId,
    UnixEndpoint,
};

/// The dials of a loop that are under way. `O` says for whom.
pub(super) struct Connector<O> {
    attempts: Table<Attempt<O>>,
    /// Those that the loop has a connection for.
    dialling: HashMap<ConnectionId, Key>,
    names: Names,
    /// Those that are over and are to be told.
    ended: VecDeque<(O, Ending)>,
}

/// How a dial has ended that has not opened. Nothing of it is left.
#[derive(Debug)]
pub(super) enum Ending {
    Failed(DialError),
    Cancelled,
}

/// A dial that is under way.
struct Attempt<O> {
    owner: O,
    /// Differs from what the client's settings say after a redirection.
    dial: Arc<DialSettings>,
    redirects_left: u8,
    step: Step,
}

enum Step {
    Begun,
    /// The phase of resolving ends with this timer.
    Resolving(TimerId),
    Dialling(ConnectionId),
    /// The loop's last word on it is to come: until then it may have a socket.
    GivenUp,
}

/// A dial that was begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct AttemptKey(Key);

impl<O: Copy> Connector<O> {
    pub(super) fn new(names: Names) -> Self {
        Self {
            attempts: Table::new(u32::MAX - 1, 0),
            dialling: HashMap::new(),
            names,
            ended: VecDeque::new(),
        }
    }

    /// Forgets what is known of names.
    pub(super) fn shrink(&mut self) {
        self.names.shrink();
    }

    /// Begins to connect for `owner`. What comes of it is told by [`Connector::handle_open`] or
    /// [`Connector::poll_ended`], never before this returns.
    pub(super) fn start<D: Default>(
        &mut self,
        at: &mut Loop<'_, D>,
        owner: O,
        settings: &ClientSettings,
    ) -> AttemptKey {
        let attempt = Attempt {
            owner,
            dial: settings.dial().clone(),
            redirects_left: settings.inner().redirects_max,
            step: Step::Begun,
        };
        let key = match self.attempts.insert(attempt) {
            Ok(key) => key,
            Err(_) => unreachable!("memory ends before the names do"),
        };
        self.go_on(at, key);
        AttemptKey(key)
    }

    /// Gives a dial up. It does not open any more; that nothing of it is left is told by
    /// [`Connector::poll_ended`].
    pub(super) fn cancel<D>(&mut self, at: &mut Loop<'_, D>, AttemptKey(key): AttemptKey) {
        let Some(attempt) = self.attempts.get_mut(key) else { return };
        match std::mem::replace(&mut attempt.step, Step::GivenUp) {
            Step::Resolving(timer) => {
                at.cancel_timer(timer);
                self.leave(key);
                self.end(key, Ending::Cancelled);
            }
            Step::Begun => self.end(key, Ending::Cancelled),
            Step::Dialling(id) => at.give_up(id),
            Step::GivenUp => {}
        }
    }

    /// Whose the connection is that has opened; `None` if it was not dialled here.
    pub(super) fn handle_open(&mut self, id: ConnectionId) -> Option<O> {
        let key = self.dialling.remove(&id)?;
        self.attempts.remove(key).map(|attempt| attempt.owner)
    }

    /// Whose the connection is that is on its way.
    pub(super) fn owner(&self, id: ConnectionId) -> Option<O> {
        let attempt = self.attempts.get(*self.dialling.get(&id)?)?;
        Some(attempt.owner)
    }

    /// A connection has not opened. Gives the error back if it was not dialled here.
    pub(super) fn handle_dial_failed<D: Default>(
        &mut self,
        at: &mut Loop<'_, D>,
        id: ConnectionId,
        error: DialError,
    ) -> Option<DialError> {
        let Some(key) = self.dialling.remove(&id) else { return Some(error) };
        let attempt = self.attempts.get_mut(key)?;
        match &error {
            _ if matches!(attempt.step, Step::GivenUp) => self.end(key, Ending::Cancelled),
            DialError::Refused(refusal) if attempt.follow(refusal) => self.go_on(at, key),
            _ => self.end(key, Ending::Failed(error)),
        }
        None
    }

    /// The addresses of a name have come, or will not.
    pub(super) fn handle_answer<D: Default>(&mut self, at: &mut Loop<'_, D>, answer: Answer) {
        let (waiting, resolved) = self.names.handle_answer(at.now(), answer);
        for key in waiting {
            self.handle_resolved(at, key, &resolved);
        }
    }

    /// A timer has come. Says whether it was one of a dial.
    pub(super) fn handle_timer(&mut self, timer: TimerId, cookie: u64) -> bool {
        let Some(key) = self.attempts.key_at(cookie as u32) else { return false };
        match self.attempts.get(key) {
            Some(Attempt { step: Step::Resolving(own), .. }) if *own == timer => {
                self.leave(key);
                self.end(key, Ending::Failed(DialError::TimedOut(DialPhase::Resolve)));
                true
            }
            _ => false,
        }
    }

    /// A dial that is over without having opened.
    pub(super) fn poll_ended(&mut self) -> Option<(O, Ending)> {
        self.ended.pop_front()
    }

    /// Dials, or asks for the addresses first.
    fn go_on<D: Default>(&mut self, at: &mut Loop<'_, D>, key: Key) {
        let Some(attempt) = self.attempts.get_mut(key) else { return };
        let uri = attempt.dial.request.uri();
        if let Some(socket) = uri.unix_socket() {
            let remote = RemoteAddress::Unix(unix_endpoint(socket));
            return self.dial(at, key, vec![remote]);
        }
        let (host, port) = name_of(&attempt.dial);
        let deadline = at.deadline(attempt.dial.timeouts.resolve);
        match self.names.lookup(at, key, host, port, deadline) {
            Lookup::Known(resolved) => self.handle_resolved(at, key, &resolved),
            Lookup::Pending => {
                attempt.step = Step::Resolving(at.set_timer(deadline, u64::from(key.index)));
            }
        }
    }

    fn handle_resolved<D: Default>(&mut self, at: &mut Loop<'_, D>, key: Key, resolved: &Resolved) {
        let Some(attempt) = self.attempts.get_mut(key) else { return };
        if let Step::Resolving(timer) = attempt.step {
            at.cancel_timer(timer);
        }
        match resolved {
            Ok(addresses) => {
                let remotes = addresses.iter().copied().map(RemoteAddress::Tcp).collect();
                self.dial(at, key, remotes);
            }
            Err(error) => {
                let error = io::Error::new(error.kind(), error.clone());
                self.end(key, Ending::Failed(DialError::Io { phase: DialPhase::Resolve, error }));
            }
        }
    }

    fn dial<D: Default>(&mut self, at: &mut Loop<'_, D>, key: Key, remotes: Vec<RemoteAddress>) {
        let Some(attempt) = self.attempts.get_mut(key) else { return };
        match at.dial(remotes, &attempt.dial, D::default()) {
            Ok(id) => {
                attempt.step = Step::Dialling(id);
                self.dialling.insert(id, key);
            }
            Err(error) => self.end(key, Ending::Failed(error)),
        }
    }

    /// Does not wait for a name any more.
    fn leave(&mut self, key: Key) {
        if let Some(attempt) = self.attempts.get(key) {
            let (host, port) = name_of(&attempt.dial);
            self.names.leave(key, host, port);
        }
    }

    fn end(&mut self, key: Key, ending: Ending) {
        if let Some(attempt) = self.attempts.remove(key) {
            self.ended.push_back((attempt.owner, ending));
        }
    }
}

impl<O> Attempt<O> {
    /// Goes where a redirection leads, if that is wanted; says whether it is.
    fn follow(&mut self, refusal: &Refusal) -> bool {
        let is_redirection = matches!(refusal.status, 301 | 302 | 303 | 307 | 308);
        if !is_redirection || self.redirects_left == 0 {
            return false;
        }
        let before = &self.dial.request;
        let Some(Ok(request)) = refusal.header("Location").map(|to| before.redirected(to)) else {
            return false;
        };
        let is_weaker =
            before.uri().scheme() == Scheme::Wss && request.uri().scheme() == Scheme::Ws;
        if is_weaker {
            return false;
        }
        self.redirects_left -= 1;
        let mut dial = (*self.dial).clone();
        #[cfg(feature = "tls")]
        if request.uri().host() != before.uri().host() {
            // Like a password, it tells who asks.
            dial.tls = dial.tls.map(|tls| tls.without_certificate());
        }
        dial.request = request;
        self.dial = Arc::new(dial);
        true
    }
}

/// The name whose addresses are dialled, and the port.
fn name_of(dial: &DialSettings) -> (&str, u16) {
    match dial.way() {
        Some(proxy) => (proxy.host(), proxy.port()),
        None => (dial.request.uri().host(), dial.request.uri().port()),
    }
}

fn unix_endpoint(socket: &UnixSocket) -> UnixEndpoint {
    match socket {
        UnixSocket::Path(path) => UnixEndpoint::Path(PathBuf::from(OsStr::from_bytes(path))),
        UnixSocket::Abstract(name) => UnixEndpoint::Abstract(name.clone().into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::Client;

    /// Whether somebody who is at `from` goes to `location`, with so many redirections left.
    fn follows(from: &str, status: u16, location: &str, redirects_left: u8) -> bool {
        let settings = Client::builder(from).build().unwrap();
        let dial = settings.dial().clone();
        let mut attempt = Attempt { owner: (), dial, redirects_left, step: Step::Begun };
        let headers = vec![("Location".into(), location.as_bytes().into())];
        let is_followed = attempt.follow(&Refusal { status, headers, body: Vec::new() });
        assert_eq!(attempt.redirects_left, redirects_left - u8::from(is_followed));
        is_followed
    }

    #[cfg(feature = "tls")]
    #[test]
    fn redirections_never_lead_from_tls_to_plain() {
        for (from, location, expected) in [
            ("wss://a.example/", "wss://b.example/", true),
            ("wss://a.example/", "https://b.example/", true),
            ("wss://a.example/", "/other", true),
            ("wss://a.example/", "//b.example/", true),
            ("wss://a.example/", "ws://a.example/", false),
            ("wss://a.example/", "http://a.example/", false),
            ("wss://a.example/", "ws+unix:/run/x.sock:/", false),
            ("ws://a.example/", "wss://a.example/", true),
            ("ws://a.example/", "ws://b.example/", true),
        ] {
            assert_eq!(follows(from, 302, location, 1), expected, "{from} {location}");
        }
    }

    #[cfg(feature = "tls")]
    #[test]
    fn client_certificate_does_not_leave_its_host() {
        let key = rcgen::generate_simple_self_signed(["a.example".to_owned()]).unwrap();
        let (certificate, key) = (key.cert.pem(), key.signing_key.serialize_pem());
        let tls = crate::reactor::TlsClient::builder()
            .client_certificate_pem(certificate, key)
            .build()
            .unwrap();
        let settings = Client::builder("wss://a.example/").tls(tls).build().unwrap();
        for (location, goes_along) in [
            ("/other", true),
            ("wss://A.example:444/", true),
            ("wss://b.example/", false),
            ("wss://a.example.b.example/", false),
        ] {
            let dial = settings.dial().clone();
            let mut attempt = Attempt { owner: (), dial, redirects_left: 2, step: Step::Begun };
            let mut follow = |location: &str| {
                let headers = vec![("Location".into(), location.as_bytes().into())];
                assert!(attempt.follow(&Refusal { status: 302, headers, body: Vec::new() }));
                attempt.dial.tls.as_ref().is_some_and(|tls| tls.has_certificate())
            };
            assert_eq!(follow(location), goes_along, "{location}");
            assert_eq!(follow("wss://a.example/"), goes_along, "what was left behind is gone");
        }
    }

    #[test]
    fn only_redirections_are_followed_and_no_more_than_are_left() {
        for status in 300..400 {
            let expected = [301, 302, 303, 307, 308].contains(&status);
            assert_eq!(follows("ws://a.example/", status, "/x", 3), expected, "{status}");
        }
        assert!(!follows("ws://a.example/", 302, "/x", 0));
        assert!(!follows("ws://a.example/", 200, "/x", 3));
    }
}
