//! Every future of the library may be spawned: with its task it goes from thread to thread.
//!
//! Nothing is polled here, it is the compiler that judges: this file does not build once a future keeps something, such
//! as the thread's random number generator, that has to stay on its thread.

use std::future::Future;
use std::path::Path;
use std::time::Duration;

use futures_util::StreamExt as _;
use smqtt_client::gateway::Gateway;
use smqtt_client::{
    AuthorityStates, Client, Enrolment, Error, Event, Identity, Kept, Listener, OpenerConfig,
    Options, PlaintextPublisher, Policy, Publication, Publisher, QoS, Receipt, Received, Renewals,
    Requester, Subscriber, authority_presence, authority_revocations, enrol, renew,
};

fn may_be_spawned<F: Future + Send>(_: F)
where
    F::Output: Send,
{
}

fn may_be_shared<T: Send + Sync>() {}

fn values() {
    may_be_shared::<Client>();
    may_be_shared::<Options>();
    may_be_shared::<Publisher>();
    may_be_shared::<PlaintextPublisher>();
    may_be_shared::<Subscriber>();
    may_be_shared::<Listener>();
    may_be_shared::<Event>();
    may_be_shared::<Error>();
    may_be_shared::<Gateway>();
}

fn clients(client: Client, options: Options, policy: Policy) {
    may_be_spawned(Client::connect(options));
    may_be_spawned(client.subscribe(["a"], QoS::AtLeastOnce));
    may_be_spawned(client.subscribe_with(["a"], QoS::AtLeastOnce, OpenerConfig::default()));
    may_be_spawned(client.listen(["a"], QoS::AtLeastOnce));
    may_be_spawned(client.authority_states());
    may_be_spawned(client.may_publish("a"));
    may_be_spawned(Requester::new(&client, policy, "a"));
    may_be_spawned(client.disconnect());
}

fn publishers(mut publisher: Publisher, plaintext: &PlaintextPublisher, receipt: Receipt) {
    may_be_spawned(publisher.publish("a", "21.5"));
    may_be_spawned(publisher.send(Publication::new("a", b"21.5")));
    may_be_spawned(publisher.send_with_receipt(Publication::new("a", b"21.5")));
    may_be_spawned(publisher.clear("a"));
    may_be_spawned(publisher.flush());
    may_be_spawned(publisher.close());
    may_be_spawned(plaintext.publish("a", b"21.5", QoS::AtLeastOnce));
    may_be_spawned(plaintext.flush());
    may_be_spawned(receipt.acknowledged());
}

fn streams(subscriber: Subscriber) {
    may_be_spawned(subscriber.into_stream().count());
}

fn subscribers(subscriber: &mut Subscriber, listener: &mut Listener, states: &mut AuthorityStates) {
    may_be_spawned(subscriber.next());
    may_be_spawned(subscriber.next_message());
    may_be_spawned(listener.next());
    may_be_spawned(states.next());
}

fn requests(requester: &mut Requester, publisher: &mut Publisher, received: &Received) {
    may_be_spawned(requester.request("a", b"?"));
    may_be_spawned(publisher.respond(received, b"!"));
}

fn upkeep(kept: &Kept, renewals: &mut Renewals, enrolment: Enrolment, identity: &Identity) {
    may_be_spawned(kept.beyond(1));
    may_be_spawned(renewals.next());
    may_be_spawned(enrol(enrolment, Path::new("anna")));
    may_be_spawned(renew(Path::new("anna"), Duration::from_secs(10)));
    may_be_spawned(authority_presence(identity, Duration::from_secs(10)));
    may_be_spawned(authority_revocations(identity, Duration::from_secs(10)));
}

fn gateways(gateway: Gateway) {
    may_be_spawned(gateway.run(std::future::pending()));
}

#[test]
fn every_future_may_be_spawned() {
    let _ = (
        values,
        clients,
        publishers,
        streams,
        subscribers,
        requests,
        upkeep,
        gateways,
    );
}
