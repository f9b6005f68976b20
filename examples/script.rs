//! A client as scripts want one: it connects, asks, prints the answers and leaves.
//!
//! ```console
//! $ cargo run --example echo         # in another terminal
//! $ cargo run --example script -- ws://127.0.0.1:9001/ Hello "How are you?"
//! $ seq 10000 | cargo run --example script -- ws://127.0.0.1:9001/
//! ```
//! Without questions each line of the standard input is one, and all are asked at once, by another
//! thread.

use std::error::Error;
use std::io::{Write, stdin, stdout};
use std::thread;
use std::time::Duration;

use corewire::{Client, ClientReceiver, CloseCode, Message, OwnedMessage};

const PATIENCE: Duration = Duration::from_secs(5);

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let url = arguments.next().unwrap_or_else(|| "ws://127.0.0.1:9001/".to_owned());
    let questions: Vec<String> = arguments.collect();
    let (sender, receiver) = Client::builder(&url).connect()?.split();
    for question in &questions {
        sender.send(Message::Text(question))?;
        print_answer(&receiver)?;
    }
    if questions.is_empty() {
        let lines = sender.clone();
        let asking = thread::spawn(move || -> Result<usize, String> {
            let mut count = 0;
            for line in stdin().lines() {
                let line = line.map_err(|error| error.to_string())?;
                lines.send(Message::Text(&line)).map_err(|error| error.to_string())?;
                count += 1;
            }
            Ok(count)
        });
        let mut answers = 0;
        while !asking.is_finished() {
            while let Some(answer) = receiver.recv_timeout(Duration::from_millis(10))? {
                print(&answer)?;
                answers += 1;
            }
        }
        let asked = asking.join().expect("it does not panic")?;
        for _ in answers..asked {
            print_answer(&receiver)?;
        }
    }
    let summary = sender.close(CloseCode::NORMAL, "that was all")?;
    println!("closed with {}", summary.code.as_u16());
    Ok(())
}

fn print_answer(receiver: &ClientReceiver) -> Result<(), Box<dyn Error>> {
    let answer = receiver.recv_timeout(PATIENCE)?.ok_or("there is no answer")?;
    print(&answer)
}

fn print(answer: &OwnedMessage) -> Result<(), Box<dyn Error>> {
    let mut out = stdout().lock();
    out.write_all(answer.payload())?;
    Ok(out.write_all(b"\n")?)
}
