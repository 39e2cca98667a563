//! What one message costs once its key is known: AES-GCM, one allocation, no pairing, no signature.

#![allow(unsafe_code)] // An allocator that counts.

mod world;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use smqtt_envelope::Event;
use world::{NOW, Reader, World, at, nothing};

struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

fn count() {
    ALLOCATIONS.with(|n| n.set(n.get() + 1));
}

// SAFETY: every call goes to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        unsafe { System.alloc(layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        unsafe { System.realloc(pointer, layout, size) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn allocations<T>(work: impl FnOnce() -> T) -> (u64, T) {
    let before = ALLOCATIONS.get();
    let result = work();
    (ALLOCATIONS.get() - before, result)
}

const MESSAGES: u64 = 1000;

#[test]
fn one_allocation_to_seal_and_one_to_open() {
    let mut world = World::new();
    let device = world.device("d");
    let mut sealer = world.sealer(&device);
    let mut opener = world.opener();
    let payload = [0x5a; 1024];
    let first = world.seal(&mut sealer, "plant/7/temperature", &payload);
    nothing(opener.announce(&first.announce.expect("the first message")));
    opener.handle_publish("plant/7/temperature", &first.message, false, at(NOW));
    opener.drain();
    let before = opener.counters().clone();

    for _ in 0..MESSAGES {
        let (count, sealed) = allocations(|| {
            sealer
                .seal("plant/7/temperature", &payload, at(NOW), &mut world.rng)
                .expect("sealed")
        });
        assert_eq!(count, 1, "to seal");
        let (count, event) = allocations(|| {
            opener.handle_publish("plant/7/temperature", &sealed.message, false, at(NOW));
            opener.poll_event()
        });
        assert_eq!(count, 1, "to open");
        assert!(matches!(event, Some(Event::Opened(message)) if message.payload == payload));
    }

    let after = opener.counters();
    assert_eq!(after.opened - before.opened, MESSAGES);
    assert_eq!(after.decapsulations, before.decapsulations, "pairings");
    assert_eq!(after.verifications, before.verifications, "signatures");
    assert_eq!(after.derivations, before.derivations, "content keys");
    assert_eq!(sealer.frames_made(), 1, "encapsulations and signatures");
}

#[test]
fn an_inline_message_costs_no_pairing_and_no_signature_either_once_its_key_is_known() {
    let mut world = World::new();
    let device = world.device("d");
    let mut sealer = world.sealer(&device);
    let mut opener = world.opener();
    for _ in 0..100 {
        let sealed = world.seal_inline(&mut sealer, "a", b"x");
        assert_eq!(opener.take("a", &sealed.message).len(), 1);
    }
    let counters = opener.counters();
    assert_eq!(counters.opened, 100);
    assert_eq!(
        (
            counters.verifications,
            counters.decapsulations,
            counters.derivations
        ),
        (1, 1, 1)
    );
}
