//! The real network: non-blocking sockets over mio, registered once, edge-triggered.

use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::net::{Shutdown, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use mio::event::Source;
use mio::net::{TcpListener, TcpStream, UnixListener};
use mio::{Events, Interest, Poll, Token, Waker};
use socket2::{SockRef, Socket};

use super::alarm::Alarm;
use super::endpoint::{Endpoint, PeerAddress};
use super::net::{
    Accepted, Buffer, ListenOptions, Listening, Net, NetKey, Readiness, Received, SocketOptions,
    Wait, Wake,
};
use super::remote::RemoteAddress;
use super::socket::{
    Family, SocketFile, begin_connect, bind_tcp, bind_unix, duplicate, family_of, listen_tcp,
    local_endpoint, set_up, take_over,
};

/// Sockets over epoll (kqueue on the BSDs), one instance per loop.
///
/// A socket's key is its descriptor: the kernel hands out the lowest free number, so a plain
/// vector finds it, at four bytes a socket.
#[derive(Debug)]
pub struct MioNet {
    poll: Poll,
    alarm: Alarm,
    events: Events,
    waker: Arc<Waker>,
    /// Unix sockets stand here too: reading, writing and shutting down are the same calls on the
    /// descriptor, whatever its family, and one type for all takes four bytes.
    streams: Vec<Option<TcpStream>>,
    listeners: Vec<Listener>,
    /// `None` while it is handed out.
    buffer: Option<Buffer>,
    receive_bytes: usize,
}

#[derive(Debug)]
struct Listener {
    /// In front of the socket, so that the file goes while its inode is still ours.
    _file: Option<Arc<SocketFile>>,
    socket: ListeningSocket,
    /// Of the connections that come to it.
    options: SocketOptions,
}

#[derive(Debug)]
enum ListeningSocket {
    Tcp(TcpListener),
    Unix(UnixListener),
}

/// Whether an accepted socket of TCP has the options of its listener. Linux copies all that can be
/// set here, which saves a system call for each connection; elsewhere it is not written down.
const INHERITS_OPTIONS: bool = cfg!(target_os = "linux");

/// MSG_NOSIGNAL of `sendmsg`. `writev` has no flags, and where SIGPIPE is not ignored, as in a
/// program in C that embeds a loop, a peer that is gone would end the process. A single slice goes
/// by the `send` of std, which says so too; the sockets of macOS have an option for it.
const NO_SIGNAL: i32 = if cfg!(any(target_os = "linux", target_os = "android")) {
    0x4000
} else if cfg!(target_os = "freebsd") {
    0x2_0000
} else if cfg!(any(target_os = "dragonfly", target_os = "netbsd", target_os = "openbsd")) {
    0x400
} else {
    0
};

/// Tokens with nearly all bits set cannot be a connection's.
const WAKE_TOKEN: Token = Token(usize::MAX);
const ALARM_TOKEN: Token = Token(usize::MAX - 1);

/// Places for sockets reserved from the start; what is not touched is not resident.
const STREAMS_RESERVED: usize = 65_536;

/// Readiness taken from the kernel in one call.
const EVENTS_PER_POLL: usize = 1024;

impl MioNet {
    /// A network whose receive buffer has `receive_buffer_bytes`.
    ///
    /// # Errors
    /// What creating the descriptors says: one to poll, one to wake the poll, one to end it in
    /// time.
    pub fn new(receive_buffer_bytes: usize) -> io::Result<Self> {
        let poll = Poll::new()?;
        let waker = Arc::new(Waker::new(poll.registry(), WAKE_TOKEN)?);
        let alarm = Alarm::new(poll.registry(), ALARM_TOKEN)?;
        Ok(Self {
            poll,
            alarm,
            events: Events::with_capacity(EVENTS_PER_POLL),
            waker,
            streams: Vec::with_capacity(STREAMS_RESERVED),
            listeners: Vec::new(),
            buffer: Some(Buffer::new(receive_buffer_bytes)),
            receive_bytes: receive_buffer_bytes,
        })
    }

    fn stream(&mut self, key: NetKey) -> io::Result<&mut TcpStream> {
        let stream = self.streams.get_mut(key.0 as usize).and_then(Option::as_mut);
        stream.ok_or_else(|| io::ErrorKind::NotConnected.into())
    }

    fn take_buffer(&mut self) -> Buffer {
        // A second buffer is made only if the first is still out, which the loop never lets happen.
        self.buffer.take().unwrap_or_else(|| Buffer::new(self.receive_bytes))
    }

    fn listener(&self, key: NetKey) -> io::Result<&Listener> {
        let found = self.listeners.iter().find(|listener| listener.key() == key);
        found.ok_or_else(|| io::ErrorKind::NotConnected.into())
    }

    /// Registers a stream, once for as long as it lives.
    fn enter(
        &mut self,
        mut stream: TcpStream,
        peer: PeerAddress,
        token: u64,
    ) -> io::Result<Accepted> {
        let interest = Interest::READABLE | Interest::WRITABLE;
        self.poll.registry().register(&mut stream, to_token(token), interest)?;
        let key = key_of(&stream);
        let index = key.0 as usize;
        if index >= self.streams.len() {
            self.streams.resize_with(index + 1, || None);
        }
        self.streams[index] = Some(stream);
        Ok(Accepted { key, peer })
    }
}

impl Listener {
    fn key(&self) -> NetKey {
        match &self.socket {
            ListeningSocket::Tcp(socket) => key_of(socket),
            ListeningSocket::Unix(socket) => key_of(socket),
        }
    }

    fn source(&mut self) -> &mut dyn Source {
        match &mut self.socket {
            ListeningSocket::Tcp(socket) => socket,
            ListeningSocket::Unix(socket) => socket,
        }
    }

    fn accept(&self) -> io::Result<(TcpStream, PeerAddress)> {
        match &self.socket {
            ListeningSocket::Tcp(socket) => {
                let (stream, peer) = socket.accept()?;
                if !INHERITS_OPTIONS {
                    set_up(&SockRef::from(&stream), Family::Tcp, &self.options)?;
                }
                Ok((stream, peer.into()))
            }
            ListeningSocket::Unix(socket) => {
                let (stream, _) = socket.accept()?;
                set_up(&SockRef::from(&stream), Family::Unix, &self.options)?;
                Ok((OwnedFd::from(stream).into(), PeerAddress::Unix))
            }
        }
    }
}

impl Net for MioNet {
    fn listen(
        &mut self,
        endpoint: &Endpoint,
        options: &ListenOptions,
        token: u64,
    ) -> io::Result<Listening> {
        let (socket, file) = match endpoint {
            Endpoint::Tcp(address) => (listen_tcp(*address, options)?, None),
            Endpoint::Unix(name) => bind_unix(name, options)?,
            Endpoint::Inherited(inherited) => {
                (duplicate(inherited, options)?, inherited.file.clone())
            }
            Endpoint::Detached => return Err(io::ErrorKind::Unsupported.into()),
        };
        let endpoint = local_endpoint(&socket)?;
        let socket = match family_of(&socket)? {
            Family::Tcp => ListeningSocket::Tcp(TcpListener::from_std(socket.into())),
            Family::Unix => ListeningSocket::Unix(UnixListener::from_std(socket.into())),
        };
        let mut listener = Listener { _file: file, socket, options: options.sockets.clone() };
        let interest = Interest::READABLE;
        self.poll.registry().register(listener.source(), to_token(token), interest)?;
        let key = listener.key();
        self.listeners.push(listener);
        Ok(Listening { key, endpoint })
    }

    fn probe(&mut self, address: SocketAddr, options: &ListenOptions) -> io::Result<()> {
        bind_tcp(address, options).map(drop)
    }

    fn accept(&mut self, listener: NetKey, token: u64) -> io::Result<Accepted> {
        let listener = self.listener(listener)?;
        let (stream, peer) = uninterrupted(|| listener.accept())?;
        self.enter(stream, peer, token)
    }

    fn accept_detached(&mut self, listener: NetKey) -> io::Result<OwnedFd> {
        let listener = self.listener(listener)?;
        uninterrupted(|| listener.accept()).map(|(stream, _)| stream.into())
    }

    fn connect(
        &mut self,
        remote: &RemoteAddress,
        options: &SocketOptions,
        token: u64,
    ) -> io::Result<NetKey> {
        let socket = begin_connect(remote, options)?;
        // Where it leads to the loop knows.
        let entered = self.enter(OwnedFd::from(socket).into(), PeerAddress::Unix, token)?;
        Ok(entered.key)
    }

    fn finish_connect(&mut self, key: NetKey) -> io::Result<()> {
        let stream = self.stream(key)?;
        if let Some(error) = stream.take_error()? {
            return Err(error);
        }
        let socket = SockRef::from(&*stream);
        match socket.peer_addr() {
            // What a socket sends may meet itself (RFC 9293 §3.5), where nobody listens at a port
            // that the system gives to who connects. It would hold the port against the server that
            // comes back.
            Ok(peer) if peer.as_socket().is_some() && peer == socket.local_addr()? => {
                Err(io::ErrorKind::ConnectionRefused.into())
            }
            Ok(_) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::NotConnected => {
                Err(io::ErrorKind::WouldBlock.into())
            }
            Err(error) => Err(error),
        }
    }

    fn adopt(
        &mut self,
        stream: OwnedFd,
        options: &SocketOptions,
        token: u64,
    ) -> io::Result<Accepted> {
        let socket = Socket::from(stream);
        let peer = take_over(&socket, options)?;
        self.enter(OwnedFd::from(socket).into(), peer, token)
    }

    #[inline]
    fn receive(
        &mut self,
        key: NetKey,
        place: &mut [u8],
        surplus_bytes_max: usize,
    ) -> io::Result<Received> {
        let mut buffer = self.take_buffer();
        let surplus_bytes_max = surplus_bytes_max.min(buffer.len());
        let behind = &mut buffer.as_mut_slice()[..surplus_bytes_max];
        let result = self.stream(key).and_then(|stream| {
            uninterrupted(|| match (place.len(), surplus_bytes_max) {
                (0, _) => stream.read(behind),
                (_, 0) => stream.read(place),
                _ => stream.read_vectored(&mut [IoSliceMut::new(place), IoSliceMut::new(behind)]),
            })
        });
        match result {
            Ok(bytes) => {
                let placed_bytes = bytes.min(place.len());
                let surplus_bytes = bytes - placed_bytes;
                let is_short = bytes < place.len() + surplus_bytes_max;
                Ok(Received { placed_bytes, buffer, surplus_bytes, is_short })
            }
            Err(error) => {
                self.give_back(buffer);
                Err(error)
            }
        }
    }

    #[inline]
    fn give_back(&mut self, buffer: Buffer) {
        self.buffer = Some(buffer);
    }

    #[inline]
    fn send(&mut self, key: NetKey, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        let stream = self.stream(key)?;
        match slices {
            [slice] => uninterrupted(|| stream.write(slice)),
            slices => {
                let socket = SockRef::from(&*stream);
                uninterrupted(|| socket.send_vectored_with_flags(slices, NO_SIGNAL))
            }
        }
    }

    fn shutdown(&mut self, key: NetKey) {
        if let Ok(stream) = self.stream(key) {
            // A connection that is reset already has nothing to shut down.
            let _ = stream.shutdown(Shutdown::Write);
        }
    }

    fn close(&mut self, key: NetKey) {
        // Closing the descriptor takes it out of the epoll set.
        if let Some(stream) = self.streams.get_mut(key.0 as usize) {
            *stream = None;
        }
        let index = self.listeners.iter().position(|listener| listener.key() == key);
        if let Some(mut listener) = index.map(|index| self.listeners.swap_remove(index)) {
            // Another loop may hold a duplicate, and while one is open the epoll set forgets
            // nothing.
            let _ = self.poll.registry().deregister(listener.source());
        }
    }

    fn poll(&mut self, events: &mut Vec<Readiness>, wait: Wait) -> io::Result<()> {
        let mut timeout = match wait {
            Wait::No => Some(Duration::ZERO),
            Wait::Until(deadline) => self.alarm.set(deadline)?,
            Wait::Forever => None,
        };
        loop {
            match self.poll.poll(&mut self.events, timeout) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => return Ok(()),
                result => result?,
            }
            for event in &self.events {
                match event.token() {
                    WAKE_TOKEN => {}
                    ALARM_TOKEN => self.alarm.handle_ring(),
                    Token(token) => events.push(Readiness {
                        token: token as u64,
                        readable: event.is_readable(),
                        writable: event.is_writable(),
                        hung_up: event.is_read_closed() || event.is_error(),
                    }),
                }
            }
            if self.events.iter().count() < EVENTS_PER_POLL {
                return Ok(());
            }
            // More may wait. Who watches our descriptor for edges is not told of it again, so
            // nothing is left behind.
            timeout = Some(Duration::ZERO);
        }
    }

    fn waker(&self) -> Arc<dyn Wake> {
        self.waker.clone()
    }

    fn now(&self) -> Instant {
        Instant::now()
    }
}

