//! Publishes the lines of standard input, sealed, and keeps them on disk until the broker has acknowledged them: it may be away.
//! What is left when the program ends goes out when it runs again.
//!
//!     cargo run -p smqtt-client --features queue --example queue -- keys/sensor plant/7/log 'role = technician' queue < lines

use std::error::Error;
use std::io::BufRead;
use std::time::Duration;

use smqtt_client::{Client, Identity, Options, Policy, Queue, WhenFull};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [identity, topic, policy, directory] = arguments.as_slice() else {
        return Err("give IDENTITY TOPIC POLICY DIRECTORY".into());
    };
    let queue = Queue::on_disk(directory)
        .max_messages(1_000)
        .when_full(WhenFull::DropOldest);
    let options = Options::new(Identity::load(identity.as_ref())?)?.queue(queue);
    // It does not wait for the broker.
    let client = Client::connect(options).await?;
    let mut publisher = client.publisher(policy.parse::<Policy>()?)?;
    for line in std::io::stdin().lock().lines() {
        // When this returns, the message is on the disk.
        publisher.publish(topic, line?).await?;
    }
    match tokio::time::timeout(Duration::from_secs(5), publisher.flush()).await {
        Ok(tally) => println!("{} acknowledged", tally?.acknowledged),
        Err(_) => println!("{} are kept in {directory}", publisher.tally().in_flight()),
    }
    Ok(())
}
