//! Prints every message that this device may read, and why it may not read the others.
//!
//!     cargo run -p smqtt-client --example subscribe -- keys/anna 'plant/+/temperature'

use std::error::Error;

use smqtt_client::{Client, EnvelopeEvent, Event, Identity, Options, QoS};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [directory, filter] = arguments.as_slice() else {
        return Err("give DIR FILTER".into());
    };
    let identity = Identity::load(directory.as_ref())?;
    let client = Client::connect(Options::new(identity)?).await?;
    let mut subscriber = client.subscribe([filter], QoS::AtLeastOnce).await?;
    loop {
        match subscriber.next().await {
            Event::Message(message) => println!(
                "{} from {}: {}",
                message.topic,
                message.publisher,
                String::from_utf8_lossy(&message.payload)
            ),
            Event::Envelope(EnvelopeEvent::Refused { topic, reason, .. }) => {
                eprintln!("{topic}: {reason}");
            }
            Event::Ended(loss) => return Err(loss.to_string().into()),
            _ => {}
        }
    }
}
