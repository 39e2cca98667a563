//! The properties of MQTT 5 that go along with a message.

use clap::Args;
use smqtt_client::Properties;

use crate::connection::Connection;
use crate::failure::Failure;

/// What the broker carries beside the payload.
#[derive(Debug, Args)]
#[command(next_help_heading = "Properties of MQTT 5: not sealed, the broker reads them")]
pub(crate) struct PropertyOptions {
    /// A user property; may be given several times
    #[arg(long = "property", value_name = "NAME=VALUE", value_parser = pair)]
    user: Vec<(String, String)>,

    /// What the payload is, such as text/plain
    #[arg(long, value_name = "TYPE")]
    content_type: Option<String>,

    /// Seconds that the broker may keep the message for readers that are away
    #[arg(long, value_name = "SECONDS")]
    expiry: Option<u32>,

    /// Where a response is wanted
    #[arg(long, value_name = "TOPIC")]
    response_topic: Option<String>,

    /// What the response repeats, so that it is known for one to this message
    #[arg(long, value_name = "TEXT", requires = "response_topic")]
    correlation_data: Option<String>,
}

fn pair(text: &str) -> Result<(String, String), String> {
    let (name, value) = text
        .split_once('=')
        .ok_or("write it as NAME=VALUE".to_owned())?;
    Ok((name.to_owned(), value.to_owned()))
}

impl PropertyOptions {
    /// The properties, if they can be sent.
    pub(crate) fn checked(&self, connection: &Connection) -> Result<Properties, Failure> {
        let mut properties = Properties::default();
        properties.user.clone_from(&self.user);
        properties.content_type.clone_from(&self.content_type);
        properties.response_topic.clone_from(&self.response_topic);
        properties.correlation_data = self
            .correlation_data
            .as_ref()
            .map(|text| text.clone().into_bytes());
        properties.expiry = self.expiry;
        properties.check()?;
        if !properties.is_empty() && !connection.is_v5() {
            return Err(Failure::input(
                "MQTT 3.1.1 has no properties: leave them out, or speak --mqtt 5",
            ));
        }
        Ok(properties)
    }
}
