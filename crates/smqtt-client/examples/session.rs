//! Prints every message that this device may read, those included that came while this program was not running.
//!
//!     cargo run -p smqtt-client --features session --example session -- keys/anna 'plant/+/temperature' session

use std::error::Error;

use smqtt_client::{Client, Event, Identity, KeptSession, Options, QoS};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [identity, filter, directory] = arguments.as_slice() else {
        return Err("give IDENTITY FILTER DIRECTORY".into());
    };
    let options = Options::new(Identity::load(identity.as_ref())?)?
        .keep_session(KeptSession::in_directory(directory));
    let client = Client::connect(options).await?;
    let mut subscriber = client.subscribe([filter], QoS::AtLeastOnce).await?;
    loop {
        match subscriber.next().await {
            Event::Message(message) => {
                println!("{}", String::from_utf8_lossy(&message.payload));
                // It has been dealt with: the broker may forget it.
                subscriber.settle()?;
            }
            Event::Ended(loss) => return Err(loss.to_string().into()),
            _ => {}
        }
    }
}
