//! Encoded parameters and keys of both schemes: no panic, and what decodes has one spelling.

use std::sync::LazyLock;

use smqtt_abe::{cp, kp};

static CP: LazyLock<cp::PublicParameters> = LazyLock::new(|| {
    cp::PublicParameters::from_bytes(include_bytes!("cp-parameters.cbor")).expect("a known answer")
});
static KP: LazyLock<kp::PublicParameters> = LazyLock::new(|| {
    kp::PublicParameters::from_bytes(include_bytes!("kp-parameters.cbor")).expect("a known answer")
});

pub fn check(data: &[u8]) {
    if let Ok(object) = cp::PublicParameters::from_bytes(data) {
        assert_eq!(object.to_bytes(), data);
    }
    if let Ok(object) = kp::PublicParameters::from_bytes(data) {
        assert_eq!(object.to_bytes(), data);
    }
    if let Ok(object) = cp::MasterKey::from_bytes(data) {
        assert_eq!(*object.to_bytes(), data);
    }
    if let Ok(object) = kp::MasterKey::from_bytes(data) {
        assert_eq!(*object.to_bytes(), data);
    }
    if let Ok(object) = cp::AttributeKey::from_bytes(data, &CP) {
        assert_eq!(*object.to_bytes(), data);
    }
    if let Ok(object) = kp::PolicyKey::from_bytes(data, &KP) {
        assert_eq!(*object.to_bytes(), data);
    }
}
