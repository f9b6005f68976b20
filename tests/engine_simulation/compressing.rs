//! Compression as a peer sees it, if the engine is built with it.

#[cfg(feature = "deflate")]
pub use with::{Compressing, Inflating};
#[cfg(not(feature = "deflate"))]
pub use without::{Compressing, Inflating};

#[cfg(feature = "deflate")]
mod with {
    use corewire::{Compression, CompressionMode, Config};

    use crate::deflated::{Compressor, Decompressor, OFFER};
    use crate::dice::Dice;

    /// What a peer knows of the server's mode, and how it compresses itself.
    pub struct Compressing {
        mode: CompressionMode,
        compressor: Option<Compressor>,
    }

    impl Compressing {
        /// Has the server compress, perhaps.
        pub fn configure(config: &mut Config, dice: &mut Dice) {
            let window_bits = 9 + dice.below(7) as u8;
            let mode = dice.one_of(&[
                CompressionMode::Disabled,
                CompressionMode::Shared,
                CompressionMode::Dedicated { window_bits, mem_level: 1 },
            ]);
            let compression = Compression::new(mode).expect("within the ranges");
            config.compression = compression.threshold_bytes(dice.one_of(&[0, 128, 1_000]));
        }

        /// A peer of a server that compresses so, which offers it or not.
        pub fn with(config: &Config, dice: &mut Dice) -> Self {
            let mode = config.compression.mode();
            let offers = mode != CompressionMode::Disabled && dice.chance(70);
            Self { mode, compressor: offers.then(Compressor::new) }
        }

        pub fn offer(&self) -> &'static str {
            if self.compressor.is_some() { OFFER } else { "" }
        }

        pub fn compress(&mut self, payload: &[u8]) -> Option<Vec<u8>> {
            let compressor = self.compressor.as_mut()?;
            if self.mode == CompressionMode::Shared {
                *compressor = Compressor::new();
            }
            Some(compressor.message(payload))
        }
    }

    /// What a peer makes of compressed messages.
    pub struct Inflating(Decompressor);

    impl Default for Inflating {
        fn default() -> Self {
            Self(Decompressor::new(15))
        }
    }

    impl Inflating {
        pub fn inflate(&mut self, payload: &[u8]) -> Vec<u8> {
            self.0.message(payload)
        }
    }
}

#[cfg(not(feature = "deflate"))]
mod without {
    use corewire::Config;

    use crate::dice::Dice;

    pub struct Compressing;

    impl Compressing {
        pub fn configure(_: &mut Config, _: &mut Dice) {}

        pub fn with(_: &Config, _: &mut Dice) -> Self {
            Self
        }

        pub fn offer(&self) -> &'static str {
            ""
        }

        pub fn compress(&mut self, _: &[u8]) -> Option<Vec<u8>> {
            None
        }
    }

    #[derive(Default)]
    pub struct Inflating(());

    impl Inflating {
        pub fn inflate(&mut self, _: &[u8]) -> Vec<u8> {
            panic!("a compressed message without an agreement")
        }
    }
}
