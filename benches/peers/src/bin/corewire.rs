//! corewire itself.
//!
//! Form: the README of this tree, section Embedding.

use clap::Parser;
use corewire::{
    Compression, CompressionMode, Context, Handler, InvalidCompression, Message, Server,
};
use corewire_peers::MESSAGE_BYTES_MAX;
use corewire_peers::compression::{self, Deflating};

#[derive(Parser)]
struct Arguments {
    #[command(flatten)]
    deflating: Deflating,
    /// How hard the compressor looks for repetitions, 1 to 9 [default: corewire's own].
    #[arg(long)]
    level: Option<u8>,
}

struct Echo;

impl Handler for Echo {
    type Data = ();

    fn on_message(&mut self, ctx: &mut Context<'_, ()>, message: Message<'_>) {
        let _ = ctx.send(message);
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments = Arguments::parse();
    let compression = compression(&arguments)?;
    let server = Server::builder()
        .listen(arguments.deflating.listen.address()?)
        .threads(1)
        .config(|config| {
            config.limits.message_bytes_max = MESSAGE_BYTES_MAX as u64;
            config.compression = compression;
        })
        .build(|_shard| Echo)?;
    server.run()?;
    Ok(())
}

fn compression(arguments: &Arguments) -> Result<Compression, InvalidCompression> {
    let mode = match arguments.deflating.compression {
        compression::Compression::Disabled => CompressionMode::Disabled,
        compression::Compression::Shared => CompressionMode::Shared,
        compression::Compression::Dedicated { window_bits, mem_level } => {
            CompressionMode::Dedicated { window_bits, mem_level }
        }
    };
    let compression =
        Compression::new(mode)?.peer_window_bits(arguments.deflating.peer_window_bits)?;
    arguments.level.map_or(Ok(compression.clone()), |level| compression.level(level))
}
