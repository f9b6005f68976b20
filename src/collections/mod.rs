//! The containers of the engine: slots, rings, blocks, queues and the timer wheel.
