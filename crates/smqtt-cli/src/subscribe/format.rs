//! `-F`: what is printed for a message, after `mosquitto_sub`'s format strings.

use std::io::{self, Write};

use jiff::fmt::strtime;
use jiff::tz::TimeZone;
use jiff::{Timestamp, Zoned};
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
  %u user properties  %@X the time by strftime's letter X, local: %@H:%@M:%@S
and of SMQTT, verified:
  %d publisher        %s sequence number  %P policy                       %k key id
A number behind the % is the least width, %20t; with - to the left, %-20t; with 0 filled up with zeros,
%08l. A number behind a dot is the most characters, %.10p.
\\n \\t \\r \\0 \\a \\e \\v \\\\ are the usual characters.";

/// The greatest width and precision.
const MAX_WIDTH: usize = 10_000;

/// A parsed format string.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Format(Vec<Piece>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Text(Vec<u8>),
    Field(Field, Layout),
}

/// How a field is laid out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Layout {
    left: bool,
    zeros: bool,
    width: usize,
    most: Option<usize>,
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
    /// By a letter of strftime.
    Time(char),
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
                '%' if rest.as_str().starts_with('%') => {
                    rest.next();
                    literal.push('%');
                }
                '%' => {
                    let layout = Layout::parse(&mut rest)?;
                    let field = Field::parse(&mut rest)?;
                    if !literal.is_empty() {
                        pieces.push(Piece::Text(std::mem::take(&mut literal).into_bytes()));
                    }
                    pieces.push(Piece::Field(field, layout));
                }
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

impl Layout {
    /// What stands between % and the letter.
    fn parse(rest: &mut std::str::Chars<'_>) -> Result<Self, String> {
        let mut layout = Self::default();
        while let Some(flag @ ('-' | '0')) = rest.clone().next() {
            rest.next();
            match flag {
                '-' => layout.left = true,
                _ => layout.zeros = true,
            }
        }
        layout.width = number(rest)?.unwrap_or(0);
        if rest.as_str().starts_with('.') {
            rest.next();
            layout.most = Some(number(rest)?.unwrap_or(0));
        }
        Ok(layout)
    }

    /// Writes what a field has said. Characters are counted where it is text, else bytes.
    fn write(self, out: &mut impl Write, field: &[u8]) -> io::Result<()> {
        let (field, length) = match std::str::from_utf8(field) {
            Ok(text) => {
                let end = self.most.and_then(|most| text.char_indices().nth(most));
                let text = end.map_or(text, |(end, _)| &text[..end]);
                (text.as_bytes(), text.chars().count())
            }
            Err(_) => {
                let field = &field[..field.len().min(self.most.unwrap_or(usize::MAX))];
                (field, field.len())
            }
        };
        let fill = self.width.saturating_sub(length);
        let with = if self.zeros && !self.left { b"0" } else { b" " };
        if self.left {
            out.write_all(field)?;
        }
        for _ in 0..fill {
            out.write_all(with)?;
        }
        if self.left {
            return Ok(());
        }
        out.write_all(field)
    }
}

/// The number that comes next, if one does.
fn number(rest: &mut std::str::Chars<'_>) -> Result<Option<usize>, String> {
    let text = rest.as_str();
    let digits = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    if digits == 0 {
        return Ok(None);
    }
    *rest = text[digits..].chars();
    let number = text[..digits].parse().ok().filter(|n| *n <= MAX_WIDTH);
    let number = number.ok_or_else(|| format!("a width is at most {MAX_WIDTH}"))?;
    Ok(Some(number))
}

impl Field {
    /// What comes behind the layout.
    fn parse(rest: &mut std::str::Chars<'_>) -> Result<Self, String> {
        let letter = rest
            .next()
            .ok_or("it ends with a single %: write %% for a percent sign")?;
        if letter == '@' {
            let letter = rest.next().unwrap_or(' ');
            return match strtime::format(strftime(letter), &local(Timestamp::UNIX_EPOCH)) {
                Ok(_) => Ok(Self::Time(letter)),
                Err(_) => Err(format!(
                    "%@{letter} is not known: strftime's letters are, such as %@H"
                )),
            };
        }
        Self::of(letter)
            .ok_or_else(|| format!("%{letter} is not known: see the list in `smqtt sub --help`"))
    }

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
            Self::Time(letter) => {
                let text = strtime::format(strftime(letter), &local(now)).unwrap_or_default();
                out.write_all(text.as_bytes())
            }
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
            Self::Policy => text(out, message.access.policy().or(message.access.tags())),
            Self::KeyId => write!(out, "{}", message.kid),
        }
    }
}

fn strftime(letter: char) -> String {
    format!("%{letter}")
}

/// A time as this machine's clocks show it.
fn local(time: Timestamp) -> Zoned {
    time.to_zoned(TimeZone::system())
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
                Piece::Field(field, layout) if *layout == Layout::default() => {
                    field.write(out, message, now)?;
                }
                Piece::Field(field, layout) => {
                    let mut text = Vec::new();
                    field.write(&mut text, message, now)?;
                    layout.write(out, &text)?;
                }
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
                Piece::Field(Field::Topic, Layout::default()),
                Piece::Text(b"\t100% ".to_vec()),
                Piece::Field(Field::Payload, Layout::default()),
                Piece::Text(b"\\".to_vec()),
            ]
        );
    }

    #[test]
    fn what_is_not_known_is_refused() {
        let unknown = [
            "%z",
            "50%",
            "\\q",
            "a\\",
            "%ß",
            "%5",
            "%-",
            "%.",
            "%10001t",
            "%.10001p",
            "%@",
            "%@!",
            "%5%",
            "%99999999999999999999t",
        ];
        for text in unknown {
            assert!(text.parse::<Format>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_field_is_laid_out_as_mosquitto_sub_does() {
        let laid_out = |format: &str, field: &[u8]| {
            let Format(pieces) = format.parse().unwrap();
            let [Piece::Field(_, layout)] = pieces.as_slice() else {
                panic!("{pieces:?}")
            };
            let mut out = Vec::new();
            layout.write(&mut out, field).unwrap();
            out
        };
        for (format, field, expected) in [
            ("%8t", "a/ü", "     a/ü"),
            ("%-8t", "a/ü", "a/ü     "),
            ("%08l", "21", "00000021"),
            ("%-08l", "21", "21      "),
            ("%.2p", "äöü", "äö"),
            ("%.0p", "äöü", ""),
            ("%5.2p", "äöü", "   äö"),
            ("%2t", "plant", "plant"),
        ] {
            assert_eq!(
                laid_out(format, field.as_bytes()),
                expected.as_bytes(),
                "{format}"
            );
        }
        assert_eq!(
            laid_out("%4.2p", &[0xff, 0xfe, 0xfd]),
            [b' ', b' ', 0xff, 0xfe]
        );
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
