//! TLS handshakes between our configurations, in memory.
#![allow(clippy::unwrap_used)] // a panic is a failed test

mod fixture;

use std::io;
use std::sync::Arc;

use fixture::*;
use rustls::{
    CertificateError, ClientConfig, ClientConnection, NamedGroup, ProtocolVersion, ServerConfig,
    ServerConnection,
};
use smqtt_pki::tls::{
    ALPN_MQTT, ClientAuth, PinMismatch, anonymous_client_config, client_config, pin_mismatch,
    pinned_client_config, server_config, tls_error,
};
use smqtt_pki::{CertificateAuthority, Fingerprint, Identity, IdentityParts};

/// Shakes hands until both sides are content, or one of them is not.
fn shake(
    client: ClientConfig,
    server: ServerConfig,
    name: &str,
) -> Result<(ClientConnection, ServerConnection), rustls::Error> {
    let mut client = ClientConnection::new(Arc::new(client), host(name))?;
    let mut server = ServerConnection::new(Arc::new(server))?;
    for _ in 0..16 {
        let mut wire = Vec::new();
        client.write_tls(&mut wire).unwrap();
        server.read_tls(&mut wire.as_slice()).unwrap();
        server.process_new_packets()?;
        wire.clear();
        server.write_tls(&mut wire).unwrap();
        client.read_tls(&mut wire.as_slice()).unwrap();
        client.process_new_packets()?;
        if !client.is_handshaking()
            && !server.is_handshaking()
            && !client.wants_write()
            && !server.wants_write()
        {
            return Ok((client, server));
        }
    }
    panic!("the handshake does not end");
}

fn serving(ca: &CertificateAuthority, auth: ClientAuth<'_>) -> ServerConfig {
    let (issued, key) = server(ca, 50);
    server_config(issued.chain, key.to_der().unwrap(), auth, &[ALPN_MQTT]).unwrap()
}

fn identity(ca: &CertificateAuthority, name: &str, seed: u8) -> (tempfile::TempDir, Identity) {
    let (id, key, issued) = device(ca, name, seed);
    let dir = tempfile::tempdir().unwrap();
    let identity = Identity::create(
        &dir.path().join("id"),
        &IdentityParts {
            device: &id,
            authority: "https://localhost:1",
            broker: None,
            suite: 1,
            key: &key,
            chain_pem: &issued.chain_pem(),
            ca_pem: &ca.root_pem(),
            root_list: None,
            parameters: b"p",
            attribute_key: b"k",
            sealing: &[],
            schema: None,
            key_policy: None,
        },
    )
    .unwrap();
    (dir, identity)
}

#[test]
fn a_device_and_a_server_of_one_authority_shake_hands_post_quantum() {
    let ca = authority(1);
    let (_dir, identity) = identity(&ca, "sensor-17", 2);
    let server = serving(&ca, ClientAuth::Required(ca.trust_anchor().into()));
    let (client, server) = shake(
        client_config(&identity, &[ALPN_MQTT]).unwrap(),
        server,
        "localhost",
    )
    .unwrap();
    assert_eq!(client.protocol_version(), Some(ProtocolVersion::TLSv1_3));
    assert_eq!(
        client.negotiated_key_exchange_group().unwrap().name(),
        NamedGroup::X25519MLKEM768
    );
    assert_eq!(client.alpn_protocol(), Some(ALPN_MQTT));
    assert_eq!(server.peer_certificates().unwrap(), identity.chain());
    assert_eq!(
        client.peer_certificates().unwrap().last(),
        Some(ca.trust_anchor().root())
    );
    let seen = ca
        .trust_anchor()
        .verify_device(server.peer_certificates().unwrap(), now())
        .unwrap();
    assert_eq!(seen.id().as_str(), "sensor-17");
}

