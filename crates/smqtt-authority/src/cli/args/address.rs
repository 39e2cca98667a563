//! Hosts and URLs.

use smqtt_pki::ServerName;

pub(crate) fn parse_host(text: &str) -> Result<ServerName<'static>, String> {
    // As in a URL, an IPv6 address may stand in brackets.
    let bare = text
        .strip_prefix('[')
        .and_then(|t| t.strip_suffix(']'))
        .unwrap_or(text);
    ServerName::try_from(bare.to_owned())
        .map_err(|_| "neither a host name nor an IP address".into())
}

pub(super) fn parse_authority_url(text: &str) -> Result<String, String> {
    parse_url(
        text,
        &["https"],
        "not a URL such as https://ca.example.org:8443",
    )
}

pub(super) fn parse_broker_url(text: &str) -> Result<String, String> {
    parse_url(
        text,
        &["mqtts", "mqtt"],
        "not a URL such as mqtts://broker.example.org:8883",
    )
}

fn parse_url(text: &str, schemes: &[&str], refusal: &str) -> Result<String, String> {
    let url = url::Url::parse(text).map_err(|_| refusal.to_owned())?;
    let plain = url.username().is_empty()
        && url.password().is_none()
        && url.query().is_none()
        && url.fragment().is_none();
    if !schemes.contains(&url.scheme())
        || !url.has_host()
        || !plain
        || !matches!(url.path(), "" | "/")
    {
        return Err(refusal.into());
    }
    Ok(text.trim_end_matches('/').to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_names_or_addresses() {
        for good in ["ca.example.org", "localhost", "192.0.2.1", "::1", "[::1]"] {
            assert!(parse_host(good).is_ok(), "{good}");
        }
        for bad in ["", "a b", "https://x", "x:1", "-"] {
            assert!(parse_host(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn urls_have_a_scheme_a_host_and_nothing_to_hide() {
        assert_eq!(
            parse_authority_url("https://ca:8443/").unwrap(),
            "https://ca:8443"
        );
        assert_eq!(
            parse_broker_url("mqtts://127.0.0.1:8883").unwrap(),
            "mqtts://127.0.0.1:8883"
        );
        assert_eq!(
            parse_broker_url("mqtt://[::1]:1883").unwrap(),
            "mqtt://[::1]:1883"
        );
        for bad in [
            "ca:8443",
            "http://ca",
            "https://",
            "https://u:p@ca",
            "https://ca/x",
            "https://ca?x",
        ] {
            assert!(parse_authority_url(bad).is_err(), "{bad}");
        }
    }
}
