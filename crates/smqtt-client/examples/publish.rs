//! Publishes one sealed message.
//!
//!     cargo run -p smqtt-client --example publish -- keys/sensor plant/7/temperature 'role = technician' 21.5

use std::error::Error;

use smqtt_client::{Client, Identity, Options, Policy};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [directory, topic, policy, payload] = arguments.as_slice() else {
        return Err("give DIR TOPIC POLICY TEXT".into());
    };
    let identity = Identity::load(directory.as_ref())?;
    let client = Client::connect(Options::new(identity)?).await?;
    let mut publisher = client.publisher(policy.parse::<Policy>()?)?;
    publisher.publish(topic, payload).await?;
    let tally = publisher.close().await?;
    client.disconnect().await?;
    println!(
        "{} of {} acknowledged",
        tally.acknowledged, tally.handed_over
    );
    Ok(())
}