impl AsRawFd for MioNet {
    fn as_raw_fd(&self) -> RawFd {
        self.poll.as_raw_fd()
    }
}

impl AsFd for MioNet {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.poll.registry().as_fd()
    }
}

impl Wake for Waker {
    fn wake(&self) {
        // The only failure is a full counter, which means that a wake-up is pending already.
        let _ = Self::wake(self);
    }
}

fn uninterrupted<T>(mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match call() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

fn key_of(socket: &impl AsRawFd) -> NetKey {
    NetKey(socket.as_raw_fd() as u32)
}

const fn to_token(token: u64) -> Token {
    Token(token as usize)
}

#[cfg(test)]
mod tests {
    use super::*;
    use socket2::{Domain, Type};

    #[test]
    fn interrupted_calls_are_repeated_and_nothing_else_is() {
        let kinds = [io::ErrorKind::Interrupted, io::ErrorKind::Interrupted];
        for last in [Ok(7), Err(io::ErrorKind::WouldBlock), Err(io::ErrorKind::ConnectionReset)] {
            let mut script = kinds.into_iter().map(Err).chain([last, Ok(9)]);
            let next = || script.next().expect("two of four are left").map_err(io::Error::from);
            assert_eq!(uninterrupted(next).map_err(|error| error.kind()), last);
            assert_eq!(script.next(), Some(Ok(9)), "the call after it is the caller's own");
        }
    }

    /// Polls until `deadline`, as a loop does whose poll may end early.
    fn wait_until(net: &mut MioNet, deadline: Instant) {
        while net.now() < deadline {
            let mut events = Vec::new();
            net.poll(&mut events, Wait::Until(deadline)).unwrap();
            assert_eq!(events, [], "nobody is there to be told of");
        }
    }

    #[test]
    fn a_poll_ends_at_its_deadline_whatever_the_ones_before_were() {
        let mut net = MioNet::new(4096).unwrap();
        let in_time = |millis| Instant::now() + Duration::from_millis(millis);
        let (near, far) = (in_time(20), in_time(60_000));
        net.poll(&mut Vec::new(), Wait::Until(near)).unwrap();
        wait_until(&mut net, near);
        net.waker().wake();
        net.poll(&mut Vec::new(), Wait::Until(far)).unwrap();
        assert!(net.now() < far, "the wake ended that poll");
        wait_until(&mut net, in_time(20));
        net.waker().wake();
        net.poll(&mut Vec::new(), Wait::Until(in_time(40))).unwrap();
        wait_until(&mut net, in_time(80));
        wait_until(&mut net, in_time(0));
        assert!(net.now() < far, "no poll waited for a deadline that was given up");
    }

    #[test]
    fn connection_that_has_met_itself_is_refused() {
        let mut net = MioNet::new(4096).unwrap();
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        for (to_itself, expected) in
            [(false, Ok(())), (true, Err(io::ErrorKind::ConnectionRefused))]
        {
            let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
            socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
            let to =
                if to_itself { socket.local_addr() } else { SockRef::from(&listener).local_addr() };
            socket.connect(&to.unwrap()).unwrap();
            socket.set_nonblocking(true).unwrap();
            let stream = OwnedFd::from(socket).into();
            let key = net.enter(stream, PeerAddress::Unix, 1).unwrap().key;
            assert_eq!(net.finish_connect(key).map_err(|error| error.kind()), expected);
        }
    }

    #[test]
    fn closed_listener_is_silent_though_others_hold_its_socket() {
        let mut net = MioNet::new(4096).unwrap();
        let held = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let options = ListenOptions::default();
        let listening = net.listen(&held.try_clone().unwrap().into(), &options, 1).unwrap();
        net.close(listening.key);
        let _client = std::net::TcpStream::connect(held.local_addr().unwrap()).unwrap();
        let deadline = net.now() + Duration::from_millis(20);
        wait_until(&mut net, deadline);
    }

    #[test]
    fn peer_that_is_gone_is_an_error_and_no_signal() {
        let is_signalled = Arc::new(std::sync::atomic::AtomicBool::new(false));
        // In place of std, which has the process ignore it.
        let signal = signal_hook::consts::SIGPIPE;
        let hook = signal_hook::flag::register(signal, is_signalled.clone()).unwrap();
        let (hello, world) = (IoSlice::new(b"Hello, "), IoSlice::new(b"world"));
        for slices in [&[hello][..], &[hello, world], &[hello, world, hello]] {
            let mut net = MioNet::new(4096).unwrap();
            let (ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
            let adopted = net.adopt(ours.into(), &SocketOptions::default(), 1).unwrap();
            let bytes: usize = slices.iter().map(|slice| slice.len()).sum();
            assert_eq!(net.send(adopted.key, slices).unwrap(), bytes);
            drop(theirs);
            let error = net.send(adopted.key, slices).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
            assert!(!is_signalled.load(std::sync::atomic::Ordering::SeqCst), "{}", slices.len());
        }
        signal_hook::low_level::unregister(hook);
    }

    #[test]
    fn accepted_sockets_have_the_options_of_their_listener() {
        let mut net = MioNet::new(4096).unwrap();
        let mut options = ListenOptions::default();
        options.sockets.keepalive = Some(Duration::from_secs(77));
        options.sockets.send_buffer_bytes = Some(50_000);
        let listening = net.listen(&([127, 0, 0, 1], 0).into(), &options, 1).unwrap();
        let client =
            std::net::TcpStream::connect(listening.endpoint.socket_addr().unwrap()).unwrap();
        net.poll(&mut Vec::new(), Wait::Until(Instant::now() + Duration::from_secs(10))).unwrap();
        let accepted = net.accept(listening.key, 2).unwrap();
        let socket = SockRef::from(&*net.stream(accepted.key).unwrap());
        assert!(socket.tcp_nodelay().unwrap());
        assert!(socket.keepalive().unwrap());
        // Linux reports twice what was asked for: the other half is for its own use.
        assert!((50_000..=100_000).contains(&socket.send_buffer_size().unwrap()));
        drop(client);
    }
}
