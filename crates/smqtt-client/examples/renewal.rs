//! Publishes a sign of life every ten seconds for as long as it runs, and renews its certificate and its attribute key by itself.
//!
//!     cargo run -p smqtt-client --example renewal -- keys/sensor plant/7/alive 'role = technician'

use std::error::Error;
use std::time::Duration;

use smqtt_client::{Client, Identity, Options, Policy, Renewal};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [directory, topic, policy] = arguments.as_slice() else {
        return Err("give DIR TOPIC POLICY".into());
    };
    let identity = Identity::load(directory.as_ref())?;
    let client = Client::connect(Options::new(identity)?).await?;
    // From here on connection, publishers and subscribers of this client go on with what is renewed.
    let mut renewals = client.keep_renewed(Renewal::default());
    let mut publisher = client.publisher(policy.parse::<Policy>()?)?;
    let mut clock = tokio::time::interval(Duration::from_secs(10));
    loop {
        tokio::select! {
            _ = clock.tick() => publisher.publish(topic, "up").await?,
            renewed = renewals.next() => match renewed {
                Ok(renewed) => println!("renewed: epoch {}", renewed.epoch),
                // It is tried again.
                Err(error) => eprintln!("not renewed: {error}"),
            },
        };
    }
}
