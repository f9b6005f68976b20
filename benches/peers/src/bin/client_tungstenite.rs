//! tungstenite's blocking client, with a thread for each connection and a flush for each message.
//!
//! Form: <https://github.com/snapview/tungstenite-rs/blob/master/examples/client.rs>

use std::error::Error;
use std::sync::mpsc;
use std::thread;

use corewire_peers::client::{Load, ended};
use tungstenite::{Message, client};

fn main() -> Result<(), Box<dyn Error>> {
    let load = Load::read()?;
    let (ends, first_end) = mpsc::channel();
    let mut sockets = Vec::new();
    for _ in 0..load.connections {
        sockets.push(client(load.url(), load.open()?)?.0);
    }
    // Not before all are open: this thread would hardly have a turn.
    for mut socket in sockets {
        for _ in 0..load.in_flight {
            socket.write(Message::binary(load.payload()))?;
        }
        let ends = ends.clone();
        thread::Builder::new().stack_size(STACK_BYTES).spawn(move || {
            let mut go_on = || -> tungstenite::Result<()> {
                socket.flush()?;
                loop {
                    let message = socket.read()?;
                    if message.is_binary() {
                        socket.send(message)?;
                    }
                }
            };
            let _ = ends.send(go_on());
        })?;
    }
    first_end.recv()??;
    Err(ended().into())
}

const STACK_BYTES: usize = 256 * 1024;
