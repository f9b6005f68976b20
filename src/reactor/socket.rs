//! How sockets are made and set up, and what is asked of those that others have made.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
#[cfg(any(target_os = "linux", target_os = "android"))]
use std::{
    thread,
    time::{Duration, Instant},
};

use socket2::{Domain, Protocol, SockAddr, Socket, TcpKeepalive, Type};

use super::endpoint::{Endpoint, InheritedSocket, PeerAddress, UnixEndpoint};
use super::net::{IpStack, ListenOptions, SocketOptions};
use super::remote::RemoteAddress;

/// What a stream socket carries its bytes over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Family {
    Tcp,
    Unix,
}

/// A socket that listens on `address`.
pub(super) fn listen_tcp(address: SocketAddr, options: &ListenOptions) -> io::Result<Socket> {
    let socket = bind_tcp(address, options)?;
    socket.listen(backlog(options))?;
    Ok(socket)
}

/// A socket that has `address` and does not listen yet.
pub(super) fn bind_tcp(address: SocketAddr, options: &ListenOptions) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_nonblocking(true)?;
    socket.set_reuse_address(true)?;
    if options.reuse_port {
        socket.set_reuse_port(true)?;
    }
    match options.ip_stack {
        IpStack::Dual if address.is_ipv6() => socket.set_only_v6(false)?,
        IpStack::V6Only if address.is_ipv6() => socket.set_only_v6(true)?,
        IpStack::System | IpStack::Dual | IpStack::V6Only => {}
    }
    // Before it listens: a connection's window is scaled by the buffer that it begins with.
    set_up(&socket, Family::Tcp, &options.sockets)?;
    socket.bind(&address.into())?;
    Ok(socket)
}

/// A Unix socket that listens, and its file, which has its mode before anybody can connect.
pub(super) fn bind_unix(
    name: &UnixEndpoint,
    options: &ListenOptions,
) -> io::Result<(Socket, Option<Arc<SocketFile>>)> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    // Until the socket listens another starter would take its file for one that was left behind.
    let _turn = match name {
        UnixEndpoint::Path(path) => wait_for_turn(path),
        UnixEndpoint::Abstract(_) => None,
    };
    let file = match name {
        UnixEndpoint::Path(path) => Some(Arc::new(SocketFile::bind(&socket, path)?)),
        UnixEndpoint::Abstract(name) => {
            socket.bind(&abstract_address(name)?)?;
            None
        }
    };
    if let (Some(file), Some(mode)) = (&file, options.unix_mode) {
        fs::set_permissions(&file.path, fs::Permissions::from_mode(mode))?;
    }
    socket.listen(backlog(options))?;
    Ok((socket, file))
}

/// A duplicate of a socket that listens.
pub(super) fn duplicate(
    inherited: &InheritedSocket,
    options: &ListenOptions,
) -> io::Result<Socket> {
    let socket = Socket::from(inherited.socket.try_clone()?);
    let family = family_of(&socket)?;
    if !is_listening(&socket)? {
        return Err(invalid("the socket does not listen"));
    }
    socket.set_nonblocking(true)?;
    set_up(&socket, family, &options.sockets)?;
    Ok(socket)
}

/// Sets a stream that is connected up as if it had been accepted; says who is at its other end.
pub(super) fn take_over(socket: &Socket, options: &SocketOptions) -> io::Result<PeerAddress> {
    let family = family_of(socket)?;
    let peer = socket.peer_addr()?.as_socket().map_or(PeerAddress::Unix, PeerAddress::from);
    socket.set_nonblocking(true)?;
    set_up(socket, family, options)?;
    Ok(peer)
}

/// Begins to connect, without waiting for what comes of it.
pub(super) fn begin_connect(remote: &RemoteAddress, options: &SocketOptions) -> io::Result<Socket> {
    let (domain, family, address) = match remote {
        RemoteAddress::Tcp(address) => {
            (Domain::for_address(*address), Family::Tcp, SockAddr::from(*address))
        }
        RemoteAddress::Unix(UnixEndpoint::Path(path)) => {
            (Domain::UNIX, Family::Unix, path_address(path)?)
        }
        RemoteAddress::Unix(UnixEndpoint::Abstract(name)) => {
            (Domain::UNIX, Family::Unix, abstract_address(name)?)
        }
    };
    let socket = Socket::new(domain, Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    set_up(&socket, family, options)?;
    match socket.connect(&address) {
        // A signal does not end what has begun.
        Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(socket),
        Err(error) if error.raw_os_error() == Some(IN_PROGRESS) => Ok(socket),
        // Whoever listens at a Unix socket does not keep up, and no readiness would follow.
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
            Err(io::ErrorKind::ResourceBusy.into())
        }
        result => result.map(|()| socket),
    }
}

/// EINPROGRESS.
const IN_PROGRESS: i32 =
    if cfg!(any(target_os = "linux", target_os = "android")) { 115 } else { 36 };

