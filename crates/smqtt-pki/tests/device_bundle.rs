//! The device bundle on disk: whole or not at all, private, and checked when loaded.
#![allow(clippy::unwrap_used)] // a panic is a failed test

mod fixture;

use std::fs;
use std::path::Path;

use fixture::*;
use smqtt_pki::{DeviceId, Error, Identity, IdentityKey, IdentityParts, TrustAnchor};

struct Material {
    id: DeviceId,
    key: IdentityKey,
    chain: String,
    ca: String,
}

fn material(ca_seed: u8, name: &str, seed: u8) -> Material {
    let ca = authority(ca_seed);
    let (id, key, issued) = device(&ca, name, seed);
    Material {
        id,
        key,
        chain: issued.chain_pem(),
        ca: ca.root_pem(),
    }
}

impl Material {
    fn parts(&self) -> IdentityParts<'_> {
        IdentityParts {
            device: &self.id,
            authority: "https://127.0.0.1:8443",
            broker: Some("mqtts://127.0.0.1:8883"),
            suite: 1,
            key: &self.key,
            chain_pem: &self.chain,
            ca_pem: &self.ca,
            root_list: None,
            parameters: b"parameters",
            attribute_key: b"attribute key",
            sealing: &[],
            schema: None,
            key_policy: None,
        }
    }
}

const FILES: [&str; 6] = [
    "identity.toml",
    "device.key",
    "device.crt",
    "ca.crt",
    "parameters.cbor",
    "attribute.key",
];

fn entries(dir: &Path) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(dir)
        .unwrap()
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn what_was_created_is_loaded() {
    let dir = tempfile::tempdir().unwrap();
    let at = dir.path().join("new/parents/sensor-17");
    let material = material(1, "sensor-17", 2);
    let created = Identity::create(&at, &material.parts()).unwrap();
    assert_eq!(created.directory(), at);
    let loaded = Identity::load(&at).unwrap();
    assert_eq!(loaded.device(), &material.id);
    assert_eq!(loaded.authority(), "https://127.0.0.1:8443");
    assert_eq!(loaded.broker(), Some("mqtts://127.0.0.1:8883"));
    assert_eq!(loaded.suite(), 1);
    assert_eq!(loaded.key().public_key(), material.key.public_key());
    assert_eq!(
        smqtt_pki::certificates_to_pem(loaded.chain()),
        material.chain
    );
    let anchor = TrustAnchor::from_pem(material.ca.as_bytes()).unwrap();
    assert_eq!(loaded.trust_anchor().fingerprint(), anchor.fingerprint());
    assert_eq!(loaded.parameters(), b"parameters");
    assert_eq!(loaded.attribute_key(), b"attribute key");
    // Nothing but the bundle is left, inside or beside it.
    assert_eq!(entries(at.parent().unwrap()), ["sensor-17"]);
    let mut expected = FILES;
    expected.sort_unstable();
    assert_eq!(entries(&at), expected);
}

#[cfg(unix)]
#[test]
fn secrets_are_the_owners_alone() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    let at = dir.path().join("id");
    Identity::create(&at, &material(1, "sensor-17", 2).parts()).unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&at), 0o700);
    for secret in ["device.key", "attribute.key"] {
        assert_eq!(mode(&at.join(secret)), 0o600, "{secret}");
        for exposed in [0o640, 0o604, 0o660, 0o644] {
            fs::set_permissions(at.join(secret), fs::Permissions::from_mode(exposed)).unwrap();
            let refusal = Identity::load(&at).unwrap_err();
            assert!(
                matches!(&refusal, Error::Exposed { mode, .. } if *mode == exposed),
                "{refusal:?}"
            );
            let text = refusal.to_string();
            assert!(
                text.contains("chmod 600") && text.contains(secret),
                "{text}"
            );
        }
        fs::set_permissions(at.join(secret), fs::Permissions::from_mode(0o400)).unwrap();
        Identity::load(&at).unwrap();
    }
}

#[test]
fn a_missing_file_is_named() {
    for file in FILES {
        let dir = tempfile::tempdir().unwrap();
        let at = dir.path().join("id");
        Identity::create(&at, &material(1, "sensor-17", 2).parts()).unwrap();
        fs::remove_file(at.join(file)).unwrap();
        let refusal = Identity::load(&at).unwrap_err();
        assert!(
            matches!(&refusal, Error::Missing { path, .. } if path.ends_with(file)),
            "{refusal:?}"
        );
        assert!(!refusal.to_string().contains('\n'));
    }
    let refusal = Identity::load(Path::new("/nonexistent/identity")).unwrap_err();
    assert!(matches!(&refusal, Error::Missing { .. }), "{refusal:?}");
}