#[test]
fn a_server_is_known_by_its_addresses_too_and_by_no_other_name() {
    let ca = authority(1);
    for name in ["localhost", "127.0.0.1", "::1"] {
        let config = anonymous_client_config(ca.trust_anchor(), &[]).unwrap();
        shake(config, serving(&ca, ClientAuth::None), name).unwrap();
    }
    for name in ["example.org", "127.0.0.2"] {
        let config = anonymous_client_config(ca.trust_anchor(), &[]).unwrap();
        let refusal = shake(config, serving(&ca, ClientAuth::None), name).unwrap_err();
        assert!(
            matches!(
                &refusal,
                rustls::Error::InvalidCertificate(
                    CertificateError::NotValidForName
                        | CertificateError::NotValidForNameContext { .. }
                )
            ),
            "{refusal:?}"
        );
    }
}

#[test]
fn a_server_turns_away_who_has_no_certificate_or_a_foreign_one() {
    let (ours, theirs) = (authority(1), authority(2));
    let nobody = anonymous_client_config(ours.trust_anchor(), &[]).unwrap();
    let refusal = shake(
        nobody,
        serving(&ours, ClientAuth::Required(ours.trust_anchor().into())),
        "localhost",
    )
    .unwrap_err();
    assert!(
        matches!(refusal, rustls::Error::NoCertificatesPresented),
        "{refusal:?}"
    );

    // The foreigner trusts our server, but has a certificate of its own authority.
    let (id, key, issued) = device(&theirs, "sensor-17", 3);
    let stranger = rustls::ClientConfig::builder_with_provider(smqtt_pki::tls::provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_root_certificates(Arc::new({
            let mut roots = rustls::RootCertStore::empty();
            roots.add(ours.trust_anchor().root().clone()).unwrap();
            roots
        }))
        .with_client_auth_cert(issued.chain, key.to_der().unwrap())
        .unwrap();
    let auths = [
        ClientAuth::Required(ours.trust_anchor().into()),
        ClientAuth::Optional(ours.trust_anchor().into()),
    ];
    for auth in auths {
        let refusal = shake(stranger.clone(), serving(&ours, auth), "localhost").unwrap_err();
        assert!(
            matches!(refusal, rustls::Error::InvalidCertificate(_)),
            "{id}: {refusal:?}"
        );
    }
}

#[test]
fn a_certificate_is_optional_where_it_is_said_to_be() {
    let ca = authority(1);
    let nobody = anonymous_client_config(ca.trust_anchor(), &[]).unwrap();
    let (_, server) = shake(
        nobody,
        serving(&ca, ClientAuth::Optional(ca.trust_anchor().into())),
        "localhost",
    )
    .unwrap();
    assert!(server.peer_certificates().is_none());
    let (_dir, identity) = identity(&ca, "sensor-17", 2);
    let known = client_config(&identity, &[]).unwrap();
    let (_, server) = shake(
        known,
        serving(&ca, ClientAuth::Optional(ca.trust_anchor().into())),
        "localhost",
    )
    .unwrap();
    assert_eq!(server.peer_certificates().unwrap(), identity.chain());
}

#[test]
fn a_device_does_not_trust_a_server_of_another_authority() {
    let (ours, theirs) = (authority(1), authority(2));
    let (_dir, identity) = identity(&ours, "sensor-17", 3);
    let refusal = shake(
        client_config(&identity, &[]).unwrap(),
        serving(&theirs, ClientAuth::None),
        "localhost",
    );
    assert!(
        matches!(refusal, Err(rustls::Error::InvalidCertificate(_))),
        "{refusal:?}"
    );
}

#[test]
fn a_device_can_not_pass_as_a_server() {
    let ca = authority(1);
    let (_, key, mut issued) = device(&ca, "localhost", 2);
    issued.chain.push(ca.trust_anchor().root().clone());
    let config = || {
        server_config(
            issued.chain.clone(),
            key.to_der().unwrap(),
            ClientAuth::None,
            &[],
        )
        .unwrap()
    };
    let clients = [
        anonymous_client_config(ca.trust_anchor(), &[]).unwrap(),
        pinned_client_config(ca.fingerprint(), &[]).unwrap(),
    ];
    for client in clients {
        let refusal = shake(client, config(), "localhost").unwrap_err();
        assert!(
            matches!(refusal, rustls::Error::InvalidCertificate(_)),
            "{refusal:?}"
        );
    }
}

#[test]
fn the_pinned_root_is_trusted() {
    let ca = authority(1);
    let config = pinned_client_config(ca.fingerprint(), &[]).unwrap();
    let (client, _) = shake(config, serving(&ca, ClientAuth::None), "127.0.0.1").unwrap();
    assert_eq!(client.protocol_version(), Some(ProtocolVersion::TLSv1_3));
}

#[test]
fn another_root_than_the_pinned_one_is_named_in_the_error() {
    let (ours, theirs) = (authority(1), authority(2));
    let config = pinned_client_config(ours.fingerprint(), &[]).unwrap();
    let refusal = shake(config, serving(&theirs, ClientAuth::None), "localhost").unwrap_err();
    let mismatch = PinMismatch {
        expected: ours.fingerprint(),
        presented: theirs.fingerprint(),
    };
    assert_eq!(pin_mismatch(&refusal), Some(&mismatch));

    // As it reaches a program: wrapped by the I/O layer, and by more.
    #[derive(Debug, thiserror::Error)]
    #[error("can not connect")]
    struct Outer(#[source] io::Error);
    let wrapped = Outer(io::Error::new(io::ErrorKind::InvalidData, refusal));
    assert_eq!(pin_mismatch(&wrapped), Some(&mismatch));
    assert!(tls_error(&wrapped).is_some());
    let text = mismatch.to_string();
    assert!(
        text.contains(&ours.fingerprint().to_string())
            && text.contains(&theirs.fingerprint().to_string())
    );

    let unrelated = Outer(io::Error::other("refused"));
    assert!(pin_mismatch(&unrelated).is_none() && tls_error(&unrelated).is_none());
}

#[test]
fn the_pin_of_the_servers_own_certificate_is_no_pin_of_the_root() {
    let ca = authority(1);
    let (issued, key) = server(&ca, 50);
    let own = Fingerprint::of(&issued.chain[0]);
    let config = server_config(issued.chain, key.to_der().unwrap(), ClientAuth::None, &[]).unwrap();
    let refusal = shake(pinned_client_config(own, &[]).unwrap(), config, "localhost").unwrap_err();
    assert_eq!(pin_mismatch(&refusal).unwrap().presented, ca.fingerprint());
}

#[test]
fn a_foreign_chain_with_the_pinned_root_appended_is_refused() {
    let (ours, theirs) = (authority(1), authority(2));
    let (mut issued, key) = server(&theirs, 50);
    issued.chain.push(ours.trust_anchor().root().clone());
    let config = server_config(issued.chain, key.to_der().unwrap(), ClientAuth::None, &[]).unwrap();
    let refusal = shake(
        pinned_client_config(ours.fingerprint(), &[]).unwrap(),
        config,
        "localhost",
    )
    .unwrap_err();
    assert!(
        matches!(refusal, rustls::Error::InvalidCertificate(_)),
        "{refusal:?}"
    );
    assert!(pin_mismatch(&refusal).is_none());
}

#[test]
fn a_pinned_server_must_have_the_name_too() {
    let ca = authority(1);
    let config = pinned_client_config(ca.fingerprint(), &[]).unwrap();
    let refusal = shake(config, serving(&ca, ClientAuth::None), "example.org").unwrap_err();
    assert!(
        matches!(
            &refusal,
            rustls::Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. }
            )
        ),
        "{refusal:?}"
    );
}

#[test]
fn a_key_that_is_not_the_servers_is_refused() {
    let ca = authority(1);
    let (issued, _) = server(&ca, 50);
    let (_, other) = server(&ca, 51);
    assert!(server_config(issued.chain, other.to_der().unwrap(), ClientAuth::None, &[]).is_err());
}
