//! The threads beside the conversation: standard input is read on one, signals come to another.

use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::mpsc::Receiver;
use std::thread;

use corewire::Handle;
use rustix::event::{PollFd, PollFlags};
use rustix::io::Errno;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use super::conversation::Notice;
use crate::args::Failure;

/// So much is read at once.
const READ_BYTES: usize = 64 * 1024;

/// From here on Ctrl-C can be taken; a second one ends the process.
pub fn catch_interrupts() -> Result<Signals, Failure> {
    let fail = |error: io::Error| Failure(format!("cannot catch signals: {error}"));
    let is_second = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        // In this order: the first signal arms what the second one meets.
        let ends = signal_hook::flag::register_conditional_shutdown(signal, 1, is_second.clone());
        let arms = ends.and_then(|_| signal_hook::flag::register(signal, is_second.clone()));
        arms.map_err(fail)?;
    }
    Signals::new([SIGINT, SIGTERM]).map_err(fail)
}

/// Has the conversation left at the first signal.
pub fn attend(mut interrupts: Signals, conversation: Handle) {
    thread::spawn(move || {
        if interrupts.forever().next().is_some() {
            let _ = conversation.notify(Notice::Leave);
        }
    });
}

/// Reads standard input, as often as it is wanted.
pub fn read(wanted: Receiver<()>, conversation: Handle) {
    thread::spawn(move || {
        let mut buffer = vec![0; READ_BYTES];
        while wanted.recv().is_ok() {
            // An error counts as the end.
            let bytes = read_some(&mut buffer).unwrap_or(0);
            let input = buffer[..bytes].to_vec();
            let is_over = input.is_empty();
            let notice = if is_over { Notice::InputEnded } else { Notice::Input(input) };
            // Few wait there at a time.
            let _ = conversation.notify(notice);
            if is_over {
                return;
            }
        }
    });
}

fn read_some(buffer: &mut [u8]) -> rustix::io::Result<usize> {
    let stdin = io::stdin();
    loop {
        match rustix::io::read(stdin.as_fd(), &mut *buffer) {
            Err(Errno::INTR) => {}
            // Others may have changed what they share with us.
            Err(Errno::AGAIN) => {
                rustix::event::poll(&mut [PollFd::new(&stdin, PollFlags::IN)], None)?;
            }
            result => return result,
        }
    }
}