#[test]
fn a_damaged_file_is_named() {
    for file in ["identity.toml", "device.key", "device.crt", "ca.crt"] {
        for content in [&b""[..], b"\xff\xfe garbage", b"[[["] {
            let dir = tempfile::tempdir().unwrap();
            let at = dir.path().join("id");
            Identity::create(&at, &material(1, "sensor-17", 2).parts()).unwrap();
            fs::write(at.join(file), content).unwrap();
            let refusal = Identity::load(&at).unwrap_err();
            assert!(
                matches!(&refusal, Error::Damaged { path, .. } if path.ends_with(file)),
                "{file}: {refusal:?}"
            );
            assert!(!refusal.to_string().contains('\n'), "{refusal}");
        }
    }
}

#[test]
fn parts_of_different_identities_do_not_pass_as_one() {
    let of = |material: &Material, dir: &Path, name: &str| {
        let at = dir.join(name);
        Identity::create(&at, &material.parts()).unwrap();
        at
    };
    let dir = tempfile::tempdir().unwrap();
    let ours = of(&material(1, "sensor-17", 2), dir.path(), "ours");
    let others = of(&material(3, "sensor-18", 4), dir.path(), "others");
    for file in ["device.key", "device.crt", "ca.crt", "identity.toml"] {
        let mixed = of(
            &material(1, "sensor-17", 2),
            dir.path(),
            &format!("mixed-{file}"),
        );
        fs::copy(others.join(file), mixed.join(file)).unwrap();
        let refusal = Identity::load(&mixed).unwrap_err();
        assert!(
            matches!(&refusal, Error::Damaged { .. } | Error::ForeignRoot { .. }),
            "{file}: {refusal:?}"
        );
    }
    Identity::load(&ours).unwrap();
}

#[test]
fn a_newer_format_is_refused_as_such() {
    let dir = tempfile::tempdir().unwrap();
    let at = dir.path().join("id");
    Identity::create(&at, &material(1, "sensor-17", 2).parts()).unwrap();
    fs::write(
        at.join("identity.toml"),
        "version = 2\nsomething = 'else'\n",
    )
    .unwrap();
    let refusal = Identity::load(&at).unwrap_err();
    assert!(
        matches!(
            refusal,
            Error::FormatVersion {
                found: 2,
                supported: 1,
                ..
            }
        ),
        "{refusal:?}"
    );
}

#[test]
fn nothing_is_ever_overwritten() {
    let dir = tempfile::tempdir().unwrap();
    let (first, second) = (material(1, "sensor-17", 2), material(1, "sensor-18", 3));
    let at = dir.path().join("id");
    Identity::create(&at, &first.parts()).unwrap();
    let refusal = Identity::create(&at, &second.parts()).unwrap_err();
    assert!(
        matches!(&refusal, Error::Exists { path } if *path == at),
        "{refusal:?}"
    );
    assert_eq!(Identity::load(&at).unwrap().device(), &first.id);

    let file = dir.path().join("file");
    fs::write(&file, "precious").unwrap();
    assert!(matches!(
        Identity::reserve(&file),
        Err(Error::Exists { .. })
    ));
    assert_eq!(fs::read_to_string(&file).unwrap(), "precious");

    // Something that appears between reservation and completion is safe too.
    let late = dir.path().join("late");
    let reservation = Identity::reserve(&late).unwrap();
    fs::create_dir(&late).unwrap();
    fs::write(late.join("precious"), "x").unwrap();
    assert!(matches!(
        reservation.complete(&second.parts()),
        Err(Error::Exists { .. })
    ));
    assert_eq!(entries(&late), ["precious"]);
    assert_eq!(entries(dir.path()), ["file", "id", "late"]);
}

#[test]
fn an_empty_directory_is_taken() {
    let dir = tempfile::tempdir().unwrap();
    let at = dir.path().join("id");
    fs::create_dir(&at).unwrap();
    Identity::create(&at, &material(1, "sensor-17", 2).parts()).unwrap();
    Identity::load(&at).unwrap();
}

#[test]
fn what_fails_leaves_nothing_behind() {
    let dir = tempfile::tempdir().unwrap();
    let at = dir.path().join("id");
    let (ours, theirs) = (material(1, "sensor-17", 2), material(1, "sensor-18", 3));
    let parts = IdentityParts {
        key: &theirs.key,
        ..ours.parts()
    };
    assert!(Identity::create(&at, &parts).is_err());
    assert!(entries(dir.path()).is_empty());
    drop(Identity::reserve(&at).unwrap());
    assert!(entries(dir.path()).is_empty());
}