/// Gives a socket its options.
pub(super) fn set_up(socket: &Socket, family: Family, options: &SocketOptions) -> io::Result<()> {
    if family == Family::Tcp {
        if options.nodelay {
            socket.set_tcp_nodelay(true)?;
        }
        if let Some(silence) = options.keepalive {
            socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(silence))?;
        }
        #[cfg(any(target_os = "linux", target_os = "android"))]
        if let Some(silence) = options.user_timeout {
            socket.set_tcp_user_timeout(Some(silence))?;
        }
    }
    if let Some(bytes) = options.receive_buffer_bytes {
        socket.set_recv_buffer_size(buffer_bytes(bytes)?)?;
    }
    if let Some(bytes) = options.send_buffer_bytes {
        socket.set_send_buffer_size(buffer_bytes(bytes)?)?;
    }
    Ok(())
}

/// The kernel is told a C int, which a larger number would be cut down to.
fn buffer_bytes(bytes: usize) -> io::Result<usize> {
    match i32::try_from(bytes) {
        Ok(_) => Ok(bytes),
        Err(_) => Err(invalid("the buffer of a socket is smaller than 2 GiB")),
    }
}

/// The family of a stream socket; what is none is an error.
pub(super) fn family_of(socket: &Socket) -> io::Result<Family> {
    if socket.r#type()? != Type::STREAM {
        return Err(invalid("the socket is no stream"));
    }
    match socket.local_addr()?.domain() {
        Domain::IPV4 | Domain::IPV6 => Ok(Family::Tcp),
        Domain::UNIX => Ok(Family::Unix),
        _ => Err(invalid("the socket is neither of TCP nor a Unix socket")),
    }
}

/// Where a listening socket stands.
pub(super) fn local_endpoint(socket: &Socket) -> io::Result<Endpoint> {
    let address = socket.local_addr()?;
    if let Some(address) = address.as_socket() {
        return Ok(Endpoint::Tcp(address));
    }
    let path = || UnixEndpoint::Path(address.as_pathname().unwrap_or(Path::new("")).into());
    Ok(Endpoint::Unix(abstract_name(&address).map_or_else(path, UnixEndpoint::Abstract)))
}

/// The file of a Unix socket that we have bound.
#[derive(Debug)]
pub(super) struct SocketFile {
    /// Absolute, so that it is found wherever the process has gone since.
    path: PathBuf,
    device: u64,
    inode: u64,
}

