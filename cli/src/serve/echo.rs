//! Messages that go back in pieces.

use corewire::{Chunk, Context, Opcode, Part};

/// Sends a piece of a message back.
pub fn send_chunk<D>(ctx: &mut Context<'_, D>, chunk: &Chunk<'_>) {
    let part = match (chunk.offset, chunk.fin) {
        (0, true) => {
            let _ = match (chunk.opcode, std::str::from_utf8(chunk.payload)) {
                (Opcode::Text, Ok(text)) => ctx.send_text(text),
                _ => ctx.send_binary(chunk.payload),
            };
            return;
        }
        (0, false) => Part::First,
        (_, false) => Part::Middle,
        (_, true) => Part::Last,
    };
    let _ = ctx.here().send_part(chunk.opcode, chunk.payload, part);
}
