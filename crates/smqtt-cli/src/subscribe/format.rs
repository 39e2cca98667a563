//! `-F`: what is printed for a message, after `mosquitto_sub`'s format strings.

use std::io::{self, Write};

use jiff::Timestamp;
use smqtt_client::Received;

use super::record::Record;
use crate::json;

/// The table for the help.
pub(super) const TABLE: &str = "\
Format strings (-F), as mosquitto_sub has them:
  %t topic            %p payload          %x, %X payload in hexadecimal   %l its length
  %j the message as JSON                  %J the same, a payload of JSON taken apart
  %q QoS              %r 1 if retained    %m packet id                    %% a percent sign
  %I time, ISO 8601   %U seconds since 1970 with nine decimals
  %C content type     %R response topic   %D correlation data             %E expiry
  %u user properties
and of SMQTT, verified:
  %d publisher        %s sequence number  %P policy                       %k key id
\\n \\t \\r \\0 \\a \\e \\v \\\\ are the usual characters.";

/// A parsed format string.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Format(Vec<Piece>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Text(Vec<u8>),
    Field(Field),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Field {
    Topic,
    Payload,
    HexLower,
    HexUpper,
    Length,
    Json,
    JsonPayload,
    Qos,
    Retained,
    PacketId,
    TimeIso,
    TimeUnix,
    ContentType,
    ResponseTopic,
    CorrelationData,
    Expiry,
    UserProperties,
    Publisher,
    Sequence,
    Policy,
    KeyId,
}

impl std::str::FromStr for Format {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut pieces = Vec::new();
        let mut literal = String::new();
        let mut rest = text.chars();
        while let Some(character) = rest.next() {
            match character {
                '%' => match rest.next() {
                    Some('%') => literal.push('%'),
                    Some(letter) => {
                        let field = Field::of(letter).ok_or_else(|| {
                            format!("%{letter} is not known: see the list in `smqtt sub --help`")
                        })?;
                        if !literal.is_empty() {
                            pieces.push(Piece::Text(std::mem::take(&mut literal).into_bytes()));
                        }
                        pieces.push(Piece::Field(field));
                    }
                    None => {
                        return Err(
                            "it ends with a single %: write %% for a percent sign".to_owned()
                        );
                    }
                },
                '\\' => match rest.next() {
                    Some(letter) => literal.push(escape(letter).ok_or_else(|| {
                        format!("\\{letter} is not known: \\n \\t \\r \\0 \\a \\e \\v \\\\ are")
                    })?),
                    None => return Err("it ends with a single \\: write \\\\ for one".to_owned()),
                },
                other => literal.push(other),
            }
        }
        if !literal.is_empty() {
            pieces.push(Piece::Text(literal.into_bytes()));
        }
        Ok(Self(pieces))
    }
}

fn escape(letter: char) -> Option<char> {
    Some(match letter {
        'n' => '\n',
        't' => '\t',
        'r' => '\r',
        '0' => '\0',
        'a' => '\x07',
        'e' => '\x1b',
        'v' => '\x0b',
        '\\' => '\\',
        _ => return None,
    })
}

impl Field {
    fn of(letter: char) -> Option<Self> {
        Some(match letter {
            't' => Self::Topic,
            'p' => Self::Payload,
            'x' => Self::HexLower,
            'X' => Self::HexUpper,
            'l' => Self::Length,
            'j' => Self::Json,
            'J' => Self::JsonPayload,
            'q' => Self::Qos,
            'r' => Self::Retained,
            'm' => Self::PacketId,
            'I' => Self::TimeIso,
            'U' => Self::TimeUnix,
            'C' => Self::ContentType,
            'R' => Self::ResponseTopic,
            'D' => Self::CorrelationData,
            'E' => Self::Expiry,
            'u' => Self::UserProperties,
            'd' => Self::Publisher,
            's' => Self::Sequence,
            'P' => Self::Policy,
            'k' => Self::KeyId,
            _ => return None,
        })
    }

    fn write(self, out: &mut impl Write, message: &Received, now: Timestamp) -> io::Result<()> {
        let properties = message.properties();
        match self {
            Self::Topic => out.write_all(message.topic.as_bytes()),
            Self::Payload => out.write_all(&message.payload),
            Self::HexLower => {
                out.write_all(data_encoding::HEXLOWER.encode(&message.payload).as_bytes())
            }
            Self::HexUpper => {
                out.write_all(data_encoding::HEXUPPER.encode(&message.payload).as_bytes())
            }
            Self::Length => write!(out, "{}", message.payload.len()),
            Self::Json => json::object(out, &Record::new(message, now)),
            Self::JsonPayload => json::object(out, &Record::new(message, now).taken_apart()),
            Self::Qos => write!(out, "{}", message.qos as u8),
            Self::Retained => write!(out, "{}", u8::from(message.retained)),
            Self::PacketId => write!(out, "{}", message.packet_id),
            Self::TimeIso => write!(out, "{}", now.strftime("%Y-%m-%dT%H:%M:%SZ")),
            Self::TimeUnix => write!(out, "{}.{:09}", now.as_second(), now.subsec_nanosecond()),
            Self::ContentType => text(out, properties.content_type.as_deref()),
            Self::ResponseTopic => text(out, properties.response_topic.as_deref()),
            Self::CorrelationData => {
                out.write_all(properties.correlation_data.as_deref().unwrap_or_default())
            }
            Self::Expiry => properties
                .expiry
                .map_or(Ok(()), |seconds| write!(out, "{seconds}")),
            Self::UserProperties => {
                for (index, (name, value)) in properties.user.iter().enumerate() {
                    let lead = if index == 0 { "" } else { " " };
                    write!(out, "{lead}{name}:{value}")?;
                }
                Ok(())
            }
            Self::Publisher => text(out, Some(message.publisher.as_str())),
            Self::Sequence => write!(out, "{}", message.sequence.get()),
            Self::Policy => text(out, Some(&message.policy)),
            Self::KeyId => write!(out, "{}", message.kid),
        }
    }
}

fn text(out: &mut impl Write, text: Option<&str>) -> io::Result<()> {
    out.write_all(text.unwrap_or_default().as_bytes())
}

impl Format {
    /// Writes the line for a message, without its end.
    pub(super) fn write(
        &self,
        out: &mut impl Write,
        message: &Received,
        now: Timestamp,
    ) -> io::Result<()> {
        for piece in &self.0 {
            match piece {
                Piece::Text(text) => out.write_all(text)?,
                Piece::Field(field) => field.write(out, message, now)?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_escapes_and_fields_are_told_apart() {
        let Format(pieces) = r"%t\t100%% %p\\".parse().unwrap();
        assert_eq!(
            pieces,
            [
                Piece::Field(Field::Topic),
                Piece::Text(b"\t100% ".to_vec()),
                Piece::Field(Field::Payload),
                Piece::Text(b"\\".to_vec()),
            ]
        );
    }

    #[test]
    fn what_is_not_known_is_refused() {
        for text in ["%z", "50%", "\\q", "a\\", "%ß"] {
            assert!(text.parse::<Format>().is_err(), "{text}");
        }
    }

    #[test]
    fn the_help_lists_every_field() {
        for letter in ' '..='~' {
            let listed =
                TABLE.contains(&format!("%{letter} ")) || TABLE.contains(&format!("%{letter},"));
            assert_eq!(
                Field::of(letter).is_some() || letter == '%',
                listed,
                "{letter}"
            );
        }
    }
}
