//! No bytes at any topic make a reader panic, and none of them are opened.

mod world;

use std::cell::RefCell;

use proptest::collection::vec;
use proptest::prelude::*;
use smqtt_envelope::{Event, Opener};
use smqtt_format::{KeyId, announce};
use world::{NOW, Reader, World, at};

/// One genuine announcement and message, and a reader that goes through the whole test.
struct Target {
    opener: Opener,
    frame: Vec<u8>,
    message: Vec<u8>,
}

thread_local! {
    static TARGET: RefCell<Target> = RefCell::new({
        let mut world = World::new();
        let device = world.device("d");
        let (announcement, message) = world.first(&device, "a", b"21.5");
        let mut opener = world.opener();
        opener.announce(&announcement);
        Target { opener, frame: announcement.frame.to_vec(), message }
    });
}

#[derive(Clone, Debug)]
enum Base {
    Nothing,
    Message,
    Frame,
    Inline,
}

fn base() -> impl Strategy<Value = Base> {
    prop_oneof![
        Just(Base::Nothing),
        Just(Base::Message),
        Just(Base::Frame),
        Just(Base::Inline)
    ]
}

proptest! {
    #[test]
    fn whatever_arrives(
        base in base(),
        splices in vec((any::<prop::sample::Index>(), 0usize..4, vec(any::<u8>(), 0..6)), 1..4),
        topic in prop_oneof!["a", "b", "smqtt/.{0,12}", ".{0,12}"],
        announced in any::<bool>(),
        retained in any::<bool>(),
        seconds in prop_oneof![Just(NOW), any::<u64>()],
    ) {
        TARGET.with_borrow_mut(|target| {
            let genuine = match base {
                Base::Nothing => vec![],
                Base::Message => target.message.clone(),
                Base::Frame => target.frame.clone(),
                Base::Inline => [&target.frame[..], &target.message].concat(),
            };
            let mut payload = genuine.clone();
            for (at, remove, insert) in splices {
                let at = at.index(payload.len() + 1);
                let end = (at + remove).min(payload.len());
                payload.splice(at..end, insert);
            }
            let topic = if announced { announce::topic(&topic, &KeyId::of(&payload)) } else { topic };
            target.opener.handle_publish(&topic, &payload, retained, at(seconds));
            target.opener.handle_timeout(at(seconds));
            for event in target.opener.drain() {
                if let Event::Opened(message) = event {
                    // Only the genuine message at its own topic.
                    prop_assert!(payload.ends_with(&target.message));
                    prop_assert_eq!((&*message.topic, &message.payload[..]), ("a", &b"21.5"[..]));
                }
            }
            Ok(())
        })?;
    }
}
