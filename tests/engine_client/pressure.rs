//! What clients give back when memory is scarce, and when the application hears of it.

use std::sync::Arc;
use std::time::Duration;

use corewire::PressureLevel::{Critical, High, Moderate, Normal};
use corewire::{Client, Message, PressureLevel, PressureSettings, Submitted};

use crate::layer_bed::{LayerBed, Told, texts};
use crate::made_up_memory::Memory;

/// A hundred times a number of bytes, so that percents are exact.
const BUDGET_BYTES: u64 = 100 << 20;

/// So much more virtual time than a look is away.
const LOOK: Duration = Duration::from_millis(260);

/// The settings of a loop that looks at this memory.
pub fn watching(change: impl FnOnce(&mut PressureSettings)) -> (PressureSettings, Arc<Memory>) {
    let memory = Arc::new(Memory::new(BUDGET_BYTES));
    let mut settings = PressureSettings::default();
    settings.source = Some(memory.clone());
    // It looks as often as at the beginning, with traffic or without.
    settings.idle_interval = settings.sample_interval;
    change(&mut settings);
    (settings, memory)
}

pub fn percent(percent: usize) -> usize {
    BUDGET_BYTES as usize / 100 * percent
}

fn levels(bed: &mut LayerBed) -> Vec<PressureLevel> {
    let told = bed.events().into_iter();
    told.filter_map(|told| match told {
        Told::Pressure(level) => Some(level),
        _ => None,
    })
    .collect()
}

#[test]
fn what_waits_for_its_batch_leaves_when_memory_becomes_scarce() {
    for (shrinks, expected) in [(true, vec!["1", "2"]), (false, vec![])] {
        let (pressure, memory) = watching(|it| it.reactions.shrink_clients = shrinks);
        let mut bed = LayerBed::new(|settings| settings.reactor.pressure = Some(pressure));
        let to = Client::builder("ws://192.0.2.1/feed").batch(|it| {
            it.max_delay = Duration::from_secs(1000);
        });
        let (id, mut server) = bed.open(&to.build().unwrap());
        for text in ["1", "2"] {
            assert_eq!(bed.send(id, text), Some(Submitted::Held));
        }
        bed.run_for(LOOK);
        assert!(server.frames().is_empty() && levels(&mut bed).is_empty());
        bed.reactor.handler().handler().act = Box::new(move |at, clients, told| {
            // What is given back is given back before.
            if let Told::Pressure(_) = told {
                assert_eq!(at.pressure().map(|seen| seen.level), Some(Moderate));
                let sent = clients.send(at, id, Message::Text("from the callback"));
                assert_eq!(sent, Some(Submitted::Held));
            }
        });
        memory.set(percent(60));
        bed.run_for(LOOK);
        assert_eq!(texts(&server.frames()), expected);
        assert_eq!(levels(&mut bed), [Moderate]);
    }
}

#[test]
fn each_change_is_told_once_and_in_order() {
    let (pressure, memory) = watching(|_| {});
    let mut bed = LayerBed::new(|settings| settings.reactor.pressure = Some(pressure));
    for (level, used) in [(None, 59), (Some(High), 79), (Some(Critical), 80), (None, 79)] {
        memory.set(percent(used));
        bed.run_for(LOOK);
        assert_eq!(levels(&mut bed), level.into_iter().collect::<Vec<_>>());
    }
    memory.set(0);
    bed.run_for(Duration::from_secs(5));
    assert_eq!(levels(&mut bed), [High, Moderate, Normal]);
}
