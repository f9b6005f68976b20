//! What a compressor of any shape makes, another implementation inflates, and ours from the window
//! alone; whether the compressor knows nothing of earlier messages, their window, or them all.
#![no_main]

use corewire::fuzzing::deflate::{Deflater, History, Inflater, Shape, Stop};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (u8, u8, u8, u8, Vec<(u8, &[u8])>)| {
    let (bits, level, mem_level, takeover, messages) = input;
    let shape =
        Shape { window_bits: 9 + bits % 7, level: 1 + level % 9, mem_level: 1 + mem_level % 9 };
    let (mut deflater, mut inflater) = (Deflater::new(shape), Inflater::new());
    let mut history = History::new(shape.window_bits);
    let (mut stream, mut all, mut output) = (Vec::new(), Vec::new(), Vec::new());
    for (copies, message) in messages {
        let message = message.repeat(copies.into());
        if takeover % 3 == 0 {
            history.clear();
        }
        let (older, newer) = history.as_slices();
        if takeover % 3 < 2 {
            deflater.begin([older, newer]);
        }
        let payload_bytes = deflater.compress(&message, &mut output);
        let payload = &output[..payload_bytes];
        inflater.begin([older, newer, &[]]);
        let mut room = vec![0; message.len() + 1];
        let progress = inflater.inflate(payload, &mut room).expect("it is no corrupt payload");
        assert_eq!((progress.consumed, progress.produced), (payload_bytes, message.len()));
        let end = inflater.finish(&mut room[message.len()..]).map(|end| (end.produced, end.stop));
        assert_eq!(end, Ok((0, Stop::FinalBlock)));
        assert_eq!(room[..message.len()], message);
        history.append(&message);
        all.extend(message);
        stream.extend(payload.iter().chain(&[0, 0, 0xff, 0xff]));
    }
    stream.extend([3, 0]);
    assert!(miniz_oxide::inflate::decompress_to_vec(&stream).is_ok_and(|theirs| theirs == all));
});