impl SocketFile {
    /// Binds `socket` to `path`, in place of a file that a dead listener has left there.
    fn bind(socket: &Socket, path: &Path) -> io::Result<Self> {
        let address = path_address(path)?;
        match socket.bind(&address) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
                remove_stale(path, &address)?;
                socket.bind(&address)?;
            }
            result => result?,
        }
        let path = std::path::absolute(path)?;
        let metadata = fs::symlink_metadata(&path)?;
        Ok(Self { path, device: metadata.dev(), inode: metadata.ino() })
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        // Our socket is still open, so nobody else's file can have this inode.
        let is_ours = |file: fs::Metadata| (file.dev(), file.ino()) == (self.device, self.inode);
        if fs::symlink_metadata(&self.path).is_ok_and(is_ours) {
            // Whoever may not remove it any more leaves it to the next listener.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// The right to make a socket in the directory of `path`, which one starter has at a time.
///
/// It is a lock that whoever can read the directory can take, and not every file system has it: so
/// it is waited for, but not without end, and who cannot have it goes on without.
#[cfg(any(target_os = "linux", target_os = "android"))]
fn wait_for_turn(path: &Path) -> Option<fs::File> {
    use rustix::fs::{FlockOperation, flock};
    use rustix::io::Errno;

    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    let directory = fs::File::open(directory.unwrap_or(Path::new("."))).ok()?;
    let deadline = Instant::now() + TURN_PATIENCE;
    loop {
        match flock(&directory, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Some(directory),
            Err(Errno::WOULDBLOCK | Errno::INTR) if Instant::now() < deadline => {
                thread::sleep(TURN_PAUSE);
            }
            Err(_) => return None,
        }
    }
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn wait_for_turn(_: &Path) -> Option<fs::File> {
    None
}

/// Removes the file of a socket on which nobody listens; anything else is an error.
fn remove_stale(path: &Path, address: &SockAddr) -> io::Result<()> {
    if !fs::symlink_metadata(path)?.file_type().is_socket() {
        let message = "there is a file already, which is no socket";
        return Err(io::Error::new(io::ErrorKind::AlreadyExists, message));
    }
    let probe = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    // With a full backlog a blocking connect would wait.
    probe.set_nonblocking(true)?;
    match probe.connect(address) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => fs::remove_file(path),
        // Whoever does not say that nobody is there may be alive.
        _ => Err(io::ErrorKind::AddrInUse.into()),
    }
}

fn path_address(path: &Path) -> io::Result<SockAddr> {
    let bytes = path.as_os_str().as_bytes();
    if bytes.is_empty() || bytes.contains(&0) {
        return Err(invalid("the path of a Unix socket is not empty and has no NUL"));
    }
    SockAddr::unix(path).map_err(|_| invalid(PATH_TOO_LONG))
}

#[cfg(any(target_os = "linux", target_os = "android"))]
fn abstract_address(name: &[u8]) -> io::Result<SockAddr> {
    if name.is_empty() {
        return Err(invalid("the abstract name of a Unix socket is not empty"));
    }
    let name = [b"\0", name].concat();
    SockAddr::unix(std::ffi::OsStr::from_bytes(&name)).map_err(|_| invalid(PATH_TOO_LONG))
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn abstract_address(_: &[u8]) -> io::Result<SockAddr> {
    Err(io::Error::new(io::ErrorKind::Unsupported, "only Linux has abstract names"))
}

#[cfg(any(target_os = "linux", target_os = "android"))]
fn abstract_name(address: &SockAddr) -> Option<Vec<u8>> {
    address.as_abstract_namespace().map(<[u8]>::to_vec)
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn abstract_name(_: &SockAddr) -> Option<Vec<u8>> {
    None
}

/// Whether a socket listens; where the system cannot be asked, its first accept tells.
#[cfg(any(target_os = "linux", target_os = "android", target_os = "freebsd"))]
fn is_listening(socket: &Socket) -> io::Result<bool> {
    socket.is_listener()
}

#[cfg(not(any(target_os = "linux", target_os = "android", target_os = "freebsd")))]
fn is_listening(_: &Socket) -> io::Result<bool> {
    Ok(true)
}

fn backlog(options: &ListenOptions) -> i32 {
    i32::try_from(options.backlog).unwrap_or(i32::MAX)
}

fn invalid(message: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, message)
}

/// Guess: a starter is done in less than a millisecond, so whoever holds the directory for longer
/// is none.
#[cfg(any(target_os = "linux", target_os = "android"))]
const TURN_PATIENCE: Duration = Duration::from_secs(1);

#[cfg(any(target_os = "linux", target_os = "android"))]
const TURN_PAUSE: Duration = Duration::from_millis(1);

/// unix(7): `sun_path` has 108 bytes on Linux and 104 on the BSDs, and a path ends with a NUL.
const PATH_TOO_LONG: &str =
    "the name of a Unix socket has at most 107 bytes on Linux and 103 elsewhere";

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn buffer_that_a_c_int_cannot_tell_is_refused() {
        for (bytes, is_good) in [(1 << 16, true), (1 << 31, false), (1 << 32, false)] {
            let (mut receive, mut send) = (ListenOptions::default(), ListenOptions::default());
            receive.sockets.receive_buffer_bytes = Some(bytes);
            send.sockets.send_buffer_bytes = Some(bytes);
            for options in [receive, send] {
                let listening = listen_tcp(([127, 0, 0, 1], 0).into(), &options);
                let refusal = listening.err().map(|error| error.kind());
                assert_eq!(refusal, (!is_good).then_some(io::ErrorKind::InvalidInput));
            }
        }
    }

    #[test]
    fn address_of_a_listener_cannot_be_bound_and_who_is_bound_does_not_listen() {
        let options = ListenOptions::default();
        let bound = bind_tcp(([127, 0, 0, 1], 0).into(), &options).unwrap();
        assert!(!is_listening(&bound).unwrap());
        let shared = ListenOptions { reuse_port: true, ..ListenOptions::default() };
        for options in [&options, &shared] {
            let living = listen_tcp(([127, 0, 0, 1], 0).into(), options).unwrap();
            let address = living.local_addr().unwrap().as_socket().unwrap();
            let error = bind_tcp(address, &ListenOptions::default()).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
        }
    }

    /// A directory for the sockets of one test.
    fn directory(name: &str) -> PathBuf {
        let path = std::env::temp_dir().join(format!("corewire-{}-{name}", std::process::id()));
        fs::create_dir(&path).expect("nobody else has its name");
        path
    }

    fn start(path: &Path) -> io::Result<(Socket, Option<Arc<SocketFile>>)> {
        bind_unix(&UnixEndpoint::Path(path.into()), &ListenOptions::default())
    }

    #[test]
    fn socket_that_does_not_listen_yet_is_not_taken_for_a_dead_one() {
        let directory = directory("halfway");
        let path = directory.join("socket");
        let turn = wait_for_turn(&path).unwrap();
        let first = Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
        first.bind(&SockAddr::unix(&path).unwrap()).unwrap();
        let inode = fs::metadata(&path).unwrap().ino();
        let second = thread::spawn({
            let path = path.clone();
            move || start(&path).map(|_| ())
        });
        // Without its turn it would be done by then.
        thread::sleep(Duration::from_millis(50));
        first.listen(1).unwrap();
        drop(turn);
        let error = second.join().unwrap().unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
        assert_eq!(fs::metadata(&path).unwrap().ino(), inode);
        fs::remove_dir_all(directory).unwrap();
    }

    #[test]
    fn directory_that_somebody_holds_without_end_keeps_nobody() {
        let directory = directory("held");
        let path = directory.join("socket");
        let _held = wait_for_turn(&path).unwrap();
        let began = Instant::now();
        let started = start(&path).unwrap();
        assert!(began.elapsed() >= TURN_PATIENCE);
        drop(started);
        fs::remove_dir_all(directory).unwrap();
    }
}
